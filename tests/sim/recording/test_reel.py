from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.environments import GameProtocol, Task, make_games
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.play import play
from mtspark.sim.recording import reel as reel_module
from mtspark.sim.recording.reel import Reel, check_film_target
from mtspark.sim.recording.twin import Twin
from tests.support.lamp import COLOURS, STEPS, lamp_network, registered_lamp


@pytest.fixture(autouse=True)
def lamp() -> Iterator[None]:
    with registered_lamp():
        yield


def filmed(net: ChipNetwork, path: Path, **options: Any) -> tuple[Any, Any, list[Image.Image]]:
    task = net.tasks[0].name
    reel = Reel(net, task)
    run = play(ReferenceChip(net), net, task, episodes=1, seed=0, observe=reel, **options)
    film = reel.save(path, run.episodes[0])
    with Image.open(path) as animation:
        pictures = [one.convert("RGB") for one in ImageSequence.Iterator(animation)]
    return run, film, pictures


def middle(picture: Image.Image) -> tuple[int, ...]:
    colour = picture.getpixel((10 + 160, 30 + 120))
    assert isinstance(colour, tuple)
    return colour


def test_a_film_shows_what_each_decision_was_made_on(tmp_path: Path) -> None:
    run, film, pictures = filmed(lamp_network(), tmp_path / "a.webp")
    assert run.episodes[0].score == 2.0 * STEPS
    assert (film.pictures, film.every, film.note) == (STEPS, 1, "")
    assert film.episode is run.episodes[0]
    for picture, colour in zip(pictures, COLOURS, strict=False):
        assert max(abs(np.subtract(middle(picture), colour))) < 30
    with Image.open(tmp_path / "a.webp") as animation:
        animation.seek(1)
        animation.load()
        assert animation.info["duration"] == 40
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.webp"]


def test_an_environment_with_dice_of_its_own_is_said_to_be_none_to_repeat(tmp_path: Path) -> None:
    _, film, pictures = filmed(lamp_network(dice=True), tmp_path / "a.gif")
    assert "Lamp-v0" in film.note
    assert "not deterministic" in film.note
    # Messages are grey columns of two places, of spikes and none.
    assert {middle(picture)[0] == middle(picture)[2] for picture in pictures} == {True}


def test_an_environment_that_cannot_draw_shows_its_messages(tmp_path: Path) -> None:
    _, film, _ = filmed(lamp_network(draws=False), tmp_path / "a.gif")
    assert film.note == "Lamp-v0: draws no picture: no display"
    assert film.pictures > 1


def test_a_long_game_is_thinned_evenly_and_keeps_its_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reel_module, "MOST_PICTURES", 4)
    _, film, pictures = filmed(lamp_network(), tmp_path / "a.webp")
    assert (film.every, film.pictures) == (4, 3)
    for number, picture in zip((0, 4, 8), pictures, strict=True):
        assert max(abs(np.subtract(middle(picture), COLOURS[number]))) < 30


@pytest.mark.slow
@pytest.mark.parametrize("sticky", [0.0, 0.4])
@pytest.mark.parametrize("delay", [0, 1])
def test_a_twin_shows_an_agent_what_the_vector_environment_does(sticky: float, delay: int) -> None:
    task = Task("breakout", "breakout", (0, 1, 3, 4))
    protocol = GameProtocol(sticky_action_probability=sticky, decision_delay=delay)
    games, twin = make_games(task, protocol, 1), Twin(task, protocol)
    try:
        frames, _ = games.reset(seed=5)
        twin.reset(5)
        draw, pictures = np.random.default_rng(0), set()
        for _ in range(12):
            assert np.array_equal(twin.seen, frames[0])
            pictures.add(twin.picture().tobytes())
            action = int(draw.choice(task.legal_actions))
            frames, rewards, *_ = games.step(np.array([action]))
            assert twin.act(action) == rewards[0]
        assert twin.picture().shape == (210, 160, 3)
        assert len(pictures) > 6
    finally:
        games.close()
        twin.close()


def test_a_film_that_cannot_be_written_is_refused_before_the_game(tmp_path: Path) -> None:
    for name in ("a.mp4", "a", "gif"):
        with pytest.raises(BadRequestError, match=r"\.gif or \.webp"):
            check_film_target(tmp_path / name)
    (tmp_path / "b").write_text("a file")
    with pytest.raises(BadFileError, match="cannot be written"):
        check_film_target(tmp_path / "b" / "a.gif")
    check_film_target(tmp_path / "A.GIF")
    check_film_target(None)
