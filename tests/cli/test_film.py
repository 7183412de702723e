from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


def test_a_film_of_the_game_that_was_scored(
    played: Path, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "b.deploy"
    shutil.copytree(played, folder)
    stored = len(list((folder / "runs").iterdir()))
    options = ("--task", "pong", "--max-decisions", 5, "--seed", 7)
    for name in ("film.mp4", "nowhere/film.gif"):
        (tmp_path / "nowhere").write_text("a file")
        assert call("run", folder, *options, "--video", tmp_path / name) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert len(list((folder / "runs").iterdir())) == stored
    assert call("run", folder, *options, "--video", tmp_path / "film.gif") == 0
    told = capsys.readouterr()
    assert "the game of seed 7, score 0, every decision is shown" in told.out
    assert "It shows what the agent saw" not in told.out
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.format, getattr(film, "n_frames", 1)) == ("GIF", 5)
    assert len(list((folder / "runs").iterdir())) == stored + 1


@pytest.mark.slow
def test_a_film_of_the_float_network(
    played: Path, call: Callable[..., int], tmp_path: Path
) -> None:
    folder, film = tmp_path / "b.deploy", tmp_path / "film.webp"
    shutil.copytree(played, folder)
    options = ("--task", "pong", "--max-decisions", 5, "--backend", "torch")
    assert call("run", folder, *options, "--video", film) == 0
    with Image.open(film) as pictures:
        assert getattr(pictures, "n_frames", 1) == 5


def test_no_film_of_inputs(
    played: Path, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--input", tmp_path / "none.npy", "--video", tmp_path / "film.gif")
    assert call("run", played, *given) == 2
    assert "--video" in capsys.readouterr().err
