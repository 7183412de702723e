"""What is to be recorded, and what was."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtspark.core.environments import Epsilon, Sampling, sampling_of
from mtspark.core.errors import BadRequestError
from mtspark.sim.play import check_length
from mtspark.workflows.backends import BackendName

SEEDS = 2**30
"""Games can be seeded with 0 to one less."""


@dataclass(frozen=True)
class RecordRequest:
    """What is recorded.

    Attributes:
        tasks: names; empty: all.
        episodes: games of each task.
        seed: of the first game of each task; the next has seed + 1.
        backend: who decides; None: the engine of a bundle, the float network of an agent file.
        exploring: how actions are drawn or replaced; None takes the best.
        max_decisions: cut every game off after this many.
        sticky: sticky action probability; None: the agent's own.
    """

    tasks: tuple[str, ...] = ()
    episodes: int = 30
    seed: int = 0
    backend: BackendName | None = None
    exploring: Sampling | Epsilon | None = None
    max_decisions: int | None = None
    sticky: float | None = None

    def check(self) -> None:
        """Refuse numbers that cannot be.

        Raises:
            BadRequestError: there is one.
        """
        check_length(self.episodes, self.max_decisions)
        if not 0 <= self.seed <= SEEDS - self.episodes:
            raise BadRequestError(
                f"--seed {self.seed}: must be 0 to {SEEDS - self.episodes} with "
                f"{self.episodes} episodes"
            )
        if self.sticky is not None and not 0 <= self.sticky < 1:
            raise BadRequestError(f"--sticky {self.sticky:g}: must be 0 up to below 1")

    def to_json(self) -> dict[str, Any]:
        """Return what a dataset keeps of it; what was left out is not written."""
        given = {
            "episodes": self.episodes,
            "seed": self.seed,
            "max_decisions": self.max_decisions,
            "sticky": self.sticky,
        }
        kept: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if isinstance(self.exploring, Epsilon):
            kept["epsilon"] = self.exploring.chance
        elif self.exploring is not None:
            kept["sampling"] = asdict(self.exploring)
        return kept


def exploring_of(
    seed: int | None, temperature: float, epsilon: float | None
) -> Sampling | Epsilon | None:
    """How actions are drawn or replaced, by the options of a command.

    Raises:
        BadRequestError: numbers that cannot be, or both at once.
    """
    if epsilon is not None and seed is None and temperature != 1:
        raise BadRequestError(
            f"temperature {temperature:g}: is of drawn actions, and --epsilon {epsilon:g} replaces "
            "best ones; leave one out"
        )
    drawn = sampling_of(seed, temperature)
    if epsilon is None:
        return drawn
    if drawn is not None:
        raise BadRequestError(
            f"--epsilon {epsilon:g}: replaces best actions, and --sample draws all; leave one out"
        )
    return Epsilon(epsilon)


@dataclass(frozen=True)
class RecordedTask:
    """A dataset of one task.

    Attributes:
        task: its name.
        dataset: minari's name of it.
        path: its folder.
        episodes, decisions: how many.
        mean_return: of the episodes, unclipped.
        is_new: whether this call recorded it; otherwise the same one was there.
    """

    task: str
    dataset: str
    path: Path
    episodes: int
    decisions: int
    mean_return: float
    is_new: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True)
class Recording:
    """The datasets of an agent.

    Attributes:
        agent: its name.
        sha256: of its file, or of the bundle's network.
        backend: who decided.
        tasks: in the order of the agent's.
    """

    agent: str
    sha256: str
    backend: str
    tasks: tuple[RecordedTask, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "agent": self.agent,
            "sha256": self.sha256,
            "backend": self.backend,
            "tasks": [one.to_json() for one in self.tasks],
        }
