from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mtspark.core.backend import Activity, Decision, Moment
from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.environments.protocol import GameProtocol
from mtspark.core.errors import BadRequestError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.play import play
from mtspark.workflows.evaluate.rows import GameRow, Question, game_row
from tests.support.engine_checks import assert_same
from tests.support.networks import PONG, dense, network, population


class Scripted:
    """Chooses actions from the frames alone: a backend without a network."""

    name = "scripted"

    def __init__(self, favourite: int) -> None:
        self.favourite = favourite

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        values = np.zeros((len(frames), 18))
        values[:, self.favourite] = 1
        # An illegal action with the best value must never be played.
        values[:, 17] = 5
        ones = {"input": np.ones((len(frames), 4, 84, 84), np.int64)}
        return Decision(values, Activity(ones, {"input": np.zeros_like(ones["input"])}))

    def start(self, batch: int) -> None: ...

    def keep(self, members: NDArray[np.int64]) -> None: ...

    def close(self) -> None: ...


class Alternating(Scripted):
    """Right, left, right, left: what sticky actions garble most."""

    def __init__(self) -> None:
        super().__init__(4)

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        self.favourite = 7 - self.favourite
        return super().decide(frames, task, trace=trace)


@pytest.fixture(scope="module")
def pong() -> ChipNetwork:
    weights = np.zeros((18, 4 * 84 * 84), np.int64)
    net = network(
        (4, 84, 84),
        [population("out", np.full((1, 18), 131071))],
        [dense("input", "out", weights)],
        payload_bits=8,
        tasks=(PONG,),
    )
    return replace(net, protocol=replace(net.protocol, max_frames_per_episode=4000))


@pytest.mark.slow
def test_every_episode_is_one_game_of_its_own_seed(pong: ChipNetwork) -> None:
    together = play(Scripted(3), pong, "pong", episodes=3, seed=5)
    one_by_one = play(Scripted(3), pong, "pong", episodes=3, seed=5, one_at_a_time=True)
    alone = play(Scripted(3), pong, "pong", episodes=1, seed=6)
    assert together.episodes == one_by_one.episodes
    assert together.episodes[1] == alone.episodes[0]
    assert [episode.seed for episode in together.episodes] == [5, 6, 7]
    assert together.counts.decisions == sum(e.decisions for e in together.episodes)
    assert together.counts.decisions == one_by_one.counts.decisions


def test_a_lost_game_of_pong_is_minus_21(pong: ChipNetwork) -> None:
    run = play(Scripted(0), pong, "pong", episodes=1, seed=0)
    assert run.episodes[0].finished
    assert run.episodes[0].score == -21


def test_only_legal_actions_are_played_and_rewards_add_up(pong: ChipNetwork) -> None:
    seen: list[Moment] = []
    run = play(Scripted(4), pong, "pong", episodes=2, seed=1, observe=seen.append)
    assert {int(action) for moment in seen for action in moment.actions} == {4}
    for game, episode in enumerate(run.episodes):
        rewards = [moment.rewards[moment.episodes == game] for moment in seen]
        assert np.concatenate(rewards).sum() == episode.score
        assert len(np.concatenate(rewards)) == episode.decisions


def test_a_limit_cuts_every_episode_off(pong: ChipNetwork) -> None:
    run = play(Scripted(0), pong, "pong", episodes=2, seed=0, max_decisions=7)
    assert [(e.decisions, e.finished) for e in run.episodes] == [(7, False), (7, False)]
    assert run.counts.decisions == 14


def test_equal_games_are_one_distinct_episode(pong: ChipNetwork) -> None:
    run = play(Scripted(0), pong, "pong", episodes=4, seed=0, max_decisions=3)
    assert run.distinct_episodes == 1


@pytest.mark.slow
def test_sticky_actions_change_the_game_and_can_be_repeated(pong: ChipNetwork) -> None:
    request = {"episodes": 2, "seed": 3, "max_decisions": 150}
    plain = play(Alternating(), pong, "pong", **request)
    sticky = play(Alternating(), pong, "pong", sticky=0.9, **request)
    again = play(Alternating(), pong, "pong", sticky=0.9, **request)
    assert sticky.episodes == again.episodes
    seen: list[list[bytes]] = []
    for probability in (0.0, 0.9):
        frames: list[bytes] = []
        play(
            Alternating(),
            pong,
            "pong",
            sticky=probability,
            observe=lambda moment, frames=frames: frames.append(moment.frames[0].tobytes()),
            **request,
        )
        seen.append(frames)
    assert seen[0] != seen[1]
    assert plain.episodes[0].actions == sticky.episodes[0].actions == (3, 4) * 75


class TwoShortGames:
    """Every step gives each game a point; game 0 ends after 2 steps, game 1 after 4."""

    num_envs = 2

    def __init__(self) -> None:
        self.steps = 0

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, object]]:
        return np.zeros((2, 1), np.uint8), {}

    def step(self, actions: np.ndarray) -> tuple[object, ...]:
        self.steps += 1
        ended = np.array([self.steps == 2, False])
        cut = np.array([False, self.steps == 4])
        return np.zeros((2, 1), np.uint8), np.ones(2), ended, cut, {}

    def close(self) -> None: ...


def test_points_after_the_end_of_an_episode_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    import mtspark.sim.play as module

    monkeypatch.setattr(module, "make_games", lambda *_: TwoShortGames())
    weights = np.zeros((18, 1), int)
    net = network((1,), [population("out", [[131071] * 18])], [dense("input", "out", weights)])
    seen: list[list[int]] = []
    run = play(
        ReferenceChip(net),
        net,
        "pong",
        episodes=2,
        seed=0,
        observe=lambda moment: seen.append(moment.episodes.tolist()),
    )
    assert seen == [[0, 1], [0, 1], [1], [1]]
    assert [(e.score, e.decisions, e.finished, e.truncated) for e in run.episodes] == [
        (2, 2, True, False),
        (4, 4, True, True),
    ]
    # A game that ended by its rules is written as before there was a word for the others.
    ends = [(e.to_json()["finished"], e.to_json().get("truncated")) for e in run.episodes]
    assert ends == [(True, None), (True, True)]
    row = game_row(run.episodes, "reference", Question("pong", 0.0, 0, 2), "a" * 64)
    assert (row.unfinished_episodes, row.truncated_episodes) == (0, 1)
    assert GameRow.from_json(row.to_json()) == row
    old = {name: value for name, value in row.to_json().items() if name != "truncated_episodes"}
    assert GameRow.from_json(old).truncated_episodes == 0
    assert run.counts.decisions == 6
    assert [len(e.actions) for e in run.episodes] == [2, 4]


def lively() -> ChipNetwork:
    """Layers that fire on their bias, also before their own window begins."""
    hidden, second = (
        population(name, [[6] * 5], bias_mantissa=np.arange(5) * 70, membrane_decay=1024)
        for name in ("hidden", "second")
    )
    out = population("out", [[131071] * 18])
    fan = np.array([2, -2, 2, 2, -2])
    return network(
        (1,),
        [hidden, second, out],
        [
            dense("input", "hidden", [[2]] * 5),
            dense("hidden", "second", np.tile(fan, (5, 1)), delay=2),
            dense("second", "out", np.tile(fan, (18, 1))),
        ],
    )


@pytest.mark.parametrize("chip", [ReferenceChip, EngineChip])
def test_games_side_by_side_count_as_games_one_by_one(
    monkeypatch: pytest.MonkeyPatch, chip: type[ReferenceChip] | type[EngineChip]
) -> None:
    """Also where a chip has decided before, and where another game ends earlier."""
    import mtspark.sim.play as module

    class Alone(TwoShortGames):
        num_envs = 1
        ends = iter([2, 4])

        def reset(self, seed: int) -> tuple[np.ndarray, dict[str, object]]:
            self.end = next(self.ends)
            return np.zeros((1, 1), np.uint8), {}

        def step(self, actions: np.ndarray) -> tuple[object, ...]:
            self.steps += 1
            over = np.array([self.steps == self.end])
            rules = over & (self.end == 2)
            return np.zeros((1, 1), np.uint8), np.ones(1), rules, over & ~rules, {}

    net = lively()
    used = chip(net)
    used.decide(np.ones((2, 1), np.uint8), 0)
    monkeypatch.setattr(module, "make_games", lambda *_: TwoShortGames())
    together = play(used, net, "pong", episodes=2, seed=0)
    monkeypatch.setattr(module, "make_games", lambda *_: Alone())
    alone = play(chip(net), net, "pong", episodes=2, seed=0, one_at_a_time=True)
    assert [e.decisions for e in alone.episodes] == [2, 4]
    assert together == alone
    assert alone.counts.layers[1].synops_structural.total > 0


@pytest.mark.parametrize("chip", [ReferenceChip, EngineChip])
def test_chips_that_are_kept_go_on_where_they_were(
    chip: type[ReferenceChip] | type[EngineChip],
) -> None:
    net = lively()
    frames = np.array([[0], [1], [1]], np.uint8)
    three, two = chip(net), chip(net)
    with pytest.raises(BadRequestError, match="no chips to keep"):
        three.keep(np.array([0]))
    three.decide(frames, 0)
    with pytest.raises(BadRequestError, match="no chips to keep"):
        three.keep(np.array([], np.int64))
    three.keep(np.array([2, 0]))
    two.decide(frames[[2, 0]], 0)
    found, wanted = (each.decide(frames[:2], 0, trace=True) for each in (three, two))
    assert_same(found, wanted)


def test_a_game_that_is_cut_off_by_its_protocol_has_finished(pong: ChipNetwork) -> None:
    short = replace(pong, protocol=replace(pong.protocol, max_frames_per_episode=400))
    run = play(Scripted(0), short, "pong", episodes=1, seed=0)
    assert run.episodes[0].finished
    assert 50 < run.episodes[0].decisions <= 100


def test_a_lost_life_never_ends_a_scored_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    import mtspark.sim.play as module

    given = []

    def make_games(task: object, protocol: GameProtocol, count: int) -> object:
        given.append(protocol)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "make_games", make_games)
    net = network((1,), [population("out", [[1] * 18])], [dense("input", "out", [[0]] * 18)])
    net = replace(net, protocol=replace(net.protocol, life_loss_ends_episode=True))
    with pytest.raises(KeyboardInterrupt):
        play(Scripted(0), net, "pong", episodes=1, seed=0)
    assert not given[0].life_loss_ends_episode


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"task": "chess"}, "unknown task 'chess'"),
        ({"episodes": 0}, "at least 1"),
        ({"max_decisions": 0}, "at least 1"),
        ({"seed": -1}, "seed -1"),
        ({"sticky": 1.5}, "sticky action probability"),
    ],
)
def test_a_wrong_request_is_refused(
    pong: ChipNetwork, changes: dict[str, object], text: str
) -> None:
    request = {"task": "pong", "episodes": 1, "seed": 0, **changes}
    with pytest.raises(BadRequestError, match=text):
        play(Scripted(0), pong, **request)  # type: ignore[arg-type]
