"""Whether time is a straight line through synaptic operations, path by path.

One connection, whose target never fires, and more and more messages: what remains is what
walking costs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from networks import NEVER, TASK
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
from mtspark.core.environments.protocol import GameProtocol

ACTIVITIES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)


def one_connection(kind: ConnectionKind, *, channels: int = 1, graded: bool = False) -> ChipNetwork:
    """Input 4096 -> 512 dense or sparse (10 %), or channels x 40 x 40 -> 32, 4x4."""
    generator = np.random.default_rng(0)
    conv = kind is ConnectionKind.CONV
    source = (channels, 40, 40) if conv else (4096,)
    target = (32, 37, 37) if conv else (512,)
    shape = (32, channels, 4, 4) if conv else (512, 4096)
    weights = generator.integers(-100, 100, shape) * 2
    if kind is ConnectionKind.SPARSE:
        weights *= generator.random(shape) < 0.1
    population = Population(
        "target",
        target,
        4095,
        1024,
        np.full((1, *target), NEVER, np.int64),
        np.zeros(target, np.int64),
    )
    link = Connection("synapses", INPUT, "target", kind, weights, SignMode.MIXED, exponent=-8)
    return ChipNetwork(
        name="one connection",
        input=FrameInput(source, 8 if graded else 0),
        populations=(population,),
        connections=(link,),
        readout=Readout("target", np.ones(target)),
        tasks=(TASK,),
        time_steps=32,
        protocol=GameProtocol(),
    )


CONV_16 = one_connection(ConnectionKind.CONV, channels=16)
PATHS = {
    "activity, dense": (one_connection(ConnectionKind.DENSE), "events"),
    "activity, sparse": (one_connection(ConnectionKind.SPARSE), "events"),
    "activity, convolution, one channel": (one_connection(ConnectionKind.CONV), "events"),
    "activity, convolution, graded messages": (
        one_connection(ConnectionKind.CONV, channels=4, graded=True),
        "events",
    ),
    "activity, convolution, 16 channels": (CONV_16, "events"),
    "activity, convolution, 16 channels, by window": (CONV_16, "windows"),
}
"""A network for each line, and the engine's path."""
BY_MESSAGE = "activity, Nature DQN, by message"
BY_WINDOW = "activity, Nature DQN, by window"


def line(operations: list[float], microseconds: list[float]) -> dict[str, float]:
    """Least squares line through time against operations."""
    x, y = np.array(operations), np.array(microseconds)
    slope, fixed = np.polyfit(x, y, 1)
    residual = ((y - fixed - slope * x) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    return {
        "microseconds_fixed": float(fixed),
        "nanoseconds_an_operation": float(slope * 1e3),
        "r2": float(1 - residual),
    }


def frames(network: ChipNetwork, activity: float) -> NDArray[np.uint8]:
    """One frame of which a fraction is not zero."""
    generator = np.random.default_rng(1)
    shape = (1, *network.input.shape)
    return (generator.integers(1, 256, shape) * (generator.random(shape) < activity)).astype(
        np.uint8
    )


def paths(measure: Any) -> dict[str, dict[str, float]]:
    """A line for each path.

    Args:
        measure: network, path, frames -> milliseconds a step and operations a step.
    """
    found = {}
    for name, (network, path) in PATHS.items():
        points = [measure(network, path, frames(network, activity)) for activity in ACTIVITIES]
        found[name] = line([o for _, o in points], [ms * 1e3 for ms, _ in points])
    return found
