"""The report as data: everything that the page shows, as JSON values.

Counts come first; prices, each with its card, are views of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mtspark.core.chip_network.network import INPUT, ChipNetwork, ReadoutKind
from mtspark.core.environments.protocol import protocol_to_json
from mtspark.sim.counts.activity import DeepCounts, memory, summarise
from mtspark.sim.counts.encoders import Encoder, with_encoder
from mtspark.sim.energy.baselines import (
    BaselineBill,
    break_even,
    head_synapses,
    incremental_network,
    price_baseline,
    quantised_network,
    same_topology,
    zero_skipping_network,
)
from mtspark.sim.energy.cards import OPERATIONS, PriceCard
from mtspark.sim.energy.pricing import Bill, Device, price
from mtspark.sim.recording.study import Study
from mtspark.sim.report.device import OnChip, dearest_switches, device_data

Devices = Mapping[tuple[str, Encoder], OnChip]
"""By chip and encoder."""

FORMAT = "mtspark-report-page"
VERSION = 1
NOTE = "ESTIMATE: no neuromorphic hardware was measured"
BINS = 80
"""Points of a curve over an episode."""

ASSUMPTIONS = (
    "Counts are structural: every synapse that a message meets, zero weights included, borders of "
    "convolutions exact. Effective counts stand beside them.",
    "Every neuron is updated at every step of a decision, also in the pipeline steps before and "
    "after its window; all of them are priced.",
    "A held frame is sent again at each of the T steps, whatever the simulator caches; other "
    "encoders are shown beside it.",
    "Prices are a view: each card carries its source and how it was obtained. What a card does not "
    "price, or what nobody counted, is left out of its sum and never taken as 0.",
    "Where the frame lies in neurons on cores of the chip, their updates are a line of their own.",
    "Dynamic and static energy are kept apart. Static energy is a power times modelled chip time, "
    "for which no host, board or memory outside of the chip is counted.",
    "Time on this computer is of the simulation and says nothing about a chip.",
    "Baselines have the same topology, not the same accuracy: nobody trained them.",
)


def report_data(
    network: ChipNetwork,
    studies: list[Study],
    cards: list[PriceCard],
    chips: Mapping[str, Devices],
    *,
    encoder: Encoder,
    made: dict[str, Any],
) -> dict[str, Any]:
    """Everything about some tasks of one network.

    Args:
        network: that played.
        studies: one a task.
        cards: in the order in which they are shown; the first one is the main one.
        chips: by task, what the network takes of each chip under each encoder.
        encoder: how frames are sent, in all bills.
        made: how, where and when the studies were made.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "note": NOTE,
        "made": made,
        "agent": network.name,
        "provenance": dict(network.provenance),
        "protocol": None if network.protocol is None else protocol_to_json(network.protocol),
        "time_steps": network.time_steps,
        "steps_per_decision": network.steps_per_decision,
        "input": {
            "shape": list(network.input.shape),
            "payload_bits": network.input.payload_bits,
            "encoder": encoder.value,
        },
        "populations": [
            {
                "name": population.name,
                "shape": list(population.shape),
                "neurons": population.size,
                "first_step": network.depths[population.name],
                "fires": _fires(network, population.name),
            }
            for population in network.populations
        ],
        "neurons": sum(population.size for population in network.populations),
        "synapses": sum(link.weights.size for link in network.connections),
        "memory_bits": asdict(memory(network)),
        "head_synapses": head_synapses(network).to_json(),
        "task_switches": dearest_switches(
            network, [chips[study.task] for study in studies], encoder
        ),
        "tasks": [
            task_data(network, study, cards, chips[study.task], encoder) for study in studies
        ],
        "cards": [_card(card) for card in cards],
        "assumptions": list(ASSUMPTIONS),
    }


def task_data(
    network: ChipNetwork,
    study: Study,
    cards: list[PriceCard],
    devices: Devices,
    encoder: Encoder,
) -> dict[str, Any]:
    """One task: play, counts, bills, baselines, encoders."""
    deep = study.deep
    counts = with_encoder(study.run.counts, study.encoders[encoder])
    bills = [price(counts, network, card, _device(devices, card, encoder)) for card in cards]
    rate = mean_rate(network, deep)
    changes = study.encoders[Encoder.DIFFERENCE]
    baselines = (
        same_topology(network),
        incremental_network(
            network,
            {name: met / max(changes.decisions, 1) for name, met in changes.structural.items()},
        ),
        quantised_network(network),
        zero_skipping_network(network, deep.shares),
    )
    energy = []
    for bill in bills:
        device = _device(devices, bill.card, encoder)
        priced = [price_baseline(baseline, bill.card) for baseline in baselines]
        per_decision = decision_energy(network, study, bill, encoder)
        energy.append(
            {
                **bill.to_json(),
                "left_out": list(bill.left_out),
                "per_decision_j": None
                if per_decision is None
                else summarise(per_decision).to_json(),
                "baselines": [_baseline(entry) for entry in priced],
                "break_even": [
                    asdict(break_even(bill, entry, network, rate, device)) for entry in priced
                ],
            }
        )
    episodes = [_episode(study, index, bills[0]) for index in range(len(study.run.episodes))]
    return {
        "task": study.task,
        "seed": study.seed,
        "sticky_action_probability": study.sticky,
        "kind": "images" if study.interval_ms is None else "game",
        "decision_interval_ms": study.interval_ms,
        "decisions": deep.decisions,
        "episodes": episodes,
        "return": summarise([episode["return"] for episode in episodes]).to_json(),
        "spikes_per_decision": summarise(deep.spikes).to_json(),
        "input_events_per_decision": counts.input_events.total / max(deep.decisions, 1),
        "synops_per_decision": _synops(network, study, encoder),
        "mean_rate": rate,
        "layers": _layers(network, study, counts, bills[0]),
        "steps": _steps(deep),
        "episode_curve": _curve(deep),
        "energy": energy,
        "chips": [
            device_data(found) for (_, sent_by), found in devices.items() if sent_by is encoder
        ],
        "encoders": _encoders(network, study, cards, devices),
        "host_seconds": round(study.host_s, 2),
        "film": {
            "first_decision": study.shots[0].number,
            "decisions": len(study.shots),
            "seconds": None
            if study.interval_ms is None
            else round(len(study.shots) * study.interval_ms / 1000, 2),
        },
    }


def mean_rate(network: ChipNetwork, deep: DeepCounts) -> float:
    """Spikes a neuron and step within the windows, over the populations that fire."""
    columns = [i for i, name in enumerate(deep.populations) if _fires(network, name)]
    neurons = sum(network.population(deep.populations[i]).size for i in columns)
    spikes = float(deep.spikes_window[:, columns].sum())
    return spikes / max(neurons * network.time_steps * deep.decisions, 1)


def decision_energy(
    network: ChipNetwork, study: Study, bill: Bill, encoder: Encoder
) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Dynamic energy of every decision under a card; its mean is the bill's.

    None for models of memory and for encoders that were only counted over the whole run.
    """
    card, deep = bill.card, study.deep
    if card.model != "events" or encoder is not Encoder.FRAME:
        return None
    energy = np.zeros(deep.decisions)
    for column, link in enumerate(network.connections):
        graded = link.source == INPUT and network.input.payload_bits > 0
        _, cost = card.operation(OPERATIONS[graded], link.kind.value)
        if cost is not None and cost.price_pj is not None:
            energy += deep.operations[:, column] * cost.price_pj
    if "spike_out" in card.terms:
        energy += deep.spikes * (card.terms["spike_out"].price_pj or 0.0)
    moving = float(energy.mean()) * 1e-12
    # Updates are the same in every decision; messages are only known as a mean.
    return energy * 1e-12 + (bill.dynamic_j_per_decision - moving)


def _device(devices: Devices, card: PriceCard, encoder: Encoder) -> Device | None:
    found = devices.get((card.chip, encoder))
    return None if found is None else found.device


def _fires(network: ChipNetwork, name: str) -> bool:
    readout = network.readout
    return name != readout.population or readout.kind is ReadoutKind.SPIKES


def _card(card: PriceCard) -> dict[str, Any]:
    return {
        "key": card.key,
        "name": card.name,
        "chip": card.chip,
        "model": card.model,
        "source": card.source,
        "evidence": card.evidence,
        "scope": card.scope,
        "fitted": card.fitted,
        "terms": {name: asdict(term) for name, term in card.terms.items()},
        "not_priced": dict(card.not_priced),
        "parameters": dict(card.parameters),
    }


def _baseline(bill: BaselineBill) -> dict[str, Any]:
    return {
        "name": bill.baseline.name,
        "activation_bits": bill.baseline.activation_bits,
        "multiply_accumulates": bill.baseline.total,
        "energy_j_per_decision": bill.energy_j_per_decision,
        "note": bill.note,
    }


def _episode(study: Study, index: int, bill: Bill) -> dict[str, Any]:
    episode, deep = study.run.episodes[index], study.deep
    chosen = deep.episode == index
    energy = bill.dynamic_j_per_decision * episode.decisions
    points = episode.score
    return {
        "seed": episode.seed,
        "return": episode.score,
        "decisions": episode.decisions,
        "finished": episode.finished,
        "trajectory": episode.trajectory,
        "spikes": int(deep.spikes[chosen].sum()),
        "synops": int(deep.operations[chosen].sum()),
        "dynamic_j": energy,
        "dynamic_j_per_point": energy / points if points > 0 else None,
    }


def _synops(network: ChipNetwork, study: Study, encoder: Encoder) -> dict[str, Any]:
    """Binary and graded operations apart."""
    deep, sent = study.deep, study.encoders[encoder]
    columns = [
        i
        for i, link in enumerate(network.connections)
        if link.source != INPUT or network.input.payload_bits == 0
    ]
    graded = sum(sent.structural.values()) if network.input.payload_bits else 0
    return {
        "binary": summarise(deep.operations[:, columns].sum(1) if columns else [0.0]).to_json(),
        "graded_mean": graded / max(sent.decisions, 1),
    }


def _layers(network: ChipNetwork, study: Study, counts: Any, bill: Bill) -> list[dict[str, Any]]:
    deep, rows = study.deep, []
    decisions = max(deep.decisions, 1)
    for index, layer in enumerate(counts.layers):
        window = float(deep.spikes_window[:, index].sum())
        rate = window / (layer.neurons * network.time_steps * decisions)
        incoming = [link for link in network.connections if link.target == layer.name]
        graded = network.input.payload_bits > 0 and any(link.source == INPUT for link in incoming)
        rows.append(
            {
                "name": layer.name,
                "neurons": layer.neurons,
                "fires": _fires(network, layer.name),
                "spikes_window": window / decisions,
                "spikes_drain": float(deep.spikes_drain[:, index].sum()) / decisions,
                "rate": rate,
                "graded": graded,
                "synops_structural": layer.synops_structural.total / decisions,
                "synops_effective": layer.synops_effective.total / decisions,
                "neuron_updates": layer.neuron_updates.total / decisions,
                "dead": deep.dead[layer.name],
                "saturated": deep.saturated[layer.name],
                "dynamic_j": bill.layers_j.get(layer.name),
            }
        )
    return rows


def _steps(deep: DeepCounts) -> dict[str, Any] | None:
    """Mean spikes of each population, and operations of each connection, in each chip step."""
    if deep.steps is None:
        return None
    decisions = max(deep.steps.decisions, 1)
    return {
        "decisions": deep.steps.decisions,
        "spikes": {
            name: (deep.steps.spikes[:, i] / decisions).tolist()
            for i, name in enumerate(deep.populations)
        },
        "synops": {
            name: (deep.steps.operations[:, i] / decisions).tolist()
            for i, name in enumerate(deep.connections)
        },
    }


def _curve(deep: DeepCounts) -> dict[str, Any]:
    """Mean spikes of each population over the first episode, in equal bins of its time."""
    first = deep.episode == 0
    spikes = (deep.spikes_window + deep.spikes_drain)[first]
    # Bins of one and of two decisions side by side would look like a change of noise.
    bins = np.array_split(np.arange(len(spikes)), BINS if len(spikes) > 2 * BINS else len(spikes))
    quarter = max(len(spikes) // 4, 1)
    before, after = spikes[:quarter].mean(0), spikes[-quarter:].mean(0)
    return {
        "decision": [float(part.mean()) for part in bins],
        "spikes": {
            name: [float(spikes[part, i].mean()) for part in bins]
            for i, name in enumerate(deep.populations)
        },
        "last_quarter_over_first": {
            name: float(after[i] / before[i]) if before[i] else None
            for i, name in enumerate(deep.populations)
        },
    }


def _encoders(
    network: ChipNetwork, study: Study, cards: list[PriceCard], devices: Devices
) -> list[dict[str, Any]]:
    """Every encoder's messages, and its bill under every card beside the int8 network's."""
    rows = []
    int8, rate = same_topology(network), mean_rate(network, study.deep)
    for encoder, sent in study.encoders.items():
        counts = with_encoder(study.run.counts, sent)
        bills = [price(counts, network, card, _device(devices, card, encoder)) for card in cards]
        rows.append(
            {
                "encoder": encoder.value,
                "messages_per_decision": sent.messages / max(sent.decisions, 1),
                "input_synops_per_decision": sum(sent.structural.values()) / max(sent.decisions, 1),
                "dynamic_j_by_card": {bill.card.key: bill.dynamic_j_per_decision for bill in bills},
                "static_j_by_card": {bill.card.key: bill.static_j_per_decision for bill in bills},
                "terms_by_card": {
                    bill.card.key: {
                        line.term: line.energy_j_per_decision
                        for line in bill.terms
                        if line.energy_j_per_decision is not None
                    }
                    for bill in bills
                },
                "break_even_by_card": {
                    bill.card.key: asdict(
                        break_even(
                            bill,
                            price_baseline(int8, bill.card),
                            network,
                            rate,
                            _device(devices, bill.card, encoder),
                        )
                    )
                    for bill in bills
                },
                "step_time_us": {
                    chip: found.time.step.total_us
                    for (chip, sent_by), found in devices.items()
                    if sent_by is encoder
                },
            }
        )
    return rows
