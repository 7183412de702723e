"""A game that passes one emulator frame at a time, seen as the agent loop sees it.

ALE's vector environment repeats an action over a whole frame skip, and plays a game at its default
mode and difficulty only. So the emulator is driven here frame by frame, and this module skips,
takes maxima, shrinks and stacks, equal to the vector environment to the last pixel (a test
compares). How an episode starts, the vector environment itself is asked.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Pixels, Singles
from mtspark.core.environments.delay import NOOP, STRIP_ROWS, action_strips
from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.core.environments.told import TOLD_ROWS, told_strip
from mtspark.core.environments.vector import rom_path, vector_games
from mtspark.core.errors import BackendFailedError, BadRequestError

FIRE = 1
"""Of ALE's 18 actions, as NOOP is."""
SEEDS = 2**30
"""Games can be seeded with 0 to one less."""


class FrameGame:
    """One game, frame by frame.

    Args:
        task: which game.
        protocol: how it is played; a lost life never ends an episode here.

    Raises:
        BadRequestError: ALE has no such game, mode or difficulty, or its picture would have to be
            enlarged.
    """

    def __init__(self, task: Task, protocol: GameProtocol) -> None:
        import ale_py

        self._rom = rom_path(task.game)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._emulator = ale_py.ALEInterface()
        self._emulator.loadROM(self._rom)
        self._check_variant(task.game, protocol)
        self._actions = self._emulator.getLegalActionSet()
        size = self._emulator.getScreenDims()
        if protocol.screen_size > min(size):
            raise BadRequestError(
                f"frames of {protocol.screen_size} pixels: {task.game} has {size[0]} x {size[1]}, "
                "and hardware in the loop only shrinks pictures; use an agent with smaller frames"
            )
        self.protocol = protocol
        self._resize = AreaResize(size, protocol.screen_size)
        # Where the agent sees what it presses, the start of an episode is compared without it.
        waiting = replace(protocol, life_loss_ends_episode=False, decision_delay=0)
        self._starts = vector_games(task, waiting, 1)
        self._strips = action_strips(protocol.screen_size) if protocol.decision_delay else None
        self._told = None if task.told is None else told_strip(task.told, protocol.screen_size)
        # Within a skip of one frame there is no second frame to take a maximum with.
        self._pooled = 2 if protocol.max_pool and protocol.frame_skip > 1 else 1
        self._stack: deque[Pixels] = deque(maxlen=protocol.frame_stack)
        self._screens: deque[Pixels] = deque(maxlen=self._pooled)
        self._frames = 0
        self.truncated = False

    def _check_variant(self, game: str, protocol: GameProtocol) -> None:
        for name, value, known in (
            ("mode", protocol.mode, self._emulator.getAvailableModes()),
            ("difficulty", protocol.difficulty, self._emulator.getAvailableDifficulties()),
        ):
            if value is not None and value not in known:
                numbers = ", ".join(map(str, known))
                raise BadRequestError(f"protocol.{name} {value}: {game} has {numbers}")

    def reset(self, seed: int) -> None:
        """Start the episode of a seed: the same start as that of the agent loop."""
        seen, info = self._starts.reset(seed=seed)
        emulator, protocol = self._emulator, self.protocol
        # The vector environment reloads the game, too, whenever it is given a seed.
        emulator.setInt("random_seed", seed)
        emulator.setFloat("repeat_action_probability", protocol.sticky_action_probability)
        emulator.loadROM(self._rom)
        if protocol.mode is not None:
            emulator.setMode(protocol.mode)
        if protocol.difficulty is not None:
            emulator.setDifficulty(protocol.difficulty)
        emulator.reset_game()
        idle = int(info["episode_frame_number"][0])
        if protocol.fire_on_reset:
            emulator.act(self._actions[FIRE])
            idle -= 1
        for _ in range(idle):
            emulator.act(self._actions[NOOP])
        self._frames, self.truncated = 0, False
        blank = np.zeros((protocol.screen_size,) * 2, np.uint8)
        self._stack.extend([blank] * protocol.frame_stack)
        self._screens.clear()
        self._screens.append(emulator.getScreenGrayscale())
        # What another mode shows, the vector environment cannot know.
        usual = protocol.mode is None and protocol.difficulty is None
        if usual and not np.array_equal(self._resize(self._screens[0]), seen[0, -1]):
            raise BackendFailedError(
                f"seed {seed}: this version of ale-py starts games in another way than "
                "mtspark knows; install the one of constraints.txt"
            )

    def act(self, action: int) -> tuple[float, bool]:
        """Let one frame pass with an action (an index of ALE's 18) held.

        Returns:
            Reward, and whether the episode ended with this frame. After the end only
            :meth:`reset` may follow.
        """
        reward = float(self._emulator.act(self._actions[action]))
        self._frames += 1
        skip = self.protocol.frame_skip
        if (self._frames - 1) % skip >= skip - self._pooled:
            self._screens.append(self._emulator.getScreenGrayscale())
        cut, over = self._frames >= self.protocol.max_frames_per_episode, self._emulator.game_over()
        self.truncated = cut and not over
        return reward, bool(cut or over)

    @property
    def lives(self) -> int:
        """Lives that are left."""
        return int(self._emulator.lives())

    def observe(self, pressed: int = NOOP) -> Pixels:
        """What the agent sees now, uint8 (stack, height, width), oldest first.

        Call it once at the start and then after each frame skip: every call adds to the stack.

        Args:
            pressed: the action that acts from this frame on; drawn into the frame where the
                protocol has a decision delay (:mod:`mtspark.core.environments.delay`).
        """
        screen = np.maximum.reduce(list(self._screens))
        frame = self._resize(screen)
        if self._strips is not None:
            frame[:STRIP_ROWS] = self._strips[pressed]
        self._stack.append(frame)
        seen = np.stack(self._stack)
        if self._told is not None:
            seen[:, -TOLD_ROWS:] = self._told
        return seen

    def picture(self) -> Pixels:
        """What people see now, uint8 (height, width, 3): a frame in the console's colours."""
        return np.asarray(self._emulator.getScreenRGB())

    def close(self) -> None:
        """Release the emulator; safe to call twice."""
        self._starts.close()


class FrameGames:
    """Copies of a game that step together, frame by frame, as the vector environment steps them.

    An episode equals the vector environment's of the same seed. What follows it without a seed of
    its own has the next seed that no copy had.

    Args:
        task: which game.
        protocol: how it is played; a delay is drawn by its own games around these.
        count: copies.
    """

    def __init__(self, task: Task, protocol: GameProtocol, count: int) -> None:
        own = replace(protocol, decision_delay=0)
        self.num_envs = count
        self._games = [FrameGame(task, own) for _ in range(count)]
        self._skip = protocol.frame_skip
        self._frames = np.zeros((count, *protocol.observation_shape), np.uint8)
        self._done = np.zeros(count, dtype=bool)
        self._lives = np.zeros(count, dtype=np.int64)
        self._actions = np.zeros(count, dtype=np.int64)
        self._next_seed = 0

    def reset(
        self, *, seed: Any, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start copies afresh, with `reset_mask` in `options` only some."""
        starting = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        seeds = np.asarray(seed, dtype=np.int64)
        if seeds.ndim == 0:
            seeds = seeds + np.arange(int(np.sum(starting)))
        for copy, one in zip(np.flatnonzero(starting), seeds, strict=True):
            self._start(int(copy), int(one))
        return self._frames.copy(), {"lives": self._lives.copy()}

    def send(self, actions: Any) -> None:
        """Begin a step."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def recv(self) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """End the step: frames, rewards, terminated, truncated, information."""
        rewards = np.zeros(self.num_envs)
        ended, cut = (np.zeros(self.num_envs, dtype=bool) for _ in range(2))
        for copy, game in enumerate(self._games):
            if self._done[copy]:
                self._start(copy, self._next_seed)
                continue
            for _ in range(self._skip):
                reward, last = game.act(int(self._actions[copy]))
                rewards[copy] += reward
                if last:
                    ended[copy], cut[copy] = not game.truncated, game.truncated
                    break
            self._frames[copy] = game.observe()
            self._lives[copy] = game.lives
        self._done = ended | cut
        return self._frames.copy(), rewards, ended, cut, {"lives": self._lives.copy()}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Send and receive."""
        self.send(actions)
        return self.recv()

    def close(self) -> None:
        """Release the emulators."""
        for game in self._games:
            game.close()

    def _start(self, copy: int, seed: int) -> None:
        game = self._games[copy]
        game.reset(seed)
        self._frames[copy] = game.observe()
        self._lives[copy] = game.lives
        self._done[copy] = False
        self._next_seed = max(self._next_seed, (seed + 1) % SEEDS)


@dataclass(frozen=True)
class _Taps:
    """For each target pixel along one axis, the source pixels under it and their shares.

    Attributes:
        index: (taps, target length).
        weight: float32 of the same shape, 0 where a pixel needs fewer taps.
    """

    index: NDArray[np.int64]
    weight: Singles


class AreaResize:
    """Shrink a grey picture: each target pixel is the mean over the area that it covers.

    Equal to OpenCV's INTER_AREA, which ALE uses: sums in float32, along rows first, from left
    to right and from top to bottom, then rounded half to even. The order matters: few grey
    levels on a coarse grid make exact halves common.
    """

    def __init__(self, source: tuple[int, int], target: int) -> None:
        self._rows = _taps(source[0], target)
        self._columns = _taps(source[1], target)

    def __call__(self, picture: Pixels) -> Pixels:
        """Shrink uint8 (height, width) to (target, target)."""
        pixels = picture.astype(np.float32)
        narrow = np.zeros((len(pixels), self._columns.index.shape[1]), np.float32)
        for index, weight in zip(self._columns.index, self._columns.weight, strict=True):
            narrow += pixels[:, index] * weight
        small = np.zeros((self._rows.index.shape[1], narrow.shape[1]), np.float32)
        for index, weight in zip(self._rows.index, self._rows.weight, strict=True):
            small += narrow[index] * weight[:, None]
        return np.rint(small).astype(np.uint8)


def _taps(source: int, target: int) -> _Taps:
    scale = source / target
    lists: list[list[tuple[int, float]]] = []
    for place in range(target):
        start, end = place * scale, min((place + 1) * scale, source)
        covered = range(math.floor(start + 1e-3), math.ceil(end - 1e-3))
        shares = ((pixel, min(pixel + 1, end) - max(pixel, start)) for pixel in covered)
        lists.append([(pixel, share / (end - start)) for pixel, share in shares])
    most = max(map(len, lists))
    index = np.zeros((most, target), np.int64)
    weight = np.zeros((most, target), np.float32)
    for place, taps in enumerate(lists):
        for tap, (pixel, share) in enumerate(taps):
            index[tap, place], weight[tap, place] = pixel, share
    return _Taps(index, weight)
