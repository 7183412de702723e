"""What the agent loop asks of a backend, and what a backend answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ChipTrace:
    """Every spike and membrane of one decision.

    Attributes:
        spikes: by population, bool (steps_per_decision, batch, *shape).
        membranes: by population, int64 of the same shape, after the step (and its reset).
    """

    spikes: dict[str, NDArray[np.bool_]]
    membranes: dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Activity:
    """Messages sent in one decision, summed over steps.

    Attributes:
        window: by source (populations and the input), int64 (batch, *shape): messages sent
            within the source's own window of the decision.
        drain: likewise, outside of it (pipeline steps before and after).
    """

    window: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    drain: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """A backend's answer to a batch of frames.

    Attributes:
        values: float64 (batch, *shape of the readout), of all actions, legal or not.
        activity: messages sent.
        trace: every spike and membrane, where it was asked for.
    """

    values: NDArray[np.float64]
    activity: Activity
    trace: ChipTrace | None = None


@dataclass(frozen=True)
class Outcome:
    """What stood before a decision of the games of a :class:`Moment`, and what it led to.

    Attributes:
        shown: (games, ...) what they showed before it: the numbers of an environment, in the order
            in which they become messages, or the frames of an ALE game.
        ended: (games,) whether they ended with it by their rules.
        over: (games,) whether they ended or were cut off with it.
        last: (games that are over, ...) what those show at their end.
        last_masks: (games that are over, legal actions) what those would allow next, of which a
            truncated one could go on; None where all.
    """

    shown: NDArray[Any]
    ended: NDArray[np.bool_]
    over: NDArray[np.bool_]
    last: NDArray[Any]
    last_masks: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Moment:
    """What an observer of the loop sees of one decision of the games that still run.

    Attributes:
        frames: uint8 (games, *input shape), what the agent saw.
        episodes: (games,) int64, which episode of the run each game is, from 0, ascending.
        actions: (games,) what it chose.
        rewards: (games,) what the game gave for it.
        decision: the backend's answer.
        masks: (games, legal actions) which the environments allowed; None where all.
        outcome: what was shown, and which games are over; None of what is no game.
    """

    frames: NDArray[np.uint8]
    episodes: NDArray[np.int64]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    decision: Decision
    masks: NDArray[np.bool_] | None = None
    outcome: Outcome | None = None


class Decider(Protocol):
    """Something that answers frames: torch, the reference, Lava, an engine."""

    name: str

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Answer a batch of frames under one task.

        Args:
            frames: (batch, *input shape), or (batch, T, *input shape) where the input is a
                series.
            task: row of the task.
            trace: record every spike and membrane.
        """
        ...

    def close(self) -> None:
        """Release processes and memory; safe to call twice."""
        ...


class AgentBackend(Decider, Protocol):
    """Something that plays. What it keeps between decisions belongs to one game each."""

    def start(self, batch: int) -> None:
        """Put `batch` chips at rest; nothing to do for one that keeps nothing."""
        ...

    def keep(self, members: NDArray[np.int64]) -> None:
        """Go on with some members of the batch, in this order; what they hold stays theirs."""
        ...


class Memoryless:
    """A part of backends that keep nothing: every decision begins at rest."""

    def start(self, batch: int) -> None:
        """Nothing to do."""

    def keep(self, members: NDArray[np.int64]) -> None:
        """Nothing to do."""


def greedy_actions(
    values: NDArray[np.float64],
    legal_actions: tuple[int, ...],
    masks: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Best legal action of each row; the first one wins a tie.

    Args:
        values: (rows, actions).
        legal_actions: of the task.
        masks: (rows, legal actions) which of them an environment allows now; None where all.
    """
    legal = np.asarray(legal_actions)
    of_legal = values[:, legal]
    if masks is not None:
        of_legal = np.where(masks, of_legal, -np.inf)
    return legal[np.argmax(of_legal, axis=1)].astype(np.int64)
