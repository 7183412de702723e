"""Changing task rewrites thresholds, not weights: proven where integers allow it, bounded else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.networks import BREAKOUT, PONG, dense, network, population

GAINS = np.array([[1, 2, 4, 3, 1, 6], [2, 1, 3, 4, 6, 1]])
"""Integer gains of six neurons under two tasks; all divide the thresholds below."""

THRESHOLD = 1200


def shared_weights(membrane_decay: int) -> tuple[ChipNetwork, np.ndarray]:
    """Two tasks, one set of weights: the gains divide the thresholds."""
    weights = np.random.default_rng(3).integers(-20, 21, (6, 5)) * 2
    net = network(
        (5,),
        [
            population(
                "hidden",
                THRESHOLD // GAINS,
                membrane_decay=membrane_decay,
                bias_mantissa=np.array([3, -2, 5, 0, 7, -9]),
            ),
            population("out", np.full((2, 2), 131071), membrane_decay=0),
        ],
        [dense(INPUT, "hidden", weights), dense("hidden", "out", [[2] * 6, [-4] * 6])],
        payload_bits=8,
        time_steps=6,
        tasks=(PONG, BREAKOUT),
    )
    return net, weights


def gains_in_weights(membrane_decay: int, task: int) -> ChipNetwork:
    """One task, its gains multiplied into weights and biases, one threshold for all."""
    net, weights = shared_weights(membrane_decay)
    hidden = net.populations[0]
    gain = GAINS[task]
    return replace(
        net,
        populations=(
            replace(
                hidden,
                thresholds=np.full((1, 6), THRESHOLD),
                bias_mantissa=hidden.bias_mantissa * gain,
            ),
            replace(net.populations[1], thresholds=np.full((1, 2), 131071)),
        ),
        connections=(
            replace(net.connections[0], weights=weights * gain[:, None]),
            net.connections[1],
        ),
        tasks=(net.tasks[task],),
    )


def frame(seed: int) -> np.ndarray:
    # Kept small, so that gains in the weights do not overflow where thresholds would not.
    return np.random.default_rng(seed).integers(0, 10, (1, 5)).astype(np.uint8)


@pytest.mark.parametrize("membrane_decay", [0, 4096])
def test_thresholds_switch_tasks_exactly_as_two_networks(membrane_decay: int) -> None:
    net, _ = shared_weights(membrane_decay)
    chip = ReferenceChip(net)
    alone = [ReferenceChip(gains_in_weights(membrane_decay, task)) for task in (0, 1)]
    fired = 0
    for number, task in enumerate([0, 1, 1, 0, 1, 0, 0, 1] * 4):
        shared = chip.decide(frame(number), task, trace=True)
        own = alone[task].decide(frame(number), 0, trace=True)
        assert shared.trace is not None
        assert own.trace is not None
        window = net.window("hidden")
        spikes = shared.trace.spikes["hidden"][window]
        assert np.array_equal(spikes, own.trace.spikes["hidden"][window])
        scaled = shared.trace.membranes["hidden"][window] * GAINS[task]
        assert np.array_equal(scaled, own.trace.membranes["hidden"][window])
        assert np.array_equal(shared.values, own.values)
        fired += int(spikes.sum())
    assert 20 < fired < 1000


@pytest.mark.parametrize("membrane_decay", [163, 1024, 2048, 3000])
def test_other_decays_round_and_the_difference_is_bounded(membrane_decay: int) -> None:
    """Before the first differing spike |g v_shared - v_own| <= (g + 1) / (1 - decay).

    Each step rounds toward zero once in either network: by less than 1 in its own unit, so by
    less than g and 1 in the common one; earlier errors shrink by the decay.
    """
    net, _ = shared_weights(membrane_decay)
    keep = 1 - membrane_decay / 4096
    largest = 0.0
    for number, task in enumerate([0, 1] * 10):
        shared = ReferenceChip(net).decide(frame(number), task, trace=True).trace
        own = (
            ReferenceChip(gains_in_weights(membrane_decay, task))
            .decide(frame(number), 0, trace=True)
            .trace
        )
        assert shared is not None
        assert own is not None
        for neuron in range(6):
            gain = int(GAINS[task, neuron])
            for step in range(net.window("hidden").start, net.window("hidden").stop):
                where = (step, 0, neuron)
                if shared.spikes["hidden"][where] != own.spikes["hidden"][where]:
                    break
                error = abs(
                    gain * int(shared.membranes["hidden"][where])
                    - int(own.membranes["hidden"][where])
                )
                assert error <= (gain + 1) / (1 - keep)
                largest = max(largest, error)
    assert largest > 0, "rounding was never seen: the bound is not tested"


def test_a_switch_starts_from_rest_in_every_population() -> None:
    """Nothing of the earlier task reaches the window of the next decision."""
    net, _ = shared_weights(2048)
    chip = ReferenceChip(net)
    chip.decide(np.full((1, 5), 255, np.uint8), 0)
    switched = chip.decide(frame(1), 1, trace=True).trace
    fresh = ReferenceChip(net).decide(frame(1), 1, trace=True).trace
    assert switched is not None
    assert fresh is not None
    for name in ("hidden", "out"):
        window = net.window(name)
        assert np.array_equal(switched.membranes[name][window], fresh.membranes[name][window])
