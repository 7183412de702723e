"""What a chip that holds one task's network at a time is sent to hold that of another.

Both networks have the same neurons and connections; their integers are compared, since the two may
have been scaled differently on the way to integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtspark.core.chip_network import ChipNetwork


@dataclass(frozen=True)
class Rewriting:
    """What differs between the networks of two tasks.

    Attributes:
        written: synapses of the new network that are not in the old one, or are another integer
            there; of a kernel, its weights.
        rescaled: of these, those that the old network has, too.
        removed: synapses of the old network alone, which are set to 0.
        thresholds: neurons whose threshold differs.
        biases: neurons whose bias differs.
        exponents: connections whose weights have another exponent, one register each.
    """

    written: int
    rescaled: int
    removed: int
    thresholds: int
    biases: int
    exponents: int


def rewriting(old: ChipNetwork, new: ChipNetwork) -> Rewriting:
    """Count what differs between two networks of one task each.

    How a connection is laid out in memory is not looked at: a list of weights also holds where
    they are, and is written anew where a synapse comes in or goes.

    Args:
        old: what the chip holds.
        new: what it is to hold: the same populations and connections, with other integers.
    """
    written = rescaled = removed = exponents = 0
    for before, after in zip(old.connections, new.connections, strict=True):
        there, here = before.weights != 0, after.weights != 0
        other = here & (before.weights != after.weights)
        written += int(other.sum())
        rescaled += int((other & there).sum())
        removed += int((there & ~here).sum())
        exponents += int(before.exponent != after.exponent)
    thresholds = biases = 0
    for left, right in zip(old.populations, new.populations, strict=True):
        thresholds += int((left.thresholds[0] != right.thresholds[0]).sum())
        shifted = (one.bias_mantissa << one.bias_exponent for one in (left, right))
        biases += int(np.not_equal(*shifted).sum())
    return Rewriting(written, rescaled, removed, thresholds, biases, exponents)
