"""The card of an agent: what it plays, how well, at what cost, and how it was trained.

A card lies beside its agent as ``card.json`` and is also the manifest of that folder: it names
every file with its size and SHA-256. All but the licence, the recipe, the note, the costs and
hours that no log tells follows from the agent's own files, so that whoever has them can check it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from mtspark.core.errors import BadFileError, BadRequestError, one_line
from mtspark.core.files import (
    Count,
    Entry,
    Flag,
    Number,
    Positive,
    Share,
    Text,
    VersionOne,
    first_problem,
    read_text_guarded,
)
from mtspark.sim.report import Score
from mtspark.sim.results import CostFile
from mtspark.sim.verdict import Cost

if TYPE_CHECKING:
    from mtspark.train.checkpoint import Agent

CARD = "card.json"
FORMAT: Literal["mtspark-agent-card"] = "mtspark-agent-card"
LOG = "training.jsonl"
CHIP, FLOAT = "engine", "torch"
"""Backends of the rows that an agent's file holds."""
LARGEST_CARD = 2**20
MOST_FILES = 16
LARGEST_TIME_S = 1e9

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
"""Names that mean a device on some systems."""


class FileEntry(Entry):
    """A file of an agent's folder."""

    bytes: Count
    sha256: Annotated[Text, Field(pattern=_DIGEST.pattern)]


class ScoreEntry(Entry):
    """How well one player does a task: games by their return, images by accuracy."""

    backend: Text
    kind: Literal["return", "accuracy"]
    value: Number
    interval_95: tuple[Number, Number] = Field(strict=False)
    count: Positive
    distinct: Positive | None
    sticky_actions: Number | None
    agreement: Number | None
    success_rate: Share | None = None

    @property
    def player(self) -> str:
        """Whose score it is, in words."""
        return {CHIP: "chip (integers)", FLOAT: "float (torch)"}.get(self.backend, self.backend)


class CostEntry(Entry):
    """What a mean decision costs, as it was counted in simulation, and for which network."""

    card: Text
    games: Positive
    decisions: Positive
    seed: Count
    network_sha256: Text
    cost: CostFile

    @property
    def micro_joules(self) -> float:
        """Dynamic energy of a mean decision."""
        return self.cost.dynamic_j_per_decision * 1e6

    @property
    def rival_micro_joules(self) -> str:
        """That of the cheapest network without spikes, in digits; ``-``: none is priced."""
        joules = self.cost.cheapest_baseline_j_per_decision
        return "-" if joules is None else f"{joules * 1e6:.2g}"


class TaskEntry(Entry):
    """One task of an agent."""

    name: Text
    plays: Text
    decision_delay: Count
    sticky_actions: Number | None
    scores: list[ScoreEntry]
    cost: CostEntry | None = None

    def score(self, backend: str, sticky: float | None = None) -> ScoreEntry | None:
        """The score of a player; by default that under the agent's own protocol."""
        wanted = self.sticky_actions if sticky is None else sticky
        rows = [row for row in self.scores if row.backend == backend]
        return next((row for row in rows if row.sticky_actions == wanted), None)

    @property
    def headline(self) -> str:
        """The chip's score under the agent's own protocol, in digits; ``-``: there is none."""
        row = self.score(CHIP)
        if row is None:
            return "-"
        return f"{row.value:.1%}" if row.kind == "accuracy" else f"{row.value:,.4g}"

    @property
    def protocol(self) -> str:
        """Say how the score came about, and how it is with other sticky actions."""
        own = self.score(CHIP)
        if own is None:
            return ""
        parts = [f"{self.name}: {own.count:,} test images"]
        if own.kind == "return":
            distinct = "" if own.distinct is None else f", {own.distinct} distinct"
            parts = [f"{self.name}: greedy play, {own.count} episodes{distinct}"]
            parts.append(f"sticky actions {self.sticky_actions or 0:g}")
        if self.decision_delay:
            parts.append("an action acts one decision later")
        if self.cost is not None:
            parts.append(
                f"cost of {self.cost.decisions:,} decisions in {self.cost.games} games from seed "
                f"{self.cost.seed}"
            )
        for row in self.scores:
            if row.backend == CHIP and row.sticky_actions != self.sticky_actions:
                low, high = row.interval_95
                parts.append(
                    f"with sticky actions {row.sticky_actions or 0:g} the chip scores "
                    f"{row.value:,.4g} (95 %: {low:,.4g} to {high:,.4g})"
                )
        return "; ".join(parts) + "."


class TrainingEntry(Entry):
    """How an agent was trained, as its file and its log say.

    The hours are those of the log by the clock, on a computer that others may have used, too.
    """

    algorithm: Text
    decisions: Count | None
    epochs: Count | None
    seeds: list[Count]
    teachers: list[Text]
    start_from: Text
    quantisation_aware: Flag
    hours: Annotated[Number, Field(ge=0)] | None = None


class AgentCard(Entry):
    """What is said of an agent; :func:`read_card` checks one from elsewhere."""

    format: Literal["mtspark-agent-card"]
    version: VersionOne
    name: Text
    file: Text
    files: dict[Text, FileEntry]
    licence: Text
    recipe: Text
    note: Text
    parameters: Count
    time_steps: Positive
    training: TrainingEntry
    tasks: list[TaskEntry] = Field(min_length=1)

    @property
    def size(self) -> int:
        """Bytes of the agent's file."""
        return self.files[self.file].bytes

    @property
    def sentences(self) -> list[str]:
        """Say of each task how well it goes, and what a decision costs."""
        texts = []
        several = len(self.tasks) > 1
        for task in self.tasks:
            chip, beside = task.score(CHIP), task.score(FLOAT)
            if chip is not None:
                texts.append(
                    Score(
                        kind=chip.kind,
                        task=task.name,
                        chip=chip.value,
                        float_network=None if beside is None else beside.value,
                        agreement=chip.agreement,
                        count=chip.count,
                        origin=task.name if chip.kind == "accuracy" else "",
                        interval_95=chip.interval_95,
                        sticky=chip.sticky_actions or 0.0,
                        success=chip.success_rate,
                    ).sentence
                )
            else:
                texts.append(f"{task.name}: the file holds no score of the chip.")
        for task in self.tasks:
            if task.cost is not None:
                start = f"{task.name}: " if several else ""
                what = "decision" if task.sticky_actions is not None else "sample"
                texts.append(start + Cost.from_json(task.cost.cost.model_dump()).sentence(what))
        if all(task.cost is None for task in self.tasks):
            texts.append("What a decision costs was not measured.")
        return texts

    @property
    def protocols(self) -> list[str]:
        """Say of each task how its score came about."""
        return [task.protocol for task in self.tasks if task.protocol]

    @property
    def contents(self) -> str:
        """Say what lies beside the card."""
        files = (f"{name} ({entry.bytes:,} bytes)" for name, entry in self.files.items())
        return f"{self.parameters:,} parameters, T = {self.time_steps}. Files: {', '.join(files)}."

    @property
    def trained(self) -> str:
        """Say how it was trained."""
        training = self.training
        parts = [training.algorithm]
        if training.decisions is not None:
            parts.append(f"{training.decisions:,} decisions")
        if training.epochs is not None:
            parts.append(f"{training.epochs} epochs")
        if training.seeds:
            word = "seed" if len(training.seeds) == 1 else "seeds"
            parts.append(f"{word} {', '.join(str(seed) for seed in training.seeds)}")
        if training.quantisation_aware:
            parts.append("quantisation-aware")
        # One a task, empty where it had none.
        teachers = list(filter(None, training.teachers))
        if teachers:
            parts.append(f"taught by {', '.join(teachers)}")
        if training.start_from:
            parts.append(f"from the weights of {training.start_from}")
        if training.hours is not None:
            parts.append(_duration(training.hours))
        if self.recipe:
            parts.append(f"recipe {self.recipe}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the content of the card's file."""
        values = self.model_dump(mode="json")
        for task in values["tasks"]:
            for score in task["scores"]:
                # Absent where the environment does not say, and in cards of before.
                if score["success_rate"] is None:
                    del score["success_rate"]
        return values

    def content(self) -> bytes:
        """Return the card's file, the same bytes for the same card."""
        return (json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n").encode()


def is_name(name: str) -> bool:
    """Whether an agent may be called so: no name that leads elsewhere or is no file's."""
    return bool(_NAME.fullmatch(name)) and ".." not in name and not _DEVICES.fullmatch(name)


def is_file_name(name: str) -> bool:
    """Whether a card may name a file so, which lies beside it."""
    plain = _FILE.fullmatch(name) is not None and ".." not in name and name != CARD
    return plain and not _DEVICES.fullmatch(name) and not name.endswith(".")


def check_name(name: str) -> str:
    """Check the name of an agent, which is also that of its folder and its file.

    Raises:
        BadRequestError: it could lead out of a folder, or not be written on some systems.
    """
    if not is_name(name):
        raise BadRequestError(
            f"agent name {one_line(name, 60)!r}: 1 to 64 letters, digits, '-', '_' and '.' are "
            "allowed, with a letter or digit at both ends"
        )
    return name


def _duration(hours: float) -> str:
    return f"{hours:.2g} hours" if hours >= 1 else f"{max(1, round(hours * 60))} minutes"


def hours_of_log(content: bytes) -> float | None:
    """Add up the time of a training's log; None where it does not say all of it.

    Args:
        content: lines of JSON, as ``mtspark train`` writes them.
    """
    total, before = 0.0, 0
    try:
        for line in content.splitlines():
            row = json.loads(line)
            if "seconds" in row:
                total += float(row["seconds"])
                continue
            # A log of several parts begins again at 0.
            done = row["steps"] - (before if row["steps"] >= before else 0)
            total += done / float(row["steps_per_s"])
            before = row["steps"]
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError):
        return None
    return round(total / 3600, 4) if 0 < total < LARGEST_TIME_S else None


def file_entry(content: bytes) -> FileEntry:
    """Describe the content of a file."""
    return FileEntry(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def card_of(
    agent: Agent,
    name: str,
    files: Mapping[str, FileEntry],
    *,
    licence: str = "",
    recipe: str = "",
    note: str = "",
    hours: float | None = None,
    costs: Mapping[str, CostEntry] | None = None,
) -> AgentCard:
    """Write the card of an agent.

    Args:
        agent: as its file holds it.
        name: of its folder; its file is ``NAME.pt``.
        files: of its folder, by name.
        licence, recipe, note: what the file does not say; empty: nothing is said.
        hours: of training, by its log or its author; None: nobody knows.
        costs: by task.

    Raises:
        BadFileError: the file says things of its training or scores that no card can hold.
    """
    costs = costs or {}
    training = agent.training
    config = training.get("config")
    config = config if isinstance(config, Mapping) else {}
    images = all(not task.game for task in agent.tasks)
    sticky = None if agent.protocol is None else agent.protocol.sticky_action_probability
    delay = 0 if agent.protocol is None else agent.protocol.decision_delay
    tasks = []
    for task in agent.tasks:
        world = task.environment
        tasks.append(
            {
                "name": task.name,
                "plays": task.game or "images",
                "decision_delay": delay if world is None else world.decision_delay,
                "sticky_actions": (sticky if world is None else 0.0) if task.game else None,
                "scores": [_score(row) for row in agent.evaluations if _is_of(row, task.name)],
                "cost": costs.get(task.name),
            }
        )
    seed = config.get("seed")
    algorithm = "back-propagation" if images else str(config.get("algorithm", "pqn")).upper()
    facts = {
        "format": FORMAT,
        "version": 1,
        "name": name,
        "file": f"{name}.pt",
        "files": dict(sorted(files.items())),
        "licence": licence,
        "recipe": recipe,
        "note": note,
        "parameters": sum(part.numel() for part in agent.network.parameters()),
        "time_steps": agent.network.config.time_steps,
        "training": {
            "algorithm": algorithm,
            "decisions": training.get("steps"),
            "epochs": training.get("epochs"),
            "seeds": [] if seed is None else [seed],
            "teachers": [str(teacher) for teacher in config.get("teachers", ())],
            "start_from": config.get("start_from", ""),
            "quantisation_aware": config.get("quantisation_aware", False),
            "hours": hours,
        },
        "tasks": tasks,
    }
    try:
        return AgentCard.model_validate(facts)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise BadFileError(
            f"{name}.pt: no card can hold its {one_line(place, 60)} "
            f"({one_line(problem['msg'], 80)})"
        ) from error


def _is_of(row: Any, task: str) -> bool:
    return isinstance(row, Mapping) and row.get("task") == task


def _score(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of an agent's file; the card's schema checks what comes out."""
    images = "accuracy" in row
    return {
        "backend": row.get("backend"),
        "kind": "accuracy" if images else "return",
        "value": row.get("accuracy" if images else "mean_return"),
        "interval_95": row.get("interval_95"),
        "count": row.get("images" if images else "episodes"),
        "distinct": row.get("distinct_episodes"),
        "sticky_actions": row.get("sticky_action_probability"),
        "agreement": row.get("action_agreement"),
        "success_rate": row.get("success_rate"),
    }


def read_card(content: bytes, where: str, name: str) -> AgentCard:
    """Check a card from anywhere.

    Args:
        content: of its file.
        where: names the file in errors.
        name: of the folder that it lies in.

    Raises:
        BadFileError: no card, or one that names files which could lie elsewhere.
    """

    def parse(text: str) -> dict[str, Any]:
        values = json.loads(text)
        problem = first_problem(AgentCard, values)
        if problem is not None:
            raise ValueError(f"{problem.place or 'the file'}: {problem.wanted} is needed")
        return dict(values)

    values = read_text_guarded(Path(where), parse, "is no card of an agent ({})", content=content)
    card = AgentCard.model_validate(values)
    for file in card.files:
        if not is_file_name(file):
            raise BadFileError(
                f"{where}: names a file {one_line(ascii(file), 60)}; plain names of files in the "
                "agent's own folder are allowed"
            )
    distinct = {file.lower() for file in card.files}
    if card.name != name or card.file != f"{name}.pt" or card.file not in card.files:
        raise BadFileError(f"{where}: is the card of another agent than {name}")
    if len(distinct) < len(card.files) or len(card.files) > MOST_FILES:
        raise BadFileError(
            f"{where}: names {len(card.files)} files; at most {MOST_FILES} of distinct names are "
            "allowed"
        )
    return card
