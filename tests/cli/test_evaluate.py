"""The evaluation: what its figures mean, and what it refuses before it plays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mtspark.sim.play as loop
from mtspark.cli.show.evaluation import print_evaluation
from mtspark.core.backend import Decision, Moment, greedy_actions
from mtspark.core.environments.atari import make_games
from mtspark.core.environments.protocol import GameProtocol
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.play import play
from mtspark.sim.verdict import Cost
from mtspark.train.checkpoint.agent import Agent, load_agent, save_agent
from mtspark.workflows.backends import BackendName
from mtspark.workflows.evaluate import bundle as evaluate
from mtspark.workflows.evaluate.rows import Evaluation, GameRow, Question, confidence_interval


@pytest.fixture(scope="module")
def short(
    checkpoint: Path, call: Callable[..., int], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle whose games end after 50 decisions; its checkpoint lies beside it."""
    folder = tmp_path_factory.mktemp("eval")
    agent = load_agent(checkpoint)
    protocol = GameProtocol(max_frames_per_episode=200)
    save_agent(Agent(agent.network, agent.tasks, protocol), folder / "short.pt")
    arguments = ("--weight-bits", 7, "--round-nearest", "--scale-per-layer")
    assert call("export", folder / "short.pt", "-o", folder / "b.deploy", *arguments) == 0
    return folder / "b.deploy"


class Contrary:
    """The engine, but every fourth question is answered with another action."""

    name = "torch"

    def __init__(self, bundle: Bundle) -> None:
        self.network = bundle.network
        self.chip = EngineChip(bundle.network)
        self.asked = 0

    def decide(self, frames: Any, task: int, *, trace: bool = False) -> Decision:
        decision = self.chip.decide(frames, task, trace=trace)
        self.asked += 1
        if self.asked % 4:
            return decision
        legal = self.network.tasks[task].legal_actions
        values = np.zeros_like(decision.values)
        for game, action in enumerate(greedy_actions(decision.values, legal)):
            values[game, legal[0] if action != legal[0] else legal[1]] = 1
        return replace(decision, values=values)

    def start(self, batch: int) -> None:
        self.chip.start(batch)

    def keep(self, members: Any) -> None:
        self.chip.keep(members)

    def close(self) -> None:
        self.chip.close()


class FirstEndsEarly:
    """Games of which the first is cut off after ten decisions."""

    def __init__(self, games: Any) -> None:
        self.games = games
        self.reset, self.close = games.reset, games.close
        self.num_envs = games.num_envs
        self.steps = 0

    def step(self, actions: Any) -> tuple[Any, ...]:
        frames, rewards, ended, cut, more = self.games.step(actions)
        self.steps += 1
        cut = cut.copy()
        cut[0] |= self.steps >= 10
        return frames, rewards, ended, cut, more


@pytest.mark.slow
def test_agreement_is_the_share_of_equal_actions_in_running_games(
    short: Path, call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = evaluate.open_backend

    @contextmanager
    def planted(name: BackendName, bundle: Bundle, task: str, **more: bool) -> Iterator[Any]:
        if name is BackendName.TORCH:
            yield Contrary(bundle)
        else:
            with plain(name, bundle, task, **more) as player:
                yield player

    monkeypatch.setattr(evaluate, "open_backend", planted)
    monkeypatch.setattr(loop, "make_games", lambda *a, **k: FirstEndsEarly(make_games(*a, **k)))
    out = tmp_path / "eval.json"
    assert call("eval", short, "--episodes", 3, "--seed", 5, "--sticky", 0, "--json", out) == 0
    bundle = load_bundle(short)
    rows = json.loads(out.read_text())["rows"]
    assert [row["task"] for row in rows] == ["pong", "pong", "breakout", "breakout"]
    for row in rows[1::2]:
        active: list[int] = []

        def count(moment: Moment, active: list[int] = active) -> None:
            active.append(len(moment.frames))

        chip = EngineChip(bundle.network)
        play(chip, bundle.network, row["task"], episodes=3, seed=5, observe=count)
        # The first game was asked about no more once it had ended.
        assert active == [3] * 10 + [2] * (len(active) - 10)
        equal = sum(games for number, games in enumerate(active, 1) if number % 4)
        assert 0.6 < equal / sum(active) < 0.9
        assert row["action_agreement"] == pytest.approx(equal / sum(active), abs=1e-12)
        assert row["decisions_compared"] == row["decisions"] == sum(active)


@pytest.mark.slow
def test_rows_name_the_network_and_how_it_was_quantised(
    short: Path, call: Callable[..., int], tmp_path: Path
) -> None:
    out = tmp_path / "eval.json"
    assert call("eval", short, "--episodes", 2, "--sticky", 0, "--json", out) == 0
    for row in json.loads(out.read_text())["rows"]:
        assert row["network_sha256"] == load_bundle(short).network_hash
        assert (row["weight_bits"], row["weight_scale"], row["rounding"]) == (
            *("7", "per layer"),
            "to nearest",
        )


def test_the_interval_is_that_of_the_bootstrap_means() -> None:
    # The mean of 40 draws from 20 zeros and 20 ones is Binomial(40, 1/2) / 40, whose
    # percentiles 2.5 and 97.5 are 14 and 26; percentile 5 is 15, percentile 1 is 13.
    assert confidence_interval([0.0, 1.0] * 20) == (14 / 40, 26 / 40)
    # Binomial(20, 1/20): P(0) = 0.36, P(<= 2) = 0.925, P(<= 3) = 0.984. A normal approximation
    # would be even on both sides of 0.05.
    assert confidence_interval([0.0] * 19 + [1.0]) == (0.0, 3 / 20)
    assert confidence_interval([-21.0] * 5) == (-21.0, -21.0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--sticky", 1), "--sticky 1"),
        (("--sticky", -0.1), "--sticky -0.1"),
        (("--sticky", "nan"), "--sticky nan"),
        (("--seed", -1), "--seed -1"),
        (("--seed", 2**30 - 1), "0 to 1073741822"),
        (("--into", "{tmp}/none.pt"), "no such file"),
        (("--into", "{tmp}/other.pt"), "other weights"),
        (("--json", "{tmp}/other.pt/x.json"), "cannot be written"),
        (("--task", "chess"), "unknown task 'chess'"),
        (("--task", "pong", "--into", "{tmp}/other.pt"), "leave --task out"),
    ],
)
def test_a_bad_request_is_refused_before_any_game(
    arguments: tuple[object, ...],
    text: str,
    short: Path,
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = load_agent(short.parent / "short.pt")
    agent.network.hidden.synapses.weight.data += 1
    save_agent(agent, tmp_path / "other.pt")

    def never(*arguments: object, **more: object) -> None:
        raise AssertionError("played")

    monkeypatch.setattr(evaluate, "pair_of_rows", never)
    capsys.readouterr()
    texts = [str(argument).format(tmp=tmp_path) for argument in arguments]
    assert call("eval", short, "--episodes", 2, *texts) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_a_checkpoint_that_cannot_be_replaced_is_refused_before_any_game(
    short: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mtspark.core.errors import BadFileError

    def refuse(folder: Path) -> Path:
        raise BadFileError(f"{folder}: cannot be written")

    def never(*arguments: object, **more: object) -> None:
        raise AssertionError("played")

    monkeypatch.setattr(evaluate, "writable_folder", refuse)
    monkeypatch.setattr(evaluate, "pair_of_rows", never)
    capsys.readouterr()
    assert call("eval", short, "--into", short.parent / "short.pt") == 2
    assert capsys.readouterr().err == f"error: {short.parent}: cannot be written\n"


def test_rows_are_stored_in_the_checkpoint_and_in_json_even_if_the_first_fails(
    short: Path, call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mtspark.train.checkpoint as checkpoints

    planted = GameRow("pong", "torch", "0", 0.0, 0, 2, 0, (0.0, 2.0), (0.0, 2.0), 9)
    row = planted.to_json()
    cost = Cost("Loihi 2", 2e-6)
    monkeypatch.setattr(evaluate, "pair_of_rows", lambda *arguments, **more: ([planted], cost))
    target, link, out = tmp_path / "a.pt", tmp_path / "link.pt", tmp_path / "eval.json"
    shutil.copy(short.parent / "short.pt", target)
    link.symlink_to(target)
    arguments = ("eval", short, "--sticky", 0, "--into", link, "--json", out)
    assert call(*arguments) == 0
    assert link.is_symlink()
    assert load_agent(target).evaluations == [row, row]
    out.unlink()

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(checkpoints, "save_agent", fail)
    assert call(*arguments) == 2
    assert json.loads(out.read_text())["rows"] == [row, row]


def test_only_the_asked_tasks_are_played(
    short: Path, call: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[str] = []

    def note(bundle: Bundle, question: Question, **more: Any) -> tuple[list[GameRow], Cost]:
        played.append(question.task)
        return [], Cost("Loihi 2", 2e-6)

    monkeypatch.setattr(evaluate, "pair_of_rows", note)
    assert call("eval", short, "--task", "breakout", "--sticky", 0) == 0
    assert call("eval", short, "--sticky", 0) == 0
    assert played == ["breakout", "pong", "breakout"]


@pytest.mark.slow
def test_scores_and_interval_fit_the_returns(
    short: Path, call: Callable[..., int], tmp_path: Path
) -> None:
    out = tmp_path / "eval.json"
    assert call("eval", short, "--episodes", 3, "--sticky", 0.5, "--json", out) == 0
    for row in json.loads(out.read_text())["rows"]:
        assert row["mean_return"] == pytest.approx(np.mean(row["returns"]))
        assert tuple(row["interval_95"]) == confidence_interval(row["returns"])


@pytest.mark.slow
def test_a_stopped_evaluation_goes_on_with_the_rows_that_it_has(
    short: Path,
    call: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    played: list[float] = []
    plain = evaluate.pair_of_rows

    def pair(bundle: Bundle, question: Question, **more: Any) -> tuple[list[GameRow], Cost]:
        played.append(question.sticky)
        if len(played) == 2:
            raise KeyboardInterrupt
        return plain(bundle, question, **more)

    monkeypatch.setattr(evaluate, "pair_of_rows", pair)
    path = tmp_path / "rows.json"
    asked = ("eval", short, "--episodes", 2, "--json", path)
    assert call(*asked) == 130
    first = json.loads(path.read_text())["rows"]
    assert [row["sticky_action_probability"] for row in first] == [0.0, 0.0]
    assert call(*asked) == 0
    rows = json.loads(path.read_text())["rows"]
    assert rows[:2] == first
    pairs = len(rows) // 2
    # One before the stop, one stopped, and all but the first again.
    assert len(played) == 2 + pairs - 1
    # Other starts are other rows.
    assert call(*asked, "--seed", 5) == 0
    assert len(played) == 2 + pairs - 1 + pairs


def test_the_table_says_which_games_are_not_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = GameRow("pong", "torch", "ab", 0.0, 0, 2, 0, (1.0, 2.0), (1.0, 2.0), 90)
    print_evaluation(Evaluation("agent", "ab", (whole,), ()), details=True)
    assert "full episodes" in capsys.readouterr().out
    limited = replace(whole, truncated_episodes=1)
    cut = replace(whole, unfinished_episodes=2, max_decisions=30)
    print_evaluation(Evaluation("agent", "ab", (limited, cut), ()), details=True)
    output = " ".join(capsys.readouterr().out.split())
    assert "full episodes" not in output
    assert "episodes cut off after 30 decisions" in output
    assert "2 of 4 episodes were cut off by --max-decisions" in output
    assert "1 of 4 episodes ended by a limit of time (frames of the protocol, or" in output
