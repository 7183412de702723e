"""Modelled chip time of a step and of a decision, from counts under a mapping.

All cores work a step at once and wait for one another at a barrier, so a step lasts as long
as its busiest core, the longest way of a message and the barrier. Work within a core is taken
to follow one after the other. Times of single events stand in the chip's description, each
with its source; an event without a time there is None: not modelled, never 0. What the host
needs to bring frames and fetch answers is apart, and so is time measured on this computer.
"""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import INPUT, ChipNetwork
from mtspark.core.digits import decimals
from mtspark.core.environments import seconds_per_decision
from mtspark.core.errors import BadRequestError
from mtspark.deploy.chips import ChipModel, Figure
from mtspark.deploy.mapping import ChipMapping, InputPlace
from mtspark.sim.latency.traffic import Traffic, traffic_of

"""Of the console, which a real-time agent must keep up with."""

NOT_MODELLED = "not modelled"

CORE_TERMS = (
    ("neuron updates", "neuron_update_ns"),
    ("spikes generated", "spike_out_ns"),
    ("synaptic operations, dense", "synaptic_operation_ns"),
    ("synaptic operations, sparse", "synaptic_operation_sparse_ns"),
    ("synaptic operations, convolution", "synaptic_operation_conv_ns"),
    ("messages received", "message_in_ns"),
    ("messages sent", "message_out_ns"),
)
"""What a core does in a step, and the time of one of it."""


@dataclass(frozen=True)
class TimeTerm:
    """One part of a time.

    Attributes:
        name: what takes it.
        count: how many events; None where it is not a number of events.
        time_us: microseconds; None where the chip has no time for it.
        source, confidence: of the time of one event.
    """

    name: str
    count: float | None
    time_us: float | None
    source: str
    confidence: str

    @property
    def text(self) -> str:
        """The time for people."""
        return NOT_MODELLED if self.time_us is None else decimals(self.time_us, 3)


@dataclass(frozen=True)
class StepTime:
    """Modelled time of the core that is busiest over all steps, with the counts of a mean step.

    Another core may be the busiest of a single step: see :attr:`DecisionTime.mean_step_us`.

    Attributes:
        times: name of the set of times, empty for a chip without any.
        busiest: index of the core that takes longest.
        population: that it holds.
        terms: of that core, then the longest way and the barrier.
        core_us: modelled time of every core's own work, (cores,).
    """

    times: str
    busiest: int
    population: str
    terms: tuple[TimeTerm, ...]
    core_us: NDArray[np.float64]

    @property
    def total_us(self) -> float | None:
        """Sum of the modelled terms; None where none is."""
        return _total(self.terms)

    @property
    def missing(self) -> tuple[str, ...]:
        """Terms that happen and are not modelled: the total is too low by them."""
        return tuple(term.name for term in self.terms if term.time_us is None and term.count != 0)


@dataclass(frozen=True)
class DecisionTime:
    """Modelled time from a frame to its answer.

    Attributes:
        step: the mean step of the chip, part by part.
        steps: T + depth.
        by_step_us: time of each step: a population works in its own window, so the busiest
            core changes along the pipeline, and all steps take longer than as many mean ones.
            Empty where nothing is modelled.
        terms: steps, host input, host output, and the host's call.
        deadline_us: until the next decision is due; None for a network that plays no game.
        measured_host_us: time of a decision on this computer, which simulates; never added.
    """

    step: StepTime
    steps: int
    by_step_us: tuple[float, ...]
    terms: tuple[TimeTerm, ...]
    deadline_us: float | None
    measured_host_us: float | None

    @property
    def chip_us(self) -> float | None:
        """All steps, without the host."""
        return self.terms[0].time_us

    @property
    def mean_step_us(self) -> float | None:
        """All steps over their number: what a step takes, whichever core is busiest in it."""
        return None if self.chip_us is None else self.chip_us / self.steps

    @property
    def total_us(self) -> float | None:
        """Sum of the modelled terms; None where none is."""
        return _total(self.terms)

    @property
    def margin_us(self) -> float | None:
        """What is left of the deadline; negative for a decision that comes too late."""
        total = self.total_us
        if total is None or self.deadline_us is None:
            return None
        return self.deadline_us - total

    @property
    def missing(self) -> tuple[str, ...]:
        """Terms that happen and are not modelled: the total is too low by them."""
        host = tuple(term.name for term in self.terms[1:] if term.time_us is None and term.count)
        return (*self.step.missing, *host)


def step_time(
    network: ChipNetwork,
    mapping: ChipMapping,
    chip: ChipModel,
    sent: Dictionary[str, NDArray[np.integer]],
    steps: int,
    *,
    times: str | None = None,
    traffic: Traffic | None = None,
) -> StepTime:
    """Model the mean step.

    Args:
        network: the network.
        mapping: its mapping.
        chip: that it is mapped to.
        sent: messages by source (see `traffic_of`), added up over `steps` steps.
        steps: how many; 1 for the counts of a single step.
        times: a set of times of the chip, the first without it.
        traffic: of these messages, where it was computed already.

    Raises:
        BadRequestError: no step.
        BadFileError: the chip has no such set of times.
    """
    if steps < 1:
        raise BadRequestError(f"{steps} steps have no mean; play at least one decision")
    traffic = traffic or traffic_of(network, mapping, chip, sent)
    time_set = chip.time_set(times)
    figures = {} if time_set is None else time_set.figures
    counts = _core_counts(traffic, steps)
    core_us = np.zeros(len(mapping.cores))
    for name, key in CORE_TERMS:
        figure = _figure(figures, key)
        if figure is not None:
            core_us += counts[name] * float(figure.value) / 1000
    busiest = int(core_us.argmax())
    terms = [
        _term(name, float(counts[name][busiest]), _figure(figures, key)) for name, key in CORE_TERMS
    ]
    terms += [_longest_way(traffic, figures), _barrier(mapping, figures)]
    return StepTime(
        "" if time_set is None else time_set.name,
        busiest,
        mapping.cores[busiest].population,
        tuple(terms),
        core_us,
    )


def decision_time(
    network: ChipNetwork,
    mapping: ChipMapping,
    chip: ChipModel,
    sent: Dictionary[str, NDArray[np.integer]],
    decisions: int,
    *,
    task: str | None = None,
    times: str | None = None,
    measured_host_us: float | None = None,
    traffic: Traffic | None = None,
) -> DecisionTime:
    """Model the mean decision: T + depth steps and the host's part.

    Args:
        network, mapping, chip, times, traffic: see :func:`step_time`.
        task: whose decisions were counted; None: of several, of which the most hurried one waits.
        sent: messages by source, added up over the decisions.
        decisions: how many.
        measured_host_us: time of a decision on this computer, kept beside it.

    Raises:
        BadRequestError: no decision.
    """
    if decisions < 1:
        raise BadRequestError("no decision was counted; play at least one")
    traffic = traffic or traffic_of(network, mapping, chip, sent)
    steps = network.steps_per_decision
    step = step_time(network, mapping, chip, sent, steps * decisions, times=times, traffic=traffic)
    time_set = chip.time_set(times)
    figures = {} if time_set is None else time_set.figures
    if mapping.input_place is InputPlace.CORES:
        # The host writes the frame, or each slice of a series, into the neurons that send it.
        frames = 1 if network.input.held else network.time_steps
        values = float(np.prod(network.input.shape) * frames)
    else:
        values = float(np.asarray(sent[INPUT], np.int64).sum()) / decisions
    answers = float(network.population(network.readout.population).size)
    by_step = () if step.total_us is None else _by_step(network, mapping, step, figures)
    terms = (
        TimeTerm(
            "chip steps",
            steps,
            sum(by_step) if by_step else None,
            f"times {step.times!r} of {chip.name}",
            "modelled",
        ),
        _term("host input values", values, figures.get("host_input_value_ns")),
        _term("host output values", answers, figures.get("host_output_value_ns")),
        _term("host call", 1.0, figures.get("host_call_ns")),
    )
    deadline = None
    counted = network.tasks if task is None else (network.tasks[network.task_index(task)],)
    waits = [seconds_per_decision(one, network.protocol) for one in counted]
    if known := [seconds for seconds in waits if seconds is not None]:
        deadline = 1e6 * min(known)
    return DecisionTime(step, steps, by_step, terms, deadline, measured_host_us)


def _by_step(
    network: ChipNetwork, mapping: ChipMapping, step: StepTime, figures: dict[str, Figure]
) -> tuple[float, ...]:
    """Time of each step, with the events of a population spread over the T steps of its window.

    Its neurons are updated in every step. The few spikes outside of the window are counted in.
    """
    update = figures.get("neuron_update_ns")
    neurons = np.array([core.use.neurons for core in mapping.cores], np.float64)
    idle = neurons * (0.0 if update is None else float(update.value)) / 1000
    events = (step.core_us - idle) * network.steps_per_decision / network.time_steps
    windows = [network.window(core.population) for core in mapping.cores]
    shared = sum(term.time_us or 0.0 for term in step.terms[len(CORE_TERMS) :])
    times = []
    for number in range(network.steps_per_decision):
        works = np.array([window.start <= number < window.stop for window in windows])
        times.append(float((idle + np.where(works, events, 0.0)).max()) + shared)
    return tuple(times)


def _core_counts(traffic: Traffic, steps: int) -> dict[str, NDArray[np.float64]]:
    own = np.diag(traffic.messages)
    return {
        "neuron updates": traffic.neurons.astype(np.float64),
        "spikes generated": traffic.spikes / steps,
        "synaptic operations, dense": traffic.operations["dense"] / steps,
        "synaptic operations, sparse": traffic.operations["sparse"] / steps,
        "synaptic operations, convolution": traffic.operations["conv"] / steps,
        "messages received": (traffic.received - own) / steps,
        "messages sent": (traffic.sent - own) / steps,
    }


def _figure(figures: dict[str, Figure], key: str) -> Figure | None:
    """A kind of synaptic operation without a time of its own takes that of the dense ones."""
    if key.startswith("synaptic_operation"):
        return figures.get(key, figures.get("synaptic_operation_ns"))
    return figures.get(key)


def _term(name: str, count: float, figure: Figure | None) -> TimeTerm:
    if figure is None:
        return TimeTerm(name, count, None, NOT_MODELLED, "")
    time_us = count * float(figure.value) / 1000
    return TimeTerm(name, count, time_us, figure.source, figure.confidence)


def _longest_way(traffic: Traffic, figures: dict[str, Figure]) -> TimeTerm:
    """The message that travels longest; ways are taken to be free, without queues."""
    name = "longest way of a message"
    rows, columns = figures.get("hop_east_west_ns"), figures.get("hop_north_south_ns")
    if rows is None or columns is None:
        return TimeTerm(name, None, None, NOT_MODELLED, "")
    travel = traffic.hops_east_west * rows.value + traffic.hops_north_south * columns.value
    inside = figures.get("within_tile_ns")
    if inside is not None:
        travel = np.where(traffic.within_router, inside.value, travel)
    used = traffic.messages > 0
    np.fill_diagonal(used, False)
    longest = float(travel[used].max(initial=0.0))
    return TimeTerm(name, None, longest / 1000, rows.source, rows.confidence)


def _barrier(mapping: ChipMapping, figures: dict[str, Figure]) -> TimeTerm:
    """Linear between the points of the chip's description, constant beyond them."""
    figure = figures.get("barrier_ns")
    if figure is None:
        return TimeTerm("barrier", float(mapping.routers), None, NOT_MODELLED, "")
    routers, times = zip(*figure.value, strict=True)
    time_us = float(np.interp(mapping.routers, routers, times)) / 1000
    return TimeTerm("barrier", float(mapping.routers), time_us, figure.source, figure.confidence)


def _total(terms: tuple[TimeTerm, ...]) -> float | None:
    modelled = [term.time_us for term in terms if term.time_us is not None]
    return sum(modelled) if modelled else None
