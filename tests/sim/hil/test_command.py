"""The command `mtspark hil`, on the reference: nothing is compiled."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mtspark.cli import main as cli
from mtspark.core.errors import BackendMissingError
from mtspark.core.process import own_environment
from mtspark.deploy.bundle import Bundle, write_bundle
from mtspark.sim.hil import chip as hil_chip
from mtspark.sim.hil.loop import HilEpisode
from mtspark.sim.hil.options import KEY_VARIABLE, ChipBackend
from mtspark.sim.hil.results import Point, Setting
from mtspark.sim.hil.timing import Tally
from mtspark.workflows import backends
from mtspark.workflows import hil as serving
from mtspark.workflows.hil import modelled as modelled_workflow
from mtspark.workflows.hil import sweep as sweep_workflow
from mtspark.workflows.hil.request import HilRequest
from tests.support.hil_agent import changes_network, pong_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return pong_bundle(tmp_path_factory.mktemp("hil"))


def hil(bundle: Bundle, *arguments: object) -> int:
    """Run the command in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        words = ["mtspark", "hil", str(bundle.folder), *map(str, arguments)]
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            cli.main()
    return int(end.value.code or 0)


def play(bundle: Bundle, *arguments: object) -> int:
    return hil(
        bundle, "--task", "pong", "--backend", "reference", "--max-decisions", 12, *arguments
    )


@pytest.mark.slow
def test_a_latency_sweep_writes_its_curve_and_repeats(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "curve.json", tmp_path / "curve.png"
    sweep = ("--latency-sweep", "0,33,100", "--episodes", 2, "--jitter-ms", 5)
    results = []
    for _ in range(2):
        assert play(bundle, *sweep, "--json", out, "--picture", picture) == 0
        results.append(json.loads(out.read_text()))
        out.unlink()
    assert results[0]["points"][0]["shares"]["in_time"] > 0.9
    for result in results:
        # What the simulation took on this computer is the one thing that does not repeat.
        for point in result["points"]:
            for episode in point["episodes"]:
                episode.pop("chip_host_ms")
    assert results[0]["points"] == results[1]["points"]
    (result, _) = results
    assert (result["format"], result["varied"], result["complete"]) == (
        "mtspark-hil",
        "latency",
        True,
    )
    assert result["deadline_ms"] == pytest.approx(66.667, abs=0.001)
    assert [point["place"] for point in result["points"]] == [0, 33, 100]
    assert [point["timing"]["chip_ms"] for point in result["points"]] == [0, 33, 100]
    assert result["points"][2]["shares"]["late"] > 0.3
    assert result["points"][2]["shares"]["skipped"] > 0.2
    for point in result["points"]:
        assert sum(point["shares"].values()) == pytest.approx(1)
        assert [episode["seed"] for episode in point["episodes"]] == [0, 1]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "latency" in capsys.readouterr().out


@pytest.mark.slow
def test_a_fault_sweep_starts_a_chip_for_every_rate(bundle: Bundle, tmp_path: Path) -> None:
    out, picture = tmp_path / "curve.json", tmp_path / "curve.png"
    sweep = ("--fault-sweep", "stuck-0=0,1", "--fault", "lost-messages=0.2", "--fault-seed", 5)
    assert play(bundle, *sweep, "--json", out, "--picture", picture) == 0
    result = json.loads(out.read_text())
    assert result["varied"] == "stuck-0"
    assert [point["backend"] for point in result["points"]] == [
        "reference",
        "reference with faults",
    ]
    assert [point["faults"] for point in result["points"]] == [
        {"lost-messages": 0.2, "stuck-0": 0.0},
        {"lost-messages": 0.2, "stuck-0": 1.0},
    ]
    missing = [point["episodes"][0]["missing"] for point in result["points"]]
    assert missing[0] == missing[1] > 0
    # A chip without spikes answers zeros: the first legal action, which does nothing.
    ends = [point["episodes"][0]["trajectory"] for point in result["points"]]
    assert ends[0] != ends[1]
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same agent, sent what changes; its first sums fit into 24 bits."""
    folder = tmp_path_factory.mktemp("changes") / "changes.deploy"
    return write_bundle(folder, changes_network())


@pytest.mark.slow
def test_lost_changes_are_curves_against_the_rate_for_each_refresh(
    changing: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "curve.json", tmp_path / "curve.png"
    sweep = ("--fault-sweep", "lost-changes=0,0.02,0.1", "--refresh-every", "1,4,never")
    assert play(changing, *sweep, "--json", out, "--picture", picture) == 0
    result = json.loads(out.read_text())
    points = result["points"]
    rates = [0, 0.02, 0.1]
    assert [(one.get("refresh_every"), one["place"]) for one in points] == [
        *((1, rate) for rate in rates),
        *((4, rate) for rate in rates),
        *((None, rate) for rate in rates),
    ]
    share = [one["differing_share"] for one in points]
    sent = [one["episodes"][0]["input"] for one in points]
    # A whole frame in each decision leaves nothing to lose, and without a loss all are right.
    assert share[:4] == [0, 0, 0, 0] == [share[6], *(one["lost"] for one in sent[:3])]
    assert [one["whole_frames"] for one in sent] == [12] * 3 + [3] * 3 + [1] * 3
    assert min(share[7:]) > max(share[4:6])
    for one, place in zip(sent[3:], rates * 2, strict=True):
        assert (one["lost"] > 0) == (place > 0)
    first = points[0]["episodes"][0]
    assert (first["differing"], first["in_time"]) == (0, 12)
    assert picture.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "whole frame every" in " ".join(printed.split())
    # A stopped sweep goes on; a point with a refresh is none without.
    before = out.read_text()
    assert play(changing, *sweep, "--json", out) == 0
    assert "9 of 9 points are in" in " ".join(capsys.readouterr().out.split())
    assert json.loads(out.read_text())["points"] == json.loads(before)["points"]
    alone = ("--fault-sweep", "lost-changes=0.02", "--json", out)
    assert play(changing, *alone, "--refresh-every", 4) == 0
    assert "1 of 1 points are in" in " ".join(capsys.readouterr().out.split())
    (kept,) = json.loads(out.read_text())["points"]
    assert kept == points[4]
    assert play(changing, *alone) == 0
    (other,) = json.loads(out.read_text())["points"]
    assert "refresh_every" not in other


@pytest.mark.slow
def test_a_sweep_that_was_stopped_goes_on(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """Nothing is played here: a point's games are made of its place."""
    out, picture = tmp_path / "curve.json", tmp_path / "curve.png"
    played: list[float | None] = []

    def made_up(
        _chips: object,
        _bundle: Bundle,
        request: HilRequest,
        settings: list[Setting],
        _progress: object,
    ) -> Iterator[Point]:
        for setting in settings:
            place = setting.place
            played.append(place)
            games = (
                HilEpisode(number, float(place or 0), 4, 16, 0, True, "x", Tally(in_time=4), None)
                for number in request.seeds
            )
            yield Point(setting, request.backend.value, tuple(games), None)

    monkeypatch.setattr(sweep_workflow, "play_points", made_up)
    monkeypatch.setattr(sweep_workflow.Chips, "chip", lambda *_: None)
    assert play(bundle, "--fault-sweep", "lost-messages=0,0.5", "--json", out) == 0
    before = json.loads(out.read_text())["points"]
    sweep = ("--fault-sweep", "lost-messages=0,0.2,0.5")
    assert play(bundle, *sweep, "--json", out, "--picture", picture) == 0
    assert played == [0, 0.5, 0.2]
    assert "2 of 3 points are in" in " ".join(capsys.readouterr().out.split())
    whole = json.loads(out.read_text())
    assert whole["complete"]
    assert [point["place"] for point in whole["points"]] == [0, 0.2, 0.5]
    assert [whole["points"][0], whole["points"][2]] == before
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = out.read_text()
    # Other games, other settings, a chip elsewhere and another file are played.
    for other in (
        ("--seed", 4),
        ("--io-step-ms", 3),
        ("--episodes", 2),
        ("--fault-seed", 1),
        ("--measured",),
    ):
        out.write_text(text)
        played.clear()
        assert play(bundle, *sweep, *other, "--json", out) == 0
        assert played == [0, 0.2, 0.5]
    out.write_text(text)
    played.clear()
    # A chip elsewhere has its own backend.
    elsewhere = ("--connect", "tcp://127.0.0.1:9", "--key", "0" * 32, "--max-decisions", 12)
    assert hil(bundle, "--task", "pong", *sweep, *elsewhere, "--json", out) == 0
    assert played == [0, 0.2, 0.5]
    without = text.replace('"stale_frames_share"', '"another_share"')
    compared = text.replace('"stale_frames_share"', '"differing_share": null, "stale_frames_share"')
    for wrong in ("[]", text.replace(bundle.network_hash, "0" * 64), "{", without, compared):
        out.write_text(wrong)
        played.clear()
        assert play(bundle, *sweep, "--json", out) == 0
        assert played == [0, 0.2, 0.5]


def test_latency_modelled_for_a_chip(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    start = backends.open_backend
    reference = backends.BackendName.REFERENCE
    monkeypatch.setattr(
        modelled_workflow, "open_backend", lambda name, *rest: start(reference, *rest)
    )
    out = tmp_path / "run.json"
    assert play(bundle, "--chip", "loihi2", "--input-ms", 1, "--json", out, "--details") == 0
    result = json.loads(out.read_text())
    terms = result["modelled"]["terms_ms"]
    timing = result["points"][0]["timing"]
    assert timing["chip_ms"] == pytest.approx(terms["chip steps"])
    assert timing["input_ms"] == pytest.approx(1 + terms["host input values"])
    assert terms["host output values"] is None
    assert "host output values" in result["modelled"]["not_modelled"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "Estimate for Loihi 2" in printed
    assert printed.startswith("pong in real time, the chip in the loop: scores ")
    assert "µJ of dynamic energy on Loihi 2 (estimate)" in printed
    assert printed.count("no neuromorphic hardware was measured") == 1
    assert "host output values not modelled" in printed


@pytest.mark.slow
def test_the_host_takes_the_time_of_the_messages_that_it_sends(
    changing: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    start = backends.open_backend
    reference = backends.BackendName.REFERENCE
    monkeypatch.setattr(
        modelled_workflow, "open_backend", lambda name, *rest: start(reference, *rest)
    )
    out = tmp_path / "run.json"
    assert play(changing, "--chip", "loihi2", "--input-ms", 1, "--json", out, "--details") == 0
    result = json.loads(out.read_text())
    modelled, (point,) = result["modelled"], result["points"]
    # 1,497 ns a value of Loihi 2's first set of times; the rest of the host's part is constant.
    assert modelled["message_us"] == point["timing"]["message_us"] == 1.497
    assert point["timing"]["input_ms"] == 1
    (game,) = point["episodes"]
    sent = game["input"]
    assert sent["write_ms"]["mean"] == pytest.approx(sent["messages"] * 1.497e-3 / 12, abs=1e-4)
    assert sent["write_ms"]["max"] > 10 * sent["write_ms"]["p50"]
    fixed = 1 + point["timing"]["chip_ms"]
    for name in ("mean", "p50", "max"):
        assert game["response_ms"][name] == pytest.approx(fixed + sent["write_ms"][name], abs=1e-3)
    printed = " ".join(capsys.readouterr().out.split())
    assert "the host writes 1.497 us a message" in printed
    # It goes on from the score, in one sentence.
    assert result["verdict"][1:] in printed


def test_the_only_task_needs_no_name_and_one_of_two_does(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "hil.json"
    few = ("--backend", "reference", "--max-decisions", 2)
    assert hil(bundle, *few, "--json", out) == 0
    assert json.loads(out.read_text())["task"] == "pong"
    (task,) = bundle.network.tasks
    tasks = (task, replace(task, name="again"))
    rows = [
        replace(one, thresholds=np.concatenate([one.thresholds] * 2))
        for one in bundle.network.populations
    ]
    both = replace(bundle.network, tasks=tasks, populations=tuple(rows))
    assert hil(write_bundle(tmp_path / "two.deploy", both), *few) == 2
    assert "name the game with --task (pong, again)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--task", "chess"), "unknown task 'chess'"),
        (("--task", "pong", "--fault", "rust=1"), "unknown fault 'rust'"),
        (("--task", "pong", "--fault-sweep", "stuck-0"), "KIND=RATE"),
        (
            ("--task", "pong", "--fault-sweep", "stuck-0=0,1", "--fault", "stuck-0=0.5"),
            "--fault stuck-0=0.5: --fault-sweep names the rates of this fault; leave one of both",
        ),
        (
            ("--task", "pong", "--fault-sweep", "stuck-0=0,1", "--away-ms", "5"),
            "--away-ms: is of a chip that dies, --fault chip-death=RATE; leave it out",
        ),
        (("--task", "pong", "--latency-sweep", "a,b"), "write milliseconds"),
        (("--task", "pong", "--latency-sweep", "0,-5"), "can be simulated"),
        (("--task", "pong", "--latency-sweep", "0", "--fault-sweep", "stuck-0=0"), "two sweeps"),
        (("--task", "pong", "--latency-sweep", "0", "--measured"), "choose one"),
        (("--task", "pong", "--latency-ms", "1", "--chip", "loihi2"), "choose one"),
        (("--task", "pong", "--times", "x"), "add --chip"),
        (("--task", "pong", "--picture", "x.png"), "--picture draws a curve"),
        (("--task", "pong", "--refresh-every", "5"), "encoder is every-step, which sends whole"),
        (("--task", "pong", "--fault", "lost-changes=0.1"), "export the agent with --encoder"),
        (("--task", "pong", "--refresh-every", "5,never"), "add --fault-sweep lost-changes"),
        (("--task", "pong", "--refresh-every", "often"), "write a number of decisions or never"),
        (("--task", "pong", "--refresh-every", "-1"), "write a number of decisions or never"),
        (("--task", "pong", "--refresh-every", "0"), "refresh-every 0: 1 to 10,000,000"),
        (("--task", "pong", "--connect", "here"), "write tcp://HOST:PORT"),
        (("--task", "pong", "--connect", "tcp://127.0.0.1:9"), "needs the key"),
        (
            ("--task", "pong", "--connect", "tcp://127.0.0.1:9", "--key", "x"),
            "the key has 32 hexadecimal digits",
        ),
        (("--serve", "tcp://127.0.0.1:*", "--key", "x"), "the key has 32 hexadecimal digits"),
        (("--serve", "tcp://127.0.0.1:99999"), "write tcp://HOST:PORT"),
        (("--serve", "ipc:///x"), "write tcp://HOST:PORT"),
        (
            ("--serve", "tcp://127.0.0.1:*", "--fault", "lost-changes=0.1"),
            "--serve: the fault lost-changes is not the chip's own; order it where the game",
        ),
        (
            ("--serve", "tcp://127.0.0.1:*", "--fault", "lost-messages=0"),
            "order it where the game is played",
        ),
        (
            ("--serve", "tcp://127.0.0.1:*", "--fault", "chip-death=0.1"),
            "only a chip that mtspark hil starts for a game",
        ),
        (
            ("--task", "pong", "--connect", "tcp://127.0.0.1:9", "--fault", "chip-death=0.1"),
            "faults of the chip are ordered where it is served",
        ),
        (
            ("--task", "pong", "--backend", "lava", "--fault", "stuck-0=0.1"),
            "simulated by the reference",
        ),
    ],
)
def test_a_bad_request_is_one_line(
    bundle: Bundle, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hil(bundle, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line


# The board


def test_without_intels_compiler_the_board_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hil_chip, "installed_lava", lambda: "0.10.0")
    monkeypatch.setattr(hil_chip, "load_lava", lambda: None)
    monkeypatch.setattr(hil_chip, "LOIHI_COMPILER", "no_such.compiler")
    with pytest.raises(BackendMissingError, match="Intel's compiler for Loihi") as found:
        hil_chip.builder(ChipBackend.LOIHI2, 0)
    assert "\n" not in str(found.value)
    monkeypatch.setattr(hil_chip, "installed_lava", lambda: None)
    with pytest.raises(BackendMissingError, match="install-lava"):
        hil_chip.builder(ChipBackend.LOIHI2, 0)


def test_with_the_compiler_lava_is_asked_for_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    from mtspark.sim import backends

    asked: list[dict[str, object]] = []
    monkeypatch.setattr(hil_chip, "installed_lava", lambda: "0.10.0")
    monkeypatch.setattr(hil_chip, "load_lava", lambda: None)
    monkeypatch.setitem(sys.modules, "planted_compiler", ModuleType("planted_compiler"))
    monkeypatch.setattr(hil_chip, "LOIHI_COMPILER", "planted_compiler")
    monkeypatch.setattr(backends, "LavaBackend", lambda network, **how: asked.append(how))
    hil_chip.builder(ChipBackend.LOIHI2, 1)(None)  # type: ignore[arg-type]
    hil_chip.builder(ChipBackend.LAVA, None)(None)  # type: ignore[arg-type]
    assert asked == [
        {"stock": True, "task": 1, "hardware": True},
        {"stock": False, "task": None, "hardware": False},
    ]


def test_no_process_that_the_command_starts_inherits_the_key(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def serve(*_: object, key: str, **__: object) -> None:
        seen.append((key, KEY_VARIABLE in own_environment()))

    monkeypatch.setenv(KEY_VARIABLE, "0" * 32)
    monkeypatch.setattr(serving, "serve_chip", serve)
    assert hil(bundle, "--serve", "tcp://127.0.0.1:*") == 0
    assert seen == [("0" * 32, False)]
