"""Seconds of the recipes of MuJoCo and Meta-World: they start, resume and show what they should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import mtspark
from mtspark.core.environments import chosen_actions, make_games
from mtspark.train.backend import TorchBackend
from mtspark.train.checkpoint import Agent, load_agent
from mtspark.train.config import TrainConfig, override, read_recipe, to_config
from mtspark.train.rl.run import train

pytest.importorskip("stable_baselines3")


def small(name: str, steps: int, *changes: str) -> TrainConfig:
    fields = override(
        read_recipe(name),
        [
            *("rollout_steps=5", "replay.warmup=10", "replay.batch_size=8", f"total_steps={steps}"),
            *("sac.critic_layers=[16]", "network.hidden=16", *changes),
        ],
    )
    made = to_config(fields, name)
    assert isinstance(made, TrainConfig)
    return made


@pytest.mark.slow
def test_half_cheetah_learns_both_ways(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    paths = ("pruning.layers=all", "pruning.method=pathways", "pruning.start=0.0")
    narrow = ("network.dense=[12]", "pruning.every_updates=1")
    train(small("halfcheetah-pair", 60, *paths, *narrow), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert set(lines[-1]["returns"]) == {"forward", "backward"}
    sizes, density = {"dense1": 12 * (17 + 2), "hidden": 16 * 12}, lines[-1]["path_density"]
    there = sum(size * density[f"{layer}.forward"] for layer, size in sizes.items())
    assert there / sum(sizes.values()) == pytest.approx(0.05, abs=0.01)


@pytest.mark.slow
def test_half_cheetah_learns_every_goal_and_plays_one_on_the_chip(tmp_path: Path) -> None:
    """One-hot task and own heads; rewards of the goals are those of the wrappers' tests."""
    pytest.importorskip("mujoco")
    result = train(small("halfcheetah-goals", 240, "replay.capacity=100"), tmp_path / "run")
    goals = read_recipe("halfcheetah-goals")["games"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert set(lines[-1]["returns"]) == set(goals)
    assert {"forward", "backward", "jump", "velocity-2"} <= set(goals)
    agent = load_agent(result.path)
    assert agent.network.config.heads == "task"
    assert {task.environment.found.size for task in agent.tasks if task.environment} == {17 + 8}
    chip = mtspark.export(result.path, task="jump")
    run = chip.play("jump", max_decisions=6, seed=3).run
    wanted = float_actions(agent, "jump", 3, 6)
    found = np.array([np.asarray(action) for action in run.episodes[0].actions])
    # Of its own head, and not of another goal's.
    others = float_actions(agent, "forward", 3, 6)
    assert np.abs(found - wanted).mean() < 0.2 * np.abs(found - others).mean()


def float_actions(agent: Agent, task: str, seed: int, decisions: int) -> NDArray[np.float64]:
    """What the float network does in gymnasium's own loop."""
    known = next(one for one in agent.tasks if one.name == task)
    games = make_games(known, None, 1)
    backend, row = TorchBackend(agent), agent.tasks.index(known)
    frames, taken = games.reset(seed=[seed])[0], []
    for _ in range(decisions):
        actions = chosen_actions(backend.decide(frames, row).values, known)
        taken.append(np.asarray(actions[0], np.float64))
        frames = games.step(actions)[0]
    games.close()
    return np.array(taken)


@pytest.mark.slow
def test_mt10_starts_resumes_and_shows_success(tmp_path: Path) -> None:
    pytest.importorskip("metaworld")
    short = [f"{{id = {name!r}, max_steps = 6}}" for name in read_recipe("mt10")["games"]]
    change = f"environments=[{', '.join(short)}]"
    narrow = (change, "network.dense=[8]")
    train(small("mt10", 100, *narrow), tmp_path / "run")
    result = train(small("mt10", 150, *narrow), tmp_path / "run")
    assert result.started_at == 100
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    names = {name.replace("/", "-") for name in read_recipe("mt10")["games"]}
    assert set(lines[-1]["success"]) == names == set(result.success)
    assert all(0 <= rate <= 1 for rate in result.success.values())
