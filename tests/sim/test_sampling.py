"""Actions that are drawn, on request and with a seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import mtspark
from mtspark.cli.main import app
from mtspark.core.environments import (
    Environment,
    Sampling,
    Task,
    check_sampling,
    drawn_actions,
    sampling_of,
    world_task,
)
from mtspark.core.errors import BadRequestError
from mtspark.deploy.bundle import load_bundle
from mtspark.sim.engine import EngineChip
from mtspark.sim.play import play
from mtspark.sim.results import latest_runs

AGENT = Path(__file__).parents[2] / "examples" / "agents" / "cartpole" / "cartpole.pt"


def test_actions_are_drawn_with_the_softmax_of_their_values() -> None:
    task, rows = Task("some", "some", (0, 2, 3)), 3_000
    values = np.tile([1.0, 50.0, 2.0, 3.0], (rows, 1))
    sampling = Sampling(4, temperature=2.0)
    generators = [sampling.generator(seed) for seed in range(rows)]
    drawn = drawn_actions(values, task, sampling, generators)
    expected = np.exp(np.array([1.0, 2.0, 3.0]) / 2)
    shares = [(drawn == action).mean() for action in (0, 2, 3)]
    assert np.allclose(shares, expected / expected.sum(), atol=0.03)
    masks = np.tile([True, False, True], (rows, 1))
    drawn = drawn_actions(values, task, sampling, generators, masks)
    expected = np.exp(np.array([1.0, 3.0]) / 2)
    assert set(drawn.tolist()) == {0, 3}
    assert abs((drawn == 3).mean() - expected[1] / expected.sum()) < 0.03


def test_numbers_are_drawn_around_their_values_before_the_tanh() -> None:
    task = world_task(Environment("Pendulum-v1"))
    assert task.environment is not None
    assert task.environment.box is not None
    with pytest.raises(BadRequestError, match="does not say by which deviation"):
        check_sampling(task, Sampling(0))
    box = replace(task.environment.box, deviation=(0.3,))
    task = replace(task, environment=replace(task.environment, box=box))
    sampling = Sampling(1)
    generators = [sampling.generator(seed) for seed in range(3_000)]
    drawn = drawn_actions(np.full((3_000, 1), 0.2), task, sampling, generators)
    before = np.arctanh(drawn[:, 0].astype(np.float64) / 2)
    assert abs(before.mean() - 0.2) < 0.02
    assert abs(before.std() - 0.3) < 0.02


@pytest.mark.slow
def test_an_episode_follows_from_its_seed_and_that_of_the_drawing() -> None:
    network = mtspark.export(AGENT).network
    options = {"episodes": 3, "seed": 2, "max_decisions": 40}
    chip = EngineChip(network)
    first = play(chip, network, "CartPole-v1", **options, sampling=Sampling(7, 3.0))
    alone = play(
        *(chip, network, "CartPole-v1"), **options, one_at_a_time=True, sampling=Sampling(7, 3.0)
    )
    assert first.episodes == alone.episodes
    other = play(chip, network, "CartPole-v1", **options, sampling=Sampling(8, 3.0))
    best = play(chip, network, "CartPole-v1", **options)
    cold = play(chip, network, "CartPole-v1", **options, sampling=Sampling(7, 1e-6))
    assert first.episodes != other.episodes
    assert cold.episodes == best.episodes != first.episodes


@pytest.mark.slow
def test_a_stored_run_says_that_its_actions_were_drawn(tmp_path: Path) -> None:
    chip = mtspark.export(AGENT)
    chip.save(tmp_path / "cart.deploy")
    chip = mtspark.load_bundle(tmp_path / "cart.deploy")
    drawn = chip.play("CartPole-v1", max_decisions=20, sample=3, temperature=5.0)
    assert drawn.to_json()["sampling"] == {"seed": 3, "temperature": 5.0}
    assert "sampling" not in chip.play("CartPole-v1", max_decisions=20).to_json()
    # A page shows what the agent does by itself.
    runs, _ = latest_runs(load_bundle(tmp_path / "cart.deploy"))
    assert [run.get("sampling") for run in runs] == [None]
    done = CliRunner().invoke(
        app,
        ["run", str(tmp_path / "cart.deploy"), "--max-decisions", "5", "--sample", "3"],
    )
    assert "actions were drawn: seed 3, temperature 1" in done.output


def test_numbers_that_cannot_be_are_named() -> None:
    with pytest.raises(BadRequestError, match="sample -1: must be 0 to"):
        Sampling(-1)
    with pytest.raises(BadRequestError, match=r"temperature 0\.0: must be"):
        Sampling(1, 0.0)
    with pytest.raises(BadRequestError, match="give sample, too"):
        sampling_of(None, 2.0)


@pytest.mark.parametrize(
    ("seed", "temperature", "text"),
    [
        (3.5, 1.0, r"sample 3\.5: must be a whole number"),
        ("3", 1.0, "sample '3': must be a whole number"),
        (True, 1.0, "sample True: must be a whole number"),
        (1, "hot", "temperature 'hot': must be a number"),
    ],
)
def test_what_is_no_number_is_named(seed: Any, temperature: Any, text: str) -> None:
    with pytest.raises(BadRequestError, match=text):
        sampling_of(seed, temperature)


def test_numbers_of_numpy_become_plain() -> None:
    given: tuple[Any, Any] = (np.int64(3), np.float32(0.5))
    drawn = Sampling(*given)
    assert (type(drawn.seed), type(drawn.temperature)) == (int, float)
    assert drawn == Sampling(3, 0.5)
