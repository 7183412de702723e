"""The one factory of games and environments, used by training and by evaluation alike."""

from __future__ import annotations

from mtspark.core.environments.delay import DelayedGames
from mtspark.core.environments.environment import Environment
from mtspark.core.environments.frames import FrameGames
from mtspark.core.environments.names import game_name, is_world
from mtspark.core.environments.protocol import EMULATOR_ACTIONS, GameProtocol, Task
from mtspark.core.environments.told import ToldGames
from mtspark.core.environments.vector import Games, rom_path, vector_games
from mtspark.core.environments.worlds import WorldGames, world_task

ALL_ACTIONS = EMULATOR_ACTIONS
"""Every agent head has this many outputs."""


def task_for_game(game: str) -> Task:
    """Describe an Atari game, with its minimal action set, or an environment of gymnasium.

    Args:
        game: its ALE name, or what others call it (:func:`game_name`); or an environment's id.

    Raises:
        BadRequestError: there is no such game or environment, it is for several players only, or
            an agent cannot see or act in it.
        BackendMissingError: a package that an environment needs is missing.
    """
    if is_world(game):
        return world_task(Environment(game))
    import ale_py

    game = game_name(game)
    rom = rom_path(game)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    emulator = ale_py.ALEInterface()
    emulator.loadROM(rom)
    actions = tuple(sorted(int(action.value) for action in emulator.getMinimalActionSet()))
    return Task(name=game, game=game, legal_actions=actions)


def make_games(
    task: Task, protocol: GameProtocol | None, count: int, *, num_threads: int = 1
) -> Games:
    """Make `count` copies of a game, or of an environment, that step together.

    A task with an environment of its own needs no protocol; it shows frames of messages
    (:class:`mtspark.core.environments.worlds.WorldGames`). Otherwise:

    Observations are uint8 of shape (count, stack, height, width); actions index ALE's full
    set of 18; rewards are the game's own, never clipped. After a finished episode the next
    step resets that game and its action is ignored (gymnasium's NEXT_STEP autoreset), so the
    transition out of a finished episode must be left out of any learning or score.

    With a mode or difficulty of its own a game is played frame by frame
    (:class:`mtspark.core.environments.frames.FrameGames`), since the vector environment lacks both;
    with a decision delay the games are :class:`mtspark.core.environments.delay.DelayedGames`, and
    where frames show the task, :class:`mtspark.core.environments.told.ToldGames`.

    Raises:
        BadRequestError: ALE has no such game, or the game no such mode or difficulty.
    """
    games: Games
    if task.environment is not None:
        return WorldGames(task.environment, count)
    assert protocol is not None
    if protocol.mode is None and protocol.difficulty is None:
        games = vector_games(task, protocol, count, num_threads=num_threads)
    else:
        games = FrameGames(task, protocol, count)
    if protocol.decision_delay:
        games = DelayedGames(games, protocol)
    return games if task.told is None else ToldGames(games, task.told, protocol.screen_size)
