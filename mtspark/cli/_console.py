"""The console; how a program begins and ends: errors as one line on stderr, and exit codes."""

from __future__ import annotations

import codecs
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from rich.console import Console, ConsoleOptions, RenderHook
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table

from mtspark.core.errors import BadRequestError, MtsparkError
from mtspark.core.interrupts import heeded_interrupts, patient_imports
from mtspark.core.process import one_thread_each as one_thread_each

if TYPE_CHECKING:
    from typer import Context

WIDEST = 10_000
"""Columns of a console on which the words of a table are measured."""
NARROW = 60
"""Columns below which a table of options leaves no room for their words."""
LONGEST_WORD = 20
"""That a table keeps whole on a narrow terminal."""


def printable(text: str) -> str:
    """Return a text whose control and invisible letters are escaped; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class _Printable:
    """What rich would show, with its texts made printable; colours are rich's own and stay."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        if isinstance(self._content, Table):
            options = _wide_enough(console, options, self._content)
        for text, style, control in console.render(self._content, options):
            yield Segment(text if control else printable(text), style, control)


def _wide_enough(console: Console, options: ConsoleOptions, table: Table) -> ConsoleOptions:
    """Keep words whole: half of a number says nothing, and the terminal breaks longer lines.

    What is longer than :data:`LONGEST_WORD`, as a path, is broken within its column.
    """
    unbounded = options.update(width=WIDEST)
    least = Measurement.get(console, unbounded, table).minimum
    for column in table.columns:
        parts = (column.header, *column.cells)
        word = max(Measurement.get(console, unbounded, part).minimum for part in parts)
        column.min_width = max(column.min_width or 0, min(word, LONGEST_WORD))
        column.overflow = "fold"
        least -= max(0, word - LONGEST_WORD)
    return options.update(width=max(options.max_width, least))


class _OnlyPrintable(RenderHook):
    def process_renderables(self, renderables: list[Any]) -> list[Any]:
        return [_Printable(content) for content in renderables]


class _Uncropped(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """Print; lines that are longer than the terminal is wide are not cut off."""
        super().print(*objects, **{"crop": False, **options})


def new_console(**options: Any) -> Console:
    """Make a console that prints what it is given: names may look like markup, or hold escapes.

    A line with styles asks for `markup=True` and escapes every name in it.
    """
    made = _Uncropped(markup=False, emoji=False, **options)
    made.push_render_hook(_OnlyPrintable())
    return made


console = new_console()


def help_style() -> Literal["rich"] | None:
    """How typer lays out help: tables, or plain text where a terminal is too narrow for them."""
    narrow = shutil.get_terminal_size().columns < NARROW
    return None if narrow or os.environ.get("TERM") == "dumb" else "rich"


def refuse_given(context: Context, why: str, *names: str, but: tuple[str, ...] = ()) -> None:
    """Refuse options that mean nothing here, rather than take them and do nothing.

    Args:
        context: of the command.
        why: they mean nothing, to stand behind an option and a colon.
        names: of the command's parameters; none: all that `but` does not name.
        but: parameters that are taken.

    Raises:
        BadRequestError: one of them stands on the command line, whatever its value.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in but or (names and name not in names) or source is None:
            continue
        if source.name == "COMMANDLINE":
            raise BadRequestError(f"{max(parameter.opts, key=len)}: {why}; leave it out")


MOST, MOST_RECORDED = 10**7, 10**5
"""Upper bounds of options that count games, images or decisions, and of recorded decisions."""

DETAILS = "Show all: counts, bill, sources."
"""Help of the option that shows what stands behind the first two sentences."""

EXECUTOR = (
    "Who works: processes, processes:N, ray, ray:HOST:PORT, ray://HOST:PORT, slurm, "
    "slurm:NAME=VALUE,... (default: this process). The results are the same; docs/cluster.md."
)
"""Help of the option that hands work to other processes or machines."""

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

# A write that fails for one of these reasons often carries no file name, and is no bug of ours.
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


@contextmanager
def errors_as_one_line() -> Iterator[None]:
    """Turn an error that the user can act on into one line on stderr and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        stop("interrupted", EXIT_INTERRUPTED)
    except MtsparkError as error:
        stop(f"error: {error}{_without_folder(str(error))}", EXIT_BAD_INPUT)
    except OSError as error:
        # A closed pipe (`mtspark report | head`) is typer's to end quietly; an OSError about no
        # file at all is a bug and deserves its traceback.
        about_a_file = error.filename is not None or error.errno in _DISK_ERRORS
        if "temporary directory" in str(error):
            stop(f"error: {_describe(error)}; name one in TMPDIR that has room", EXIT_BAD_INPUT)
        if error.errno == errno.EPIPE or not about_a_file:
            raise
        stop(f"error: {_describe(error)}", EXIT_BAD_INPUT)


def run_program(command: Callable[..., Any]) -> NoReturn:
    """Run typer's `command(standalone_mode=False)`; a wrong call is one line, too.

    Typer would draw a box of five lines around "no such option".
    """
    import typer

    _take_any_text()
    # Typer carries click inside or beside it, depending on its version: this finds either's.
    usage_error: Any = typer.BadParameter.__mro__[1]
    try:
        with patient_imports(), errors_as_one_line(), heeded_interrupts():
            code = command(standalone_mode=False)
    except usage_error as error:
        # Called without arguments: the help, which says how to call it, is already printed.
        if type(error).__name__ == "NoArgsIsHelpError":
            raise SystemExit(EXIT_BAD_INPUT) from None
        stop(_usage_line(error), EXIT_BAD_INPUT)
    except typer.Abort:
        stop("interrupted", EXIT_INTERRUPTED)
    # Without standalone mode typer hands back the code of typer.Exit, of Ctrl-C, too.
    if code == EXIT_INTERRUPTED:
        stop("interrupted", EXIT_INTERRUPTED)
    raise SystemExit(code if isinstance(code, int) else 0)


_PLAIN = str.maketrans(
    # Micro, ellipsis, times, arrow, minus, dashes, quotes, squared, cubed, plus-minus, dots.
    "\u00b5\u2026\u00d7\u2192\u2212\u2013\u2014\u201c\u201d\u2018\u2019\u00b2\u00b3\u00b1\u00b7\u2022",
    "u.x>---\"\"''23+..",
)
"""One letter for one, so that columns stay below each other; others are escaped."""


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """What an output gets in place of letters that its encoding does not have."""
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end].translate(_PLAIN)
    return letters.encode("ascii", "backslashreplace"), error.end


def _take_any_text() -> None:
    """Let both outputs take every letter, whatever their encoding (LANG=C, a pipe on Windows).

    Letters that look like one of ASCII become that one, others are written as ``\\xe9``.
    """
    codecs.register_error("mtspark.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        # A closed one is None, and one that a caller has put there may be anything.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="mtspark.plain")


def _usage_line(error: Any) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    start = message[:1].lower() + message[1:]
    where = f"; see {error.ctx.command_path} --help" if error.ctx is not None else ""
    return f"error: {start}{where}"


def stop(message: str, code: int) -> NoReturn:
    """Print one line on stderr and exit."""
    # A file name may hold line breaks or terminal codes: the one line shows them, escaped.
    print(printable(message).replace("\n", "\\n"), file=sys.stderr)
    raise SystemExit(code)


def folder_is_gone() -> bool:
    """Whether the folder that this process stands in is, as after it replaced a bundle there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _without_folder(text: str) -> str:
    if "no such file" not in text.lower() or not folder_is_gone():
        return ""
    return f"; {GONE}"


GONE = 'the folder that this shell is in was replaced or removed; enter it again: cd "$PWD"'


def _describe(error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    reason = (error.strerror or type(error).__name__).lower()
    return f"{' -> '.join(names)}: {reason}" if names else reason
