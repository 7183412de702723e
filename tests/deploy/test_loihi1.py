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


def test_each_limit_of_memory_and_axons_is_seen_alone() -> None:
    wide = np.zeros((2, 4097), int)
    net = network((4097,), [population("p", [[1, 1]])], [dense(INPUT, "p", wide)])
    assert loihi1_violations(net) == ["a neuron of 'p' hears 4097 axons, 4096 a core is the limit"]
    # 8,193 neurons with 2,048 synapses of 8 bits: one neuron more than 128 cores of 1 Mbit hold.
    big = np.zeros((8193, 2048), int)
    net = network((2048,), [population("p", np.ones((1, 8193)))], [dense(INPUT, "p", big)])
    (text,) = loihi1_violations(net)
    assert text == "synapses take 134234112 bits, one chip has 134217728"


def test_seven_bit_weights_do_not_exist() -> None:
    net = fitting(np.full((1, 4), 10))
    net = replace(net, connections=(replace(net.connections[0], weight_bits=7),))
    assert loihi1_violations(net) == ["'input->p' has 7-bit weights, 1 to 6 and 8 exist"]


def test_a_chip_has_128_cores() -> None:
    links = [dense(INPUT, "p", np.zeros((131073, 1), int))]
    net = network((1,), [population("p", np.ones((1, 131073)))], links)
    assert loihi1_violations(net) == ["neurons need 129 cores, one chip has 128"]
