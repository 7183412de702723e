"""The report as data: everything that the page shows, typed, and as JSON values.

Counts come first; prices, each with its card, are views of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import INPUT, ChipNetwork, Encoder, fan_out
from mtspark.core.environments import environment_to_json, protocol_to_json
from mtspark.sim.counts import (
    DeepCounts,
    EncoderCounts,
    RunCounts,
    Summary,
    memory,
    summarise,
    with_encoder,
)
from mtspark.sim.device import ChipSwitch, Devices, OnChip, dearest_switches
from mtspark.sim.energy import (
    OPERATIONS,
    BaselineBill,
    Bill,
    BreakEven,
    Device,
    PriceCard,
    break_even,
    cheapest,
    head_synapses,
    price,
    price_baseline,
    same_topology,
)
from mtspark.sim.play import success_rate
from mtspark.sim.recording import Study
from mtspark.sim.report.provenance import Provenance
from mtspark.sim.report.score import Score
from mtspark.sim.verdict import Cost, baselines_of, cost_of

FORMAT = "mtspark-report-page"
VERSION = 1
NOTE = "ESTIMATE: no neuromorphic hardware was measured"
BINS = 80
"""Points of a curve over an episode."""

ASSUMPTIONS = (
    "Counts are structural: every synapse that a message meets, stored zeros included, borders of "
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
    "Baselines have the same topology, not the same accuracy: nobody trained them. The sigma-delta "
    "network is an estimate: changes of this network's spike counts stand in for its messages.",
)

NOUNS = {"game": "decision", "images": "image", "samples": "sample"}
"""What a task's decisions are called, by its kind."""
OF_FRAMES = tuple(line for line in ASSUMPTIONS if "frame" in line)
"""Those that mean nothing to a network that takes a series."""


@dataclass(frozen=True)
class EpisodeReport:
    """One episode: what it scored, and what it took.

    Attributes:
        seed, score, decisions, finished, truncated, success, trajectory: of the episode.
        spikes, synops: over all its decisions.
        dynamic_j: energy under the main card.
    """

    seed: int
    score: float
    decisions: int
    finished: bool
    trajectory: str
    spikes: int
    synops: int
    dynamic_j: float
    truncated: bool = False
    success: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "seed": self.seed,
            "return": self.score,
            "decisions": self.decisions,
            "finished": self.finished,
            **({"truncated": True} if self.truncated else {}),
            **({} if self.success is None else {"success": self.success}),
            "trajectory": self.trajectory,
            "spikes": self.spikes,
            "synops": self.synops,
            "dynamic_j": self.dynamic_j,
            "dynamic_j_per_point": self.dynamic_j / self.score if self.score > 0 else None,
        }


@dataclass(frozen=True)
class LayerReport:
    """What one population does in a mean decision.

    Attributes:
        name, neurons: of the population.
        fires: whether it sends spikes; of a readout the membranes may be read instead.
        spikes_window, spikes_drain: within and outside its window.
        rate: spikes of a neuron in a step of the window.
        graded: whether values of the input, not spikes, reach it.
        synops_structural, synops_effective: operations on all weights, on nonzero ones.
        neuron_updates: of all its neurons.
        silent_neurons: neurons that never fired in the window of any decision; 0 of a readout.
        unceasing_neurons: neurons that fired in every step of the window of every decision.
        dynamic_j: energy under the main card; None where it prices nothing of it.
    """

    name: str
    neurons: int
    fires: bool
    spikes_window: float
    spikes_drain: float
    rate: float
    graded: bool
    synops_structural: float
    synops_effective: float
    neuron_updates: float
    silent_neurons: int
    unceasing_neurons: int
    dynamic_j: float | None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; two counts have their earlier names, too."""
        values = asdict(self)
        return {**values, "dead": self.silent_neurons, "saturated": self.unceasing_neurons}


@dataclass(frozen=True)
class StepReport:
    """Means of every chip step.

    Attributes:
        decisions: that the means are of.
        spikes: by population, one value a step.
        synops: by connection, likewise.
    """

    decisions: int
    spikes: dict[str, list[float]]
    synops: dict[str, list[float]]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class EpisodeCurve:
    """Spikes over the first episode, in equal bins of its time.

    Attributes:
        decision: the mean number of a bin's decisions.
        spikes: by population, of a mean decision of the bin.
        last_quarter_over_first: by population; None where the first quarter has no spike.
    """

    decision: list[float]
    spikes: dict[str, list[float]]
    last_quarter_over_first: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class CardReport:
    """A task under one price card.

    Attributes:
        bill: of a mean decision.
        per_decision: dynamic energy of single decisions; None where only the mean is known.
        baselines: networks of the same topology that do not spike.
        break_even: with each of them.
    """

    bill: Bill
    per_decision: Summary | None
    baselines: tuple[BaselineBill, ...]
    break_even: tuple[BreakEven, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: the bill's, and the comparisons."""
        best = cheapest(self.baselines)
        return {
            **self.bill.to_json(),
            "left_out": list(self.bill.left_out),
            "per_decision_j": None if self.per_decision is None else self.per_decision.to_json(),
            "baselines": [baseline.to_json() for baseline in self.baselines],
            "cheapest_baseline": None if best is None else best.baseline.name,
            "break_even": [point.to_json() for point in self.break_even],
        }


@dataclass(frozen=True)
class EncoderReport:
    """What a task takes if its frames are sent in one of the ways.

    Attributes:
        sent: messages of the input and their operations.
        bills: of a mean decision, one a card.
        break_even: with the int8 network, one a card.
        step_time_us: modelled time of a mean step, by chip; None where nothing models it.
    """

    sent: EncoderCounts
    bills: tuple[Bill, ...]
    break_even: tuple[BreakEven, ...]
    step_time_us: dict[str, float | None]

    @property
    def encoder(self) -> Encoder:
        """Which one."""
        return self.sent.encoder

    def bill(self, card: PriceCard) -> Bill:
        """Return the bill under a card."""
        return next(bill for bill in self.bills if bill.card.key == card.key)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        decisions = max(self.sent.decisions, 1)
        pairs = zip(self.bills, self.break_even, strict=True)
        return {
            "encoder": self.encoder.value,
            "messages_per_decision": self.sent.messages / decisions,
            "input_synops_per_decision": sum(self.sent.structural.values()) / decisions,
            "dynamic_j_by_card": {
                bill.card.key: bill.dynamic_j_per_decision for bill in self.bills
            },
            "static_j_by_card": {bill.card.key: bill.static_j_per_decision for bill in self.bills},
            "terms_by_card": {bill.card.key: priced_terms(bill) for bill in self.bills},
            "break_even_by_card": {bill.card.key: point.to_json() for bill, point in pairs},
            "step_time_us": self.step_time_us,
        }


@dataclass(frozen=True)
class TaskReport:
    """One task: play, counts, bills, baselines, encoders.

    Attributes:
        task, seed, sticky, interval_ms, host_s: as in :class:`Study`.
        decisions: of all episodes.
        episodes: one a played game; all images are one.
        returns: of the episodes.
        spikes: of single decisions.
        input_events_per_decision: values that the input sends.
        binary_synops: of single decisions, operations of spikes.
        graded_synops: of a mean decision, operations of values.
        mean_rate: spikes of a neuron in a step of its window.
        layers, steps, curve: counts by population, by chip step and over the first episode.
        energy: one a card; the first is the main one.
        chips: what the network takes of each chip.
        encoders: the same task under each way of sending frames.
        film_start, film_decisions: which decisions the page shows.
        cost: the main card's bill in short.
        score: how well the task is done; None where nobody knows.
        plain: as in :class:`Study`.
    """

    task: str
    seed: int
    sticky: float | None
    interval_ms: float | None
    decisions: int
    episodes: tuple[EpisodeReport, ...]
    returns: Summary
    spikes: Summary
    input_events_per_decision: float
    binary_synops: Summary
    graded_synops: float
    mean_rate: float
    layers: tuple[LayerReport, ...]
    steps: StepReport | None
    curve: EpisodeCurve
    energy: tuple[CardReport, ...]
    chips: tuple[OnChip, ...]
    encoders: tuple[EncoderReport, ...]
    host_s: float
    film_start: int
    film_decisions: int
    cost: Cost
    score: Score | None = None
    plain: bool = False

    @property
    def success_rate(self) -> float | None:
        """Share of episodes whose task was solved; None where the environment does not say."""
        return success_rate(self.episodes)

    @property
    def kind(self) -> str:
        """What a decision is made on: a game, images of a known set, or samples."""
        if self.interval_ms is not None:
            return "game"
        return "samples" if self.plain else "images"

    @property
    def priced(self) -> str:
        """What the page prices: of more inputs than it records, the mean of those."""
        noun = NOUNS[self.kind]
        if self.kind == "game" or self.score is None or self.score.count <= self.decisions:
            return noun
        return f"{noun}, the mean of {self.decisions:,} on this page,"

    @property
    def film_s(self) -> float | None:
        """Seconds of play that the film shows; None for images, which have no time."""
        if self.interval_ms is None:
            return None
        return round(self.film_decisions * self.interval_ms / 1000, 2)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "task": self.task,
            "seed": self.seed,
            "sticky_action_probability": self.sticky,
            "kind": self.kind,
            "decision_interval_ms": self.interval_ms,
            "decisions": self.decisions,
            "episodes": [episode.to_json() for episode in self.episodes],
            "return": self.returns.to_json(),
            **({} if self.success_rate is None else {"success_rate": self.success_rate}),
            "spikes_per_decision": self.spikes.to_json(),
            "input_events_per_decision": self.input_events_per_decision,
            "synops_per_decision": {
                "binary": self.binary_synops.to_json(),
                "graded_mean": self.graded_synops,
            },
            "mean_rate": self.mean_rate,
            "layers": [layer.to_json() for layer in self.layers],
            "steps": None if self.steps is None else self.steps.to_json(),
            "episode_curve": self.curve.to_json(),
            "energy": [card.to_json() for card in self.energy],
            "chips": [chip.to_json() for chip in self.chips],
            "encoders": [encoder.to_json() for encoder in self.encoders],
            "cost": self.cost.to_json(),
            "score": None if self.score is None else self.score.to_json(),
            "host_seconds": round(self.host_s, 2),
            "film": {
                "first_decision": self.film_start,
                "decisions": self.film_decisions,
                "seconds": self.film_s,
            },
        }


@dataclass(frozen=True)
class ReportData:
    """Some tasks of one network.

    Attributes:
        network: that played.
        encoder: how frames are sent, in all bills.
        provenance: how the report came about.
        task_switches: the dearest change of task on each chip.
        tasks: in the order of the page.
        cards: in the order in which they are shown; the first one is the main one.
        dueling: the network's head was folded from two streams.
    """

    network: ChipNetwork
    encoder: Encoder
    provenance: Provenance
    task_switches: tuple[ChipSwitch, ...]
    tasks: tuple[TaskReport, ...]
    cards: tuple[PriceCard, ...]
    dueling: bool = False

    def _environments(self) -> dict[str, Any]:
        """The environments of the tasks that have one, by task."""
        known = {task.name: task.environment for task in self.network.tasks}
        return {name: environment_to_json(one) for name, one in known.items() if one is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file beside the page."""
        network = self.network
        weights = sum(link.stored_weights for link in network.connections)
        protocol = network.protocol
        return {
            "format": FORMAT,
            "version": VERSION,
            "note": NOTE,
            "made": self.provenance.to_json(),
            "agent": network.name,
            "provenance": dict(network.provenance),
            "protocol": None if protocol is None else protocol_to_json(protocol),
            **({"environments": worlds} if (worlds := self._environments()) else {}),
            "time_steps": network.time_steps,
            "steps_per_decision": network.steps_per_decision,
            "input": {
                "shape": list(network.input.shape),
                "payload_bits": network.input.payload_bits,
                "encoder": self.encoder.value,
                **({"signed": True} if network.input.signed else {}),
            },
            "populations": [
                {
                    "name": population.name,
                    "shape": list(population.shape),
                    "neurons": population.size,
                    "first_step": network.depths[population.name],
                    "fires": network.fires(population.name),
                }
                for population in network.populations
            ],
            "neurons": sum(population.size for population in network.populations),
            # The earlier name of stored weights, of which a kernel shares each among synapses.
            "synapses": weights,
            "stored_weights": weights,
            "every_synapse": sum(
                int(fan_out(link, network.shape_of(link.source))[0].sum())
                for link in network.connections
            ),
            "memory_bits": memory(network).to_json(),
            "head_synapses": head_synapses(network).to_json(),
            "task_switches": [switch.to_json() for switch in self.task_switches],
            "tasks": [task.to_json() for task in self.tasks],
            "cards": [card.to_json() for card in self.cards],
            "assumptions": [
                line for line in ASSUMPTIONS if network.input.held or line not in OF_FRAMES
            ],
        }


def report_data(
    network: ChipNetwork,
    studies: Sequence[Study],
    cards: Sequence[PriceCard],
    chips: Mapping[str, Devices],
    *,
    encoder: Encoder,
    provenance: Provenance,
    scores: Mapping[str, Score] = MappingProxyType({}),
    dueling: bool = False,
) -> ReportData:
    """Count and price some tasks of one network.

    Args:
        network: that played.
        studies: one a task.
        cards: in the order in which they are shown; the first one is the main one.
        chips: by task, what the network takes of each chip under each encoder.
        encoder: how frames are sent, in all bills.
        provenance: how, where and when the studies came about.
        scores: of the tasks, where they are known.
        dueling: the network's head was folded from two streams.
    """
    switches = dearest_switches(network, [chips[study.task] for study in studies], encoder)
    return ReportData(
        network=network,
        encoder=encoder,
        provenance=provenance,
        task_switches=tuple(switches),
        tasks=tuple(
            task_report(network, study, cards, chips[study.task], encoder, scores.get(study.task))
            for study in studies
        ),
        cards=tuple(cards),
        dueling=dueling,
    )


def task_report(
    network: ChipNetwork,
    study: Study,
    cards: Sequence[PriceCard],
    devices: Devices,
    encoder: Encoder,
    score: Score | None = None,
) -> TaskReport:
    """Count and price one task.

    Args:
        network: that played.
        study: of the task.
        cards: of the bills; the first one is the main one.
        devices: what the network takes of each chip under each encoder.
        encoder: how frames are sent, in all bills.
        score: of the task, where it is known.
    """
    deep = study.deep
    counts = with_encoder(study.run.counts, study.encoders[encoder])
    energy = _energy(network, study, cards, devices, encoder)
    main = energy[0].bill
    episodes = tuple(_episode(study, index, main) for index in range(len(study.run.episodes)))
    binary, graded = _synops(network, study, encoder)
    return TaskReport(
        task=study.task,
        seed=study.seed,
        sticky=study.sticky,
        interval_ms=study.interval_ms,
        decisions=deep.decisions,
        episodes=episodes,
        returns=summarise([episode.score for episode in episodes]),
        spikes=summarise(deep.spikes),
        input_events_per_decision=counts.input_events.total / max(deep.decisions, 1),
        binary_synops=binary,
        graded_synops=graded,
        mean_rate=mean_rate(network, deep),
        layers=_layers(network, study, counts, main),
        steps=_steps(deep),
        curve=_curve(deep),
        energy=energy,
        chips=tuple(on for (_, sent_by), on in devices.items() if sent_by is encoder),
        encoders=_encoders(network, study, cards, devices),
        host_s=study.host_s,
        film_start=study.shots[0].number,
        film_decisions=len(study.shots),
        cost=cost_of(main, energy[0].baselines, devices.get((main.card.chip, encoder))),
        score=score,
        plain=study.plain,
    )


def priced_terms(bill: Bill) -> dict[str, float]:
    """Return joules by term, without the terms that the card does not price."""
    return {
        line.term: line.energy_j_per_decision
        for line in bill.terms
        if line.energy_j_per_decision is not None
    }


def _energy(
    network: ChipNetwork,
    study: Study,
    cards: Sequence[PriceCard],
    devices: Devices,
    encoder: Encoder,
) -> tuple[CardReport, ...]:
    """Return the task under every card, beside networks that do not spike."""
    counts = with_encoder(study.run.counts, study.encoders[encoder])
    rate = mean_rate(network, study.deep)
    baselines = baselines_of(network, study.deep.shares, study.deep.changed_shares)
    reports = []
    for card in cards:
        device = _device(devices, card, encoder)
        bill = price(counts, network, card, device)
        priced = tuple(price_baseline(baseline, card) for baseline in baselines)
        single = decision_energy(network, study, bill, encoder)
        reports.append(
            CardReport(
                bill=bill,
                per_decision=None if single is None else summarise(single),
                baselines=priced,
                break_even=tuple(break_even(bill, one, network, rate, device) for one in priced),
            )
        )
    return tuple(reports)


def mean_rate(network: ChipNetwork, deep: DeepCounts) -> float:
    """Return spikes a neuron and step within the windows, over the populations that fire."""
    columns = [i for i, name in enumerate(deep.populations) if network.fires(name)]
    neurons = sum(network.population(deep.populations[i]).size for i in columns)
    spikes = float(deep.spikes_window[:, columns].sum())
    return spikes / max(neurons * network.time_steps * deep.decisions, 1)


def decision_energy(
    network: ChipNetwork, study: Study, bill: Bill, encoder: Encoder
) -> NDArray[np.float64] | None:
    """Return the dynamic energy of every decision under a card; its mean is the bill's.

    None for models of memory and for encoders that were only counted over the whole run.
    """
    card, deep = bill.card, study.deep
    if card.model != "events" or encoder is not network.input.encoder:
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
    on = devices.get((card.chip, encoder))
    return None if on is None else on.device


def _episode(study: Study, index: int, bill: Bill) -> EpisodeReport:
    episode, deep = study.run.episodes[index], study.deep
    chosen = deep.episode == index
    return EpisodeReport(
        seed=episode.seed,
        score=episode.score,
        decisions=episode.decisions,
        finished=episode.finished,
        trajectory=episode.trajectory,
        spikes=int(deep.spikes[chosen].sum()),
        synops=int(deep.operations[chosen].sum()),
        dynamic_j=bill.dynamic_j_per_decision * episode.decisions,
        truncated=episode.truncated,
        success=episode.success,
    )


def _synops(network: ChipNetwork, study: Study, encoder: Encoder) -> tuple[Summary, float]:
    """Return binary operations of single decisions, and graded ones of a mean decision."""
    deep, sent = study.deep, study.encoders[encoder]
    columns = [
        i
        for i, link in enumerate(network.connections)
        if link.source != INPUT or network.input.payload_bits == 0
    ]
    graded = sum(sent.structural.values()) if network.input.payload_bits else 0
    binary = summarise(deep.operations[:, columns].sum(1) if columns else [0.0])
    return binary, graded / max(sent.decisions, 1)


def _layers(
    network: ChipNetwork, study: Study, counts: RunCounts, bill: Bill
) -> tuple[LayerReport, ...]:
    deep, rows = study.deep, []
    decisions = max(deep.decisions, 1)
    for index, layer in enumerate(counts.layers):
        window = float(deep.spikes_window[:, index].sum())
        incoming = [link for link in network.connections if link.target == layer.name]
        graded = network.input.payload_bits > 0 and any(link.source == INPUT for link in incoming)
        rows.append(
            LayerReport(
                name=layer.name,
                neurons=layer.neurons,
                fires=network.fires(layer.name),
                spikes_window=window / decisions,
                spikes_drain=float(deep.spikes_drain[:, index].sum()) / decisions,
                rate=window / (layer.neurons * network.time_steps * decisions),
                graded=graded,
                synops_structural=layer.synops_structural.total / decisions,
                synops_effective=layer.synops_effective.total / decisions,
                neuron_updates=layer.neuron_updates.total / decisions,
                silent_neurons=deep.silent[layer.name],
                unceasing_neurons=deep.unceasing[layer.name],
                dynamic_j=bill.layers_j.get(layer.name),
            )
        )
    return tuple(rows)


def _steps(deep: DeepCounts) -> StepReport | None:
    """Return mean spikes of each population, and operations of each connection, by chip step."""
    if deep.steps is None:
        return None
    decisions = max(deep.steps.decisions, 1)
    return StepReport(
        decisions=deep.steps.decisions,
        spikes={
            name: (deep.steps.spikes[:, i] / decisions).tolist()
            for i, name in enumerate(deep.populations)
        },
        synops={
            name: (deep.steps.operations[:, i] / decisions).tolist()
            for i, name in enumerate(deep.connections)
        },
    )


def _curve(deep: DeepCounts) -> EpisodeCurve:
    """Return mean spikes of each population over the first episode, in bins of its time."""
    first = deep.episode == 0
    spikes = (deep.spikes_window + deep.spikes_drain)[first]
    # Bins of one and of two decisions side by side would look like a change of noise.
    bins = np.array_split(np.arange(len(spikes)), BINS if len(spikes) > 2 * BINS else len(spikes))
    quarter = max(len(spikes) // 4, 1)
    before, after = spikes[:quarter].mean(0), spikes[-quarter:].mean(0)
    return EpisodeCurve(
        decision=[float(part.mean()) for part in bins],
        spikes={
            name: [float(spikes[part, i].mean()) for part in bins]
            for i, name in enumerate(deep.populations)
        },
        last_quarter_over_first={
            name: float(after[i] / before[i]) if before[i] else None
            for i, name in enumerate(deep.populations)
        },
    )


def _encoders(
    network: ChipNetwork, study: Study, cards: Sequence[PriceCard], devices: Devices
) -> tuple[EncoderReport, ...]:
    """Return every encoder's messages, and its bill under every card beside the int8 network's."""
    rows = []
    int8, rate = same_topology(network), mean_rate(network, study.deep)
    for encoder, sent in study.encoders.items():
        counts = with_encoder(study.run.counts, sent)
        bills, points = [], []
        for card in cards:
            device = _device(devices, card, encoder)
            bill = price(counts, network, card, device)
            bills.append(bill)
            points.append(break_even(bill, price_baseline(int8, card), network, rate, device))
        times = {
            chip: on.time.mean_step_us
            for (chip, sent_by), on in devices.items()
            if sent_by is encoder
        }
        rows.append(EncoderReport(sent, tuple(bills), tuple(points), times))
    return tuple(rows)
