"""Depths, windows and names of a chip network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtspark.core.chip_network.network import INPUT, ChipNetwork, Connection
from mtspark.core.chip_network.rules import check_network
from mtspark.core.errors import BadNetworkError, BadRequestError


def test_depth_counts_connections_from_the_input(chip: ChipNetwork) -> None:
    assert chip.depths == {INPUT: 0, "conv": 1, "out": 2}
    assert chip.depth == 2


def test_a_decision_takes_its_steps_and_the_depth(chip: ChipNetwork) -> None:
    assert chip.steps_per_decision == 3 + 2


def test_each_window_starts_at_its_own_depth_and_lasts_t_steps(chip: ChipNetwork) -> None:
    windows = [chip.window(name) for name in (INPUT, "conv", "out")]
    assert windows == [slice(0, 3), slice(1, 4), slice(2, 5)]


def test_shapes_and_sizes_by_name(chip: ChipNetwork) -> None:
    assert [chip.shape_of(name) for name in (INPUT, "conv", "out")] == [(2, 5, 4), (3, 3, 2), (4,)]
    assert [population.size for population in chip.populations] == [18, 4]


def test_unknown_names_are_answered_with_the_known_ones(chip: ChipNetwork) -> None:
    with pytest.raises(BadRequestError, match="no population 'conv9'; this network has conv, out"):
        chip.population("conv9")
    with pytest.raises(BadRequestError, match=r"unknown task 'chess'.* pong, breakout"):
        chip.task_index("chess")
    assert chip.task_index("breakout") == 1


def test_branches_of_equal_depth_may_meet(chip: ChipNetwork) -> None:
    again = replace(chip.connections[1], name="again")
    check_network(replace(chip, connections=(*chip.connections, again)))


def test_branches_of_unequal_depth_may_not_meet(chip: ChipNetwork) -> None:
    network = replace(chip, connections=(*chip.connections, _skip(chip)))
    with pytest.raises(BadNetworkError, match=r"depths \[1, 2\] meet at population 'out'"):
        _ = network.depths


def test_a_delay_evens_out_branches_and_moves_the_window(chip: ChipNetwork) -> None:
    links = (*chip.connections, replace(_skip(chip), delay=1))
    assert replace(chip, connections=links).depths == chip.depths
    slow = replace(chip, connections=(replace(chip.connections[0], delay=4), chip.connections[1]))
    assert slow.depths == {INPUT: 0, "conv": 5, "out": 6}
    assert slow.window("out") == slice(6, 9)
    assert slow.steps_per_decision == 9


def test_a_source_after_its_target_is_refused(chip: ChipNetwork) -> None:
    with pytest.raises(BadNetworkError, match="'out' has no input that is computed before"):
        _ = replace(chip, populations=chip.populations[::-1]).depths


def test_a_population_without_input_is_refused(chip: ChipNetwork) -> None:
    with pytest.raises(BadNetworkError, match=r"'conv' has no input .*no connection"):
        _ = replace(chip, connections=chip.connections[1:]).depths


def test_a_good_network_passes_its_check(chip: ChipNetwork) -> None:
    check_network(chip)


def test_all_violations_are_reported_together_in_one_line(chip: ChipNetwork) -> None:
    conv, out = chip.populations
    first, second = chip.connections
    network = replace(
        chip,
        populations=(replace(conv, current_decay=-1), replace(out, membrane_decay=4097)),
        connections=(replace(first, exponent=8), replace(second, weights=second.weights + 1000)),
    )
    with pytest.raises(BadNetworkError) as caught:
        check_network(network)
    text = str(caught.value)
    parts = ("tiny: ", "current decay -1", "membrane decay 4097", "exponent 8", "weights 1")
    assert [part for part in parts if part not in text] == []
    assert "\n" not in text


def _skip(chip: ChipNetwork) -> Connection:
    """A connection past the convolution: from the input (depth 0) to the readout."""
    return replace(
        chip.connections[1], name="skip", source=INPUT, weights=np.zeros((4, 40), np.int64)
    )
