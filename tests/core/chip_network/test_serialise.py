"""Chip networks as JSON and arrays: an exact round trip, and nothing hostile gets through."""

from __future__ import annotations

import copy
import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtspark.core.chip_network.network import ChipNetwork, SignMode
from mtspark.core.chip_network.serialise import Arrays, network_from_json, network_to_json
from mtspark.core.errors import BadFileError, BadNetworkError
from tests.support.networks import varied_networks


def as_file(network: ChipNetwork) -> tuple[Any, Arrays]:
    data, arrays = network_to_json(network)
    return json.loads(json.dumps(data)), arrays


def assert_same(first: Any, second: Any) -> None:
    """Equal in type and value, arrays in every entry, dataclasses field by field."""
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif hasattr(first, "__dataclass_fields__"):
        for entry in fields(first):
            assert_same(getattr(first, entry.name), getattr(second, entry.name))
    else:
        assert repr(first) == repr(second)


def test_round_trip_is_exact(chip: ChipNetwork) -> None:
    assert_same(network_from_json(*as_file(chip), "here"), chip)


@given(st.data())
def test_round_trip_is_exact_for_any_values(chip: ChipNetwork, data: st.DataObject) -> None:
    conv, out = chip.populations
    first, second = chip.connections
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    network = replace(
        chip,
        populations=(
            replace(
                conv,
                current_decay=data.draw(st.integers(0, 4095)),
                membrane_decay=data.draw(st.integers(0, 4096)),
                thresholds=rng.integers(0, 2**17, (2, 3, 3, 2)),
                bias_mantissa=rng.integers(-4095, 4096, (3, 3, 2)),
                bias_exponent=data.draw(st.integers(0, 7)),
            ),
            out,
        ),
        connections=(
            replace(
                first,
                weights=2 * rng.integers(-128, 128, (3, 2, 3, 2)),
                exponent=data.draw(st.integers(-8, 7)),
            ),
            replace(second, weights=-rng.integers(0, 256, (4, 18)), sign_mode=SignMode.INHIBITORY),
        ),
        time_steps=data.draw(st.integers(1, 100)),
        provenance={data.draw(st.text()): data.draw(st.text())},
    )
    assert_same(network_from_json(*as_file(network), "here"), network)


@given(net=varied_networks())
def test_round_trip_is_exact_for_resets_loops_and_decays_a_neuron(net: ChipNetwork) -> None:
    assert_same(network_from_json(*as_file(net), "here"), net)


def test_a_network_that_plays_no_game_makes_the_round_trip(chip: ChipNetwork) -> None:
    tasks = tuple(replace(task, game="", legal_actions=()) for task in chip.tasks)
    network = replace(chip, tasks=tasks, protocol=None)
    assert_same(network_from_json(*as_file(network), "here"), network)


def paths(data: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    return [path for key in keys for path in [(*prefix, key), *paths(data[key], (*prefix, key))]]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.integers(2**31, 2**80)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.data())
def test_changed_json_gives_a_checked_network_or_one_of_our_errors(
    chip: ChipNetwork, data: st.DataObject
) -> None:
    content, arrays = as_file(chip)
    *parents, last = data.draw(st.sampled_from(paths(content)))
    owner = content
    for key in parents:
        owner = owner[key]
    if data.draw(st.booleans()):
        owner[last] = data.draw(json_values)
    else:
        del owner[last]
    try:
        network = network_from_json(content, arrays, "here")
    except (BadFileError, BadNetworkError):
        return
    assert_same(network_from_json(*as_file(network), "here"), network)


ODD_NUMBERS = (True, -1, 0, 2**80, 0.5, float("nan"), float("inf"))
ODD_VALUES: tuple[Any, ...] = (*ODD_NUMBERS, None, "", "5", [], [0, 0], {})


def test_odd_values_in_every_field_are_read_exactly_or_refused(chip: ChipNetwork) -> None:
    content, arrays = as_file(chip)
    read = 0
    for path in paths(content):
        for value in ODD_VALUES:
            broken = copy.deepcopy(content)
            owner = broken
            for key in path[:-1]:
                owner = owner[key]
            owner[path[-1]] = value
            try:
                network = network_from_json(broken, arrays, "here")
            except (BadFileError, BadNetworkError):
                continue
            read += 1
            again = as_file(network)[0]
            if path[0] not in ("name", "provenance"):
                # As values, True is 1; as text, NaN equals itself.
                assert again == broken or json.dumps(again) == json.dumps(broken)
    assert read


@given(st.data())
def test_changed_arrays_give_a_checked_network_or_one_of_our_errors(
    chip: ChipNetwork, data: st.DataObject
) -> None:
    content, arrays = as_file(chip)
    key = data.draw(st.sampled_from(sorted(arrays)))
    old = arrays[key]
    arrays[key] = data.draw(
        st.sampled_from(
            [
                old[:0],
                old[..., :1],
                old[None],
                np.array(3),
                old.astype(np.float32) + 0.5,
                old.astype(str),
                old.astype(complex),
                np.full(old.shape, -(2**15), np.int16),
                np.full(old.shape, 2**31 - 1, np.int32),
                np.zeros(old.shape, bool),
            ]
        )
    )
    try:
        network = network_from_json(content, arrays, "here")
    except (BadFileError, BadNetworkError):
        return
    assert key == "readout.scale"
    assert network.readout.scale.dtype == np.float64


@pytest.mark.parametrize("content", [None, [], "text", 3, {}, {"format": "other", "version": 1}])
def test_another_format_is_refused(content: Any) -> None:
    with pytest.raises(BadFileError, match=r"net.json: not a chip network"):
        network_from_json(content, {}, "net.json")


def test_another_version_is_refused(chip: ChipNetwork) -> None:
    content, arrays = as_file(chip)
    with pytest.raises(BadFileError, match="version 9, this mtspark reads 2"):
        network_from_json({**content, "version": 9}, arrays, "here")


def test_every_field_is_needed(chip: ChipNetwork) -> None:
    content, arrays = as_file(chip)
    for path in [path for path in paths(content) if isinstance(path[-1], str)]:
        if path[0] == "provenance" and len(path) > 1:
            continue
        broken = copy.deepcopy(content)
        owner = broken
        for key in path[:-1]:
            owner = owner[key]
        del owner[path[-1]]
        with pytest.raises(BadFileError, match="here: "):
            network_from_json(broken, arrays, "here")


def test_every_array_is_needed(chip: ChipNetwork) -> None:
    content, arrays = as_file(chip)
    for key in arrays:
        left = {name: array for name, array in arrays.items() if name != key}
        with pytest.raises(BadFileError, match=key):
            network_from_json(content, left, "here")


def test_a_file_that_breaks_a_rule_is_refused(chip: ChipNetwork) -> None:
    content, arrays = as_file(chip)
    content["connections"][0]["exponent"] = 9
    with pytest.raises(BadNetworkError, match="connection 'first': exponent 9"):
        network_from_json(content, arrays, "here")


def test_fractions_are_not_taken_for_weights(chip: ChipNetwork) -> None:
    content, arrays = as_file(chip)
    arrays["first.weights"] = arrays["first.weights"].astype(np.float64)
    with pytest.raises(BadFileError, match=r"first.weights holds float64, integers are needed"):
        network_from_json(content, arrays, "here")


def test_complex_numbers_are_not_taken_for_scales(chip: ChipNetwork) -> None:
    content, arrays = as_file(chip)
    arrays["readout.scale"] = arrays["readout.scale"].astype(np.complex128)
    with pytest.raises(BadFileError, match=r"readout.scale holds complex128, numbers are needed"):
        network_from_json(content, arrays, "net.json")
