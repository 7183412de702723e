from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtspark.core.backend import Activity, Decision, Moment, greedy_actions
from mtspark.core.environments.atari import make_games
from mtspark.core.environments.protocol import Task
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.hil.faults import FaultKind, Faults
from mtspark.sim.hil.loop import FrameMoment, HilEpisode, Loop, play_hil
from mtspark.sim.hil.options import Hold
from mtspark.sim.hil.timing import Timing
from mtspark.sim.play import play
from tests.support.hil_agent import LocalChip, favour, pong_network


def games(
    chip: Any, loop: Loop, *, episodes: int = 1, seed: int = 0, observe: Any = None
) -> list[HilEpisode]:
    played = play_hil(
        chip, pong_network(), "pong", loop, episodes=episodes, seed=seed, observe=observe
    )
    return list(played)


def by_pixels(frame: np.ndarray, decision: int = 0) -> np.ndarray:
    """A choice that depends on every pixel, so that one wrong pixel changes the game."""
    weights = np.random.default_rng(1).standard_normal((18, 97))
    folded = np.resize(frame.astype(np.int64), (frame.size // 97 + 1, 97)).sum(0) % 251
    return weights @ (folded - 125.0)


class ByPixels:
    name = "by pixels"

    def decide(self, frames: np.ndarray, task: int, *, trace: bool = False) -> Decision:
        ones = {"input": np.ones((len(frames), 4, 84, 84), np.int64)}
        return Decision(np.stack([by_pixels(frame) for frame in frames]), Activity(ones, ones))

    def start(self, batch: int) -> None: ...

    def keep(self, members: np.ndarray) -> None: ...

    def close(self) -> None: ...


def test_without_latency_it_is_the_game_of_the_agent_loop() -> None:
    decisions = 300
    seen: list[Moment] = []
    run = play(
        ByPixels(),
        pong_network(),
        "pong",
        episodes=1,
        seed=6,
        max_decisions=decisions,
        observe=seen.append,
    )
    moments: list[FrameMoment] = []
    loop = Loop(max_decisions=decisions)
    (episode,) = games(LocalChip(by_pixels), loop, seed=6, observe=moments.append)
    assert [moment.decision for moment in moments] == list(range(decisions))
    for ours, theirs in zip(moments, seen, strict=True):
        np.testing.assert_array_equal(ours.frame, theirs.frames[0])
    assert tuple(moment.action for moment in moments) == run.episodes[0].actions
    assert len(set(run.episodes[0].actions)) > 3
    assert episode.score == run.episodes[0].score
    assert (episode.stale_frames, episode.finished) == (0, False)


def test_the_frame_limit_is_neither_the_end_of_a_game_nor_a_cut() -> None:
    """In both loops: 10 decisions of 4 frames, or fewer because the user asked for fewer."""
    net = pong_network()
    assert net.protocol is not None
    short = replace(net, protocol=replace(net.protocol, max_frames_per_episode=40))
    for wanted, end in ((None, (True, True)), (6, (False, False))):
        loop = Loop(max_decisions=wanted)
        (ours,) = play_hil(LocalChip(by_pixels), short, "pong", loop, episodes=1, seed=0)
        run = play(ReferenceChip(short), short, "pong", episodes=1, seed=0, max_decisions=wanted)
        (theirs,) = run.episodes
        assert (ours.finished, ours.truncated) == (theirs.finished, theirs.truncated) == end
        assert ours.decisions == theirs.decisions == (wanted or 10)
        assert ("truncated" in ours.to_json()) == ("truncated" in theirs.to_json()) == end[1]


def test_a_latency_of_a_whole_period_is_the_action_of_one_decision_before() -> None:
    """In ALE's own environment: NOOP first, then always the choice for the last observation."""
    decisions, net = 100, pong_network()
    assert net.protocol is not None
    moments: list[FrameMoment] = []
    loop = Loop(timing=Timing(chip_ms=4 / 60 * 1000), max_decisions=decisions)
    (episode,) = games(LocalChip(by_pixels), loop, seed=3, observe=moments.append)
    game = make_games(net.tasks[0], net.protocol, 1)
    try:
        seen, _ = game.reset(seed=3)
        action, score = 0, 0.0
        for moment in moments:
            np.testing.assert_array_equal(moment.frame, seen[0])
            assert moment.action == action
            following = greedy_actions(by_pixels(seen[0])[None], net.tasks[0].legal_actions)
            seen, rewards, _, _, _ = game.step(np.array([action]))
            score += float(rewards[0])
            action = int(following[0])
    finally:
        game.close()
    assert len(moments) == decisions
    assert episode.score == score


def test_a_network_plays_the_same_game_on_a_chip_and_in_the_agent_loop() -> None:
    net = pong_network()
    reference = ReferenceChip(net)
    chip = LocalChip(lambda frame, _: reference.decide(frame[None], 0).values[0])
    (episode,) = games(chip, Loop(max_decisions=40))
    run = play(ReferenceChip(net), net, "pong", episodes=1, seed=0, max_decisions=40)
    assert episode.score == run.episodes[0].score
    assert len(chip.asked) == 40


@pytest.fixture
def real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's game has a decision delay and sticky actions."""
    waiting = pong_network()
    assert waiting.protocol is not None
    protocol = replace(waiting.protocol, decision_delay=1, sticky_action_probability=0.25)
    delayed = replace(waiting, protocol=protocol)
    monkeypatch.setitem(globals(), "pong_network", lambda: delayed)


@pytest.mark.usefixtures("real_time")
@pytest.mark.slow
@pytest.mark.parametrize("hold", [Hold.LAST, Hold.NOOP])
def test_with_a_decision_delay_every_latency_below_it_gives_one_game(hold: Hold) -> None:
    decisions = 250
    seen: list[Moment] = []
    run = play(
        ByPixels(),
        pong_network(),
        "pong",
        episodes=1,
        seed=6,
        max_decisions=decisions,
        observe=seen.append,
    )
    # What was chosen on a frame is pressed from the next one on.
    wanted = (0, *run.episodes[0].actions[:-1])
    assert len(set(wanted)) > 3
    for latency_ms in (0.0, 20.0, 50.0, 66.0, 66.6, 4 / 60 * 1000):
        moments: list[FrameMoment] = []
        loop = Loop(timing=Timing(chip_ms=latency_ms), hold=hold, max_decisions=decisions)
        (episode,) = games(LocalChip(by_pixels), loop, seed=6, observe=moments.append)
        for ours, theirs in zip(moments, seen, strict=True):
            np.testing.assert_array_equal(ours.frame, theirs.frames[0])
        assert tuple(moment.action for moment in moments) == wanted, latency_ms
        assert episode.score == run.episodes[0].score
        assert (episode.stale_frames, episode.tally.late) == (0, 0)
        assert episode.tally.in_time == decisions - 1
        assert episode.tally.pending == 1


@pytest.mark.usefixtures("real_time")
@pytest.mark.parametrize(
    ("hold", "wanted"),
    [
        # Answers of decisions 0, 1 and 2 come at 100, 200 and 300 ms: at borders 2, 3 and 5.
        (Hold.LAST, [0, 0, 3, 4, 4, 11]),
        (Hold.NOOP, [0, 0, 3, 4, 0, 11]),
    ],
)
def test_a_late_answer_is_latched_at_the_next_border_and_the_network_sees_what_is_pressed(
    hold: Hold, wanted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = actions_of_frames(monkeypatch)
    chip = LocalChip(alternate)
    loop = Loop(timing=Timing(chip_ms=100), hold=hold, max_decisions=6)
    moments: list[FrameMoment] = []
    (episode,) = games(chip, loop, observe=moments.append)
    assert held == [action for action in wanted for _ in range(4)]
    for moment, action in zip(moments, wanted, strict=True):
        (bright,) = np.unique(np.flatnonzero(moment.frame[-1, 0] == 255) // 4)
        assert bright == action == moment.action
    assert episode.tally.late == 3
    assert episode.stale_frames == 5 * 4


def actions_of_frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The action of every emulator frame."""
    from mtspark.sim.hil import loop as hil

    held: list[int] = []
    act = hil.FrameGame.act

    def note(game: Any, action: int) -> tuple[float, bool]:
        held.append(action)
        return act(game, action)

    monkeypatch.setattr(hil.FrameGame, "act", note)
    return held


def alternate(_: np.ndarray, decision: int) -> np.ndarray:
    return favour((3, 4, 11, 12)[decision % 4])


def test_an_answer_acts_from_the_frame_after_it_came_and_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = actions_of_frames(monkeypatch)
    loop = Loop(timing=Timing(chip_ms=33), max_decisions=4)
    (episode,) = games(LocalChip(alternate), loop)
    assert held == [0, 0, 3, 3, 3, 3, 4, 4, 4, 4, 11, 11, 11, 11, 12, 12]
    assert episode.stale_frames == 8
    assert episode.tally.response_ms == pytest.approx([33] * 4)


@pytest.mark.parametrize(
    ("hold", "wanted"),
    [
        # Answers of decisions 0, 1 and 3 come 100 ms after the chip was free.
        (Hold.LAST, [0] * 6 + [3] * 6 + [4] * 4),
        (Hold.NOOP, [0] * 6 + [3] * 4 + [0] * 2 + [4] * 4),
    ],
)
def test_what_holds_until_the_next_answer(
    hold: Hold, wanted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = actions_of_frames(monkeypatch)
    loop = Loop(timing=Timing(chip_ms=100), hold=hold, max_decisions=4)
    games(LocalChip(alternate), loop)
    assert held == wanted


def test_an_answer_that_was_overtaken_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    held = actions_of_frames(monkeypatch)
    times = {0: 0.25}
    monkeypatch.setattr(Timing, "jitter_s", lambda self, episode, d: times.get(d, 0.0))
    (episode,) = games(LocalChip(alternate), Loop(timing=Timing(overlap=True), max_decisions=5))
    assert held == [0] * 4 + [4] * 4 + [11] * 4 + [12] * 4 + [3] * 4
    assert episode.tally.overtaken == 1
    assert episode.tally.late == 1


def test_fewer_bits_of_a_pixel_are_sent() -> None:
    whole, coarse = LocalChip(alternate), LocalChip(alternate)
    games(whole, Loop(max_decisions=3))
    games(coarse, Loop(max_decisions=3, pixel_bits=2))
    for a, b in zip(whole.frames, coarse.frames, strict=True):
        np.testing.assert_array_equal(b, a // 64 * 64)
    assert len(np.unique(whole.frames)) > 4


@pytest.mark.slow
def test_everything_repeats_and_seeds_differ() -> None:
    faults = Faults({FaultKind.LOST_MESSAGES: 0.2, FaultKind.CHIP_DEATH: 0.02}, seed=3)
    timing = Timing(chip_ms=20, jitter_ms=30, io_step_ms=8, seed=3)
    loop = Loop(timing=timing, faults=faults, away_ms=300, max_decisions=120)
    chips = [LocalChip(by_pixels) for _ in range(2)]
    one, two = (games(chip, loop, episodes=2, seed=5) for chip in chips)
    assert [e.to_json() for e in one] == [e.to_json() for e in two]
    assert chips[0].asked == chips[1].asked
    assert one[0].trajectory != one[1].trajectory
    assert one[0].tally.missing > 0
    assert one[0].tally.deaths == sum(episode.tally.deaths for episode in one[:1])
    assert chips[0].deaths == sum(episode.tally.deaths for episode in one)
    (alone,) = games(LocalChip(by_pixels), loop, seed=6)
    assert alone.trajectory == one[1].trajectory
    reseeded = replace(loop, faults=replace(faults, seed=4))
    (other,) = games(LocalChip(by_pixels), reseeded, seed=5)
    assert other.trajectory != one[0].trajectory


def test_sticky_actions_replace_those_of_the_protocol() -> None:
    loop = Loop(max_decisions=60)
    (free,) = games(LocalChip(by_pixels), loop)
    (sticky,) = games(LocalChip(by_pixels), replace(loop, sticky=0.5))
    assert free.trajectory != sticky.trajectory


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pixel_bits": 0}, "0 bits a pixel"),
        ({"pixel_bits": 9}, "9 bits a pixel"),
        ({"max_decisions": 0}, "at least 1"),
        ({"sticky": 1.0}, "sticky action probability"),
        ({"away_ms": -1.0}, "away for -1"),
        ({"realtime": True, "timing": Timing(measured=True)}, "leave measured out"),
    ],
)
def test_a_loop_that_cannot_be_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequestError, match=says):
        Loop(**changes)


def test_only_games_of_frames_can_be_played() -> None:
    chip: Any = LocalChip(by_pixels)
    net = pong_network()
    no_game = replace(net, tasks=(Task("digits", "", ()),))
    other = replace(net, input=replace(net.input, shape=(4, 20, 20)))
    with pytest.raises(BadNetworkError, match="is no game"):
        next(play_hil(chip, no_game, "digits", Loop(), episodes=1, seed=0))
    with pytest.raises(BadNetworkError, match="takes frames"):
        next(play_hil(chip, other, "pong", Loop(), episodes=1, seed=0))
    with pytest.raises(BadRequestError, match="seed -1"):
        next(play_hil(chip, net, "pong", Loop(), episodes=1, seed=-1))
    with pytest.raises(BadRequestError, match="unknown task"):
        next(play_hil(chip, net, "chess", Loop(), episodes=1, seed=0))
