"""Which limits of Loihi 1 a network breaks. Each rule is a function named as a sentence.

Limits are those that nengo-loihi 1.1.0 validates against (its hardware constants).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mtspark.core.chip_network import ChipNetwork

NEURONS_PER_CORE = 1024
CORES_PER_CHIP = 128
THRESHOLDS_PER_CORE = 8
LARGEST_DECAY = 4095
SMALLEST_WEIGHT_EXPONENT = -7


def loihi1_violations(network: ChipNetwork) -> list[str]:
    """One text for each limit that the network breaks: object, actual value, limit."""
    return [text for rule in RULES for text in rule(network)]


def messages_are_binary(network: ChipNetwork) -> Iterator[str]:
    """Loihi 1 spikes carry no payload."""
    if network.input.payload_bits:
        yield f"input sends {network.input.payload_bits}-bit messages, Loihi 1 sends binary spikes"


def each_core_has_few_distinct_thresholds(network: ChipNetwork) -> Iterator[str]:
    """A population of n cores can have at most 8 n (threshold) profiles."""
    for population in network.populations:
        per_neuron = population.thresholds.reshape(len(network.tasks), -1)
        distinct = len(np.unique(per_neuron, axis=1).T)
        cores = -(-population.size // NEURONS_PER_CORE)
        if distinct > cores * THRESHOLDS_PER_CORE:
            yield (
                f"{population.name!r} has {distinct} distinct thresholds on {cores} core(s), "
                f"{THRESHOLDS_PER_CORE} a core is the limit"
            )


def decays_are_below_one(network: ChipNetwork) -> Iterator[str]:
    """Loihi 1 decays go up to 4095 of 4096."""
    for population in network.populations:
        if population.membrane_decay > LARGEST_DECAY:
            yield (
                f"{population.name!r} has membrane decay {population.membrane_decay}, "
                f"{LARGEST_DECAY} is the limit"
            )


def weight_exponents_are_not_too_small(network: ChipNetwork) -> Iterator[str]:
    """Loihi 1 weight exponents start at -7."""
    for link in network.connections:
        if link.exponent < SMALLEST_WEIGHT_EXPONENT:
            yield f"{link.name!r} has weight exponent {link.exponent}, -7 is the smallest"


def neurons_fit_one_chip(network: ChipNetwork) -> Iterator[str]:
    """Populations take whole cores of one chip."""
    cores = sum(-(-population.size // NEURONS_PER_CORE) for population in network.populations)
    if cores > CORES_PER_CHIP:
        yield f"neurons need {cores} cores, one chip has {CORES_PER_CHIP}"


RULES = (
    messages_are_binary,
    each_core_has_few_distinct_thresholds,
    decays_are_below_one,
    weight_exponents_are_not_too_small,
    neurons_fit_one_chip,
)
