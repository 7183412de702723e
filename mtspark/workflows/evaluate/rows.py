"""Rows of an evaluation, and the file that keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from mtspark.core.environments import Sampling
from mtspark.core.files import (
    AnyPath,
    EvaluationFile,
    EvaluationRow,
    first_problem,
    stored_result,
    write_json,
)
from mtspark.sim.play import distinct, success_rate
from mtspark.sim.report import Score, scores_sentence
from mtspark.sim.verdict import Cost, costs_sentence

if TYPE_CHECKING:
    from mtspark.sim.play import Episode

FORMAT, VERSION = "mtspark-eval", 1
FLOAT = "torch"
"""Backend of the rows of a float network."""

QUANTISATION = ("weight_bits", "weight_scale", "rounding")
"""Entries of a network's provenance that say how its weights became integers."""


class Question(NamedTuple):
    """What is asked of a player of games.

    Attributes:
        task: its name.
        sticky: probability of sticky actions.
        seed: of the first game.
        episodes: how many.
        max_decisions: cut every game off after this many; None for whole games.
        sampling: draw actions; None takes the best.
    """

    task: str
    sticky: float
    seed: int
    episodes: int
    max_decisions: int | None = None
    sampling: Sampling | None = None

    @property
    def text(self) -> str:
        """Name it in progress and errors."""
        return f"{self.task}, sticky {self.sticky:g}"


@dataclass(frozen=True)
class GameRow:
    """Scores of one player in one task.

    Attributes:
        task: its name.
        backend: who played.
        network_sha256: names the weights.
        sticky_action_probability: of the games.
        seed: of the first game.
        distinct_episodes: games that differ in at least one action or reward.
        unfinished_episodes: games that were cut off by the decision limit of whoever asked.
        truncated_episodes: games that the protocol's limit of emulator frames ended.
        interval_95: 95 % interval of the mean return.
        returns: of each game, unclipped.
        decisions: of all games.
        action_agreement: share of decisions in which float network and chip take the same action;
            numbers are the same within 5 % of their range.
        decisions_compared: how many actions were compared.
        quantisation: how weights became integers; None for a float network without a chip.
        max_decisions: after which every game was cut off; None for whole games.
        success_rate: share of games whose task was solved; None where the environment does not
            say.
        sampling: how actions were drawn; None: the best was taken.
    """

    task: str
    backend: str
    network_sha256: str
    sticky_action_probability: float
    seed: int
    distinct_episodes: int
    unfinished_episodes: int
    interval_95: tuple[float, float]
    returns: tuple[float, ...]
    decisions: int
    action_agreement: float | None = None
    decisions_compared: int | None = None
    quantisation: Mapping[str, str | None] | None = None
    truncated_episodes: int = 0
    max_decisions: int | None = None
    success_rate: float | None = None
    sampling: Sampling | None = None

    @property
    def mean_return(self) -> float:
        """Of all games."""
        return sum(self.returns) / len(self.returns)

    @property
    def question(self) -> Question:
        """What the row answers."""
        sticky, episodes = self.sticky_action_probability, len(self.returns)
        return Question(self.task, sticky, self.seed, episodes, self.max_decisions, self.sampling)

    def to_json(self) -> dict[str, Any]:
        """Return a row of the file."""
        return {
            "task": self.task,
            "backend": self.backend,
            "network_sha256": self.network_sha256,
            "sticky_action_probability": self.sticky_action_probability,
            "seed": self.seed,
            "episodes": len(self.returns),
            "distinct_episodes": self.distinct_episodes,
            "unfinished_episodes": self.unfinished_episodes,
            **({"truncated_episodes": self.truncated_episodes} if self.truncated_episodes else {}),
            "mean_return": self.mean_return,
            **({} if self.success_rate is None else {"success_rate": self.success_rate}),
            "interval_95": list(self.interval_95),
            "returns": list(self.returns),
            "decisions": self.decisions,
            "action_agreement": self.action_agreement,
            "decisions_compared": self.decisions_compared,
            **({} if self.max_decisions is None else {"max_decisions": self.max_decisions}),
            **({} if self.sampling is None else {"sampling": asdict(self.sampling)}),
            **(self.quantisation or {}),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> GameRow:
        """Rebuild a row from :meth:`to_json`, once :class:`EvaluationRow` has checked it."""
        low, high = row["interval_95"]
        notes = {key: row[key] for key in QUANTISATION if key in row}
        drawn = row.get("sampling")
        return cls(
            task=row["task"],
            backend=row["backend"],
            network_sha256=row["network_sha256"],
            sticky_action_probability=row["sticky_action_probability"],
            seed=row["seed"],
            distinct_episodes=row["distinct_episodes"],
            unfinished_episodes=row["unfinished_episodes"],
            interval_95=(low, high),
            returns=tuple(row["returns"]),
            decisions=row["decisions"],
            action_agreement=row["action_agreement"],
            decisions_compared=row["decisions_compared"],
            quantisation=notes or None,
            truncated_episodes=row.get("truncated_episodes", 0),
            max_decisions=row.get("max_decisions"),
            success_rate=row.get("success_rate"),
            sampling=None if drawn is None else Sampling(drawn["seed"], drawn["temperature"]),
        )


@dataclass(frozen=True)
class ImageRow:
    """Accuracy of one player on the test images of a set.

    Attributes:
        task: the set's name.
        backend: who named them.
        network_sha256: names the weights.
        origin: where the images come from.
        images: how many.
        right: how many were named rightly.
        action_agreement: share of equal answers of float network and chip.
        decisions_compared: how many answers were compared.
        quantisation: how weights became integers; None for a float network without a chip.
    """

    task: str
    backend: str
    network_sha256: str
    origin: str
    images: int
    right: int
    action_agreement: float | None = None
    decisions_compared: int | None = None
    quantisation: Mapping[str, str | None] | None = None

    @property
    def accuracy(self) -> float:
        """Share of images that were named rightly."""
        return self.right / self.images

    def to_json(self) -> dict[str, Any]:
        """Return a row of the file."""
        return {
            "task": self.task,
            "backend": self.backend,
            "network_sha256": self.network_sha256,
            "origin": self.origin,
            "images": self.images,
            "right": self.right,
            "accuracy": self.accuracy,
            "interval_95": list(wilson_interval(self.right, self.images)),
            "action_agreement": self.action_agreement,
            "decisions_compared": self.decisions_compared,
            **(self.quantisation or {}),
        }


Row = TypeVar("Row", GameRow, ImageRow)


@dataclass(frozen=True)
class Evaluation:
    """Scores of an agent.

    Attributes:
        agent: its name.
        network_sha256: of the bundle's network, or of the checkpoint.
        games: rows of tasks that are games.
        images: rows of tasks that are image sets.
        costs: of a mean decision on the chip, by task; those of games as they are played usually.
        numbers: tasks whose actions are numbers.
    """

    agent: str
    network_sha256: str
    games: tuple[GameRow, ...]
    images: tuple[ImageRow, ...]
    costs: Mapping[str, Cost] = field(default_factory=dict, compare=False)
    numbers: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def sentences(self) -> tuple[str, str]:
        """Say how well it goes, and what a decision costs."""
        scores = [self._of_games(rows) for rows in _by_task(self.games)]
        scores += [_of_images(rows) for rows in _by_task(self.images)]
        works = scores_sentence(scores) if scores else "Nothing was scored."
        return works, self._costs()

    def _of_games(self, rows: list[GameRow]) -> Score:
        chip, beside = _chip_first(rows)
        return Score(
            kind="return",
            task=chip.task,
            chip=chip.mean_return,
            float_network=None if beside is None else beside.mean_return,
            agreement=chip.action_agreement,
            count=len(chip.returns),
            interval_95=chip.interval_95,
            cut_off=chip.unfinished_episodes,
            sticky=chip.sticky_action_probability,
            who="the float network" if chip.backend == FLOAT else "the chip",
            success=chip.success_rate,
            numbers=chip.task in self.numbers,
            drawn=chip.sampling is not None,
        )

    def _costs(self) -> str:
        backends = [row.backend for row in self.games] + [row.backend for row in self.images]
        if all(name == FLOAT for name in backends):
            return "It ran on no chip, so it has no cost on one."
        if not self.costs:
            return (
                "Its stored rows hold no energy on this card, so what a decision costs is not "
                "known here: mtspark run counts and prices a game."
            )
        return costs_sentence(self.costs, "decision" if self.games else "image")

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows as JSON values, games first."""
        games = [row.to_json() for row in self.games]
        return games + [row.to_json() for row in self.images]

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        head = {"format": FORMAT, "version": VERSION, "agent": self.agent}
        return {**head, "network_sha256": self.network_sha256, "rows": self.rows()}


def _of_images(rows: list[ImageRow]) -> Score:
    image, other = _chip_first(rows)
    return Score(
        kind="accuracy",
        task=image.task,
        chip=image.accuracy,
        float_network=None if other is None else other.accuracy,
        agreement=image.action_agreement,
        count=image.images,
        origin=image.task,
        interval_95=wilson_interval(image.right, image.images),
        who="the float network" if image.backend == FLOAT else "the chip",
    )


def _by_task(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one question together: float network and chip of a task."""
    found: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        sticky = getattr(row, "sticky_action_probability", 0.0)
        found.setdefault((row.task, sticky), []).append(row)
    return list(found.values())


def _chip_first(rows: list[Row]) -> tuple[Row, Row | None]:
    """The row of the chip and that of the float network; the latter alone where no chip ran."""
    chip = [row for row in rows if row.backend != FLOAT]
    beside = [row for row in rows if row.backend == FLOAT]
    return (chip[-1], beside[-1] if beside else None) if chip else (beside[-1], None)


def game_row(episodes: Sequence[Episode], backend: str, question: Question, sha256: str) -> GameRow:
    """Return the scores of a player's episodes of a question; `sha256` names the weights."""
    scores = tuple(episode.score for episode in episodes)
    return GameRow(
        task=question.task,
        backend=backend,
        network_sha256=sha256,
        sticky_action_probability=question.sticky,
        seed=question.seed,
        distinct_episodes=distinct(tuple(episodes)),
        unfinished_episodes=sum(not episode.finished for episode in episodes),
        interval_95=confidence_interval(scores),
        returns=scores,
        decisions=sum(episode.decisions for episode in episodes),
        truncated_episodes=sum(episode.truncated for episode in episodes),
        max_decisions=question.max_decisions,
        success_rate=success_rate(episodes),
        sampling=question.sampling,
    )


def store(path: AnyPath | None, evaluation: Evaluation) -> None:
    """Write an evaluation; one that was there is whole until this one is."""
    if path is not None:
        write_json(path, evaluation.to_json())


def stored_games(path: AnyPath | None, sha256: str) -> list[GameRow]:
    """Read rows of games that an earlier run of the same network wrote; none of another."""
    stored = stored_result(path, EvaluationFile)
    if stored is None or stored["network_sha256"] != sha256:
        return []
    return [GameRow.from_json(row) for row in stored["rows"] if _is_of_games(row)]


def _is_of_games(row: Mapping[str, Any]) -> bool:
    """Whether a row of a file is one of games whose numbers fit each other."""
    if first_problem(EvaluationRow, row) is not None:
        return False
    episodes, (low, high) = row["episodes"], row["interval_95"]
    return (
        episodes == len(row["returns"])
        and max(row["distinct_episodes"], row["unfinished_episodes"]) <= episodes
        and low <= high
        and (row["action_agreement"] is None) == (row["decisions_compared"] is None)
    )


FEWEST_FOR_INTERVAL = 5
"""An interval from fewer games would promise too much."""


def confidence_interval(scores: Sequence[float], resamples: int = 10_000) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean, seeded.

    Greedy episodes repeat: with few distinct ones the interval is too narrow, so the number of
    distinct ones stands beside it.
    """
    generator = np.random.default_rng(0)
    picks = generator.integers(0, len(scores), size=(resamples, len(scores)))
    low, high = np.percentile(np.asarray(scores)[picks].mean(1), [2.5, 97.5])
    return float(low), float(high)


def wilson_interval(right: int, asked: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    z = 1.959964
    share = right / asked
    centre = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z / (1 + z * z / asked) * math.sqrt(share * (1 - share) / asked + (z / (2 * asked)) ** 2)
    # Rounding must not leave the shares that there are.
    return max(0.0, centre - half), min(1.0, centre + half)
