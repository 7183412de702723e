"""Bundles side by side, and their curve against density."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.errors import BadRequestError
from mtspark.deploy.bundle import Bundle, write_bundle
from mtspark.workflows.report.comparison import compare_bundles, write_comparison
from mtspark.workflows.run.games import run_games, store_run
from tests.sim.report.test_data import tiny_network


def thinner(network: ChipNetwork) -> ChipNetwork:
    """Every other weight of the last layer is cut."""
    last = network.connections[-1]
    weights = last.weights.copy()
    weights.reshape(-1)[::2] = 0
    return replace(network, connections=(*network.connections[:-1], replace(last, weights=weights)))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Bundle, Bundle]:
    made = []
    for name, network in (("dense", tiny_network()), ("thin", thinner(tiny_network()))):
        bundle = write_bundle(tmp_path / f"{name}.deploy", network)
        store_run(bundle, run_games(bundle, "pong", seed=1, max_decisions=2))
        made.append(bundle)
    return made[0], made[1]


def test_networks_are_drawn_against_the_weights_that_they_kept(
    pair: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    comparison = compare_bundles([bundle.folder for bundle in pair])
    dense, thin = comparison.rows
    for row, bundle in zip(comparison.rows, pair, strict=True):
        links = bundle.network.connections
        assert row.weights == sum(np.count_nonzero(link.weights) for link in links)
    assert thin.weights < dense.weights
    page, data = write_comparison(comparison, tmp_path / "both.html")
    text = page.read_text(encoding="utf-8")
    assert "Against density" in text
    assert len(re.findall(r"<svg", text)) == 1
    assert text.count("density, %") == 4
    rows = json.loads(data.read_text(encoding="utf-8"))["rows"]
    assert [row["weights"] for row in rows] == [dense.weights, thin.weights]
    assert rows[0]["memory_bits"] > 0


def test_no_curve_of_networks_that_are_equally_dense(
    pair: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    other = write_bundle(tmp_path / "again.deploy", pair[0].network)
    store_run(other, run_games(other, "pong", seed=2, max_decisions=2))
    page, _ = write_comparison(
        compare_bundles([pair[0].folder, other.folder]), tmp_path / "both.html"
    )
    assert "Against density" not in page.read_text(encoding="utf-8")


def test_a_bundle_named_twice_and_one_without_results_are_rejected(
    pair: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    with pytest.raises(BadRequestError, match="named twice"):
        compare_bundles([pair[0].folder, pair[0].folder])
    empty = write_bundle(tmp_path / "empty.deploy", tiny_network())
    with pytest.raises(BadRequestError, match="no runs of this network yet"):
        compare_bundles([pair[0].folder, empty.folder])
