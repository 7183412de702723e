"""The result of an explanation, and the file from which a stopped run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtspark.core.digits import percent
from mtspark.core.errors import BadFileError
from mtspark.core.files import AnyPath, read_text_guarded
from mtspark.core.version import is_version
from mtspark.sim.verdict import Cost
from mtspark.workflows.explain.differences import FirstDifferences

FORMAT, VERSION = "mtspark-explain", 1
QUESTION = (*("format", "version", "network_sha256", "frames_sha256", "task", "episodes", "seed"),)
"""Fields that are the same in two results whose rows are interchangeable."""


@dataclass(frozen=True)
class EffectRow:
    """What one effect of the integers changes, compared with the float network.

    Attributes:
        effect: that is switched on alone.
        action_agreement: share of decisions with the same greedy action.
        layers: by population, share of neurons whose number of spikes in a decision differs.
        mean_return: of the episodes that were played; None where none were.
        played_decisions: in them; None where no episodes were asked for.
    """

    effect: str
    action_agreement: float
    layers: dict[str, float]
    mean_return: float | None = None
    played_decisions: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; the fields of episodes only where some were asked for."""
        data: dict[str, Any] = {
            "effect": self.effect,
            "action_agreement": self.action_agreement,
            "layers": self.layers,
        }
        if self.played_decisions is not None:
            data["mean_return"] = self.mean_return
            data["played_decisions"] = self.played_decisions
        return data

    @classmethod
    def from_json(cls, data: Any) -> EffectRow:
        """Rebuild a row from :meth:`to_json`.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        score, played = data.get("mean_return"), data.get("played_decisions")
        return cls(
            effect=str(data["effect"]),
            action_agreement=float(data["action_agreement"]),
            layers={str(name): float(share) for name, share in data["layers"].items()},
            mean_return=None if score is None else float(score),
            played_decisions=None if played is None else int(played),
        )


@dataclass(frozen=True)
class EffectTable:
    """The rows of one number of weight bits, the float network first and the whole chip last."""

    weight_bits: int
    rows: tuple[EffectRow, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"weight_bits": self.weight_bits, "rows": [row.to_json() for row in self.rows]}


@dataclass(frozen=True)
class Explanation:
    """What each effect of the integers changes.

    Attributes:
        folder: of the bundle.
        network_sha256: hash of its chip network.
        frames_sha256: hash of the frames.
        task: by name.
        decisions: number of frames.
        episodes: played with every effect.
        seed: of the game.
        tables: one a number of weight bits.
        complete: whether every row is there.
        differences: how the first differences of spikes come about, by layer; of the bundle's bits.
        cost: of the mean decision on the bundle's chip network; None where nobody counted it.
        numbers: actions are numbers, which are the same within 5 % of their range.
        removed: by population, neurons that ``--prune`` removed from the bundle; layers count them,
            and neurons have their places of before.
        answer: what a decision is: an action of a game, or an answer.
    """

    folder: str
    network_sha256: str
    frames_sha256: str
    task: str
    decisions: int
    episodes: int
    seed: int
    tables: tuple[EffectTable, ...] = ()
    complete: bool = False
    differences: tuple[FirstDifferences, ...] = ()
    cost: Cost | None = None
    numbers: bool = False
    removed: Mapping[str, int] = field(default_factory=dict)
    answer: str = "answer"

    @property
    def sentences(self) -> tuple[str, str]:
        """Say how often chip and float network agree and why not more, and what it costs."""
        texts = []
        for table in self.tables:
            if len(table.rows) < 2:
                continue
            bits = f" with {table.weight_bits}-bit weights" if len(self.tables) > 1 else ""
            texts.append(
                f"in {percent(table.rows[-1].action_agreement)} of them{bits}{_why(table)}"
            )
        if not texts:
            return f"{self.task}: no effect was switched on yet.", self._cost
        first, *others = texts
        first = first.replace("of them", f"of {self.decisions:,} decisions", 1)
        within = " (within 5 % of its range)" if self.numbers else ""
        same = f"the chip gives the same answer{within} as the float network"
        return f"{self.task}: {same} {'; '.join([first, *others])}.", self._cost

    @property
    def _cost(self) -> str:
        if self.cost is None:
            return "What a decision costs was not counted."
        return self.cost.sentence()

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``mtspark explain --json``."""
        found = [layer.to_json() for layer in self.differences]
        return {
            "format": FORMAT,
            "version": VERSION,
            "folder": self.folder,
            "network_sha256": self.network_sha256,
            "frames_sha256": self.frames_sha256,
            "task": self.task,
            "decisions": self.decisions,
            "episodes": self.episodes,
            "seed": self.seed,
            "complete": self.complete,
            "tables": [table.to_json() for table in self.tables],
            **({"first_differences": found} if found else {}),
            **({"removed": dict(self.removed)} if self.removed else {}),
        }


def _why(table: EffectTable) -> str:
    """Name the effect that costs most, and the score in play."""
    text = ""
    alone = min(table.rows[1:-1], key=lambda row: row.action_agreement, default=None)
    if alone is not None and alone.action_agreement < 1:
        stay = f"{percent(alone.action_agreement)} stay"
        text = f" (what costs most, switched on alone: {alone.effect}, {stay})"
    elif alone is not None:
        text = " (no effect, switched on alone, changes an answer)"
    score, beside = table.rows[-1].mean_return, table.rows[0].mean_return
    if score is not None and beside is not None:
        text += f", and scores {score:,.4g}, the float network {beside:,.4g}"
    return text


def stored_rows(path: AnyPath, asked: Explanation) -> dict[int, dict[str, EffectRow]]:
    """Return the rows that an earlier run of the same question wrote.

    Args:
        path: of its result, complete or not.
        asked: the question; its tables are ignored.

    Returns:
        Rows by weight bits and effect; none where the file holds something else.
    """
    question = asked.to_json()
    try:
        content = read_text_guarded(Path(path), json.loads)
        if not is_version(content["version"], VERSION):
            return {}
        if any(content[key] != question[key] for key in QUESTION):
            return {}
        return {
            int(table["weight_bits"]): {
                row.effect: row for row in map(EffectRow.from_json, table["rows"])
            }
            for table in content["tables"]
        }
    except (BadFileError, ValueError, KeyError, TypeError, AttributeError):
        return {}
