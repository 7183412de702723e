"""How many bytes the engine takes, and the lists of synapses that make it so few."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.engine.layout import WEIGHT_BITS
from mtspark.sim.engine.sparse import encode
from tests.support.networks import conv, dense, network, population, sparse


def synapses(net: ChipNetwork) -> int:
    """All of them, each one of a convolution by itself (none of these has padding)."""
    total = 0
    for link in net.connections:
        if link.kind.value == "sparse":
            total += int((link.weights != 0).sum())
        elif link.kind.value == "dense":
            total += link.weights.size
        else:
            _, rows, columns = net.shape_of(link.target)
            total += rows * columns * link.weights.size
    return total


def bytes_allowed(net: ChipNetwork) -> int:
    neurons = sum(p.size for p in net.populations)
    return 3 * synapses(net) + 16 * neurons * len(net.tasks)


def weights(density: float, *shape: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    values = generator.integers(1, 128, shape) * 2 * generator.choice([-1, 1], shape)
    return values * (generator.random(shape) < density)


def chain(kind: Any, density: float, *sizes: int, **changes: Any) -> ChipNetwork:
    names = [INPUT, *(f"layer {number}" for number in range(1, len(sizes)))]
    return network(
        (sizes[0],),
        [
            population(name, np.ones((1, size)), **changes)
            for name, size in zip(names[1:], sizes[1:], strict=True)
        ],
        [
            kind(source, target, weights(density, out, inner))
            for source, target, inner, out in zip(names, names[1:], sizes, sizes[1:], strict=False)
        ],
    )


CONV = network(
    (4, 20, 20),
    [population("one", np.ones((1, 16, 18, 18))), population("two", np.ones((1, 20, 16, 16)))],
    [conv(INPUT, "one", weights(1, 16, 4, 3, 3)), conv("one", "two", weights(1, 20, 16, 3, 3))],
)


@pytest.mark.parametrize(
    "net",
    [
        chain(dense, 1, 3136, 512, 512),
        chain(dense, 1, 3136, 512, 512, current_decay=100),
        chain(dense, 1, 2000, 200, 18),
        chain(dense, 1, 2000, 200, 3),
        chain(dense, 1, 5000, 4),
        chain(sparse, 0.9, 2000, 500, 500),
        chain(sparse, 0.5, 2000, 500, 500),
        chain(sparse, 0.1, 2000, 500, 500),
        chain(sparse, 0.1, 500, 300, 300, current_decay=100),
        chain(sparse, 0.01, 3000, 3000),
        chain(sparse, 0.002, 1000, 6000),
        CONV,
    ],
    ids=lambda net: f"{net.connections[0].kind.value}-{synapses(net)}",
)
def test_memory_stays_below_three_bytes_a_synapse_and_sixteen_a_neuron_and_task(
    net: ChipNetwork,
) -> None:
    chip, reference = EngineChip(net), ReferenceChip(net)
    frames = (np.random.default_rng(1).random((1, *net.input.shape)) < 0.3).astype(np.uint8)
    expected, found = reference.decide(frames, 0), chip.decide(frames, 0)
    assert np.array_equal(found.values, expected.values)
    assert chip.bytes_used < bytes_allowed(net)


def test_no_array_of_the_engine_is_forgotten() -> None:
    """Everything that a chip holds, but for its network, is in `bytes_used`."""
    chip = EngineChip(CONV)
    chip.decide(np.ones((1, 4, 20, 20), np.uint8), 0)
    found: dict[int, int] = {}

    def visit(thing: Any) -> None:
        if isinstance(thing, np.ndarray):
            found[thing.ctypes.data] = max(found.get(thing.ctypes.data, 0), thing.nbytes)
        elif isinstance(thing, (tuple, list)):
            for part in thing:
                visit(part)
        elif isinstance(thing, dict):
            visit(list(thing.values()))
        elif hasattr(thing, "__dict__") and not isinstance(thing, ChipNetwork):
            visit(vars(thing))

    visit(vars(chip))
    assert sum(found.values()) == chip.bytes_used


@given(
    columns=st.integers(1, 20),
    lanes=st.sampled_from([1, 2, 17, 300, 70_000, 2_000_000]),
    density=st.sampled_from([0.0, 0.001, 0.1, 0.7, 1.0]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_a_list_of_synapses_says_what_was_put_in(
    columns: int, lanes: int, density: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    count = min(int(density * columns * lanes), 3000)
    place = generator.choice(columns * lanes, count, replace=False)
    source, lane = np.divmod(place, lanes)
    weight = generator.integers(-128, 256, count)
    packed, starts, bits = encode(source, lane, weight, columns)
    found = set()
    ones = np.unpackbits(packed, bitorder="little").tolist()
    for column in range(columns):
        at = 0
        for number in range(int(starts[column]), int(starts[column + 1])):
            begin = number * (bits + WEIGHT_BITS)
            gap = sum(bit << i for i, bit in enumerate(ones[begin : begin + bits]))
            entry = ones[begin + bits : begin + bits + WEIGHT_BITS]
            value = sum(bit << i for i, bit in enumerate(entry))
            at += gap * value if gap == 2**bits - 1 else gap
            if gap != 2**bits - 1:
                found.add((column, at, value))
    assert found == set(zip(source.tolist(), lane.tolist(), (weight & 255).tolist(), strict=True))


@pytest.mark.parametrize(
    ("gap", "bytes_a_synapse"), [(1, 1.3), (10, 1.8), (300, 2.4), (5000, 2.95)]
)
def test_a_list_of_synapses_is_short(gap: int, bytes_a_synapse: float) -> None:
    generator = np.random.default_rng(0)
    place = np.flatnonzero(generator.random(100 * 50 * gap) < 1 / gap)
    source, lane = np.divmod(place, 50 * gap)
    packed, _, _ = encode(source, lane, np.ones_like(place), 100)
    assert len(packed) < bytes_a_synapse * len(place)
