"""Pictures show names as they are: dollars are no formula, and an underscore hides nothing."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtspark.core.chip_network import INPUT
from mtspark.deploy.chips import load_chip
from mtspark.deploy.mapping import map_network
from mtspark.sim.hil.results import OUTCOMES, save_curve
from mtspark.sim.report.figures.mapping import save_mapping
from tests.support.networks import dense, network, population

FORMULA, HIDDEN = r"a$\frac$b", "_b"


@pytest.fixture(autouse=True)
def no_warnings() -> None:
    warnings.simplefilter("error")


def test_a_mapping_of_layers_with_odd_names_is_drawn(tmp_path: Path) -> None:
    layers = [population(FORMULA, [[5, 5]]), population(HIDDEN, [[5, 5]])]
    weights = np.full((2, 2), 4)
    made = network((2,), layers, [dense(INPUT, FORMULA, weights), dense(FORMULA, HIDDEN, weights)])
    chip = replace(load_chip("loihi1"), name=FORMULA)
    save_mapping(map_network(replace(made, name=FORMULA), chip), chip, tmp_path / "a.svg")
    # Letters are drawn as paths, and matplotlib says of each text what it was.
    text = (tmp_path / "a.svg").read_text()
    assert text.count(FORMULA) >= 3
    assert f"{HIDDEN}: 1" in text


def test_a_sweep_of_a_game_with_an_odd_name_is_drawn(tmp_path: Path) -> None:
    shares = dict.fromkeys(OUTCOMES, 0.2)
    point = {"place": 1.0, "episodes": [{"return": 1.0}], "mean_return": 1.0, "interval_95": None}
    save_curve([{**point, "shares": shares}], "latency", FORMULA, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
