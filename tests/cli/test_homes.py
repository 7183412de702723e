"""Users without a home, and places that cannot be written: every command works all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.sequence import ROOT, Answer, side_by_side

CARTPOLE = ROOT / "examples" / "agents" / "cartpole" / "cartpole.pt"
CUT = ("--max-decisions", 3)
NOWHERE = "/proc/none"
"""Where nobody can make a folder, not even root."""

COMMANDS: dict[str, tuple[object, ...]] = {
    # {h} is a folder of its own; the bundle is there already.
    "help": ("--help",),
    "agents": ("agents", "list", "--json", "{h}/agents.json"),
    "export": ("export", CARTPOLE, "-o", "{h}/new.deploy", "--formats", "nir,onnx"),
    "run": ("run", "{h}/cart.deploy", *CUT, "--video", "{h}/film.gif"),
    "eval": ("eval", "{h}/cart.deploy", *CUT, "--episodes", 2, "--json", "{h}/eval.json"),
    "executor": (
        *("eval", "{h}/cart.deploy", *CUT, "--episodes", 2, "--executor", "processes:1"),
        *("--json", "{h}/processes.json"),
    ),
    "explain": ("explain", "{h}/cart.deploy", "--decisions", 3, "--json", "{h}/explain.json"),
    "map": ("map", "{h}/cart.deploy", "-o", "{h}/map.png"),
    "report": (
        *("report", "{h}/cart.deploy", *CUT, "-o", "{h}/page.html", "--card", "loihi2_pilotnet"),
    ),
    "diff": ("diff", "{h}/cart.deploy", "--against", "onnx", "--decisions", 2),
    "record": ("record", CARTPOLE, "-o", "{h}/data", *CUT, "--episodes", 2),
    "train": ("train", "cartpole", "-o", "{h}/run", "--steps", 1024),
    "watch": ("watch", "{h}/cart.deploy", "--no-browser", "--json", "{h}/watch.json"),
}
WRITTEN = {
    *("agents.json", "new.deploy", "film.gif", "eval.json", "processes.json", "explain.json"),
    *("map.png", "page.html", "page.json", "data", "run", "watch.json", "cart.deploy"),
}
CACHES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR", "TMPDIR")
HOMES: dict[str, dict[str, str | None]] = {
    "unset": dict.fromkeys(("HOME", *CACHES)),
    "empty": dict.fromkeys(("HOME", *CACHES), ""),
    "not there": {**dict.fromkeys(CACHES), "HOME": "{h}/none/home"},
    "a file": {"HOME": "{h}/file", **dict.fromkeys(CACHES, "{h}/file")},
    "below a file": {"HOME": "{h}/file/home", **dict.fromkeys(CACHES, "{h}/file/cache")},
    "not writable": {"HOME": NOWHERE, **dict.fromkeys(CACHES, NOWHERE)},
}
FEW = ("help", "agents", "export", "eval")
"""Commands of homes that differ from another one in the reason alone why nothing is kept there."""
SHORT = ("empty", "not there", "below a file")


@dataclass(frozen=True)
class Visit:
    """What a user with one of the homes has, after all commands.

    Attributes:
        place: the user's folder.
        answers: of the commands, by name.
    """

    place: Path
    answers: dict[str, Answer]


@pytest.fixture(scope="module", params=HOMES)
def visit(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    call: Callable[..., int],
) -> Visit:
    """All commands, one after the other, in a process that begins with this home."""
    place, variables = tmp_path_factory.mktemp("home"), HOMES[request.param]
    (place / "file").write_text("a file")
    assert call("export", CARTPOLE, "-o", place / "cart.deploy") == 0
    names = FEW if request.param in SHORT else COMMANDS
    words = [[str(word).format(h=place) for word in COMMANDS[name]] for name in names]
    home = {
        name: value if value is None else value.format(h=place) for name, value in variables.items()
    }
    said = side_by_side(tmp_path_factory.mktemp("said"), {"all": words}, {"all": home})["all"]
    return Visit(place, dict(zip(names, said, strict=True)))


@pytest.mark.slow
def test_no_command_needs_a_home(visit: Visit) -> None:
    for command, (code, out, err) in visit.answers.items():
        # Somebody who watches ends it with Ctrl-C.
        assert code == (130 if command == "watch" else 0), (command, err)
        assert "Traceback" not in err, command
        # The address is in the file before it is printed.
        assert out or command == "watch", command


@pytest.mark.slow
def test_results_are_whole_and_nothing_else_is_written(visit: Visit) -> None:
    """A folder that is no home yet may have come; a file that is none stays as it was."""
    there = {path.name for path in visit.place.iterdir()}
    few = {"agents.json", "new.deploy", "eval.json", "cart.deploy"}
    short = len(visit.answers) == len(FEW)
    assert there - {"none"} == (few if short else WRITTEN) | {"file"}
    assert (visit.place / "file").read_text() == "a file"
    if short:
        return
    one, other = (
        json.loads((visit.place / f"{name}.json").read_text()) for name in ("eval", "processes")
    )
    assert one["rows"] == other["rows"] != []
