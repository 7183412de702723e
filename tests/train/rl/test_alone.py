"""Mask pretraining: each task finds its path alone, and weights are averaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtspark.core.errors import BadRequestError
from mtspark.train.config import TrainConfig, config_to_json, to_config
from mtspark.train.rl import collect
from mtspark.train.rl.alone import Alone
from mtspark.train.rl.dqn import DqnTrainer
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.rl.run import make_trainer, train
from mtspark.train.rl.schedule import Schedule
from mtspark.train.runs.callbacks import RunCallback
from tests.support.scripted import script_games
from tests.train.sparsity.test_pathways import WALKING, paths_of

DECISIONS = 2 * WALKING.rollout_steps
"""Of an update of one game: two copies."""
ALONE = replace(
    WALKING,
    total_steps=DECISIONS * 12,
    pruning=replace(WALKING.pruning, pretrain_steps=2 * DECISIONS),
)


def test_weights_are_averaged_by_hand() -> None:
    config = replace(ALONE, pruning=replace(ALONE.pruning, pretrain_steps=DECISIONS))
    schedule, module = Schedule(config), nn.Linear(1, 1, bias=False)
    alone, learned = Alone(config, schedule), {"a": module}
    with torch.no_grad():
        module.weight.fill_(5.0)
        alone.begin(learned)
        module.weight.fill_(7.0)
        assert not alone.after_update(DECISIONS - 1, learned)
        assert (module.weight.item(), schedule.active(0)) == (7, (0,))
        assert alone.after_update(1, learned)
        # The second task begins where the first one began.
        assert (module.weight.item(), schedule.active(0)) == (5, (1,))
        module.weight.fill_(-1.0)
        assert alone.after_update(DECISIONS, learned)
    assert (module.weight.item(), schedule.active(0)) == (3, (0, 1))
    assert not alone.after_update(10**6, learned)


def test_tasks_play_alone_find_paths_and_go_on_together(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)
    monkeypatch.setattr(collect, "SEED_LASTS", 0)
    trainer = PqnTrainer(ALONE)
    begun = trainer.network.hidden.synapses.weight.detach().clone()
    ends = []
    for task in (0, 1):
        for _ in range(2):
            assert trainer.active == (task,)
            ends.append(trainer.network.hidden.synapses.weight.detach().clone())
            trainer.update()
        own = paths_of(trainer.network)
        size = own.shape[1]
        assert own[task].sum() == round(0.2 * size)
        assert torch.equal(paths_of(trainer.target), own)
        if task == 0:
            assert own[1].all()
            assert torch.equal(trainer.network.hidden.synapses.weight, begun)
            first = own[0].clone()
    assert torch.equal(ends[2], begun)
    assert torch.equal(own[0], first)
    assert not torch.equal(own[0], own[1])
    assert trainer.active == (0, 1)
    assert not trainer.optimizer.state
    slow = trainer.target.state_dict()
    assert all(torch.equal(slow[name], v) for name, v in trainer.network.state_dict().items())
    # Paths that were found alone are kept; gains are those of sparse layers, once.
    gain = trainer.network.hidden.standardise.gain.detach().clone()
    assert (gain > 1.1).all()
    trainer.update()
    assert torch.equal(paths_of(trainer.network), own)
    assert (trainer.network.hidden.standardise.gain / gain < 1.1).all()


def test_the_target_has_the_gains_of_the_path_that_a_task_found_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_games(monkeypatch)
    trainer = PqnTrainer(ALONE)
    before = trainer.target.hidden.standardise.gain.detach().clone()
    trainer.update()
    gains = [one.hidden.standardise.gain.detach() for one in (trainer.network, trainer.target)]
    assert all((gain / before > 1.5).all() for gain in gains)


def test_replays_are_empty_when_all_begin_to_play(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)
    replay = replace(ALONE.replay, warmup=DECISIONS, capacity=500, batch_size=4, update_every=4)
    trainer = DqnTrainer(replace(ALONE, algorithm="dqn", replay=replay))
    trainer.update()
    assert [len(one) > 0 for one in trainer.replays] == [True, False]
    for _ in range(3):
        trainer.update()
    assert [len(one) for one in trainer.replays] == [0, 0]


class Stop(RunCallback):
    def on_checkpoint(self, run: Any) -> None:
        if run.reached >= 3 * DECISIONS:
            raise InterruptedError


@pytest.mark.slow
def test_a_run_that_stops_in_a_turn_goes_on_as_if_it_had_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    config = replace(ALONE, total_steps=DECISIONS * 10, checkpoint_every_steps=DECISIONS)
    train(config, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(config, tmp_path / "parts", callbacks=(Stop(),))
    train(config, tmp_path / "parts")
    whole, parts = (
        torch.load(tmp_path / name / "resume.pt", weights_only=True)["state"]
        for name in ("whole", "parts")
    )
    torch.testing.assert_close(whole["network"], parts["network"], rtol=0, atol=0)
    assert whole["alone"]["task"] is None


def test_a_critic_is_averaged_too() -> None:
    pytest.importorskip("stable_baselines3")
    recipe = {
        **{"games": ["CartPole-v1", "Acrobot-v1"], "algorithm": "ppo", "bfloat16": False},
        **{"games_per_task": 2, "rollout_steps": 8, "minibatches": 2, "total_steps": 128},
        "pruning": {
            **{"layers": "all", "method": "pathways", "density": 0.3, "every_updates": 1},
            **{"pretrain_steps": 16, "end": 0.9},
        },
        "network": {"hidden": 8, "dendrite_segments": 0, "time_steps": 2},
    }
    config = to_config(recipe, "recipe")
    assert isinstance(config, TrainConfig)
    trainer: Any = make_trainer(config)
    weight = trainer.learner.policy.critic.layers[0].weight
    begun = weight.detach().clone()
    trainer.update()
    assert torch.equal(weight, begun)
    trainer.update()
    assert not torch.equal(weight, begun)
    assert trainer.active == (0, 1)
    trainer.update()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pretrain_steps": -1}, "pretrain_steps is -1"),
        ({"pretrain_steps": 10, "method": "static"}, "tasks find pathways alone"),
        ({"pretrain_steps": 10}, "a path is chosen every 20,480 decisions of a game"),
        ({"pretrain_steps": 700_000}, "paths stay after 0.5 of 2,500,000 decisions"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], problem: str) -> None:
    pruning = {"layers": ["all"], "method": "pathways", **changes}
    with pytest.raises(BadRequestError) as error:
        to_config({"games": ["pong", "breakout"], "pruning": pruning, "network": {}}, "recipe")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_the_field_is_written_only_where_it_is_used() -> None:
    assert "pretrain_steps" not in config_to_json(WALKING)["pruning"]
    assert config_to_json(ALONE)["pruning"]["pretrain_steps"] == 2 * DECISIONS
