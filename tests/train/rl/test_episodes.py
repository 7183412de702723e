"""What is learned does not depend on when a run was saved or stopped; returns are whole games'."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtspark.core.environments.atari import make_games, task_for_game
from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.train.checkpoint.agent import load_agent
from mtspark.train.config.games import ReplayConfig, TrainConfig
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.rl import collect
from mtspark.train.rl.collect import TaskGames
from mtspark.train.rl.run import train
from mtspark.train.rl.trainer import Trainer
from tests.support.scripted import script_games

# A game is cut off after 10 decisions at most, so a run of 12 updates sees many of them. Without
# NOOPs at its start and with sticky actions, each would otherwise take a course of its own.
PROTOCOL = GameProtocol(
    frame_stack=2, screen_size=20, max_frames_per_episode=50, sticky_action_probability=0.25
)
ONE_GAME = TrainConfig(
    games=("breakout",),
    total_steps=96,
    games_per_task=(2,),
    rollout_steps=4,
    minibatches=2,
    learning_rate=0.01,
    checkpoint_every_steps=10_000,
    bfloat16=False,
    protocol=PROTOCOL,
    network=NetworkConfig((2, 20, 20), (ConvSize(3, 5, 3),), hidden=16, threshold=0.3),
)
DQN = replace(
    ONE_GAME,
    algorithm="dqn",
    replay=ReplayConfig(capacity=64, warmup=16, batch_size=4, update_every=4, target_every=3),
)
TWO_GAMES = replace(
    ONE_GAME, games=("breakout", "pong"), network=replace(ONE_GAME.network, tasks=2)
)
KINDS: dict[str, TrainConfig] = {
    "pqn": ONE_GAME,
    "dqn": DQN,
    "delay": replace(ONE_GAME, protocol=replace(PROTOCOL, decision_delay=1)),
    "dqn delay": replace(DQN, protocol=replace(PROTOCOL, decision_delay=1)),
    "not sticky": replace(ONE_GAME, protocol=replace(PROTOCOL, sticky_action_probability=0.0)),
    "interleaved": TWO_GAMES,
    "interval": replace(TWO_GAMES, schedule="interval", switch_every_steps=24),
    "sequential": replace(TWO_GAMES, schedule="sequential"),
    "dqn interval": replace(
        TWO_GAMES,
        algorithm="dqn",
        replay=replace(DQN.replay, warmup=8),
        schedule="interval",
        switch_every_steps=24,
    ),
}


def kinds(quick: str) -> list[Any]:
    """All kinds of runs, of which only one is quick enough for the default tests."""
    return [kind if kind == quick else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]


@pytest.fixture(autouse=True)
def short_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some episodes start with a seed of their own, others go on from the one before."""
    monkeypatch.setattr(collect, "SEED_LASTS", 15)


class PowerCut(Exception):
    """Stops a run where a person, or the power, might."""


def learned(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Weights and log of a run, without its speed."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in lines:
        del line["steps_per_s"]
    return load_agent(folder / "agent.pt").network.state_dict(), lines


def assert_same(first: Path, second: Path) -> None:
    weights, log = learned(first)
    other_weights, other_log = learned(second)
    assert log == other_log
    assert all(torch.equal(value, other_weights[name]) for name, value in weights.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs that nothing stopped and that saved only at their end, as they are asked."""
    return {"": tmp_path_factory.mktemp("whole")}


def uninterrupted(whole: dict[str, Path], kind: str) -> Path:
    if kind not in whole:
        whole[kind] = whole[""] / kind.replace(" ", "-")
        train(KINDS[kind], whole[kind])
    return whole[kind]


@pytest.mark.parametrize("kind", kinds("pqn"))
def test_frequent_checkpoints_change_nothing(
    kind: str, whole: dict[str, Path], tmp_path: Path
) -> None:
    expected = uninterrupted(whole, kind)
    train(replace(KINDS[kind], checkpoint_every_steps=8), tmp_path)
    assert_same(tmp_path, expected)
    # Otherwise nothing was tried: games ended, and were still running at checkpoints.
    assert learned(expected)[1][-1]["episodes"] >= 4


@pytest.mark.parametrize("kind", kinds("dqn delay"))
def test_a_run_that_is_killed_again_and_again_equals_one_that_is_not(
    kind: str, whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = uninterrupted(whole, kind)
    config = replace(KINDS[kind], checkpoint_every_steps=16)
    for after in (2, 4):
        with monkeypatch.context() as patch:
            plain = Trainer.set_learning_rate

            def cut(self: Trainer, after: int = after, plain: Any = plain) -> None:
                if self.progress.updates == after:
                    raise PowerCut
                plain(self)

            patch.setattr(Trainer, "set_learning_rate", cut)
            with pytest.raises(PowerCut):
                train(config, tmp_path)
    train(config, tmp_path)
    assert_same(tmp_path, expected)


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.slow
def test_play_is_a_function_of_a_seed_and_the_actions_since(
    delay: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane's later episodes, played alone by the environment itself from the noted seed."""
    monkeypatch.setattr(collect, "SEED_LASTS", 30)
    task = task_for_game("breakout")
    protocol = replace(PROTOCOL, max_frames_per_episode=100, decision_delay=delay)
    games = TaskGames(task, protocol, 3, 1, seed=5)
    games.start()
    generator = np.random.default_rng(0)
    firsts = later = 0
    for _ in range(100):
        seeds, actions = games._seeds.copy(), [bytes(played) for played in games._actions]
        done = games._was_done.copy()
        shown = games.frames.numpy().copy()
        for copy in np.flatnonzero(done):
            alone = make_games(task, protocol, 1)
            frames, _ = alone.reset(seed=seeds[[copy]])
            ends = 0
            for action in actions[copy]:
                frames, _, ended, cut, _ = alone.step(np.array([action], dtype=np.int64))
                ends += int(ended[0] | cut[0])
            assert bool(ended[0] | cut[0])
            assert np.array_equal(frames[0], shown[copy])
            firsts += ends == 1
            later += ends > 1
        games.send(generator.choice(task.legal_actions, size=3))
        games.receive(life_loss_is_terminal=False)
    assert firsts >= 3
    assert later >= 3
    assert len(set(seeds.tolist())) == 3


@pytest.mark.parametrize(
    ("mode", "several"), [(None, False), pytest.param(0, True, marks=pytest.mark.slow)]
)
def test_a_seed_lasts_for_many_decisions(
    mode: int | None, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frame by frame, the next start depends on the other copies: each has a seed of its own."""
    monkeypatch.setattr(collect, "SEED_LASTS", 1000)
    protocol = replace(PROTOCOL, max_frames_per_episode=20, mode=mode)
    games = TaskGames(task_for_game("breakout"), protocol, 1, 1, seed=5)
    games.start()
    for _ in range(42):
        games.send(np.zeros(1, dtype=np.int64))
        games.receive(life_loss_is_terminal=False)
    assert games.episodes >= 7
    assert (games._begun[0] > 1) == several


def test_a_copy_whose_game_ends_starts_alone_and_from_a_seed_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two scripted copies the first ends at its third step, the second at its fourth."""
    script_games(monkeypatch)
    monkeypatch.setattr(collect, "SEED_LASTS", 1)
    games = TaskGames(Task("pong", "pong", (0, 3)), PROTOCOL, 2, 1, seed=5)
    games.start()
    played: Any = games._games
    ages, seeds = [], [played.seeds.tolist()]
    for _ in range(6):
        games.send(np.zeros(2, dtype=np.int64))
        games.receive(life_loss_is_terminal=False)
        ages.append(played.age.tolist())
        seeds.append(played.seeds.tolist())
    assert ages == [[1, 1], [2, 2], [3, 3], [0, 4], [1, 0], [2, 1]]
    first, second = zip(*seeds, strict=True)
    assert first == (first[0],) * 4 + (first[-1],) * 3
    assert second == (second[0],) * 5 + (second[-1],) * 2
    assert len({*first, *second}) == 4


def test_running_games_of_unequal_age_are_played_again_to_the_same_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The scripted copies are 2 and 1 decisions into their second games after six steps."""
    script_games(monkeypatch)
    monkeypatch.setattr(collect, "SEED_LASTS", 1)

    def made() -> TaskGames:
        return TaskGames(Task("pong", "pong", (0, 3)), PROTOCOL, 2, 1, seed=5)

    games, again = made(), made()
    games.start()
    for step in range(6):
        games.send(np.array([0, 3]) if step % 2 else np.array([3, 0]))
        games.receive(life_loss_is_terminal=False)
    state = games.state()
    assert state["lengths"].tolist() == [2, 1]
    assert again.replay(state, lambda _: None)
    assert torch.equal(again.frames, games.frames)
    assert {name: str(value) for name, value in again.state().items()} == {
        name: str(value) for name, value in state.items()
    }
    # The second copy waits for a step in which only the first one plays.
    sent: Any = again._games
    assert [actions.tolist()[0] for actions in sent.actions] == [3, 0]
    assert sent.actions[-1].tolist() == [0, 3]


@pytest.mark.slow
def test_a_checkpoint_without_running_games_restarts_them(tmp_path: Path) -> None:
    train(replace(ONE_GAME, total_steps=48), tmp_path)
    content = torch.load(tmp_path / "resume.pt", weights_only=True)
    for name in ("running", "generator", "torch_generator"):
        del content["state"][name]
    content["config"]["total_steps"] = 96
    torch.save(content, tmp_path / "resume.pt")
    result = train(ONE_GAME, tmp_path)
    assert result.steps == 96
    assert any("no running games" in note for note in result.notes)


@pytest.mark.slow
def test_games_that_take_another_course_start_afresh_and_it_is_said(tmp_path: Path) -> None:
    train(replace(ONE_GAME, total_steps=48), tmp_path)
    content = torch.load(tmp_path / "resume.pt", weights_only=True)
    content["state"]["running"][0]["checksum"] ^= 1
    content["config"]["total_steps"] = 96
    torch.save(content, tmp_path / "resume.pt")
    result = train(ONE_GAME, tmp_path)
    assert result.steps == 96
    assert any(note.startswith("breakout: the running games took") for note in result.notes)


@pytest.mark.parametrize("field", ["life_loss_is_terminal", "life_loss_ends_episode"])
@pytest.mark.slow
def test_a_return_is_a_whole_games_whatever_is_learned(field: str) -> None:
    """Against ALE's own games: five lives of Breakout, not the first."""
    task = task_for_game("breakout")
    whole = GameProtocol(screen_size=20, max_frames_per_episode=4_000)
    ends_episode = field == "life_loss_ends_episode"
    games = TaskGames(task, replace(whole, life_loss_ends_episode=ends_episode), 2, 1, seed=1)
    games.start(np.array([11, 12]))
    alone = make_games(task, whole, 2)
    alone.reset(seed=np.array([11, 12]))
    generator = np.random.default_rng(3)
    returns: list[float] = []
    running, over, lost = np.zeros(2), np.zeros(2, dtype=bool), 0
    while not over.all():
        actions = generator.choice(task.legal_actions, size=2)
        _, rewards, ended, cut, _ = alone.step(actions)
        games.send(actions)
        step = games.receive(life_loss_is_terminal=not ends_episode)
        lost += int(step.terminal[~over].sum())
        running += np.where(over, 0, rewards)
        for copy in np.flatnonzero((ended | cut) & ~over):
            returns.append(float(running[copy]))
        over |= ended | cut
    assert list(games.returns)[:2] == returns
    # Five lives of each game ended what is learned.
    assert lost == 10
    assert max(returns) > 0
