"""Narrow terminals: words and numbers are whole, whatever the width."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mtspark.cli._console import LONGEST_WORD, help_style, new_console

WIDTHS = (1, 20, 40, 79)
NUMBERS = ("11,123.5", "-0.25", "100.0%", "16.9 k", "4,294,967,296")
PATH = "/data/somebody/a/very/long/path/that/fits/nowhere/network.deploy"


def printed(width: int, *objects: object) -> str:
    file = io.StringIO()
    console = new_console(file=file, width=width)
    for one in objects:
        console.print(one)
    return file.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("options", [{}, {"box": SIMPLE_HEAD, "padding": 0}])
def test_no_number_of_a_table_is_cut(width: int, options: dict[str, object]) -> None:
    table = Table(**options)  # type: ignore[arg-type]
    for number in range(len(NUMBERS) + 1):
        table.add_column("synapses" if number else "layer", justify="right")
    table.add_row("hidden", *NUMBERS)
    table.add_row("graded synaptic operation", *reversed(NUMBERS))
    text = printed(width, table)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for word in (*NUMBERS, "hidden", "graded", "synaptic", "operation", "synapses"):
        assert all(part in text for part in word.split())


def test_a_path_is_broken_within_its_column_and_nothing_of_it_is_lost() -> None:
    table = Table()
    table.add_column("place")
    table.add_column("state")
    table.add_row(PATH, "ok")
    text = printed(20, table)
    assert max(map(len, text.splitlines())) <= LONGEST_WORD + 20
    assert "".join(re.findall(r"^│ (\S+) +│", text, re.MULTILINE)) == PATH


def test_a_wide_terminal_shows_a_table_as_before() -> None:
    table = Table(title="counts")
    table.add_column("layer")
    table.add_row("hidden")
    assert printed(80, table).splitlines()[1:] == [
        "┏━━━━━━━━┓",
        "┃ layer  ┃",
        "┡━━━━━━━━┩",
        "│ hidden │",
        "└────────┘",
    ]


@pytest.mark.parametrize(("columns", "terminal"), [("40", "xterm"), ("80", "dumb")])
def test_help_names_options_whole(
    columns: str,
    terminal: str,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", terminal)
    assert help_style() is None
    assert call("map", "--help") == 0
    text = capsys.readouterr().out
    for option in ("--spread-thresholds", "--max-decisions", "--pilotnet"):
        assert option in text
    assert "--decisions" not in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "\x1b" not in text
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    assert help_style() == "rich"
