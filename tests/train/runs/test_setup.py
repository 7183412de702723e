"""``mtspark train``: what its options and recipes make of a run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.cli.train import train_command
from mtspark.core.environments.protocol import GameProtocol
from mtspark.core.errors import BackendMissingError, BadFileError, BadRequestError
from mtspark.train import training
from mtspark.train.checkpoint.agent import load_agent
from mtspark.train.config.ablation import AblationSettings
from mtspark.train.config.games import TrainConfig
from mtspark.train.config.images import ImageConfig
from mtspark.train.config.notices import notes
from mtspark.train.config.recipe import override, read_recipe, shipped_recipes, to_config
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.networks.variants import with_variant
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.rl.run import TrainingResult
from mtspark.train.runs.setup import STATE
from tests.support.train_commands import call


def test_the_options_reach_the_run(
    tmp_path: Path, trained: list[tuple[TrainConfig, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--game", "pong", "--game", "breakout", "--seed", 0, "--steps", 7)
    fields = ("--set", "network.hidden=64", "--set", "threads=2", "--set", "games_per_task=[3]")
    turns = ("--set", "checkpoint_every_steps=6", "--set", "schedule=sequential")
    assert call(tmp_path, *options, *fields, *turns) == 0
    ((config, folder),) = trained
    assert folder == tmp_path
    assert (config.games, config.seed, config.total_steps) == (("pong", "breakout"), 0, 7)
    assert (config.threads, config.copies, config.schedule) == (2, (3, 3), "sequential")
    assert (config.network.hidden, config.network.tasks) == (64, 2)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("finished: 7 decisions")
    assert said[1:] == [f"wrote {tmp_path / 'agent.pt'}"]


def test_a_run_that_was_finished_before_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.pt"
    result = TrainingResult(path, 48, 3, {"pong": 1.5}, (), started_at=48)
    monkeypatch.setattr(training, "train", lambda *_, **__: result)
    assert call(tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}: this run was finished before: 48 decisions, 3 games; mean return of the last "
        "games: pong 1.5; a larger --steps makes it longer"
    ]


def test_the_recipe_can_be_shown(trained: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(None, "--show", "--set", "discount=0.5") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["games"], shown["discount"], shown["network"]["hidden"]) == (["pong"], 0.5, 256)
    assert not trained


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_a_whole_configuration(name: str) -> None:
    try:
        config = to_config(read_recipe(name), name)
    except BackendMissingError as error:
        pytest.skip(str(error))
    if isinstance(config, AblationSettings):
        assert config == AblationSettings()
    elif isinstance(config, ImageConfig):
        assert config == ImageConfig()
    else:
        assert config.network.tasks == len(config.games)


def test_the_help_names_every_shipped_recipe() -> None:
    told = re.findall(r"[a-z0-9-]+", train_command.__annotations__["recipe"])
    assert set(shipped_recipes()) <= set(told)


def test_other_games_leave_behind_what_a_recipe_says_of_its_own(
    tmp_path: Path,
    trained: list[tuple[TrainConfig, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(tmp_path, "--game", "pong", recipe="three-games-waiting") == 0
    ((config, _),) = trained
    assert (config.games, config.network.tasks, config.network.hidden) == (("pong",), 1, 512)
    assert (config.teachers, config.exploration_ladder) == ((), ())
    assert config.games_per_task == TrainConfig.games_per_task
    told = "note: --game: without the recipe's games_per_task, exploration_ladder, teachers,"
    assert capsys.readouterr().out.startswith(told)


def test_other_environments_leave_the_settings_of_a_recipes_own(
    tmp_path: Path,
    trained: list[tuple[TrainConfig, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'games = ["CartPole-v1"]\n[[environments]]\nid = "CartPole-v1"\nmax_steps = 9\n'
    )
    for game, settings in (("CartPole-v1", 1), ("Acrobot-v1", 0)):
        assert call(tmp_path, "--game", game, recipe=str(recipe)) == 0
        assert len(trained[-1][0].environments) == settings
    told = "note: --game: without the recipe's environments, of its own games only"
    assert told in " ".join(capsys.readouterr().out.split())


def test_environments_leave_what_only_consoles_have(
    tmp_path: Path,
    trained: list[tuple[TrainConfig, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('games = ["pong"]\n[protocol]\nframe_skip = 2\n')
    assert call(tmp_path, "--game", "Acrobot-v1", recipe=str(recipe)) == 0
    assert trained[-1][0].protocol == GameProtocol()
    told = "note: --game: without the recipe's protocol, of its own games only"
    assert told in " ".join(capsys.readouterr().out.split())


def test_other_games_keep_what_a_recipe_says_of_all(
    tmp_path: Path, trained: list[tuple[TrainConfig, Path]]
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'games = ["pong"]\ngames_per_task = 8\nexploration_ladder = [0.1]\n'
        'reward_clipping = false\nteachers = ["pong.pt"]\n'
    )
    for games in (("breakout",), ("breakout", "enduro")):
        words = [word for game in games for word in ("--game", game)]
        assert call(tmp_path, *words, recipe=str(recipe)) == 0
        config, _ = trained[-1]
        assert (config.games, config.copies) == (games, (8,) * len(games))
        assert config.exploration_ladder == (0.1,) * len(games)
        assert config.clipped == (False,) * len(games)
        assert config.teachers == ()
    assert call(tmp_path, "--game", "pong", recipe=str(recipe)) == 0
    assert trained[-1][0].teachers == ("pong.pt",)


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
    assert (images.tasks, images.images_per_pass, images.network) == (
        ("mnist",),
        (15_000,),
        standard,
    )


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
    note, *_ = capsys.readouterr().out.splitlines()
    assert note.startswith("note: mtspark export will refuse this network: its neurons are relu")


@pytest.mark.parametrize("recipe", ["images", "ablation"])
def test_image_runs_say_what_is_missing(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path / "run", "--data", tmp_path / "none", recipe=recipe) == 2
    assert "no such folder" in capsys.readouterr().err
    for option, says in (
        (("--game", "pong"), "error: --game: is of games, and this recipe learns images; leave"),
        (("--steps", 5), "for so many passes: --set epochs=N; leave it out"),
    ):
        assert call(tmp_path / "run", *option, recipe=recipe) == 2
        assert says in capsys.readouterr().err
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


def test_truth_values_are_no_numbers() -> None:
    recipe = {
        **{"games": ["CartPole-v1"], "total_steps": True, "games_per_task": False},
        **{
            "environments": [
                {"id": "CartPole-v1", "max_steps": True, "arguments": {"sutton_barto_reward": True}}
            ]
        },
        **{"pruning": {"density": True, "gradual": True}, "bfloat16": False},
    }
    text = (
        "recipe: total_steps is true, must be a number; games_per_task is false, must be a "
        "number; environments.0.max_steps is true, must be a number; pruning.density is true, "
        "must be a number"
    )
    with pytest.raises(BadRequestError) as error:
        to_config(recipe, "recipe")
    assert str(error.value) == text


def test_a_saved_state_has_the_keys_that_are_asked_for() -> None:
    trainer = PqnTrainer(
        TrainConfig(
            games_per_task=(1,),
            protocol=GameProtocol(frame_stack=2, screen_size=20),
            network=NetworkConfig((2, 20, 20), (ConvSize(3, 5, 3),), hidden=4),
        )
    )
    assert set(trainer.state()) >= set(STATE)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), []),
        (("compiled=true", "network.neuron=relu"), ["mtspark export will", "compiled has no eff"]),
        (("compiled=true", "quantisation_aware=true"), []),
        (("bfloat16=false", "quantisation_aware=true"), []),
        (
            ("replay.capacity=5000", "replay.batch_size=9"),
            ["replay.capacity, replay.batch_size: no effect, the algorithm is pqn"],
        ),
        (
            ("algorithm=dqn", "trace=0.5", "epochs=3"),
            ["trace, epochs: no effect, the algorithm is dqn"],
        ),
        (("switch_every_steps=7",), ["switch_every_steps: no effect, the schedule is not interv"]),
        (("schedule=interval", "switch_every_steps=7"), []),
        (("taught_from_rewards=true",), ["taught_from_rewards: no effect, no game has a teacher"]),
        (("total_steps=400_000",), []),
    ],
)
def test_what_has_no_effect_is_told_and_defaults_are_not(
    options: tuple[str, ...], told: list[str]
) -> None:
    config = to_config(override(read_recipe("pong-waiting"), list(options)), "pong-waiting")
    assert isinstance(config, TrainConfig)
    found = notes(config)
    assert len(found) == len(told)
    for note, start in zip(found, told, strict=True):
        assert note.startswith(start)


def test_ctrl_c_is_one_line_that_says_where_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of five updates of two decisions, stopped in its first and in its fourth."""
    fields = (
        *("games_per_task=1", "rollout_steps=2", "minibatches=1", "total_steps=10"),
        *("protocol.frame_stack=2", "protocol.screen_size=20", "checkpoint_every_steps=5"),
        "network.convolutions=[{channels = 3, kernel = 5, stride = 3}]",
    )
    options = [word for field in fields for word in ("--set", field)]
    learn = PqnTrainer.learn
    stop_after = 0

    def learn_for_a_while(self: PqnTrainer, *arguments: Any) -> float:
        if self.progress.updates > stop_after:
            raise KeyboardInterrupt
        return learn(self, *arguments)

    monkeypatch.setattr(PqnTrainer, "learn", learn_for_a_while)
    assert call(tmp_path, *options) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == ("interrupted; the same command goes on from the start, without a checkpoint")
    stop_after = 3
    assert call(tmp_path, *options) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "interrupted; the same command goes on from decision 6"
    assert call(tmp_path, *options) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "interrupted; the same command goes on from decision 6"


def test_ctrl_c_before_a_run_begins_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", train)
    assert call(tmp_path / "run") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"
    assert not (tmp_path / "run").exists()


def test_configurations_need_no_torch() -> None:
    code = (
        "import sys\n"
        "from mtspark.core.errors import BackendMissingError\n"
        "from mtspark.train.config.recipe import config_of, shipped_recipes\n"
        "for name in shipped_recipes():\n"
        "    try:\n"
        "        config_of(name)\n"
        "    except BackendMissingError as error:\n"
        "        print(error)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
