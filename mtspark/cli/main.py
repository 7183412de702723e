"""The console scripts: commands by name, errors as one line, exit codes.

Commands are loaded when they are named, and load their own rooms when they run, so that
`--help` needs no torch and `mtspark doctor` starts however broken the installation is.
"""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import mtspark
from mtspark.core.errors import MtsparkError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "demo": "mtspark.cli.demo:demo_command",
    "export": "mtspark.cli.export:export_command",
    "run": "mtspark.cli.run:run_command",
    "report": "mtspark.cli.report:report_command",
    "diff": "mtspark.cli.diff:diff_command",
    "eval": "mtspark.cli.evaluate:evaluate_command",
    "doctor": "mtspark.cli.doctor:doctor_command",
    "install-lava": "mtspark.cli.install_lava:install_lava_command",
}
"""Name of each command, in the order of the help, and where its function lives."""

EPILOG = (
    "Exit codes: 0 done; 1 a check found something (diff: a difference, doctor: an essential "
    "part missing) or mtspark itself failed; 2 the request or a file is bad, said in one line on "
    "stderr; 130 interrupted."
)

# A write that fails for one of these reasons often carries no file name, and is no bug of ours.
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


class LazyCommands(TyperGroup):
    """A group that knows its commands by name and imports one when it is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # The names alone, for the list of commands and for "did you mean".
        names: dict[str, Any] = dict.fromkeys(COMMANDS)
        self.commands.update(names)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load the command's module; None when there is no command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name].split(":")
        single = typer.Typer(add_completion=False)
        single.command(cmd_name)(getattr(importlib.import_module(module), function))
        return typer.main.get_command(single)

    def invoke(self, ctx: Any) -> Any:
        """Load and run the command that was named."""
        with errors_as_one_line():
            return super().invoke(ctx)


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    epilog=EPILOG,
    # What is not one of our errors is a bug: the plain traceback is what a report needs.
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mtspark {mtspark.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """From a PyTorch spiking agent to a neuromorphic chip: integers, proof, play, energy."""


@contextmanager
def errors_as_one_line() -> Iterator[None]:
    """Turn an error that the user can act on into one line on stderr and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        _stop("interrupted", EXIT_INTERRUPTED)
    except MtsparkError as error:
        _stop(f"error: {error}", EXIT_BAD_INPUT)
    except OSError as error:
        # A closed pipe (`mtspark report | head`) is typer's to end quietly; an OSError about no
        # file at all is a bug and deserves its traceback.
        about_a_file = error.filename is not None or error.errno in _DISK_ERRORS
        if error.errno == errno.EPIPE or not about_a_file:
            raise
        _stop(f"error: {_describe(error)}", EXIT_BAD_INPUT)


def _describe(error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    reason = (error.strerror or type(error).__name__).lower()
    return f"{' -> '.join(names)}: {reason}" if names else reason


def _stop(message: str, code: int) -> None:
    # A file name may hold line breaks or terminal codes: the one line shows them, escaped.
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
    print(line, file=sys.stderr)
    raise SystemExit(code)


def main() -> None:
    """Run `mtspark`."""
    app(prog_name="mtspark")


def export_main() -> None:
    """Run `mtspark-export CHECKPOINT`, which is `mtspark export CHECKPOINT`."""
    app(["export", *sys.argv[1:]], prog_name="mtspark")
