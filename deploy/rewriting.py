"""What a chip that holds one task's network at a time is sent to hold that of another.

Both networks have the same neurons and connections; their integers are compared, since the two may
have been scaled differently on the way to integers.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        biases: neurons whose bias is another integer; its exponent is not of each neuron.
        exponents: connections whose weights, and populations whose biases, have another exponent,
            one register each.
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
        biases += int((left.bias_mantissa != right.bias_mantissa).sum())
        exponents += int(left.bias_exponent != right.bias_exponent)
    return Rewriting(written, rescaled, removed, thresholds, biases, exponents)
