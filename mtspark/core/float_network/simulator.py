"""A plain simulator of float networks in layer-synchronous time; float64, NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtspark.core.arrays import Floats
from mtspark.core.chip_network import INPUT
from mtspark.core.errors import BadRequestError
from mtspark.core.float_network.network import (
    CONSTANT,
    FloatConnection,
    FloatKind,
    FloatNetwork,
    FloatPopulation,
    FloatReset,
    OutputKind,
)
from mtspark.core.geometry import ConvGeometry

GATHERED_VALUES = 2**23
"""Largest number of values that a convolution lays out at once (64 MiB)."""


@dataclass(frozen=True)
class FloatRun:
    """Everything of one run; arrays are (T, batch, *shape) by population.

    Attributes:
        spikes: 0 or 1 as float64; empty for populations that never fire.
        membranes: those compared with the threshold, before any reset (without the offset).
        rests: after the reset, as the next step begins from (without the offset).
        currents: i_t.
        values: the output, (batch, *output shape).
    """

    spikes: dict[str, Floats]
    membranes: dict[str, Floats]
    rests: dict[str, Floats]
    currents: dict[str, Floats]
    values: Floats


def run_float(network: FloatNetwork, series: Floats, task: int = 0) -> FloatRun:
    """Run a series from the initial state.

    Args:
        network: see :mod:`mtspark.core.float_network.network`.
        series: (T, batch, *input shape), in the network's own values (payload * scale).
        task: row of the thresholds.

    Raises:
        BadRequestError: wrong shape of the series, or no such task.
    """
    if series.ndim < 2 or series.shape[2:] != network.input.shape or not series.shape[0]:
        raise BadRequestError(
            f"series {series.shape}, {network.name} takes (T, batch, "
            f"{', '.join(map(str, network.input.shape))})"
        )
    if not 0 <= task < len(network.tasks):
        raise BadRequestError(f"task {task}: there are tasks 0 to {len(network.tasks) - 1}")
    steps, batch = series.shape[:2]
    sent: dict[str, Floats] = {
        INPUT: series.reshape(steps, batch, -1).astype(np.float64),
        CONSTANT: np.ones((steps, batch, 1)),
    }
    states: dict[str, _State] = {}
    for names in _groups(network):
        group = [network.population(name) for name in names]
        for population in group:
            states[population.name] = _State(population, steps, batch, task)
            sent[population.name] = states[population.name].sent
        inside = set(names)
        # What comes from outside of a loop is known for all steps at once.
        for population in group:
            state = states[population.name]
            for link in network.incoming(population.name):
                if link.source not in inside:
                    state.drive += delayed(deliver(link, sent[link.source]), link.delay)
        loops = [link for name in names for link in network.incoming(name) if link.source in inside]
        for step in range(steps):
            for population in group:
                state = states[population.name]
                for link in loops:
                    if link.target == population.name and step >= link.delay:
                        source = sent[link.source][step - link.delay][None]
                        state.drive[step] += deliver(link, source)[0]
                state.advance(step)
    return FloatRun(
        spikes={n: s.shaped(s.sent) for n, s in states.items() if s.population.spiking},
        membranes={name: state.shaped(state.membranes) for name, state in states.items()},
        rests={name: state.shaped(state.rests) for name, state in states.items()},
        currents={name: state.shaped(state.currents) for name, state in states.items()},
        values=_values(network, states, steps),
    )


def float_answers(network: FloatNetwork, run: FloatRun) -> Floats:
    """Return what a stateful network answers in each step, (T, batch, outputs).

    Args:
        network: a stateful one, whose steps are decisions.
        run: of it.
    """
    name = network.output.population
    if network.output.kind is OutputKind.SPIKES:
        answers = run.spikes[name]
    else:
        answers = run.membranes[name] + network.population(name).membrane_offset
    answers = answers * network.output.scale
    return answers.reshape(*answers.shape[:2], -1)


def _values(network: FloatNetwork, states: dict[str, _State], steps: int) -> Floats:
    output, state = network.output, states[network.output.population]
    if output.kind is OutputKind.SPIKES:
        return np.asarray(state.shaped(state.sent).sum(0) * output.scale)
    # As a chip reads them: after the reset of the last step.
    final = (state.shaped(state.rests)[-1] + state.population.membrane_offset) * output.scale
    return final / steps if output.kind is OutputKind.MEAN else final


def _groups(network: FloatNetwork) -> list[list[str]]:
    """Populations in order, those of a common loop together.

    A connection of delay k back to an earlier population ties everything between.
    """
    names = [population.name for population in network.populations]
    position = {name: index for index, name in enumerate(names)}
    reach: dict[str, list[int]] = {link.target: [] for link in network.connections}
    for link in network.connections:
        if link.source in position:
            reach[link.target].append(position[link.source])
    groups: list[list[str]] = []
    start = 0
    while start < len(names):
        end, index = start, start
        while index <= end:
            end = max([end, *reach.get(names[index], [])])
            index += 1
        groups.append(names[start : end + 1])
        start = end + 1
    return groups


class _State:
    """What one population goes through, flattened: (T, batch, neurons)."""

    def __init__(self, population: FloatPopulation, steps: int, batch: int, task: int) -> None:
        self.population = population
        self.batch = batch
        full = (steps, batch, population.size)
        self.drive = np.zeros(full) + population.bias_current.reshape(-1)
        self.currents, self.membranes, self.rests = np.zeros(full), np.zeros(full), np.zeros(full)
        self.sent = np.zeros(full)
        self.current = np.zeros(full[1:]) + population.initial_current.reshape(-1)
        self.membrane = np.zeros(full[1:]) + population.initial_membrane.reshape(-1)
        self.spikes = np.zeros(full[1:])
        self.threshold = None
        if population.thresholds is not None:
            self.threshold = population.thresholds[task].reshape(-1)
        self.keeps = population.membrane_keep.reshape(-1), population.current_keep.reshape(-1)
        self.gain, self.bias = population.gain.reshape(-1), population.membrane_bias.reshape(-1)

    def shaped(self, values: Floats) -> Floats:
        """Undo the flattening."""
        return values.reshape(*values.shape[:2], *self.population.shape)

    def advance(self, step: int) -> None:
        """One step, from ``drive[step]`` to ``sent[step]``; the equations of FloatReset."""
        keep, current_keep = self.keeps
        self.current = current_keep * self.current + self.drive[step]
        new = keep * self.membrane + self.gain * self.current + self.bias
        self.currents[step] = self.current
        if self.threshold is None:
            self.membrane = self.sent[step] = self.membranes[step] = self.rests[step] = new
            return
        reset, threshold = self.population.reset, self.threshold
        if reset is FloatReset.SUBTRACT_LATE:
            new = new - np.where(self.spikes > 0, threshold, 0.0)
        elif reset is FloatReset.ZERO_LATE:
            new = np.where(self.spikes > 0, 0.0, new)
        reaches = np.greater_equal if self.population.fires_at_threshold else np.greater
        guard = np.zeros_like(new)
        if reset is FloatReset.SUBTRACT_GUARDED:
            guard = np.where(reaches(self.membrane, threshold), threshold, 0.0)
        fired = reaches(new - guard, threshold).astype(np.float64)
        after = new
        if reset is FloatReset.ZERO:
            after = np.where(fired > 0, 0.0, new)
        elif reset in (FloatReset.SUBTRACT, FloatReset.SUBTRACT_GUARDED):
            after = new - np.where(fired > 0, threshold, 0.0)
        self.membranes[step], self.sent[step], self.rests[step] = new, fired, after
        self.membrane, self.spikes = after, fired


def delayed(values: Floats, delay: int) -> Floats:
    """Shift a series (T, ...) by `delay` steps; nothing comes before its start."""
    if not delay:
        return values
    shifted = np.zeros_like(values)
    shifted[delay:] = values[:-delay]
    return shifted


def deliver(link: FloatConnection, sent: Floats) -> Floats:
    """What arrives over a connection, without its delay: (T, batch, sources) -> (..., targets)."""
    if link.kind is FloatKind.DIAGONAL:
        return sent * link.weights
    if link.kind is FloatKind.DENSE:
        return sent @ link.weights.T
    geometry = link.geometry
    assert geometry is not None, "the network is checked"
    flat = sent.reshape(-1, *link.input_shape)
    return convolve(geometry, link.weights, flat).reshape(*sent.shape[:2], -1)


def convolve(geometry: ConvGeometry, weights: Floats, values: Floats) -> Floats:
    """Cross-correlation.

    Args:
        geometry: of the kernel on the images.
        weights: (output channels, input channels / groups, rows, columns).
        values: (n, channels, rows, columns).

    Returns:
        (n, output channels, rows, columns).
    """
    groups, share = geometry.groups, geometry.filters_per_group
    kernels = weights.reshape(groups, share, -1).transpose(0, 2, 1)
    _, rows, columns = geometry.output_shape
    gathered_size = groups * kernels.shape[1] * rows * columns
    chunk = max(1, GATHERED_VALUES // gathered_size)
    result = np.empty((len(values), *geometry.output_shape))
    for start in range(0, len(values), chunk):
        views = geometry.patches(values[start : start + chunk])
        count = len(views)
        taps = views.reshape(
            count, groups, geometry.channels_per_group, rows, columns, *geometry.kernel
        )
        # group, (n, row, column), (channel, kernel row, kernel column)
        gathered = taps.transpose(1, 0, 3, 4, 2, 5, 6).reshape(groups, -1, kernels.shape[1])
        products = (gathered @ kernels).reshape(groups, count, rows, columns, -1)
        result[start : start + chunk] = products.transpose(1, 0, 4, 2, 3).reshape(
            count, *geometry.output_shape
        )
    return result
