"""The games while an agent learns: steps, lost lives, true returns, rewards as learned.

A copy of a game gets a seed, plays whole episodes from it, and then the next seed: what it plays is
a function of the seed and of the actions since. A checkpoint keeps both, and a resumed run plays
them again.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtspark.core.arrays import AnyArray, Booleans, Floats, Integers, Singles
from mtspark.core.environments import (
    EMULATOR_ACTIONS,
    ENDLESS,
    LARGEST_NUMBER,
    NOOP,
    SPREAD,
    Environment,
    GameProtocol,
    RunningStatistics,
    Task,
    WorldGames,
    box_of,
    make_games,
    masks_of,
    random_actions,
    resting_actions,
    seed_note,
    successes_of,
)
from mtspark.core.errors import BadRequestError, one_line
from mtspark.train.config import TrainConfig

RETURN_WINDOW = 30
"""A mean return is that of this many last episodes."""
SEED_LASTS = 1000
"""A copy gets its next seed at the first end of an episode after so many decisions.

For a seed ALE loads the game anew and fills a table of colours by 33 million comparisons, which
takes 70 ms, against 4 ms for a start without one. More decisions would make a resumed run play
longer until it goes on."""
MEASURED_COPIES, MEASURED_DECISIONS = 8, 64
"""Of random play, before the first decision of a run: the first statistics of what is seen."""
KNOWN_ROWS = 100_000
"""What an agent knows of its environment counts as that of so many decisions in a run that starts
from it."""


def episode_seed(run_seed: int, task: int, copy: int, number: int) -> int:
    """The seed from which a copy of a game plays an episode, or several.

    Args:
        run_seed: of the run.
        task: index of the game.
        copy: of this game.
        number: of the seed of this copy, from 1; a run draws the first ones.

    Returns:
        0 to 2**31 - 1: ALE takes 32 bits with a sign, and -1 for none.
    """
    seeds = np.random.SeedSequence([run_seed, task, copy, number])
    return int(seeds.generate_state(1)[0] >> 1)


def random_frames(task: Task, protocol: GameProtocol, seed: int, decisions: int = 64) -> Tensor:
    """Frames of four copies of a game under random play.

    Returns:
        uint8 or int8 (4 * decisions, stack, height, width).
    """
    generator = np.random.default_rng(seed)
    games = TaskGames(task, protocol, 4, 1, seed=seed)
    games.start(int(generator.integers(0, 2**30)) + np.arange(games.copies))
    frames = []
    for _ in range(decisions):
        frames.append(games.frames)
        games.send(games.random_actions(generator))
        games.receive(life_loss_is_terminal=False)
    return torch.cat(frames)


@dataclass(frozen=True)
class Step:
    """One decision of all copies of a game; arrays of length copies.

    Attributes:
        rewards: the game's own, unclipped.
        terminal: the learned return ends here.
        finished: as `terminal`, or the episode was truncated.
        valid: False for the step that only restarts a finished game.
    """

    rewards: Floats
    terminal: Booleans
    finished: Booleans
    valid: Booleans


class TaskGames:
    """Copies of one game that step together.

    A lost life never ends a game here, so that every return is a whole game's: with
    `protocol.life_loss_ends_episode`, a lost life is `terminal` and the game goes on.

    Args:
        task: the game.
        protocol: of its training.
        copies: that step together.
        threads: of the emulators.
        seed: of the run.
        index: of the task in the run.

    Attributes:
        task: the game.
        frames: uint8 or int8 (copies, stack, height, width), what the next decision sees.
        statistics: of the numbers that an environment shows; None where it shows none.
        returns: unclipped returns of the last finished games.
        successes: of the last finished games, whether their task was solved; empty where the
            environment does not say.
        episodes: finished games since the run began.
    """

    def __init__(
        self,
        task: Task,
        protocol: GameProtocol,
        copies: int,
        threads: int,
        *,
        seed: int,
        index: int = 0,
    ) -> None:
        self.task = task
        self.copies = copies
        self.returns: deque[float] = deque(maxlen=RETURN_WINDOW)
        self.successes: deque[bool] = deque(maxlen=RETURN_WINDOW)
        self.episodes = 0
        self._life_ends_episode = protocol.life_loss_ends_episode
        whole = replace(protocol, life_loss_ends_episode=False)
        self.frames: Tensor = torch.empty(0)
        self._seed, self._index = seed, index
        self.statistics = self._measured()
        self._seed_note = seed_note(self.task)
        self._games = make_games(self.task, whole, copies, num_threads=threads)
        # Played frame by frame, what follows an episode depends on the other copies.
        alone = protocol.mode is None and protocol.difficulty is None
        self._seed_lasts = SEED_LASTS if alone else 0
        self._begun = np.zeros(copies, dtype=np.int64)
        self._seeds = np.zeros(copies, dtype=np.int64)
        self._actions = [bytearray() for _ in range(copies)]
        self._resting = _resting(task, copies)
        self._sent: AnyArray = self._resting

    @property
    def allowed(self) -> Booleans | None:
        """(copies, legal actions) which of them an environment allows now; None where all."""
        return masks_of(self._games)

    def random_actions(self, generator: np.random.Generator) -> AnyArray:
        """Draw an action of every copy, of those that are allowed."""
        return random_actions(self.task, self.copies, generator, self.allowed)

    def _measured(self) -> RunningStatistics | None:
        """First statistics, of random play; the task takes them."""
        environment = self.task.environment
        if environment is None or not environment.found.graded:
            return None
        if environment.found.mean:
            return RunningStatistics.of(environment.found, KNOWN_ROWS)
        statistics = RunningStatistics(environment.found.size)
        self._take(statistics)
        generator = np.random.default_rng([self._seed, self._index])
        games = make_games(self.task, None, MEASURED_COPIES)
        assert isinstance(games, WorldGames)
        games.reset(seed=int(generator.integers(0, 2**30)))
        for _ in range(MEASURED_DECISIONS):
            statistics.add(games.values)
            actions = random_actions(self.task, MEASURED_COPIES, generator, masks_of(games))
            games.step(actions)
        games.close()
        self._take(statistics)
        return statistics

    def _take(self, statistics: RunningStatistics) -> None:
        """Send what is seen relative to these statistics.

        Raises:
            BadRequestError: no file could hold them.
        """
        assert self.task.environment is not None
        numbers = (*statistics.mean, *statistics.deviation)
        # A comparison with what is no number is false.
        far = [one for one in numbers if not abs(one) <= LARGEST_NUMBER]
        if far:
            raise BadRequestError(
                f"{self.task.game}: shows numbers of a mean or deviation of {far[0]:.3g}; at most "
                f"{LARGEST_NUMBER:g} can be kept; rescale them in the environment"
            )
        seen = self.task.environment.found
        seen = seen.with_statistics(statistics.mean, statistics.deviation)
        environment = replace(self.task.environment, observation=seen)
        self.task = replace(self.task, environment=environment)

    def take_statistics(self) -> None:
        """Send what is seen relative to the statistics as they are now."""
        if self.statistics is None:
            return
        self._take(self.statistics)
        assert isinstance(self._games, WorldGames)
        assert self.task.environment is not None
        self._games.observation = self.task.environment.found
        self.frames = torch.from_numpy(self._games.frames.copy())

    def start(self, seeds: Integers | None = None) -> None:
        """Start every copy afresh.

        Args:
            seeds: (copies,) of the episodes; None: the next of each copy.
        """
        everyone = np.ones(self.copies, dtype=bool)
        self._note_starts(everyone)
        if seeds is not None:
            self._seeds = seeds.copy()
        frames, info = self._games.reset(seed=self._seeds)
        self._was_done = ~everyone
        self._running_return = np.zeros(self.copies)
        self._see(frames, info)

    @property
    def values(self) -> Floats:
        """(copies, numbers) what an environment shows now, before it becomes messages."""
        assert isinstance(self._games, WorldGames)
        return self._games.values

    def send(self, actions: AnyArray) -> None:
        """Begin a step; other games may begin theirs before :meth:`receive`."""
        self._sent = actions
        self._games.send(actions)

    def receive(self, *, life_loss_is_terminal: bool) -> Step:
        """End the step that :meth:`send` began; `frames` are then the next ones."""
        frames, rewards, ended, cut, info = self._games.recv()
        rewards = np.asarray(rewards, dtype=np.float64)
        valid = ~self._was_done
        seeded = self._was_done & self._at_end_of_seed()
        # The games have started the others again by themselves, whatever their action.
        for copy in np.flatnonzero(~seeded):
            self._actions[copy] += self._recorded(self._sent[copy])
        if seeded.any():
            self._note_starts(seeded)
            frames, info = self._games.reset(
                seed=self._seeds[seeded], options={"reset_mask": seeded}
            )
        ended, cut = ended & valid, cut & valid
        if self.statistics is not None:
            assert isinstance(self._games, WorldGames)
            self.statistics.add(self._games.values)
        lost = (np.asarray(info["lives"], dtype=np.int64) < self._lives) & valid
        life_ends = life_loss_is_terminal or self._life_ends_episode
        terminal = (ended | lost) if life_ends else ended.copy()
        self._see(frames, info)
        self._running_return = np.where(valid, self._running_return + rewards, 0.0)
        self._was_done = ended | cut
        said = successes_of(self._games) if self._was_done.any() else ()
        for copy in np.flatnonzero(self._was_done):
            self.returns.append(float(self._running_return[copy]))
            self.episodes += 1
            if (success := said[copy]) is not None:
                self.successes.append(success)
        return Step(rewards, terminal, terminal | cut, valid)

    def _see(self, frames: Any, info: dict[str, Any]) -> None:
        self.frames = torch.from_numpy(frames.copy())
        self._lives = np.asarray(info["lives"], dtype=np.int64)

    def _at_end_of_seed(self) -> Booleans:
        """(copies,) whether the next episode gets a seed of its own."""
        lasts = self._seed_lasts * self._width
        return np.array([len(actions) >= lasts for actions in self._actions])

    def _recorded(self, action: Any) -> bytes:
        """A decision's action: a byte, or the float32 of its numbers."""
        return action.tobytes() if self._resting.ndim > 1 else bytes([action])

    @property
    def _width(self) -> int:
        """Bytes of a decision's action."""
        return self._resting[:1].nbytes if self._resting.ndim > 1 else 1

    def _read(self, recorded: NDArray[np.uint8]) -> AnyArray:
        """Actions of :meth:`_recorded`.

        Raises:
            ValueError: one that no game has.
        """
        box = box_of(self.task)
        if box is None:
            known = self.task.environment
            if recorded.max(initial=0) >= (EMULATOR_ACTIONS if known is None else known.actions):
                raise ValueError("an action that no game has")
            return recorded
        actions = np.frombuffer(recorded.tobytes(), np.float32).reshape(-1, box.size)
        # A comparison with what is no number is false.
        if not ((actions >= np.array(box.low)) & (actions <= np.array(box.high))).all():
            raise ValueError("an action that no game has")
        return actions

    def _note_starts(self, copies: Booleans) -> None:
        """Give these copies their next seeds."""
        for copy in np.flatnonzero(copies):
            self._seeds[copy] = episode_seed(
                self._seed, self._index, int(copy), int(self._begun[copy])
            )
            self._begun[copy] += 1
            self._actions[copy] = bytearray()

    def state(self) -> dict[str, Any]:
        """Seeds and the actions since, as tensors and plain values that :meth:`replay` takes."""
        played = b"".join(bytes(actions) for actions in self._actions)
        return {
            "begun": torch.from_numpy(self._begun.copy()),
            "seeds": torch.from_numpy(self._seeds.copy()),
            "lengths": torch.tensor([len(one) // self._width for one in self._actions]),
            "actions": torch.from_numpy(np.frombuffer(played, dtype=np.uint8).copy()),
            "checksum": self._checksum(),
        }

    def replay(self, state: dict[str, Any], on_step: Callable[[int], None]) -> bool:
        """Play what a state holds again, to the point where it was taken.

        All copies step together, so one with fewer actions starts later, that all arrive in the
        same step.

        Args:
            state: of :meth:`state`.
            on_step: called with the decisions of a copy that are done.

        Returns:
            Whether the games took the same course; if not, as with another version of ALE, every
            copy has started its next episode.

        Raises:
            ValueError: a state of another number of copies, or a damaged one.
        """
        begun, seeds, lengths = (state[name].numpy() for name in ("begun", "seeds", "lengths"))
        recorded, width = state["actions"].numpy(), self._width
        if not begun.shape == seeds.shape == lengths.shape == (self.copies,):
            raise ValueError(f"episodes of {len(seeds)} copies, {self.copies} play")
        if lengths.min() < 0 or lengths.sum() * width != len(recorded):
            raise ValueError(
                f"{len(recorded) // width} actions for episodes of {lengths.sum()} decisions"
            )
        if min(seeds.min(), begun.min()) < 0:
            raise ValueError("a seed or number of an episode that no game has")
        played = np.split(self._read(recorded), np.cumsum(lengths)[:-1])
        self._play_again(seeds, played, on_step)
        self._begun = begun.copy()
        self._actions = [bytearray(own.tobytes()) for own in played]
        if self._checksum() != state["checksum"]:
            self.start()
            return False
        return True

    def _play_again(
        self, seeds: Integers, played: list[AnyArray], on_step: Callable[[int], None]
    ) -> None:
        """Play these actions from these seeds."""
        lengths = np.array([len(actions) for actions in played])
        longest = int(lengths.max())
        starts = longest - lengths
        # Nothing until a copy starts: these steps are of no episode.
        schedule = np.tile(self._resting, (longest, *(1 for _ in self._resting.shape)))
        for copy, own in enumerate(played):
            schedule[starts[copy] :, copy] = own
        self.start(seeds)
        for step, actions in enumerate(schedule):
            if step:
                self._start_again(starts == step, seeds)
            running = starts <= step
            if self.allowed is not None:
                first = np.array(self.task.legal_actions)[self.allowed.argmax(1)]
                actions = np.where(running, actions, first)
            self._games.send(actions)
            frames, rewards, ended, cut, info = self._games.recv()
            valid = running & ~self._was_done
            self._was_done = (ended | cut) & valid
            rewards = np.asarray(rewards, dtype=np.float64)
            self._running_return = np.where(valid, self._running_return + rewards, 0.0)
            self._see(frames, info)
            on_step(step + 1)
        if longest:
            self._start_again(starts == longest, seeds)

    def _start_again(self, copies: Booleans, seeds: Integers) -> None:
        if copies.any():
            self._see(*self._games.reset(seed=seeds[copies], options={"reset_mask": copies}))

    def _checksum(self) -> int:
        """Of everything that a replay must bring back."""
        parts = self.frames.numpy(), self._lives, self._was_done, self._running_return
        return zlib.crc32(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of what the game shows, a line each."""
        found = [] if self._seed_note is None else [self._seed_note]
        played = max(map(len, self._actions), default=0) // self._width
        if not self.episodes and played >= ENDLESS:
            found.append(
                f"{self.task.name}: no episode ended in {played:,} decisions, so it has no return; "
                "if it never ends by itself, set [environment] max_steps"
            )
        unseen = () if self.statistics is None else self.statistics.unseen
        if not unseen:
            return tuple(found)
        places = one_line(", ".join(map(str, unseen)), 60)
        return (
            *found,
            f"{self.task.name}: of the numbers that it shows, those at {places} (from 0) have "
            f"deviations below {SPREAD:g} and are sent as constants; rescale them in the "
            "environment, or the agent does not see them",
        )

    def mean_return(self) -> float | None:
        """Mean unclipped return of the last episodes, None before the first."""
        return round(float(np.mean(self.returns)), 2) if self.returns else None

    def success_rate(self) -> float | None:
        """Share of the last episodes whose task was solved; None where nobody said."""
        return round(float(np.mean(self.successes)), 4) if self.successes else None


def _resting(task: Task, copies: int) -> AnyArray:
    """(copies,) NOOP, or what a world starts with."""
    if task.environment is None:
        return np.full(copies, NOOP, dtype=np.int64)
    return resting_actions(task.environment, copies)


def as_learned(
    config: TrainConfig, task: int, environment: Environment | None, rewards: Floats
) -> Singles:
    """(rewards,) of a task as they are learned: their sign, or clipped and scaled.

    Args:
        config: of the run.
        task: its index.
        environment: of the task; None of an ALE game.
        rewards: (rewards,) the game's own.
    """
    if config.clipped[task]:
        return np.sign(rewards).astype(np.float32)
    bounds = None if environment is None else environment.reward_range
    given = rewards if bounds is None else np.clip(rewards, *bounds)
    scales = config.reward_scales
    return (given * (scales[task] if scales else 1.0)).astype(np.float32)


class Games:
    """The games of all tasks of a run, in the order of its tasks."""

    def __init__(self, config: TrainConfig, tasks: tuple[Task, ...]) -> None:
        self.config = config
        self.of_tasks = [
            TaskGames(
                task,
                config.training_protocol,
                copies,
                config.threads,
                seed=config.seed,
                index=index,
            )
            for index, (task, copies) in enumerate(zip(tasks, config.copies, strict=True))
        ]

    def __iter__(self) -> Iterator[TaskGames]:
        return iter(self.of_tasks)

    def __getitem__(self, task: int) -> TaskGames:
        return self.of_tasks[task]

    @property
    def episodes(self) -> int:
        """Finished episodes of all games."""
        return sum(game.episodes for game in self.of_tasks)

    def mean_returns(self) -> dict[str, float | None]:
        """Mean unclipped return of each game's last episodes, None before the first."""
        return {game.task.name: game.mean_return() for game in self.of_tasks}

    def success_rates(self) -> dict[str, float]:
        """Success rate of each game that says, once an episode is over."""
        rates = {game.task.name: game.success_rate() for game in self.of_tasks}
        return {name: rate for name, rate in rates.items() if rate is not None}

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, with the statistics that are in use."""
        return tuple(game.task for game in self.of_tasks)

    def take_statistics(self) -> None:
        """Use the statistics of everything that was seen, until the next call."""
        for game in self.of_tasks:
            game.take_statistics()

    def restart(self, generator: np.random.Generator) -> None:
        """Start every copy of every game afresh, from seeds of a generator."""
        firsts = generator.integers(0, 2**30, size=len(self.of_tasks))
        for game, first in zip(self.of_tasks, firsts, strict=True):
            game.start(int(first) + np.arange(game.copies))

    def frames(self, active: tuple[int, ...]) -> Tensor:
        """uint8 (copies, stack, height, width) of all copies of the active tasks."""
        return torch.cat([self.of_tasks[index].frames for index in active])

    def task_of_copy(self, active: tuple[int, ...]) -> Tensor:
        """(copies,) task index of every copy of the active tasks."""
        copies = torch.tensor([self.of_tasks[index].copies for index in active])
        return torch.tensor(active).repeat_interleave(copies)

    def allowed(self, active: tuple[int, ...]) -> Tensor | None:
        """(copies, outputs) which actions of the active tasks are allowed now; None: all legal."""
        masks = [self.of_tasks[index].allowed for index in active]
        if all(mask is None for mask in masks):
            return None
        parts = []
        for index, mask in zip(active, masks, strict=True):
            game = self.of_tasks[index]
            legal = list(game.task.legal_actions)
            part = torch.zeros(game.copies, self.config.network.actions, dtype=torch.bool)
            part[:, legal] = True if mask is None else torch.from_numpy(mask)
            parts.append(part)
        return torch.cat(parts)

    def step(self, active: tuple[int, ...], actions: AnyArray) -> tuple[Step, ...]:
        """Play one decision of every copy of the active tasks, which step at the same time.

        Args:
            active: task indices.
            actions: (copies,), or (copies, numbers), of which a task takes its first ones.

        Returns:
            A step of each active task.
        """
        playing = [self.of_tasks[index] for index in active]
        borders = np.cumsum([game.copies for game in playing])[:-1]
        for game, part in zip(playing, np.split(actions, borders), strict=True):
            box = box_of(game.task)
            game.send(part if box is None else part[:, : box.size])
        return tuple(
            game.receive(life_loss_is_terminal=self.config.life_loss_is_terminal)
            for game in playing
        )

    def learned_rewards(self, active: tuple[int, ...], steps: tuple[Step, ...]) -> Singles:
        """(copies,) rewards of a decision as they are learned: their sign, or scaled."""
        environments = [self.of_tasks[task].task.environment for task in active]
        return np.concatenate(
            [
                as_learned(self.config, task, environment, step.rewards)
                for task, environment, step in zip(active, environments, steps, strict=True)
            ]
        )

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that :meth:`restore` and :meth:`replay` take."""
        solved = [list(game.successes) for game in self.of_tasks]
        return {
            "episodes": [game.episodes for game in self.of_tasks],
            "returns": [list(game.returns) for game in self.of_tasks],
            **({"successes": solved} if any(solved) else {}),
            "running": [game.state() for game in self.of_tasks],
            **({"statistics": measured} if (measured := self._statistics()) else {}),
        }

    def _statistics(self) -> list[dict[str, Any]]:
        known = (game.statistics for game in self.of_tasks)
        return [statistics.state() for statistics in known if statistics is not None]

    def restore(self, state: dict[str, Any]) -> None:
        """Take the counts of :meth:`state` back."""
        for game, episodes, returns in zip(
            self.of_tasks, state["episodes"], state["returns"], strict=True
        ):
            game.episodes = episodes
            game.returns.clear()
            game.returns.extend(returns)
        for game, solved in zip(self.of_tasks, state.get("successes", ()), strict=False):
            game.successes.clear()
            game.successes.extend(solved)
        measured = [game for game in self.of_tasks if game.statistics is not None]
        for game, saved in zip(measured, state.get("statistics", []), strict=True):
            assert game.statistics is not None
            game.statistics.restore(saved)
            game.take_statistics()

    def replay(
        self, state: dict[str, Any], on_decision: Callable[[int, int], None]
    ) -> tuple[str, ...]:
        """Play the running episodes of :meth:`state` again.

        Args:
            state: of the games.
            on_decision: called with the decisions that are done and those to do.

        Returns:
            Names of the games that took another course and started afresh; normally none.
        """
        costs = [
            game.copies * int(saved["lengths"].max())
            for game, saved in zip(self.of_tasks, state["running"], strict=True)
        ]
        others = []
        for index, (game, saved) in enumerate(zip(self.of_tasks, state["running"], strict=True)):
            before = sum(costs[:index])

            def on_step(step: int, before: int = before, copies: int = game.copies) -> None:
                on_decision(before + step * copies, sum(costs))

            if not game.replay(saved, on_step):
                others.append(game.task.name)
        return tuple(others)
