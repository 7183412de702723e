from __future__ import annotations

import numpy as np
import pytest

from mtspark.core.chip_network.network import INPUT
from mtspark.deploy.chips.model import load_chip
from mtspark.deploy.mapping.mapper import map_network
from mtspark.deploy.mapping.task_switch import task_switches
from tests.support.chips import chip, timed
from tests.support.networks import BREAKOUT, PONG, dense, network, population, three_neurons


def two_tasks() -> object:
    """Six neurons of three profiles: (1, 1), (2, 3) and (4, 3); two registers change."""
    thresholds = np.array([[1, 2, 4, 2, 1, 2], [1, 3, 3, 3, 1, 3]])
    links = [dense(INPUT, "p", np.zeros((6, 1), int))]
    return network((1,), [population("p", thresholds)], links, tasks=(PONG, BREAKOUT))


def test_registers_are_rewritten_where_they_differ() -> None:
    """On one core: 2 of 3 registers; neurons 1, 2, 3 and 5 where each has its own threshold."""
    for name, writes in (("loihi1", 2), ("loihi2", 4)):
        model = load_chip(name)
        mapping = map_network(two_tasks(), model)
        there, back = task_switches(two_tasks(), mapping, model)
        assert (there.source, there.target) == ("pong", "breakout") == (back.target, back.source)
        assert there.writes == back.writes == writes
        assert there.writes_per_core == (0, writes)


def test_every_core_has_its_own_registers() -> None:
    model = chip("loihi1", neurons_per_core=2)
    mapping = map_network(two_tasks(), model)
    switch = task_switches(two_tasks(), mapping, model)[0]
    # Cores of neurons (0, 1), (2, 3) and (4, 5): 1, 2 and 1 registers change.
    assert switch.writes_per_core[1:] == (1, 2, 1)


def test_the_time_of_a_switch_is_modelled_where_a_write_has_one() -> None:
    model = timed(load_chip("loihi1"), register_write_ns=500.0)
    mapping = map_network(two_tasks(), model)
    switch = task_switches(two_tasks(), mapping, model)[0]
    assert switch.time_us == pytest.approx(2 * 0.5)
    assert switch.time_source == "a test (made up)"
    loihi1 = load_chip("loihi1")
    (untimed, _) = task_switches(two_tasks(), map_network(two_tasks(), loihi1), loihi1)
    assert untimed.time_us is None
    assert untimed.time_source.startswith("not modelled")


def test_one_task_never_switches() -> None:
    model = load_chip("loihi2")
    assert task_switches(three_neurons(), map_network(three_neurons(), model), model) == []
