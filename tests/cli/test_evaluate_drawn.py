"""``mtspark eval --sample``: the scores of drawn actions, on chip and float network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mtspark
from mtspark.core.environments import Sampling
from mtspark.core.environments.protocol import Task
from mtspark.core.errors import BadRequestError
from mtspark.core.files import EvaluationRow, first_problem
from mtspark.deploy.bundle import load_bundle
from mtspark.sim.play import play
from mtspark.sim.report import Score
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.compare import compare_runs
from mtspark.workflows.evaluate import EvaluationRequest, evaluate_bundle, evaluate_checkpoint
from mtspark.workflows.evaluate import bundle as of_bundles
from mtspark.workflows.evaluate.rows import GameRow

AGENT = Path(__file__).parents[2] / "examples/agents/cartpole/cartpole.pt"
DRAWN = Sampling(7, 3.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "cart.deploy"
    mtspark.export(AGENT).save(folder)
    return folder


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    return rows


def test_the_games_are_those_that_a_run_draws(
    bundle: Path, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.json"
    drawn = ("--sample", 7, "--temperature", 3)
    options = ("--episodes", 3, "--seed", 2, "--max-decisions", 40)
    assert call("eval", bundle, *options, *drawn, "--details", "--json", out) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "over 3 games of drawn actions" in shown
    assert "both think the same action best" in shown
    assert "drawn at temperature 3, episodes cut off after 40 decisions" in shown
    assert "share of decisions in which float and chip think the same action best" in shown
    rows = rows_of(out)
    assert [row["backend"] for row in rows] == ["torch", "engine"]
    read = load_bundle(bundle)
    for row in rows:
        assert row["sampling"] == {"seed": 7, "temperature": 3.0}
        assert first_problem(EvaluationRow, row) is None
        assert GameRow.from_json(row).to_json() == row
        with open_backend(BackendName(row["backend"]), read, "CartPole-v1") as player:
            played = play(
                *(player, read.network, "CartPole-v1"),
                episodes=3,
                seed=2,
                max_decisions=40,
                sampling=DRAWN,
            )
        assert row["returns"] == [episode.score for episode in played.episodes]
    alone = tmp_path / "alone.json"
    assert call("eval", AGENT, *options, *drawn, "--json", alone) == 0
    (row,) = rows_of(alone)
    assert row["returns"] == rows[0]["returns"]
    assert row["sampling"] == rows[0]["sampling"]


def test_other_draws_are_other_rows(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.json"
    ask = EvaluationRequest(episodes=4, max_decisions=60, store=path)
    found = {}
    for sampling in (None, Sampling(1, 5.0), Sampling(2, 5.0)):
        result = evaluate_bundle(load_bundle(bundle), replace(ask, sampling=sampling))
        assert [row.sampling for row in result.games] == [sampling] * 2
        found[sampling] = [row.returns for row in result.games]
    assert len(set(map(str, found.values()))) == 3
    # A stored row answers its own question alone.
    monkeypatch.setattr(of_bundles, "pair_of_rows", lambda *_, **__: pytest.fail("played"))
    again = evaluate_bundle(load_bundle(bundle), replace(ask, sampling=Sampling(2, 5.0)))
    assert [row.returns for row in again.games] == found[Sampling(2, 5.0)]


def test_what_both_think_best_is_compared_and_not_what_was_drawn(bundle: Path) -> None:
    # So hot that every action is a throw of a coin.
    ask = EvaluationRequest(episodes=8, sampling=Sampling(0, 1e6))
    *_, row = evaluate_bundle(load_bundle(bundle), ask).games
    assert row.decisions_compared is not None
    assert row.decisions_compared > 100
    assert row.action_agreement is not None
    assert row.action_agreement > 0.9
    assert np.mean(row.returns) < 40


def test_workers_draw_the_same(bundle: Path) -> None:
    ask = EvaluationRequest(episodes=5, seed=3, max_decisions=50, sampling=DRAWN)
    here = evaluate_bundle(load_bundle(bundle), ask)
    there = evaluate_bundle(load_bundle(bundle), replace(ask, executor="processes:1"))
    assert here.games == there.games
    alone, beside = (
        evaluate_checkpoint(AGENT, replace(ask, executor=executor)).games
        for executor in (None, "processes:1")
    )
    assert alone == beside
    assert alone[0].returns == here.games[0].returns


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--temperature", 2), "is of drawn actions; give sample, too"),
        (("--sample", 1, "--temperature", 0), "temperature 0.0: must be 1e-6"),
        (("--sample", 1, "--into", AGENT), "stores the scores of the best actions"),
    ],
)
def test_what_it_refuses(
    options: tuple[Any, ...],
    text: str,
    bundle: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("eval", bundle, "--episodes", 2, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_images_and_numbers_without_a_deviation_have_nothing_to_draw() -> None:
    ask = EvaluationRequest(sampling=Sampling(1))
    with pytest.raises(BadRequestError, match="--sample: is of games, and no task is one"):
        ask.check_used([Task("mnist", "", ())])
    ask.check_used([Task("mnist", "", ()), Task("pong", "pong", (0, 3))])


def test_runs_that_were_scored_otherwise_are_told_apart(tmp_path: Path) -> None:
    for name, sampling in (("dense", Sampling(1)), ("set", Sampling(2)), ("gmp", None)):
        folder = tmp_path / name / "seed-1"
        folder.mkdir(parents=True)
        line = {"steps": 100, "tasks": ["CartPole-v1"], "returns": {"CartPole-v1": 9.0}}
        (folder / "log.jsonl").write_text(json.dumps(line) + "\n")
        row = GameRow(
            *("CartPole-v1", "torch", "ab", 0.0, 0, 2, 0, (1.0, 2.0), (1.0, 2.0), 90),
            sampling=sampling,
        )
        content = {"format": "mtspark-eval", "version": 1, "agent": "a", "network_sha256": "ab"}
        (folder / "eval.json").write_text(json.dumps({**content, "rows": [row.to_json()]}))
    # Which seed drew them is chance, that they were drawn is not.
    folders = {name: tmp_path / name for name in ("dense", "set", "gmp")}
    alike = compare_runs([folders["dense"], folders["set"]], scores_file="eval.json")
    assert not [note for note in alike.notes if "played alike" in note]
    other = compare_runs([folders["dense"], folders["gmp"]], scores_file="eval.json")
    (note,) = [note for note in other.notes if "played alike" in note]
    assert "actions drawn at 1" in note
    assert "--sample" in note


def test_the_sentence_says_that_actions_were_drawn() -> None:
    score = Score("return", "pole", 18.0, 14.4, 0.9, 30, drawn=True)
    assert score.sentence == (
        "pole: the chip scores 18 over 30 games of drawn actions, the float network 14.4; "
        "both think the same action best to 90.0%."
    )
    assert score.to_json()["drawn"] is True
    assert "drawn" not in replace(score, drawn=False).to_json()
