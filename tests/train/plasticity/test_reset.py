"""Resets of heads, and cuts of the actor alone: what changes, when, and in which network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mtspark.core.errors import BadRequestError
from mtspark.train.config.games import ReplayConfig
from mtspark.train.config.plasticity import PlasticityConfig
from mtspark.train.config.pruning import PruningConfig
from mtspark.train.config.recipe import to_config
from mtspark.train.config.stored import config_to_json
from mtspark.train.networks.network import HEAD_SPREAD
from mtspark.train.plasticity.renewal import reset_heads
from mtspark.train.rl.dqn import DqnTrainer
from mtspark.train.rl.pqn import PqnTrainer
from tests.support.scripted import SMALL, script_games


def test_new_heads_forget_what_was_learned_and_layers_before_them_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_games(monkeypatch)
    trainer = PqnTrainer(SMALL)
    trainer.update()
    network, target, optimizer = trainer.network, trainer.target, trainer.optimizer
    before = {name: value.detach().clone() for name, value in network.state_dict().items()}
    assert optimizer.state[network.advantage.weight]["exp_avg"].any()
    reset_heads(network, target, optimizer)
    for name, value in network.state_dict().items():
        if name.startswith(("advantage", "value")):
            assert torch.equal(target.state_dict()[name], value)
            assert (
                (not value.any()) if name.endswith("bias") else not torch.equal(before[name], value)
            )
        else:
            assert torch.equal(before[name], value)
    assert not optimizer.state[network.advantage.weight]["exp_avg"].any()
    assert optimizer.state[network.hidden.synapses.weight]["exp_avg"].any()
    assert float(network.advantage.weight.detach().std()) == pytest.approx(HEAD_SPREAD, rel=0.6)


def test_heads_are_reset_when_due_and_no_more_often_than_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_games(monkeypatch)
    trainer = PqnTrainer(replace(SMALL, plasticity=PlasticityConfig(reset_every=2, reset_most=2)))
    seen = []
    for _ in range(7):
        trainer.update()
        seen.append("reset" in trainer.measurements())
    assert seen == [False, True, False, True, False, False, False]


def test_cuts_of_the_actor_leave_its_target_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)
    pruning = PruningConfig(("hidden",), 0.2, start=0.0, end=0.1, every_updates=1, scope="actor")
    masked = replace(
        SMALL,
        pruning=pruning,
        total_steps=48,
        network=replace(SMALL.network, masked_layers=("hidden",)),
    )
    replay = ReplayConfig(capacity=100, warmup=8, batch_size=4, update_every=4, target_every=1)
    for trainer in (
        PqnTrainer(masked),
        DqnTrainer(replace(masked, algorithm="dqn", replay=replay)),
    ):
        trainer.update()
        trainer.update()
        actor, critic = trainer.network.hidden.mask, trainer.target.hidden.mask
        assert actor is not None
        assert critic is not None
        assert float(actor.float().mean()) == pytest.approx(0.2, abs=0.02)
        assert critic.all()


def test_what_cannot_be_is_refused_and_defaults_are_not_written() -> None:
    with pytest.raises(BadRequestError, match="only magnitude"):
        to_config(
            {"pruning": {"layers": ["all"], "method": "static", "scope": "actor"}, "network": {}},
            "recipe",
        )
    with pytest.raises(BadRequestError, match="scope"):
        to_config({"pruning": {"scope": "critic"}}, "recipe")
    with pytest.raises(BadRequestError, match="reset_every"):
        to_config({"plasticity": {"reset_every": -1}}, "recipe")
    written = config_to_json(replace(SMALL, plasticity=PlasticityConfig(measure_every=3)))
    assert not {"reset_every", "reset_most"} & set(written["plasticity"])
    assert "scope" not in written["pruning"]
