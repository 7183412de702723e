from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtspark.core.chip_network import INPUT, FrameInput
from mtspark.deploy.loihi1 import loihi1_violations
from tests.networks import dense, network, population


def fitting(thresholds: np.ndarray) -> object:
    neurons = thresholds.shape[1]
    return network(
        (1,), [population("p", thresholds)], [dense(INPUT, "p", np.zeros((neurons, 1), int))]
    )


def test_a_plain_network_fits() -> None:
    assert loihi1_violations(fitting(np.full((1, 4), 10))) == []


def test_eight_thresholds_a_core_fit_and_nine_do_not() -> None:
    assert loihi1_violations(fitting(np.arange(8)[None])) == []
    (text,) = loihi1_violations(fitting(np.arange(9)[None]))
    assert "9 distinct thresholds on 1 core(s), 8" in text


def test_a_second_core_brings_eight_more() -> None:
    assert loihi1_violations(fitting(np.arange(2000)[None] % 16)) == []


def test_graded_input_and_small_exponents_break_limits() -> None:
    net = fitting(np.full((1, 4), 10))
    net = replace(
        net,
        input=FrameInput((1,), 8),
        connections=(replace(net.connections[0], exponent=-8),),
    )
    texts = " / ".join(loihi1_violations(net))
    assert "8-bit messages" in texts
    assert "exponent -8" in texts
