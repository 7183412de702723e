"""PilotNet LIF, whose every value lava-dl's own tests recorded; the folder's README says how.

Arrays are (x, y, channel, step). A layer's current in step t comes from the spikes of the
layer before in step t - 1. Each layer is fed the recorded spikes of the layer before, so a
difference is found where it arises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from mtspark.core.chip_network.network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    FrameInput,
    Population,
    Readout,
    SignMode,
)
from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.sim.engine.chip import EngineChip

# layer of the file, its name, the layer before, steps before its own first step
LAYERS = [
    (2, "conv-1", "conv-0", 2),
    (3, "conv-2", "conv-1", 3),
    (4, "conv-3", "conv-2", 4),
    (5, "conv-4", "conv-3", 5),
    (7, "fc-0", "conv-4", 6),
    (8, "fc-1", "fc-0", 7),
    (9, "fc-2", "fc-1", 8),
]
BETWEEN_RESETS = 17
RECORDED_AT_A_SPIKE = 128


@pytest.mark.parametrize(("index", "name", "before", "reset"), LAYERS)
def test_pilotnet_layer(golden: Path, index: int, name: str, before: str, reset: int) -> None:
    folder = golden / "pilotnet_lif"
    sent, spikes, membranes = (
        _channels_first(np.load(folder / f"{part}.npy")) for part in (before, name, f"{name}-v")
    )
    with h5py.File(folder / "network.net") as file:
        net = _one_layer(file[f"layer/{index}"], sent.shape[1:], spikes.shape[1:])
    chip = EngineChip(net, hold_frame=False)
    chip.start(1)
    mismatches = 0
    for step in range(len(spikes)):
        frame = (sent[step - 1] if step else np.zeros_like(sent[0])).astype(np.uint8)
        # In step 1 of a decision a population of depth 1 is put to rest, in step 2 it is not;
        # it hears the frame in both.
        number = 1 if step % BETWEEN_RESETS == reset % BETWEEN_RESETS else 2
        trace = chip.advance(frame[None], 0, range(number, number + 1), trace=True).trace
        assert trace is not None
        found_spikes, found = trace.spikes["layer"][0, 0], trace.membranes["layer"][0, 0]
        shown = np.where(found_spikes, RECORDED_AT_A_SPIKE, found)
        mismatches += int((shown != membranes[step]).sum())
        mismatches += int((found_spikes != spikes[step].astype(bool)).sum())
    assert spikes.any()
    assert mismatches == 0


def _channels_first(array: NDArray[Any]) -> NDArray[Any]:
    """(x, y, channel, step) or (neuron, step) -> (step, channel, y, x) or (step, neuron)."""
    return np.ascontiguousarray(array.T)


def _one_layer(layer: Any, source: tuple[int, ...], target: tuple[int, ...]) -> ChipNetwork:
    """A layer of the file as a chip network whose input is the layer before."""
    weights = layer["weight"][()].astype(np.int64)
    conv = layer["type"][0] == b"conv"
    bias = layer["bias"][()].astype(np.int64)
    geometry: dict[str, Any] = {}
    if conv:
        geometry = {key: tuple(layer[key][()].tolist()) for key in ("stride", "padding")}
        bias = np.broadcast_to(bias[:, None, None], target).copy()
    name = "layer"
    population = Population(
        name=name,
        shape=target,
        current_decay=int(layer["neuron/iDecay"][()]) - 1,
        membrane_decay=int(layer["neuron/vDecay"][()]),
        thresholds=np.full((1, *target), int(layer["neuron/vThMant"][()])),
        bias_mantissa=bias,
        bias_exponent=6,
    )
    connection = Connection(
        name="synapses",
        source=INPUT,
        target=name,
        kind=ConnectionKind.CONV if conv else ConnectionKind.DENSE,
        weights=weights,
        sign_mode=SignMode.MIXED,
        **geometry,
    )
    return ChipNetwork(
        name="pilotnet",
        input=FrameInput(source, 0),
        populations=(population,),
        connections=(connection,),
        readout=Readout(name, np.ones(target)),
        tasks=(Task("pilotnet", "pong", (0,)),),
        time_steps=100,
        protocol=GameProtocol(),
    )
