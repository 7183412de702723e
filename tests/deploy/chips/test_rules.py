from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtspark.core.arithmetic import THRESHOLD_LIMIT
from mtspark.core.chip_network.network import INPUT, ChipNetwork, FrameInput, Reset
from mtspark.deploy.chips.model import load_chip
from mtspark.deploy.chips.rules import chip_violations
from tests.support.chips import chip
from tests.support.networks import conv, dense, network, population, sparse, sparse_conv


def fitting(**changes: object) -> ChipNetwork:
    link = replace(dense(INPUT, "p", np.zeros((4, 1), int)), **changes)
    return network((1,), [population("p", np.full((1, 4), 10))], [link])


def texts(net: ChipNetwork, name: str = "loihi1") -> list[str]:
    return [found.text for found in chip_violations(net, load_chip(name))]


def test_a_plain_network_fits_both_chips() -> None:
    assert texts(fitting()) == texts(fitting(), "loihi2") == []


def test_graded_input_needs_graded_spikes() -> None:
    net = replace(fitting(), input=FrameInput((1,), 8))
    (text,) = texts(net)
    assert text.startswith("input: sends 8-bit payloads, the limit is spikes without a payload; ")
    assert texts(net, "loihi2") == []


def test_exponents_have_a_range() -> None:
    (text,) = texts(fitting(exponent=-8))
    assert text.startswith("'input->p': weight exponent -8, the limit is -7 or more; ")
    assert texts(fitting(exponent=-7)) == texts(fitting(exponent=-8), "loihi2") == []
    low = chip(largest_weight_exponent=3)
    assert [v.actual for v in chip_violations(fitting(exponent=4), low)] == ["weight exponent 4"]
    assert chip_violations(fitting(exponent=3), low) == []


def test_seven_bit_weights_do_not_exist_on_loihi_1() -> None:
    (text,) = texts(fitting(weight_bits=7))
    assert text.startswith("'input->p': 7-bit weights, the limit is 1, 2, 3, 4, 5, 6, 8 bits; ")
    assert texts(fitting(weight_bits=7), "loihi2") == []


def test_fixed_neurons_fire_above_their_threshold() -> None:
    plain = fitting()
    net = replace(plain, populations=(replace(plain.populations[0], fires_at_threshold=True),))
    (text,) = texts(net)
    assert text == (
        "'p': fires at its threshold, the limit is neurons that fire above it; take a chip with "
        "programmable neurons (loihi2)"
    )
    assert texts(net, "loihi2") == []


def test_delays_have_an_end() -> None:
    short = chip(largest_delay=3)
    assert chip_violations(fitting(delay=3), short) == []
    (found,) = chip_violations(fitting(delay=4), short)
    assert (found.subject, found.limit) == ("'input->p'", "3")


@pytest.mark.parametrize("field", ["current_decay", "membrane_decay"])
def test_decays_end_below_one_on_loihi_1(field: str) -> None:
    decays = np.array([1, 4096, 3, 4])
    net = fitting()
    for value, broken in ((4095, 0), (4096, 1), (decays, 1), (decays % 4096, 0)):
        changed = replace(net.populations[0], **{field: value})
        assert len(texts(replace(net, populations=(changed,)))) == broken
        assert texts(replace(net, populations=(changed,)), "loihi2") == []


@pytest.mark.parametrize("reset", list(Reset))
def test_loihi_1_resets_to_zero(reset: Reset) -> None:
    net = fitting()
    (own,) = net.populations
    net = replace(net, populations=(replace(own, reset=reset),))
    assert len(texts(net)) == (reset is not Reset.ZERO)
    assert texts(net, "loihi2") == []
    # What never fires needs no reset.
    never = replace(own, reset=reset, thresholds=np.full((1, 4), THRESHOLD_LIMIT))
    expected = 0 if reset in (Reset.ZERO, Reset.NONE) else 1
    assert len(texts(replace(net, populations=(never,)))) == expected


def test_a_neuron_hears_as_many_axons_as_its_core_has() -> None:
    for heard, broken in ((4096, False), (4097, True)):
        weights = np.zeros((2, heard), int)
        net = network((heard,), [population("p", [[1, 1]])], [dense(INPUT, "p", weights)])
        found = [text for text in texts(net) if "hears" in text]
        assert bool(found) is broken
    assert found[0].startswith("'p': a neuron hears 4097 axons, the limit is 4096 axons a core; ")


def test_fan_in_and_fan_out_count_synapses_of_all_connections() -> None:
    # Each neuron of p hears 3 inputs; p0 and p1 reach 2 neurons of q, p1 one more by a loop.
    p, q = population("p", [[1, 1]]), population("q", [[1, 1]])
    loop = replace(sparse("q", "p", [[0, 2], [0, 0]]), recurrent=True, delay=1)
    links = [dense(INPUT, "p", np.zeros((2, 3), int)), dense("p", "q", np.zeros((2, 2), int)), loop]
    net = network((3,), [p, q], links)
    assert chip_violations(net, chip(fan_in=4, fan_out=2)) == []
    (found,) = chip_violations(net, chip(fan_in=3))
    assert (found.subject, found.actual) == ("'p'", "a neuron hears 4 axons")
    (found,) = chip_violations(net, chip(fan_out=1))
    assert (found.subject, found.actual) == ("'p'", "a neuron reaches 2 synapses")


def test_a_neuron_hears_the_weights_that_its_kernel_has() -> None:
    weights = np.array([[[[2, 0, 0]]], [[[2, 4, 0]]]])
    p = population("p", np.ones((1, 2, 1, 1)))
    net = network((1, 1, 3), [p], [sparse_conv(INPUT, "p", weights)])
    assert chip_violations(net, chip(fan_in=2)) == []
    (found,) = chip_violations(net, chip(fan_in=1))
    assert found.actual == "a neuron hears 2 axons"
    net = network((1, 1, 3), [p], [conv(INPUT, "p", weights)])
    (found,) = chip_violations(net, chip(fan_in=2))
    assert found.actual == "a neuron hears 3 axons"
