"""The console scripts: commands by name, errors as one line, exit codes.

Commands are loaded when they are named, and load their own rooms when they run, so that
`--help` needs no torch and `mtspark doctor` starts however broken the installation is.
"""

from __future__ import annotations

import importlib
import sys
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mtspark.cli._console import errors_as_one_line, help_style, run_program
from mtspark.core.version import __version__

COMMANDS = {
    "demo": "mtspark.cli.demo:demo_command",
    "train": "mtspark.cli.train:train_command",
    "export": "mtspark.cli.export:export_command",
    "run": "mtspark.cli.run:run_command",
    "record": "mtspark.cli.record:record_command",
    "watch": "mtspark.cli.watch:watch_command",
    "hil": "mtspark.cli.hil:hil_command",
    "map": "mtspark.cli.map:map_command",
    "report": "mtspark.cli.report:report_command",
    "validate": "mtspark.cli.validate:validate_command",
    "diff": "mtspark.cli.diff:diff_command",
    "explain": "mtspark.cli.explain:explain_command",
    "eval": "mtspark.cli.evaluate:evaluate_command",
    "agents": "mtspark.cli.agents:group",
    "plasticity": "mtspark.cli.plasticity:plasticity_command",
    "compare": "mtspark.cli.compare:compare_command",
    "doctor": "mtspark.cli.doctor:doctor_command",
    "install-lava": "mtspark.cli.install:install_lava_command",
    "install-lava-dl": "mtspark.cli.install:install_lava_dl_command",
}
"""Name of each command, in the order of the help, and where its function lives."""

EPILOG = (
    "Exit codes: 0 done; 1 a check found something (diff: a difference, map: it does not fit, "
    "doctor: an essential part missing) or mtspark itself failed; 2 the request or a file is bad, "
    "said in one line on stderr; 130 interrupted."
)


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
        found = getattr(importlib.import_module(module), function)
        if isinstance(found, typer.Typer):
            # A command with commands of its own.
            found.info.name, found.rich_markup_mode = cmd_name, help_style()
            return typer.main.get_group(found)
        single = typer.Typer(add_completion=False, rich_markup_mode=help_style())
        single.command(cmd_name)(found)
        return typer.main.get_command(single)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse an empty argument: as a path it would be the folder that the user stands in."""
        for before, word in zip(["", *args], args, strict=False):
            if not word or (word.startswith("--") and word.endswith("=")):
                name = word.rstrip("=") or (before if before.startswith("-") else "")
                raise typer.BadParameter(
                    "is empty, perhaps a variable that is not set; leave it out or give it a value",
                    ctx=ctx,
                    param_hint=repr(name) if name else "an argument",
                )
        return list(super().parse_args(ctx, _with_own_options_first(ctx, args)))

    def invoke(self, ctx: Any) -> Any:
        """Load and run the command that was named."""
        with errors_as_one_line():
            return super().invoke(ctx)


def _with_own_options_first(context: Any, words: list[str]) -> list[str]:
    """Move --trust and --limit of every command before it, where the group looks for them.

    Raises:
        BadParameter: a limit at the end, which would take the command for its value.
    """
    own: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            others += [word, *rest]
        elif word == "--limit":
            value = next(rest, None)
            if value is None and context.resilient_parsing:
                others.append(word)  # A shell completes what is not written yet.
                continue
            if value is None:
                raise typer.BadParameter("needs NAME=N", ctx=context, param_hint="'--limit'")
            own += [word, value]
        elif word == "--trust" or word.startswith(("--limit=", "--trust=")):
            own.append(word)
        else:
            others.append(word)
    return [*own, *others]


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    rich_markup_mode=help_style(),
    epilog=EPILOG,
    # What is not one of our errors is a bug: the plain traceback is what a report needs.
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mtspark {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Read files in this process, without limits of memory and time: only files "
            "whose origin you know.",
        ),
    ] = False,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            metavar="NAME=N",
            help="What a file may ask for at most, for example array_bytes=2G; may be repeated. "
            "A wrong name lists them all.",
        ),
    ] = None,
) -> None:
    """From a PyTorch spiking agent to a neuromorphic chip: integers, proof, play, energy."""
    from mtspark.core.files import Policy, changed_limits, limits_from_environment, set_policy

    set_policy(Policy(changed_limits(limits_from_environment(), limit or []), trust))


def main() -> None:
    """Run `mtspark`."""
    run_program(partial(app, prog_name="mtspark"))


def export_main() -> None:
    """Run `mtspark-export CHECKPOINT`, which is `mtspark export CHECKPOINT`."""
    run_program(partial(app, ["export", *sys.argv[1:]], prog_name="mtspark"))
