"""Recorded decisions of a task, checked against the run that learns from them, and drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtspark.core.arrays import AnyArray, Floats
from mtspark.core.datasets import RecordedData, dataset_folder, read_dataset
from mtspark.core.environments import (
    Environment,
    GameProtocol,
    Observation,
    RunningStatistics,
    Task,
    as_messages,
    box_of,
)
from mtspark.core.errors import BadFileError, BadRequestError, one_line
from mtspark.train.config import TrainConfig
from mtspark.train.rl.collect import as_learned

OF_WHAT_IS_SEEN = (
    *("frame_skip", "frame_stack", "screen_size", "max_pool", "decision_delay"),
    *("mode", "difficulty"),
)
"""Fields of a protocol that change what a decision sees and does."""
ROUNDING = 1e-4
"""Share of its range by which a number may lie out of a box: another program may have rounded."""


@dataclass(frozen=True)
class Batch:
    """Drawn decisions.

    Attributes:
        frames, next_frames: (batch, *shape) messages before and after.
        task: (batch,) indices.
        actions: (batch,) of a list, or (batch, outputs) numbers from -1 to 1, 0 beyond a task's.
        rewards: (batch,) as they are learned.
        terminal: (batch,) 1 where the game ended by its rules.
        allowed, next_allowed: (batch, outputs) which actions could be chosen before and after.
    """

    frames: Tensor
    next_frames: Tensor
    task: Tensor
    actions: Tensor
    rewards: Tensor
    terminal: Tensor
    allowed: Tensor
    next_allowed: Tensor

    @staticmethod
    def joined(parts: list[Batch]) -> Batch:
        """Put batches behind one another."""
        names = list(Batch.__dataclass_fields__)
        return Batch(**{name: torch.cat([getattr(one, name) for one in parts]) for name in names})

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


class Recorded:
    """The recorded decisions of one task.

    Args:
        data: of the task; it agrees with it.
        task: with the statistics that numbers are sent relative to.
        index: of the task in the run.
        config: of the run.
    """

    def __init__(self, data: RecordedData, task: Task, index: int, config: TrainConfig) -> None:
        self._index, outputs = index, config.network.actions
        shown = np.concatenate([one.shown for one in data.episodes])
        environment = task.environment
        frames = shown if environment is None else as_messages(shown, environment.found)
        self._frames = torch.from_numpy(np.ascontiguousarray(frames))
        lengths = np.array([len(one) for one in data.episodes])
        # An episode has a row more than decisions.
        rows = np.arange(lengths.sum()) + np.repeat(np.arange(len(lengths)), lengths)
        self._rows = torch.from_numpy(rows)
        actions = np.concatenate([one.actions for one in data.episodes])
        box = box_of(task)
        if box is None:
            self._actions = torch.from_numpy(actions)
        else:
            low, high = np.array(box.low), np.array(box.high)
            squashed = np.zeros((len(actions), outputs), np.float32)
            squashed[:, : box.size] = np.clip((actions - low) / (high - low) * 2 - 1, -1, 1)
            self._actions = torch.from_numpy(squashed)
        rewards = np.concatenate([one.rewards for one in data.episodes])
        self._rewards = torch.from_numpy(as_learned(config, index, environment, rewards))
        ends = np.cumsum(lengths) - 1
        terminal = np.zeros(len(rows), np.float32)
        terminal[ends] = [one.ended for one in data.episodes]
        self._terminal = torch.from_numpy(terminal)
        legal = np.zeros(outputs, dtype=bool)
        legal[list(task.legal_actions)] = True
        self._legal, self._masks = torch.from_numpy(legal), None
        if data.episodes[0].masks is not None:
            masks = np.zeros((len(shown), outputs), dtype=bool)
            parts = [one.masks for one in data.episodes if one.masks is not None]
            masks[:, list(task.legal_actions)] = np.concatenate(parts)
            self._masks = torch.from_numpy(masks)

    def __len__(self) -> int:
        """Decisions."""
        return len(self._rows)

    def sample(self, batch_size: int, generator: np.random.Generator) -> Batch:
        """Draw decisions, each with the same chance."""
        return self.at(torch.from_numpy(generator.integers(0, len(self), batch_size)))

    def at(self, chosen: Tensor) -> Batch:
        """Some decisions, by their places."""
        rows = self._rows[chosen]
        return Batch(
            self._frames[rows],
            self._frames[rows + 1],
            torch.full((len(chosen),), self._index),
            self._actions[chosen],
            self._rewards[chosen],
            self._terminal[chosen],
            self._allowed(rows),
            self._allowed(rows + 1),
        )

    def _allowed(self, rows: Tensor) -> Tensor:
        if self._masks is None:
            return self._legal.expand(len(rows), -1)
        return self._masks[rows]


def load_data(config: TrainConfig, tasks: tuple[Task, ...]) -> tuple[RecordedData, ...]:
    """Read the dataset of each task of a run.

    Raises:
        BadFileError: one is missing or damaged.
        BadRequestError: one was recorded otherwise than this run would play.
    """
    found = []
    for folder, task in zip(config.data_folders, tasks, strict=True):
        place = dataset_folder(folder, task.name)
        data = read_dataset(place)
        check_agrees(data, task, config.protocol, str(place))
        found.append(data)
    return tuple(found)


def with_statistics(task: Task, data: RecordedData) -> Task:
    """The task with the statistics of its data, where it has none and sends numbers."""
    environment = task.environment
    if environment is None or not environment.found.graded or environment.found.mean:
        return task
    statistics = RunningStatistics(environment.found.size)
    for one in data.episodes:
        statistics.add(one.shown.astype(np.float64))
    return at_statistics(task, statistics.mean, statistics.deviation)


def at_statistics(task: Task, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Task:
    """The task with these statistics of its numbers."""
    environment = task.environment
    assert environment is not None
    seen = environment.found.with_statistics(mean, deviation)
    return replace(task, environment=replace(environment, observation=seen))


def check_agrees(data: RecordedData, task: Task, protocol: GameProtocol, where: str) -> None:
    """Check that data is of the task that a run learns.

    Args:
        data: of the task's dataset.
        task: of the run.
        protocol: of the run; it counts for games of ALE.
        where: names the dataset.

    Raises:
        BadRequestError: it was recorded in another game, or in other settings of it.
        BadFileError: what it holds does not fit its task.
    """
    origin = data.origin
    if origin is not None:
        recorded = _played(origin.task, origin.protocol)
        wanted = _played(task, protocol)
        for name in {**wanted, **recorded}:
            if recorded.get(name) != wanted.get(name):
                raise BadRequestError(
                    f"{where}: was recorded with {name} {_short(recorded.get(name))}, this run "
                    f"has {_short(wanted.get(name))}; change the recipe or record anew"
                )
    elif task.told is not None:
        raise BadRequestError(
            f"{where}: its frames do not show which task it is, as task_context says; leave "
            "task_context out, or record an agent that sees it"
        )
    _check_shapes(data, task, protocol, where)


def _short(value: Any) -> str:
    return one_line(repr(value), 80)


def _played(task: Task, protocol: GameProtocol | None) -> dict[str, Any]:
    """What must be equal in data and run, by the names of a recipe's fields."""
    if task.environment is None:
        known = GameProtocol() if protocol is None else protocol
        seen = {name: getattr(known, name) for name in OF_WHAT_IS_SEEN}
        if task.told is not None:
            seen["task_context"] = f"a flag of task {task.told[0] + 1} of {task.told[1]}"
        return {"game": task.game, **seen}
    return asdict(_alone(task.environment))


def _alone(environment: Environment) -> Environment:
    """The environment without what training adds, and what changes no episode."""
    box = environment.box
    return replace(
        environment,
        observation=environment.found.alone,
        box=None if box is None else replace(box, deviation=()),
        reward_range=None,
        decisions_per_s=0.0,
        name="",
    )


def _check_shapes(data: RecordedData, task: Task, protocol: GameProtocol, where: str) -> None:
    first, environment, box = data.episodes[0], task.environment, box_of(task)
    seen: Observation | None = None if environment is None else environment.found
    shape = protocol.observation_shape if seen is None else (seen.size,)
    if first.shown.shape[1:] != shape or (seen is None and first.shown.dtype != np.uint8):
        raise BadFileError(
            f"{where}: observations are {first.shown.dtype} of shape {first.shown.shape[1:]}, "
            f"{task.name} shows {shape}"
        )
    legal = len(task.legal_actions)
    if first.masks is not None and first.masks.shape[1] != legal:
        raise BadFileError(
            f"{where}: masks of {first.masks.shape[1]} actions, {task.name} has {legal}"
        )
    actions: AnyArray = np.concatenate([one.actions for one in data.episodes])
    if box is None:
        if actions.ndim != 1 or not np.isin(actions, task.legal_actions).all():
            raise BadFileError(f"{where}: has actions that {task.name} has not")
        return
    low, high = np.array(box.low), np.array(box.high)
    room: Floats = ROUNDING * (high - low)
    within = actions.ndim == 2 and actions.shape[1] == box.size
    if not within or not ((actions >= low - room) & (actions <= high + room)).all():
        raise BadFileError(f"{where}: has actions out of the bounds of {task.name}")
