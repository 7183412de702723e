"""Bundles side by side, and their curve against density."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.cli.show import print_comparison
from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.digits import digits
from mtspark.core.errors import BadRequestError
from mtspark.deploy.bundle import Bundle, write_bundle
from mtspark.sim.verdict import Cost
from mtspark.workflows.report.comparison import (
    Compared,
    Comparison,
    compare_bundles,
    write_comparison,
)
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
    # On a phone, a wide figure keeps its size and scrolls; another one shrinks.
    assert len(re.findall(r'<figure class="wide" tabindex="0"><svg', text)) == 1
    assert text.count("<svg") == 1
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


def test_no_curve_of_networks_of_other_neurons(pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    """A smaller network is another one, not a sparser one."""
    dense, thin = compare_bundles([bundle.folder for bundle in pair]).rows
    other = Comparison((dense, replace(thin, neurons=thin.neurons + 1)))
    page, _ = write_comparison(other, tmp_path / "both.html")
    assert "Against density" not in page.read_text(encoding="utf-8")


def test_two_sentences_stand_before_the_tables_and_on_the_page(
    pair: tuple[Bundle, Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = compare_bundles([bundle.folder for bundle in pair])
    first, second = comparison.sentences
    assert first.startswith("In pong ")
    assert "dense.deploy" in first
    joules = [row.dynamic_j for row in comparison.rows]
    assert all(f"{digits((one or 0) * 1e6)} µJ" in second for one in joules)
    page, _ = write_comparison(comparison, tmp_path / "both.html")
    assert f'<p class="verdict">{first}</p>' in page.read_text(encoding="utf-8")
    print_comparison(comparison)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith(f"{first} {second} ")


def row(bundle: str, chip: float, **changes: Any) -> Compared:
    cost = Cost("Loihi 2", changes.pop("joules", 4e-6), "an ordinary one", 9e-6)
    known: dict[str, Any] = {
        **{"task": "pong", "kind": "return", "float_network": None, "samples": 30},
        **{"dynamic_j": cost.dynamic_j, "rival_j": cost.rival_j, "cores": 1, "decision_us": 1.0},
        **{"spikes": 1.0, "synops": 1.0, "neurons": 1, "weight_bits": "8", "encoder": "held"},
        **{"weights": 1, "memory_bits": 8, "cost": cost},
    }
    return Compared(bundle=bundle, chip=chip, **{**known, **changes})


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        (
            [row("x/a", 17.0, interval=(16.0, 18.0)), row("x/b", 19.5, interval=(19.0, 20.0))],
            "In pong b is better than a by 2.5 (19.5 against 17), outside the 95 % intervals.",
        ),
        (
            [row("x/a", 17.0, interval=(16.0, 19.2)), row("x/b", 19.5, interval=(19.0, 20.0))],
            "In pong b is better than a by 2.5 (19.5 against 17), within the 95 % intervals, so "
            "it may be chance.",
        ),
        (
            [row("x/a", 17.0), row("x/b", 19.5, cut_off=2)],
            "In pong b is better than a by 2.5 (19.5 against 17), from fewer than 5 games, which "
            "may be chance, and games of b were cut off.",
        ),
        (
            [row("x/a", 3.0), row("x/b", 3.0), row("x/c", 1.0)],
            "In pong a and b are equally good (3).",
        ),
        (
            [row("x/a", 3.0), row("x/b", 3.0, cut_off=2)],
            "In pong a and b are equally good (3), and games of b were cut off.",
        ),
        (
            [row("x/a", 3.0), row("x/b", 5.0, sticky=0.25)],
            "In pong the bundles played with sticky actions 0 and 0.25, and cannot be compared.",
        ),
        (
            [
                row("x/a", 0.9, kind="accuracy", interval=(0.85, 0.93), task="digits"),
                row("x/b", 0.95, kind="accuracy", interval=(0.94, 0.96), task="digits"),
            ],
            "By accuracy b is better than a by 5 points (95.0% against 90.0%), outside the 95 % "
            "intervals.",
        ),
        (
            [
                row("x/a", 0.9, kind="accuracy", interval=(0.85, 0.93), origin="x.npy"),
                row("x/b", 0.95, kind="accuracy", interval=(0.94, 0.96), origin="images"),
            ],
            "By accuracy b is better than a by 5 points (95.0% against 90.0%), but on different "
            "data (a 30 samples of x.npy and b 30 samples of images).",
        ),
        (
            [
                row("x/a", 0.9, kind="accuracy", interval=(0.85, 0.93), samples=29, origin="y.npz"),
                row("x/b", 0.9, kind="accuracy", interval=(0.94, 0.96), origin="x.npy"),
            ],
            "By accuracy a and b are equally good (90.0%), but on different data (a 29 samples of "
            "y.npz and b 30 samples of x.npy).",
        ),
        (
            [row("x/a", 3.0), row("y/a", 4.0), row("x/a", 1.0, task="breakout")],
            "In pong y/a is better than x/a by 1 (4 against 3), from fewer than 5 games, which "
            "may be chance; in breakout x/a alone was measured (1).",
        ),
    ],
)
def test_the_better_one_is_named_with_what_may_be_chance(rows: list[Compared], first: str) -> None:
    assert Comparison(tuple(rows)).sentences[0] == first


def test_costs_of_one_chip_are_compared_and_of_two_are_not() -> None:
    rows = (row("x/a", 1.0, joules=4e-6), row("x/b", 2.0, joules=3e-6))
    assert Comparison(rows).sentences[1] == (
        "A decision costs 4 µJ with a and 3 µJ with b (25.0% between them), dynamic energy on "
        "Loihi 2 (estimate); the cheapest networks without spikes cost 9 µJ and 9 µJ."
    )
    other = replace(rows[1], cost=Cost("Loihi 1", 3e-6))
    assert Comparison((rows[0], other)).sentences[1] == (
        "A decision costs 4 µJ on Loihi 2 with a and 3 µJ on Loihi 1 with b, dynamic energy "
        "(estimate); prices of different chips cannot be compared; the cheapest networks without "
        "spikes cost 9 µJ."
    )
    mine, theirs = replace(rows[0], card="mine"), replace(rows[1], card="theirs")
    assert Comparison((mine, theirs)).sentences[1] == (
        "A decision costs 4 µJ by card mine with a and 3 µJ by card theirs with b, dynamic energy "
        "on Loihi 2 (estimate); prices of different cards cannot be compared; the cheapest "
        "networks without spikes cost 9 µJ and 9 µJ."
    )
    unknown = replace(rows[1], cost=None)
    assert "and an unknown energy with b, dynamic" in Comparison((rows[0], unknown)).sentences[1]
    assert Comparison((replace(rows[0], cost=None), unknown)).sentences[1].startswith("No result")


def test_a_bundle_named_twice_and_one_without_results_are_rejected(
    pair: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    with pytest.raises(BadRequestError, match="named twice"):
        compare_bundles([pair[0].folder, pair[0].folder])
    empty = write_bundle(tmp_path / "empty.deploy", tiny_network())
    with pytest.raises(BadRequestError, match="no runs of this network yet"):
        compare_bundles([pair[0].folder, empty.folder])
