"""Learning from recorded data: losses by hand, tasks, paths, resuming, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from mtspark.core.datasets import Origin, RecordedEpisode
from mtspark.core.environments import (
    Environment,
    GameProtocol,
    Task,
    as_messages,
    world_task,
)
from mtspark.core.errors import BadFileError, BadRequestError, DivergedError
from mtspark.train.checkpoint import load_agent
from mtspark.train.config import TrainConfig, notes, to_config
from mtspark.train.config.recipe import override, read_recipe
from mtspark.train.rl.bcq import constrained
from mtspark.train.rl.iql import advantage_weights, expectile_loss
from mtspark.train.rl.recorded import at_statistics
from mtspark.train.rl.run import make_trainer, train
from tests.support.datasets import write_dataset
from tests.support.train_commands import call
from tests.support.worlds import Door, cartpole, register_door


class Detour(gymnasium.Env[Any, Any]):
    """Pays 0.2 at once for action 0, and 1 for any action after action 1, of which there is 2."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(3)

    def __init__(self, pays: float = 1.0) -> None:
        self.pays, self.state = pays, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = 0
        return 0, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.state:
            return 1, self.pays, True, False, {}
        self.state = 1
        return 1, (0.2, 0.0, -1.0)[int(action)], action != 1, False, {}


@pytest.fixture(autouse=True, scope="module")
def named() -> Iterator[None]:
    gymnasium.register("Detour-v0", Detour, disable_env_checker=True)
    yield
    del gymnasium.registry["Detour-v0"]


def detours(task: Task, episodes: int = 60, *, seed: int = 0) -> list[RecordedEpisode]:
    """Play of which most takes what pays at once, and a tenth what costs."""
    generator, played = np.random.default_rng(seed), []
    environment = task.environment
    assert environment is not None
    for _ in range(episodes):
        made = Detour(**environment.arguments)
        shown, ended = [made.reset()[0]], False
        actions: list[int] = []
        rewards: list[float] = []
        while not ended:
            actions.append(int(generator.choice(3, p=(0.6, 0.3, 0.1))))
            state, reward, ended, _, _ = made.step(actions[-1])
            shown.append(state)
            rewards.append(reward)
        flags = np.eye(2, dtype=np.uint8)[shown]
        played.append(RecordedEpisode(flags, np.array(actions), np.array(rewards), ended=True))
    return played


FIELDS: dict[str, Any] = {
    "games": ["Detour-v0"],
    "algorithm": "iql",
    "total_steps": 40,
    "rollout_steps": 10,
    "learning_rate": 1e-2,
    "discount": 0.9,
    "reward_clipping": False,
    "bfloat16": False,
    "checkpoint_every_steps": 20,
    "replay": {"batch_size": 32},
    "offline": {"critic_layers": [8], "target_rate": 0.2, "sharpness": 10.0},
    "network": {"hidden": 12, "dendrite_segments": 0, "time_steps": 2},
}


def config(data: Path, **changes: Any) -> TrainConfig:
    offline = {**FIELDS["offline"], "data": [str(data)], **changes.pop("offline", {})}
    made = to_config({**FIELDS, **changes, "offline": offline}, "recipe")
    assert isinstance(made, TrainConfig)
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, named: None) -> Path:
    """Of Detour, and of two named tasks in it that pay differently."""
    folder = tmp_path_factory.mktemp("data")
    for name, pays in (("", 1.0), ("far", 1.0), ("near", -1.0)):
        arguments = {"pays": pays} if name else {}
        task = world_task(Environment("Detour-v0", arguments=arguments, name=name))
        write_dataset(folder, Origin(task, None), detours(task))
    return folder


TWO: dict[str, Any] = {
    "games": ["far", "near"],
    "environments": [
        {"name": "far", "id": "Detour-v0", "arguments": {"pays": 1.0}},
        {"name": "near", "id": "Detour-v0", "arguments": {"pays": -1.0}},
    ],
    "network": {"hidden": 12, "dendrite_segments": 1, "time_steps": 2},
}
PATHS = {
    **{"layers": ["hidden"], "method": "pathways", "density": 0.5, "start": 0.0, "end": 0.9},
    "every_updates": 1,
}


def trainer_of(data: Path, **changes: Any) -> Any:
    return make_trainer(config(data, **changes))


def test_a_run_that_measures_learns_the_same(data: Path) -> None:
    plain, measured = (
        trainer_of(data, **TWO, **extra)
        for extra in ({}, {"plasticity": {"measure_every": 1, "samples": 8}})
    )
    for trainer in (plain, measured):
        for _ in range(3):
            trainer.update()
    found, wanted = measured.network.state_dict(), plain.network.state_dict()
    assert all(torch.equal(found[name], one) for name, one in wanted.items())


def test_the_expectile_loss_and_weights_by_hand() -> None:
    error = torch.tensor([2.0, -1.0, 0.0, -3.0])
    # 0.7 * 4, 0.3 * 1, 0, 0.3 * 9; a fourth of their sum.
    assert float(expectile_loss(error, 0.7)) == pytest.approx((2.8 + 0.3 + 0 + 2.7) / 4)
    weights = advantage_weights(torch.tensor([0.0, 0.5, -1.0, 9.0]), 2.0, 100.0)
    assert weights.tolist() == pytest.approx([1.0, np.e, np.exp(-2.0), 100.0])


def test_an_expectile_is_where_the_loss_is_least() -> None:
    """Of 0 and 1 with equal shares: v = expectile, by the loss's derivative."""
    value = torch.tensor(0.0, requires_grad=True)
    for _ in range(300):
        (slope,) = torch.autograd.grad(expectile_loss(torch.tensor([0.0, 1.0]) - value, 0.9), value)
        with torch.no_grad():
            value -= slope
    assert value.item() == pytest.approx(0.9, abs=1e-4)


def test_likely_actions_by_hand() -> None:
    """Chances 0.6, 0.3, 0.1: shares of the largest 1, 0.5, 0.17."""
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log()
    everything = torch.ones(1, 3, dtype=torch.bool)
    for threshold, wanted in [(0.0, [1, 1, 1]), (0.3, [1, 1, 0]), (0.5001, [1, 0, 0])]:
        assert constrained(logits, everything, threshold)[0].int().tolist() == wanted
    # The released code would allow none, and take the first action whatever it is.
    assert constrained(logits.flip(1), everything, 1.0)[0].int().tolist() == [0, 0, 1]
    # Shares are of the largest chance that is allowed.
    allowed = torch.tensor([[False, True, True]])
    assert constrained(logits, allowed, 0.3)[0].int().tolist() == [0, 1, 1]


def _plain(critic: Any, frames: np.ndarray, task: np.ndarray, tasks: int) -> np.ndarray:
    """A critic of spikes by NumPy: (batch, outputs) of each sample's task."""
    first, _, last = critic.layers
    weights = [part.detach().double().numpy() for part in (first.weight, first.bias)]
    heads = [part.detach().double().numpy() for part in (last.weight, last.bias)]
    seen = np.concatenate([frames.reshape(len(frames), -1), np.eye(tasks)[task]], 1)
    hidden = np.maximum(seen @ weights[0].T + weights[1], 0)
    outputs = (hidden @ heads[0].T + heads[1]).reshape(len(frames), tasks, -1)
    return outputs[np.arange(len(task)), task]


def _log_softmax(values: np.ndarray) -> np.ndarray:
    return values - np.log(np.exp(values).sum(1, keepdims=True))


def _parts(trainer: Any, batch: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in vars(batch).items()} | {
        "policy": trainer.network(batch.frames, batch.task).detach().double().numpy()
    }


def test_the_losses_of_iql_are_those_of_the_paper(data: Path) -> None:
    own = {"expectile": 0.8, "sharpness": 0.5, "largest_weight": 1.1}
    trainer = trainer_of(data, **TWO, offline=own)
    for part in trainer.critics.values():
        for value in part.parameters():
            value.data.mul_(3.0)
    batch = trainer.drawn((0, 1), 6)
    found = _parts(trainer, batch)
    task, rows = found["task"], np.arange(12)
    assert task.tolist() == [0] * 6 + [1] * 6

    def judged(name: str) -> np.ndarray:
        both = trainer.critics[name].both
        return np.stack(
            [_plain(one, found["frames"], task, 2)[rows, found["actions"]] for one in both]
        )

    critic = trainer.critics["value"]
    value = _plain(critic, found["frames"], task, 2)[:, 0]
    # So that advantages lie on either side of 0.
    shift = np.median(judged("judges_target").min(0) - value)
    critic.layers[-1].bias.data += shift
    value = value + shift
    following = _plain(critic, found["next_frames"], task, 2)[:, 0]
    error = judged("judges_target").min(0) - value
    goals = found["rewards"] + 0.9 * (1 - found["terminal"]) * following
    chances = _log_softmax(found["policy"])[rows, found["actions"]]
    weights = np.minimum(np.exp(0.5 * error), 1.1)
    wanted = {
        "value_loss": (np.where(error < 0, 0.2, 0.8) * error**2).mean(),
        "judges_loss": ((judged("judges") - goals) ** 2).mean(1).sum(),
        "actor_loss": -(weights * chances).mean(),
        "weight": weights.mean(),
        "advantage": error.mean(),
    }
    assert 0 < (weights == 1.1).sum() < 12
    loss, measured = trainer.loss(batch)
    for name, number in wanted.items():
        assert measured[name] == pytest.approx(number, rel=1e-4, abs=1e-6), name
    total = wanted["value_loss"] + wanted["judges_loss"] + wanted["actor_loss"]
    assert float(loss) == pytest.approx(total, rel=1e-4)


def test_each_part_learns_from_its_own_loss_alone(data: Path) -> None:
    """The actor's loss moves no critic, the critics' none of the others, and targets nothing."""
    trainer = trainer_of(data)
    batch = trainer.drawn((0,), 8)
    loss, _ = trainer.loss(batch)
    loss.backward()
    gradients = [value.grad.clone() for value in trainer.critics["value"].parameters()]
    assert all(value.grad is None for value in trainer.critics["judges_target"].parameters())
    value = trainer.critics["value"](batch.frames, batch.task)
    judged = trainer.critics["judges_target"](batch).min(0).values
    alone = torch.autograd.grad(
        expectile_loss(judged - value, 0.7), list(trainer.critics["value"].parameters())
    )
    for own, wanted in zip(gradients, alone, strict=True):
        assert torch.allclose(own, wanted)


def test_the_losses_of_bcq_are_those_of_the_paper(data: Path) -> None:
    trainer = trainer_of(data, algorithm="bcq", offline={"threshold": 0.8})
    for part in trainer.critics.values():
        for value in part.parameters():
            value.data.mul_(3.0)
    batch = trainer.drawn((0,), 8)
    found = _parts(trainer, batch)
    rows, task, actions = np.arange(8), found["task"], found["actions"]
    seen, then = found["frames"], found["next_frames"]

    def best(frames: np.ndarray) -> np.ndarray:
        chances = np.exp(_log_softmax(_plain(trainer.critics["model"], frames, task, 1)))
        likely = chances / chances.max(1, keepdims=True) > 0.8
        assert not likely.all()
        values = _plain(trainer.critics["judge"], frames, task, 1)
        return np.where(likely, values, -np.inf).argmax(1)

    following = _plain(trainer.critics["judge_target"], then, task, 1)[rows, best(then)]
    goals = found["rewards"] + 0.9 * (1 - found["terminal"]) * following
    error = _plain(trainer.critics["judge"], seen, task, 1)[rows, actions] - goals
    huber = np.where(abs(error) < 1, 0.5 * error**2, abs(error) - 0.5)
    logits = _plain(trainer.critics["model"], seen, task, 1)
    wanted = {
        "judge_loss": huber.mean(),
        "model_loss": -_log_softmax(logits)[rows, actions].mean() + 0.01 * (logits**2).mean(),
        "actor_loss": -_log_softmax(found["policy"])[rows, best(seen)].mean(),
        "as_recorded": (best(seen) == actions).mean(),
    }
    _, measured = trainer.loss(batch)
    for name, number in wanted.items():
        assert measured[name] == pytest.approx(number, rel=1e-4, abs=1e-6), name


def choices(trainer: Any, task: int = 0) -> list[int]:
    """What the network does in both states."""
    flags = torch.eye(2, dtype=torch.uint8)[:, None, :, None]
    return trainer.network(flags, torch.full((2,), task)).argmax(1).tolist()


@pytest.mark.parametrize("algorithm", ["iql", "bcq"])
def test_it_learns_what_pays_later(algorithm: str, data: Path) -> None:
    """The data take action 0 in most states; a copy of them would, too."""
    trainer = trainer_of(data, algorithm=algorithm, learning_rate=3e-2, total_steps=1000)
    for _ in range(8):
        trainer.update()
    assert choices(trainer)[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["iql", "bcq"])
def test_two_tasks_that_look_the_same_learn_their_own(algorithm: str, data: Path) -> None:
    trainer = trainer_of(data, algorithm=algorithm, **TWO)
    for _ in range(30):
        trainer.update()
    # Where the detour costs, what pays at once is best.
    assert [choices(trainer, task)[0] for task in range(2)] == [1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["iql", "bcq"])
@pytest.mark.parametrize("paths", [True, False])
def test_only_their_pathways_tell_tasks_apart(algorithm: str, paths: bool, data: Path) -> None:
    """As above, without dendrites: a network that shares all synapses does one thing in both."""
    network = {"hidden": 32, "dendrite_segments": 0, "time_steps": 2}
    pruning = {"pruning": {**PATHS, "end": 0.2}} if paths else {}
    trainer = trainer_of(
        data, algorithm=algorithm, total_steps=400, **{**TWO, "network": network}, **pruning
    )
    for _ in range(40):
        trainer.update()
    chosen = [choices(trainer, task)[0] for task in range(2)]
    assert chosen == [1, 0] if paths else chosen[0] == chosen[1]


@pytest.mark.slow
def test_copying_the_data_is_what_it_does_without_advantages(data: Path) -> None:
    trainer = trainer_of(data, offline={"sharpness": 0.0})
    for _ in range(20):
        trainer.update()
    assert choices(trainer)[0] == 0


@pytest.mark.parametrize(("algorithm", "critics"), [("iql", 5), ("bcq", 3)])
def test_layer_norm_is_in_all_critics_and_their_targets(
    algorithm: str, critics: int, data: Path
) -> None:
    trainer = trainer_of(data, algorithm=algorithm, offline={"critic_layer_norm": True})
    norms = [one for one in trainer.critics.modules() if isinstance(one, torch.nn.LayerNorm)]
    # iql: of states, two of actions, their two targets; bcq: of actions, its target, the model.
    assert [one.normalized_shape for one in norms] == [(8,)] * critics
    trainer.update()
    assert all(bool((one.weight != 1).any()) for one in norms)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"algorithm": "bcq", **TWO, "pruning": PATHS},
        pytest.param({**TWO, "schedule": "sequential"}, marks=pytest.mark.slow),
        pytest.param(
            {**TWO, "pruning": {**PATHS, "pretrain_steps": 10}},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(changes: dict[str, Any], data: Path) -> None:
    one, other = trainer_of(data, **changes), trainer_of(data, **changes)
    assert one.update() == other.update()
    resumed: Any = make_trainer(config(data, **changes), resumed=True)
    assert resumed.restore(other.state()) == ()
    for _ in range(2):
        assert one.update() == resumed.update()
    for own, back in ((one.network, resumed.network), (one.critics, resumed.critics)):
        again = back.state_dict()
        assert all(torch.equal(value, again[name]) for name, value in own.state_dict().items())
    assert one.measurements() == resumed.measurements()


def test_each_task_in_turn_begins_with_the_whole_learning_rate(data: Path) -> None:
    changes: dict[str, Any] = {**TWO, "schedule": "sequential", "final_learning_rate_fraction": 0.0}
    one, other = trainer_of(data, **changes), trainer_of(data, **changes)
    rates = []
    for _ in range(4):
        one.update()
        rates.append(one.optimizer.param_groups[0]["lr"])
    # Two updates a task, of a fall to 0.
    assert rates == pytest.approx([1e-2, 5e-3] * 2)
    # A run that was stopped between the tasks goes on as this one did.
    other.update()
    other.update()
    resumed: Any = make_trainer(config(data, **changes), resumed=True)
    resumed.restore(other.state())
    resumed.update()
    resumed.update()
    again = resumed.network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in one.network.state_dict().items())


def test_paths_are_chosen_once_and_stay(data: Path) -> None:
    trainer = trainer_of(data, **TWO, pruning=PATHS)
    trainer.update()
    paths = trainer.network.hidden.paths.clone()
    assert [int(own.sum()) for own in paths] == [12, 12]
    assert not torch.equal(paths[0], paths[1])
    trainer.update()
    assert torch.equal(trainer.network.hidden.paths, paths)
    measured = trainer.measurements()
    assert measured["path_density"] == {"hidden.far": 0.5, "hidden.near": 0.5}


def test_scores_are_of_the_actors_loss(data: Path) -> None:
    trainer = trainer_of(data)
    batch = trainer.drawn((0,), 16)
    assert float(trainer.scored(batch).loss(trainer.network)) == pytest.approx(
        trainer.loss(batch)[1]["actor_loss"], rel=1e-5
    )


def pendulum() -> Task:
    """Pendulum's task, with statistics of somebody else."""
    return at_statistics(world_task(Environment("Pendulum-v1")), (0.5,) * 3, (2.0,) * 3)


def numbers(folder: Path) -> Path:
    """Pendulum's data: actions follow what is seen."""
    task, generator = pendulum(), np.random.default_rng(1)
    episodes = []
    for _ in range(4):
        shown = generator.normal(size=(31, 3)) * (1, 2, 8) + (0, 0, 3)
        actions = np.clip(shown[:-1, :1], -2, 2).astype(np.float32)
        episodes.append(RecordedEpisode(shown, actions, np.ones(30), ended=False))
    write_dataset(folder, Origin(task, None), episodes)
    return folder


def test_numbers_are_relative_to_the_data(tmp_path: Path) -> None:
    trainer = trainer_of(numbers(tmp_path), games=["Pendulum-v1"])
    shown = np.concatenate([one.shown for one in trainer._data[0].episodes])
    seen = trainer.agent().tasks[0].environment.found
    assert seen.mean == pytest.approx(shown.mean(0))
    assert seen.deviation == pytest.approx(shown.std(0))
    batch = trainer.of_tasks[0].at(torch.tensor([0, 29, 30]))
    # A row more than decisions in each episode.
    assert np.array_equal(batch.frames.numpy(), as_messages(shown[[0, 29, 31]], seen))
    assert np.array_equal(batch.next_frames.numpy(), as_messages(shown[[1, 30, 32]], seen))
    assert batch.actions[:, 0].numpy() == pytest.approx(np.clip(shown[[0, 29, 31], 0], -2, 2) / 2)
    # Cut off, so what it showed last counts.
    assert batch.terminal.tolist() == [0, 0, 0]
    gaussian = trainer.critics["actor"]
    values = trainer.network(batch.frames, batch.task)
    apart = (batch.actions - torch.tanh(values)).detach().double().numpy()[:, 0] / 0.6
    wanted = -0.5 * apart**2 - np.log(0.6) - 0.5 * np.log(2 * np.pi)
    assert gaussian.log_chances(values, batch).detach().numpy() == pytest.approx(wanted, abs=1e-5)
    trainer.update()


@pytest.mark.slow
def test_numbers_are_learned_and_resumed(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "games": ["Pendulum-v1"],
        "network": {"hidden": 24, "dendrite_segments": 0, "time_steps": 4},
        "pruning": {**PATHS, "density": 0.8},
        "total_steps": 300,
    }
    path = numbers(tmp_path)
    one, other = trainer_of(path, **changes), trainer_of(path, **changes)
    for _ in range(15):
        assert one.update() == other.update()
    resumed: Any = make_trainer(config(path, **changes), resumed=True)
    resumed.restore(other.state())
    assert one.update() == resumed.update()
    batch = one.of_tasks[0].at(torch.arange(120))
    error = torch.tanh(one.network(batch.frames, batch.task)) - batch.actions
    assert float(error.detach().square().mean()) < 0.25 * float(batch.actions.square().mean())


def test_masks_bound_the_policy(tmp_path: Path) -> None:
    """An action that was not allowed has no chance, whatever the network says."""
    register_door()
    try:
        task, made = world_task(Environment("Door-v0")), Door()
        generator, episodes = np.random.default_rng(0), []
        for seed in range(6):
            state, info = made.reset(seed=seed)
            shown, masks, actions, ended = [state], [info["action_mask"]], [], False
            while not ended:
                actions.append(int(generator.choice(np.flatnonzero(masks[-1]))))
                state, _, ended, _, info = made.step(actions[-1])
                shown.append(state)
                masks.append(np.ones(3) if ended else info["action_mask"])
            rewards = np.array(actions, np.float64)
            flags = np.eye(4, dtype=np.uint8)[shown]
            one = RecordedEpisode(flags, np.array(actions), rewards, True, np.stack(masks) != 0)
            episodes.append(one)
        write_dataset(tmp_path, Origin(task, None), episodes)
        trainer = trainer_of(tmp_path, games=["Door-v0"])
        batch = trainer.of_tasks[0].at(torch.arange(len(trainer.of_tasks[0])))
        wanted = np.concatenate([one.masks[:-1] for one in episodes if one.masks is not None])
        assert np.array_equal(batch.allowed.numpy(), wanted)
        assert not wanted.all()
        values = trainer.network(batch.frames, batch.task)
        chances = trainer.critics["actor"].log_chances(values, batch).exp().detach().numpy()
        scores = np.exp(values.detach().double().numpy()) * wanted
        shares = scores / scores.sum(1, keepdims=True)
        played = np.concatenate([one.actions for one in episodes])
        assert chances == pytest.approx(shares[np.arange(len(shares)), played], rel=1e-5)
        trainer.update()
        other: Any = trainer_of(tmp_path, games=["Door-v0"], algorithm="bcq")
        other.update()
        best = other.best(batch.frames, batch.task, batch.allowed)
        assert wanted[np.arange(len(wanted)), best.numpy()].all()
    finally:
        gymnasium.registry.pop("Door-v0")


def test_data_with_other_masks_is_refused(tmp_path: Path) -> None:
    task = world_task(Environment("Detour-v0"))
    assert task.environment is not None
    masked = replace(task, environment=replace(task.environment, masked=True))
    write_dataset(tmp_path, Origin(masked, None), detours(task, 3))
    with pytest.raises(BadRequestError, match="recorded with masked True, this run has False"):
        trainer_of(tmp_path)


def test_a_run_in_its_folder(tmp_path: Path, data: Path) -> None:
    result = train(config(data), tmp_path / "run")
    assert (result.steps, result.unit) == (40, "gradient steps")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    assert [line["steps"] for line in lines if "steps" in line] == [10, 20, 30, 40]
    assert set(lines[-1]["iql"]) > {"value_loss", "judges_loss", "actor_loss", "advantage"}
    agent = load_agent(result.path)
    told = agent.training["data"]["Detour-v0"]
    assert told["episodes"] == 60
    assert list(agent.training["config"]["offline"]["data"]) == [str(data)]


def test_other_data_than_before_is_refused(tmp_path: Path, data: Path) -> None:
    task = world_task(Environment("Detour-v0"))
    write_dataset(tmp_path / "a", Origin(task, None), detours(task, seed=1))
    state = trainer_of(data).state()
    resumed: Any = make_trainer(config(tmp_path / "a"), resumed=True)
    with pytest.raises(BadRequestError, match="another one than this run has learned from"):
        resumed.restore(state)
    train(config(data), tmp_path / "run")
    # Its checkpoint is sound, so nothing is said of it.
    with pytest.raises(BadRequestError, match=r"^offline\.data: .* another folder for a new run$"):
        train(config(tmp_path / "a"), tmp_path / "run")


def test_data_of_another_world_is_refused(tmp_path: Path) -> None:
    task = world_task(Environment("Detour-v0", arguments={"pays": 3.0}))
    write_dataset(tmp_path, Origin(task, None), detours(task))
    with pytest.raises(BadRequestError, match=r"arguments \{'pays': 3.0\}, this run has \{\}"):
        trainer_of(tmp_path)


def test_what_does_not_fit_the_task_is_refused(tmp_path: Path) -> None:
    task = world_task(Environment("Detour-v0"))
    one = detours(task, 1)[0]
    count = len(one)
    wrong = {
        "has actions that Detour-v0 has not": replace(one, actions=np.full(count, 7)),
        r"of shape \(3,\), Detour-v0 shows \(2,\)": replace(one, shown=np.zeros((count + 1, 3))),
    }
    for number, (reason, episode) in enumerate(wrong.items()):
        folder = tmp_path / str(number)
        write_dataset(folder, Origin(task, None), [episode])
        with pytest.raises(BadFileError, match=reason):
            trainer_of(folder)


def test_numbers_out_of_their_bounds_are_refused(tmp_path: Path) -> None:
    task = pendulum()
    actions = np.array([[2.0], [2.5]], np.float32)
    one = RecordedEpisode(np.zeros((3, 3)), actions, np.ones(2), ended=False)
    write_dataset(tmp_path, Origin(task, None), [one])
    with pytest.raises(BadFileError, match="out of the bounds of Pendulum-v1"):
        trainer_of(tmp_path, games=["Pendulum-v1"])


@pytest.mark.slow
def test_a_game_of_ale_learns_from_frame_stacks(tmp_path: Path) -> None:
    generator, task = np.random.default_rng(0), Task("pong", "pong", (0, 1, 3, 4, 11, 12))
    protocol = GameProtocol(screen_size=36)
    shown = generator.integers(0, 256, (9, 4, 36, 36), dtype=np.uint8)
    one = RecordedEpisode(shown, np.array([0, 3] * 4), np.ones(8), ended=False)
    write_dataset(tmp_path, Origin(task, protocol), [one])
    changes: dict[str, Any] = {
        "games": ["pong"],
        "protocol": {"screen_size": 36},
        "replay": {"batch_size": 2},
        "network": {"hidden": 8, "time_steps": 2},
        "rollout_steps": 2,
    }
    trainer = trainer_of(tmp_path, **changes)
    batch = trainer.of_tasks[0].at(torch.tensor([3]))
    assert np.array_equal(batch.next_frames[0].numpy(), shown[4])
    trainer.update()
    with pytest.raises(BadRequestError, match="recorded with frame_skip 4, this run has 2"):
        trainer_of(tmp_path, **{**changes, "protocol": {"screen_size": 36, "frame_skip": 2}})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"offline": {"data": []}}, "learns from recorded data; record some"),
        ({"offline": {"data": ["a", "b"]}}, "offline.data has 2 entries for 1 games"),
        ({"offline": {"expectile": 1.0}}, "expectile is 1.0"),
        ({"offline": {"threshold": 2.0}}, "threshold is 2.0"),
        ({"offline": {"sharpness": -1.0}}, "sharpness is -1.0"),
        ({"offline": {"critic_layers": [0]}}, "critic_layers is"),
        ({"quantisation_aware": True}, "quantisation_aware: is of runs that play"),
        ({"schedule": "performance"}, "schedule performance: is of runs that play"),
        ({"rescale_values": True}, "rescale_values: is of action values"),
        ({"network": {"dueling": True}}, "network.dueling: is of action values"),
        ({"algorithm": "bcq", "games": ["Pendulum-v1"]}, "takes numbers"),
        ({"games": ["Pendulum-v1", "CartPole-v1"]}, "one of a list of actions"),
        (
            {"pruning": {**PATHS, "freeze_returns": [1.0]}},
            "pruning.freeze_returns: is of runs that play",
        ),
        (
            {"pruning": {**PATHS, "freeze_success": 0.5}},
            "pruning.freeze_success: is of runs that play",
        ),
    ],
)
def test_what_no_data_can_teach_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        config(Path("d"), **changes)


def test_fields_without_effect_are_named() -> None:
    made = config(Path("d"), games_per_task=[3], offline={"threshold": 0.5})
    said = "; ".join(notes(made))
    assert "games_per_task: no effect, the algorithm is iql" in said
    assert "offline.threshold: no effect" in said
    assert made.copies == (1,)
    assert "offline" not in "".join(notes(TrainConfig()))


def test_a_run_that_diverges_stops(data: Path) -> None:
    trainer = trainer_of(data)
    with torch.no_grad():
        trainer.critics["value"].layers[0].weight.fill_(torch.inf)
    with pytest.raises(DivergedError):
        trainer.update()


def test_a_missing_dataset_is_one_line_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--game", "CartPole-v1", "--set", "algorithm=iql", "--set", f"offline.data={tmp_path}")
    assert call(tmp_path / "run", *words, "--set", "network.dueling=false", recipe="cartpole") == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}: holds no dataset of CartPole-v1; record one" in said
    assert not (tmp_path / "run").exists()


def test_statistics_of_an_agent_that_it_starts_from_stay(tmp_path: Path) -> None:
    """Its weights know numbers relative to these; a resumed run needs it no more."""
    task = cartpole()
    generator = np.random.default_rng(0)
    shown, actions = generator.normal(size=(9, 4)), generator.integers(0, 2, 8)
    one = RecordedEpisode(shown, actions, np.ones(8), ended=True)
    write_dataset(tmp_path, Origin(task, None), [one])
    first: Any = trainer_of(tmp_path, games=["CartPole-v1"])
    agent = first.agent()
    agent.tasks = (task,)
    from mtspark.train.checkpoint import save_agent

    save_agent(agent, tmp_path / "a.pt")
    second = config(tmp_path, games=["CartPole-v1"], start_from=str(tmp_path / "a.pt"))
    begun: Any = make_trainer(second)
    assert begun.agent().tasks[0].environment == task.environment
    begun.update()
    (tmp_path / "a.pt").unlink()
    resumed: Any = make_trainer(second, resumed=True)
    # A file holds copies.
    resumed.restore(deepcopy(begun.state()))
    assert resumed.agent().tasks[0].environment == task.environment
    assert resumed.update() == begun.update()


@pytest.mark.parametrize(
    ("name", "needs"), [("minigrid-mt3", "minigrid"), ("halfcheetah-pair", "mujoco")]
)
def test_offline_recipes_find_paths_of_the_network_that_they_follow(name: str, needs: str) -> None:
    folder = Path(__file__).parents[3]
    online = {
        "minigrid-mt3": folder / "examples/recipes/minigrid-mt3-ppo.toml",
        "halfcheetah-pair": "halfcheetah-pair",
    }[name]
    recipe, followed = (
        read_recipe(one) for one in (folder / f"examples/recipes/{name}-offline.toml", online)
    )
    for field in ("games", "environments", "task_context"):
        assert recipe.get(field) == followed.get(field), field
    # Of HalfCheetah, a network of one layer follows one of two.
    assert recipe["network"].items() <= followed["network"].items()
    assert recipe["pruning"]["density"] == 0.05
    pytest.importorskip(
        needs, reason="an optional extra; a recipe is checked by the spaces of its environments"
    )
    made = to_config(
        override(recipe, ["pruning.layers=all", "pruning.method=pathways"]), f"{name}-offline"
    )
    assert isinstance(made, TrainConfig)
    assert made.learns_offline
    assert made.network.pathway_layers == ("hidden",)
    assert not [note for note in notes(made) if "no effect" in note]
    looks = replace(made, pruning=replace(made.pruning, score_window=9))
    assert "pruning.score_window: no effect, iql chooses each path once" in notes(looks)


def test_numbers_that_bcq_cannot_learn_are_sent_to_iql() -> None:
    fields = {"games": ["Pendulum-v1"], "algorithm": "bcq", "offline": {"data": ["d"]}}
    with pytest.raises(BadRequestError, match=r'algorithm bcq learns one .* algorithm = "iql"$'):
        to_config(fields, "recipe")
