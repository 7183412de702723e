"""Push an agent to an address with a card, and pull one whose files are what its card says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files import AnyPath, chosen_policy, read_whole
from mtspark.core.progress import ProgressCallback, begin, no_progress
from mtspark.workflows.zoo.card import (
    CARD,
    LOG,
    AgentCard,
    CostEntry,
    card_of,
    check_name,
    file_entry,
    hours_of_log,
    read_card,
)
from mtspark.workflows.zoo.measure import GAMES, measure_costs
from mtspark.workflows.zoo.place import (
    check_agent_folder,
    checked_files,
    open_place,
    read_card_at,
    write_agent_folder,
)
from mtspark.workflows.zoo.source import TRAINED, agent_file

if TYPE_CHECKING:
    from mtspark.train.checkpoint import Agent

LOGS = (LOG, "log.jsonl")
"""Names of a log beside an agent's file: in a pushed folder, and in that of a training."""


@dataclass(frozen=True)
class PushRequest:
    """What is pushed, and what only its author knows of it.

    Attributes:
        source: an agent's file, or the folder that it lies in.
        address: folder of agents; the agent gets a folder of its own there.
        name: of the agent; None: that of its file, or of its folder.
        licence, recipe, note: for the card; None: as on the card beside the agent.
        hours: of training where no log tells; None: as on the card beside the agent.
        games: that are played to count what a decision costs; 0: the card has no cost; None: as
            on the card beside the agent, else :data:`GAMES`.
        replace: an agent of this name that is there already.
    """

    source: AnyPath
    address: str
    name: str | None = None
    licence: str | None = None
    recipe: str | None = None
    note: str | None = None
    hours: float | None = None
    games: int | None = None
    replace: bool = False


@dataclass(frozen=True)
class Pushed:
    """An agent at its new place.

    Attributes:
        card: as it lies there.
        where: its folder.
        same: it was there already, byte for byte, and nothing was written.
    """

    card: AgentCard
    where: str
    same: bool

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"where": self.where, "unchanged": self.same, "card": self.card.to_json()}


@dataclass(frozen=True)
class Pulled:
    """An agent whose files are those of its card.

    Attributes:
        card: of the agent.
        folder: where it lies now.
        same: it was there already, byte for byte, and nothing was written.
    """

    card: AgentCard
    folder: Path
    same: bool

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"folder": str(self.folder), "unchanged": self.same, "card": self.card.to_json()}


def push_agent(request: PushRequest, *, progress: ProgressCallback = no_progress) -> Pushed:
    """Write an agent's card and put both at an address; the card is written last.

    Args:
        request: what, and where to.
        progress: called at every decision of a measurement.

    Raises:
        BadRequestError: an agent of this name is there, or the request cannot be.
        BackendMissingError: a library of the address, or of an environment, is not installed.
        BadFileError: no agent, or it cannot be written.
    """
    place = open_place(request.address)
    path = agent_file(Path(request.source))
    stem = path.resolve().parent.name if path.name == TRAINED else path.stem
    name = check_name(request.name or stem)
    limits = chosen_policy(None, None).limits
    content = read_whole(path, limits)
    log = next((path.parent / one for one in LOGS if (path.parent / one).is_file()), None)
    files = {f"{name}.pt": content}
    if log is not None:
        files[LOG] = read_whole(log, limits)
    there = read_card_at(place, name)
    if place.local is not None:
        check_agent_folder(place.local / name)
    begin(progress, f"reading {path.name}", "torch")
    card = _card(request, name, path, files, progress)
    if there == card and _has_files(place, name, there):
        return Pushed(card, place.where(name), same=True)
    if there is not None and not request.replace:
        raise BadRequestError(
            f"{place.where(name)}: another agent of this name is there; push it under another, "
            "--name NAME, or replace it, --force"
        )
    place.write(name, files, card.content())
    return Pushed(card, place.where(name), same=False)


def pull_agent(
    name: str,
    address: str,
    folder: AnyPath | None = None,
    *,
    replace: bool = False,
    progress: ProgressCallback = no_progress,
) -> Pulled:
    """Fetch an agent, and keep it only if its files are what its card says.

    Sizes and SHA-256 of all files must be those of the card, and its tasks, scores and training
    those that the agent's file holds.

    Args:
        name: of the agent.
        address: folder of agents, any address of fsspec.
        folder: for the agent; default: one of its name, here.
        replace: an agent's folder that is there; what is not the agent's moves into the new one.
        progress: called when work begins.

    Raises:
        BadRequestError: no such agent, or the folder is taken.
        BackendMissingError: the library of the address is not installed.
        BadFileError: a file is not the one of its card, or the folder cannot be written.
    """
    check_name(name)
    place = open_place(address)
    target = Path(name if folder is None else folder)
    check_agent_folder(target.resolve())
    card = read_card_at(place, name)
    if card is None:
        known, _ = place.folders()
        listed = [one for one in known if place.read(one, CARD, 2**62) is not None][:12]
        raise BadRequestError(
            f"{place.where(name)}: no such agent; {', '.join(listed) or 'none'} "
            f"{'are' if len(listed) > 1 else 'is'} there"
        )
    if os.path.lexists(target):
        here = _folder_content(target, card)
        if here:
            return Pulled(card, target, same=True)
        if not replace:
            raise BadRequestError(
                f"{target}: holds another agent, or one that was changed; pull into another "
                "folder, -o FOLDER, or replace it, --force"
            )
    begin(progress, f"fetching {name}", "torch")
    files = checked_files(place, name, card.files)
    _check_facts(card, place.where(name), files)
    write_agent_folder(target, files, card.content())
    return Pulled(card, target, same=False)


def _card(
    request: PushRequest,
    name: str,
    path: Path,
    files: dict[str, bytes],
    progress: ProgressCallback,
) -> AgentCard:
    from mtspark.train.checkpoint import load_agent

    agent = load_agent(path, content=files[f"{name}.pt"])
    entries = {file: file_entry(content) for file, content in files.items()}
    before = _card_beside(path)
    same = before is not None and before.files[before.file] == entries[f"{name}.pt"]
    games = GAMES if request.games is None else request.games
    costs = _costs_on(before if same else None, request.games)
    costs = costs or measure_costs(agent, games, progress=progress)
    hours = hours_of_log(files[LOG]) if LOG in files else None
    if hours is None:
        hours = request.hours
        if hours is None and before is not None and same:
            hours = before.training.hours
    elif request.hours is not None:
        raise BadRequestError(
            f"--hours: {request.hours:g}; the log says {hours:g}, and the card takes that"
        )

    def stated(own: str | None, field: str) -> str:
        return own if own is not None else str(getattr(before, field, ""))

    return card_of(
        agent,
        name,
        entries,
        licence=stated(request.licence, "licence"),
        recipe=stated(request.recipe, "recipe"),
        note=stated(request.note, "note"),
        hours=hours,
        costs=costs,
    )


def _costs_on(card: AgentCard | None, games: int | None) -> dict[str, CostEntry]:
    """Costs on a card by task; none where they are of another number of games than was asked."""
    if card is None:
        return {}
    known = {task.name: task.cost for task in card.tasks if task.cost is not None}
    wanted = games is None or all(cost.games == games for cost in known.values())
    return known if wanted else {}


def _card_beside(path: Path) -> AgentCard | None:
    """The card that lies beside an agent's file, of this agent or of what it was before."""
    beside = path.parent / CARD
    if not beside.is_file():
        return None
    content = read_whole(beside, chosen_policy(None, None).limits)
    return read_card(content, str(beside), path.stem)


def _has_files(place: Any, name: str, card: AgentCard) -> bool:
    try:
        checked_files(place, name, card.files)
    except BadFileError:
        return False
    return True


def _folder_content(target: Path, card: AgentCard) -> bool:
    """Whether a folder holds exactly the files of a card, and that card."""
    limits = chosen_policy(None, None).limits
    try:
        if read_whole(target / CARD, limits, follow_links=False) != card.content():
            return False
        return all(
            file_entry(read_whole(target / file, limits, follow_links=False)) == entry
            for file, entry in card.files.items()
        )
    except BadFileError:
        return False


def _check_facts(card: AgentCard, where: str, files: dict[str, bytes]) -> None:
    """Compare a card with what the agent's file says.

    Raises:
        BadFileError: no agent, or another than the card describes.
    """
    from mtspark.train.checkpoint import load_agent

    agent: Agent = load_agent(f"{where}/{card.file}", content=files[card.file])
    hours = hours_of_log(files[LOG]) if LOG in files else None
    own = card_of(
        agent,
        card.name,
        card.files,
        licence=card.licence,
        recipe=card.recipe,
        note=card.note,
        hours=card.training.hours if hours is None else hours,
        costs={task.name: task.cost for task in card.tasks if task.cost is not None},
    )
    wrong = _first_difference(card.to_json(), own.to_json())
    if wrong is not None:
        raise BadFileError(f"{where}: the card and the agent's file differ in {wrong}")


def _first_difference(one: Any, other: Any, place: str = "") -> str | None:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(f"{place}.{key}".lstrip("."), one[key], other[key]) for key in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [
            (f"{place}[{index}]", a, b) for index, (a, b) in enumerate(zip(one, other, strict=True))
        ]
    else:
        return None if one == other else place or "everything"
    found = (_first_difference(a, b, where) for where, a, b in pairs)
    return next((where for where in found if where is not None), None)
