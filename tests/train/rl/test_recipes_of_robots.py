"""Seconds of the recipes of MuJoCo and Meta-World: they start, resume and show what they should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
    train(small("halfcheetah-pair", 60, *paths, "pruning.every_updates=1"), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert set(lines[-1]["returns"]) == {"forward", "backward"}
    assert lines[-1]["path_density"]["hidden.forward"] == pytest.approx(0.05, abs=0.01)


@pytest.mark.slow
def test_mt10_starts_resumes_and_shows_success(tmp_path: Path) -> None:
    pytest.importorskip("metaworld")
    short = [f"{{id = {name!r}, max_steps = 6}}" for name in read_recipe("mt10")["games"]]
    change = f"environments=[{', '.join(short)}]"
    train(small("mt10", 100, change), tmp_path / "run")
    result = train(small("mt10", 150, change), tmp_path / "run")
    assert result.started_at == 100
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    names = {name.replace("/", "-") for name in read_recipe("mt10")["games"]}
    assert set(lines[-1]["success"]) == names == set(result.success)
    assert all(0 <= rate <= 1 for rate in result.success.values())
