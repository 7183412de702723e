"""The command `mtspark hil`, on the reference: nothing is compiled."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mtspark.cli import main as cli
from mtspark.core.errors import BackendMissingError
from mtspark.core.process import own_environment
from mtspark.deploy.bundle import Bundle
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
from tests.support.hil_agent import pong_bundle


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


def test_a_sweep_that_was_stopped_goes_on(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """Nothing is played here: a point's games are made of its place."""
    out, picture = tmp_path / "curve.json", tmp_path / "curve.png"
    played: list[float | None] = []

    def made_up(
        _bundle: Bundle, request: HilRequest, settings: list[Setting], _progress: object
    ) -> Iterator[Point]:
        for setting in settings:
            place = setting.place
            played.append(place)
            games = (
                HilEpisode(number, float(place or 0), 4, 16, 0, True, "x", Tally(in_time=4), None)
                for number in request.seeds
            )
            yield Point(setting, request.backend.value, tuple(games), None)

    monkeypatch.setattr(sweep_workflow, "_play_points", made_up)
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
        ("--connect", "tcp://127.0.0.1:9", "--key", "0" * 32),
    ):
        out.write_text(text)
        played.clear()
        assert play(bundle, *sweep, *other, "--json", out) == 0
        assert played == [0, 0.2, 0.5]
    for wrong in ("[]", text.replace(bundle.network_hash, "0" * 64), "{"):
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
    assert play(bundle, "--chip", "loihi2", "--input-ms", 1, "--json", out) == 0
    result = json.loads(out.read_text())
    terms = result["modelled"]["terms_ms"]
    timing = result["points"][0]["timing"]
    assert timing["chip_ms"] == pytest.approx(terms["chip steps"])
    assert timing["input_ms"] == pytest.approx(1 + terms["host input values"])
    assert terms["host output values"] is None
    assert "host output values" in result["modelled"]["not_modelled"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "ESTIMATE for Loihi 2" in printed
    assert "host output values not modelled" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name the game with --task"),
        (("--task", "chess"), "unknown task 'chess'"),
        (("--task", "pong", "--fault", "rust=1"), "unknown fault 'rust'"),
        (("--task", "pong", "--fault-sweep", "stuck-0"), "KIND=RATE"),
        (("--task", "pong", "--latency-sweep", "a,b"), "write milliseconds"),
        (("--task", "pong", "--latency-sweep", "0,-5"), "can be simulated"),
        (("--task", "pong", "--latency-sweep", "0", "--fault-sweep", "stuck-0=0"), "two sweeps"),
        (("--task", "pong", "--latency-sweep", "0", "--measured"), "choose one"),
        (("--task", "pong", "--latency-ms", "1", "--chip", "loihi2"), "choose one"),
        (("--task", "pong", "--times", "x"), "add --chip"),
        (("--task", "pong", "--picture", "x.png"), "--picture draws a curve"),
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
