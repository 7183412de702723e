"""Names of folders, files and tasks are shown as they are, whatever they look like."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.markup import escape
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from mtspark.cli import _progress
from mtspark.cli._console import new_console
from mtspark.cli._progress import progress_bar
from mtspark.cli.show.diff import print_diff
from mtspark.core.progress import Progress
from mtspark.sim.compare.agreement import Agreement, LayerAgreement
from mtspark.sim.compare.divergence import Divergence
from mtspark.workflows.diff.result import DiffResult

NAME = "br[/red].deploy"
"""Markup that closes a style which is not open; rich raises an error over it."""


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    output = capsys.readouterr()
    # Progress, as plain lines; no error.
    assert all(line.endswith(" s") for line in output.err.splitlines())
    return output.out.replace("\n", "")


@pytest.mark.parametrize("name", [NAME, "a[bold]b.deploy", "c:smile:d.deploy"])
@pytest.mark.slow
def test_export_shows_the_folder(
    name: str,
    checkpoint: Path,
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("export", checkpoint, "-o", tmp_path / name) == 0
    output = shown(capsys)
    assert f"wrote {tmp_path / name}" in output
    assert f"{Path(name).name}: 4 layers on the chip" in output


def test_run_shows_the_folder(
    played: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", played, "--task", "pong", "--max-decisions", 2) == 0
    assert f"wrote {played / 'runs'}" in shown(capsys)


def test_report_shows_the_folder(
    played: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (played / "runs" / "other.json").write_text(
        next((played / "runs").glob("*.json"))
        .read_text()
        .replace('"network_sha256": "', '"network_sha256": "0')
    )
    try:
        capsys.readouterr()
        assert call("report", played) == 0
        output = shown(capsys)
        assert "pong: the chip scores" in output
        assert f"1 runs of an earlier network in {played / 'runs'}" in output.replace("  ", " ")
    finally:
        (played / "runs" / "other.json").unlink()


def test_diff_shows_both_folders(
    played: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("diff", played, "--against", played, "--decisions", 1) == 0
    assert shown(capsys).count(NAME) == 2


@pytest.mark.parametrize("different", [0, 3])
def test_a_difference_is_shown_beside_any_name(
    different: int, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Divergence(0, 1, "l[/b]", (1,), "spike", 1, 0) if different else None
    agreement = Agreement(2, {"l[/b]": LayerAgreement(9, different)}, first)
    result = DiffResult("x[/y]", "z[bold]", "pong", 0, agreement)
    print_diff(result)
    output = shown(capsys)
    assert "x[/y] against z[bold], 2 decisions" in output
    assert ("layer l[/b], neuron (1,)" in output) == bool(different)


def test_progress_takes_any_task_name() -> None:
    with progress_bar() as progress:
        progress(Progress("po[/red]ng on engine", 0, 1, "episodes"))


ODD = "a\x1b[31mb\u202ec\x07d\x9be\rf"


def test_nothing_but_our_own_colours_reaches_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = new_console(force_terminal=True, color_system="standard", width=70)
    table = Table(ODD, title=ODD)
    table.add_row(ODD, Text(ODD, "red"))
    made.print(table)
    made.print(ODD, ["[red]", ODD], soft_wrap=True)
    made.print(f"[red]{escape(ODD)}[/red]\nnext", markup=True)
    out = capsys.readouterr().out
    assert r"a\x1b[31mb\u202ec" in out
    assert r"\x9be" in out
    assert out.endswith("\nnext\n")
    # What is left are colours of rich: red, italics of a title, bold heads, and their ends.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert "\x1b[31ma\\x1b" in out
    assert all(letter.isprintable() or letter == "\n" for letter in plain)
    assert "\x1b[31mb" not in out


def test_a_bar_shows_odd_names_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(
        RichProgress, "update", lambda self, task, **fields: shown.append(fields["detail"])
    )
    monkeypatch.setattr(
        RichProgress, "reset", lambda self, task, **fields: shown.append(fields["description"])
    )
    bar = _progress._Bar()
    bar(Progress(ODD, 1, 2, "steps", ODD))
    bar.end()
    assert len(shown) == 2
    assert all(text.isprintable() for text in shown)
