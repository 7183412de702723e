"""Lambda returns by hand, and what the trainer takes from its games."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint.agent import save_agent
from mtspark.train.config.games import TrainConfig
from mtspark.train.networks.config import ConvSize
from mtspark.train.quantised.integers import TwinOptions
from mtspark.train.quantised.twin import Twin
from mtspark.train.rl import start
from mtspark.train.rl.pqn import PqnTrainer, lambda_returns
from mtspark.train.rl.values import rescale, unscale
from tests.support.scripted import LEGAL, SMALL, script_games

HALF = TrainConfig(discount=0.5, trace=0.5)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)


@pytest.fixture
def trainer(scripted: None) -> PqnTrainer:
    return PqnTrainer(SMALL)


def columns(*games: list[Any]) -> torch.Tensor:
    return torch.tensor(list(zip(*games, strict=True)))


def test_lambda_returns_by_hand() -> None:
    """Games: one that goes on, one that terminates at step 1, one truncated at step 1."""
    rewards = columns([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    values = columns([10.0, 20.0, 30.0], [10.0, 20.0, 30.0], [10.0, 20.0, 30.0])
    terminated = columns([False] * 3, [False, True, False], [False] * 3)
    finished = columns([False] * 3, [False, True, False], [False, True, False])
    returns = lambda_returns(rewards, terminated, finished, values, HALF)
    # Last step: 3 + 0.5 * 30 = 18 in all three.
    goes_on = [1 + 0.5 * (5 + 0.5 * 11.5), 2 + 0.5 * (10 + 9), 18]
    ends = [1 + 0.5 * (5 + 0.5 * 2), 2, 18]
    cut_off = [1 + 0.5 * (5 + 0.5 * 12), 2 + 0.5 * 20, 18]
    torch.testing.assert_close(returns, columns(goes_on, ends, cut_off))


def test_the_last_step_of_a_rollout_may_end_the_game() -> None:
    arguments = columns([4.0]), columns([True]), columns([True]), columns([100.0])
    assert lambda_returns(*arguments, HALF).tolist() == [[4.0]]


@given(st.floats(0, 1), st.floats(0, 1))
def test_lambda_1_sums_rewards_and_lambda_0_looks_one_step_ahead(
    discount: float, seed: float
) -> None:
    generator = torch.Generator().manual_seed(int(seed * 1000))
    rewards, values = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    going_on = torch.zeros(5, 3, dtype=torch.bool)
    far = TrainConfig(discount=discount, trace=1.0)
    summed = values[-1]
    for reward in rewards.flip(0):
        summed = reward + discount * summed
    torch.testing.assert_close(lambda_returns(rewards, going_on, going_on, values, far)[0], summed)
    near = TrainConfig(discount=discount, trace=0.0)
    torch.testing.assert_close(
        lambda_returns(rewards, going_on, going_on, values, near), rewards + discount * values
    )


def test_rescale_by_hand() -> None:
    values = rescale(torch.tensor([0.0, 3.0, -3.0, 99.0]))
    torch.testing.assert_close(values, torch.tensor([0.0, 1.003, -1.003, 9.099]))


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=5))
def test_unscale_undoes_rescale(values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(unscale(rescale(tensor)), tensor, rtol=1e-7, atol=1e-7)


def test_rewards_are_clipped_for_learning_and_returns_are_not(trainer: PqnTrainer) -> None:
    rollout = trainer.roll_out()
    assert set(rollout["rewards"].unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert rollout["rewards"][0].tolist() == [1.0, -1.0, 1.0, -1.0]
    # Copy 0: three steps of 5; copy 1: four steps of -3.
    expected = {"pong": [15.0, -12.0], "breakout": [15.0, -12.0]}
    assert {game.task.name: list(game.returns) for game in trainer.games} == expected
    assert trainer.games.mean_returns() == {"pong": 1.5, "breakout": 1.5}
    assert trainer.games.episodes == 4


def test_a_return_starts_anew_after_the_step_that_resets(trainer: PqnTrainer) -> None:
    trainer.roll_out()
    # Copy 0 of each game: step 4 resets, steps 5 and 6 give 5 each; copy 1: step 6 gives -3.
    for game in trainer.games:
        assert game._running_return.tolist() == [10.0, -3.0]


def test_the_step_that_resets_a_game_is_invalid_and_only_that(trainer: PqnTrainer) -> None:
    rollout = trainer.roll_out()
    copy_0 = [True, True, True, False, True, True]
    copy_1 = [True, True, True, True, False, True]
    assert torch.equal(rollout["valid"], columns(copy_0, copy_1, copy_0, copy_1))
    assert rollout["terminated"].nonzero().tolist() == [[2, 0], [2, 2]]
    assert rollout["finished"].nonzero().tolist() == [[2, 0], [2, 2], [3, 1], [3, 3]]


def test_a_lost_life_ends_the_learned_return_and_not_the_episode(scripted: None) -> None:
    trainer = PqnTrainer(replace(SMALL, life_loss_is_terminal=True))
    rollout = trainer.roll_out()
    assert rollout["terminated"].nonzero().tolist() == [[1, 1], [1, 3], [2, 0], [2, 2]]
    assert [list(game.returns) for game in trainer.games] == [[15.0, -12.0]] * 2


def test_unclipped_rewards_are_scaled_for_each_game(scripted: None) -> None:
    config = replace(SMALL, reward_clipping=False, reward_scales=(2.0, 0.5))
    rewards = PqnTrainer(config).roll_out()["rewards"]
    assert rewards[0].tolist() == [10.0, -6.0, 2.5, -1.5]
    mixed = replace(config, reward_clipping=(True, False), reward_scales=(1.0, 0.5))
    assert PqnTrainer(mixed).roll_out()["rewards"][0].tolist() == [1.0, -1.0, 2.5, -1.5]


def test_prototypes_are_set_from_frames_of_each_game(
    scripted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = {name: torch.zeros(3, 1, 8, 8, dtype=torch.uint8) for name in LEGAL}
    frames["pong"][:, :, :4], frames["breakout"][:, :, 4:] = 200, 90
    monkeypatch.setattr(start, "random_frames", lambda task, *_: frames[task.name])
    network = replace(SMALL.network, context="prototype", context_size=2)
    trainer = PqnTrainer(replace(SMALL, network=network))
    for made in (trainer.network, trainer.target, trainer.agent().network):
        assert made.context().tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_head_needs_an_output_for_every_action(scripted: None) -> None:
    with pytest.raises(BadRequestError, match=r"network.actions is 5, breakout needs 6"):
        PqnTrainer(replace(SMALL, network=replace(SMALL.network, actions=5)))


def test_quantisation_aware_runs_act_and_learn_on_the_integers(
    scripted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SMALL, quantisation_aware=True, weight_bits=4)
    trainer = PqnTrainer(config)
    frames, task = trainer.observe(), trainer.task_of_copy()
    twin = Twin(trainer.network, TwinOptions(weight_bits=4))
    values = trainer.values(trainer.network, frames, task)
    legal = trainer.values.mask[task]
    assert torch.equal(values[legal], twin(frames, task).float()[legal])
    with torch.no_grad():
        plain = trainer.network(frames, task)
    assert not torch.allclose(values[legal], plain[legal])
    before = copy.deepcopy(trainer.network.state_dict())
    found = []
    plain_integers = Twin.integers
    monkeypatch.setattr(Twin, "integers", lambda self: [found.append(1), plain_integers(self)][1])
    trainer.update()
    # Once for the rollout, once for the targets, and in each of the gradient steps.
    assert len(found) == 2 + config.epochs * config.minibatches
    after = trainer.network.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_run_starts_from_the_weights_of_an_agent(scripted: None, tmp_path: Path) -> None:
    first = PqnTrainer(SMALL)
    path = tmp_path / "agent.pt"
    save_agent(first.agent(), path)
    second = PqnTrainer(replace(SMALL, seed=9, start_from=str(path)))
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name])
    steps = SMALL.network.time_steps + 1
    longer = replace(SMALL, start_from=str(path), network=replace(SMALL.network, time_steps=steps))
    third = PqnTrainer(longer)
    assert third.network.config.time_steps == steps
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, third.network.state_dict()[name])
    other = replace(SMALL, start_from=str(path), network=replace(SMALL.network, hidden=6))
    with pytest.raises(BadRequestError, match=r"set in \[network\]: hidden = 5$"):
        PqnTrainer(other)
    deeper = replace(SMALL.network, convolutions=(ConvSize(2, 4, 4),), dense=(3,), heads="task")
    own = r"convolutions = \[{ channels = 2, kernel = 4, stride = 2 }\], "
    with pytest.raises(BadRequestError, match=own + r'dense = \[\], heads = "shared"$'):
        PqnTrainer(replace(SMALL, start_from=str(path), network=deeper))
    swapped = replace(SMALL, start_from=str(path), games=("breakout", "pong"))
    with pytest.raises(BadRequestError, match="order pong, breakout, this run breakout, pong"):
        PqnTrainer(swapped)


def test_invalid_steps_teach_nothing(trainer: PqnTrainer) -> None:
    rollout = trainer.roll_out()
    targets = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    other = targets.clone()
    other[~rollout["valid"]] = 1e3
    twin = copy.deepcopy(trainer)
    loss = trainer.learn(rollout, targets)
    assert twin.learn(rollout, other) == loss
    for one, two in zip(trainer.network.parameters(), twin.network.parameters(), strict=True):
        assert torch.equal(one, two)
    other[rollout["valid"]] += 1
    assert trainer.learn(rollout, targets) != twin.learn(rollout, other)


@pytest.mark.parametrize("steps", [0, 1000])
def test_only_legal_actions_are_played(trainer: PqnTrainer, steps: int) -> None:
    trainer.progress.steps = steps
    assert trainer.epsilon == (1.0 if steps == 0 else SMALL.final_exploration)
    for _ in range(3):
        trainer.roll_out()
    for game in trainer.games:
        played = set(np.concatenate(game._games.actions).tolist())  # type: ignore[attr-defined]
        assert played <= set(LEGAL[game.task.name])
        assert steps or len(played) > 1


def test_exploration_falls_linearly_to_its_floor(trainer: PqnTrainer) -> None:
    half = SMALL.total_steps * SMALL.exploration_fraction / 2
    trainer.progress.steps = int(half)
    assert trainer.epsilon == pytest.approx((1 + SMALL.final_exploration) / 2)


def rates(trainer: PqnTrainer) -> NDArray[np.float64]:
    return trainer.exploration.rates(trainer.progress.steps)


def test_a_ladder_spreads_exploration_over_the_copies_of_its_game(scripted: None) -> None:
    trainer = PqnTrainer(replace(SMALL, exploration_ladder=(0.0, 0.2)))
    assert rates(trainer).tolist() == [1.0] * 4
    trainer.progress.steps = 1000
    assert rates(trainer) == pytest.approx([0.01, 0.01, 0.2, 0.002])
    # Half way down, epsilon is larger than the lower rungs.
    trainer.progress.steps = int(SMALL.total_steps * SMALL.exploration_fraction * 0.9)
    now = trainer.epsilon
    assert rates(trainer) == pytest.approx([now, now, 0.2, now])


def test_the_target_network_follows_slowly(trainer: PqnTrainer) -> None:
    before = [value.clone() for value in trainer.target.parameters()]
    trainer.update()
    triples = zip(before, trainer.target.parameters(), trainer.network.parameters(), strict=True)
    for old, new, online in triples:
        torch.testing.assert_close(new, 0.8 * old + 0.2 * online)
    assert any(
        not torch.equal(old, online)
        for old, online in zip(before, trainer.network.parameters(), strict=True)
    )


def test_the_online_network_picks_and_the_target_network_values(trainer: PqnTrainer) -> None:
    rollout = trainer.roll_out()
    with torch.no_grad():
        for value in trainer.target.parameters():
            value.add_(torch.randn_like(value))
        picked = trainer.values(trainer.network, rollout["next_frames"][0], trainer.task_of_copy())
        assert torch.equal(picked.argmax(1), rollout["next_greedy"][0])
        targets = trainer.targets(rollout)
        values = torch.stack(
            [
                trainer.values(trainer.target, frames, trainer.task_of_copy())[range(4), best]
                for frames, best in zip(rollout["next_frames"], rollout["next_greedy"], strict=True)
            ]
        )
    expected = lambda_returns(
        rollout["rewards"], rollout["terminated"], rollout["finished"], values, SMALL
    )
    torch.testing.assert_close(targets, expected)
