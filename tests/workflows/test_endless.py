"""Episodes that never end: a training and a played game say so, with the remedy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import mtspark
from tests.support.worlds import Shows, box

RECIPE: dict[str, Any] = {
    "games_per_task": [4],
    "rollout_steps": 8,
    "minibatches": 2,
    "total_steps": 64,
    "bfloat16": False,
    "network": {"hidden": 8, "dendrite_segments": 0},
}


class Endless(Shows):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward, *_ = super().step(action)
        return seen, reward, False, len(self.taken) == 20, {}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in ("mtspark.sim.play", "mtspark.train.rl.collect"):
        monkeypatch.setattr(f"{module}.ENDLESS", 16)
    for name, kind in (("Endless-v0", Endless), ("Ending-v0", Shows)):
        gymnasium.register(name, lambda kind=kind: kind(box(-1, 1, 2)), disable_env_checker=True)
    yield
    for name in ("Endless-v0", "Ending-v0"):
        del gymnasium.registry[name]


@pytest.mark.parametrize(
    ("game", "total_steps", "told"),
    [("Endless-v0", 64, True), ("Endless-v0", 32, False), ("Ending-v0", 64, False)],
)
def test_a_training_says_that_no_episode_ended(
    game: str, total_steps: int, told: bool, tmp_path: Path
) -> None:
    result = mtspark.train_agent({**RECIPE, "games": [game], "total_steps": total_steps}, tmp_path)
    line = (
        "Endless-v0: no episode ended in 16 decisions, so it has no return; if it never ends by "
        "itself, set [environment] max_steps"
    )
    assert [note for note in result.notes if "no episode ended" in note] == [line] * told


@pytest.mark.parametrize(("most", "told"), [(None, 1), (18, 0)])
def test_a_played_game_says_how_to_cut_it_off(
    most: int | None, told: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = {**RECIPE, "games": ["Endless-v0"], "total_steps": 32}
    mtspark.train_agent(recipe, tmp_path / "run")
    deployed = mtspark.export(tmp_path / "run" / "agent.pt")
    with caplog.at_level(logging.WARNING):
        run = deployed.play(episodes=2, max_decisions=most).run
    assert [episode.decisions for episode in run.episodes] == [most or 20] * 2
    said = [text for text in caplog.messages if "may never end" in text]
    assert (
        said
        == [
            "Endless-v0: an episode has gone on for 16 decisions and may never end; max_decisions "
            "cuts it off (--max-decisions)"
        ]
        * told
    )
