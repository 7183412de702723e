"""ALE's vector environment: copies of a game that it steps together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mtspark.core.environments.names import near_names
from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.core.errors import BadRequestError, one_line

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv

SEVERAL_PLAYERS = ("combat", "joust", "maze_craze", "warlords")
"""Games for several players alone: ALE 0.12.1 ends the whole process when it loads one."""


class Games(Protocol):
    """Copies of a game that step together: ALE's vector environment, or another that acts so."""

    num_envs: int

    def reset(
        self, *, seed: Any, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start copies afresh; return frames and information of all.

        An episode is a function of its seed and the actions, whatever was played before.

        Args:
            seed: the first of consecutive ones, or an array with one for each copy that starts.
            options: with `reset_mask`, bool (copies,), only those copies start.
        """

    def send(self, actions: Any) -> None:
        """Begin a step."""

    def recv(self) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """End the step: frames, rewards, terminated, truncated, information."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Send and receive."""

    def close(self) -> None:
        """Release the emulators."""


def vector_games(
    task: Task, protocol: GameProtocol, count: int, *, num_threads: int = 1
) -> AtariVectorEnv:
    """Make copies of a game at its default mode and difficulty, which wait for every action.

    Raises:
        BadRequestError: ALE has no such game.
    """
    import ale_py
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    rom_path(task.game)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return AtariVectorEnv(
        task.game,
        count,
        num_threads=num_threads,
        max_num_frames_per_episode=protocol.max_frames_per_episode,
        repeat_action_probability=protocol.sticky_action_probability,
        full_action_space=True,
        autoreset_mode=AutoresetMode.NEXT_STEP,
        img_height=protocol.screen_size,
        img_width=protocol.screen_size,
        grayscale=True,
        stack_num=protocol.frame_stack,
        frameskip=protocol.frame_skip,
        maxpool=protocol.max_pool,
        noop_max=protocol.noop_max,
        episodic_life=protocol.life_loss_ends_episode,
        reward_clipping=False,
        use_fire_reset=protocol.fire_on_reset,
    )


def rom_path(game: str) -> Path:
    """Return the file of a game.

    Raises:
        BadRequestError: ALE has no such game, or it is for several players only.
    """
    import ale_py

    if game in SEVERAL_PLAYERS:
        raise BadRequestError(
            f"game {game!r}: is for several players only, which ALE cannot load here; likewise "
            f"{', '.join(name for name in SEVERAL_PLAYERS if name != game)}; choose another game"
        )
    known = game in ale_py.roms.get_all_rom_ids()
    rom = ale_py.roms.get_rom_path(game) if known else None
    if rom is None:
        raise BadRequestError(
            f"unknown game {one_line(game, 80)!r}: use an ALE name in snake case, for example "
            f"pong or ms_pacman, or gymnasium's name of an environment, with its version"
            f"{near_names(game)}"
        )
    return rom
