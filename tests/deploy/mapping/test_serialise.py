from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.errors import BadFileError
from mtspark.deploy.chips.model import load_chip
from mtspark.deploy.mapping.mapper import ChipMapping, check_same_network, map_network
from mtspark.deploy.mapping.serialise import load_mapping, mapping_from_json
from tests.support.networks import random_networks, three_neurons


def same(one: ChipMapping, other: ChipMapping) -> bool:
    strip = [
        [{**vars(core), "neurons": core.neurons.tolist()} for core in mapping.cores]
        for mapping in (one, other)
    ]
    rest = [
        {k: v for k, v in vars(mapping).items() if k not in ("cores", "layers")}
        for mapping in (one, other)
    ]
    return strip[0] == strip[1] and rest[0] == rest[1]


@given(net=random_networks())
@settings(deadline=None, max_examples=10)
def test_a_mapping_survives_json(net: ChipNetwork) -> None:
    for name in ("loihi1", "loihi2"):
        mapping = map_network(net, load_chip(name), place=False)
        text = json.dumps(mapping.to_json(), allow_nan=False)
        found = mapping_from_json(json.loads(text), "x")
        assert same(mapping, found)
        check_same_network(found, net)
        assert all(core.neurons.dtype == np.int64 for core in found.cores)


@pytest.fixture
def data() -> dict[str, Any]:
    return map_network(three_neurons(), load_chip("loihi1")).to_json()


def places(content: Any, keys: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [keys] if keys else []
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content[:1])
        if isinstance(content, list)
        else ()
    )
    for key, inner in items:
        found += places(inner, (*keys, key))
    return found


def test_a_damaged_mapping_is_one_line(data: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    refused: list[str] = []
    for keys in places(data):
        for value in (None, "x\n", [], [[0, 2**60]], {}, -1, True, 0.5, 10**40):
            damaged = copy.deepcopy(data)
            place: Any = damaged
            for key in keys[:-1]:
                place = place[key]
            place[keys[-1]] = value
            path.write_text(json.dumps(damaged))
            try:
                load_mapping(path)
            except BadFileError as error:
                refused.append(str(error))
    assert len(refused) > 200
    assert all(line.startswith(f"{path}: ") for line in refused)
    assert not any("\n" in line for line in refused)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 99_999])
def test_what_is_no_mapping_at_all(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(BadFileError):
        load_mapping(tmp_path / "m.json")
    with pytest.raises(BadFileError):
        load_mapping(tmp_path / "none.json")


def test_another_version_is_said(data: dict[str, Any]) -> None:
    with pytest.raises(BadFileError, match="mapping version 9, this mtspark reads 1"):
        mapping_from_json({**data, "version": 9}, "x")
