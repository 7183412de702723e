"""The examples run, and the agents that ship load, export and play as they say."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mtspark.convert.nir.agent import agent_to_nir
from mtspark.convert.nir.reader import import_tasks
from mtspark.deploy.quantise.network import quantise
from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.play import play
from mtspark.train.checkpoint.agent import load_agent

EXAMPLES = Path(__file__).parents[2] / "examples"
IMAGES = EXAMPLES / "agents" / "images" / "images.pt"
NEEDS = {"lunarlander": "Box2D", "doorkey": "minigrid", "halfcheetah": "mujoco"}
"""Packages without which an agent's environment cannot be made."""
AGENTS = sorted(path for path in EXAMPLES.glob("agents/*/*.pt") if path != IMAGES)
"""Those that play games."""


@pytest.mark.slow
def test_the_program_prints_a_bill() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "deploy_and_play.py", AGENTS[0], "20"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "points in 20 decisions" in done.stdout
    assert "uJ a decision" in done.stdout


@pytest.mark.slow
def test_digits_are_classified_and_priced() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "digits.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    shares, energy = done.stdout.splitlines()
    in_float, on_chip, same = (float(word.strip("%,")) for word in shares.split() if "%" in word)
    assert in_float > 85
    assert on_chip > 85
    assert same > 95
    assert 10 < float(energy.split()[0]) < 10_000
    assert "estimate" in energy


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_use_the_door_alone(path: Path) -> None:
    lines = path.read_text().splitlines()
    imports = [line for line in lines if re.match(r"(import|from) mtspark", line.strip())]
    assert imports == ["import mtspark"]
    if path.stem == "digits":
        assert sum(bool(line.strip()) for line in lines) < 30


@pytest.mark.parametrize("path", AGENTS, ids=lambda path: path.stem)
def test_a_shipped_agent_is_small_and_carries_its_scores(path: Path) -> None:
    assert path.stat().st_size < 5_000_000
    agent = load_agent(path)
    chip = [row for row in agent.evaluations if row["backend"] == "engine"]
    sticky = {0.0, 0.25} if agent.protocol is not None else {0.0}
    assert {row["sticky_action_probability"] for row in chip} == sticky
    for row in chip:
        assert row["episodes"] >= 10
        assert 1 <= row["distinct_episodes"] <= row["episodes"]
        assert row["unfinished_episodes"] == 0
    # Files that it was trained from are named as a reader of the recipe names them.
    config = agent.training["config"]
    names = [*config.get("teachers", ()), config.get("start_from", "")]
    assert not any(Path(name).is_absolute() for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("path", AGENTS, ids=lambda path: path.stem)
def test_a_shipped_agent_plays_the_game_that_it_claims(path: Path) -> None:
    """The first episode of every row without sticky actions comes out again, to the point."""
    agent = load_agent(path)
    if path.stem in NEEDS and find_spec(NEEDS[path.stem]) is None:
        pytest.skip(f"{NEEDS[path.stem]} is not installed")
    network = quantise(import_tasks(agent_to_nir(agent)), agent.tasks, agent.protocol)
    rows = [
        row
        for row in agent.evaluations
        if row["backend"] == "engine" and row["sticky_action_probability"] == 0
    ]
    assert rows
    for row in rows:
        run = play(
            EngineChip(network), network, row["task"], episodes=1, seed=row["seed"], sticky=0.0
        )
        assert run.episodes[0].score == row["returns"][0]
