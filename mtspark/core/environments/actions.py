"""What an agent does with the values of its readout: the best of a list, or numbers of a box.

A number of a box is the tanh of its value, stretched from low to high: the readout's integer times
its scale, in float64, rounded to float32 once. So it follows from the chip's integers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Booleans, Floats
from mtspark.core.backend import greedy_actions
from mtspark.core.environments.environment import ActionBox, Environment
from mtspark.core.environments.protocol import Task
from mtspark.core.errors import BadRequestError, one_line

Action = int | tuple[float, ...]
"""Of one decision, as plain values: the number of an action, or the numbers of a box."""
EQUAL_SHARE = 0.05
"""Numbers of a box that are no further apart than this share of its range count as the same."""


def chosen_actions(values: Floats, task: Task, masks: Booleans | None = None) -> NDArray[Any]:
    """Return what an agent does, without chance.

    Args:
        values: (batch, outputs) of the readout.
        task: that is played; one without actions may use all outputs.
        masks: (batch, legal actions) which of them an environment allows now; None: all.

    Returns:
        (batch,) int64, the best legal action, the first one of a tie; or float32 (batch, numbers)
        of a box.
    """
    box = box_of(task)
    if box is None:
        return greedy_actions(values, task.legal_actions or tuple(range(values.shape[1])), masks)
    return boxed_actions(values, box)


@dataclass(frozen=True)
class Sampling:
    """Actions that are drawn, where somebody asks for it.

    Attributes:
        seed: of the random numbers; an episode's follow from it and the episode's own.
        temperature: action values are divided by it before the softmax, which gives the
            probabilities of a list's actions; numbers of a box get their deviation times it.

    Raises:
        BadRequestError: a number that cannot be.
    """

    seed: int
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        given: tuple[tuple[str, Any, Any, str], ...] = (
            ("sample", self.seed, Integral, "a whole number"),
            ("temperature", self.temperature, Real, "a number"),
        )
        for name, value, kind, what in given:
            if isinstance(value, bool) or not isinstance(value, kind):
                raise BadRequestError(f"{name} {one_line(repr(value), 40)}: must be {what}")
        # Of NumPy's kinds, too, which no file of JSON holds.
        object.__setattr__(self, "seed", int(self.seed))
        object.__setattr__(self, "temperature", float(self.temperature))
        if not 0 <= self.seed < 2**63:
            raise BadRequestError(f"sample {self.seed}: must be 0 to {2**63 - 1}")
        if not 1e-6 <= self.temperature <= 1e6:
            raise BadRequestError(f"temperature {self.temperature}: must be 1e-6 to 1e6")

    def generator(self, episode_seed: int) -> np.random.Generator:
        """Random numbers of one episode."""
        return np.random.default_rng([self.seed, episode_seed])


@dataclass(frozen=True)
class Epsilon:
    """The best actions, of which some are replaced by random ones.

    Attributes:
        chance: of a random action at each decision, with equal chances of all that are allowed.

    Raises:
        BadRequestError: no chance.
    """

    chance: float

    def __post_init__(self) -> None:
        """Check the number."""
        if not 0 < self.chance <= 1:
            raise BadRequestError(f"epsilon {self.chance:g}: must be above 0 and at most 1")

    def generator(self, episode_seed: int) -> np.random.Generator:
        """Random numbers of one episode."""
        return np.random.default_rng([episode_seed])


def sampling_of(seed: int | None, temperature: float) -> Sampling | None:
    """How actions are drawn, None without a seed.

    Raises:
        BadRequestError: a temperature without a seed, or a number that cannot be.
    """
    if seed is None and temperature != 1:
        raise BadRequestError(f"temperature {temperature:g}: is of drawn actions; give sample, too")
    return None if seed is None else Sampling(seed, temperature)


def drawn_actions(
    values: Floats,
    task: Task,
    sampling: Sampling | Epsilon,
    generators: Sequence[np.random.Generator],
    masks: Booleans | None = None,
) -> NDArray[Any]:
    """Draw what an agent does; otherwise as :func:`chosen_actions`.

    Args:
        values: (batch, outputs) of the readout.
        task: that is played.
        sampling: says how.
        generators: of each row's episode.
        masks: (batch, legal actions) which of them an environment allows now; None: all.
    """
    if isinstance(sampling, Epsilon):
        chosen = chosen_actions(values, task, masks)
        for row, one in enumerate(generators):
            if one.random() < sampling.chance:
                allowed = None if masks is None else masks[row : row + 1]
                chosen[row] = random_actions(task, 1, one, allowed)[0]
        return chosen
    noise = np.stack([noise_of_decision(task, one) for one in generators])
    return chosen_actions(noisy_values(values, task, sampling, noise), task, masks)


def noise_of_decision(task: Task, generator: np.random.Generator) -> Floats:
    """Draw what one decision's values get, whatever they are.

    Args:
        task: that is played.
        generator: of its episode, see :meth:`Sampling.generator`.

    Returns:
        (legal actions,) of Gumbel's distribution, or (numbers,) of the normal one for a box.
    """
    box = box_of(task)
    if box is None:
        return generator.gumbel(size=len(task.legal_actions))
    return generator.standard_normal(box.size)


def noisy_values(values: Floats, task: Task, sampling: Sampling, noise: Floats) -> Floats:
    """Return values whose best action, or whose numbers, are the drawn ones.

    Args:
        values: (batch, outputs) of the readout.
        task: that is played.
        sampling: says how.
        noise: of :func:`noise_of_decision`, one row for each of `values`.
    """
    box, noisy = box_of(task), np.zeros_like(values)
    if box is None:
        # The best of values with Gumbel noise has the probabilities of their softmax.
        legal = np.array(task.legal_actions)
        noisy[:, legal] = values[:, legal] / sampling.temperature + noise
    else:
        spread = np.array(box.deviation) * sampling.temperature
        noisy[:, : box.size] = values[:, : box.size] + spread * noise
    return noisy


def check_sampling(task: Task, sampling: Sampling | Epsilon | None) -> None:
    """Refuse to draw what nobody knows the deviation of.

    Raises:
        BadRequestError: numbers of an agent that was not trained by drawing them.
    """
    box = box_of(task)
    if isinstance(sampling, Sampling) and box is not None and not box.deviation:
        raise BadRequestError(
            f"sample {sampling.seed}: {task.name} takes numbers, and the agent does not say by "
            "which deviation they were drawn in training; leave it out"
        )


def boxed_actions(values: Floats, box: ActionBox) -> NDArray[np.float32]:
    """Return the numbers of values, float32 (batch, numbers): their tanh, stretched."""
    return stretched(np.tanh(values[:, : box.size]), box)


def compared_as(task: Task) -> str:
    """Say what of a task's decisions counts as the same or not, in the plural.

    Args:
        task: a game, an environment, or inputs that are only answered.
    """
    if box_of(task) is not None:
        return f"actions (each number within {EQUAL_SHARE:.0%} of its range)".replace("%", " %")
    return "actions" if task.game else "answers"


def box_of(task: Task) -> ActionBox | None:
    """The box that a task's actions are of; None where they are of a list."""
    return None if task.environment is None else task.environment.box


def stretched(squashed: NDArray[np.floating[Any]], box: ActionBox) -> NDArray[np.float32]:
    """Return numbers from low to high, float32 (batch, numbers), of numbers from -1 to 1.

    None is out of bounds, also where no float32 equals a bound, such as 0.1 in float64.
    """
    low, high = np.array(box.low), np.array(box.high)
    numbers = low + (np.asarray(squashed, np.float64) + 1) / 2 * (high - low)
    rounded = np.clip(numbers, low, high).astype(np.float32)
    rounded = np.where(rounded > high, np.nextafter(rounded, -np.inf), rounded)
    return np.where(rounded < low, np.nextafter(rounded, np.inf), rounded)


def same_actions(one: NDArray[Any], other: NDArray[Any], box: ActionBox | None) -> Booleans:
    """Which decisions of two agents are the same, (batch,).

    Args:
        one, other: of :func:`chosen_actions`.
        box: that they are of; its numbers count as the same where all are within
            :data:`EQUAL_SHARE` of its range.
    """
    if box is None:
        return np.asarray(one == other)
    apart = np.abs(one.astype(np.float64) - other)
    within = apart <= EQUAL_SHARE * (np.array(box.high) - np.array(box.low))
    return np.asarray(within.all(axis=1))


def same_choices(
    values: Floats, others: Floats, task: Task, masks: Booleans | None = None
) -> Booleans:
    """In which decisions two agents think the same action best, (batch,).

    Args:
        values, others: of their readouts, as for :func:`chosen_actions`.
        task: that both play.
        masks: see :func:`chosen_actions`.
    """
    one, other = (chosen_actions(own, task, masks) for own in (values, others))
    return same_actions(one, other, box_of(task))


def idle_actions(task: Task, count: int, masks: Booleans | None = None) -> NDArray[Any]:
    """What copies of a game get that nobody plays: the first action, or the middle of a box.

    Args:
        task: that is played.
        count: copies.
        masks: see :func:`chosen_actions`; the first that is allowed is taken.
    """
    if masks is not None:
        return np.array(task.legal_actions)[masks.argmax(1)]
    if box_of(task) is None or task.environment is None:
        return np.full(count, task.legal_actions[0])
    return resting_actions(task.environment, count)


def resting_actions(environment: Environment, count: int) -> NDArray[Any]:
    """What is pressed before a first decision, and where nobody plays: the first, or the middle."""
    if environment.box is None:
        return np.zeros(count, dtype=np.int64)
    return stretched(np.zeros((count, environment.box.size)), environment.box)


def random_actions(
    task: Task,
    count: int,
    generator: np.random.Generator,
    masks: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """Draw actions of a task with equal chances, as :func:`chosen_actions` returns them.

    Args:
        task: that is played.
        count: how many.
        generator: of the random numbers.
        masks: (count, legal actions) which of them an environment allows now; None: all.
    """
    box = box_of(task)
    if masks is not None:
        legal = np.array(task.legal_actions)
        return np.array([generator.choice(legal[mask]) for mask in masks])
    if box is None:
        return generator.choice(task.legal_actions, size=count)
    return stretched(generator.uniform(-1, 1, (count, box.size)), box)


def shown_actions(actions: NDArray[Any], environment: Environment) -> Floats:
    """Return pressed actions as an observation holds them, (count, shown_actions).

    Args:
        actions: as :func:`chosen_actions` returns them.
        environment: with a decision delay. Its list of actions is one-hot, a box is -1 to 1.
    """
    box = environment.box
    if box is None:
        return np.eye(environment.actions)[np.asarray(actions, np.int64)]
    low, high = np.array(box.low), np.array(box.high)
    return (np.asarray(actions, np.float64) - low) / (high - low) * 2 - 1


def as_plain(action: Any) -> Action:
    """One decision's action as plain values: its number, or the numbers of a box."""
    given = np.asarray(action)
    if given.ndim == 0:
        return int(given)
    # The float64 of a float32, which has the same shortest text there.
    return tuple(float(number) for number in given)


def action_text(action: Action) -> str:
    """Write an action as stored runs hold it, without a space; it reads back as the same."""
    if isinstance(action, tuple):
        return ",".join(str(np.float32(number)) for number in action)
    return str(action)


def action_bytes(action: Any) -> bytes:
    """An action for hashes of games: int64, or the float32 of a box."""
    given = np.asarray(action)
    return given.astype("<i8" if given.ndim == 0 else "<f4").tobytes()
