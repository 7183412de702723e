"""An environment as an agent meets it: it shows a row of numbers and takes an action's number."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mtspark.core.arrays import Booleans, Floats
from mtspark.core.environments.environment import Environment
from mtspark.core.environments.spaces import SeenPart, seen_parts
from mtspark.core.errors import BackendFailedError, one_line

MASK, MASKS = "action_mask", "action_masks"
"""Where environments say which actions they allow: an entry of the information, as gymnasium's own
have it, or a method, as sb3-contrib asks for it."""
SUCCESSES = ("success", "is_success")
"""Entries of a step's information in which environments say that a task is solved: Meta-World's
and MiniGrid's kin, and those of stable-baselines3 and Gymnasium-Robotics."""


class FlatWorld(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Reads what an environment shows part after part, and gives it its own form of an action.

    Args:
        made: the environment.
        environment: its description, that was looked at.

    Its information ends here: gymnasium's copies could join only what has the same form in each.

    Attributes:
        mask: (actions,) which actions it allows now; None where it does not say.
        success: whether the task was solved after any decision of the episode, as Meta-World
            counts it (Yu et al. 2019, arXiv:1910.10897); None where no decision said.
    """

    def __init__(self, made: gymnasium.Env[Any, Any], environment: Environment) -> None:
        super().__init__(made)
        self._parts = seen_parts(made.observation_space, environment)
        self._described = environment
        size = environment.found.size - environment.shown_actions
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float64)
        box = environment.box
        self.action_space = (
            spaces.Discrete(environment.actions)
            if box is None
            else spaces.Box(np.array(box.low), np.array(box.high), dtype=np.float64)
        )
        own: Any = made.action_space
        self._first = getattr(own, "start", 0)
        self._shape = own.shape
        self.mask: Booleans | None = None
        self.success: bool | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Start an episode.

        Raises:
            BackendFailedError: the environment fails, or shows what is not in its space.
        """
        with self._asked("reset"):
            shown, given = self.env.reset(seed=seed, options=options)
            info = dict(given)
        self.success = None
        return self._seen(shown, info), {}

    def step(self, action: Any) -> tuple[Floats, Any, bool, bool, dict[str, Any]]:
        """Take the action of a number, or the numbers of a box.

        Raises:
            BackendFailedError: the environment fails, or gives what no environment may.
        """
        with self._asked("step"):
            shown, reward, ended, cut, given = self.env.step(self._own(action))
            info = dict(given)
        reward = self._number(reward)
        said = _said_success(info)
        if said is not None:
            self.success = bool(self.success) or said
        return self._seen(shown, info, ended=ended, cut=cut), reward, ended, cut, {}

    def close(self) -> None:
        """Release the environment.

        Raises:
            BackendFailedError: it fails.
        """
        with self._asked("close"):
            super().close()

    def _own(self, action: Any) -> Any:
        """An action in the environment's own form."""
        if self._described.box is not None:
            numbers = np.array(action, dtype=self.env.action_space.dtype)
            return numbers.reshape(self._shape)
        action, choices = int(action), self._described.choices
        if not choices:
            return action + self._first
        numbers = np.array(np.unravel_index(action, choices)).reshape(self._shape)
        return (numbers + self._first).astype(self.env.action_space.dtype)

    def _seen(
        self, shown: Any, info: dict[str, Any], *, ended: bool = False, cut: bool = False
    ) -> Floats:
        """The numbers of all parts, and the mask that came with them.

        Raises:
            BackendFailedError: see :meth:`_row` and :meth:`_allowed`, or there are masks now, and
                at the first look there were none.
        """
        described = self._described
        if not described.masked and described.box is None and info.get(MASK) is not None:
            raise BackendFailedError(
                f"{described.id}: says which actions it allows ({MASK}), and did not where it was "
                "looked at, in the information of its reset; give it there, too, and train again"
            )
        if described.masked:
            # Nothing may be allowed after the end, where nothing is chosen. What a truncated
            # episode would go on with is valued by what is allowed there, if anything is.
            anything = np.ones(described.actions, bool)
            otherwise = anything if cut else None
            self.mask = anything if ended else self._allowed(info, otherwise=otherwise)
        rows = [self._row(part, shown) for part in self._parts]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _row(self, part: SeenPart, shown: Any) -> Floats:
        """The numbers of a part.

        Raises:
            BackendFailedError: the environment showed something else than its space says.
        """
        try:
            for key in part.path:
                shown = shown[key]
            return part.read(shown)
        except (ValueError, TypeError, LookupError, BackendFailedError) as error:
            entry = f" as its entry {one_line(part.part.name, 40)}" if part.part.name else ""
            raise BackendFailedError(
                f"{self._described.id}: showed {one_line(repr(shown), 80)}{entry}, which is not in "
                f"its space: {one_line(error, 120)}"
            ) from error

    def _number(self, reward: Any) -> float:
        """A reward as a number.

        Raises:
            BackendFailedError: it is none, or not finite.
        """
        given = np.asarray(reward)
        if given.ndim or given.dtype.kind not in "biuf" or not np.isfinite(given):
            raise BackendFailedError(
                f"{self._described.id}: gave the reward {one_line(repr(reward), 80)}; must be one "
                "finite number"
            )
        return float(given)

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Say in one line where code of the environment failed.

        Raises:
            BackendFailedError: it did.
        """
        try:
            yield
        except Exception as error:
            # An environment is code of others: whatever it raises, it cannot be played on.
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise BackendFailedError(
                f"{self._described.id}: its {what} failed: {type(error).__name__}: "
                f"{one_line(error, 200)} ({Path(place.filename).name}, line {place.lineno})"
            ) from error

    def _allowed(self, info: dict[str, Any], *, otherwise: Booleans | None = None) -> Booleans:
        """The mask that the environment gives.

        Of combinations it is one flag for each choice of each number, one number after the other,
        as sb3-contrib has it, or a tuple of these as gymnasium's spaces take it; or one flag for
        each combination, where that is another number of flags.

        Args:
            info: of the step or the reset.
            otherwise: the mask where it allows nothing; None: it has to allow something.

        Raises:
            BackendFailedError: it has another form, or allows nothing.
        """
        given = info.get(MASK)
        if given is None and self.env.has_wrapper_attr(MASKS):
            with self._asked(MASKS):
                given = self.env.get_wrapper_attr(MASKS)()
        actions, choices = self._described.actions, self._described.choices
        rows = [np.ones(actions, bool)] if given is None else list(_rows(given))
        mask = np.concatenate(rows) != 0 if rows else np.zeros(0, bool)
        if given is not None and choices and mask.size == sum(choices):
            of_numbers = np.split(mask, np.cumsum(choices)[:-1])
            mask = np.array(np.meshgrid(*of_numbers, indexing="ij")).all(0).reshape(-1)
        if mask.shape == (actions,) and not mask.any() and otherwise is not None:
            return otherwise
        if mask.shape != (actions,) or not mask.any():
            raise BackendFailedError(
                f"{self._described.id}: gave the action mask {one_line(str(given), 80)}; must "
                f"allow one or more of {actions} actions"
            )
        return mask


def _rows(given: Any) -> Iterator[NDArray[Any]]:
    """The arrays of a mask, of which gymnasium's tuples hold one for each number."""
    if isinstance(given, (tuple, list)):
        for part in given:
            yield from _rows(part)
    else:
        yield np.asarray(given).reshape(-1)


def _said_success(info: dict[str, Any]) -> bool | None:
    """Whether a step's information says that the task is solved; None where it says nothing."""
    for name in SUCCESSES:
        said = np.asarray(info.get(name))
        if said.ndim == 0 and said.dtype.kind in "biuf":
            return bool(said > 0)
    return None


def gives_masks(made: gymnasium.Env[Any, Any], info: dict[str, Any]) -> bool:
    """Whether an environment says which actions it allows; `info` came with a reset."""
    return MASK in info or made.has_wrapper_attr(MASKS)
