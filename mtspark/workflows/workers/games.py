"""Games as jobs: a few whole games each, whose episodes and counts add up to those of one run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtspark.core.backend import Moment
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import Action, Sampling, same_choices
from mtspark.core.executor import Job, Package
from mtspark.sim.counts import Counter, ShareCounter
from mtspark.sim.play import MAX_GAMES_AT_ONCE, Episode, Run, counted_run, play
from mtspark.workflows.backends import BackendName, one_at_a_time, open_backend
from mtspark.workflows.workers.bundles import opened_bundle

GAMES_A_JOB = 4
"""Where a game does not depend on those beside it: integers. Few, so that many workers share."""


@dataclass(frozen=True)
class GameQuestion:
    """Games of one player, as :func:`mtspark.sim.play.play` plays them.

    Attributes:
        task: its name.
        backend: who decides.
        episodes: full games.
        seed: of the first.
        max_decisions: cut every game off after this many.
        sticky: another probability of sticky actions than the protocol's.
        sampling: draw actions; None takes the best.
        judged: the float network is asked about the same frames.
    """

    task: str
    backend: BackendName
    episodes: int
    seed: int
    max_decisions: int | None = None
    sticky: float | None = None
    sampling: Sampling | None = None
    judged: bool = False

    @property
    def games_a_job(self) -> int:
        """How many games a job plays.

        A float network rounds by how many frames it sees at once, so that its games are those
        that one process plays side by side.
        """
        if self.backend is BackendName.TORCH or self.judged:
            return MAX_GAMES_AT_ONCE
        return 1 if one_at_a_time(self.backend) else GAMES_A_JOB

    def arguments(self, first: int, count: int) -> dict[str, Any]:
        """Return what :func:`play_games` is called with for some of the games."""
        drawn = self.sampling
        return {
            "task": self.task,
            "backend": self.backend.value,
            "episodes": count,
            "seed": self.seed + first,
            "max_decisions": self.max_decisions,
            "sticky": self.sticky,
            "sampling": None if drawn is None else [drawn.seed, drawn.temperature],
            "judged": self.judged,
        }


def game_jobs(question: GameQuestion, package: Package, name: str) -> list[Job]:
    """Cut games into jobs.

    Args:
        question: the games.
        package: of the bundle.
        name: of the jobs in errors, without their seeds.
    """
    size = question.games_a_job
    jobs = []
    for first in range(0, question.episodes, size):
        count = min(size, question.episodes - first)
        jobs.append(
            Job(
                f"{name}, {seeds_text(question.seed + first, count)}",
                play_games,
                question.arguments(first, count),
                package,
                weight=count,
            )
        )
    return jobs


def seeds_text(first: int, count: int) -> str:
    """Name the seeds of a job."""
    return f"seed {first}" if count == 1 else f"seeds {first} to {first + count - 1}"


def play_games(
    folder: Path,
    task: str,
    backend: str,
    episodes: int,
    seed: int,
    max_decisions: int | None,
    sticky: float | None,
    sampling: Sequence[Any] | None,
    judged: bool,
) -> dict[str, Any]:
    """Play the games of a job; runs on a worker.

    Args:
        folder: of the bundle.
        task, backend, episodes, seed, max_decisions, sticky, judged: see :class:`GameQuestion`.
        sampling: seed and temperature.

    Returns:
        Episodes and counts, as :class:`PlayedParts` adds them up.
    """
    bundle, name = opened_bundle(folder), BackendName(backend)
    network = bundle.network
    row = network.task_index(task)
    counter = Counter(network)
    shares = None if name is BackendName.TORCH else ShareCounter(network)
    same = asked = 0
    torch = open_backend(BackendName.TORCH, bundle, task, all_neurons=True)
    floats = torch if judged else nullcontext()
    with floats as judge, open_backend(name, bundle, task, threads=1) as player:

        def observe(moment: Moment) -> None:
            nonlocal same, asked
            if shares is not None:
                shares.add(moment.decision.activity.window, moment.frames, moment.episodes)
            if judge is not None:
                answer = judge.decide(moment.frames, row)
                values, task_played = moment.decision.values, network.tasks[row]
                agree = same_choices(answer.values, values, task_played, moment.masks)
                same += int(agree.sum())
                asked += len(agree)

        run = play(
            player,
            network,
            task,
            episodes=episodes,
            seed=seed,
            max_decisions=max_decisions,
            sticky=sticky,
            one_at_a_time=one_at_a_time(name),
            observe=observe,
            sampling=None if sampling is None else Sampling(*sampling),
            counter=counter,
        )
    return {
        "episodes": [episode_values(episode) for episode in run.episodes],
        "decisions": counter.decisions,
        "window": counter.window,
        "drain": counter.drain,
        "nonzero": None if shares is None else shares.nonzero,
        "changed": None if shares is None else shares.changed,
        "clipped": run.clipped or 0,
        "same": same,
        "asked": asked,
    }


@dataclass
class PlayedParts:
    """Adds up the parts of a question's games.

    Attributes:
        network: that played.
        question: the games.
        shares: of the decisions, of a chip.
        same, asked: answers of the float network that equal the chip's, and how many.
    """

    network: ChipNetwork
    question: GameQuestion
    shares: ShareCounter | None = field(init=False)
    same: int = 0
    asked: int = 0

    def __post_init__(self) -> None:
        on_chip = self.question.backend is not BackendName.TORCH
        self.shares = ShareCounter(self.network) if on_chip else None
        self._counter, self._clipped = Counter(self.network), 0
        self._episodes: list[Episode] = []

    def add(self, part: dict[str, Any]) -> None:
        """Add what :func:`play_games` has returned, in any order."""
        self._episodes += [episode_of(values) for values in part["episodes"]]
        self._counter.add_totals(part["decisions"], part["window"], part["drain"])
        if self.shares is not None:
            self.shares.add_totals(part["decisions"], part["nonzero"], part["changed"])
        self._clipped += part["clipped"]
        self.same += part["same"]
        self.asked += part["asked"]

    @property
    def complete(self) -> bool:
        """Whether all games are there."""
        return len(self._episodes) == self.question.episodes

    def run(self) -> Run:
        """Return the run that they are parts of."""
        episodes = tuple(sorted(self._episodes, key=lambda episode: episode.seed))
        on_chip = self.question.backend is not BackendName.TORCH
        return counted_run(episodes, self._counter, self._clipped, on_chip=on_chip)


def episode_values(episode: Episode) -> dict[str, Any]:
    """Return an episode as plain values, with all of its actions."""
    return {
        "seed": episode.seed,
        "score": episode.score,
        "decisions": episode.decisions,
        "finished": episode.finished,
        "trajectory": episode.trajectory,
        "actions": list(episode.actions),
        "truncated": episode.truncated,
        "success": episode.success,
    }


def episode_of(values: dict[str, Any]) -> Episode:
    """Return the episode of :func:`episode_values`."""
    actions: Iterable[Action] = values["actions"]
    return Episode(**{**values, "actions": tuple(actions)})
