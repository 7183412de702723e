"""Steps that compare: NIR graphs with torch, the float network with the chip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import same_choices
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network import FloatNetwork, FloatRun, run_float
from mtspark.deploy.quantise import (
    LayerFidelity,
    QuantiseOptions,
    calibrate,
    layer_fidelity,
    mends,
)
from mtspark.sim.backends import ReferenceChip, episode_decisions, episode_trace
from mtspark.sim.recording import as_messages
from mtspark.workflows.export.agent import frames_of, sample_of
from mtspark.workflows.export.fidelity import TaskCost
from mtspark.workflows.export.quantising import (
    compared_inputs,
    quantise_network,
    recorded_series,
)
from mtspark.workflows.export.request import WEIGHT_BITS
from mtspark.workflows.export.state import Comparison, Export


def compare_graphs(export: Export) -> Export:
    """Compare each task's graph with torch on frames of its game, played at random.

    Raises:
        BadNetworkError: a spike differs that is no tie with the threshold.
    """
    from mtspark.convert.compare import compare_with_torch

    agent = export.agent
    assert agent is not None
    results = {}
    for row, task in enumerate(agent.tasks):
        agreement = compare_with_torch(agent, export.graphs[task.name], frames_of(agent, task), row)
        for layer in agreement:
            if layer.different:
                raise BadNetworkError(
                    f"task {task.name!r}, layer {layer.name!r}: {layer.different} of "
                    f"{layer.compared} spikes of the NIR graph differ from torch, none may; "
                    "nothing was written; please report this checkpoint"
                )
        results[task.name] = tuple(agreement)
    return replace(export, graph_agreement=results)


def compare_limited_thresholds(export: Export) -> Export:
    """Work out what fewer thresholds change in the chip's answers, where they were limited.

    On the frames that the graphs are compared on: the share of actions that stay, and of neurons
    whose spike count changes.
    """
    agent, plain, limited = export.agent, export.plain_network, export.network
    assert agent is not None
    assert plain is not None
    assert limited is not None
    if export.request.palette is None:
        return export
    results = {}
    for row, task in enumerate(agent.tasks):
        frames, masks = sample_of(agent, task)
        before, after = (ReferenceChip(net).decide(frames, row) for net in (plain, limited))
        same = same_choices(before.values, after.values, task, masks)
        layers = {
            name: float((counts != after.activity.window[name]).mean())
            for name, counts in before.activity.window.items()
            if name not in ("input", plain.readout.population)
        }
        results[task.name] = TaskCost(float(same.mean()), layers)
    return replace(export, palette_tasks=results)


def compare_layers(export: Export) -> Export:
    """Run float network and chip on the same inputs and compare them layer by layer."""
    request, network, chip = export.request, export.float_network, export.network
    assert network is not None
    assert chip is not None
    series, inputs = compared_inputs(export)
    if len(series) != chip.time_steps and not chip.stateful:
        chip = replace(chip, time_steps=len(series))
    messages = as_messages(series, chip, request.recording or Path(inputs.split(",")[0]))
    frames = messages.reshape(*messages.shape[:2], *chip.input.shape)
    if not chip.stateful:
        frames = frames[0] if chip.input.held else frames.swapaxes(0, 1)
    frames = np.ascontiguousarray(frames)
    run = run_float(network, np.asarray(series, np.float64))
    layers = _beside(network, chip, run, frames)
    remedies = _remedies(export, series, run, frames, layers)
    return replace(export, comparison=Comparison(inputs, tuple(layers), remedies))


def _beside(
    network: FloatNetwork, chip: ChipNetwork, run: FloatRun, frames: NDArray[Any]
) -> list[LayerFidelity]:
    """Compare on frames (batch, ...), series (batch, T, ...) or episodes (T, batch, ...)."""
    backend = ReferenceChip(chip)
    if chip.stateful:
        trace = episode_trace(chip, list(episode_decisions(backend, frames, 0, trace=True)))
    else:
        recorded = backend.decide(frames, 0, trace=True).trace
        assert recorded is not None
        trace = recorded
    return layer_fidelity(network, chip, run, trace)


def _remedies(
    export: Export,
    series: NDArray[Any],
    run: FloatRun,
    frames: NDArray[Any],
    layers: Sequence[LayerFidelity],
) -> dict[str, str]:
    """Try what may mend the faults of layers, and tell by layer what does."""
    request, options, network = export.request, export.options, export.float_network
    assert options is not None
    assert network is not None
    faulty = {layer.layer: layer for layer in layers if layer.faulty_spikes or layer.saturated}
    tried: dict[str, Callable[[], QuantiseOptions]] = {}
    if request.palette is not None:
        # The rest is tried without a palette, so it would show nothing more.
        tried["without --palette it is gone"] = lambda: options
    elif options.weight_bits < WEIGHT_BITS:
        tried["8 weight bits mend it"] = lambda: replace(options, weight_bits=WEIGHT_BITS)
    if (
        request.palette is None
        and request.calibrate is None
        and recorded_series(export) is not None
    ):
        tried["--calibrate mse mends it"] = lambda: calibrate(network, series, options)[0]
    if request.palette is None and request.bound_currents:
        tried["without --bound-currents it is gone"] = lambda: replace(options, largest_currents={})
    found: dict[str, str] = {}
    for remedy, changed in tried.items():
        if len(found) == len(faulty):
            break
        try:
            other = quantise_network(replace(export, options=changed())).network
        except BadNetworkError:
            continue
        assert other is not None
        if not other.stateful:
            other = replace(other, time_steps=len(series))
        for layer in _beside(network, other, run, frames):
            if layer.layer in faulty and mends(layer, faulty[layer.layer]):
                found.setdefault(layer.layer, f"{remedy} (tried on the same inputs)")
    return found
