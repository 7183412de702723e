"""The agent loop: any backend plays a game, and everything that it did is counted."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from mtspark.core.arrays import Integers
from mtspark.core.backend import AgentBackend, Moment, Outcome
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import (
    ENDLESS,
    LARGEST_MESSAGE,
    Action,
    Epsilon,
    GameProtocol,
    Games,
    Sampling,
    Task,
    action_text,
    as_plain,
    check_sampling,
    chosen_actions,
    drawn_actions,
    idle_actions,
    make_games,
    masks_of,
    protocol_with_sticky,
    shown_by,
    successes_of,
)
from mtspark.core.errors import BadRequestError
from mtspark.core.files import LONGEST_TEXT
from mtspark.sim.counts import Counter, RunCounts

log = logging.getLogger(__name__)

MAX_GAMES_AT_ONCE = 32
MOST_PLAYED = 10**7
"""Games of a run, and decisions of a game, which has at most as many frames."""


@dataclass(frozen=True)
class Episode:
    """One game from its start to its end.

    Attributes:
        seed: of its game; the same seed and agent give the same episode.
        score: its unclipped return.
        decisions: the agent's decisions in it.
        finished: False where it was cut off by the decision limit of whoever asked for it.
        trajectory: hash of all actions and rewards, to tell distinct episodes apart.
        actions: all actions, as indices of ALE's 18, or of an environment's; of an environment
            that takes numbers, those of each decision.
        truncated: a finished one did not end by the game's rules but by the protocol's limit of
            emulator frames.
        success: whether an environment said after any decision that its task is solved; None
            where it never says.
    """

    seed: int
    score: float
    decisions: int
    finished: bool
    trajectory: str
    actions: tuple[Action, ...]
    truncated: bool = False
    success: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; actions as one text of numbers, as many as a file may hold."""
        return {
            "seed": self.seed,
            "return": self.score,
            "decisions": self.decisions,
            "finished": self.finished,
            **({"truncated": True} if self.truncated else {}),
            **({} if self.success is None else {"success": self.success}),
            "trajectory": self.trajectory,
            "actions": actions_text(self.actions),
        }


class HasSuccess(Protocol):
    """An episode of any kind."""

    @property
    def success(self) -> bool | None:
        """Whether it succeeded; None: nobody says."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        episodes: in order of their seeds.
        counts: of all decisions.
        sent: messages by source, of its shape, over all decisions; empty where nobody kept them.
        clipped: numbers that were sent as an end of the range (:data:`LARGEST_MESSAGE`), since
            they lie there or beyond it; None where the input has no sign.
    """

    episodes: tuple[Episode, ...]
    counts: RunCounts
    sent: Mapping[str, Integers] = field(default_factory=dict, repr=False, compare=False)
    clipped: int | None = None

    @property
    def distinct_episodes(self) -> int:
        """Episodes that differ in at least one action or reward."""
        return distinct(self.episodes)

    @property
    def mean_return(self) -> float:
        """Mean unclipped return of the episodes."""
        return sum(episode.score for episode in self.episodes) / len(self.episodes)

    @property
    def success_rate(self) -> float | None:
        """Share of successful episodes; None where the environment does not say."""
        return success_rate(self.episodes)


def success_rate(episodes: Iterable[HasSuccess]) -> float | None:
    """Share of successful episodes, of those that say; None where none does."""
    said = [episode.success for episode in episodes if episode.success is not None]
    return sum(said) / len(said) if said else None


def actions_text(actions: tuple[Action, ...]) -> str:
    """Write actions of an episode with a space between decisions; the last ones may not fit."""
    words = list(map(action_text, actions))
    ends = np.cumsum([len(word) + 1 for word in words])
    return " ".join(words[: int((ends <= LONGEST_TEXT).sum())])


def distinct(episodes: tuple[Episode, ...]) -> int:
    """How many episodes differ in at least one action or reward."""
    return len({episode.trajectory for episode in episodes})


def play(
    backend: AgentBackend,
    network: ChipNetwork,
    task: str,
    *,
    episodes: int,
    seed: int,
    max_decisions: int | None = None,
    sticky: float | None = None,
    one_at_a_time: bool = False,
    trace: bool = False,
    observe: Callable[[Moment], None] | None = None,
    sampling: Sampling | None = None,
    counter: Counter | None = None,
) -> Run:
    """Play whole episodes greedily; episode i is the game of seed `seed` + i.

    Args:
        backend: who decides.
        network: gives protocol, tasks and the fan-outs that are counted.
        task: name of the task.
        episodes: how many.
        seed: of the first episode.
        max_decisions: cut every episode off after this many.
        sticky: another probability of sticky actions than the protocol's.
        one_at_a_time: play one game after another instead of side by side.
        trace: ask the backend to record every spike and membrane, for `observe`.
        observe: called after every decision.
        sampling: draw actions; None takes the best.
        counter: of the network, that counts these decisions, too; None: a new one.

    Raises:
        BadRequestError: unknown task, or numbers that are not positive.
    """
    clipped = 0
    if counter is None:
        counter = Counter(network)

    def count(moment: Moment) -> None:
        nonlocal clipped
        counter.add(moment.decision.activity)
        if network.input.signed:
            clipped += int((np.abs(moment.frames.astype(np.int64)) >= LARGEST_MESSAGE).sum())
        if observe is not None:
            observe(moment)

    row = network.task_index(task)
    played = play_task(
        backend,
        network.tasks[row],
        row,
        network.protocol_with(),
        episodes=episodes,
        seed=seed,
        max_decisions=max_decisions,
        sticky=sticky,
        one_at_a_time=one_at_a_time,
        trace=trace,
        observe=count,
        sampling=sampling,
    )
    return counted_run(played, counter, clipped, on_chip=backend.name != "torch")


def counted_run(
    episodes: tuple[Episode, ...], counter: Counter, clipped: int, *, on_chip: bool
) -> Run:
    """Put games and what was counted in them together.

    Args:
        episodes: in order of their seeds.
        counter: of all their decisions.
        clipped: see :class:`Run`.
        on_chip: False for a float network, which has no chip steps, and nothing between cores.
    """
    return Run(
        episodes,
        counter.result(pipeline=on_chip),
        counter.sent if on_chip else {},
        clipped if counter.network.input.signed else None,
    )


def check_length(episodes: int, max_decisions: int | None) -> None:
    """Refuse games without an episode or a decision, and numbers of them without end.

    Raises:
        BadRequestError: there is none, or there are too many.
    """
    if episodes < 1 or (max_decisions is not None and max_decisions < 1):
        raise BadRequestError("episodes and max-decisions must be at least 1")
    if max(episodes, max_decisions or 1) > MOST_PLAYED:
        raise BadRequestError(f"episodes and max-decisions must be at most {MOST_PLAYED:,}")


def play_task(
    backend: AgentBackend,
    task: Task,
    row: int,
    protocol: GameProtocol | None,
    *,
    episodes: int,
    seed: int,
    max_decisions: int | None = None,
    sticky: float | None = None,
    one_at_a_time: bool = False,
    trace: bool = False,
    observe: Callable[[Moment], None] | None = None,
    sampling: Sampling | Epsilon | None = None,
) -> tuple[Episode, ...]:
    """As :func:`play`, of an agent that need not be a chip's: nothing is counted.

    Args:
        backend: who decides.
        task: with a game.
        row: its place among the agent's tasks.
        protocol: how the agent's games are played; None of environments.
        episodes, seed, max_decisions, sticky, one_at_a_time, trace, observe, sampling: as for
            :func:`play`.
    """
    check_length(episodes, max_decisions)
    check_sampling(task, sampling)
    if not 0 <= seed < 2**30:
        raise BadRequestError(f"seed {seed}: must be 0 to {2**30 - 1}")
    # A lost life may end an episode in training; a score is that of the whole game.
    protocol = protocol_with_sticky(protocol, sticky)
    if protocol is not None:
        protocol = replace(protocol, life_loss_ends_episode=False)
    at_once = 1 if one_at_a_time else min(episodes, MAX_GAMES_AT_ONCE)
    played: list[Episode] = []
    while len(played) < episodes:
        count = min(at_once, episodes - len(played))
        games = make_games(task, protocol, count)
        try:
            played += _play_group(
                games,
                backend,
                row,
                task,
                trace,
                len(played),
                count,
                seed,
                max_decisions,
                observe,
                sampling,
            )
        finally:
            games.close()
    return tuple(played)


def _play_group(
    games: Games,
    backend: AgentBackend,
    row: int,
    task: Task,
    trace: bool,
    first: int,
    count: int,
    run_seed: int,
    max_decisions: int | None,
    observe: Callable[[Moment], None] | None,
    sampling: Sampling | Epsilon | None,
) -> list[Episode]:
    """Episodes `first` to `first` + `count` - 1 of a run, side by side."""
    seed, episode = run_seed + first, np.arange(first, first + count)
    score, decisions = np.zeros(count), np.zeros(count, dtype=np.int64)
    finished, truncated = np.zeros((2, count), dtype=bool)
    successes: list[bool | None] = [None] * count
    played: list[list[Action]] = [[] for _ in range(count)]
    course: list[list[float]] = [[] for _ in range(count)]
    running = np.arange(count)
    generators = [sampling.generator(seed + copy) for copy in range(count)] if sampling else []
    following, _ = games.reset(seed=seed)
    backend.start(count)
    while len(running):
        # A copy: the games reuse their memory.
        frames = following[running]
        shown = frames if task.environment is None else shown_by(games)[running]
        decision = backend.decide(frames, row, trace=trace)
        masks = masks_of(games)
        allowed = None if masks is None else masks[running]
        chosen = (
            chosen_actions(decision.values, task, allowed)
            if sampling is None
            else drawn_actions(
                decision.values, task, sampling, [generators[copy] for copy in running], allowed
            )
        )
        # A game that has ended goes on, with actions that nobody counts.
        actions = idle_actions(task, count, masks)
        actions[running] = chosen
        following, given, ended, cut, _ = games.step(actions)
        rewards = np.asarray(given, dtype=np.float64)[running]
        over = (ended | cut)[running]
        leaving = over
        if max_decisions is not None:
            leaving = over | (decisions[running] + 1 >= max_decisions)
        if observe is not None:
            # A copy, as the frames are.
            last = (following if task.environment is None else shown_by(games))[running[leaving]]
            final = masks_of(games)
            last_masks = None if final is None else final[running[leaving]]
            outcome = Outcome(shown, ended[running], leaving, last, last_masks)
            observe(Moment(frames, episode[running], chosen, rewards, decision, allowed, outcome))
        score[running] += rewards
        decisions[running] += 1
        if max_decisions is None and decisions.max() == ENDLESS:
            log.warning(
                "%s: an episode has gone on for %s decisions and may never end; max_decisions "
                "cuts it off (--max-decisions)",
                task.name,
                f"{ENDLESS:,}",
            )
        for index, action, reward in zip(running, chosen, rewards.tolist(), strict=True):
            played[index].append(as_plain(action))
            course[index] += [*action.reshape(-1).tolist(), reward]
        finished[running] = over
        truncated[running] = (cut & ~ended)[running]
        if leaving.any():
            said = successes_of(games)
            for index in running[leaving]:
                successes[index] = said[index]
            running = running[~leaving]
            if len(running):
                backend.keep(np.flatnonzero(~leaving))
    return [
        Episode(
            seed=seed + index,
            score=float(score[index]),
            decisions=int(decisions[index]),
            finished=bool(finished[index]),
            trajectory=hashlib.sha256(np.array(course[index]).tobytes()).hexdigest()[:16],
            actions=tuple(played[index]),
            truncated=bool(truncated[index]),
            success=successes[index],
        )
        for index in range(count)
    ]
