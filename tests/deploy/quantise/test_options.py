"""The record of the quantiser's options in a bundle, and bundles that have none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.core.errors import BadFileError
from mtspark.deploy.bundle import FIDELITY, load_bundle, write_bundle
from mtspark.deploy.quantise.options import (
    Quantisation,
    QuantiseOptions,
    options_of,
    quantisation_of,
)
from tests.support.networks import three_neurons

FULL = Quantisation(
    QuantiseOptions(
        weight_bits=5,
        per_channel=False,
        keep_sums=False,
        may_saturate=True,
        weight_limits={"a": np.array([0.25, 1 / 3])},
        largest_currents={"b": 1.5},
        for_netx=True,
    ),
    palette=8,
    palette_chip="loihi1",
    calibration="mse",
)


def assert_same(one: Quantisation, other: Quantisation) -> None:
    assert one.to_json() == other.to_json()
    for name, limit in one.options.weight_limits.items():
        np.testing.assert_array_equal(limit, other.options.weight_limits[name])


def test_a_record_comes_back_from_a_bundle_to_the_bit(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", three_neurons(), quantiser=FULL.to_json())
    bundle = load_bundle(tmp_path / "a")
    assert_same(quantisation_of(bundle), FULL)
    assert options_of(bundle).weight_bits == 5
    stored = json.loads((tmp_path / "a" / "network.json").read_text())
    assert list(stored)[-2:] == ["provenance", "quantiser"]


def test_the_record_is_no_part_of_the_networks_hash(tmp_path: Path) -> None:
    with_record = write_bundle(tmp_path / "a", three_neurons(), quantiser=FULL.to_json())
    without = write_bundle(tmp_path / "b", three_neurons())
    assert with_record.network_hash == without.network_hash
    assert without.quantiser is None


def test_an_old_bundle_is_read_from_its_provenance_and_calibration(tmp_path: Path) -> None:
    texts = {
        "weight_bits": "6",
        "weight_scale": "per layer",
        "rounding": "to nearest",
        "palette": "8",
    }
    kept = {"may_saturate": True, "for_netx": False, "weight_limits": {"a": [1.5]}}

    def write_more(folder: Path) -> None:
        (folder / FIDELITY).write_text(json.dumps({"quantise_options": kept}))

    old = replace(three_neurons(), provenance=texts)
    bundle = write_bundle(tmp_path / "old", old, write_more)
    options = QuantiseOptions(
        6,
        per_channel=False,
        keep_sums=False,
        may_saturate=True,
        weight_limits={"a": np.array([1.5])},
    )
    assert_same(quantisation_of(bundle), Quantisation(options, palette=8))


def test_a_bundle_that_says_nothing_has_the_defaults(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "old", three_neurons())
    assert_same(quantisation_of(bundle), Quantisation())


@pytest.mark.parametrize(
    "stored",
    [
        [],
        "text",
        {"weight_bits": 9},
        {"weight_bits": True},
        {"weight_bits": "8"},
        {"per_channel": 1},
        {"weight_limits": []},
        {"weight_limits": {"a": 1.0}},
        {"weight_limits": {"a": ["1"]}},
        {"largest_currents": {"a": None}},
        {"largest_currents": {"a": 10**400}},
        {"palette": 0},
        {"palette": True},
        {"palette_chip": 1},
        {"calibration": "a\nb"},
    ],
)
def test_a_damaged_record_is_refused(stored: Any, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a", three_neurons(), quantiser=stored)
    with pytest.raises(BadFileError, match=r"network.json: quantiser options are damaged"):
        quantisation_of(bundle)


@pytest.mark.parametrize("content", ["[]", "7", '{"quantise_options": 7}', "{"])
def test_damaged_calibration_of_an_old_bundle_is_refused(content: str, tmp_path: Path) -> None:
    def write_more(folder: Path) -> None:
        (folder / FIDELITY).write_text(content)

    bundle = write_bundle(tmp_path / "a", three_neurons(), write_more)
    with pytest.raises(BadFileError, match=r"fidelity.json: .*(damaged|not readable)"):
        quantisation_of(bundle)
