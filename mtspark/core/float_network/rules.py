"""What a float network must be, and how those of several tasks become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from mtspark.core.arrays import Floats
from mtspark.core.chip_network import INPUT
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import (
    CONSTANT,
    FloatKind,
    FloatNetwork,
    OutputKind,
)

LARGEST = float(np.finfo(np.float32).max)
"""Nothing trained is larger; beyond it, sums of products could leave float64, too."""


def check_float_network(network: FloatNetwork) -> None:
    """Check names, order, shapes and numbers; all violations are reported together.

    Raises:
        BadNetworkError: one line that lists each violation.
    """
    broken = [*_structure(network)] or [*_values(network)]
    if broken:
        raise BadNetworkError(f"{network.name}: " + "; ".join(broken))


def _structure(network: FloatNetwork) -> list[str]:
    broken = []
    names = [INPUT, CONSTANT, *(p.name for p in network.populations)]
    broken += [
        f"name {n!r} is used twice" for n in sorted({n for n in names if names.count(n) > 1})
    ]
    links = [link.name for link in network.connections]
    broken += [f"connection {n!r} is there twice" for n in sorted(set(links)) if links.count(n) > 1]
    position = {name: index for index, name in enumerate(names)}
    for link in network.connections:
        if link.source not in position or link.target not in position:
            broken.append(
                f"connection {link.name!r} joins unknown {link.source!r}, {link.target!r}"
            )
        elif link.delay < 0 or (link.delay == 0 and position[link.source] >= position[link.target]):
            broken.append(
                f"connection {link.name!r} of delay {link.delay} starts at or after its target"
            )
    if network.stateful and network.time_steps != 1:
        broken.append(f"{network.time_steps} time steps, a stateful network has 1 a decision")
    if network.output.population not in names[2:]:
        broken.append(f"output of unknown population {network.output.population!r}")
    return broken


def _values(network: FloatNetwork) -> list[str]:
    broken = []
    for link in network.connections:
        ends = network.size_of(link.target), network.size_of(link.source)
        if link.kind is FloatKind.DENSE:
            fits = link.weights.shape == ends
        elif link.kind is FloatKind.DIAGONAL:
            fits = link.weights.shape == (ends[0],) and ends[0] == ends[1]
        else:
            geometry = link.geometry
            fits = (
                geometry is not None
                and geometry.output_shape == link.output_shape
                and (prod(link.output_shape), prod(link.input_shape)) == ends
            )
        if not fits:
            broken.append(
                f"connection {link.name!r}: {link.kind.value} weights {link.weights.shape} do not "
                f"lead from {ends[1]} values to {ends[0]}"
            )
        if not np.isfinite(link.weights).all():
            broken.append(f"connection {link.name!r} has weights that are not finite")
        elif _beyond(link.weights):
            broken.append(f"connection {link.name!r} has weights beyond {LARGEST:.2g}")
    for population in network.populations:
        arrays = {
            key: value for key, value in vars(population).items() if isinstance(value, np.ndarray)
        }
        for key, value in arrays.items():
            wanted = population.shape
            if key == "thresholds":
                wanted = (len(network.tasks), *wanted)
                if np.isnan(value).any():
                    broken.append(f"population {population.name!r}: thresholds are not numbers")
            elif not np.isfinite(value).all():
                broken.append(f"population {population.name!r}: {key} is not finite")
            if _beyond(value):
                broken.append(f"population {population.name!r}: {key} beyond {LARGEST:.2g}")
            if value.shape != wanted:
                broken.append(f"population {population.name!r}: {key} {value.shape}, not {wanted}")
        for key in ("membrane_keep", "current_keep"):
            if np.any(arrays[key] < 0) or np.any(arrays[key] > 1):
                broken.append(f"population {population.name!r}: {key} must be within 0 and 1")
    if network.output.kind is OutputKind.SPIKES:
        population = network.population(network.output.population)
        if not population.spiking:
            broken.append(f"output counts spikes of {population.name!r}, which never fires")
    return broken


def _beyond(values: Floats) -> bool:
    """Whether a finite value is larger than :data:`LARGEST`."""
    finite = values[np.isfinite(values)]
    return bool(finite.size) and max(float(finite.max()), -float(finite.min())) > LARGEST


def merge_tasks(networks: Sequence[FloatNetwork], tasks: Sequence[str]) -> FloatNetwork:
    """Join networks that differ in their thresholds only, one for each task.

    Raises:
        BadNetworkError: something else differs between two of them.
    """
    first, *others = networks
    for task, other in zip(tasks[1:], others, strict=True):
        _check_same(first, other, f"tasks {tasks[0]!r} and {task!r}")
    populations = []
    for index, population in enumerate(first.populations):
        rows = [network.populations[index].thresholds for network in networks]
        joined = [row for row in rows if row is not None]
        populations.append(
            replace(population, thresholds=np.concatenate(joined) if joined else None)
        )
    return replace(first, populations=tuple(populations), tasks=tuple(tasks))


def _check_same(first: FloatNetwork, other: FloatNetwork, where: str) -> None:
    if (first.input, first.output, first.time_steps, first.dt, first.stateful) != (
        other.input,
        other.output,
        other.time_steps,
        other.dt,
        other.stateful,
    ):
        raise BadNetworkError(f"{where} differ in input, output or time")
    for kind in ("populations", "connections"):
        ones, twos = getattr(first, kind), getattr(other, kind)
        if [one.name for one in ones] != [two.name for two in twos]:
            raise BadNetworkError(f"{where} differ in {kind}")
        for one, two in zip(ones, twos, strict=True):
            for key, value in vars(one).items():
                if key == "thresholds":
                    same = (value is None) == (two.thresholds is None)
                else:
                    same = np.array_equal(value, vars(two)[key])
                if not same:
                    raise BadNetworkError(
                        f"{one.name}.{key} differs between {where}; only thresholds may"
                    )
