"""An environment of Gymnasium as data: everything that plays the same episode again.

It travels with the task of an agent, in its checkpoint and its bundle. A task without one is an
ALE game, as all were before, and is written as it was.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

from mtspark.core.errors import BadRequestError, one_line

OWN_WRAPPERS = ("HideEntries", "Jump", "TargetVelocity", "TaskOneHot")
"""Of :mod:`mtspark.core.environments.wrappers`."""
WRAPPERS = (
    *OWN_WRAPPERS,
    *("ClipReward", "DelayObservation", "FilterObservation", "FlattenObservation"),
    *("FrameStackObservation", "MaxAndSkipObservation", "RescaleObservation", "StickyAction"),
    "TimeAwareObservation",
)
"""Those that a file may name, ours and of gymnasium.wrappers: none of them writes files or calls
code."""
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

ENVIRONMENT_ID = re.compile(
    r"(?:(?P<module>[A-Za-z_][A-Za-z0-9_.]*):)?(?P<name>[A-Za-z0-9_./-]+-v[0-9]{1,6})"
)
"""Gymnasium's names; before a colon stands the module that registers an environment of one's own.
"""
LONGEST_ID = 160
MOST_VALUES = 1024
"""Of an observation; a replay stores no longer ones."""
MOST_ACTIONS = 256
"""An action is kept in a byte."""
LONGEST_SETTINGS = 10_000
"""Letters of the JSON of keyword arguments."""
PLAIN = (
    "plain numbers, texts, booleans, lists and dicts, all finite, of at most "
    f"{LONGEST_SETTINGS:,} letters"
)
"""What keyword arguments are, said in an error."""
RESERVED = {
    **dict.fromkeys(("id", "render_mode", "disable_env_checker"), "left out: mtspark gives it"),
    "max_episode_steps": "left out: write max_steps beside the arguments",
}
"""Arguments of gymnasium.make that no argument of an environment may take the place of."""
ENDLESS = 30_000
"""Decisions after which an episode may be one that never ends; ALE's games take 27,000 at most."""
LARGEST_NUMBER = 1e18
SPREAD = 1e-6
"""A value of a smaller deviation counts as constant."""

PartKind = Literal["box", "discrete", "multibinary", "multidiscrete"]
ObservationKind = Literal["box", "discrete", "multibinary", "parts"]


@dataclass(frozen=True)
class Part:
    """An entry of an observation, with messages of its own.

    Attributes:
        name: the way to it through Dict and Tuple spaces, ``image`` or ``arm.0``; empty where the
            space is neither.
        kind: box (numbers), discrete (one of `size`), multibinary (`size` flags) or multidiscrete
            (several numbers, each one of its `choices`).
        size: its messages.
        choices: of a multidiscrete one, the possible values of each number, all one-hot; they
            repeat where there are more numbers, as in an array of symbols.
    """

    name: str
    kind: PartKind
    size: int
    choices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Observation:
    """What an agent is told of an environment's state.

    Attributes:
        kind: box (numbers, sent as signed messages), discrete (one of `size`, sent as one spike),
            multibinary (`size` flags, each a spike) or parts (several of these, or MultiDiscrete).
        size: messages of a frame.
        mean, deviation: of each number of a box, which is sent relative to them; fixed when an
            agent is exported. Empty where nothing has been measured yet.
        parts: in the order in which they are sent. Where one of them is a box, all are sent as
            signed messages, and a flag is the number 0 or 1.
        frame: messages of the network's frame, where its tasks see different things and each has
            a place of its own in the frame; elsewhere it is 0. 0: as many as `size`.
        start: of this place.
        as_numbers: flags are sent as the numbers 0 and 1, since another task shows numbers.
    """

    kind: ObservationKind
    size: int
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    parts: tuple[Part, ...] = ()
    frame: int = 0
    start: int = 0
    as_numbers: bool = False

    @property
    def graded(self) -> bool:
        """Whether it is sent as signed messages, otherwise as spikes."""
        boxed = self.kind == "box" or any(part.kind == "box" for part in self.parts)
        return boxed or self.as_numbers

    @property
    def alone(self) -> Observation:
        """As it is found in the environment: without statistics, and without other tasks."""
        return replace(self, mean=(), deviation=(), frame=0, start=0, as_numbers=False)

    def with_statistics(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Observation:
        """The observation with the mean and the deviation of its numbers; flags have none."""
        measured = [self.kind == "box"] * (0 if self.parts else self.size)
        for part in self.parts:
            measured += [part.kind == "box"] * part.size
        means = (value if own else 0.0 for value, own in zip(mean, measured, strict=True))
        spreads = (value if own else 1.0 for value, own in zip(deviation, measured, strict=True))
        return replace(self, mean=tuple(means), deviation=tuple(spreads))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a frame: one channel, a row for each message."""
        return (1, self.frame or self.size, 1)


@dataclass(frozen=True)
class Wrapper:
    """A wrapper, by its name in :data:`WRAPPERS`, and its arguments."""

    # An unknown field of a recipe's table is an error.
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ActionBox:
    """Numbers that an environment takes at each decision.

    Attributes:
        low, high: bounds of each number; the tanh of an agent's value is stretched between them.
        deviation: of each value as the agent was trained, before the tanh; empty: not known.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    deviation: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Numbers of a decision."""
        return len(self.low)


@dataclass(frozen=True)
class Environment:
    """How an environment of Gymnasium is made and played.

    Attributes:
        id: gymnasium's name, ``CartPole-v1``; ``module:Name-v0`` imports a module of the user's
            own first, which needs trust.
        arguments: keyword arguments of its constructor, plain values.
        wrappers: around it, the innermost first.
        max_steps: decisions after which an episode is cut off; 0: the environment's own limit.
        reward_range: rewards are clipped to it where they are learned, never in a score.
        decisions_per_s: how often it is asked in real time; 0: its own control or picture rate.
        decision_delay: 1 where an action acts from the next decision on, as in a world that does
            not wait; what is pressed then stands at the end of each observation.
        entries: of a Dict or Tuple observation, those that are sent, in this order, by their
            names (:class:`Part`); empty: all, as the space has them.
        symbols: kinds of symbols along the last axis of an array of integers with three axes,
            which is sent one-hot; empty: MiniGrid's own there, and none elsewhere.
        observation: found in its observation space; None before it was looked at.
        actions: found likewise: how many there are, or numbers of a box.
        choices: found likewise, of a MultiDiscrete or MultiBinary action: the possible values of
            its numbers. An action stands for one combination, of which the last number changes
            fastest.
        box: found likewise; None where an action is one of a list.
        name: of the task in it; empty: that of its id. Tasks in one environment, with other
            arguments or wrappers, need names.
        masked: found likewise: it says with every observation which actions it allows, as
            ``action_mask`` of its information or by a method ``action_masks``.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    id: str
    arguments: dict[str, Any] = field(default_factory=dict)
    wrappers: tuple[Wrapper, ...] = ()
    max_steps: int = 0
    reward_range: tuple[float, float] | None = None
    decisions_per_s: float = 0.0
    decision_delay: int = 0
    entries: tuple[str, ...] = ()
    symbols: tuple[int, ...] = ()
    observation: Observation | None = None
    actions: int = 0
    choices: tuple[int, ...] = ()
    box: ActionBox | None = None
    masked: bool = False
    name: str = ""

    @property
    def module(self) -> str | None:
        """The user's own module that registers it, if it has one."""
        given = ENVIRONMENT_ID.fullmatch(self.id)
        return None if given is None else given["module"]

    @property
    def found(self) -> Observation:
        """The observation, of an environment that was looked at."""
        assert self.observation is not None
        return self.observation

    @property
    def shown_actions(self) -> int:
        """Values at the end of an observation that tell what is being pressed."""
        return self.actions if self.decision_delay else 0

    @property
    def task_name(self) -> str:
        """What a task in it is called; without a name its id without a module, ``/`` as ``-``."""
        return self.name or self.id.rpartition(":")[2].replace("/", "-")[:64]

    @property
    def key(self) -> str:
        """What the games of a recipe call it."""
        return self.name or self.id


class FieldProblem(NamedTuple):
    """What is wrong with an environment: `field` is `value`, not `wanted`."""

    field: str
    value: Any
    wanted: str


def is_environment(name: str) -> bool:
    """Whether a name has the form of gymnasium's, with a version at its end."""
    return len(name) <= LONGEST_ID and ENVIRONMENT_ID.fullmatch(name) is not None


def check_environment(environment: Environment, where: str) -> None:
    """Check what a recipe says of an environment.

    Raises:
        BadRequestError: a field out of its range.
    """
    wrong = first_wrong(environment)
    found = (
        *(environment.observation, environment.actions, environment.choices),
        *(environment.box, environment.masked),
    )
    if wrong is None and any(found):
        wrong = FieldProblem("observation", "given", "left out: it follows from the environment")
    for name in (name for name in environment.arguments if name in RESERVED):
        value = environment.arguments[name]
        wrong = wrong or FieldProblem(f"arguments.{name}", value, RESERVED[name])
    if wrong is not None:
        shown = one_line(repr(wrong.value), 80)
        raise BadRequestError(f"{where}.{wrong.field}: {shown}; must be {wrong.wanted}")


def first_wrong(environment: Environment) -> FieldProblem | None:
    """The first field that no environment can have."""
    if not is_environment(environment.id):
        return FieldProblem("id", environment.id, "a name of gymnasium's, such as CartPole-v1")
    if environment.name and NAME.fullmatch(environment.name) is None:
        return FieldProblem("name", environment.name, "1 to 64 letters, digits, _, . or -")
    settings = {
        "arguments": environment.arguments,
        "wrappers": [wrapper.arguments for wrapper in environment.wrappers],
    }
    for name, value in settings.items():
        if not _plain(value) or len(json.dumps(value)) > LONGEST_SETTINGS:
            return FieldProblem(name, value, PLAIN)
    unknown = [wrapper.name for wrapper in environment.wrappers if wrapper.name not in WRAPPERS]
    if unknown:
        return FieldProblem("wrappers", unknown[0], f"one of {', '.join(WRAPPERS)}")
    if not 0 <= environment.max_steps <= 10_000_000:
        return FieldProblem("max_steps", environment.max_steps, "0 to 10,000,000")
    if not 0 <= environment.decisions_per_s <= 10_000:
        return FieldProblem("decisions_per_s", environment.decisions_per_s, "0 to 10,000")
    unnamed = [name for name in environment.entries if not name.isprintable()]
    if unnamed or len(set(environment.entries)) < len(environment.entries):
        return FieldProblem("entries", list(environment.entries), "names, each once")
    if not all(1 <= kinds <= MOST_VALUES for kinds in (*environment.symbols, *environment.choices)):
        return FieldProblem("symbols", list(environment.symbols), f"1 to {MOST_VALUES:,} kinds")
    if environment.decision_delay not in (0, 1):
        return FieldProblem("decision_delay", environment.decision_delay, "0 or 1")
    bounds = environment.reward_range
    if bounds is not None and not -LARGEST_NUMBER <= bounds[0] < bounds[1] <= LARGEST_NUMBER:
        return FieldProblem("reward_range", list(bounds), "a lower and a higher number")
    return None


def _plain(value: Any, depth: int = 5) -> bool:
    """Whether a value is one of JSON's, neither deep nor infinite."""
    if isinstance(value, dict):
        names = all(isinstance(key, str) and key.isprintable() for key in value)
        return depth > 0 and names and all(_plain(part, depth - 1) for part in value.values())
    if isinstance(value, (list, tuple)):
        return depth > 0 and all(_plain(part, depth - 1) for part in value)
    if isinstance(value, (int, float)):
        return -LARGEST_NUMBER <= value <= LARGEST_NUMBER
    return value is None or (isinstance(value, str) and value.isprintable())
