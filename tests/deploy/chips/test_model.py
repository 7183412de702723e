from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtspark.core.errors import BadFileError
from mtspark.deploy.chips.model import known_chips, load_chip

TEXT = """
name = "Mine"
about = "a chip of mine"
[mesh]
columns = 2
rows = 1
cores_per_router = 2
source = "me"
confidence = "sure"
[limits]
cores_per_chip = {value = 3, unit = "cores", source = "me", confidence = "sure"}
chips = {value = 1, unit = "chips", source = "me", confidence = "sure"}
neurons_per_core = {value = 10, unit = "neurons", source = "me", confidence = "sure"}
synapse_memory_per_core = {value = 640, unit = "bits", source = "me", confidence = "sure"}
weight_bits = {value = [8, 4], unit = "bits", source = "me", confidence = "sure"}
resets = {value = ["zero"], unit = "resets", source = "me", confidence = "sure"}
[encodings]
dense = {index_bits = 0, header_bits = 8, word_bits = 32, source = "me", confidence = "sure"}
sparse = {index_bits = 6, header_bits = 8, word_bits = 32, source = "me", confidence = "sure"}
[times.first]
about = "a stopwatch"
neuron_update_ns = {value = 2, source = "me", confidence = "sure"}
barrier_ns = {value = [[1, 5.0], [4, 8.0]], source = "me", confidence = "sure"}
[times.second]
about = "another"
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("name", known_chips())
def test_every_figure_of_a_shipped_chip_has_a_source_and_says_how_sure_it_is(name: str) -> None:
    chip = load_chip(name)
    figures = [*chip.limits.values(), *chip.encodings.values(), chip.mesh]
    figures += [figure for times in chip.times for figure in times.figures.values()]
    assert len(figures) > 20
    assert all(figure.source and figure.confidence for figure in figures)
    assert chip.times


def test_the_limits_of_loihi_1_are_those_of_the_fact_sheet() -> None:
    chip = load_chip("loihi1")
    wanted = {
        "neurons_per_core": 1024,
        "in_axons_per_core": 4096,
        "out_axons_per_core": 4096,
        "synapse_memory_per_core": 128 * 1024 * 8,
        "thresholds_per_core": 8,
        "compartment_configs_per_core": 32,
        "largest_decay": 4095,
        "smallest_weight_exponent": -7,
        "cores_per_chip": 128,
        "weight_bits": (1, 2, 3, 4, 5, 6, 8),
    }
    assert {name: chip.limit(name) for name in wanted} == wanted


def test_a_user_can_write_a_chip(mine: Path) -> None:
    chip = load_chip(str(mine))
    assert (chip.name, chip.mesh.columns, chip.limit("cores_per_chip")) == ("Mine", 2, 3)
    assert chip.limit("weight_bits") == (4, 8)
    assert chip.limit("fan_in") is None
    assert not chip.shares_convolutions
    assert chip.encodings["sparse"].index_bits == 6
    assert chip.encodings["dense"].block_synapses is None
    assert [times.name for times in chip.times] == ["first", "second"]
    first = chip.time_set()
    assert first is not None
    assert first.figures["barrier_ns"].value == ((1, 5.0), (4, 8.0))
    assert chip.time_set("second") is chip.times[1]
    with pytest.raises(BadFileError, match="no times 'third'; it has first, second"):
        chip.time_set("third")


def test_an_unknown_chip_is_one_line_with_the_known_ones() -> None:
    with pytest.raises(BadFileError, match=r"^chip 'loihi9' is unknown; known are loihi1, loihi2"):
        load_chip("loihi9")
    with pytest.raises(BadFileError, match=r"none\.toml: no such file"):
        load_chip("none.toml")


DAMAGES = [
    ('name = "Mine"', "", "the file.name must be a line of text"),
    ("columns = 2", "columns = 0", "mesh.columns must be a whole number, 1 or more"),
    ("columns = 2", "columns = 1", "mesh has 2 places, limits.cores_per_chip is 3"),
    ("value = 10,", "value = 10.5,", "limits.neurons_per_core.value must be a positive whole"),
    ("value = 10,", "value = -1,", "limits.neurons_per_core.value must be a positive whole"),
    ("value = 10,", "value = true,", "limits.neurons_per_core.value must be a positive whole"),
    ("value = 10,", "", "limits.neurons_per_core.value must be a positive whole"),
    ("neurons_per_core =", "neurons_a_core =", "limits: unknown field 'neurons_a_core'"),
    ("[8, 4]", "[9]", "must be 1 to 8"),
    ("[8, 4]", "[]", "must list at least one int"),
    ('["zero"]', '["never"]', "zero, subtract, subtract late"),
    ("index_bits = 6", "index_bits = -1", "encodings.sparse.index_bits must be a whole number"),
    ("index_bits = 6", "", "encodings.sparse.index_bits must be a whole number"),
    ("word_bits = 32", "word_bits = 0", "encodings.dense.word_bits must be a whole number, 1"),
    ("sparse = {", "spares = {", "encodings: unknown field 'spares'"),
    ("{value = 2,", "{value = -2,", "neuron_update_ns.value must be a number of nanoseconds"),
    ("{value = 2,", "{value = nan,", "neuron_update_ns.value must be a number of nanoseconds"),
    ("{value = 2,", "{value = '2',", "neuron_update_ns.value must be a number of nanoseconds"),
    ("[[1, 5.0], [4, 8.0]]", "[[4, 5.0], [1, 8.0]]", "routers rising"),
    ("[[1, 5.0], [4, 8.0]]", "5.0", "routers rising"),
    ("neuron_update_ns =", "neuron_ns =", "times.first: unknown field 'neuron_ns'"),
    ('about = "another"', "", "times.second.about must be a line of text"),
    ("[mesh]", "[mesh", ""),
    ('"a chip of mine"', '"a\\u001b[2Jchip"', "about: a text with control characters"),
    ("columns = 2", "columns = 1000000000", "places, 65,536 is the limit"),
    ("cores_per_router = 2", "cores_per_router = 1000000000", "places, 65,536 is the limit"),
    ("columns = 2", "columns = 9000000000000000", "1,000,000,000,000 is the limit"),
    ("columns = 2", "columns = " + "7" * 5000, "not TOML"),
    ("columns = 2", "columns = 0x" + "f" * 5000, "columns: a whole number of more than 64 bits"),
    ("columns = 2", "columns = " + "[" * 50_000, "nested too deeply"),
    ("[8, 4]", "[" + "8, " * 65 + "4]", "66 entries, 64 is the limit"),
    ('"a chip of mine"', '"' + "a" * 5000 + '"', "5,000 letters, 4,096 is the limit"),
]


@pytest.mark.parametrize(("old", "new", "says"), DAMAGES)
def test_a_malformed_description_is_one_clear_line(
    mine: Path, old: str, new: str, says: str
) -> None:
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    if not new:
        text = "\n".join(line.replace("{, ", "{").replace("{ , ", "{") for line in text.split("\n"))
    mine.write_text(text)
    with pytest.raises(BadFileError) as caught:
        load_chip(str(mine))
    line = str(caught.value)
    assert line.startswith(f"chip description {mine}: ")
    assert says in line
    assert "\n" not in line


def places(content: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if keys:
        yield keys
    if isinstance(content, dict):
        for key, inner in content.items():
            yield from places(inner, (*keys, key))


def test_whatever_stands_in_a_field_gives_a_chip_or_one_line(
    mine: Path, monkeypatch: pytest.MonkeyPatch, read_here: None
) -> None:
    from mtspark.deploy.chips import model as chip_model

    data = chip_model.tomllib.loads(TEXT)
    refused: list[str] = []
    for keys in places(data):
        for value in (None, "", "x", [], [[]], {}, -1, 0, True, 1e300, 10**40, [1, "a"]):
            damaged = copy.deepcopy(data)
            place = damaged
            for key in keys[:-1]:
                place = place[key]
            place[keys[-1]] = value
            monkeypatch.setattr(chip_model.tomllib, "loads", lambda _, d=damaged: d)
            try:
                json.dumps(load_chip(str(mine)).limits, default=str)
            except BadFileError as error:
                refused.append(str(error))
    assert len(refused) > 500
    assert all(line.startswith("chip description ") for line in refused)
    assert not any("\n" in line for line in refused)
