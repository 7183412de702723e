"""One call trains by any recipe and returns what it wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtspark.core.environments.protocol import GameProtocol
from mtspark.core.errors import BadRequestError
from mtspark.core.progress import Progress
from mtspark.train.ablation.grid import AblationResult
from mtspark.train.checkpoint.agent import load_agent
from mtspark.train.config.ablation import AblationSettings
from mtspark.train.config.games import TrainConfig
from mtspark.train.config.images import ImageConfig
from mtspark.train.config.recipe import config_of
from mtspark.train.images.run import ImageTrainingResult
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.rl.run import TrainingResult
from mtspark.train.runs.callbacks import Run, RunCallback, Update
from mtspark.train.training import train_agent

FIELDS: dict[str, Any] = {
    "games": "pong",
    "total_steps": 24,
    "games_per_task": 2,
    "rollout_steps": 4,
    "minibatches": 2,
    "checkpoint_every_steps": 8,
    "bfloat16": False,
    "protocol": {"frame_stack": 2, "screen_size": 20},
    "network": {"convolutions": [{"channels": 3, "kernel": 5, "stride": 3}], "hidden": 8},
}
TOML = """
games = "pong"
total_steps = 24
games_per_task = 2
rollout_steps = 4
minibatches = 2
checkpoint_every_steps = 8
bfloat16 = false
protocol = {frame_stack = 2, screen_size = 20}
network = {convolutions = [{channels = 3, kernel = 5, stride = 3}], hidden = 8}
"""
CONFIG = TrainConfig(
    total_steps=24,
    games_per_task=(2,),
    rollout_steps=4,
    minibatches=2,
    checkpoint_every_steps=8,
    bfloat16=False,
    protocol=GameProtocol(frame_stack=2, screen_size=20),
    network=NetworkConfig((2, 20, 20), (ConvSize(3, 5, 3),), hidden=8),
)


def test_a_recipe_has_four_forms(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    for recipe in (CONFIG, FIELDS, path, str(path)):
        assert config_of(recipe) == CONFIG
    assert config_of("pong-waiting") == TrainConfig()


def test_a_configuration_is_checked_as_a_recipe_is() -> None:
    with pytest.raises(BadRequestError, match="recipe: network neuron 'relux'"):
        config_of(replace(CONFIG, network=replace(CONFIG.network, neuron="relux")))
    with pytest.raises(BadRequestError, match="loss 'hinge'"):
        config_of(ImageConfig(loss="hinge"))


class Counter(RunCallback):
    """Counts updates and checkpoints."""

    def __init__(self) -> None:
        self.updates: list[int] = []
        self.checkpoints: list[int] = []

    def on_update(self, run: Run, update: Update) -> None:
        self.updates.append(update.record["steps"])

    def on_checkpoint(self, run: Run) -> None:
        self.checkpoints.append(run.reached)


def test_games_are_trained_and_resumed_by_one_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports: list[Progress] = []
    counter = Counter()
    folder = tmp_path / "run"
    result = train_agent(CONFIG, str(folder), progress=reports.append, callbacks=[counter])
    assert isinstance(result, TrainingResult)
    assert (result.path, result.steps) == (folder / "agent.pt", 24)
    assert result.returns == {"pong": None}
    assert result.notes == ()
    assert json.loads(json.dumps(result.to_json()))["steps"] == 24
    assert load_agent(str(result.path)).training["steps"] == 24
    assert counter.updates == [8, 16, 24]
    assert counter.checkpoints == [8, 16, 24]
    done = [(report.stage, report.done) for report in reports]
    assert done == [("preparing", 0), *[("training", steps) for steps in (0, 8, 16, 24)]]
    again = train_agent(FIELDS, folder)
    assert again == result
    assert (result.is_new, again.is_new) == (True, False)
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""


@pytest.mark.slow
def test_a_run_of_an_older_version_resumes(tmp_path: Path) -> None:
    class Stop(RunCallback):
        def on_update(self, run: Run, update: Update) -> None:
            if run.reached == 16:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        train_agent(CONFIG, tmp_path / "run", callbacks=[Stop()])
    path = tmp_path / "run" / "resume.pt"
    content = torch.load(path, weights_only=True)
    assert content["state"]["steps"] == 8
    del content["config"]["taught_from_rewards"], content["config"]["replay"]
    del content["config"]["protocol"]["decision_delay"], content["config"]["network"]["k_winners"]
    torch.save(content, path)
    delayed = replace(CONFIG, protocol=replace(CONFIG.protocol, decision_delay=1))
    with pytest.raises(BadRequestError, match=r"protocol\.decision_delay was 0, is 1"):
        train_agent(delayed, tmp_path / "run")
    resumed = load_agent(train_agent(CONFIG, tmp_path / "run").path).network.state_dict()
    whole = load_agent(train_agent(CONFIG, tmp_path / "whole").path).network.state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A few random images of each set."""
    generator = np.random.default_rng(0)
    for name in ("mnist", "cifar10"):
        for split in ("train", "test"):
            images = generator.integers(0, 256, (12, 28, 28)).astype(np.uint8)
            np.savez(tmp_path / f"{name}_{split}.npz", images=images, labels=np.arange(12) % 10)
    return tmp_path


def test_images_are_trained_by_the_same_call(data: Path) -> None:
    standard = ImageConfig()
    network = replace(standard.network, convolutions=(ConvSize(2, 8, 8),), hidden=4)
    config = replace(standard, epochs=2, network=network)
    reports: list[Progress] = []
    result = train_agent(config, data / "run", data=str(data), progress=reports.append)
    assert isinstance(result, ImageTrainingResult)
    assert (result.path, result.epochs) == (data / "run" / "agent.pt", 2)
    last = json.loads((data / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert result.accuracies == last["test_accuracy"]
    assert train_agent(config, data / "run", data=data) == result
    assert [report.stage for report in reports[:4]] == ["loading images"] * 4
    assert [report.done for report in reports if report.stage == "images"][-1] == 2


@pytest.mark.slow
def test_the_grid_is_run_by_the_same_call(data: Path) -> None:
    settings = AblationSettings(seeds=1, images=12, epochs=1, test_images=6, hidden=4)
    result = train_agent(settings, data / "grid", data=data)
    assert isinstance(result, AblationResult)
    assert result.path == data / "grid" / "ablation.json"
    assert json.loads(result.path.read_text()) == result.to_json()
    names = {path.name for path in (data / "grid").iterdir()}
    assert names >= {"ablation.png", "ablation-curves.png", "settings.json", "runs"}


def test_what_a_recipe_does_not_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="data: is of image sets"):
        train_agent(FIELDS, tmp_path / "run", data=tmp_path)
    with pytest.raises(BadRequestError, match="callbacks: of one run"):
        train_agent({"kind": "ablation"}, tmp_path / "run", callbacks=[Counter()])
    assert not (tmp_path / "run").exists()
