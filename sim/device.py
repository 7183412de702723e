"""What a network takes of a chip: its mapping, the messages under it, and modelled times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import INPUT, ChipNetwork, Encoder
from mtspark.deploy.chips import ChipModel, load_chip
from mtspark.deploy.mapping import ChipMapping, InputPlace, TaskSwitch, map_network, task_switches
from mtspark.sim.counts import RunCounts
from mtspark.sim.energy import Bill, Device, PriceCard, price
from mtspark.sim.latency import DecisionTime, Traffic, decision_time, traffic_of


@dataclass(frozen=True)
class OnChip:
    """A network on a chip while it does a task.

    Attributes:
        chip: its description.
        mapping: neurons to cores.
        traffic: messages over all decisions.
        time: modelled, of the mean decision.
        device: the same as the price cards want it.
    """

    chip: ChipModel
    mapping: ChipMapping
    traffic: Traffic
    time: DecisionTime
    device: Device

    def to_json(self) -> dict[str, Any]:
        """Return mapping, messages and times as JSON values."""
        mapping, time, device = self.mapping, self.time, self.device
        abouts = (entry.about for entry in self.chip.times if entry.name == time.step.times)
        return {
            "chip": self.chip.key,
            "chip_name": self.chip.name,
            "fits": mapping.fits,
            "violations": [violation.text for violation in mapping.violations],
            "cores": device.cores,
            "chips": device.chips,
            "cores_by_population": {name: len(cores) for name, cores in mapping.layers.items()},
            "messages_per_decision": device.messages,
            "hops_east_west_per_decision": device.hops_east_west,
            "hops_north_south_per_decision": device.hops_north_south,
            "input_neurons": device.input_neurons,
            "steps_per_decision": time.steps,
            "step_time_us": time.mean_step_us,
            "busiest_terms_us": time.step.total_us,
            "step_terms": [asdict(term) for term in time.step.terms],
            "times": time.step.times,
            "times_about": next(abouts, ""),
            "busiest_population": time.step.population,
            "decision_terms": [asdict(term) for term in time.terms],
            "decision_time_us": time.total_us,
            "chip_time_us": time.chip_us,
            "deadline_us": time.deadline_us,
            "margin_us": time.margin_us,
            "not_modelled": list(time.missing),
            "measured_host_us": time.measured_host_us,
        }


@dataclass(frozen=True)
class ChipSwitch:
    """A change of task on a chip.

    Attributes:
        chip, chip_name: its key and name.
        switch: the change, with its register writes.
    """

    chip: str
    chip_name: str
    switch: TaskSwitch

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"chip": self.chip, "chip_name": self.chip_name, **self.switch.to_json()}


Devices = Mapping[tuple[str, Encoder], OnChip]
"""What a network takes of the chips while it does one task, by chip and encoder."""


def map_for(
    network: ChipNetwork,
    chip: ChipModel,
    encoder: Encoder,
    sent: Mapping[str, Integers] | None = None,
) -> ChipMapping:
    """Map a network; a frame that is sent at every step lies in neurons on cores of its own.

    Other encoders need no such neurons: the host sends what is to be added to held currents.

    Args:
        network, chip: what is mapped, and to which chip.
        encoder: how frames are sent.
        sent: messages by source, of its shape, that weigh the distances between cores.
    """
    held = encoder is Encoder.EVERY_STEP and network.input.held
    weights = None if sent is None else {name: one.astype(float) for name, one in sent.items()}
    place = InputPlace.CORES if held else InputPlace.HOST
    return map_network(network, chip, input_place=place, rates=weights)


def on_chip(
    network: ChipNetwork,
    chip: ChipModel,
    mapping: ChipMapping,
    sent: Mapping[str, Integers],
    decisions: int,
    *,
    task: str | None = None,
    times: str | None = None,
    host_us: float | None = None,
) -> OnChip:
    """Model messages and times of a network under a mapping.

    Args:
        network, chip, mapping: see :func:`map_for`.
        sent: messages by source, over all decisions.
        decisions: how many.
        task: whose they are; None: of several.
        times: which of the chip's sets of times; None for its first.
        host_us: time of a decision on this computer, shown beside the modelled one.
    """
    traffic = traffic_of(network, mapping, chip, sent)
    time = decision_time(
        network,
        mapping,
        chip,
        sent,
        decisions,
        task=task,
        times=times,
        traffic=traffic,
        measured_host_us=host_us,
    )
    inputs = sum(mapping.cores[index].use.neurons for index in mapping.layers.get(INPUT, []))
    device = Device(
        cores=len(mapping.cores),
        chips=mapping.chips,
        step_time_us=time.mean_step_us,
        messages=traffic.total / decisions,
        hops_east_west=traffic.total_hops_east_west / decisions,
        hops_north_south=traffic.total_hops_north_south / decisions,
        steps=network.steps_per_decision,
        input_neurons=inputs,
    )
    return OnChip(chip, mapping, traffic, time, device)


def mean_bill_on_chip(
    counts: RunCounts,
    network: ChipNetwork,
    card: PriceCard,
    sent: Mapping[str, Integers] | None = None,
    task: str | None = None,
) -> tuple[Bill, OnChip | None]:
    """As :func:`mean_bill`, with the mapping that the bill is of; None where there is none.

    Args:
        counts, network, card, sent: likewise.
        task: whose decisions they are, which says how long they may take; None: of several.
    """
    on = None
    if card.chip and sent and counts.decisions:
        chip = load_chip(card.chip)
        mapping = map_for(network, chip, network.input.encoder, sent)
        on = on_chip(network, chip, mapping, sent, counts.decisions, task=task)
    return price(counts, network, card, None if on is None else on.device), on


def mean_bill(
    counts: RunCounts,
    network: ChipNetwork,
    card: PriceCard,
    sent: Mapping[str, Integers] | None = None,
) -> Bill:
    """Price the mean decision on the chip of a card, frames sent by the network's own encoder.

    This is the bill that every output shows which has no mapping of its own.

    Args:
        counts: of all decisions.
        network: that ran.
        card: prices; one of no particular chip has no messages between cores.
        sent: messages by source, over all decisions; without them (a float network, which no chip
            runs) messages, hops and the neurons that hold the frame are not counted.
    """
    return mean_bill_on_chip(counts, network, card, sent)[0]


def dearest_switches(
    network: ChipNetwork,
    chips: Iterable[Mapping[tuple[str, Encoder], OnChip]],
    encoder: Encoder,
) -> list[ChipSwitch]:
    """Return the dearest change of task on each chip; none for a network of one task.

    Args:
        network: whose tasks they are.
        chips: for each task, what the network takes of a chip under an encoder.
        encoder: whose mappings count.
    """
    switches: dict[str, ChipSwitch] = {}
    for devices in chips:
        for (key, sent_by), on in devices.items():
            if sent_by is not encoder or key in switches or len(network.tasks) < 2:
                continue
            known = task_switches(network, on.mapping, on.chip, on.time.step.times or None)
            worst = max(known, key=lambda switch: switch.writes)
            switches[key] = ChipSwitch(key, on.chip.name, worst)
    return list(switches.values())
