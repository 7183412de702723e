"""Environments of Gymnasium, made of their description: one, or copies that step together.

Both show frames of messages, and an episode of either is a function of its seed and the actions.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Booleans, Floats
from mtspark.core.environments.actions import resting_actions, shown_actions
from mtspark.core.environments.environment import (
    MOST_VALUES,
    OWN_WRAPPERS,
    Environment,
    Observation,
    Part,
    check_environment,
)
from mtspark.core.environments.messages import as_messages
from mtspark.core.environments.protocol import Task
from mtspark.core.environments.spaces import (
    MINIGRID_SYMBOLS,
    actions_of,
    check_widths,
    observation_of,
)
from mtspark.core.errors import BackendFailedError, BackendMissingError, BadRequestError, one_line

if TYPE_CHECKING:
    import gymnasium

    from mtspark.core.environments.flat import FlatWorld

TRIED_SEED, TRIED_DECISIONS = 7, 4
"""From which, and how long, an environment is played to see whether it repeats itself."""
USUAL_RATE = 30.0
"""Decisions a second of an environment that states no rate."""
FASTEST_RATE = 10_000.0
EXTRAS = {
    **{"box2d": "box2d", "swig": "box2d", "pygame": "classic"},
    **{"mujoco": "mujoco", "imageio": "mujoco"},
}
"""What brings a package that an environment needs: mtspark[EXTRA]."""
PACKAGES = {"MiniGrid-": "minigrid", "BabyAI-": "minigrid", "Meta-World/": "metaworld"}
"""Packages, and extras of the same name, that register the environments whose names begin so."""


def world_task(environment: Environment) -> Task:
    """Look at an environment and describe the task in it; a box has no statistics yet.

    Raises:
        BadRequestError: there is no such environment, it cannot be made with these arguments, or
            an agent cannot see or act in it.
        BackendMissingError: a package that it needs is missing.
    """
    check_environment(environment, environment.id)
    wanted = environment.symbols
    with _opened(environment) as made:
        if _is_minigrid(made) and not environment.symbols:
            environment = replace(environment, symbols=MINIGRID_SYMBOLS)
        seen = observation_of(made.observation_space, environment)
        check_widths(made.observation_space, environment)
        actions, choices, box = actions_of(made.action_space, environment.id)
        masked = _gives_masks(environment, made) and box is None
        rate = environment.decisions_per_s or _picture_rate(made)
    if wanted and all(part.choices != wanted for part in seen.parts):
        raise BadRequestError(
            f"{environment.id}.symbols: {list(wanted)}; it shows no array of integers with three "
            f"axes, of which the last has {len(wanted)}; leave symbols out"
        )
    found = replace(
        environment,
        observation=seen,
        actions=actions,
        choices=choices,
        box=box,
        masked=masked,
        decisions_per_s=rate,
    )
    if masked and environment.decision_delay:
        raise BadRequestError(
            f"{environment.id}: allows some of its actions at a time, and with decision_delay 1 "
            "they would act a decision later; set decision_delay = 0"
        )
    found = replace(found, observation=_with_pressed(found))
    return Task(environment.task_name, environment.id, tuple(range(actions)), found)


def side_by_side(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    """Give tasks that see different things places of their own in one frame, as they come.

    Tasks that see the same share their messages, as games of ALE do.

    Raises:
        BadRequestError: together they show more than a frame can hold.
    """
    found = [task.environment.found for task in tasks if task.environment is not None]
    if len(found) < len(tasks) or len({(seen.shape, seen.graded) for seen in found}) == 1:
        return tasks
    frame, graded = sum(seen.size for seen in found), any(seen.graded for seen in found)
    if frame > MOST_VALUES:
        pairs = zip(tasks, found, strict=True)
        sizes = ", ".join(f"{task.name} {seen.size}" for task, seen in pairs)
        raise BadRequestError(
            f"tasks that see different things show {frame:,} values together ({sizes}); "
            f"{MOST_VALUES:,} is the limit"
        )
    placed, start = [], 0
    for task, seen in zip(tasks, found, strict=True):
        numbers = graded and not seen.graded
        own = replace(seen, frame=frame, start=start, as_numbers=numbers)
        assert task.environment is not None
        placed.append(replace(task, environment=replace(task.environment, observation=own)))
        start += seen.size
    return tuple(placed)


def _is_minigrid(made: gymnasium.Env[Any, Any]) -> bool:
    """Whether an environment is MiniGrid's, without importing it."""
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(made.unwrapped).__mro__}
    return "minigrid.minigrid_env.MiniGridEnv" in names


def _picture_rate(made: gymnasium.Env[Any, Any]) -> float:
    """Pictures a second that an environment states, MuJoCo's control rate, or the usual one."""
    return _stated_rate(made) or USUAL_RATE


def _stated_rate(made: gymnasium.Env[Any, Any]) -> float | None:
    """The rate that an environment states; None where it states none that can be."""
    stated = (made.metadata or {}).get("render_fps")
    if not isinstance(stated, (int, float, np.number)):
        return None
    return float(stated) if 0 < stated <= FASTEST_RATE else None


@contextmanager
def _opened(environment: Environment) -> Iterator[gymnasium.Env[Any, Any]]:
    """Make an environment and release it.

    Raises:
        BadRequestError: it cannot be made or released; or what was raised inside, which a failing
            release does not hide.
    """
    made = make_environment(environment)
    try:
        yield made
    except BaseException:
        with suppress(BadRequestError):
            _close(environment, made)
        raise
    _close(environment, made)


def _close(environment: Environment, made: gymnasium.Env[Any, Any]) -> None:
    """Release an environment.

    Raises:
        BadRequestError: it fails.
    """
    try:
        made.close()
    except Exception as error:
        # It is code of others, see make_environment.
        raise BadRequestError(
            f"{environment.id}: cannot be closed: {one_line(error, 200)}"
        ) from error


def _gives_masks(environment: Environment, made: gymnasium.Env[Any, Any]) -> bool:
    """Whether an environment says which actions it allows; its first information shows it.

    Raises:
        BadRequestError: it cannot be reset.
    """
    from mtspark.core.environments.flat import gives_masks

    try:
        _, info = made.reset(seed=0)
        return gives_masks(made, info)
    except Exception as error:
        raise BadRequestError(
            f"{environment.id}: cannot be reset: {one_line(error, 200)}"
        ) from error


def _with_pressed(environment: Environment) -> Observation:
    """The observation with what is being pressed at its end, where there is a decision delay.

    Raises:
        BadRequestError: it is too long.
    """
    seen, more = environment.found, environment.shown_actions
    if not more:
        return seen
    if seen.size + more > MOST_VALUES:
        raise BadRequestError(
            f"{environment.id}: decision_delay 1 shows {seen.size + more:,} values, "
            f"{MOST_VALUES:,} is the limit; set decision_delay = 0"
        )
    if seen.kind == "box":
        return replace(seen, size=seen.size + more)
    pressed = Part("pressed", "discrete" if environment.box is None else "box", more)
    parts = seen.parts
    if seen.kind != "parts":
        parts = (Part("", seen.kind, seen.size),)
    return Observation("parts", seen.size + more, parts=(*parts, pressed))


def make_environment(environment: Environment, *, render: bool = False) -> gymnasium.Env[Any, Any]:
    """Make one environment with its wrappers.

    Args:
        environment: its description.
        render: it will be asked for pictures.

    Raises:
        BadRequestError, BackendMissingError: see :func:`world_task`.
    """
    import gymnasium

    from mtspark.core.environments import wrappers

    _import_module(environment)
    if render and sys.platform == "linux" and not os.environ.get("DISPLAY"):
        # MuJoCo draws without a display by EGL only, and pygame by its dummy driver.
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    options: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
    if environment.max_steps:
        options["max_episode_steps"] = environment.max_steps
    try:
        made = gymnasium.make(
            environment.id.rpartition(":")[2],
            **options,
            **environment.arguments,
        )
        for wrapper in environment.wrappers:
            owner = wrappers if wrapper.name in OWN_WRAPPERS else gymnasium.wrappers
            made = getattr(owner, wrapper.name)(made, **wrapper.arguments)
    except Exception as error:
        # An environment is code of others: whatever it raises, it could not be made.
        raise _not_made(environment, error) from error
    return made


def _import_module(environment: Environment) -> None:
    """Import what registers an environment: a package that is known, or the user's own.

    Raises:
        BadRequestError: it is not trusted, or cannot be imported.
    """
    from mtspark.core.files import current_policy

    module = environment.module
    if module is None:
        package = _package_of(environment.id)
        if package is not None and find_spec(package) is not None:
            os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
            importlib.import_module(package)
            if package == "metaworld":
                from mtspark.core.environments.metaworld import register_tasks

                register_tasks()
        return
    if _is_registered_by(module, environment):
        return
    if not current_policy().trust:
        raise BadRequestError(
            f"{environment.id}: is code of the module {module}; add --trust if you know it, or "
            "import it before, in Python"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        # As `python -m` has it, but for what is installed, which stays first.
        sys.path.append(here)
    try:
        importlib.import_module(module)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        remedy = "; install it, or work in the folder that holds it" if missing else ""
        raise BadRequestError(
            f"{environment.id}: module {module} cannot be imported: {one_line(error, 200)}{remedy}"
        ) from error


def _is_registered_by(module: str, environment: Environment) -> bool:
    """Whether a module that was imported by somebody else has registered an environment here."""
    import gymnasium

    spec = gymnasium.registry.get(environment.id.rpartition(":")[2])
    if spec is None or module not in sys.modules:
        return False
    entry = spec.entry_point
    owner = entry if isinstance(entry, str) else getattr(entry, "__module__", None)
    return f"{owner}".replace(":", ".").startswith(f"{module}.") or owner == module


def _not_made(environment: Environment, error: Exception) -> Exception:
    import gymnasium

    name, reason = environment.id, one_line(error, 200)
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None or isinstance(error, gymnasium.error.DependencyNotInstalled):
        words = f"{missing or ''} {error}".lower()
        extra = next((EXTRAS[word] for word in EXTRAS if word in words), None)
        remedy = f'; pip install "mtspark[{extra}]"' if extra else ""
        return BackendMissingError(f"{name}: a package is missing ({reason}){remedy}")
    if isinstance(error, gymnasium.error.UnregisteredEnv):
        package = _package_of(name)
        if package is not None and find_spec(package) is None:
            return BackendMissingError(f"{name}: {_missing_package(package)}")
        return BadRequestError(f"unknown environment {name!r}: {reason}")
    return BadRequestError(f"{name}: cannot be made: {reason}")


def _package_of(name: str) -> str | None:
    return next((PACKAGES[start] for start in PACKAGES if name.startswith(start)), None)


def _missing_package(package: str) -> str:
    if package == "minigrid" and sys.version_info < (3, 11):
        return "minigrid has no release for Python 3.10; use Python 3.11 or later"
    return f'a package is missing ({package}); pip install "mtspark[{package}]"'


class WorldGames:
    """Copies of an environment that step together, as :class:`mtspark.core.environments.Games`.

    Args:
        environment: that was looked at.
        count: copies.

    Attributes:
        observation: as which observations are sent; training exchanges its statistics.
        values: (copies, size), what the environments showed last, before it became messages.
    """

    def __init__(self, environment: Environment, count: int) -> None:
        from gymnasium.vector import AutoresetMode, SyncVectorEnv

        self.num_envs = count
        self.observation: Observation = environment.found
        self._games = SyncVectorEnv(
            [lambda: _flat(environment)] * count,
            copy=False,
            autoreset_mode=AutoresetMode.NEXT_STEP,
        )
        self._copies = cast("list[FlatWorld]", self._games.envs)
        self._masked = environment.masked
        self._environment = environment
        self._lives = np.zeros(count, dtype=np.int64)
        # What acts next; with a decision delay, it was chosen a decision ago.
        self._pressed = self._acting = resting_actions(environment, count)
        self._was_done = np.zeros(count, dtype=bool)
        self.values: Floats = np.zeros((count, self.observation.size))

    @property
    def masks(self) -> Booleans | None:
        """(copies, actions) which actions the environments allow now; None where all."""
        if not self._masked:
            return None
        return np.array([copy.mask for copy in self._copies], dtype=bool)

    @property
    def successes(self) -> tuple[bool | None, ...]:
        """Of each copy's episode, see :attr:`mtspark.core.environments.flat.FlatWorld.success`."""
        return tuple(copy.success for copy in self._copies)

    @property
    def frames(self) -> NDArray[Any]:
        """(copies, 1, size, 1) messages of what the environments showed last."""
        return as_messages(self.values, self.observation)

    def reset(
        self, *, seed: Any, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start copies afresh, with `reset_mask` in `options` only some."""
        everyone = np.ones(self.num_envs, dtype=bool)
        starting = (options or {}).get("reset_mask", everyone)
        given = np.asarray(seed, dtype=np.int64)
        if given.ndim == 0:
            given = given + np.arange(int(np.sum(starting)))
        seeds: list[int | None] = [None] * self.num_envs
        for copy, one in zip(np.flatnonzero(starting), given.tolist(), strict=True):
            seeds[copy] = one
        shown, _ = self._games.reset(seed=seeds, options={"reset_mask": np.array(starting)})
        self._was_done[starting] = False
        self._rest(starting)
        self._see(shown)
        return self.frames, {"lives": self._lives}

    def send(self, actions: Any) -> None:
        """Begin a step."""
        given = np.array(actions, dtype=self._pressed.dtype)
        delayed = self._environment.decision_delay
        self._acting, self._pressed = (self._pressed if delayed else given), given

    def recv(self) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """End the step: frames, rewards, terminated, truncated, information."""
        shown, rewards, ended, cut, _ = self._games.step(self._acting)
        self._rest(self._was_done)
        self._was_done = np.asarray(ended | cut)
        self._see(shown)
        return self.frames, rewards, ended, cut, {"lives": self._lives}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Send and receive."""
        self.send(actions)
        return self.recv()

    def close(self) -> None:
        """Release the environments."""
        self._games.close()

    def _rest(self, copies: Booleans) -> None:
        """Press nothing that was chosen in an episode before."""
        self._pressed = self._pressed.copy()
        self._pressed[copies] = resting_actions(self._environment, self.num_envs)[copies]

    def _see(self, shown: Any) -> None:
        self.values = np.array(shown)
        if self._environment.decision_delay:
            pressed = shown_actions(self._pressed, self._environment)
            self.values = np.concatenate([self.values, pressed], axis=1)


def seed_note(task: Task) -> str | None:
    """What a user should know of an environment that does not play the same from the same seed.

    Args:
        task: with statistics where it shows numbers.

    Returns:
        One line; None of a game of ALE, and where two short tries were the same.
    """
    if task.environment is None or _repeats(task.environment):
        return None
    return (
        f"{task.name}: played another course from the same seed, so no score of it can be "
        "repeated, and float network and chip never play the same game; let its reset call "
        "super().reset(seed=seed), and draw with self.np_random alone"
    )


def rate_note(environment: Environment) -> str | None:
    """Say that nobody told how often an environment asks for a decision.

    Args:
        environment: as a recipe describes it, before it was looked at.

    Returns:
        One line; None where a rate is asked for or stated.
    """
    if environment.decisions_per_s:
        return None
    with _opened(environment) as made:
        if _stated_rate(made) is not None:
            return None
    return (
        f"{environment.task_name}: states no render_fps in its metadata, so it counts as a world "
        f"of {USUAL_RATE:g} decisions a second, which says how long a chip may take and rests; if "
        "it has another rate, train with decisions_per_s under [[environments]]"
    )


def _repeats(environment: Environment) -> bool:
    world = World(environment)
    try:
        first, second = (_tried(world) for _ in range(2))
    finally:
        world.close()
    return first == second


def _tried(world: World) -> list[bytes]:
    """What an environment shows and gives in a few decisions, from one seed."""
    world.reset(TRIED_SEED)
    seen = [world.shown.tobytes()]
    for _ in range(TRIED_DECISIONS):
        mask = world.mask
        action = world.resting if mask is None else int(mask.argmax())
        reward, over = world.act(action)
        seen += [world.shown.tobytes(), np.float64(reward).tobytes()]
        if over:
            break
    return seen


def successes_of(games: Any) -> tuple[bool | None, ...]:
    """Whether each copy's episode, running or just ended, has succeeded; None: it does not say."""
    if isinstance(games, WorldGames):
        return games.successes
    return (None,) * int(games.num_envs)


def shown_by(games: Any) -> Floats:
    """(copies, size) numbers that the environments show now, before they become messages."""
    assert isinstance(games, WorldGames)
    return games.values


def masks_of(games: Any) -> Booleans | None:
    """(copies, actions) which actions the environments allow now; None where all, as ALE's do."""
    return games.masks if isinstance(games, WorldGames) else None


class World:
    """One environment, decision by decision, as :class:`mtspark.core.environments.FrameGame`.

    Args:
        environment: that was looked at.
        render: it will be asked for pictures.
    """

    def __init__(self, environment: Environment, *, render: bool = False) -> None:
        self.environment = environment
        self._made = _flat(environment, render=render)
        self._shown: Floats = np.zeros(environment.found.size)
        self.truncated = False

    def reset(self, seed: int) -> None:
        """Start the episode of a seed: the same as that of the agent loop."""
        self._shown, _ = self._made.reset(seed=seed)
        self.truncated = False

    @property
    def shown(self) -> Floats:
        """(numbers,) what it shows now, before it becomes messages."""
        return self._shown

    @property
    def resting(self) -> Any:
        """What is pressed before the first decision has acted."""
        return resting_actions(self.environment, 1)[0]

    def act(self, action: Any) -> tuple[float, bool]:
        """Let one decision pass while an action is pressed.

        Returns:
            Reward, and whether the episode ended with it.
        """
        self._shown, reward, ended, cut, _ = self._made.step(action)
        self.truncated = bool(cut and not ended)
        return float(reward), bool(ended or cut)

    def observe(self, pressed: Any = None) -> NDArray[Any]:
        """What the agent sees now, (1, size, 1) messages.

        Args:
            pressed: action that is being pressed, which an agent with a decision delay sees; None:
                the one before the first decision.
        """
        values = self._shown[None]
        if self.environment.decision_delay:
            given = self.resting if pressed is None else pressed
            shown = shown_actions(np.asarray(given)[None], self.environment)
            values = np.concatenate([values, shown], axis=1)
        return np.asarray(as_messages(values, self.environment.found)[0])

    @property
    def mask(self) -> Booleans | None:
        """(actions,) which actions the environment allows now; None where all."""
        return self._made.mask

    @property
    def success(self) -> bool | None:
        """Whether the episode has succeeded; None: the environment does not say."""
        return self._made.success

    def picture(self) -> NDArray[np.uint8]:
        """What people are shown now, uint8 (height, width, 3), by the environment's own renderer.

        Raises:
            BackendFailedError: it draws none.
        """
        try:
            drawn = self._made.render()
        except Exception as error:
            raise BackendFailedError(
                f"{self.environment.id}: draws no picture: {one_line(error, 200)}"
            ) from error
        picture = np.asarray(drawn)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise BackendFailedError(f"{self.environment.id}: draws no picture of colours")
        return picture

    def close(self) -> None:
        """Release the environment."""
        self._made.close()


def _flat(environment: Environment, *, render: bool = False) -> FlatWorld:
    """Make an environment as an agent meets it.

    Raises:
        BadRequestError: it is another one here than where its agent comes from.
    """
    from mtspark.core.environments.flat import FlatWorld

    made = make_environment(environment, render=render)
    try:
        seen, known = observation_of(made.observation_space, environment), environment.found
        seen = _with_pressed(replace(environment, observation=seen))
        actions, _, box = actions_of(made.action_space, environment.id)
        same = seen == known.alone
        if not same or actions != environment.actions:
            parts = "" if seen.size != known.size else f" of {seen.kind} {_kinds(seen)}"
            raise BadRequestError(
                f"{environment.id}: shows {seen.size} values{parts} and takes {actions} actions "
                f"here, its agent was trained with {known.size}"
                f"{parts and f' of {known.kind} {_kinds(known)}'} and {environment.actions}"
            )
        if box != (None if environment.box is None else replace(environment.box, deviation=())):
            raise BadRequestError(
                f"{environment.id}: takes other actions here than its agent was trained with; "
                "other bounds, or numbers instead of a list"
            )
        return FlatWorld(made, environment)
    except BadRequestError:
        made.close()
        raise


def _kinds(seen: Observation) -> str:
    return one_line("(" + ", ".join(f"{part.name} {part.size}" for part in seen.parts) + ")", 120)
