"""Resets of heads, and cuts of the actor alone: what changes, when, and in which network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mtspark.core.errors import BadRequestError
from mtspark.train.config.games import ReplayConfig, TrainConfig
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


def filling(**changes: Any) -> TrainConfig:
    """A run of ten updates that learns from its third on: 36 decisions a task, 12 at a time."""
    replay = ReplayConfig(capacity=100, warmup=36, batch_size=4, update_every=4, target_every=1)
    fields: dict[str, Any] = {"algorithm": "dqn", "replay": replay, "total_steps": 240, **changes}
    network = replace(SMALL.network, masked_layers=("hidden",) if "pruning" in fields else ())
    return replace(SMALL, **fields, network=network)


def test_nothing_is_cut_or_reset_while_a_replay_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)
    config = filling(
        pruning=PruningConfig(("hidden",), 0.2, start=0.0, end=0.5, every_updates=1),
        plasticity=PlasticityConfig(reset_every=1, reset_most=2, measure_every=1),
    )
    trainer = DqnTrainer(config)
    seen, densities = [], []
    for _ in range(6):
        trainer.update()
        found = trainer.measurements()
        seen.append("reset" in found)
        densities.append(found["density"]["hidden"])
        assert ("plasticity" in found) == (len(seen) > 2)
    assert seen == [False, False, True, True, False, False]
    assert densities[:2] == [1.0, 1.0]
    assert 1 > densities[2] > densities[3] > densities[4] == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("counted", [True, False])
def test_a_resumed_run_resets_no_more_often(monkeypatch: pytest.MonkeyPatch, counted: bool) -> None:
    """Also from a state of a version that told resets by updates."""
    script_games(monkeypatch)
    config = replace(SMALL, plasticity=PlasticityConfig(reset_every=2, reset_most=2))
    first = PqnTrainer(config)
    for _ in range(3):
        first.update()
    state = first.state()
    assert state["resets"] == 1
    if not counted:
        del state["resets"]
    resumed = PqnTrainer(config, resumed=True)
    resumed.restore(state)
    seen = []
    for _ in range(4):
        resumed.update()
        seen.append("reset" in resumed.measurements())
    assert seen == [True, False, False, False]
    assert "resets" not in PqnTrainer(SMALL).state()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"pruning": PruningConfig(("hidden",), end=0.3, every_updates=1)},
            "pruning.end is 0.3 of 240 decisions, and nothing is learned before update 3, after 72",
        ),
        (
            {"pruning": PruningConfig(("hidden",), end=0.4, every_updates=4, method="evolution")},
            "pruning.every_updates is 4: of 10 updates of 24 decisions, none comes",
        ),
        (
            {"plasticity": PlasticityConfig(reset_every=10)},
            "plasticity.reset_every is 10: the run has 10 updates, of which 2 only fill the replay",
        ),
        ({"plasticity": PlasticityConfig(redo_every=11)}, "plasticity.redo_every is 11: the run"),
    ],
)
def test_what_would_come_before_anything_is_learned_or_after_is_refused(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        filling(**changes)


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
