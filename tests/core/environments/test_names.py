"""Games are known by ALE's names, gymnasium's, and those on their boxes."""

from __future__ import annotations

import logging
from pathlib import Path

import ale_py
import gymnasium
import pytest

from mtspark.core.environments import (
    GameProtocol,
    game_name,
    is_world,
    named_games,
    named_task,
    task_for_game,
    task_index,
)
from mtspark.core.environments.protocol import Task
from mtspark.core.errors import BadRequestError
from mtspark.train.config import config_of

TASKS = (
    Task("pong", "pong", (0, 2)),
    Task("invaders", "space_invaders", (0, 1)),
    Task("mnist", "", ()),
)


@pytest.mark.parametrize(
    ("text", "game"),
    [
        ("pong", "pong"),
        ("Pong", "pong"),
        ("ALE/Pong-v5", "pong"),
        ("ALE/Pong", "pong"),
        ("PongNoFrameskip-v4", "pong"),
        ("PongDeterministic-v4", "pong"),
        ("Pong-ram-v4", "pong"),
        ("Pong-ramNoFrameskip-v4", "pong"),
        ("space invaders", "space_invaders"),
        ("Space Invaders", "space_invaders"),
        ("SpaceInvadersNoFrameskip-v4", "space_invaders"),
        ("space-invaders", "space_invaders"),
        ("Ms. Pac-Man", "ms_pacman"),
        ("Q*bert", "qbert"),
        ("H.E.R.O.", "hero"),
        ("ALE/TicTacToe3D-v5", "tic_tac_toe_3d"),
        ("ale/pong-v5", "pong"),
        ("ale_py:ALE/Pong-v5", "pong"),
        ("PongNoFrameskip", "pong"),
        ("Pong-ram", "pong"),
        ("Montezuma's Revenge", "montezuma_revenge"),
        ("../pong", "../pong"),
        # What fits nothing is for its reader to refuse.
        ("chess", "chess"),
        ("Pong v5", "Pong v5"),
        ("", ""),
        ("-v5", "-v5"),
    ],
)
def test_a_game_has_one_name_inside(text: str, game: str) -> None:
    assert game_name(text) == game


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("brekout", "did you mean breakout?"),
        ("Ponk", "did you mean pong"),
        ("montezuma", "did you mean montezuma_revenge?"),
        ("cartpole", "with its version; did you mean CartPole-v1?"),
        ("zzzzzz", "for example pong or ms_pacman, or gymnasium's name of .* with its version$"),
    ],
)
def test_an_unknown_game_is_refused_with_those_near(text: str, near: str) -> None:
    with pytest.raises(BadRequestError, match=near.replace("?", r"\?")):
        task_for_game(game_name(text))


def test_every_environment_of_gymnasium_is_the_game_that_it_loads() -> None:
    gymnasium.register_envs(ale_py)
    games = set(ale_py.roms.get_all_rom_ids())
    checked = 0
    for name, spec in gymnasium.registry.items():
        game = spec.kwargs.get("game")
        if isinstance(game, str) and game in games:
            assert game_name(name) == game, name
            checked += 1
    assert checked > 100


def test_an_environment_of_gymnasiums_own_is_no_game_of_ale() -> None:
    """Blackjack-v1 is a card game of gymnasium's, and ALE has a game of that name."""
    gymnasium.register_envs(ale_py)
    others = [name for name, spec in gymnasium.registry.items() if "ale_py" not in str(spec)]
    assert "Blackjack-v1" in others
    assert [name for name in others if game_name(name) != name] == []
    assert is_world("Blackjack-v1")
    assert task_for_game("Blackjack-v1").environment is not None
    assert task_for_game("ALE/Blackjack-v5").environment is None
    # A module of the user's own may have a Pong, too.
    assert game_name("mine:Pong-v0") == "mine:Pong-v0"
    assert is_world("mine:Pong-v0")


def test_a_task_is_found_by_any_name_of_its_game() -> None:
    assert [task_index(TASKS, name) for name in ("Pong-v4", "Space Invaders", "MNIST")] == [0, 1, 2]
    assert named_task(TASKS, "ALE/SpaceInvaders-v5") == "invaders"
    for name in ("chess", "", "-", "pong\n2"):
        with pytest.raises(BadRequestError, match="unknown task"):
            task_index(TASKS, name)


def test_of_two_tasks_with_one_game_none_is_guessed() -> None:
    tasks = (Task("easy", "pong", (0,)), Task("hard", "pong", (0,)))
    with pytest.raises(BadRequestError, match="knows easy, hard"):
        task_index(tasks, "ALE/Pong-v5")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ALE/Pong-v5", "sticky actions of 0.25"),
        ("PongNoFrameskip-v4", "sticky actions of 0, no frame skip"),
        ("Pong-ram-v0", "sticky actions of 0.25, the console's memory in place of frames"),
    ],
)
def test_one_line_says_that_the_protocol_stays(
    text: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert named_games([text]) == ("pong",)
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith(f"{text}: plays pong by the recipe's own protocol")
    assert line.endswith(says)


def test_a_plain_name_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert named_games(["pong", "Space Invaders"]) == ("pong", "space_invaders")
    assert caplog.records == []


def test_a_recipe_plays_the_game_by_its_own_protocol() -> None:
    config = config_of({"games": ["ALE/Pong-v5", "Space Invaders"]})
    assert config.games == ("pong", "space_invaders")
    assert config.protocol == GameProtocol()
    with pytest.raises(BadRequestError, match="each once"):
        config_of({"games": ["pong", "ALE/Pong-v5"]})
    assert task_for_game("ALE/Breakout-v5") == task_for_game("breakout")


def test_names_are_known_without_importing_the_emulator(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from mtspark.core.environments import game_name; "
        "print(game_name('ALE/Pong-v5'), 'ale_py' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["pong", "False"]
