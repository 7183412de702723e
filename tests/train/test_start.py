"""``mtspark train``: what it refuses, in one line, before anything is built."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mtspark.train.run as runs
from mtspark.cli.main import app
from mtspark.cli.train import train_command
from mtspark.core.console import run_program
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.protocol import GameProtocol
from mtspark.train.ablation import AblationSettings
from mtspark.train.checkpoint import load_agent
from mtspark.train.config import TrainConfig
from mtspark.train.images import ImageConfig
from mtspark.train.network import ConvSize, NetworkConfig
from mtspark.train.pqn import PqnTrainer
from mtspark.train.recipe import override, read_recipe, shipped_recipes, to_config
from mtspark.train.start import STATE, only_run_in
from mtspark.train.variants import with_variant


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, Path]]:
    """The runs that were started; none really is."""
    started: list[tuple[TrainConfig, Path]] = []

    def train(config: TrainConfig, folder: Path) -> Path:
        started.append((config, folder))
        return folder / "agent.pt"

    monkeypatch.setattr(runs, "train", train)
    return started


def call(folder: Path, *arguments: object, recipe: str = "pong") -> int:
    """Train by a recipe into a folder."""
    words = ["train", recipe, "-o", str(folder), *map(str, arguments)]
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
        (("--set", "training_sticky_actions=1"), "training_sticky_actions is 1.0, must be from 0"),
        (("--set", "discount=1.5"), "discount is 1.5, must be from 0 to 1"),
        (("--set", "reward_clipping=[true, false]"), "reward_clipping has 2 entries for 1 games"),
        (("--set", "minibatches=5000"), "a rollout has 2048 decisions for 5000 minibatches"),
        (("--set", "replay.update_every=0"), "update_every is 0, must be at least 1"),
        (("--set", "hiden=5"), "hiden: no such field"),
        (("--set", "network.hiden=5"), "network.hiden: no such field, did you mean hidden?"),
        (("--set", "network.observation_shape=[4, 80, 80]"), "gives frames of (4, 84, 84)"),
        (("--set", "kind=chess"), "kind 'chess': choose games, images, ablation"),
        (("--variant", "dqm"), "network.variant 'dqm': choose dqn, dueling-dqn, dsqn"),
        (("--set", "network.constants=mine"), "network.constants 'mine': choose mtspark"),
        (("--variant", "dsqn", "--set", "network.dueling=true"), "dueling is True, dsqn has False"),
        (("--data", "."), "--data: is of image sets"),
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


def test_a_second_run_in_a_folder_is_refused_while_the_first_is_there(
    tmp_path: Path, trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with only_run_in(tmp_path):
        assert call(tmp_path) == 2
        assert capsys.readouterr().err == (
            f"error: {tmp_path}: another run is training there; "
            "wait for it or choose another folder\n"
        )
        assert call(tmp_path / "other") == 0
        assert not any(folder == tmp_path for _, folder in trained)
    assert call(tmp_path) == 0


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
    if isinstance(config, AblationSettings):
        assert config == AblationSettings()
    elif isinstance(config, ImageConfig):
        assert config == ImageConfig()
    else:
        assert config.network.tasks == len(config.games)


def test_the_help_names_every_shipped_recipe() -> None:
    told = re.findall(r"[a-z-]+", train_command.__annotations__["recipe"])
    assert set(shipped_recipes()) <= set(told)


def test_other_games_leave_behind_what_a_recipe_says_of_its_own(
    tmp_path: Path, trained: list[tuple[TrainConfig, Path]]
) -> None:
    assert call(tmp_path, "--game", "pong", recipe="three-games") == 0
    ((config, _),) = trained
    assert (config.games, config.network.tasks, config.network.hidden) == (("pong",), 1, 512)
    assert config.teachers == config.exploration_ladder == ()


def test_one_value_stands_for_a_list_of_one_and_the_network_fits_its_tasks() -> None:
    fields = {
        **{"games": "pong", "games_per_task": 8, "exploration_ladder": 0.1},
        "protocol": {"screen_size": 60},
        "network": {"dendrite_layers": "conv1"},
    }
    config = to_config(fields, "mine")
    assert isinstance(config, TrainConfig)
    assert (config.games, config.games_per_task) == (("pong",), (8,))
    assert (config.exploration_ladder, config.network.dendrite_layers) == ((0.1,), ("conv1",))
    assert config.network.observation_shape == (4, 60, 60)
    images = to_config({"kind": "images", "tasks": "mnist", "network": {"hidden": 8}}, "mine")
    assert isinstance(images, ImageConfig)
    standard = replace(ImageConfig().network, tasks=1, hidden=8)
    assert (images.tasks, images.looks, images.network) == (("mnist",), (15_000,), standard)


def test_a_recipe_names_a_published_network_and_its_constants() -> None:
    network = {"variant": "mtspark-ad", "constants": "switchmt", "dendrite_segments": 3}
    config = to_config({"network": network}, "mine")
    assert isinstance(config, TrainConfig)
    assert config.network == with_variant(
        NetworkConfig(dendrite_segments=3), "mtspark-ad", "switchmt"
    )
    assert (config.network.drive, config.network.dueling) == (0.5, False)


def test_a_network_that_will_not_deploy_is_told_before_it_is_trained(
    tmp_path: Path, trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "--variant", "dqn") == 0
    note, _ = capsys.readouterr().out.splitlines()
    assert note.startswith("note: mtspark export will refuse this network: its neurons are relu")


@pytest.mark.parametrize("recipe", ["images", "ablation"])
def test_image_runs_say_what_is_missing(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path / "run", "--data", tmp_path / "none", recipe=recipe) == 2
    assert "no such folder" in capsys.readouterr().err
    assert call(tmp_path / "run", "--game", "pong", recipe=recipe) == 2
    assert "games: no such field" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_images_are_trained_by_their_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28)).astype(np.uint8)
    for split in ("train", "test"):
        np.savez(tmp_path / f"mnist_{split}.npz", images=images, labels=np.arange(12) % 10)
    sizes = ("network.convolutions=[{channels = 2, kernel = 8, stride = 8}]", "network.hidden=4")
    options = [word for size in (*sizes, "tasks=mnist", "epochs=1") for word in ("--set", size)]
    assert call(tmp_path / "run", "--data", tmp_path, *options, recipe="images") == 0
    agent = load_agent(tmp_path / "run" / "agent.pt")
    assert ([task.name for task in agent.tasks], agent.network.config.hidden) == (["mnist"], 4)
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_a_recipe_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('games = ["breakout"]\n[network]\nhidden = 8\n')
    fields = override(read_recipe(str(path)), ["network.beta=0.25", "schedule = interval"])
    config = to_config(fields, "mine")
    assert isinstance(config, TrainConfig)
    assert (config.games, config.network.hidden, config.network.beta) == (("breakout",), 8, 0.25)
    assert config.schedule == "interval"
    assert read_recipe(str(path)) == {"games": ["breakout"], "network": {"hidden": 8}}


@pytest.mark.parametrize("content", [b"games = [", b"\xff\xfe"])
def test_a_recipe_that_is_no_toml(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=r"mine\.toml"):
        read_recipe(str(path))
    with pytest.raises(BadFileError, match="no such recipe; give a TOML file or one of ablation"):
        read_recipe("nowhere")


def test_all_problems_of_a_recipe_are_told_together() -> None:
    with pytest.raises(BadRequestError, match=r"mine: games.0: .*; seed: .*; speed: no such field"):
        to_config({"games": 3, "seed": "x", "speed": 3}, "mine")


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
