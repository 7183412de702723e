from __future__ import annotations

import numpy as np
import pytest

from mtspark.core.errors import BadFileError
from mtspark.deploy.loihi1 import loihi1_violations
from mtspark.sim.counts import Counter
from mtspark.sim.energy import load_card, price
from mtspark.sim.reference import ReferenceChip
from tests.networks import three_neurons


def test_a_bill_by_hand() -> None:
    """16 operations and 24 updates over 2 decisions (see test_counts): 8 and 12 a decision."""
    net = three_neurons()
    counter = Counter(net)
    counter.add(ReferenceChip(net).decide(np.array([[7, 1], [0, 255]], np.uint8), 0).activity)
    bill = price(counter.result(), net, load_card("loihi1_davies2018"))
    terms = {term.term: term for term in bill.terms}
    assert terms["synaptic_operation"].count_per_decision == 8
    assert terms["synaptic_operation"].energy_j_per_decision == pytest.approx(8 * 23.6e-12)
    assert terms["neuron_update"].count_per_decision == 12
    assert terms["neuron_update"].energy_j_per_decision == pytest.approx(12 * 81e-12)
    assert bill.dynamic_j_per_decision == pytest.approx(8 * 23.6e-12 + 12 * 81e-12)


def test_what_a_card_does_not_price_is_none_and_not_zero() -> None:
    net = three_neurons()
    bill = price(Counter(net).result(), net, load_card("loihi1_davies2018"))
    for term in bill.terms:
        if term.term in ("message_hop", "static"):
            assert term.price_pj is None
            assert term.energy_j_per_decision is None


def test_a_network_that_breaks_a_limit_of_the_chip_makes_the_price_hypothetical() -> None:
    net = three_neurons()
    bill = price(Counter(net).result(), net, load_card("loihi1_davies2018"))
    assert list(bill.hypothetical) == loihi1_violations(net)
    assert "membrane decay 4096" in bill.hypothetical[0]


def test_an_unknown_card_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadFileError, match="loihi1_davies2018"):
        load_card("loihi9")
