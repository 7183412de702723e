"""The evaluation protocol: how a game is played. It travels inside every checkpoint."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from mtspark.core.environments.environment import Environment
from mtspark.core.environments.stored import environment_from_json, environment_to_json
from mtspark.core.errors import BadFileError, BadRequestError, one_line


@dataclass(frozen=True)
class GameProtocol:
    """Settings of the Atari environment, the same for training and for evaluation.

    Attributes:
        frame_skip: emulator frames per agent decision.
        frame_stack: grey frames in one observation, oldest first.
        screen_size: height and width of a frame in pixels.
        max_pool: the frame maximum: each pixel is the brighter of the last two frames of a skip.
            (No layer of a network: what `mtspark export --max-pool` is about.)
        noop_max: an episode starts with 0 to this many no-op steps, drawn from its seed.
        fire_on_reset: press FIRE after a reset where the game has that action.
        life_loss_ends_episode: a lost life ends a learned episode; the game goes on (training
            only, never scores).
        sticky_action_probability: chance that the emulator repeats the last action.
        max_frames_per_episode: an episode is cut off after this many emulator frames.
        decision_delay: decisions between the frame that an action is chosen for and the one in
            which it begins to act: 0 for a game that waits, 1 for real time, where the pressed
            action is drawn into the frame (:mod:`mtspark.core.environments.delay`).
        mode, difficulty: of the console's switches (Machado et al. 2018, arXiv:1709.06009, section
            4); None for the game's default. With either a game is played frame by frame
            (:mod:`mtspark.core.environments.frames`).
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
    decision_delay: int = 0
    mode: int | None = None
    difficulty: int | None = None

    @property
    def observation_shape(self) -> tuple[int, int, int]:
        """Channels (stacked frames), height, width."""
        return (self.frame_stack, self.screen_size, self.screen_size)


@dataclass(frozen=True)
class Task:
    """One thing that a network can do.

    Attributes:
        name: what the user calls it, for example ``pong``.
        game: the ALE game name (snake case), or gymnasium's id of an environment; empty for a
            task that is no game.
        legal_actions: the game's minimal action set, as indices of ALE's 18 actions, or all
            actions of an environment; of a task that is no game, the outputs that belong to it,
            none for all of them.
        environment: how gymnasium makes it; None of an ALE game and of a task that is no game.
        told: of an ALE game whose frames show which task it is, its place and the number of
            tasks (:mod:`mtspark.core.environments.told`); None where frames do not show it.
    """

    name: str
    game: str
    legal_actions: tuple[int, ...]
    environment: Environment | None = None
    told: tuple[int, int] | None = None

    @property
    def is_ale(self) -> bool:
        """Whether it is a game of ALE."""
        return bool(self.game) and self.environment is None

    @property
    def place(self) -> slice:
        """Of the flat frame, what it shows: all, or its own among tasks that see other things."""
        seen = None if self.environment is None else self.environment.observation
        if seen is None or not seen.frame:
            return slice(None)
        return slice(seen.start, seen.start + seen.size)


PROTOCOL_RANGES: dict[str, tuple[float, float]] = {
    "frame_skip": (1, 1000),
    "frame_stack": (1, 64),
    "screen_size": (1, 1024),
    "max_frames_per_episode": (1, 10_000_000),
    "noop_max": (0, 10_000),
    "sticky_action_probability": (0, 0.99),
    "decision_delay": (0, 1),
    "mode": (0, 255),
    "difficulty": (0, 255),
}
ADDED_FIELDS = ("decision_delay", "mode", "difficulty")
"""Fields that older files lack. A file without one means its default, and a default is not
written, so that older bundles keep their hash."""
TASK_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Task names become file names and words on the command line."""

EMULATOR_ACTIONS = 18
"""Size of ALE's full action set."""

GYMNASIUM = re.compile(
    r"(?:ale_py:)?(?:ALE/)?(?P<game>[A-Za-z0-9_]+?)(?P<ram>-ram)?(?P<skip>NoFrameskip|Deterministic)?"
    r"-v(?P<version>[0-9]+)",
    re.IGNORECASE,
)
"""How gymnasium calls an environment of a game."""

ADDITIONS = re.compile(
    r"^(?:ale_py:)?ALE/|(?:-ram(?:NoFrameskip|Deterministic)?|NoFrameskip|Deterministic)$|(?<=[A-Za-z])'s\b",
    re.IGNORECASE,
)
"""What names without a version have beyond the game's: gymnasium's additions, and a genitive."""

Checked = TypeVar("Checked", GameProtocol, Task)


def task_index(tasks: tuple[Task, ...], name: str) -> int:
    """Return the position of the task called `name`, or so in gymnasium or on its box.

    Raises:
        BadRequestError: no task has that name, or several could be meant.
    """
    names = [task.name for task in tasks]
    given: object = name
    if not isinstance(given, str):
        shown = one_line(f"{given!r} is {type(given).__name__}", 80)
        raise BadRequestError(f"task: {shown}; give one of the names {', '.join(names)}")
    if name not in names:
        plain = plain_name(name)
        meant = [
            index
            for index, task in enumerate(tasks)
            if plain in (plain_name(task.name), plain_name(task.game)) and plain
        ]
        if len(meant) == 1:
            return meant[0]
        raise BadRequestError(
            f"unknown task {name!r}: this agent knows {', '.join(names)}; name one of them"
        )
    return names.index(name)


def plain_name(text: str) -> str:
    """Return the letters and digits of a game's name, without gymnasium's additions to it."""
    given = GYMNASIUM.fullmatch(text)
    text = given["game"] if given is not None else ADDITIONS.sub("", text)
    return "".join(letter for letter in text.lower() if letter.isalnum())


def protocol_to_json(protocol: GameProtocol) -> dict[str, Any]:
    """Return the protocol as plain JSON values."""
    default = GameProtocol()
    return {
        name: value
        for name, value in asdict(protocol).items()
        if name not in ADDED_FIELDS or value != getattr(default, name)
    }


def protocol_from_json(data: Any, where: str) -> GameProtocol:
    """Rebuild a protocol; `where` names the file in the error.

    Raises:
        BadFileError: a field is unknown, missing, of the wrong type or out of range.
    """
    protocol = _checked(GameProtocol, data, where)
    problem = why_not_playable(protocol)
    if problem is not None:
        raise BadFileError(f"{where}: GameProtocol.{problem}")
    return protocol


def protocol_with_sticky(
    protocol: GameProtocol | None, sticky: float | None
) -> GameProtocol | None:
    """The protocol with another probability of sticky actions, or as it is for None.

    Raises:
        BadRequestError: no probability, or there is no protocol: an environment has none.
    """
    if sticky is None:
        return protocol
    if not 0 <= sticky < 1:
        raise BadRequestError(f"sticky action probability {sticky}: 0 up to below 1")
    if protocol is None and sticky:
        raise BadRequestError(
            f"sticky action probability {sticky}: is of ALE's games; give an environment the "
            "wrapper StickyAction in its recipe"
        )
    return None if protocol is None else replace(protocol, sticky_action_probability=sticky)


FRAME_RATE_HZ = 60.0
"""Emulator frames in a second of a console's time, as the Atari literature counts them."""


def seconds_per_decision(task: Task, protocol: GameProtocol | None) -> float | None:
    """How long a game or an environment waits for a decision; None for a task that is neither."""
    if task.environment is not None:
        return 1 / task.environment.decisions_per_s
    return protocol.frame_skip / FRAME_RATE_HZ if task.game and protocol is not None else None


def sticky_of(protocol: GameProtocol | None) -> float:
    """The protocol's probability of sticky actions; 0 without one."""
    return 0.0 if protocol is None else protocol.sticky_action_probability


def why_not_playable(protocol: GameProtocol) -> str | None:
    """The first field out of its range, its value and the range; None where all can be played."""
    for name, (low, high) in PROTOCOL_RANGES.items():
        value = getattr(protocol, name)
        if value is not None and not low <= value <= high:
            return f"{name} is {value}, {low} to {high} can be played"
    if protocol.decision_delay and protocol.screen_size < EMULATOR_ACTIONS:
        return (
            f"screen_size is {protocol.screen_size}, at least {EMULATOR_ACTIONS} is needed to "
            "show the pressed action of a decision_delay"
        )
    return None


def tasks_to_json(tasks: tuple[Task, ...]) -> list[dict[str, Any]]:
    """Return the tasks as plain JSON values."""
    content = []
    for task in tasks:
        entry: dict[str, Any] = {
            "name": task.name,
            "game": task.game,
            "legal_actions": list(task.legal_actions),
        }
        if task.environment is not None:
            entry["environment"] = environment_to_json(task.environment)
        if task.told is not None:
            entry["told"] = list(task.told)
        content.append(entry)
    return content


def tasks_from_json(data: Any, where: str) -> tuple[Task, ...]:
    """Rebuild the tasks; `where` names the file in the error.

    Raises:
        BadFileError: the list is empty, or a field is unknown, missing or of the wrong type.
    """
    if not isinstance(data, list) or not data:
        raise BadFileError(f"{where}: 'tasks' must be a list of at least one task")
    tasks: list[Task] = []
    for entry in data:
        if isinstance(entry, dict) and isinstance(entry.get("legal_actions"), list):
            entry = {**entry, "legal_actions": tuple(entry["legal_actions"])}
        environment = None
        if isinstance(entry, dict) and "environment" in entry:
            environment = environment_from_json(entry["environment"], where)
            entry = {key: value for key, value in entry.items() if key != "environment"}
        told = None
        if isinstance(entry, dict) and "told" in entry:
            told = _told(entry["told"], where)
            entry = {key: value for key, value in entry.items() if key != "told"}
        task = replace(_checked(Task, entry, where), environment=environment, told=told)
        if told is not None and not task.is_ale:
            raise BadFileError(f"{where}: Task.told: {task.name} is no game of ALE")
        legal = task.legal_actions
        distinct = all(type(action) is int for action in legal) and len(set(legal)) == len(legal)
        shown = one_line(str(list(legal)), 80)
        if not task.game:
            if not distinct or min(legal, default=0) < 0:
                raise BadFileError(
                    f"{where}: Task.legal_actions is {shown}, not a list of "
                    "distinct output numbers from 0"
                )
        elif not legal or not distinct or not set(legal) <= set(range(_actions(task))):
            raise BadFileError(
                f"{where}: Task.legal_actions is {shown}, not a list of distinct "
                f"action numbers from 0 to {_actions(task) - 1}"
            )
        if environment is not None and task.game != environment.id:
            raise BadFileError(
                f"{where}: Task.game is {one_line(task.game, 80)!r}, its environment is "
                f"{environment.id!r}"
            )
        if not TASK_NAME.fullmatch(task.name) or task.name in [known.name for known in tasks]:
            raise BadFileError(
                f"{where}: task name {one_line(task.name, 80)!r}: names must differ and have "
                "1 to 64 letters, digits, '.', '_' or '-'"
            )
        tasks.append(task)
    return tuple(tasks)


def _told(value: Any, where: str) -> tuple[int, int]:
    """Place of a task, and number of tasks.

    Raises:
        BadFileError: no such pair.
    """
    whole = isinstance(value, list) and len(value) == 2 and all(type(one) is int for one in value)
    if not whole or not 0 <= value[0] < value[1] <= PROTOCOL_RANGES["screen_size"][1]:
        raise BadFileError(
            f"{where}: Task.told is {one_line(repr(value), 80)}, not a task's place from 0 and the "
            "number of tasks"
        )
    return value[0], value[1]


def _actions(task: Task) -> int:
    """Actions that there are: ALE's of a game, or those of its environment."""
    return EMULATOR_ACTIONS if task.environment is None else task.environment.actions


def _checked(kind: type[Checked], data: Any, where: str) -> Checked:
    # Not with this module: pydantic takes a while to load, and every command loads this.
    from mtspark.core.files import first_problem

    if not isinstance(data, dict):
        raise BadFileError(f"{where}: {kind.__name__} must be an object of named fields")
    # An environment is read on its own, and so is what frames tell.
    names = {entry.name for entry in fields(kind)} - {"environment", "told"}
    if set(data) | set(ADDED_FIELDS if kind is GameProtocol else ()) != names:
        missing = sorted(names - set(data) - set(ADDED_FIELDS))
        raise BadFileError(
            f"{where}: {kind.__name__}: fields missing: {missing}, "
            f"unknown: {sorted(map(str, set(data) - names))}"
        )
    problem = first_problem(kind, data)
    if problem is not None:
        raise BadFileError(
            f"{where}: {kind.__name__}.{problem.place} is {problem.value!r}, not {problem.wanted}"
        )
    # Built of the values as they are: pydantic turns the probability 0 into 0.0, another hash.
    return kind(**data)
