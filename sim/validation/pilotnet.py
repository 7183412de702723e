"""PilotNet LIF on Loihi 2: our estimate of a network whose power Intel measured.

Its folder is lava-dl's: `network.net` (netx, HDF5) and, for every layer, the spikes that were
recorded while it ran. The recorded activity is priced; nothing is simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import Activity
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    FrameInput,
    Population,
    Readout,
    SignMode,
    check_network,
)
from mtspark.core.environments import Task
from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files import AnyPath, read_hdf5
from mtspark.sim.counts import Counter, RunCounts

LAYERS = (
    (1, "conv-0"),
    (2, "conv-1"),
    (3, "conv-2"),
    (4, "conv-3"),
    (5, "conv-4"),
    (7, "fc-0"),
    (8, "fc-1"),
    (9, "fc-2"),
    (10, "fc-3"),
)
"""Layers of the file and names of their recordings; layer 0 is the input's, layer 6 flattens."""

RECORDED = {"pixels": "input", "fc-3": "fc-3-s"}
"""Where a recording is not called as its population."""

STEPS_PER_SAMPLE = 16
LARGEST_LAYER = 10_000_000


@dataclass(frozen=True)
class Measurement:
    """What Intel measured of PilotNet LIF on Loihi 2.

    From the output stored in lava-dl's notebook of its PilotNet SNN benchmark: 408.9 frames a
    second at 16 steps each; power corrected for the other chips of the board. The input was
    repeated on the chip, so that no input or output is in these figures.
    """

    dynamic_j: float = 1.09e-3
    total_j: float = 1.66e-3
    static_w: float = 0.232
    step_time_us: float = 1e6 / (408.9 * 16)
    cores: int = 74


def pilotnet(folder: AnyPath) -> tuple[ChipNetwork, RunCounts]:
    """Read PilotNet and count one recorded sample of it.

    Its neurons are updated in 16 steps: samples follow one another without a pause.

    Raises:
        BadFileError: a file is missing, or is not what PilotNet's would be.
    """
    network, window = pilotnet_sample(folder)
    counter = Counter(network)
    counter.add(Activity(window, {name: np.zeros_like(sent) for name, sent in window.items()}))
    return network, counter.result(pipeline=False)


def pilotnet_sample(folder: AnyPath) -> tuple[ChipNetwork, dict[str, NDArray[np.int64]]]:
    """PilotNet and what its neurons sent in one recorded sample, by source, (1, *shape).

    Each layer's 16 steps start when it was reset, as many steps after the input as it is deep.

    Raises:
        BadFileError: a file is missing, or is not what PilotNet's would be.
    """
    folder = Path(folder)
    network = _network(folder)
    window = {INPUT: np.zeros((1, *network.input.shape), np.int64)}
    for population in network.populations:
        spikes = _recording(folder, population.name, population.shape)
        start = network.depths[population.name] - 1
        sample = spikes[start : start + STEPS_PER_SAMPLE]
        if len(sample) < STEPS_PER_SAMPLE and population.name != network.readout.population:
            raise BadFileError(
                f"{folder}: {population.name} has {len(spikes)} recorded steps, "
                f"{start + STEPS_PER_SAMPLE} are needed"
            )
        window[population.name] = (sample != 0).astype(np.int64).sum(0)[None]
    return network, window


def _network(folder: Path) -> ChipNetwork:
    path = folder / "network.net"
    if not path.is_file():
        raise BadFileError(f"{path}: no such file; name the folder of lava-dl's PilotNet LIF")
    layers = read_hdf5(path).get("layer")
    try:
        return _read(layers)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = one_line(error, 120)
        raise BadFileError(f"{path}: not PilotNet LIF as netx writes it: {reason}") from error


def _read(layers: Any) -> ChipNetwork:
    first = layers["0"]
    shape = tuple(int(length) for length in first["shape"])
    populations = [_population("pixels", shape, first, np.full(shape, int(first["bias"])))]
    # A pixel drives its own neuron: a convolution of one tap for each channel.
    weights = np.full((shape[0], 1, 1, 1), int(first["weight"]))
    links = [_connection(INPUT, "pixels", weights, groups=shape[0])]
    for index, name in LAYERS:
        layer = layers[str(index)]
        _bounded(layer["weight"].shape)
        weights = layer["weight"].astype(np.int64)
        source = populations[-1]
        if weights.ndim == 4:
            geometry = {
                key: (int(layer[key][0]), int(layer[key][1])) for key in ("stride", "padding")
            }
            rows, columns = (
                (length + 2 * pad - taps) // step + 1
                for length, pad, taps, step in zip(
                    source.shape[1:],
                    geometry["padding"],
                    weights.shape[2:],
                    geometry["stride"],
                    strict=True,
                )
            )
            out: tuple[int, ...] = (len(weights), rows, columns)
            bias = np.broadcast_to(layer["bias"].astype(np.int64)[:, None, None], out)
        else:
            weights = weights.reshape(-1, source.size)
            geometry, out = {}, (len(weights),)
            bias = layer["bias"].astype(np.int64)
        populations.append(_population(name, out, layer, bias))
        links.append(_connection(source.name, name, weights, **geometry))
    network = ChipNetwork(
        name="PilotNet LIF",
        input=FrameInput(shape, 8),
        populations=tuple(populations),
        connections=tuple(links),
        readout=Readout(populations[-1].name, np.ones(populations[-1].shape)),
        tasks=(Task("steering", "", ()),),
        time_steps=STEPS_PER_SAMPLE,
        protocol=None,
    )
    check_network(network)
    return network


def _population(
    name: str, shape: tuple[int, ...], layer: Any, bias: NDArray[np.int64]
) -> Population:
    _bounded(shape)
    return Population(
        name=name,
        shape=shape,
        current_decay=int(layer["neuron"]["iDecay"]) - 1,
        membrane_decay=int(layer["neuron"]["vDecay"]),
        thresholds=np.full((1, *shape), int(layer["neuron"]["vThMant"])),
        bias_mantissa=np.ascontiguousarray(bias),
        bias_exponent=6,
    )


def _connection(
    source: str, target: str, weights: NDArray[np.int64], **geometry: Any
) -> Connection:
    return Connection(
        name=f"{source}->{target}",
        source=source,
        target=target,
        kind=ConnectionKind.CONV if weights.ndim == 4 else ConnectionKind.DENSE,
        weights=weights,
        sign_mode=SignMode.MIXED,
        **geometry,
    )


def _bounded(shape: tuple[int, ...]) -> None:
    if int(np.prod(shape, dtype=np.float64)) > LARGEST_LAYER:
        raise ValueError(f"an array of shape {tuple(shape)} is larger than PilotNet's")


def _recording(folder: Path, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Recorded spikes of a layer, (steps, *shape); stored as (x, y, channel, step)."""
    path = folder / f"{RECORDED.get(name, name)}.npy"
    try:
        spikes = np.load(path, allow_pickle=False).T
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: no readable recording of PilotNet") from error
    if spikes.shape[1:] != shape:
        raise BadFileError(f"{path}: recorded shape {spikes.shape[1:]}, its layer is {shape}")
    return spikes
