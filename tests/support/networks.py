"""Small chip networks for tests: written by hand, or drawn at random by Hypothesis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from mtspark.core.chip_network.encoding import Encoder
from mtspark.core.chip_network.network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    FrameInput,
    Population,
    Readout,
    ReadoutKind,
    Reset,
    SignMode,
)
from mtspark.core.environments.protocol import GameProtocol, Task

PONG = Task("pong", "pong", (0, 1, 3, 4, 11, 12))
BREAKOUT = Task("breakout", "breakout", (0, 1, 3, 4))
DELAYS = st.sampled_from([0, 0, 1, 3])
RANGES = {
    SignMode.MIXED: (-256, 254, 2),
    SignMode.EXCITATORY: (0, 255, 1),
    SignMode.INHIBITORY: (-255, 0, 1),
}


def population(name: str, thresholds: Any, **changes: Any) -> Population:
    """A population whose shape follows from its thresholds, (tasks, *shape)."""
    values = np.asarray(thresholds, dtype=np.int64)
    fields: dict[str, Any] = {
        "current_decay": 4095,
        "membrane_decay": 2048,
        "bias_mantissa": np.zeros(values.shape[1:], np.int64),
    }
    return Population(name=name, shape=values.shape[1:], thresholds=values, **{**fields, **changes})


def dense(source: str, target: str, weights: Any, **changes: Any) -> Connection:
    """A dense connection of mixed sign unless told otherwise."""
    fields: dict[str, Any] = {"sign_mode": SignMode.MIXED}
    return Connection(
        name=f"{source}->{target}",
        source=source,
        target=target,
        kind=ConnectionKind.DENSE,
        weights=np.asarray(weights, dtype=np.int64),
        **{**fields, **changes},
    )


def sparse(source: str, target: str, weights: Any, **changes: Any) -> Connection:
    """A sparse connection of mixed sign unless told otherwise."""
    return replace(dense(source, target, weights, **changes), kind=ConnectionKind.SPARSE)


def conv(source: str, target: str, weights: Any, **changes: Any) -> Connection:
    """A convolution of mixed sign unless told otherwise."""
    fields: dict[str, Any] = {"sign_mode": SignMode.MIXED}
    return Connection(
        name=f"{source}->{target}",
        source=source,
        target=target,
        kind=ConnectionKind.CONV,
        weights=np.asarray(weights, dtype=np.int64),
        **{**fields, **changes},
    )


def sparse_conv(source: str, target: str, weights: Any, **changes: Any) -> Connection:
    """A convolution whose zero weights are no synapses."""
    return replace(conv(source, target, weights, **changes), kind=ConnectionKind.SPARSE_CONV)


def network(
    shape: tuple[int, ...],
    populations: list[Population],
    connections: list[Connection],
    *,
    payload_bits: int = 0,
    signed: bool = False,
    time_steps: int = 3,
    tasks: tuple[Task, ...] = (PONG,),
) -> ChipNetwork:
    """A network that reads out its last population with scale 1."""
    last = populations[-1]
    tasks = tuple(
        replace(task, legal_actions=tuple(a for a in task.legal_actions if a < last.size))
        for task in tasks
    )
    return ChipNetwork(
        name="test",
        input=FrameInput(shape, payload_bits, signed=signed and payload_bits > 0),
        populations=tuple(populations),
        connections=tuple(connections),
        readout=Readout(last.name, np.ones(last.shape)),
        tasks=tasks,
        time_steps=time_steps,
        protocol=GameProtocol(),
    )


def three_neurons() -> ChipNetwork:
    """Two inputs, a hidden layer of two neurons, one output that integrates and never fires.

    Weights: hidden 0 hears input 0 (64); hidden 1 hears input 0 (-64) and input 1 (128); the
    output hears hidden 0 (2) and hidden 1 (0: a synapse without weight). Thresholds: 50, 100.
    """
    return network(
        (2,),
        [
            population("hidden", [[50, 100]], membrane_decay=4096),
            population("out", [[131071]], membrane_decay=0),
        ],
        [
            dense(INPUT, "hidden", [[64, 0], [-64, 128]]),
            dense("hidden", "out", [[2, 0]]),
        ],
        time_steps=2,
    )


@st.composite
def layers(draw: st.DrawFn, name: str, shape: tuple[int, ...], tasks: int) -> Population:
    """A random population of a given shape; thresholds from silent to always firing."""
    high = draw(st.sampled_from([1, 300, 20_000, 131_071]))
    seed = draw(st.integers(0, 2**31))
    generator = np.random.default_rng(seed)
    return Population(
        name=name,
        shape=shape,
        current_decay=draw(st.sampled_from([4095, 0, 2048, 163, 4000])),
        membrane_decay=draw(st.sampled_from([4096, 0, 2048, 163, 1024])),
        thresholds=generator.integers(0, high + 1, (tasks, *shape)),
        bias_mantissa=generator.integers(-4095, 4096, shape) * draw(st.booleans()),
        bias_exponent=draw(st.integers(0, 7)),
    )


@st.composite
def random_weights(draw: st.DrawFn, shape: tuple[int, ...]) -> dict[str, Any]:
    """Weights, sign mode, bits and exponent that fit together; often the extremes."""
    mode = draw(st.sampled_from(list(SignMode)))
    bits = draw(st.sampled_from([8, 8, 6, 4]))
    low, high, step = RANGES[mode]
    step *= 2 ** (8 - bits)
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    weights = generator.integers(low, high + 1, shape)
    if draw(st.booleans()):
        weights = generator.choice([low, 0, high], shape)
    weights = np.sign(weights) * (np.abs(weights) // step) * step
    return {
        "weights": weights,
        "sign_mode": mode,
        "weight_bits": bits,
        "exponent": draw(st.integers(-8, 7)),
    }


@st.composite
def varied(draw: st.DrawFn, networks: st.SearchStrategy[ChipNetwork]) -> ChipNetwork:
    """Networks with every reset, decays a neuron, series inputs and spike readouts."""
    net = draw(networks)
    populations = []
    for entry in net.populations:
        generator = np.random.default_rng(draw(st.integers(0, 2**31)))
        decays: dict[str, Any] = {}
        if draw(st.booleans()):
            decays["current_decay"] = generator.choice([4095, 0, 2048, 163], entry.shape)
        if draw(st.booleans()):
            decays["membrane_decay"] = generator.choice([4096, 0, 2048, 163], entry.shape)
        decays["fires_at_threshold"] = draw(st.booleans())
        populations.append(replace(entry, reset=draw(st.sampled_from(list(Reset))), **decays))
    return replace(
        net,
        populations=tuple(populations),
        input=replace(net.input, held=draw(st.booleans())),
        readout=replace(net.readout, kind=draw(st.sampled_from(list(ReadoutKind)))),
    )


@st.composite
def varied_networks(draw: st.DrawFn) -> ChipNetwork:
    """As :func:`random_networks`, varied, and with loops."""
    net = draw(varied(random_networks()))
    loops = []
    if draw(st.booleans()):
        weights = draw(random_weights((5, 5)))
        loops.append(dense("second", "second", **weights, recurrent=True, delay=draw(DELAYS)))
    if draw(st.booleans()):
        weights = draw(random_weights((5, 3)))
        loops.append(dense("last", "second", **weights, recurrent=True, delay=draw(DELAYS)))
    return replace(net, connections=(*net.connections, *loops))


@st.composite
def random_networks(draw: st.DrawFn, delays: bool = True) -> ChipNetwork:
    """A convolution, a dense or sparse layer and a readout, over a small asymmetric image."""
    tasks = draw(st.integers(1, 2))
    channels, height, width = draw(
        st.tuples(st.integers(1, 2), st.integers(5, 6), st.integers(4, 7))
    )
    groups = channels if draw(st.booleans()) else 1
    out = groups * draw(st.integers(1, 2))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    geometry: dict[str, Any] = {
        "stride": draw(st.tuples(st.integers(1, 2), st.integers(1, 3))),
        "padding": draw(st.tuples(st.integers(0, 2), st.integers(0, 1))),
        "dilation": draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        "groups": groups,
    }
    rows, columns = (
        (length + 2 * pad - dilation * (taps - 1) - 1) // stride + 1
        for length, pad, dilation, taps, stride in zip(
            (height, width),
            geometry["padding"],
            geometry["dilation"],
            kernel,
            geometry["stride"],
            strict=True,
        )
    )
    first = draw(layers("first", (out, rows, columns), tasks))
    second = draw(layers("second", (5,), tasks))
    last = draw(layers("last", (3,), tasks))
    delay = draw(st.sampled_from([0, 0, 0, 1, 3])) if delays else 0
    skip = random_weights((3, first.size))
    links = [
        draw(st.sampled_from([conv, sparse_conv]))(
            INPUT, "first", **draw(random_weights((out, channels // groups, *kernel))), **geometry
        ),
        draw(st.sampled_from([dense, sparse]))(
            "first", "second", **draw(random_weights((5, first.size))), delay=delay
        ),
        dense("second", "last", **draw(random_weights((3, 5)))),
    ]
    if delays and draw(st.booleans()):
        # A branch around the second layer, delayed so that both arrive together.
        links.append(sparse("first", "last", **draw(skip), delay=delay + 1))
    return network(
        (channels, height, width),
        [first, second, last],
        links,
        payload_bits=draw(st.sampled_from([0, 8])),
        signed=draw(st.booleans()),
        time_steps=draw(st.integers(1, 4)),
        tasks=(PONG, BREAKOUT)[:tasks],
    )


@st.composite
def frame_networks(draw: st.DrawFn) -> ChipNetwork:
    """A network that takes one graded frame a decision, with any encoder."""
    net: ChipNetwork = draw(random_networks())
    encoder = draw(st.sampled_from(list(Encoder)))
    signed = draw(st.booleans())
    given = replace(net.input, payload_bits=8, encoder=encoder, signed=signed)
    return replace(net, input=given)


def thinned(net: ChipNetwork, seed: int) -> ChipNetwork:
    """The network with neurons that are off, and synapses, rows, columns and layers without weight.

    Off in one task or in all; sometimes a whole layer, or all that it hears or sends.
    """
    generator = np.random.default_rng(seed)
    populations, links = [], []
    for one in net.populations:
        share = generator.choice([0.0, 0.3, 0.7, 1.0])
        off = (generator.random(one.thresholds.shape) < share) & (
            one.name != net.readout.population
        )
        populations.append(replace(one, thresholds=np.where(off, 131_071, one.thresholds)))
    for link in net.connections:
        weights, share = link.weights.copy(), generator.choice([0.0, 0.5, 0.9, 1.0])
        weights[generator.random(weights.shape) < share] = 0
        weights[generator.random(len(weights)) < share / 2] = 0
        weights[:, generator.random(weights.shape[1]) < share / 2] = 0
        links.append(replace(link, weights=weights))
    return replace(net, populations=tuple(populations), connections=tuple(links))


def frames_for(net: ChipNetwork, batch: int, seed: int) -> np.ndarray:
    """Frames (or series) that differ within a batch: random, one empty, one full."""
    generator = np.random.default_rng(seed)
    series = () if net.input.held else (net.time_steps,)
    frames = generator.integers(0, 256, (batch, *series, *net.input.shape)).astype(np.uint8)
    frames *= generator.random(frames.shape) < 0.6
    if seed % 5 == 0:
        frames[0] = 0
    if seed % 5 == 1:
        frames[-1] = 255
    if net.input.signed:
        frames = frames.view(np.int8)
        if seed % 5 == 2:
            frames[-1] = -128
    return frames
