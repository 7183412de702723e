"""A training run that was stopped and resumed equals one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from mtspark.core.environments.protocol import GameProtocol
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.train.checkpoint.agent import load_agent, save_agent
from mtspark.train.config.games import ReplayConfig, TrainConfig
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.rl import run as run_module
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.rl.run import RUN_FORMAT, ReplayCheckpoints, train
from mtspark.train.rl.trainer import Trainer
from mtspark.train.runs import callbacks
from mtspark.train.runs.callbacks import Run, RunCallback, Update
from mtspark.train.runs.folder import prepare_folder
from mtspark.train.runs.same import check_same_run
from mtspark.train.runs.stopping import StoppedError

# Six updates of eight decisions, a checkpoint after every second one.
SMALL = TrainConfig(
    games=("pong",),
    total_steps=48,
    games_per_task=(2,),
    rollout_steps=4,
    minibatches=2,
    learning_rate=0.01,
    checkpoint_every_steps=16,
    bfloat16=False,
    protocol=GameProtocol(frame_stack=2, screen_size=20),
    network=NetworkConfig((2, 20, 20), (ConvSize(3, 5, 3),), hidden=16, threshold=0.3),
)


class PowerCut(Exception):
    """Stops a run where a person, or the power, might."""


def train_and_stop(config: TrainConfig, folder: Path, after: int) -> None:
    """Stop a run in the middle of its update number `after` + 1."""
    with pytest.MonkeyPatch.context() as patch:
        plain = Trainer.set_learning_rate

        def fall(self: Trainer) -> None:
            if self.progress.updates == after + 1:
                raise PowerCut
            plain(self)

        patch.setattr(Trainer, "set_learning_rate", fall)
        with pytest.raises(PowerCut):
            train(config, folder)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_agent(path).network.state_dict()


def logged(folder: Path) -> list[int]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["steps"] for line in lines]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent of a run that nothing stopped."""
    return train(SMALL, tmp_path_factory.mktemp("whole")).path


# After 0: before any checkpoint; 2: right after one; 3 and 5: between two, twice.
@pytest.mark.parametrize(
    "stops",
    [
        pytest.param((0,), marks=pytest.mark.slow),
        pytest.param((2,), marks=pytest.mark.slow),
        (3, 5),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    whole: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    for after in stops:
        train_and_stop(SMALL, tmp_path, after)
        assert (tmp_path / "resume.pt").exists() == (after >= 1)
    resumed = weights(train(SMALL, tmp_path).path)
    assert list(resumed) == list(weights(whole))
    assert same(resumed, weights(whole))
    assert logged(tmp_path) == [8, 16, 24, 32, 40, 48]


@pytest.mark.slow
def test_sticky_actions_may_be_of_the_training_games_only() -> None:
    frames = []
    for sticky in (None, 0.0, 0.9):
        trainer = PqnTrainer(replace(SMALL, training_sticky_actions=sticky))
        trainer.update()
        assert trainer.agent().protocol == SMALL.protocol
        frames.append(trainer.games[0].frames)
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])


@pytest.mark.slow
def test_a_resumed_dqn_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    config = replace(
        SMALL,
        algorithm="dqn",
        rollout_steps=8,
        total_steps=96,
        checkpoint_every_steps=32,
        replay=ReplayConfig(capacity=64, warmup=16, batch_size=4, update_every=4, target_every=3),
    )
    whole = weights(train(config, tmp_path / "whole").path)
    train_and_stop(config, tmp_path / "stopped", 3)
    assert [path.name for path in (tmp_path / "stopped").glob("replay*/*")] == ["pong"]
    assert same(weights(train(config, tmp_path / "stopped").path), whole)
    assert not same(weights(train(replace(config, seed=3), tmp_path / "other").path), whole)


class Fields:
    """A trainer's side of saving: experience as one file."""

    config = SMALL

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def state(self) -> dict[str, int]:
        return {"steps": self.steps}

    def save_experience(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "frames").write_text(str(self.steps))


def test_killed_while_saving_a_run_keeps_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = tmp_path / "resume.pt"

    def kept() -> int:
        """Steps of the state on disk; its experience is there, too."""
        steps = int(torch.load(resume, weights_only=True)["state"]["steps"])
        assert (tmp_path / f"replay.{steps}" / "frames").read_text() == str(steps)
        return steps

    def save(steps: int) -> None:
        trainer = Fields(steps)
        run = Run(tmp_path, trainer, RUN_FORMAT, "decisions", 96, steps)  # type: ignore[arg-type]
        ReplayCheckpoints().on_checkpoint(run)

    save(16)
    assert kept() == 16
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "save_whole", killed)
        with pytest.raises(PowerCut):
            save(32)
    assert kept() == 16
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(PowerCut):
            save(48)
    assert kept() == 16
    save(32)
    assert kept() == 32
    assert [path.name for path in tmp_path.glob("replay.*")] == ["replay.32"]
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "save_whole", second_interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(64)
    assert [path.name for path in tmp_path.glob("replay.*")] == ["replay.32"]


def killed(*_: object, **__: object) -> None:
    raise PowerCut


def second_interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_half_a_replay_of_a_killed_run_takes_no_room(tmp_path: Path) -> None:
    """The check of the disk counts it as free."""
    train(replace(SMALL, total_steps=8), tmp_path)
    for name in ("replay.8", "replay.16"):
        (tmp_path / name).mkdir()

    class Look(RunCallback):
        def on_start(self, run: Run) -> None:
            assert [path.name for path in tmp_path.glob("replay.*")] == ["replay.8"]

    train(replace(SMALL, total_steps=16), tmp_path, callbacks=[Look()])


def test_what_a_killed_run_leaves_is_cleared(tmp_path: Path) -> None:
    lines = '{"steps": 8}\n{"steps": 16}\n{"steps": 24}\n{"ste'
    (tmp_path / "log.jsonl").write_text(lines)
    (tmp_path / ".resume.pt.7.tmp").write_text("half")
    (tmp_path / "resume.pt").write_text("whole")
    prepare_folder(tmp_path, "steps", 16)
    assert logged(tmp_path) == [8, 16]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "resume.pt"]


def test_saving_an_agent_leaves_the_random_numbers_alone() -> None:
    trainer = PqnTrainer(SMALL)
    before = torch.get_rng_state()
    trainer.agent()
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_another_agent(whole: Path, tmp_path: Path) -> None:
    # Otherwise equal weights would prove nothing.
    assert not same(weights(train(replace(SMALL, seed=2), tmp_path).path), weights(whole))


def test_a_run_trains_and_logs_every_update(whole: Path) -> None:
    torch.manual_seed(SMALL.seed)
    start = PqnTrainer(SMALL).network.state_dict()
    assert not same(start, weights(whole))
    lines = [json.loads(line) for line in whole.with_name("log.jsonl").read_text().splitlines()]
    assert [line["steps"] for line in lines] == [8, 16, 24, 32, 40, 48]
    assert set(lines[0]) == {
        "steps",
        "episodes",
        "epsilon",
        "loss",
        "tasks",
        "returns",
        "steps_per_s",
    }


def test_the_agent_file_carries_tasks_protocol_and_training(whole: Path) -> None:
    agent = load_agent(whole)
    assert [task.name for task in agent.tasks] == ["pong"]
    assert agent.protocol == SMALL.protocol
    assert agent.network.config == SMALL.network
    assert agent.training["steps"] == 48


@pytest.mark.slow
def test_games_in_sequence_leave_the_agent_of_each_end(tmp_path: Path) -> None:
    network = replace(SMALL.network, tasks=2)
    games = ("pong", "breakout")
    config = replace(SMALL, games=games, total_steps=32, schedule="sequential", network=network)
    last = weights(train(config, tmp_path).path)
    after = load_agent(tmp_path / "agent.after-pong.pt")
    assert after.training["steps"] == 16
    assert not same(after.network.state_dict(), last)


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    config = replace(SMALL, total_steps=8)
    before = weights(train(config, tmp_path).path)
    assert same(weights(train(config, tmp_path).path), before)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_scores_in_the_agent_file_of_a_finished_run_stay(tmp_path: Path) -> None:
    config = replace(SMALL, total_steps=8)
    path = train(config, tmp_path).path
    save_agent(replace(load_agent(path), evaluations=[{"score": 1}]), path)
    before = path.read_bytes()
    assert not train(config, tmp_path).is_new
    assert path.read_bytes() == before
    # Killed between its last checkpoint and its agent file, a run writes that one.
    longer = replace(config, total_steps=16)
    assert train(longer, tmp_path).is_new
    path.write_bytes(before)
    train(longer, tmp_path)
    assert load_agent(path).training["steps"] == 16


@pytest.mark.slow
def test_what_does_not_change_what_is_learned_may_change(whole: Path, tmp_path: Path) -> None:
    train_and_stop(SMALL, tmp_path, 3)
    other = replace(SMALL, checkpoint_every_steps=7, compiled=True)
    assert same(weights(train(replace(other, compiled=False), tmp_path).path), weights(whole))
    check_same_run(json.loads(json.dumps(asdict(SMALL))), replace(other, threads=2), tmp_path)


def test_a_run_that_is_made_longer_keeps_its_falls(tmp_path: Path) -> None:
    """Its part up to the end that was planned first, and then the floors."""
    short = replace(SMALL, total_steps=24, final_learning_rate_fraction=0.5)
    train(short, tmp_path)
    first = weights(tmp_path / "agent.pt")
    rates: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        plain = Trainer.set_learning_rate

        def noted(self: Trainer) -> None:
            plain(self)
            rates.append(self.optimizer.param_groups[0]["lr"])

        patch.setattr(Trainer, "set_learning_rate", noted)
        result = train(replace(short, total_steps=40), tmp_path)
        assert (result.started_at, result.steps) == (24, 40)
        assert rates == pytest.approx([0.005, 0.005])
        # Asked for less than it has, it is finished.
        assert not train(short, tmp_path).is_new
    assert logged(tmp_path) == [8, 16, 24, 32, 40]
    assert not same(weights(tmp_path / "agent.pt"), first)


@pytest.mark.slow
def test_the_agent_that_a_run_started_from_may_be_gone_when_it_resumes(
    whole: Path, tmp_path: Path
) -> None:
    begin = tmp_path / "begin.pt"
    begin.write_bytes(whole.read_bytes())
    config = replace(SMALL, start_from=str(begin))
    train_and_stop(config, tmp_path / "run", 2)
    begin.unlink()
    assert train(config, tmp_path / "run").steps == 48


class Kill(RunCallback):
    """Sends this process a signal within the third update; notes all checkpoints."""

    def __init__(self, number: int) -> None:
        self.number, self.updates = number, 0
        self.checkpoints: list[float] = []

    def on_update(self, run: Run, update: Update) -> None:
        self.updates += 1
        if self.updates == 3:
            os.kill(os.getpid(), self.number)

    def on_checkpoint(self, run: Run) -> None:
        self.checkpoints.append(run.reached)


@pytest.fixture
def system_handlers() -> Iterator[None]:
    """The handlers a process begins with; a run leaves others alone.

    A command that ran in this process before may have left some, and in the background of a script
    Ctrl-C is ignored. No fork is taken for this: PyTorch's threads are not in a fork, and now and
    then it dies of that."""
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    yield
    for number, found in before.items():
        signal.signal(number, found)


@pytest.mark.parametrize(
    "name",
    ["SIGTERM", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGINT", "SIGHUP"))],
)
def test_a_signal_saves_the_run_and_the_same_call_goes_on(
    name: str, whole: Path, tmp_path: Path, system_handlers: None
) -> None:
    config = replace(SMALL, checkpoint_every_steps=10_000)
    number = signal.Signals[name]
    before, kill = signal.getsignal(number), Kill(number)
    with pytest.raises(StoppedError, match="goes on from decision 24") as stopped:
        train(config, tmp_path, callbacks=[kill])
    assert stopped.value.signal == number
    # After 8 decisions comes the first checkpoint by itself, then where they have doubled.
    assert kill.checkpoints == [8, 16, 24]
    assert signal.getsignal(number) == before
    assert torch.load(tmp_path / "resume.pt", weights_only=True)["state"]["steps"] == 24
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    assert events.count(b"training/loss") == 3
    assert same(weights(train(config, tmp_path).path), weights(whole))


def test_tensorboard_has_everything_up_to_the_checkpoint_of_a_killed_run(tmp_path: Path) -> None:
    class Look(RunCallback):
        def on_checkpoint(self, run: Run) -> None:
            events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
            assert events.count(b"training/loss") == run.reached // 8

    train(SMALL, tmp_path, callbacks=[Look()])


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (MemoryError(), BadRequestError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), BadRequestError),
        (RuntimeError("a mistake of ours"), RuntimeError),
    ],
)
def test_memory_that_ends_in_the_middle_is_one_line(
    error: Exception, refusal: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object) -> None:
        raise error

    monkeypatch.setattr(run_module, "_train", short)
    says = "needs more memory than there is; lower" if refusal is BadRequestError else "of ours"
    with pytest.raises(refusal, match=says):
        train(SMALL, tmp_path)


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    config = replace(SMALL, total_steps=8)
    train(config, tmp_path)
    way_on = f"choose another folder, or go on .* there with --set start_from={tmp_path}/agent.pt"
    with pytest.raises(BadRequestError, match=way_on):
        train(replace(config, learning_rate=0.02), tmp_path)
    # Another network could not start from these weights.
    wider = replace(config, network=replace(config.network, hidden=17))
    with pytest.raises(BadRequestError, match=r"another folder \(network.hidden was 16, is 17\)"):
        train(wider, tmp_path)


def test_a_resume_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "resume.pt").write_text("no checkpoint")
    with pytest.raises(BadFileError, match="not a PyTorch checkpoint"):
        train(SMALL, tmp_path)


def test_a_damaged_state_is_one_line(tmp_path: Path) -> None:
    config = replace(SMALL, total_steps=8)
    train(config, tmp_path)
    content = torch.load(tmp_path / "resume.pt", weights_only=True)
    content["state"]["optimizer"] = {"state": 3}
    torch.save(content, tmp_path / "resume.pt")
    with pytest.raises(BadFileError, match="does not hold this run's state"):
        train(config, tmp_path)
