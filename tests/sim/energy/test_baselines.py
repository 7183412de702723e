from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtspark.core.chip_network.network import INPUT, ChipNetwork, FrameInput
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.counts.totals import Counter
from mtspark.sim.energy.baselines import (
    Baseline,
    break_even,
    cheapest,
    head_synapses,
    incremental_network,
    price_baseline,
    quantised_bits,
    quantised_network,
    same_topology,
    sigma_delta_network,
    zero_skipping_incremental_network,
    zero_skipping_network,
)
from mtspark.sim.energy.cards import load_card
from mtspark.sim.energy.pricing import Device, price
from tests.support.networks import conv, network, population, three_neurons


def joules(value: float) -> Any:
    """To nine digits, however small: an absolute tolerance would swallow picojoules."""
    return pytest.approx(value, rel=1e-9, abs=0)


def test_multiply_accumulates_of_three_neurons_by_hand() -> None:
    """4 synapses into the hidden layer, 2 into the output; zero weights are multiplied, too."""
    baseline = same_topology(three_neurons())
    assert baseline.multiply_accumulates == {"hidden": 4, "out": 2}
    assert (baseline.total, sum(baseline.neurons.values())) == (6, 3)


def test_borders_of_a_convolution_are_exact() -> None:
    """A row of 3 under a kernel of 3 with padding 1: 2 + 3 + 2 products."""
    net = network(
        (1, 1, 3),
        [population("map", np.full((1, 1, 1, 3), 5))],
        [conv(INPUT, "map", np.ones((1, 1, 1, 3), np.int64) * 2, padding=(0, 1))],
    )
    assert same_topology(net).total == 7


@pytest.mark.parametrize(
    ("steps", "bits"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (16, 5)]
)
def test_bits_of_a_spike_count(steps: int, bits: int) -> None:
    assert quantised_bits(steps) == bits == int(np.ceil(np.log2(steps + 1)))


def test_skipped_zeros_by_hand() -> None:
    """Input 0 is zero in half of the decisions, input 1 never; each hidden neuron in half."""
    half = {INPUT: np.array([0.5, 1.0]), "hidden": np.array([0.5, 0.5])}
    baseline = zero_skipping_network(three_neurons(), half)
    assert baseline.multiply_accumulates == {"hidden": 3.0, "out": 1.0}


def test_a_first_layer_that_is_updated_by_changes_by_hand() -> None:
    """1.5 products for changed values a decision instead of 4, and 2 into the output."""
    changed = {INPUT: np.array([0.25, 0.5]), "hidden": np.array([0.0, 0.5])}
    baseline = incremental_network(three_neurons(), changed)
    assert baseline.multiply_accumulates == {"hidden": 1.5, "out": 2}
    assert baseline.activation_bits == 8


def test_skipped_zeros_and_changes_by_hand() -> None:
    """Two synapses of each input value, one of each hidden neuron; T = 2."""
    changed = {INPUT: np.array([0.25, 0.5]), "hidden": np.array([0.0, 0.25])}
    nonzero = {INPUT: np.array([1.0, 1.0]), "hidden": np.array([0.5, 1.0])}
    both = zero_skipping_incremental_network(three_neurons(), nonzero, changed)
    assert both.multiply_accumulates == {"hidden": 1.5, "out": 1.5}
    every_layer = sigma_delta_network(three_neurons(), changed)
    assert every_layer.multiply_accumulates == {"hidden": 1.5, "out": 0.25}
    assert both.activation_bits == every_layer.activation_bits == 2


def test_the_cheapest_baseline_is_the_one_of_least_energy() -> None:
    card = load_card("ops45nm_int8")
    changed = {INPUT: np.array([0.25, 0.5]), "hidden": np.array([0.0, 0.25])}
    bills = [price_baseline(same_topology(three_neurons()), card)]
    bills.append(price_baseline(sigma_delta_network(three_neurons(), changed), card))
    assert cheapest(bills) is bills[1]
    assert cheapest(bills[::-1]) is bills[1]
    assert cheapest([replace(bills[0], energy_j_per_decision=None)]) is None


@pytest.mark.parametrize(
    ("card", "energy_pj"),
    [
        ("ops45nm_fp32", 6 * 4.6),
        ("ops45nm_int8", 6 * 0.23),
        ("loihi1_davies2018", 6 * 23.6 + 3 * 81),
        ("loihi1_sanafe", 6 * 24.0 + 3 * 72.8),
        ("kerasspiking_arm", 6 * 900 + 3 * 900),
        ("kerasspiking_cpu", 6 * 8600 + 3 * 8600),
        ("kerasspiking_gpu", 6 * 300 + 3 * 300),
        ("kerasspiking_loihi", 6 * 27.1 + 3 * 81),
        ("kerasspiking_spinnaker", 6 * 13300 + 3 * 26000),
        ("kerasspiking_spinnaker2", 6 * 450 + 3 * 2190),
    ],
)
def test_the_int8_network_by_hand(card: str, energy_pj: float) -> None:
    priced = price_baseline(same_topology(three_neurons()), load_card(card))
    assert priced.energy_j_per_decision == joules(energy_pj * 1e-12)


def test_fewer_bits_of_an_activation_make_int8_multiplications_cheaper() -> None:
    """T = 2: spike counts of 0 to 2 take 2 bits; 0.2 * 2 / 8 + 0.03 pJ each."""
    baseline = quantised_network(three_neurons())
    assert baseline.activation_bits == 2
    priced = price_baseline(baseline, load_card("ops45nm_int8"))
    assert priced.energy_j_per_decision == joules(6 * 0.08e-12)


def test_memory_of_the_int8_network_by_hand() -> None:
    """Each product reads an input (2 words) and a weight (4, 2 words); biases and outputs once."""
    access = {words: 1.09e-5 * words * 8 + 13.2 for words in (1, 2, 4)}
    expected = 4 * (access[2] + access[4]) + 2 * (access[2] + access[2])
    expected += 2 * 2 * access[2] + 2 * access[1]
    expected += 0.2 * 6 + 0.03 * (6 + 3)
    priced = price_baseline(same_topology(three_neurons()), load_card("lemaire2022_8bit"))
    assert priced.energy_j_per_decision == joules(expected * 1e-12)


def test_where_a_bill_meets_its_baseline_by_hand() -> None:
    """Graded input: 6 * 0.23 + 2 * 0.03 against 6 * 0.23 pJ: no spike is left over to pay.

    fp32 against an int8-like baseline of 20 products: 92 = 27.6 + f * 1.8, f = 35.78.
    """
    net = replace(three_neurons(), input=FrameInput((2,), 8))
    counter = Counter(net)
    counter.add(ReferenceChip(net).decide(np.array([[7, 1], [0, 255]], np.uint8), 0).activity)
    card = load_card("ops45nm_int8")
    bill = price(counter.result(), net, card)
    meets = break_even(bill, price_baseline(same_topology(net), card), net, 0.5, None)
    assert meets.activity_factor == pytest.approx(0, abs=1e-9)
    assert meets.step_time_us is None
    card = load_card("ops45nm_fp32")
    bill = price(counter.result(), net, card)
    more = Baseline("b", 8, 8, {"hidden": 20}, {}, {"hidden": 1}, {"hidden": 1})
    meets = break_even(bill, price_baseline(more, card), net, 0.5, None)
    assert meets.activity_factor == pytest.approx((92 - 27.6) / 1.8)
    assert meets.spikes_per_neuron_and_step == pytest.approx((92 - 27.6) / 1.8 / 2)
    fewer = replace(more, multiply_accumulates={"hidden": 5})
    assert break_even(bill, price_baseline(fewer, card), net, 0.5, None).activity_factor is None


def test_neurons_that_hold_the_frame_do_not_grow_with_the_spikes() -> None:
    """Davies: 6 graded operations, 12 and 20 updates stay; 2 operations grow; 200 products."""
    net = replace(three_neurons(), input=FrameInput((2,), 8))
    counter = Counter(net)
    counter.add(ReferenceChip(net).decide(np.array([[7, 1], [0, 255]], np.uint8), 0).activity)
    card = load_card("loihi1_davies2018")
    device = Device(3, 1, None, None, None, None, steps=4, input_neurons=5)
    bill = price(counter.result(), net, card, device)
    big = Baseline("b", 8, 8, {"hidden": 200}, {"hidden": 0}, {}, {})
    meets = break_even(bill, price_baseline(big, card), net, 0.5, device)
    stays = 6 * 23.6 + (12 + 20) * 81
    assert meets.activity_factor == pytest.approx((200 * 23.6 - stays) / (2 * 23.6))


def test_time_of_a_step_at_which_static_power_takes_over_by_hand() -> None:
    """0.104 W on one chip for 4 steps; dynamic energy by hand as in test_energy."""
    net = three_neurons()
    counter = Counter(net)
    counter.add(ReferenceChip(net).decide(np.array([[7, 1], [0, 255]], np.uint8), 0).activity)
    card = load_card("loihi1_sanafe")
    device = Device(1, 1, None, None, None, None, steps=4)
    bill = price(counter.result(), net, card)
    dynamic = (8 * 35.5 + 12 * 72.8 + 2 * 69.3) * 1e-12
    big = Baseline("b", 8, 8, {"hidden": 1000}, {"hidden": 0}, {}, {})
    meets = break_even(bill, price_baseline(big, card), net, 0.5, device)
    assert meets.static_equals_dynamic_us == pytest.approx(dynamic / (0.104 * 4e-6))
    assert meets.step_time_us == pytest.approx((1000 * 24e-12 - dynamic) / (0.104 * 4e-6))


def test_a_folded_dueling_head_has_the_synapses_of_its_advantage() -> None:
    net: ChipNetwork = three_neurons()
    assert head_synapses(net).to_json() == {
        "folded": 2,
        "advantage_alone": 2,
        "unfolded_dueling": 4,
    }
