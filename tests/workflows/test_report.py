"""Reports without the command line: typed, silent, with progress."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mtspark.core.errors import BadRequestError
from mtspark.core.progress import Progress
from mtspark.deploy.bundle import Bundle, write_bundle
from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.recording.study import Study, study_task
from mtspark.workflows.report import page as page_workflow
from mtspark.workflows.report.checks import NO_NEUROBENCH, NO_SILICON, replay_checks
from mtspark.workflows.report.page import report
from mtspark.workflows.report.sentences import score_of_run
from mtspark.workflows.report.stored import stored_report
from mtspark.workflows.run.games import run_games, store_run
from tests.sim.report.test_data import tiny_network


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "tiny.deploy", tiny_network())


@pytest.fixture(scope="module")
def study() -> Study:
    network = tiny_network()
    return study_task(EngineChip(network), network, "pong", seed=3, episodes=2, max_decisions=5)


def test_the_latest_run_of_each_task_is_reported(bundle: Bundle) -> None:
    with pytest.raises(BadRequestError, match="no runs of this network yet"):
        stored_report(bundle)
    first, last = (run_games(bundle, "pong", seed=seed, max_decisions=2) for seed in (1, 2))
    for result in (first, replace(last, date="2999-01-01T00:00:00+00:00")):
        store_run(bundle, result)
    store_run(bundle, replace(first, network_sha256="0" * 64))
    stored = stored_report(bundle.folder)
    assert [run["seed"] for run in stored.runs] == [2]
    assert stored.other_runs == 1
    content = stored.to_json()
    assert (content["format"], content["agent"]) == ("mtspark-report", "tiny")
    assert content["runs"] == list(stored.runs)


def test_the_chip_stands_beside_a_float_network_that_played_the_same(bundle: Bundle) -> None:
    short, long, other = (
        run_games(bundle, "pong", seed=seed, max_decisions=decisions)
        for seed, decisions in ((1, 2), (1, 4), (2, 4))
    )
    assert not any(one.run.episodes[0].finished for one in (short, long, other))
    for left_out in (short, other):
        store_run(bundle, replace(left_out, backend="torch"))
        assert score_of_run(bundle, long.to_json()).float_network is None
    store_run(bundle, replace(long, backend="torch", date="2999-01-01T00:00:00+00:00"))
    assert score_of_run(bundle, long.to_json()).float_network == long.run.mean_return
    assert score_of_run(bundle, short.to_json()).float_network is None
    sticky = long.to_json()
    sticky["protocol"] = {**sticky["protocol"], "sticky_action_probability": 0.5}
    assert score_of_run(bundle, sticky).float_network is None
    # Of whole games, as many as each played.
    whole = [replace(one, finished=True) for one in other.run.episodes]
    done = replace(other, run=replace(other.run, episodes=tuple(whole)))
    store_run(bundle, replace(done, backend="torch", date="2999-02-01T00:00:00+00:00"))
    again = {**done.to_json(), "episodes": [{**whole[0].to_json(), "seed": 9}] * 3}
    assert score_of_run(bundle, again).float_network == other.run.mean_return


def test_a_page_is_written_silently_and_its_data_are_the_result(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store_run(bundle, run_games(bundle, "pong", seed=7, max_decisions=3))
    reports: list[Progress] = []
    capfd.readouterr()
    result = report(
        bundle,
        str(tmp_path / "page.html"),
        max_decisions=3,
        seconds=1,
        cards=["ops45nm_int8"],
        encoder="held",
        progress=reports.append,
    )
    assert capfd.readouterr() == ("", "")
    assert {one.stage for one in reports} == {
        "pong, everything recorded",
        "mapping to the chips, pricing, drawing",
    }
    content = json.loads(result.data_path.read_text(encoding="utf-8"))
    assert content == json.loads(json.dumps(result.to_json()))
    assert content["input"]["encoder"] == "held"
    (task,) = content["tasks"]
    assert (task["seed"], task["decisions"]) == (7, 3)
    made = content["made"]
    assert made["checks"][0] == NO_SILICON.to_json()
    assert made["checks"][-1] == NO_NEUROBENCH.to_json()
    assert "1 of 1 episodes took every action" in made["checks"][1]["text"]
    assert made["repeat"][0] == {"name": "command", "text": "a call from Python"}
    assert result.page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_page_that_fails_leaves_the_old_one(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in ("p.html", "p.json"):
        (folder / name).write_text("old")
    monkeypatch.setattr(page_workflow, "report_html", lambda *_: 5)
    with pytest.raises((TypeError, AttributeError)):
        report(bundle, folder / "p.html", max_decisions=1, seconds=1, cards=["ops45nm_int8"])
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "p.html": "old",
        "p.json": "old",
    }


@pytest.mark.parametrize(
    ("seeds", "change", "text"),
    [
        ((3, 4), "", "2 of 2 episodes took every action of the run of today on engine."),
        ((4, 9), "", "1 of 1 episodes took every action of the run of today on engine."),
        ((8, 9), "", "the run of today on engine has other seeds."),
        ((3, 4), "17 17 17", "1 of 2 episodes took every action of the run of today on engine; "),
    ],
)
def test_episodes_are_compared_with_those_of_a_stored_run(
    study: Study, seeds: tuple[int, ...], change: str, text: str
) -> None:
    known = {episode.seed: " ".join(map(str, episode.actions)) for episode in study.run.episodes}
    episodes = [{"seed": seed, "actions": known.get(seed, "0")} for seed in seeds]
    episodes[0]["actions"] = change or episodes[0]["actions"]
    played = study.deep.decisions
    stored = {"date": "today", "backend": "engine", "episodes": episodes, "decisions": played}
    (fact,) = replay_checks(study, stored)
    assert fact.name == "Replay, pong"
    assert fact.text.startswith(text)
    # Means of other decisions are other means: the page says so.
    assert "its means" not in fact.text
    (fact,) = replay_checks(study, {**stored, "decisions": 7})
    assert f"those of 7 decisions, the ones on this page of {played}." in fact.text
    assert replay_checks(study, None) == []
