"""The evaluation protocol: how a game is played. It travels inside every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from mtspark.core.errors import BadFileError, BadRequestError


@dataclass(frozen=True)
class GameProtocol:
    """Settings of the Atari environment, the same for training and for evaluation.

    Attributes:
        frame_skip: emulator frames per agent decision.
        frame_stack: grey frames in one observation, oldest first.
        screen_size: height and width of a frame in pixels.
        max_pool: take the pixel-wise maximum of the last two frames of a skip.
        noop_max: an episode starts with 0 to this many no-op steps, drawn from its seed.
        fire_on_reset: press FIRE after a reset where the game has that action.
        life_loss_ends_episode: a lost life ends an episode (training only, never scores).
        sticky_action_probability: chance that the emulator repeats the last action.
        max_frames_per_episode: an episode is cut off after this many emulator frames.
    """

    frame_skip: int = 4
    frame_stack: int = 4
    screen_size: int = 84
    max_pool: bool = True
    noop_max: int = 30
    fire_on_reset: bool = True
    life_loss_ends_episode: bool = False
    sticky_action_probability: float = 0.0
    max_frames_per_episode: int = 108_000

    @property
    def observation_shape(self) -> tuple[int, int, int]:
        """Channels (stacked frames), height, width."""
        return (self.frame_stack, self.screen_size, self.screen_size)


@dataclass(frozen=True)
class Task:
    """One game that an agent knows.

    Attributes:
        name: what the user calls it, for example ``pong``.
        game: the ALE game name (snake case).
        legal_actions: the game's minimal action set, as indices of ALE's 18 actions.
    """

    name: str
    game: str
    legal_actions: tuple[int, ...]


FIELD_TYPES: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "bool": bool,
    "float": (int, float),
    "str": str,
    "tuple[int, ...]": tuple,
}
Checked = TypeVar("Checked", GameProtocol, Task)


def task_index(tasks: tuple[Task, ...], name: str) -> int:
    """Return the position of the task called `name`.

    Raises:
        BadRequestError: no task has that name.
    """
    names = [task.name for task in tasks]
    if name not in names:
        raise BadRequestError(
            f"unknown task {name!r}: this agent knows {', '.join(names)}; name one of them"
        )
    return names.index(name)


def protocol_to_json(protocol: GameProtocol) -> dict[str, Any]:
    """Return the protocol as plain JSON values."""
    return asdict(protocol)


def protocol_from_json(data: Any, where: str) -> GameProtocol:
    """Rebuild a protocol; `where` names the file in the error.

    Raises:
        BadFileError: a field is unknown, missing or of the wrong type.
    """
    protocol = _checked(GameProtocol, data, where)
    for name in ("frame_skip", "frame_stack", "screen_size", "max_frames_per_episode"):
        if getattr(protocol, name) < 1:
            raise BadFileError(f"{where}: GameProtocol.{name} must be at least 1")
    if protocol.noop_max < 0 or not 0 <= protocol.sticky_action_probability < 1:
        raise BadFileError(
            f"{where}: GameProtocol: noop_max from 0 and sticky_action_probability from 0 to "
            "below 1 can be played"
        )
    return protocol


def tasks_to_json(tasks: tuple[Task, ...]) -> list[dict[str, Any]]:
    """Return the tasks as plain JSON values."""
    return [{**asdict(task), "legal_actions": list(task.legal_actions)} for task in tasks]


def tasks_from_json(data: Any, where: str) -> tuple[Task, ...]:
    """Rebuild the tasks; `where` names the file in the error.

    Raises:
        BadFileError: the list is empty, or a field is unknown, missing or of the wrong type.
    """
    if not isinstance(data, list) or not data:
        raise BadFileError(f"{where}: 'tasks' must be a list of at least one task")
    tasks = []
    for entry in data:
        if isinstance(entry, dict) and isinstance(entry.get("legal_actions"), list):
            entry = {**entry, "legal_actions": tuple(entry["legal_actions"])}
        task = _checked(Task, entry, where)
        if not task.legal_actions or any(
            type(action) is not int or action < 0 for action in task.legal_actions
        ):
            raise BadFileError(
                f"{where}: Task.legal_actions is {list(task.legal_actions)!r}, "
                "not a list of at least one action number"
            )
        tasks.append(task)
    return tuple(tasks)


def _checked(kind: type[Checked], data: Any, where: str) -> Checked:
    if not isinstance(data, dict):
        raise BadFileError(f"{where}: {kind.__name__} must be an object of named fields")
    names = {entry.name for entry in fields(kind)}
    if set(data) != names:
        raise BadFileError(
            f"{where}: {kind.__name__}: fields missing: {sorted(names - set(data))}, "
            f"unknown: {sorted(map(str, set(data) - names))}"
        )
    made = kind(**data)
    for entry in fields(made):
        value, expected = getattr(made, entry.name), FIELD_TYPES[str(entry.type)]
        is_bool = isinstance(value, bool)
        if not isinstance(value, expected) or is_bool != (expected is bool):
            raise BadFileError(
                f"{where}: {kind.__name__}.{entry.name} is {value!r}, not {entry.type}"
            )
    return made
