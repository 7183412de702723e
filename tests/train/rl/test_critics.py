"""Layer norm in critics: beside NumPy, in every algorithm that has them, and under ReDo."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.policies import ContinuousCritic
from torch import nn

from mtspark.core.errors import BadRequestError
from mtspark.train.config import TrainConfig, config_to_json, to_config
from mtspark.train.networks import NetworkConfig
from mtspark.train.plasticity import renew_plain
from mtspark.train.rl.critic import Critic, with_layer_norm
from mtspark.train.rl.policy import Learner
from mtspark.train.rl.run import make_trainer

NETWORK = NetworkConfig((1, 3, 1), convolutions=(), hidden=4, actions=2, tasks=1, input="values")
PENDULUM: dict[str, Any] = {
    "games": ["Pendulum-v1"],
    "environments": [{"id": "Pendulum-v1", "max_steps": 6}],
    "games_per_task": 2,
    "rollout_steps": 3,
    "total_steps": 600,
    "minibatches": 1,
    "reward_clipping": False,
    "replay": {"capacity": 60, "warmup": 6, "batch_size": 4, "update_every": 6},
    "network": {"hidden": 6, "dendrite_segments": 0, "time_steps": 2},
}


def trainer_of(algorithm: str, *, normed: bool) -> Any:
    own = {"critic_layers": [8, 6], "critic_layer_norm": normed}
    made = to_config({**PENDULUM, "algorithm": algorithm, algorithm: own}, "recipe")
    assert isinstance(made, TrainConfig)
    return make_trainer(made)


def normalised(values: np.ndarray) -> np.ndarray:
    spread = np.sqrt(values.var(1, keepdims=True) + 1e-5)
    return (values - values.mean(1, keepdims=True)) / spread


def array(parameter: torch.Tensor) -> np.ndarray:
    return parameter.detach().numpy()


def test_hidden_layers_are_normalised_as_numpy_does_and_the_outputs_are_not() -> None:
    critic = Critic(NETWORK, (5, 4), outputs=2, activation=nn.ReLU, layer_norm=True)
    frames = torch.randint(-127, 127, (7, 1, 3, 1))
    linear = [one for one in critic.layers if isinstance(one, nn.Linear)]
    values = np.concatenate([frames.reshape(7, 3).numpy() / 32, np.ones((7, 1))], 1)
    for layer in linear[:-1]:
        currents = values @ array(layer.weight).T + array(layer.bias)
        values = np.maximum(normalised(currents), 0)
    values = values @ array(linear[-1].weight).T + array(linear[-1].bias)
    found = critic(frames, torch.zeros(7, dtype=torch.long))
    np.testing.assert_allclose(array(found), values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_critics_are_normalised_only_where_it_is_asked_for_and_the_norms_learn(
    algorithm: str,
) -> None:
    plain, trainer = trainer_of(algorithm, normed=False), trainer_of(algorithm, normed=True)

    def norms(of: Any) -> list[nn.LayerNorm]:
        modules = of.learned()["critic"].modules()
        return [one for one in modules if isinstance(one, nn.LayerNorm)]

    assert not norms(plain)
    found = norms(trainer)
    critics = {"sac": 2, "ppo": 1}[algorithm]
    assert [one.normalized_shape for one in found] == [(8,), (6,)] * critics
    for _ in range(3):
        trainer.update()
    assert all(bool((one.weight != 1).any()) for one in found)


def test_slow_critics_follow_the_norms_and_a_state_brings_them_back() -> None:
    trainer = trainer_of("sac", normed=True)
    for _ in range(3):
        trainer.update()
    learner: Learner = trainer.learner
    slow = learner._sac.critic_target.q_networks
    assert isinstance(slow[1][1], nn.LayerNorm)
    assert not torch.equal(slow[1][1].bias, torch.zeros(8))
    other: Learner = trainer_of("sac", normed=True).learner
    other.restore(learner.state())
    inputs = torch.randn(5, 3 + 1 + 1)
    assert torch.equal(other.critics[1](inputs), learner.critics[1](inputs))


def test_a_unit_that_its_norm_keeps_silent_is_renewed() -> None:
    layers = with_layer_norm(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)))
    assert [type(one) for one in layers] == [nn.Linear, nn.LayerNorm, nn.ReLU, nn.Linear]
    norm, last = layers[1], layers[3]
    assert isinstance(norm, nn.LayerNorm)
    assert isinstance(last, nn.Linear)
    inputs = torch.randn(32, 3)
    with torch.no_grad():
        norm.weight[2], norm.bias[2] = 0.1, -9.0
    assert renew_plain(layers, inputs, 0.001) == 1
    assert (norm.weight == 1).all()
    assert (norm.bias == 0).all()
    assert not last.weight[:, 2].any()
    assert layers[:3](inputs)[:, 2].any()


def test_files_of_runs_without_it_stay_as_they_were() -> None:
    config = TrainConfig()
    for name in ("sac", "ppo", "offline"):
        table = getattr(config, name)
        wider = replace(config, **{name: replace(table, critic_layers=(9,))})
        assert "critic_layer_norm" not in config_to_json(wider)[name]
        normed = replace(config, **{name: replace(table, critic_layer_norm=True)})
        assert config_to_json(normed)[name]["critic_layer_norm"] is True


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_cut_synapses_of_critics_stay_cut_while_they_learn_and_resume(algorithm: str) -> None:
    pruning = {
        **{"layers": ["hidden"], "scope": "critics", "density": 0.25, "start": 0.0},
        **{"end": 0.01, "every_updates": 1},
    }
    own = {"critic_layers": [8, 6]}
    fields = {**PENDULUM, "algorithm": algorithm, algorithm: own, "pruning": pruning}
    made = to_config(fields, "recipe")
    assert isinstance(made, TrainConfig)
    trainer: Any = make_trainer(made)
    for _ in range(3):
        trainer.update()
    densities = trainer.measurements()["critic_density"]
    assert len(densities) == (6 if algorithm == "sac" else 3)
    # Of 8 times 5 or 4, 6 times 8 and 6 weights; a quarter of each layer, in whole synapses.
    assert set(densities.values()) == {0.25, 2 / 6}
    linear = [one for one in trainer.learned()["critic"].modules() if isinstance(one, nn.Linear)]
    before = [one.weight.detach().clone() for one in linear]
    for _ in range(2):
        trainer.update()
    for old, layer in zip(before, linear, strict=True):
        assert torch.equal(layer.weight == 0, old == 0)
        assert not torch.equal(layer.weight, old)
    if algorithm == "sac":
        for name, layer in trainer.learner._sac.critic_target.named_modules():
            if isinstance(layer, nn.Linear):
                fast = trainer.learner._sac.critic.get_submodule(name)
                assert torch.equal(layer.weight == 0, fast.weight == 0)
    resumed: Any = make_trainer(made, resumed=True)
    resumed.learner.restore(trainer.learner.state())
    again = [one for one in resumed.learned()["critic"].modules() if isinstance(one, nn.Linear)]
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(linear, again, strict=True))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"algorithm": "iql"}, "those of sac and ppo are cut"),
        ({"algorithm": "sac", "plasticity": {"redo_every": 2}}, "new weights where synapses"),
        ({"algorithm": "sac", "pruning": {"scope": "critics", "method": "static"}}, "magnitude"),
    ],
)
def test_critics_that_cannot_be_cut_are_refused(changes: dict[str, Any], problem: str) -> None:
    fields = {**PENDULUM, "pruning": {"layers": ["hidden"], "scope": "critics"}, **changes}
    with pytest.raises(BadRequestError, match=problem):
        to_config(fields, "recipe")


def test_the_loss_of_the_actor_asks_the_critics_for_the_gradient_of_actions_alone() -> None:
    critic = trainer_of("sac", normed=True).learner.critic
    seen, actions = torch.randn(7, 4), torch.rand(7, 1).requires_grad_()
    by_library, by_ours = (
        torch.autograd.grad(sum(one.sum() for one in forward(seen, actions)), actions)[0]
        for forward in (lambda *given: ContinuousCritic.forward(critic, *given), critic)
    )
    assert torch.equal(by_library, by_ours)
    assert bool((by_ours != 0).any())

    critic.optimizer.zero_grad()
    sum(one.sum() for one in critic(seen, actions)).backward()
    assert all(one.grad is None for one in critic.parameters())
    sum(one.sum() for one in critic(seen, actions.detach())).backward()
    assert all(one.grad is not None for one in critic.parameters())


def test_an_optimizer_of_a_run_that_was_not_fused_goes_on() -> None:
    trainer = trainer_of("sac", normed=False)
    for _ in range(3):
        trainer.update()
    state = trainer.learner.critic.optimizer.state_dict()
    state["param_groups"][0].update(fused=None)
    trainer.learner.critic.optimizer.load_state_dict(state)
    before = [one.detach().clone() for one in trainer.learner.critic.parameters()]
    trainer.update()
    trainer.update()
    # As it was, to the bit: what is stored says how it steps.
    assert trainer.learner.critic.optimizer.param_groups[0]["fused"] is None
    after = list(trainer.learner.critic.parameters())
    assert any(bool((one != was).any()) for one, was in zip(after, before, strict=True))
