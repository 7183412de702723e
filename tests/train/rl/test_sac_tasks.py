"""Soft actor-critic on several tasks: entropy, memory, numbers and paths of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import mtspark
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.engine import EngineChip
from mtspark.sim.play import play
from mtspark.train.checkpoint import load_agent
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.rl.run import make_trainer, train
from mtspark.train.runs.callbacks import RunCallback
from tests.support.worlds import register_two

pytest.importorskip("stable_baselines3")

FIELDS: dict[str, Any] = {
    "games": ["Pendulum-v1", "Two-v0"],
    "algorithm": "sac",
    "environments": [{"id": "Pendulum-v1", "max_steps": 5}],
    "games_per_task": 2,
    "rollout_steps": 3,
    "total_steps": 60,
    "reward_clipping": False,
    "replay": {"capacity": 30, "warmup": 6, "batch_size": 4, "update_every": 6},
    "sac": {"critic_layers": [8]},
    "network": {"hidden": 6, "dendrite_segments": 0, "time_steps": 3},
    "final_learning_rate_fraction": 1.0,
    "checkpoint_every_steps": 12,
}
PATHS = {"layers": ["hidden"], "method": "pathways", "density": 0.3, "start": 0.0, "end": 0.9}


@pytest.fixture(autouse=True, scope="module")
def named() -> Iterator[None]:
    register_two()
    yield
    del gymnasium.registry["Two-v0"]


def config(**changes: Any) -> TrainConfig:
    made = to_config({**FIELDS, **changes}, "recipe")
    assert isinstance(made, TrainConfig)
    return made


def learning() -> Any:
    trainer: Any = make_trainer(config())
    for _ in range(3):
        trainer.update()
    return trainer


def test_each_task_has_its_own_entropy_and_numbers() -> None:
    trainer = learning()
    actor, task = trainer.learner.actor, trainer.task_of_copy()
    assert task.tolist() == [0, 0, 1, 1]
    seen = torch.from_numpy(trainer._seen())
    assert seen.shape == (4, 3 + 4 + 2)
    mean, _, _ = actor.get_action_dist_params(seen)
    # The network that learns sees the frames of the one that plays.
    assert torch.allclose(mean, trainer.network(trainer.observe(), task))
    with torch.no_grad():
        actor.temperatures.logarithms.copy_(torch.tensor([0.5, -1.0]))
        actor.log_std.copy_(torch.tensor([[0.1, 9.0], [-0.3, 0.2]]))
    deviations = np.exp([0.1]), np.exp([-0.3, 0.2])
    assert [list(row) for row in trainer.learner.deviation] == [
        pytest.approx(list(row)) for row in deviations
    ]
    action, weighed = actor.action_log_prob(seen)
    assert action[:2, 1].tolist() == [0, 0]
    chances = []
    for row in range(4):
        own, chance = int(task[row]), 0.0
        for place in range(own + 1):
            spread = deviations[own][place]
            number = action[row, place].item()
            apart = (np.arctanh(number) - mean[row, place].item()) / spread
            density = np.exp(-(apart**2) / 2) / (spread * np.sqrt(2 * np.pi) * (1 - number**2))
            chance += np.log(density)
        chances.append(chance)
        assert weighed[row].item() == pytest.approx(
            np.exp([0.5, -1.0][own]) * chance, abs=0.02, rel=0.01
        )
    judged_task, judged = actor.judged
    assert judged_task.tolist() == task.tolist()
    assert judged.tolist() == pytest.approx(chances, abs=0.02, rel=0.01)


def test_a_temperature_rises_where_its_own_entropy_is_too_low() -> None:
    from mtspark.train.rl.policy import Temperatures

    own = Temperatures(0.2, [-1.0, -2.0], torch.device("cpu"))
    # Mean logarithms of 3 and -5: entropies of -3, below -1, and of 5, above -2.
    own.learn(torch.tensor([0, 0, 1, 1]), torch.tensor([2.0, 4.0, -4.0, -6.0]), 0.01)
    moved = own.logarithms.detach() - np.log(0.2)
    # The first step of Adam is the learning rate against the sign of the gradient.
    assert moved.tolist() == pytest.approx([0.01, -0.01], abs=1e-5)


def test_each_task_has_its_own_memory_and_share_of_a_batch() -> None:
    trainer = learning()
    assert [len(memory) for memory in trainer.memories] == [18 - 2, 18 - 2]
    batch = trainer.learner._draws.sample(4)
    assert batch.observations[:, -2:].argmax(1).tolist() == [0] * 4 + [1] * 4
    assert (batch.actions[:4, 1] == 0).all()
    stored = trainer.memories[1]._stored["seen"][:16]
    # The second task stands behind the three numbers of the first.
    assert (stored[:, :3] == 0).all()
    assert stored[:, 3:7].abs().max() > 0


def test_both_tasks_play_on_the_chip_as_on_the_reference(tmp_path: Path) -> None:
    result = train(config(), tmp_path / "run")
    agent = load_agent(result.path)
    sizes = [task.environment.box.size for task in agent.tasks if task.environment]  # type: ignore[union-attr]
    assert sizes == [1, 2]
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])["sac"]
    assert {"temperature Pendulum-v1", "temperature Two-v0", "value 1 Two-v0"} <= set(last)
    assert "value 1 Pendulum-v1" not in last
    network = mtspark.export(result.path).network
    for task in network.tasks:
        seen: list[Any] = []
        options: dict[str, Any] = {"episodes": 2, "seed": 3, "max_decisions": 4}
        fast = play(
            EngineChip(network), network, task.name, **options, trace=True, observe=seen.append
        )
        slow = play(ReferenceChip(network), network, task.name, **options)
        assert fast.episodes == slow.episodes
        chip = ReferenceChip(network)
        chip.start(2)
        row = network.task_index(task.name)
        for moment in seen:
            expected = chip.decide(moment.frames, row, trace=True).trace
            assert expected is not None
            for name, spikes in expected.spikes.items():
                assert np.array_equal(moment.decision.trace.spikes[name], spikes)


@pytest.mark.slow
def test_a_resumed_run_of_several_tasks_is_the_uninterrupted_one(tmp_path: Path) -> None:
    class Stop(RunCallback):
        def on_checkpoint(self, run: Any) -> None:
            if run.reached >= 24:
                raise InterruptedError

    # The schedule of paths is of the whole run, so a shorter one is another run.
    asked = config(pruning={**PATHS, "every_updates": 2})
    train(asked, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(asked, tmp_path / "parts", callbacks=(Stop(),))
    train(asked, tmp_path / "parts")
    one, other = (load_agent(tmp_path / name / "agent.pt") for name in ("whole", "parts"))
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name])
    assert one.tasks == other.tasks


def test_paths_form_for_each_task() -> None:
    trainer: Any = make_trainer(
        config(pruning={**PATHS, "every_updates": 1}, network={**FIELDS["network"], "hidden": 12})
    )
    layer = trainer.network.layer("hidden")
    assert layer.paths.all()
    for _ in range(3):
        trainer.update()
    size = layer.paths[0].numel()
    wanted = round(0.3 * size)
    assert [int(path.sum()) for path in layer.paths] == pytest.approx([wanted, wanted], abs=2)
    # A task's loss depends on synapses from what it sees, which are not the other's.
    first, second = layer.paths.flatten(2).float().sum(1)
    assert first[3:].sum() == 0
    assert second[:3].sum() == 0
    measured = trainer.measurements()
    assert measured["path_overlap"]["Pendulum-v1/Two-v0"] == 0
    before = layer.paths.clone()
    for _ in range(4):
        trainer.update()
    assert not torch.equal(before, layer.paths)


class Aim(gymnasium.Env[Any, Any]):
    """Shows two numbers anew in each of 8 decisions; one of them is the action that pays best."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, which: int = 0) -> None:
        self.which, self.age = which, 0
        self.shown = np.zeros(2, np.float32)

    def _look(self) -> Any:
        self.shown = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.shown

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.age = 0
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        missed = abs(float(action[0]) - float(self.shown[self.which]))
        self.age += 1
        return self._look(), -missed, False, self.age == 8, {}


@pytest.mark.slow
@pytest.mark.parametrize("paths", [True, False])
def test_only_their_pathways_tell_tasks_apart(paths: bool) -> None:
    """To follow one number loses 8 / 3 a task in the mean of two; a still actor loses 4."""
    gymnasium.register("Aim-v0", Aim, disable_env_checker=True)
    found = {**PATHS, "density": 0.5, "end": 0.3, "every_updates": 1}
    asked = config(
        games=["first", "second"],
        environments=[
            {"name": name, "id": "Aim-v0", "arguments": {"which": number}}
            for number, name in enumerate(("first", "second"))
        ],
        rollout_steps=25,
        total_steps=4_000,
        learning_rate=3e-3,
        discount=0.5,
        bfloat16=False,
        replay={"capacity": 4_000, "warmup": 100, "batch_size": 32, "update_every": 4},
        sac={"critic_layers": [32]},
        network={"hidden": 64, "dendrite_segments": 0, "time_steps": 4},
        **({"pruning": found} if paths else {}),
    )
    try:
        trainer = make_trainer(asked)
        while not trainer.finished:
            trainer.update()
    finally:
        del gymnasium.registry["Aim-v0"]
    returns = [value for value in trainer.games.mean_returns().values() if value is not None]
    assert len(returns) == 2
    assert min(returns) > -1.8 if paths else max(returns) < -2.2


def test_a_path_is_scored_by_the_actors_loss() -> None:
    """Against |w dL/dw| of the loss, temperature times logarithm minus the lower critic."""
    from mtspark.train.sparsity import path_scores

    trainer = learning()
    trainer._recent.append(torch.from_numpy(trainer._seen()))
    own = trainer.last_transitions().of_task(1)
    assert len(own.seen) == 2
    torch.manual_seed(5)
    scores = path_scores(trainer.network, lambda: own.loss(trainer.network), {"hidden": 1.0})
    layer = trainer.network.layer("hidden")
    weight = layer.shared_weight().detach().requires_grad_()
    layer.trial = weight
    torch.manual_seed(5)
    action, weighed = trainer.learner.actor.action_log_prob(own.seen)
    lower = torch.cat(trainer.learner._sac.critic(own.seen, action), 1).min(1).values
    (gradient,) = torch.autograd.grad((weighed - lower).mean(), [weight])
    layer.trial = None
    expected = (gradient * weight).abs()
    assert torch.allclose(scores["hidden"], expected / expected.sum(), atol=1e-6)
