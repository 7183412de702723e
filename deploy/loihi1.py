"""Which limits of Loihi 1 a network breaks. Each rule is a function named as a sentence.

The rules are necessary, not sufficient: whether all of it fits together, a mapping must show.
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
INPUT_AXONS_PER_CORE = 4096
SYNAPSE_BITS_PER_CORE = 1_048_576
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


def weights_have_bits_that_exist(network: ChipNetwork) -> Iterator[str]:
    """Loihi 1 stores weights of 1 to 6 bits or of 8."""
    for link in network.connections:
        if link.weight_bits == 7:
            yield f"{link.name!r} has 7-bit weights, 1 to 6 and 8 exist"


def neurons_listen_to_few_axons(network: ChipNetwork) -> Iterator[str]:
    """One neuron's sources must fit the input axons of its core."""
    for link in network.connections:
        fan_in = link.weights[0].size
        if fan_in > INPUT_AXONS_PER_CORE:
            yield (
                f"a neuron of {link.target!r} hears {fan_in} axons, "
                f"{INPUT_AXONS_PER_CORE} a core is the limit"
            )


def synapses_fit_one_chip(network: ChipNetwork) -> Iterator[str]:
    """All synapses, each stored once for each neuron, fit the memory of a chip."""
    bits = 0
    for link in network.connections:
        outputs = network.population(link.target).size
        bits += outputs * link.weights[0].size * link.weight_bits
    if bits > CORES_PER_CHIP * SYNAPSE_BITS_PER_CORE:
        yield (f"synapses take {bits} bits, one chip has {CORES_PER_CHIP * SYNAPSE_BITS_PER_CORE}")


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
    weights_have_bits_that_exist,
    neurons_listen_to_few_axons,
    synapses_fit_one_chip,
    neurons_fit_one_chip,
)
