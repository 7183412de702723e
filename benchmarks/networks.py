"""The networks and inputs that the benchmarks run: random weights, chosen activity.

Weights are random and thresholds are calibrated, layer by layer, so that the wanted fraction
of each population fires in a step: what a layer costs depends on how many messages it gets
and not on what they mean.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import STATE_SHIFT
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
from mtspark.core.environments.atari import make_games
from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.sim.engine.chip import EngineChip

TASK = Task("pong", "pong", tuple(range(18)))
NEVER = 131_071


def nature_dqn(
    *, side: int = 84, time_steps: int = 16, payload_bits: int = 0, seed: int = 0
) -> ChipNetwork:
    """4 x side x side, conv 32 8x8/4, 64 4x4/2, 64 3x3/1, dense 512, dense 18; integrate and fire.

    Args:
        side: of the image; twice the side is four times the neurons.
        time_steps: T.
        payload_bits: of the input, 0 binary or 8 graded.
        seed: of the weights.
    """
    generator = np.random.default_rng(seed)
    # (name, channels, kernel, stride)
    sizes = [("conv1", 32, 8, 4), ("conv2", 64, 4, 2), ("conv3", 64, 3, 1)]
    populations: list[Population] = []
    connections: list[Connection] = []
    source, shape = INPUT, (4, side, side)

    def add(name: str, made: tuple[int, ...], weights: NDArray[np.int64], stride: int) -> None:
        conv = weights.ndim == 4
        populations.append(
            Population(
                name=name,
                shape=made,
                current_decay=4095,
                membrane_decay=1024,
                thresholds=np.full((1, *made), NEVER, np.int64),
                bias_mantissa=generator.integers(-20, 20, made),
            )
        )
        connections.append(
            Connection(
                name=f"{source}->{name}",
                source=source,
                target=name,
                kind=ConnectionKind.CONV if conv else ConnectionKind.DENSE,
                weights=weights,
                sign_mode=SignMode.MIXED,
                exponent=-6 if source == INPUT and payload_bits else 0,
                stride=(stride, stride),
            )
        )

    for name, channels, kernel, stride in sizes:
        rows = (shape[1] - kernel) // stride + 1
        weights = _weights(generator, (channels, shape[0], kernel, kernel))
        add(name, (channels, rows, rows), weights, stride)
        source, shape = name, (channels, rows, rows)
    add("hidden", (512,), _weights(generator, (512, int(np.prod(shape)))), 1)
    source = "hidden"
    add("actions", (18,), _weights(generator, (18, 512)), 1)
    return ChipNetwork(
        name="nature-dqn",
        input=FrameInput((4, side, side), payload_bits),
        populations=tuple(populations),
        connections=tuple(connections),
        readout=Readout("actions", np.ones(18)),
        tasks=(TASK,),
        time_steps=time_steps,
        protocol=GameProtocol(),
    )


def dense_net() -> tuple[ChipNetwork, NDArray[np.uint8]]:
    """As much dense network as a Xylo holds: 16 inputs, 1000 neurons, 8 outputs; 4 inputs on."""
    generator = np.random.default_rng(0)
    populations, connections, source = [], [], INPUT
    for name, inputs, outputs in (("hidden", 16, 1000), ("actions", 1000, 8)):
        never = np.full((1, outputs), NEVER, np.int64)
        populations.append(
            Population(name, (outputs,), 2048, 1024, never, np.zeros(outputs, np.int64))
        )
        connections.append(
            Connection(
                name=f"{source}->{name}",
                source=source,
                target=name,
                kind=ConnectionKind.DENSE,
                weights=_weights(generator, (outputs, inputs)),
                sign_mode=SignMode.MIXED,
            )
        )
        source = name
    network = ChipNetwork(
        name="dense",
        input=FrameInput((16, 1, 1), 0),
        populations=tuple(populations),
        connections=tuple(connections),
        readout=Readout("actions", np.ones(8)),
        tasks=(Task("pong", "pong", tuple(range(8))),),
        time_steps=64,
        protocol=GameProtocol(),
    )
    frames = np.zeros((1, 16, 1, 1), np.uint8)
    frames[0, :4] = 255
    return calibrated(network, frames, 0.05), frames


def _weights(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Even mixed weights, normal, up to +-254."""
    values = np.clip(generator.normal(0, 64, shape), -254, 254)
    return (values // 2).astype(np.int64) * 2


def sparse_frames(
    batch: int, activity: float, seed: int = 0, shape: tuple[int, ...] = (4, 84, 84)
) -> NDArray[np.uint8]:
    """Frames of which a fraction of all pixels is not zero."""
    generator = np.random.default_rng(seed)
    values = generator.integers(1, 256, (batch, *shape)).astype(np.uint8)
    return values * (generator.random(values.shape) < activity).astype(np.uint8)


def recorded_frame(network: ChipNetwork) -> NDArray[np.uint8]:
    """What an agent sees of a game of Pong that has begun, (1, 4, 84, 84)."""
    games = make_games(TASK, network.game_protocol, 1)
    try:
        frames, _ = games.reset(seed=1)
        for number in range(100):
            frames, *_ = games.step(np.array([number % 3 + 2]))
        return frames.copy()
    finally:
        games.close()


def calibrated(network: ChipNetwork, frames: NDArray[np.uint8], activity: float) -> ChipNetwork:
    """Set the thresholds so that each population but the last fires at about `activity`.

    A layer's firing depends on the layers before it, so they are set one after another, each
    by bisection over one threshold for the whole population, inside one engine.
    """
    chip = EngineChip(network)
    thresholds = chip._plan.thresholds
    numbers = np.arange(thresholds.shape[1])
    found = {}
    for population in network.populations[:-1]:
        lanes = chip._lane_index.of_population(population.name, numbers).reshape(-1)
        low, high = 0, NEVER
        while high - low > max(1, low // 100):
            middle = (low + high) // 2
            thresholds[:, lanes] = middle << STATE_SHIFT
            sent = chip.decide(frames, 0).activity.window[population.name]
            if sent.mean() / network.time_steps > activity:
                low = middle
            else:
                high = middle
        thresholds[:, lanes] = high << STATE_SHIFT
        found[population.name] = high
    populations = tuple(
        replace(p, thresholds=np.full_like(p.thresholds, found.get(p.name, NEVER)))
        for p in network.populations
    )
    return replace(network, populations=populations)


def fired(network: ChipNetwork, frames: NDArray[np.uint8]) -> dict[str, float]:
    """Fraction of each source's neurons that sends in a step of its window."""
    chip = EngineChip(network)
    activity = chip.decide(frames, 0).activity
    chip.close()
    return {name: float(a.mean()) / network.time_steps for name, a in activity.window.items()}
