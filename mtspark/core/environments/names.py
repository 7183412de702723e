"""What others call a game: names of gymnasium and of boxes, beside ALE's own in snake case."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from mtspark.core.environments.environment import is_environment
from mtspark.core.environments.protocol import ADDITIONS, GYMNASIUM, Task, plain_name, task_index

log = logging.getLogger(__name__)

_STICKY = {0: 0.25, 4: 0.0, 5: 0.25}
"""Probability of sticky actions that a version of gymnasium's environments means (ale-py,
registration.py)."""


NOT_ALES = ("Blackjack-v1",)
"""Gymnasium's own environments that are called as games of ALE are."""


def game_name(text: str) -> str:
    """Return ALE's name of a game: ``pong`` for ``ALE/Pong-v5``, ``PongNoFrameskip-v4``, ``Pong``.

    Spaces, capitals and punctuation do not matter: ``Space Invaders`` is ``space_invaders``.

    Args:
        text: a name; one that fits no game is returned as it is, for its reader to refuse.
    """
    games = _games()
    if text in games or text in NOT_ALES or "/" in ADDITIONS.sub("", text):
        return text
    found = [game for game in games if plain_name(game) == plain_name(text)]
    return found[0] if len(found) == 1 else text


def is_world(name: str) -> bool:
    """Whether a name is that of an environment of gymnasium's and of no ALE game."""
    return is_environment(name) and game_name(name) == name and not name.startswith("ALE/")


def named_games(names: Iterable[str]) -> tuple[str, ...]:
    """Return ALE's names of games, and warn where a name promises a protocol of its own."""
    games = []
    for name in names:
        games.append(game_name(name))
        _warn(name, games[-1])
    return tuple(games)


def named_task(tasks: tuple[Task, ...], name: str) -> str:
    """Return the name of the task that is meant, and warn as :func:`named_games` does.

    Raises:
        BadRequestError: no task, or several, could be meant.
    """
    task = tasks[task_index(tasks, name)]
    _warn(name, task.name)
    return task.name


def _warn(text: str, game: str) -> None:
    """Say in one line that a version in a name changes nothing."""
    given = None if text == game else GYMNASIUM.fullmatch(text)
    if given is None:
        return
    means = []
    sticky = _STICKY.get(int(given["version"]))
    if sticky is not None:
        means.append(f"sticky actions of {sticky:g}")
    if (given["skip"] or "").lower() == "noframeskip":
        means.append("no frame skip")
    if given["ram"]:
        means.append("the console's memory in place of frames")
    would = f"; that name would mean {', '.join(means)}" if means else ""
    log.warning("%s: plays %s by the recipe's own protocol%s", text, game, would)


def near_names(text: str) -> str:
    """Return a question that names games and environments that are near; empty where none is."""
    plain = {**_environments(), **{plain_name(game): game for game in _games()}}
    near = [plain[name] for name in get_close_matches(plain_name(text), plain, 3, 0.6)]
    near += [game for game in _games() if len(text) > 3 and plain_name(text) in plain_name(game)]
    return f"; did you mean {' or '.join(list(dict.fromkeys(near))[:3])}?" if near else ""


def _environments() -> dict[str, str]:
    """The newest version of each of gymnasium's own environments, by its plain name."""
    import gymnasium

    own = [name for name, spec in gymnasium.registry.items() if "ale_py" not in str(spec)]
    # The registry has versions in the order of their numbers.
    return {plain_name(name): name for name in own if "/" not in name and is_environment(name)}


@cache
def _games() -> tuple[str, ...]:
    """ALE's names, without importing it: those of the files that it brings."""
    spec = find_spec("ale_py")
    folders = [] if spec is None else spec.submodule_search_locations or []
    return tuple(
        sorted(path.stem for folder in folders for path in Path(folder, "roms").glob("*.bin"))
    )
