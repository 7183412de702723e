"""The commands ``mtspark agents list``, ``push``, ``pull`` and ``mean``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import one_thread_each
from mtspark.cli._progress import progress_bar
from mtspark.core.errors import BadRequestError
from mtspark.core.files import check_json_target, write_json

group = typer.Typer(add_completion=False, invoke_without_command=True)

ADDRESS = (
    "Folder of agents, a path or an address of fsspec: file://, hf://datasets/NAME/agents (needs "
    "mtspark[hub]; untested), and others."
)
JSON = "Write the result to this file."


@group.callback()
def agents(context: typer.Context) -> None:
    """List agents with their cards, push, pull or average them.

    A card says what an agent does and how well, what a decision costs, how it was trained, and the
    size and SHA-256 of its files. Without a command, the agents that come with mtspark are listed.
    """
    if context.invoked_subcommand is None:
        list_command()


@group.command("list")
def list_command(
    address: Annotated[
        str | None, typer.Argument(help=ADDRESS + " Default: the agents that come with mtspark.")
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Show all that the cards say.")
    ] = False,
    json_out: Annotated[Path | None, typer.Option("--json", help=JSON)] = None,
) -> None:
    """List the agents of a folder or an address: task, score, cost, size.

    Files on this computer are compared with their cards.
    """
    from mtspark.cli.show import print_agents
    from mtspark.workflows.zoo import list_agents

    check_json_target(json_out)
    listing = list_agents(address)
    print_agents(listing, details=details)
    if json_out is not None:
        write_json(json_out, listing.to_json())


@group.command("push")
def push_command(
    source: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of an agent or of its training, or a .pt file."),
    ],
    address: Annotated[str, typer.Argument(help=ADDRESS)],
    name: Annotated[
        str | None, typer.Option(help="Name of the agent (default: of its file or folder).")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Of the agent, for example Apache-2.0.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="What trained it, a command or a file.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="Anything else that a user should know.")] = None,
    hours: Annotated[
        float | None, typer.Option(min=0, help="Of training, where there is no log of it.")
    ] = None,
    games: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1000,
            help="Play so many to count the cost; 0: no cost (default: the cost on a card that "
            "lies beside the agent, else 3).",
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace an agent of this name.")] = False,
    json_out: Annotated[Path | None, typer.Option("--json", help=JSON)] = None,
) -> None:
    """Write an agent's card and put the agent's file, its log and the card at an address.

    Scores, protocol and training are those that the agent's file holds (`mtspark eval --into`),
    hours those of its log. What a decision costs is counted in games that the chip plays, up to
    1,000 decisions each; that of images is not measured.
    Licence, recipe and note stay as on a card that lies beside the agent.
    """
    one_thread_each()
    from mtspark.cli.show import print_pushed
    from mtspark.workflows.zoo import PushRequest, push_agent

    check_json_target(json_out)
    request = PushRequest(
        source=source,
        address=address,
        name=name,
        licence=licence,
        recipe=recipe,
        note=note,
        hours=hours,
        games=games,
        replace=force,
    )
    with progress_bar() as progress:
        result = push_agent(request, progress=progress)
    print_pushed(result)
    if json_out is not None:
        write_json(json_out, result.to_json())


@group.command("pull")
def pull_command(
    name: Annotated[str, typer.Argument(help="Of the agent.")],
    address: Annotated[str, typer.Argument(help=ADDRESS)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to make (default: NAME).")
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Replace an agent's folder; other files in it stay.")
    ] = False,
    json_out: Annotated[Path | None, typer.Option("--json", help=JSON)] = None,
) -> None:
    """Fetch an agent, whole or not at all, and check it against its card.

    Sizes and SHA-256 of its files, and the tasks, scores and training in the agent's file, must be
    those of the card; licence, recipe, note and costs are what its author says.
    """
    one_thread_each()
    from mtspark.cli.show import print_pulled
    from mtspark.workflows.zoo import pull_agent

    check_json_target(json_out)
    with progress_bar() as progress:
        result = pull_agent(name, address, output, replace=force, progress=progress)
    print_pulled(result)
    if json_out is not None:
        write_json(json_out, result.to_json())


@group.command("mean")
def mean_command(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="AGENT...", help="Two or more agents: .pt files, or the folders of trainings."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="File of the mean to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json_out: Annotated[Path | None, typer.Option("--json", help=JSON)] = None,
) -> None:
    """Write the mean of several agents' weights, which often plays better than each of them.

    The agents are of one recipe and began with the same weights, as seeds with a start_from do.
    The mean has no scores yet: export and evaluate it before you use it.
    """
    one_thread_each()
    from mtspark.cli.show import print_averaged
    from mtspark.workflows.zoo import average_agents

    if json_out is not None and json_out.resolve() == output.resolve():
        raise BadRequestError(f"--json {json_out}: is written by -o, too; choose another name")
    check_json_target(json_out)
    with progress_bar() as progress:
        result = average_agents(sources, output, replace=force, progress=progress)
    print_averaged(result)
    if json_out is not None:
        write_json(json_out, result.to_json())
