"""``mtspark train``: what it refuses, in one line, before anything is built."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import mtspark.train.run as runs
from mtspark.cli.main import app
from mtspark.core.console import run_program
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.protocol import GameProtocol
from mtspark.train.config import TrainConfig
from mtspark.train.network import ConvSize, NetworkConfig
from mtspark.train.pqn import PqnTrainer
from mtspark.train.recipe import override, read_recipe, shipped_recipes, to_config
from mtspark.train.start import STATE


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, Path]]:
    """The runs that were started; none really is."""
    started: list[tuple[TrainConfig, Path]] = []

    def train(config: TrainConfig, folder: Path) -> Path:
        started.append((config, folder))
        return folder / "agent.pt"

    monkeypatch.setattr(runs, "train", train)
    return started


def call(folder: Path, *arguments: object) -> int:
    """Train by the recipe pong into a folder."""
    words = ["train", "pong", "-o", str(folder), *map(str, arguments)]
    command = partial(app, words, prog_name="mtspark")
    with pytest.raises(SystemExit) as end:
        run_program(command)
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--game", "chess"), "unknown game 'chess'"),
        (("--game", "pong", "--game", "pong"), "games ['pong', 'pong']: at least one, each once"),
        (("--seed", -1), "'--seed'"),
        (("--set", "threads=0"), "threads is 0, must be above 0"),
        (("--set", "games_per_task=[0]"), "games_per_task is 0, must be at least 1"),
        (("--set", "games_per_task=[1, 2]"), "games_per_task has 2 entries for 1 games"),
        (("--set", "discount=1.5"), "discount is 1.5, must be from 0 to 1"),
        (("--set", "hiden=5"), "hiden: "),
        (("--set", "network.hiden=5"), "network.hiden: "),
        (("--set", "network.hidden=wide"), "network.hidden: "),
        (("--set", "algorithm=ppo"), "algorithm: "),
        (("--set", "network"), "--set network: write name=value"),
        (("--set", "games.deep=1"), "--set games.deep=1: games is no table"),
        (("--device", "tpu"), "device tpu: PyTorch finds no such device here"),
        (("--steps", 0), "'--steps'"),
        (("--steps", "many"), "'--steps'"),
        (("--nonsense",), "--nonsense"),
    ],
)
def test_bad_options_are_one_line_and_code_2(
    options: tuple[object, ...],
    text: str,
    tmp_path: Path,
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(tmp_path / "run", *options) == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    assert text in line
    assert output.out == ""
    assert not trained
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a poem", "not a PyTorch checkpoint"),
        (b"", "not a PyTorch checkpoint"),
        ({"format": "mtspark-agent"}, "no mtspark-training checkpoint"),
        ({"format": "mtspark-training"}, "without network, target"),
        ({"format": "mtspark-training", "state": [1]}, "without network, target"),
        (
            {"format": "mtspark-training", "state": dict.fromkeys(STATE[:-1], 0)},
            "without returns; remove it to start again",
        ),
    ],
    ids=["text", "empty", "agent", "bare", "list", "a key less"],
)
def test_a_corrupt_resume_file_is_one_line_and_code_2(
    content: Any,
    text: str,
    tmp_path: Path,
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    resume = tmp_path / "resume.pt"
    if isinstance(content, bytes):
        resume.write_bytes(content)
    else:
        torch.save(content, resume)
    assert call(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(resume) in line
    assert text in line
    assert not trained


@pytest.mark.parametrize("inside", ["", "deeper/still"])
def test_a_file_where_the_folder_should_be(
    inside: str, tmp_path: Path, trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert call(tmp_path / "file" / inside) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'file'}: a file, not a folder; choose another folder\n"
    )
    assert not trained


def test_a_folder_that_cannot_be_written(
    tmp_path: Path,
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Asked of the system, because a privileged user may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    assert call(tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}: no permission")
    assert not trained


def test_the_options_reach_the_run(
    tmp_path: Path, trained: list[tuple[TrainConfig, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--game", "pong", "--game", "breakout", "--seed", 0, "--steps", 7)
    fields = ("--set", "network.hidden=64", "--set", "threads=2", "--set", "games_per_task=[3]")
    assert call(tmp_path, *options, *fields, "--set", "schedule=sequential") == 0
    ((config, folder),) = trained
    assert folder == tmp_path
    assert (config.games, config.seed, config.total_steps) == (("pong", "breakout"), 0, 7)
    assert (config.threads, config.copies, config.schedule) == (2, (3, 3), "sequential")
    assert (config.network.hidden, config.network.tasks) == (64, 2)
    assert capsys.readouterr().out == f"wrote {tmp_path / 'agent.pt'}\n"


def test_the_recipe_can_be_shown(
    tmp_path: Path, trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "--show", "--set", "discount=0.5") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["games"], shown["discount"], shown["network"]["hidden"]) == (["pong"], 0.5, 256)
    assert not trained


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_a_whole_configuration(name: str) -> None:
    config = to_config(read_recipe(name), name)
    assert config.network.tasks == len(config.games)


def test_a_recipe_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('games = ["breakout"]\n[network]\nhidden = 8\n')
    fields = override(read_recipe(str(path)), ["network.beta=0.25", "schedule = interval"])
    config = to_config(fields, "mine")
    assert (config.games, config.network.hidden, config.network.beta) == (("breakout",), 8, 0.25)
    assert config.schedule == "interval"
    assert read_recipe(str(path)) == {"games": ["breakout"], "network": {"hidden": 8}}


@pytest.mark.parametrize("content", [b"games = [", b"\xff\xfe"])
def test_a_recipe_that_is_no_toml(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=r"mine\.toml"):
        read_recipe(str(path))
    with pytest.raises(BadFileError, match="no such recipe; give a TOML file or one of pong"):
        read_recipe("nowhere")


def test_all_problems_of_a_recipe_are_told_together() -> None:
    with pytest.raises(BadRequestError, match=r"mine: games: .*; seed: .*; speed: "):
        to_config({"games": "pong", "seed": "x", "speed": 3}, "mine")


def test_a_saved_state_has_the_keys_that_are_asked_for() -> None:
    trainer = PqnTrainer(
        TrainConfig(
            games_per_task=(1,),
            protocol=GameProtocol(frame_stack=2, screen_size=20),
            network=NetworkConfig((2, 20, 20), (ConvSize(3, 5, 3),), hidden=4),
        )
    )
    assert set(trainer.state()) == set(STATE)


def test_ctrl_c_is_one_line_and_code_130(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: TrainConfig, folder: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train", train)
    assert call(tmp_path) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_program_itself_ends_with_one_line_and_code_2(tmp_path: Path) -> None:
    code = "from mtspark.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "-o", tmp_path / "run", "--game", "chess"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: unknown game 'chess'")


def test_compiling_is_refused_where_it_cannot_work(
    trained: list[tuple[TrainConfig, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert call(tmp_path, "--compiled") == 2
    assert "no C++ compiler" in capsys.readouterr().err
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr(torch, "__file__", "/a folder/torch/__init__.py")
    assert call(tmp_path, "--compiled") == 2
    assert "a path with a space" in capsys.readouterr().err
    assert not trained
