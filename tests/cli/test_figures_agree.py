"""One deployment, one figure: what a command says of an agent, every other one says, too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mtspark
from mtspark.deploy.chips import load_chip

DECISIONS, SEED = 5, 3
CARDS = ("loihi2_pilotnet", "loihi1_davies2018", "lemaire2022_8bit")
TASKS = ("pong", "breakout")


class Outputs:
    """What each command writes about the same games of the same bundle."""

    def __init__(self, folder: Path, into: Path, call: Callable[..., int]) -> None:
        self.folder, self._into, self._call = folder, into, call
        page = into / "page.html"
        cards = [word for card in CARDS for word in ("--card", card)]
        cut = ("--max-decisions", DECISIONS, "--seed", SEED)
        assert call("report", folder, "-o", page, *cut, *cards, "--seconds", 1) == 0
        self.text = page.read_text(encoding="utf-8")
        pages = json.loads(page.with_suffix(".json").read_text())
        self.page = {task["task"]: task for task in pages["tasks"]}
        self.run = {task: self.json("run", "--task", task, *cut) for task in TASKS}

    def json(self, command: str, *words: object) -> dict[str, Any]:
        """Run a command on the bundle; return what it writes."""
        out = self._into / "out.json"
        assert self._call(command, self.folder, *words, "--json", out) in (0, 1)
        written: dict[str, Any] = json.loads(out.read_text())
        return written

    def chip(self, task: str, name: str) -> dict[str, Any]:
        """What the page says of a chip."""
        return next(chip for chip in self.page[task]["chips"] if chip["chip"] == name)


@pytest.fixture(scope="module")
def outputs(
    played: Path, tmp_path_factory: pytest.TempPathFactory, call: Callable[..., int]
) -> Outputs:
    into = tmp_path_factory.mktemp("agree")
    shutil.copytree(played, into / "b.deploy")
    return Outputs(into / "b.deploy", into, call)


@pytest.mark.parametrize("task", TASKS)
def test_a_run_and_the_page_have_one_bill(outputs: Outputs, task: str) -> None:
    (run,), (alone,) = outputs.run[task]["energy_on_chip"], outputs.run[task]["energy"]
    page = next(one for one in outputs.page[task]["energy"] if one["card_key"] == run["card_key"])
    assert {name: page[name] for name in run} == run
    # The first sentences are of one cost, rival, mapping and time.
    assert outputs.run[task]["cost"] == outputs.page[task]["cost"]
    assert outputs.run[task]["cost"]["dynamic_j_per_decision"] == page["dynamic_j_per_decision"]
    # The sum is that of its lines, by plain arithmetic.
    spent = [term["count_per_decision"] * (term["price_pj"] or 0.0) for term in run["terms"]]
    assert sum(spent) * 1e-12 == pytest.approx(run["dynamic_j_per_decision"], rel=1e-12)
    on_cores = ("message", "hop_east_west", "hop_north_south", "input_neuron_update")
    own = [e for e, term in zip(spent, run["terms"], strict=True) if term["term"] not in on_cores]
    assert len(own) < len(spent)
    assert sum(own) * 1e-12 == pytest.approx(run["network_j_per_decision"], rel=1e-12)
    # What a run's file has always held is the part without the mapping; the page names it, too.
    assert alone["dynamic_j_per_decision"] == page["network_j_per_decision"]
    # 84 x 84 x 4 values lie in neurons that are updated in every step of a decision.
    updates = next(one for one in run["terms"] if one["term"] == "input_neuron_update")
    steps = outputs.run[task]["steps_per_decision"]
    assert updates["count_per_decision"] == 84 * 84 * 4 * steps


@pytest.mark.parametrize("task", TASKS)
def test_a_run_and_the_page_count_alike(outputs: Outputs, task: str) -> None:
    run, page = outputs.run[task], outputs.page[task]
    assert run["decisions"] == page["decisions"] == DECISIONS
    for layer, shown in zip(run["layers"], page["layers"], strict=True):
        assert shown["silent_neurons"] == shown["dead"] == layer["silent_neurons"]
        assert shown["unceasing_neurons"] == shown["saturated"]
        for name in ("spikes_window", "spikes_drain", "synops_structural", "synops_effective"):
            assert shown[name] * DECISIONS == pytest.approx(layer[name], rel=1e-12)
    spikes = sum(layer["spikes"] for layer in run["layers"]) / DECISIONS
    assert page["spikes_per_decision"]["mean"] == pytest.approx(spikes, rel=1e-12)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("card", CARDS[:2])
def test_the_python_door_has_the_same_bill(outputs: Outputs, task: str, card: str) -> None:
    chip = mtspark.load_bundle(outputs.folder)
    chip.play(task, seed=SEED, max_decisions=DECISIONS)
    page = next(one for one in outputs.page[task]["energy"] if one["card_key"] == card)
    bill = json.loads(json.dumps(chip.energy(card=card).to_json()))
    assert {name: page[name] for name in bill} == bill


@pytest.mark.parametrize("task", ["breakout", pytest.param("pong", marks=pytest.mark.slow)])
def test_a_decision_takes_one_time_in_page_map_and_hil(
    outputs: Outputs, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = outputs.chip(task, "loihi2")
    words = ("--task", task, "--seed", SEED)
    words += ("--max-decisions", DECISIONS, "--details")
    mapped = outputs.json("map", *words)
    hil = outputs.json("hil", *words, "--chip", "loihi2", "--backend", "reference")
    assert f"a mean decision of {DECISIONS}" in " ".join(capsys.readouterr().out.split())
    modelled, time = hil["modelled"], mapped["decision_time"]
    assert time["total_us"] == page["decision_time_us"] == modelled["decision_time_us"]
    assert modelled["decisions"] == mapped["traffic"]["decisions"] == DECISIONS
    terms = {term["name"]: term["time_us"] for term in page["decision_terms"]}
    assert {term["name"]: term["time_us"] for term in time["terms"]} == terms
    in_ms = {name: us if us is None else us / 1000 for name, us in terms.items()}
    assert modelled["terms_ms"] == in_ms
    assert time["step"]["times"] == page["times"] == modelled["times"]
    assert time["step"]["times"] == load_chip("loihi2").times[0].name
    # A step, wherever it is named: the bill's static energy, the chip, and the encoders.
    step_us = page["chip_time_us"] / page["steps_per_decision"]
    (encoder,) = (one for one in outputs.page[task]["encoders"] if one["encoder"] == "every-step")
    assert page["step_time_us"] == encoder["step_time_us"]["loihi2"] == step_us
    assert sum(time["by_step_us"]) / len(time["by_step_us"]) == pytest.approx(step_us, abs=1e-6)
    assert page["busiest_terms_us"] == time["step"]["total_us"] < step_us
    timing = hil["points"][0]["timing"]
    whole = timing["input_ms"] + timing["chip_ms"] + timing["output_ms"]
    if "message_us" in timing:
        # What each decision of the game really sends is written besides.
        whole += in_ms["host input values"] or 0.0
    assert whole * 1000 == pytest.approx(page["decision_time_us"], rel=1e-12)


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
@pytest.mark.parametrize("task", TASKS)
def test_page_and_map_have_one_mapping(outputs: Outputs, task: str, chip: str) -> None:
    page = outputs.chip(task, chip)
    words = ("--task", task, "--seed", SEED, "--decisions", DECISIONS)
    mapped = outputs.json("map", "--chip", chip, *words)
    assert len(mapped["cores"]) == page["cores"]
    assert mapped["hypothetical"] is not page["fits"]
    traffic = mapped["traffic"]
    for name in ("messages", "hops_east_west", "hops_north_south"):
        assert traffic[f"{name}_per_decision"] == page[f"{name}_per_decision"]


def test_all_play_a_whole_game_where_nothing_else_is_asked(outputs: Outputs) -> None:
    """As `mtspark run` does: no command has a length of its own."""
    from mtspark.sim.hil import Loop
    from mtspark.workflows.hil import HilRequest
    from mtspark.workflows.map import MapRequest
    from mtspark.workflows.report import ReportRequest

    assert MapRequest().decisions is None
    assert HilRequest("pong", Loop()).loop.max_decisions is None
    assert ReportRequest().max_decisions is None


def test_names_say_how_many_decisions_are_meant(
    outputs: Outputs, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    cut = ("--max-decisions", DECISIONS, "--seed", SEED)
    assert call("run", outputs.folder, "--task", "pong", *cut, "--details") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"A mean decision of {DECISIONS}" in printed
    assert printed.startswith("pong: the chip scores")
    assert printed.count("no neuromorphic hardware was measured") == 1
    assert call("run", outputs.folder, "--task", "pong", *cut) == 0
    short = " ".join(capsys.readouterr().out.split("(--details")[0].split())
    assert printed.startswith(short)
    assert "A mean decision of" not in short
    (bill,), (alone,) = outputs.run["pong"]["energy_on_chip"], outputs.run["pong"]["energy"]
    assert f"{bill['dynamic_j_per_decision'] * 1e6:,.2f}" in printed
    assert f"(the network alone): {alone['dynamic_j_per_decision'] * 1e6:,.2f} µJ" in printed
    assert f"in the window of any of the {DECISIONS} decisions" in printed
    silent = [layer["silent_neurons"] for layer in outputs.page["pong"]["layers"] if layer["fires"]]
    assert f"{np.sum(silent):,}" in printed
    assert f"in the window of any of the {DECISIONS} decisions" in outputs.text
    assert ">dead<" not in outputs.text
