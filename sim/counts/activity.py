"""Counts at full depth: by population, connection, step, decision and episode.

:class:`ActivityRecorder` observes the agent loop. It counts again, on its own, what the run's
totals say, so that the two can be compared.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtspark.core.arrays import Integers
from mtspark.core.backend import Decision, Moment
from mtspark.core.chip_network import INPUT, ChipNetwork, Encoder, fan_out
from mtspark.core.errors import BadRequestError
from mtspark.sim.counts.shares import ShareCounter

STATE_BITS = 2 * 24
"""Of a neuron: current and membrane."""
THRESHOLD_BITS, BIAS_BITS = 17, 13


@dataclass(frozen=True)
class StepCounts:
    """Counts by chip step, summed over the decisions that were traced.

    Attributes:
        decisions: that were traced.
        spikes: int64 (steps of a decision, populations).
        operations: int64 (steps, connections): structural synaptic operations of the messages
            sent in that step.
    """

    decisions: int
    spikes: Integers
    operations: Integers


@dataclass(frozen=True)
class DeepCounts:
    """Counts of every decision.

    Attributes:
        populations, connections: names, the order of the columns.
        episode: int64 (decisions,), from 0; decisions of an episode are in order of time.
        input_events: int64 (decisions,), values sent, each time they are sent.
        spikes_window, spikes_drain: int64 (decisions, populations).
        operations: int64 (decisions, connections), structural, window and drain.
        steps: by chip step; None where nothing was traced.
        silent: by population, neurons without a spike within the window of any decision; 0 where
            membranes are read instead.
        unceasing: by population, neurons that spiked in every step of the window of every one.
        nonzero: by source, of its shape: in how many decisions it sent within its window; of the
            input: had a value that is not 0.
        sent: by source, of its shape: messages over all decisions, window and drain.
        changed: by source, of its shape: in how many decisions the value of the input, or the
            number of spikes in the window, was another than in the episode's decision before;
            before the first one everything is 0.
    """

    populations: tuple[str, ...]
    connections: tuple[str, ...]
    episode: Integers
    input_events: Integers
    spikes_window: Integers
    spikes_drain: Integers
    operations: Integers
    steps: StepCounts | None
    silent: dict[str, int]
    unceasing: dict[str, int]
    nonzero: dict[str, Integers]
    sent: dict[str, Integers]
    changed: dict[str, Integers]

    @property
    def decisions(self) -> int:
        """How many."""
        return len(self.episode)

    @property
    def spikes(self) -> Integers:
        """All spikes by decision, (decisions,)."""
        return (self.spikes_window + self.spikes_drain).sum(1)

    @property
    def shares(self) -> dict[str, NDArray[np.float64]]:
        """Share of decisions in which each source sent something within its window."""
        return {name: count / max(self.decisions, 1) for name, count in self.nonzero.items()}

    @property
    def changed_shares(self) -> dict[str, NDArray[np.float64]]:
        """Share of decisions in which each source had another value than in the one before."""
        return {name: count / max(self.decisions, 1) for name, count in self.changed.items()}

    def by_episode(self, values: Integers) -> list[Integers]:
        """Split rows of decisions into episodes."""
        return [values[self.episode == index] for index in range(int(self.episode.max()) + 1)]


@dataclass(frozen=True)
class Memory:
    """What a network keeps on a chip, in bits, before any chip's own overheads.

    Attributes:
        weights: each stored weight once (a convolution keeps its kernel).
        synapses: every synapse by itself, as a chip without shared kernels keeps them.
        state: current and membrane of every neuron.
        thresholds: of one task, for every neuron.
        thresholds_all_tasks: of all tasks, wherever they wait.
        biases: of every neuron.
    """

    weights: int
    synapses: int
    state: int
    thresholds: int
    thresholds_all_tasks: int
    biases: int

    def to_json(self) -> dict[str, int]:
        """Return JSON values, in bits."""
        return asdict(self)


@dataclass(frozen=True)
class Summary:
    """How some numbers are distributed.

    Attributes:
        mean: of them.
        sd: sample standard deviation; 0 of a single number.
        min, max: smallest and largest.
        p5, p95: 5th and 95th percentile.
        n: how many.
    """

    mean: float
    sd: float
    min: float
    max: float
    p5: float
    p95: float
    n: int

    def to_json(self) -> dict[str, float]:
        """Return JSON values."""
        return asdict(self)


class ActivityRecorder:
    """An observer of the agent loop.

    Args:
        network: that plays.
        apart: decisions have nothing to do with each other, as samples, so that all of each is new.
    """

    def __init__(self, network: ChipNetwork, *, apart: bool = False) -> None:
        self.network, self._apart = network, apart
        self._names = tuple(population.name for population in network.populations)
        self._links = [
            (
                link.source,
                fan_out(link, network.shape_of(link.source))[0],
            )
            for link in network.connections
        ]
        self._rows: list[tuple[Integers, ...]] = []
        shapes = {name: network.shape_of(name) for name in (INPUT, *self._names)}
        self._window = {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}
        self._shares = ShareCounter(network)
        self._drain = {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}
        steps = network.steps_per_decision
        self._traced = 0
        self._step_spikes = np.zeros((steps, len(self._names)), np.int64)
        self._step_operations = np.zeros((steps, len(self._links)), np.int64)

    def __call__(self, moment: Moment) -> None:
        """Record one decision of every game that still runs."""
        self.add(moment.decision, moment.frames, moment.episodes)

    def add(self, decision: Decision, frames: NDArray[np.uint8], episodes: Integers) -> None:
        """Record one decision of every member of a batch.

        Args:
            decision: with its activity, and a trace where steps are wanted.
            frames: (batch, *input shape), what was decided on.
            episodes: (batch,) whose decisions they are.
        """
        window, drain = dict(decision.activity.window), dict(decision.activity.drain)
        for name, sent in window.items():
            self._window[name] += sent.sum(0)
            self._drain[name] += drain[name].sum(0)
        self._shares.add(window, frames, None if self._apart else episodes)
        sums = [
            np.stack([_by_member(part[name]) for name in self._names], 1)
            for part in (window, drain)
        ]
        operations = [
            _by_member((window[source] + drain[source]) * fan) for source, fan in self._links
        ]
        events = _by_member(window[INPUT]) + _by_member(drain[INPUT])
        self._rows.append((episodes.astype(np.int64), events, *sums, np.stack(operations, 1)))
        if decision.trace is not None:
            self._add_steps(decision, frames)

    def _add_steps(self, decision: Decision, frames: NDArray[np.uint8]) -> None:
        assert decision.trace is not None
        network = self.network
        by_step = {name: decision.trace.spikes[name].sum(1, dtype=np.int64) for name in self._names}
        sent = (frames != 0).astype(np.int64)
        by_step[INPUT] = np.zeros((network.steps_per_decision, *network.input.shape), np.int64)
        # A series has its steps on axis 1; a frame is sent in each of the T steps, or at once.
        if network.input.encoder is not Encoder.EVERY_STEP:
            by_step[INPUT][0] = decision.activity.window[INPUT].sum(0)
        else:
            held = network.input.held
            by_step[INPUT][: network.time_steps] = sent.sum(0)[None] if held else sent.sum(0)
        self._traced += len(frames)
        for column, name in enumerate(self._names):
            self._step_spikes[:, column] += _by_member(by_step[name])
        for column, (source, fan) in enumerate(self._links):
            self._step_operations[:, column] += _by_member(by_step[source] * fan)

    def result(self) -> DeepCounts:
        """The counts so far.

        Raises:
            BadRequestError: nothing was recorded.
        """
        if not self._rows:
            raise BadRequestError("no decision was recorded")
        parts = [np.concatenate(part) for part in zip(*self._rows, strict=True)]
        order = np.argsort(parts[0], kind="stable")
        episode, events, window, drain, operations = (part[order] for part in parts)
        most = len(episode) * self.network.time_steps
        traced = StepCounts(self._traced, self._step_spikes.copy(), self._step_operations.copy())
        return DeepCounts(
            populations=self._names,
            connections=tuple(link.name for link in self.network.connections),
            episode=episode,
            input_events=events,
            spikes_window=window,
            spikes_drain=drain,
            operations=operations,
            steps=traced if self._traced else None,
            silent={
                name: int((self._window[name] == 0).sum()) if self.network.fires(name) else 0
                for name in self._names
            },
            unceasing={name: int((self._window[name] == most).sum()) for name in self._names},
            nonzero={name: count.copy() for name, count in self._shares.nonzero.items()},
            sent={name: self._window[name] + self._drain[name] for name in self._window},
            changed={name: count.copy() for name, count in self._shares.changed.items()},
        )


def summarise(values: ArrayLike) -> Summary:
    """Summarise numbers, at least one."""
    numbers = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(numbers, [5, 95])
    return Summary(
        mean=float(numbers.mean()),
        sd=float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0,
        min=float(numbers.min()),
        max=float(numbers.max()),
        p5=float(low),
        p95=float(high),
        n=len(numbers),
    )


def memory(network: ChipNetwork) -> Memory:
    """What a network keeps on a chip."""
    weights, synapses = 0, 0
    for link in network.connections:
        weights += link.stored_weights * link.weight_bits
        synapses += int(fan_out(link, network.shape_of(link.source))[0].sum()) * link.weight_bits
    neurons = sum(population.size for population in network.populations)
    return Memory(
        weights=weights,
        synapses=synapses,
        state=neurons * STATE_BITS,
        thresholds=neurons * THRESHOLD_BITS,
        thresholds_all_tasks=neurons * THRESHOLD_BITS * len(network.tasks),
        biases=neurons * BIAS_BITS,
    )


def _by_member(values: Integers) -> Integers:
    """Sum over everything but the first axis."""
    return values.reshape(len(values), -1).sum(1)
