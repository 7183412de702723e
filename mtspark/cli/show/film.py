"""What a film of a game shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtspark.cli._console import console

if TYPE_CHECKING:
    from mtspark.sim.recording import Film


def print_film(film: Film) -> None:
    """One line; a second one where the film shows no picture of the game."""
    episode = film.episode
    often = "every decision" if film.every == 1 else f"one in {film.every} decisions"
    console.print(
        f"wrote {film.path}: the game of seed {episode.seed}, score {episode.score:.4g}, {often} "
        "is shown",
        soft_wrap=True,
    )
    if film.note:
        console.print(f"It shows what the agent saw: {film.note}", soft_wrap=True)
