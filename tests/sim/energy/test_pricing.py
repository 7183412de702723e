"""Bills by hand: three neurons, two unequal samples, every card.

Of the net of tests.support.networks.three_neurons (see test_totals for its numbers), a mean
decision: input messages 3, spikes of the hidden layer 2; operations on input->hidden 6 and on
hidden->out 2; updates 8 of the hidden layer, 4 of the output. With a payload the same pixels
cause the same spikes, and the 6 operations are graded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.core.chip_network.network import INPUT, ChipNetwork, FrameInput
from mtspark.core.errors import BadFileError
from mtspark.deploy.mapping.limits import broken_limits
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.counts.totals import Counter, RunCounts
from mtspark.sim.energy.cards import known_cards, load_card, read_card
from mtspark.sim.energy.pricing import Bill, Device, price
from tests.support.networks import conv, network, population, sparse, sparse_conv, three_neurons

FRAMES = np.array([[7, 1], [0, 255]], np.uint8)


def joules(value: float) -> Any:
    """To nine digits, however small: an absolute tolerance would swallow picojoules."""
    return pytest.approx(value, rel=1e-9, abs=0)


def counted(payload_bits: int = 0) -> tuple[RunCounts, ChipNetwork]:
    net = replace(three_neurons(), input=FrameInput((2,), payload_bits))
    counter = Counter(net)
    counter.add(ReferenceChip(net).decide(FRAMES, 0).activity)
    return counter.result(), net


def bill(card: str, payload_bits: int = 0, device: Device | None = None) -> Bill:
    counts, net = counted(payload_bits)
    return price(counts, net, load_card(card), device)


LEMAIRE_32 = {words: 1.09e-5 * words * 32 + 13.2 for words in (1, 2, 4)}
LEMAIRE_8 = {words: 1.09e-5 * words * 8 + 13.2 for words in (1, 2, 4)}


def lemaire(access: dict[int, float], add: float, multiply: float, graded: int) -> float:
    """Hidden: 2 neurons, 4 weights, 2 sources; output: 1 neuron, 2 weights, 2 sources."""
    reads = 3 * access[2] + 6 * access[4] + 8 * access[2] + (6 + 8) * access[2]
    writes = (6 + 8) * access[2] + 2 * access[2]
    reads += 2 * access[2] + 2 * access[2] + 4 * access[1] + (2 + 4) * access[1]
    writes += (2 + 4) * access[1]
    additions = (6 + 8 + 2) + (2 + 4 + 0) + 6 + 2
    return reads + writes + add * additions + multiply * graded


BY_HAND = {
    "loihi1_davies2018": (8 * 23.6 + 12 * 81, 8 * 23.6 + 12 * 81),
    "loihi1_sanafe": (8 * 35.5 + 12 * 72.8 + 2 * 69.3, 8 * 35.5 + 12 * 72.8 + 2 * 69.3),
    "kerasspiking_arm": (8 * 900 + 12 * 900, 8 * 900 + 12 * 900),
    "kerasspiking_cpu": (8 * 8600 + 12 * 8600, 8 * 8600 + 12 * 8600),
    "kerasspiking_gpu": (8 * 300 + 12 * 300, 8 * 300 + 12 * 300),
    "kerasspiking_loihi": (8 * 27.1 + 12 * 81, 8 * 27.1 + 12 * 81),
    "kerasspiking_spinnaker": (8 * 13300 + 12 * 26000, 8 * 13300 + 12 * 26000),
    "kerasspiking_spinnaker2": (8 * 450 + 12 * 2190, 8 * 450 + 12 * 2190),
    "ops45nm_fp32": (8 * 0.9, 2 * 0.9 + 6 * 4.6),
    "ops45nm_int8": (8 * 0.03, 2 * 0.03 + 6 * 0.23),
    "lemaire2022_32bit": (lemaire(LEMAIRE_32, 0.1, 3.1, 0), lemaire(LEMAIRE_32, 0.1, 3.1, 6)),
    "lemaire2022_8bit": (lemaire(LEMAIRE_8, 0.03, 0.2, 0), lemaire(LEMAIRE_8, 0.03, 0.2, 6)),
}
"""Picojoules of dynamic energy, with binary and with graded input."""


def test_a_convolution_by_hand() -> None:
    """Three inputs under a kernel of 3 with padding 1: 2 + 3 + 2 operations; T = 1, 2 steps.

    Three silent leaky neurons, so 6 updates, each with a multiplication; an address takes 2
    multiplications and 2 + 3 additions a message. All memories have 3 words.
    """
    net = network(
        (1, 1, 3),
        [population("map", np.full((1, 1, 1, 3), 131071))],
        [conv(INPUT, "map", np.full((1, 1, 1, 3), 2), padding=(0, 1))],
        time_steps=1,
    )
    counter = Counter(net)
    counter.add(ReferenceChip(net).decide(np.ones((1, 1, 1, 3), np.uint8), 0).activity)
    found = price(counter.result(), net, load_card("loihi1_sanafe"))
    assert found.dynamic_j_per_decision == joules((7 * 24.0 + 6 * 72.8) * 1e-12)
    assert "synaptic_operation_conv" in {line.term for line in found.terms}
    found = price(counter.result(), net, load_card("lemaire2022_32bit"))
    access = 1.09e-5 * 3 * 32 + 13.2
    accesses = 3 + 7 + 6 + 2 * (7 + 6)
    arithmetic = 0.1 * (7 + 6 + 15) + 3.1 * (6 + 6)
    assert found.dynamic_j_per_decision == joules((accesses * access + arithmetic) * 1e-12)


@pytest.mark.parametrize("payload_bits", [0, 8])
def test_a_sparse_connection_by_hand(payload_bits: int) -> None:
    """Two messages meet 3 synapses; 2 silent neurons in T + L = 2 steps."""
    net = network(
        (2,),
        [population("p", np.full((1, 2), 131071))],
        [sparse(INPUT, "p", [[2, 0], [4, 6]])],
        payload_bits=payload_bits,
        time_steps=1,
    )
    counter = Counter(net)
    counter.add(ReferenceChip(net).decide(np.ones((1, 2), np.uint8), 0).activity)
    found = price(counter.result(), net, load_card("loihi1_sanafe"))
    assert found.dynamic_j_per_decision == joules((3 * 33.6 + 4 * 72.8) * 1e-12)


@pytest.mark.parametrize("payload_bits", [0, 8])
def test_a_sparse_kernel_costs_as_a_sparse_connection(payload_bits: int) -> None:
    """Kernels [2, 0] and [4, 6] on 3 pixels: taps meet 2 outputs each, of 3 weights 6 synapses.

    By the model of memory: 3 messages with 2 multiply-additions and 2 additions of taps each, and
    an addition a synapse; 3 weights; 4 silent neurons in T + L = 2 steps.
    """
    net = network(
        (1, 1, 3),
        [population("p", np.full((1, 2, 1, 2), 131071), membrane_decay=4096)],
        [sparse_conv(INPUT, "p", [[[[2, 0]]], [[[4, 6]]]])],
        payload_bits=payload_bits,
        time_steps=1,
    )
    counter = Counter(net)
    counter.add(ReferenceChip(net).decide(np.ones((1, 1, 1, 3), np.uint8), 0).activity)
    found = price(counter.result(), net, load_card("loihi1_sanafe"))
    assert found.dynamic_j_per_decision == joules((6 * 33.6 + 8 * 72.8) * 1e-12)
    found = price(counter.result(), net, load_card("lemaire2022_32bit"))
    lines = {line.term: line.count_per_decision for line in found.terms}
    assert (lines["address_multiplications"], lines["address_additions"]) == (6, 3 * 4 + 6)


def test_every_card_that_ships_is_counted_by_hand() -> None:
    assert set(BY_HAND) | {"loihi2_pilotnet"} == set(known_cards())


@pytest.mark.parametrize("card", BY_HAND)
@pytest.mark.parametrize("payload_bits", [0, 8])
def test_a_bill_by_hand(card: str, payload_bits: int) -> None:
    found = bill(card, payload_bits)
    expected = BY_HAND[card][payload_bits > 0]
    assert found.dynamic_j_per_decision == joules(expected * 1e-12)
    assert sum(found.layers_j.values()) == joules(expected * 1e-12)
    assert found.dynamic_low_j <= found.dynamic_j_per_decision <= found.dynamic_high_j


def test_the_fitted_card_says_so_and_scales_the_terms_that_it_starts_from() -> None:
    card = load_card("loihi2_pilotnet")
    assert "1.09 mJ" in card.fitted
    davies = load_card("loihi1_davies2018").terms
    factors = {
        card.terms[term].price_pj / davies[term].price_pj  # type: ignore[operator]
        for term in ("synaptic_operation", "neuron_update")
    }
    assert max(factors) - min(factors) < 1e-3
    others = [load_card(key) for key in known_cards() if key != "loihi2_pilotnet"]
    assert not any(card.fitted for card in others)
    per_update = card.terms["neuron_update"].price_pj
    per_operation = card.terms["synaptic_operation"].price_pj
    assert per_update is not None
    assert per_operation is not None
    expected = (8 * per_operation + 12 * per_update) * 1e-12
    assert bill("loihi2_pilotnet").dynamic_j_per_decision == joules(expected)


def test_graded_messages_are_a_line_of_their_own() -> None:
    terms = {term.term: term for term in bill("loihi1_davies2018", 8).terms}
    assert terms["graded_synaptic_operation"].count_per_decision == 6
    assert terms["synaptic_operation"].count_per_decision == 2
    assert "no payloads" in terms["graded_synaptic_operation"].note
    assert "graded_synaptic_operation" not in {t.term for t in bill("loihi1_davies2018").terms}


def test_messages_hops_and_static_power_by_hand() -> None:
    """Four packets, 3 and 2 links; 0.104 W for 4 steps of 10 us on each of 2 chips."""
    device = Device(3, 2, 10.0, 4.0, 3.0, 2.0, steps=4)
    found = bill("loihi1_sanafe", device=device)
    silicon = 8 * 35.5 + 12 * 72.8 + 2 * 69.3 + 4 * 111 + 3 * 3.0 + 2 * 4.2
    assert found.dynamic_j_per_decision == joules(silicon * 1e-12)
    assert found.static_j_per_decision == joules(2 * 0.104 * 40e-6)
    assert found.total_j_per_decision == joules(silicon * 1e-12 + 2 * 0.104 * 40e-6)


def test_neurons_that_hold_the_frame_are_a_line_of_their_own() -> None:
    """Five of them for 4 steps, each an update; cards that price none leave it open."""
    device = Device(3, 1, None, None, None, None, steps=4, input_neurons=5)
    found = bill("loihi1_davies2018", device=device)
    line = next(line for line in found.terms if line.term == "input_neuron_update")
    assert line.count_per_decision == 20
    assert line.energy_j_per_decision == joules(20 * 81e-12)
    assert found.dynamic_j_per_decision == joules((8 * 23.6 + 12 * 81 + 20 * 81) * 1e-12)
    found = bill("ops45nm_int8", device=device)
    line = next(line for line in found.terms if line.term == "input_neuron_update")
    assert line.energy_j_per_decision is None


def test_static_power_of_cores_by_hand(tmp_path: Path) -> None:
    """1 mW on each of 3 cores and 2 mW on each of 2 chips, for 4 steps of 10 us."""
    path = tmp_path / "mine.toml"
    powers = "[terms.static]\npower_w_per_core = 0.001\npower_w_per_chip = 0.002\n"
    path.write_text(GOOD + powers, encoding="utf-8")
    counts, net = counted()
    device = Device(3, 2, 10.0, None, None, None, steps=4)
    found = price(counts, net, load_card(str(path)), device)
    assert found.static_j_per_decision == joules((3 * 0.001 + 2 * 0.002) * 40e-6)


@pytest.mark.parametrize(
    ("card", "device", "term"),
    [
        ("loihi1_davies2018", None, "message"),
        ("loihi1_davies2018", Device(1, 1, 10.0, 4.0, 0.0, 0.0, 4), "spike_out"),
        ("ops45nm_int8", Device(1, 1, 10.0, 4.0, 0.0, 0.0, 4), "message"),
        ("ops45nm_int8", None, "neuron_update"),
    ],
)
def test_what_is_not_priced_or_not_counted_is_none_and_not_zero(
    card: str, device: Device | None, term: str
) -> None:
    found = bill(card, device=device)
    line = next(line for line in found.terms if line.term == term)
    assert line.energy_j_per_decision is None
    assert found.dynamic_j_per_decision > 0


def test_what_a_card_leaves_out_is_named() -> None:
    assert bill("loihi1_davies2018").left_out == ()
    assert bill("ops45nm_int8").left_out == ("neuron_update",)
    card = load_card("loihi1_sanafe")
    counts, net = counted(8)
    terms = {"spike_out": card.terms["spike_out"]}
    found = price(counts, net, replace(card, terms=terms))
    assert set(found.left_out) == {
        "graded_synaptic_operation",
        "synaptic_operation",
        "neuron_update",
    }


def test_static_energy_without_a_price_or_a_time_is_none_and_says_why() -> None:
    assert bill("loihi1_davies2018").static_j_per_decision is None
    assert "104 mW" in bill("loihi1_davies2018").static_note
    assert bill("loihi1_sanafe").total_j_per_decision is None
    assert "time of a step" in bill("loihi1_sanafe").static_note


def test_a_network_that_breaks_a_limit_of_the_chip_makes_the_price_hypothetical() -> None:
    counts, net = counted()
    found = price(counts, net, load_card("loihi1_davies2018"))
    assert list(found.hypothetical) == broken_limits(net, "loihi1")
    assert "membrane decay 4096" in found.hypothetical[0]
    assert not price(counts, net, load_card("ops45nm_int8")).hypothetical


def test_an_unknown_card_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadFileError, match="loihi1_davies2018"):
        load_card("loihi9")
    with pytest.raises(BadFileError, match=r"nowhere\.toml: no such file"):
        load_card("nowhere.toml")


GOOD = """
name = "mine"
chip = ""
model = "events"
source = "me"
evidence = "measured"
scope = "all"
[terms.synaptic_operation]
price_pj = 2
"""


def test_a_card_of_the_user_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, encoding="utf-8")
    counts, net = counted()
    found = price(counts, net, load_card(str(path)))
    assert found.dynamic_j_per_decision == joules(16e-12)
    assert found.card.key == "mine"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("price_pj = 2", "price_pj = -2"), "price_pj is '-2', not a number of at least 0"),
        (("price_pj = 2", "price_pj = nan"), "not a number"),
        (("price_pj = 2", "price_pj = true"), "not a number"),
        (("price_pj = 2", "price_pj = 1e300"), "is the limit"),
        (("price_pj = 2", "price_pj = 2\nlow_pj = 3"), "out of order"),
        (("price_pj = 2", "price_pj = 2\nnote = 3"), "note is missing or no line of text"),
        (("price_pj = 2", "joules = 2"), "unknown field 'joules'"),
        (("price_pj = 2", 'note = "free"'), "price_pj is missing"),
        (("price_pj = 2", "price_pj = 2\n[terms.static]"), "needs power_w_per_chip"),
        (("price_pj = 2", 'price_pj = 2\n[not_priced]\nsynaptic_operation = "x"'), "is both"),
        (("terms.synaptic_operation", "terms.magic"), "unknown field 'magic'"),
        (("[terms.synaptic_operation]\nprice_pj = 2", ""), "no term has a price"),
        (('source = "me"', ""), "source is missing"),
        (('source = "me"', 'source = "a\\nb"'), "no line of text"),
        (('chip = ""', 'chip = "loihi9"'), "chip is 'loihi9'"),
        (('model = "events"', 'model = "guess"'), "model is 'guess'"),
        (('model = "events"', 'model = "memory"'), "parameters.access_pj is missing"),
        (('name = "mine"', "name = "), "Invalid value"),
    ],
)
def test_a_malformed_card_is_one_line(change: tuple[str, str], complaint: str) -> None:
    assert read_card(GOOD, "mine", "price card 'mine'").name == "mine"
    with pytest.raises(BadFileError, match="price card 'mine'") as caught:
        read_card(GOOD.replace(*change), "mine", "price card 'mine'")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
