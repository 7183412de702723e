"""Limits of a chip that a network breaks whatever its mapping, each rule named as a sentence.

These rules are necessary, not sufficient: only a mapping shows whether everything fits together.
:func:`mtspark.deploy.mapping.mapper.map_network` reports both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mtspark.core.arithmetic import THRESHOLD_LIMIT
from mtspark.core.chip_network import (
    ChipNetwork,
    Population,
    Reset,
    fan_out_of,
)
from mtspark.deploy.chips.model import ChipModel


@dataclass(frozen=True)
class Violation:
    """A limit that is broken.

    Attributes:
        subject: population, connection or core.
        actual: what it has.
        limit: what the chip has.
        remedy: what the user can do.
    """

    subject: str
    actual: str
    limit: str
    remedy: str

    @property
    def text(self) -> str:
        """One line."""
        return f"{self.subject}: {self.actual}, the limit is {self.limit}; {self.remedy}"


def chip_violations(network: ChipNetwork, chip: ChipModel) -> list[Violation]:
    """Return every limit that the network breaks whatever its mapping."""
    return [violation for rule in RULES for violation in rule(network, chip)]


def messages_carry_few_bits(network: ChipNetwork, chip: ChipModel) -> Iterator[Violation]:
    """A payload is no wider than the chip's messages."""
    bits, limit = network.input.payload_bits, chip.limit("payload_bits")
    if limit is not None and bits > limit:
        carries = f"{limit}-bit payloads" if limit else "spikes without a payload"
        yield Violation(
            "input",
            f"sends {bits}-bit payloads",
            carries,
            "encode frames as spikes or take a chip with graded spikes (loihi2)",
        )


def decays_exist_on_the_chip(network: ChipNetwork, chip: ChipModel) -> Iterator[Violation]:
    """Decays do not exceed the chip's largest."""
    limit = chip.limit("largest_decay")
    for population in network.populations:
        decays = {"current": population.current_decay, "membrane": population.membrane_decay}
        for kind, decay in decays.items():
            largest = int(np.max(decay))
            if limit is not None and largest > limit:
                yield Violation(
                    repr(population.name),
                    f"{kind} decay {largest}",
                    str(limit),
                    f"train with a decay up to {limit} of 4096",
                )


def weight_exponents_exist_on_the_chip(
    network: ChipNetwork, chip: ChipModel
) -> Iterator[Violation]:
    """Weight exponents lie in the chip's range."""
    low, high = chip.limit("smallest_weight_exponent"), chip.limit("largest_weight_exponent")
    for link in network.connections:
        if low is not None and link.exponent < low:
            yield Violation(
                repr(link.name),
                f"weight exponent {link.exponent}",
                f"{low} or more",
                "quantise with smaller weights or fewer bits in the layers before it",
            )
        if high is not None and link.exponent > high:
            yield Violation(
                repr(link.name),
                f"weight exponent {link.exponent}",
                f"{high} or less",
                "scale the layer's weights up",
            )


def weight_bits_are_stored_by_the_chip(
    network: ChipNetwork, chip: ChipModel
) -> Iterator[Violation]:
    """The chip stores weights of this many bits."""
    known = chip.limit("weight_bits")
    for link in network.connections:
        if known is not None and link.weight_bits not in known:
            yield Violation(
                repr(link.name),
                f"{link.weight_bits}-bit weights",
                f"{', '.join(map(str, known))} bits",
                "quantise with one of these",
            )


def delays_exist_on_the_chip(network: ChipNetwork, chip: ChipModel) -> Iterator[Violation]:
    """Delays are no longer than the chip's."""
    limit = chip.limit("largest_delay")
    for link in network.connections:
        if limit is not None and link.delay > limit:
            yield Violation(
                repr(link.name),
                f"{link.delay} further steps of delay",
                str(limit),
                "insert a relay population or shorten the branch",
            )


def resets_exist_on_the_chip(network: ChipNetwork, chip: ChipModel) -> Iterator[Violation]:
    """What a spike does to the membrane is something that the chip can do."""
    known = chip.limit("resets")
    for population in network.populations:
        if known is None or population.reset.value in known or never_fires(population):
            continue
        yield Violation(
            repr(population.name),
            f"reset {population.reset.value!r}",
            ", ".join(known),
            "train with one of these or take a chip with programmable neurons (loihi2)",
        )


def neurons_fire_above_their_threshold(
    network: ChipNetwork, chip: ChipModel
) -> Iterator[Violation]:
    """Fixed neurons compare a membrane in one way only; those that can subtract are programs."""
    known = chip.limit("resets")
    if known is None or not {"zero", "none"}.issuperset(known):
        return
    for population in network.populations:
        if not population.fires_at_threshold or never_fires(population):
            continue
        yield Violation(
            repr(population.name),
            "fires at its threshold",
            "neurons that fire above it",
            "take a chip with programmable neurons (loihi2)",
        )


def frames_are_held_by_programs(network: ChipNetwork, chip: ChipModel) -> Iterator[Violation]:
    """Neurons that keep the sum of a frame are programs, which a chip of fixed neurons lacks."""
    known, encoder = chip.limit("encoders"), network.input.encoder.value
    if known is not None and encoder not in known:
        yield Violation(
            "the input",
            f"encoder {encoder}",
            ", ".join(known),
            "export with --encoder every-step or take a chip with programmable neurons (loihi2)",
        )


def never_fires(population: Population) -> bool:
    """No membrane reaches the largest threshold, so without reset it needs nothing of one."""
    return population.reset is Reset.NONE and bool((population.thresholds >= THRESHOLD_LIMIT).all())


def neurons_hear_few_synapses(network: ChipNetwork, chip: ChipModel) -> Iterator[Violation]:
    """One neuron's synapses, and the axons that it hears, fit a core."""
    limits = {
        "fan_in": (chip.limit("fan_in"), "synapses a neuron"),
        "in_axons_per_core": (
            None if chip.shares_convolutions else chip.limit("in_axons_per_core"),
            "axons a core",
        ),
    }
    for population in network.populations:
        heard = 0
        for link in network.connections:
            if link.target != population.name:
                continue
            if link.kind.stores_zeros:
                heard += link.weights[0].size
            else:
                flat = link.weights.reshape(len(link.weights), -1)
                heard += int(np.count_nonzero(flat, axis=1).max())
        for limit, unit in limits.values():
            if limit is not None and heard > limit:
                yield Violation(
                    repr(population.name),
                    f"a neuron hears {heard} axons",
                    f"{limit} {unit}",
                    "make the layer before it smaller, or the connection sparse",
                )


def neurons_reach_few_synapses(network: ChipNetwork, chip: ChipModel) -> Iterator[Violation]:
    """One neuron's outgoing synapses are no more than the chip allows."""
    limit = chip.limit("fan_out")
    if limit is None:
        return
    for population in network.populations:
        reached = fan_out_of(network, population.name)
        if reached > limit:
            yield Violation(
                repr(population.name),
                f"a neuron reaches {reached} synapses",
                f"{limit} synapses a neuron",
                "make the layer after it smaller, or the connection sparse",
            )


RULES = (
    messages_carry_few_bits,
    decays_exist_on_the_chip,
    weight_exponents_exist_on_the_chip,
    weight_bits_are_stored_by_the_chip,
    delays_exist_on_the_chip,
    resets_exist_on_the_chip,
    neurons_fire_above_their_threshold,
    frames_are_held_by_programs,
    neurons_hear_few_synapses,
    neurons_reach_few_synapses,
)
