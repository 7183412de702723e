from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from mtspark.core.chip_network.network import INPUT, FrameInput
from mtspark.deploy.quantise.bounds import SAFE_MEMBRANE, headroom, worst_sum
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.networks import dense, network, population, three_neurons


def test_the_worst_sum_takes_the_stronger_sign_of_each_row() -> None:
    link = dense(INPUT, "out", [[2, 4, -10], [6, 6, -2], [0, 0, 0]])
    assert worst_sum(link, FrameInput((3,), 0)).tolist() == [10, 12, 0]
    assert worst_sum(link, FrameInput((3,), 8)).tolist() == [2550, 3060, 0]


def test_signed_messages_reach_the_sum_of_all_magnitudes() -> None:
    """-128 times every negative weight and 127 times every positive one, and the other way."""
    weights = np.array([[2, 4, -10], [6, 6, -2]])
    bound = worst_sum(dense(INPUT, "out", weights), FrameInput((3,), 8, signed=True))
    ends = np.array(list(product([-128, 127], repeat=3)))
    largest = np.abs(ends @ weights.T).max(0)
    assert bound.tolist() == [16 * 128, 14 * 128]
    assert (largest <= bound).all()
    assert (largest > bound * 126 // 128).all()


def test_three_neurons_by_hand() -> None:
    """Hidden: 128 << 6 at most. Out: 2 << 6 in each of the four steps, without leak."""
    hidden, out = headroom(three_neurons())
    assert hidden.current == 128 * 64 / 2**23
    assert hidden.membrane == 128 * 64 / SAFE_MEMBRANE
    assert out.current == 2 * 64 / 2**23
    assert out.membrane == 4 * 2 * 64 / SAFE_MEMBRANE


def test_biases_leaks_graded_input_and_exponents_count() -> None:
    net = network(
        (1,),
        [
            population(
                "out",
                [[131071]],
                membrane_decay=2048,
                current_decay=2047,
                bias_mantissa=np.array([-7]),
                bias_exponent=3,
            )
        ],
        [dense(INPUT, "out", [[4]], exponent=-1)],
        payload_bits=8,
        time_steps=1,
    )
    (room,) = headroom(net)
    # 4 * 255 / 2, and one more for rounding down; current and membrane keep half of two steps.
    added = (4 * 255 / 2 + 1) * 64
    assert room.current == 1.5 * added / 2**23
    assert room.membrane == (0.5 * (added + 56) + 1.5 * added + 56) / SAFE_MEMBRANE


@pytest.mark.parametrize("sign", [1, -1])
def test_the_hardest_input_reaches_the_bound(sign: int) -> None:
    """One population without leak, all weights of one sign: the bound is met, not only kept."""
    net = network(
        (3,),
        [population("out", [[131071]], membrane_decay=0)],
        [dense(INPUT, "out", [[20 * sign] * 3])],
        payload_bits=8,
        time_steps=5,
    )
    reached = ReferenceChip(net).decide(np.full((1, 3), 255, np.uint8), 0).values[0, 0]
    (room,) = headroom(net)
    # The bound covers all six steps between two resets; pixels arrive in five of them.
    assert abs(reached) == pytest.approx(room.membrane * SAFE_MEMBRANE * 5 / 6)
