"""A run that comes to values which are no numbers ends there, and keeps what was sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtspark.core.environments.protocol import GameProtocol
from mtspark.core.errors import BadFileError, DivergedError
from mtspark.train.config.games import TrainConfig
from mtspark.train.config.images import ImageConfig
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.runs.callbacks import Run, RunCallback, Update
from mtspark.train.training import train_agent
from tests.support.train_commands import call

HUGE = 1e308
GAMES = TrainConfig(
    total_steps=24,
    games_per_task=(2,),
    rollout_steps=4,
    minibatches=2,
    checkpoint_every_steps=8,
    bfloat16=False,
    protocol=GameProtocol(frame_stack=2, screen_size=20),
    network=NetworkConfig((2, 20, 20), (ConvSize(3, 5, 3),), hidden=8),
)
REPLAY = replace(GAMES.replay, capacity=32, batch_size=4, warmup=4, update_every=4)
IMAGES = replace(
    ImageConfig(),
    epochs=3,
    network=replace(ImageConfig().network, convolutions=(ConvSize(2, 8, 8),), hidden=4),
)
KINDS = {
    "pqn": GAMES,
    "dqn": replace(GAMES, algorithm="dqn", replay=REPLAY),
    "ppo": replace(GAMES, algorithm="ppo", network=replace(GAMES.network, dueling=False)),
    "images": IMAGES,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name in ("mnist", "cifar10"):
        for split in ("train", "test"):
            images = generator.integers(0, 256, (12, 28, 28)).astype(np.uint8)
            np.savez(folder / f"{name}_{split}.npz", images=images, labels=np.arange(12) % 10)
    return folder


def run(config: TrainConfig | ImageConfig, folder: Path, data: Path, *callbacks: Any) -> None:
    sets = data if isinstance(config, ImageConfig) else None
    train_agent(config, folder, data=sets, callbacks=callbacks)


def finite(weights: dict[str, torch.Tensor]) -> bool:
    return all(bool(torch.isfinite(value.float()).all()) for value in weights.values())


class Spoil(RunCallback):
    """Does something to the trainer after the first checkpoint, with an agent in the folder."""

    def __init__(self, spoil: Callable[[Any], None]) -> None:
        self._spoil = spoil

    def on_checkpoint(self, run: Run) -> None:
        (run.folder / "agent.pt").write_bytes(b"the last good one")
        self._spoil(run.trainer)


def spoil_weights(trainer: Any) -> None:
    """One infinite weight before a layer of spikes."""
    with torch.no_grad():
        next(trainer.network.parameters())[0] = float("inf")


def spoil_rate(trainer: Any) -> None:
    trainer.config = replace(trainer.config, learning_rate=HUGE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_huge_learning_rate_ends_a_run_before_anything_is_saved(
    kind: str, tmp_path: Path, data: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(DivergedError) as caught:
        run(replace(KINDS[kind], learning_rate=HUGE), folder, data)
    said = str(caught.value)
    assert said.startswith(f"{folder}: training diverged after ")
    assert "; nothing was saved; train with a learning_rate below 1e+308" in said
    assert not (folder / "resume.pt").exists()
    assert not (folder / "agent.pt").exists()
    assert (folder / "log.jsonl").read_text() == ""
    # As it says, without "in another folder".
    run(KINDS[kind], folder, data)
    assert finite(torch.load(folder / "resume.pt", weights_only=True)["state"]["network"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spoil", [spoil_weights, spoil_rate])
def test_what_was_saved_before_stays(
    kind: str, spoil: Callable[[Any], None], tmp_path: Path, data: Path
) -> None:
    folder, before = tmp_path / "run", list[bytes]()

    class Keep(RunCallback):
        def on_checkpoint(self, run: Run) -> None:
            before.append((run.folder / "resume.pt").read_bytes())

    with pytest.raises(DivergedError) as caught:
        run(KINDS[kind], folder, data, Keep(), Spoil(spoil))
    (saved,) = before
    assert (folder / "resume.pt").read_bytes() == saved
    assert finite(torch.load(folder / "resume.pt", weights_only=True)["state"]["network"])
    assert (folder / "agent.pt").read_bytes() == b"the last good one"
    assert len((folder / "log.jsonl").read_text().splitlines()) == 1
    place = "epoch 1" if kind == "images" else "decision 8"
    assert f"after {place}: " in str(caught.value)
    assert f"resume.pt ({place}) and agent.pt are as before; train with a" in str(caught.value)
    assert str(caught.value).endswith("in another folder")


def test_the_last_batch_of_a_run_is_looked_at_too(tmp_path: Path, data: Path) -> None:
    class Never(RunCallback):
        def on_update(self, run: Run, update: Update) -> None:
            pytest.fail("an update was reported")

    # The last batch of the run is the only one: nothing comes after it that could notice.
    once = replace(IMAGES, epochs=1, batch=24, learning_rate=HUGE)
    with pytest.raises(DivergedError, match="weights are not finite"):
        run(once, tmp_path / "run", data, Never())


def test_a_checkpoint_without_sound_weights_is_not_resumed(tmp_path: Path, data: Path) -> None:
    class Stop(RunCallback):
        def on_update(self, run: Run, update: Update) -> None:
            if run.reached > 8 or run.unit == "epochs":
                raise InterruptedError

    folder = tmp_path / "run"
    with pytest.raises(InterruptedError):
        run(GAMES, folder, data, Stop())
    content = torch.load(folder / "resume.pt", weights_only=True)
    next(iter(content["state"]["network"].values()))[0] = float("nan")
    torch.save(content, folder / "resume.pt")
    with pytest.raises(BadFileError, match="weights are not finite"):
        run(GAMES, folder, data)


def test_the_command_says_it_in_one_line(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = ("--set", f"learning_rate={HUGE}", "--set", "train_images=12", "--set", "threads=1")
    assert call(tmp_path / "run", "--data", data, *huge, recipe="images") == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "training diverged after epoch 0: weights are not finite (" in last
    assert last.endswith("; nothing was saved; train with a learning_rate below 1e+308")
