"""What mtspark writes keeps its field names and numbers, and what it wrote before still works.

The golden files are rewritten by ``python -m tests.project.write_golden``.
"""

from __future__ import annotations

import difflib
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.project.canonical import (
    log_of_run,
    network_sha256,
    numbers_of_run,
    reduced,
    stripped,
    text_of,
    torch_content,
)
from tests.project.formats import (
    CASES,
    CUT,
    EFFECTS,
    GOLDEN,
    NUMBERS,
    OUTSIDE,
    ROOT,
    ROUNDING,
    RUNS,
    SHIPPED,
    SLOW,
    TINY,
    Workshop,
    agent_file,
    golden_text,
    vectors,
)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with Workshop(tmp_path_factory.mktemp("formats")) as made:
        yield made


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


CHECKED = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES]


@pytest.mark.parametrize("name", CHECKED)
def test_a_format_keeps_its_fields_and_numbers(name: str, workshop: Workshop) -> None:
    if name in OUTSIDE and vectors() is None:
        pytest.skip("no golden vectors beside the checkout")
    value = CASES[name](workshop)
    whole = workshop.folder / f"case-{name}.json"
    whole.write_text(text_of(stripped(value)))
    expected = (GOLDEN / f"{name}.json").read_text().splitlines()
    differ = list(difflib.unified_diff(expected, golden_text(value).splitlines(), "golden", "now"))
    assert not differ, "\n".join([*differ, f"all of what is written now: {whole}"])
    if name in NUMBERS:
        assert_numbers(workshop.folder / NUMBERS[name], name)


def assert_numbers(folder: Path, name: str) -> None:
    """A run's weights and losses are those of a golden run, up to how processors round."""
    numbers = numbers_of_run(folder)
    with np.load(GOLDEN / f"{name}.npz") as stored:
        assert set(numbers) == set(stored)
        for key, values in numbers.items():
            np.testing.assert_allclose(values, stored[key], **ROUNDING, err_msg=key)


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(CASES)
    assert {path.stem for path in GOLDEN.glob("*.npz")} == set(NUMBERS)
    size = sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file())
    assert size < 650_000


# Shipped agents


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if f"export-{name}" in SLOW else [])
        for name in SHIPPED
    ],
)
def test_the_hash_that_runs_carry_is_that_of_the_files(name: str, workshop: Workshop) -> None:
    folder = workshop.bundle(name)
    hashed = network_sha256(workshop.folder / folder)
    assert hashed == golden(f"export-{name}")["network_sha256"]
    if name != "pong":
        # The evaluations in pong.pt are of an earlier network hash.
        rows = torch_content(agent_file(name))["evaluations"]
        assert {row["network_sha256"] for row in rows} == {hashed}
    # The map is written by the program, which computes the hash in its own way.
    assert workshop.json("map", folder, code=(0, 1))["network_sha256"] == hashed


@pytest.mark.slow
def test_a_run_is_stored_as_it_is_written(workshop: Workshop) -> None:
    folder = workshop.bundle("pong")
    before = set((workshop.folder / folder / "runs").glob("*"))
    written = workshop.json("run", folder, "--task", "pong", "--max-decisions", 5, "--seed", 7)
    (stored,) = set((workshop.folder / folder / "runs").glob("*")) - before
    assert stored.name.endswith("-pong-engine-seed7.json")
    assert json.loads(stored.read_text()) == written


def test_measured_curves_of_hardware_in_the_loop_still_belong_to_the_agent(
    workshop: Workshop,
) -> None:
    stored = ROOT / "docs" / "hil-latency.json"
    if not stored.exists():
        (stored,) = (ROOT / "docs").rglob("hil-latency.json")
    result = json.loads(stored.read_text())
    assert result["network_sha256"] == golden("export-pong")["network_sha256"]
    copy = workshop.folder / "curve.json"
    shutil.copyfile(stored, copy)
    places = ",".join(f"{point['place']:g}" for point in result["points"])
    words = ("--task", "pong", "--episodes", len(result["points"][0]["episodes"]))
    options = ("--latency-sweep", places, "--json", copy.name)
    printed = workshop.call("hil", workshop.bundle("pong"), *words, *options)
    count = len(result["points"])
    assert f"{count} of {count} points are in {copy.name}" in printed
    assert json.loads(copy.read_text())["points"] == result["points"]


# Files from before


@pytest.fixture(scope="module")
def bundle_before(workshop: Workshop) -> str:
    with zipfile.ZipFile(GOLDEN / "bundle-before.zip") as archive:
        archive.extractall(workshop.folder / "before.deploy")
    return "before.deploy"


def test_a_bundle_from_before_opens_and_its_runs_belong_to_it(
    workshop: Workshop, bundle_before: str
) -> None:
    runs = [
        json.loads(path.read_text())
        for path in sorted((workshop.folder / bundle_before / "runs").glob("*.json"))
    ]
    assert {run["task"] for run in runs} == {"pong", "breakout"}
    report = workshop.json("report", bundle_before)
    assert sorted(run["task"] for run in report["runs"]) == ["breakout", "pong"]
    assert all(run in runs for run in report["runs"])
    assert report["network_sha256"] == runs[0]["network_sha256"]


@pytest.mark.slow
def test_a_bundle_from_before_plays_the_games_of_its_stored_run(
    workshop: Workshop, bundle_before: str
) -> None:
    copy = "played-before.deploy"
    shutil.copytree(workshop.folder / bundle_before, workshop.folder / copy)
    runs = (workshop.folder / copy / "runs").glob("*.json")
    stored = {run["task"]: run for run in (json.loads(path.read_text()) for path in runs)}
    (readout,) = {run["layers"][-1]["name"] for run in stored.values()}
    for task, run in stored.items():
        decisions = run["episodes"][0]["decisions"]
        # The main card was another one then.
        card = run["energy"][0]["card_key"]
        words = ("--card", card, "--episodes", len(run["episodes"]), "--max-decisions", decisions)
        again = workshop.json("run", copy, "--task", task, *words)
        assert len(again["energy_on_chip"]) == 1
        # Readouts have no spikes; their neurons were counted as silent then.
        for layer, now in zip(run["layers"], again["layers"], strict=True):
            if layer["name"] == readout:
                assert (layer["silent_neurons"], now["silent_neurons"]) == (layer["neurons"], 0)
                layer["silent_neurons"] = 0
        # Fields may have come since, none has changed.
        assert text_of(stripped({name: again[name] for name in run})) == text_of(stripped(run))
    workshop.call("report", copy, "-o", "before.html", *CUT, "--seconds", 1)
    data = json.loads((workshop.folder / "before.json").read_text())
    replays = [check for check in data["made"]["checks"] if check["name"].startswith("Replay")]
    assert len(replays) == 2
    assert all("1 of 1 episodes took every action" in check["text"] for check in replays)


@pytest.mark.slow
def test_a_bundle_from_before_is_explained_and_compared(
    workshop: Workshop, bundle_before: str
) -> None:
    result = workshop.json("explain", bundle_before, "--decisions", 6, *EFFECTS)
    expected = golden("explain")
    assert reduced(stripped(result)) == {**expected, "folder": bundle_before}
    assert workshop.json("diff", bundle_before, "--against", "engine", "--decisions", 3)["equal"]


def test_a_bundle_from_before_is_that_of_today(workshop: Workshop, bundle_before: str) -> None:
    today = workshop.folder / workshop.bundle("tiny")
    before = workshop.folder / bundle_before
    assert network_sha256(before) == network_sha256(today)
    files = [json.loads((each / "manifest.json").read_text())["files"] for each in (before, today)]
    for manifest in files:
        del manifest["network.json"]
    assert files[0] == files[1]


@pytest.mark.slow
def test_a_checkpoint_from_before_is_exported_and_scored(workshop: Workshop) -> None:
    content = torch_content(TINY)
    assert "decision_delay" not in content["protocol"]
    assert "decision_delay" not in content["training"]["config"]["protocol"]
    rows = json.loads((workshop.folder / workshop.scored()).read_text())["rows"]
    assert {row["network_sha256"] for row in rows} == {golden("export-tiny")["network_sha256"]}


@pytest.mark.slow
def test_a_stored_evaluation_goes_on_and_comes_into_the_checkpoint(workshop: Workshop) -> None:
    stored = json.loads((workshop.folder / workshop.scored()).read_text())
    # A row that is played anew would lose this; the mean return is that of the stored returns.
    assert stored["rows"][0]["decisions"] != 123
    stored["rows"][0]["decisions"] = 123
    (workshop.folder / "stored-rows.json").write_text(json.dumps(stored))
    copy = workshop.folder / "scored.pt"
    shutil.copyfile(TINY, copy)
    words = ("eval", workshop.bundle("tiny"), "--episodes", 2, "--into", copy.name)
    workshop.call(*words, "--json", "stored-rows.json")
    again = json.loads((workshop.folder / "stored-rows.json").read_text())
    assert again == stored
    scored = torch_content(copy)
    assert scored["evaluations"] == stored["rows"]
    assert {**scored, "evaluations": []} == torch_content(TINY)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.slow
def test_a_run_from_before_goes_on_to_the_same_weights(name: str, workshop: Workshop) -> None:
    folder = workshop.folder / f"{name}-goes-on"
    shutil.copytree(GOLDEN / f"{name}-before", folder)
    state = torch_content(folder / "resume.pt")
    lines_before = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    if name != "images-run":
        assert "decision_delay" not in state["config"]["protocol"]
    workshop.images()
    workshop.call(*RUNS[name], "-o", folder.name)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    # Runs on games kept no running games then: going on, they restart theirs, as a fresh run
    # does not.
    names = {"run": "train-games-before", "dqn-run": "train-dqn-before"}
    golden_name = names.get(name, "train-images")
    golden_run = golden(golden_name)
    count = "epoch" if name == "images-run" else "steps"
    reached = state["state"][count]
    # Nothing was made again that the saved state holds.
    kept = [line for line in lines_before if line[count] <= reached]
    assert lines[: len(kept)] == kept
    assert [line[count] for line in lines] == sorted({line[count] for line in lines})
    assert_numbers(folder, golden_name)
    assert reduced(stripped(log_of_run(lines))) == golden_run["log"]
    assert reduced(torch_content(folder / "agent.pt", computed=True)) == golden_run["agent"]


@pytest.mark.slow
def test_a_run_of_another_configuration_is_refused(workshop: Workshop) -> None:
    folder = workshop.folder / "refused"
    shutil.copytree(GOLDEN / "run-before", folder)
    words = (*RUNS["run"], "-o", folder.name, "--set", "discount=0.5")
    assert "discount was 0.99, is 0.5" in workshop.call(*words, code=2)
