"""The command ``mtspark export``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from mtspark.cli._console import one_thread_each, refuse_given
from mtspark.cli.measuring import DATA, LABELS, score_labelled, typed_command, written_page
from mtspark.core.errors import BadRequestError
from mtspark.core.files import check_json_target, write_json
from mtspark.sim.energy import DEFAULT_CARD
from mtspark.workflows.export import (
    DeclaredOption,
    Source,
    check_given,
    check_shape,
    declared_options,
    former_names,
    plain_name,
    source_of,
)

if TYPE_CHECKING:
    from mtspark.workflows.export import ExportRequest

NETWORK = "Networks that are no mtspark agents"
"""Heading of the options that checkpoints do not have."""


def export_command(
    context: typer.Context,
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A trained agent (.pt), a NIR graph by any tool (.nir), a netx network of lava-dl "
            "(.net), or any snntorch module (file.py:factory).",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder to make (default: NAME.deploy)."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace an existing bundle.")] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Then write this page (.html), as mtspark report -o: of a game that is played for "
            "it, of test images, or of --data."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            rich_help_panel=NETWORK,
            help=f"{DATA}. The bundle is then scored and priced on them, as by mtspark eval; "
            "without --input they also say shape, kind and scale of the input (a .net says them "
            "itself).",
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(rich_help_panel=NETWORK, help=LABELS)] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the summary to this file.")
    ] = None,
    **options: Any,
) -> None:
    """Turn a spiking network into a folder: float graphs and an integer chip network."""
    one_thread_each()
    for name, option in former_names().items():
        if options.pop(name):
            raise BadRequestError(f"--{name}: is now called {option.flag}; give that instead")
    check_json_target(json_out)
    source = source_of(checkpoint)
    given = {
        parameter.name or ""
        for parameter in context.command.params
        if (origin := context.get_parameter_source(parameter.name or "")) is not None
        and origin.name == "COMMANDLINE"
    }
    check_given(given, source)
    if data is None:
        refuse_given(context, "belongs to inputs, --data FILE.npy", "labels")
    if page is not None and data is None and source is not Source.AGENT:
        raise BadRequestError(
            "--page: shows what was measured on inputs of your own; give them, --data FILE.npz"
        )
    request = _request(checkpoint, options, given & set(options))
    folder = output or Path.cwd() / f"{plain_name(checkpoint)}.deploy"
    _check_page(page, folder, json_out)

    from mtspark.cli._progress import as_one_stage, progress_bar
    from mtspark.cli.show import print_export
    from mtspark.workflows.evaluate import named_after
    from mtspark.workflows.export import export_to
    from mtspark.workflows.scored_export import export_scored, labelled_inputs

    with progress_bar() as progress:
        shown = as_one_stage(progress, f"exporting {checkpoint.name}", "torch")
        if data is None:
            result = export_to(request, folder, overwrite=force, progress=shown)
        else:
            inputs = labelled_inputs(request, data, labels, progress=progress)
            with named_after(data, labels):
                result = export_scored(request, inputs, folder, overwrite=force, progress=shown)
    print_export(result)
    summary = {**result.to_json(), "folder": str(folder)}
    if data is not None:
        summary["evaluation"] = score_labelled(
            folder, data, labels, loaded=inputs, card=DEFAULT_CARD
        )
    if page is not None:
        from mtspark.workflows.report import ReportRequest

        asked = ReportRequest(command=typed_command())
        summary["page"] = str(written_page(folder, page, asked, verdict=data is None).page)
    if json_out is not None:
        write_json(json_out, summary)


def _check_page(page: Path | None, folder: Path, json_out: Path | None) -> None:
    """Refuse a page that could not be written, or not beside the other outputs.

    Raises:
        BadRequestError, BadFileError: as said.
    """
    if page is None:
        return
    from mtspark.workflows.report import check_page_target, data_path

    if folder.resolve() in page.resolve().parents:
        raise BadRequestError(f"--page {page}: lies in the bundle; choose another folder")
    for written in (page, data_path(page)):
        if json_out is not None and json_out.resolve() == written.resolve():
            raise BadRequestError(
                f"--json {json_out}: is written by --page, too; choose another name"
            )
    check_page_target(page)


def _request(source: Path, options: dict[str, Any], given: set[str]) -> ExportRequest:
    """The request that the command line makes.

    Raises:
        BadRequestError: options that do not exist, or not together.
    """
    from mtspark.workflows.export import (
        ExportRequest,
        check_options,
        chosen_formats,
    )

    fields = {
        name: value.value if isinstance(value, Enum) else value for name, value in options.items()
    }
    fields["formats"] = chosen_formats(fields["formats"])
    if fields["input_shape"] is not None:
        fields["input_shape"] = parse_shape(fields["input_shape"])
    request = ExportRequest(source=source, given=frozenset(given), **fields)
    check_options(request)
    return request


def parse_shape(text: str) -> tuple[int, ...]:
    """Read the value of --input-shape.

    Raises:
        BadRequestError: no sizes, or more values than a layer may have.
    """
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise BadRequestError(f"--input-shape {text}: numbers with commas, as 2,34,34") from error
    check_shape(shape, f"--input-shape {text}")
    return shape


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of an export in the place of its ``**options``."""
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    declared = [_parameter(option) for option in declared_options()]
    # In the help, what every source has comes first.
    at = next(index for index, one in enumerate(own) if one.name == "force")
    first = [
        one
        for one, option in zip(declared, declared_options(), strict=True)
        if not option.about.heading
    ]
    rest = declared[len(first) :]
    hidden = [_former(name) for name in former_names()]
    parameters = [*own[:at], *first, own[at], *rest, *own[at + 1 :], *hidden]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _parameter(option: DeclaredOption) -> inspect.Parameter:
    """An option as typer reads it from the signature of a function."""
    about = option.about
    # Two names of one value, or the two words of a switch, which typer takes as one text.
    flags = [] if about.flag is None else [about.flag]
    if bool not in (option.type, *get_args(option.type)):
        flags = [name for flag in flags for name in flag.split("/")]
    panel = NETWORK if about.heading else None
    info = typer.Option(
        *flags, help=about.help, rich_help_panel=panel, min=about.min, max=about.max
    )
    kind, default = _typer_type(option.type), option.default
    if kind == (str | None):
        default = default or None
    return inspect.Parameter(
        option.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=default,
        annotation=Annotated[kind, info],
    )


def _former(name: str) -> inspect.Parameter:
    """A flag that is taken only to say what it is called now."""
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=False,
        annotation=Annotated[bool, typer.Option(f"--{name}", hidden=True)],
    )


def _typer_type(declared: Any) -> Any:
    """The type of an option on the command line: choices as an Enum, lists as one text."""
    optional = type(None) in get_args(declared)
    kind: Any = next(one for one in (get_args(declared) if optional else (declared,)))
    if get_origin(kind) is tuple:
        return str | None
    if get_origin(kind) is Literal:
        kind = _choice({name.upper(): name for name in get_args(kind)})
    return kind | None if optional else kind


def _choice(names: dict[str, str]) -> Any:
    # As an Enum, which typer shows and checks.
    return Enum("Choice", names, type=str)


with_options(export_command)
