"""Plasticity of SAC's actor and critics: measures beside NumPy, new weights, turns alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mtspark.core.environments import MESSAGES_PER_DEVIATION
from mtspark.core.errors import BadRequestError
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.networks.network import NetworkTrace
from mtspark.train.plasticity import measure, play_transitions
from mtspark.train.rl.run import make_trainer

pytest.importorskip("stable_baselines3")

FIELDS: dict[str, Any] = {
    "games": ["Pendulum-v1"],
    "algorithm": "sac",
    "environments": [{"id": "Pendulum-v1", "max_steps": 6}],
    "games_per_task": 2,
    "rollout_steps": 3,
    "total_steps": 600,
    "reward_clipping": False,
    "replay": {"capacity": 60, "warmup": 6, "batch_size": 4, "update_every": 6},
    "sac": {"critic_layers": [8, 6]},
    "network": {"hidden": 10, "dendrite_segments": 0, "time_steps": 3},
    "final_learning_rate_fraction": 1.0,
}
TWICE = [{"id": "Pendulum-v1", "max_steps": 6, "name": name} for name in ("first", "second")]
TWO: dict[str, Any] = {
    "games": ["first", "second"],
    "environments": TWICE,
    "task_context": "one_hot",
    "network": {**FIELDS["network"], "pathway_layers": ["hidden"]},
}


def learning(updates: int = 3, **changes: Any) -> Any:
    made = to_config({**FIELDS, **changes}, "recipe")
    assert isinstance(made, TrainConfig)
    trainer: Any = make_trainer(made)
    for _ in range(updates):
        trainer.update()
    return trainer


def drawn(trainer: Any, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """What is measured on after the last update: of the memory, by a generator of its own."""
    generator = np.random.default_rng([trainer.config.seed, trainer.progress.updates])
    chosen = generator.integers(0, len(trainer.memories[0]), samples)
    stored = trainer.memories[0]._stored
    return stored["seen"][chosen].numpy(), stored["action"][chosen].numpy()


def dormant_share(activity: np.ndarray) -> float:
    sizes = np.abs(activity).mean(0)
    return float((sizes <= 0.001 * sizes.mean()).mean())


def rank(features: np.ndarray) -> int:
    values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    return int((np.cumsum(values) / values.sum() < 0.99).sum()) + 1


def test_actor_and_critics_are_measured_as_numpy_measures_them() -> None:
    trainer = learning(plasticity={"measure_every": 3, "samples": 12})
    network, observation = trainer.network, trainer.games.tasks[0].environment.found
    found = trainer.measurements()
    seen, action = drawn(trainer, 12)
    numbers = (seen[:, :-1] - np.array(observation.mean)) / np.array(observation.deviation)
    messages = np.rint(numbers * MESSAGES_PER_DEVIATION).clip(-127, 127)
    frames = torch.from_numpy(messages.astype(np.float32)).reshape(12, 1, -1, 1)
    task, trace = torch.zeros(12, dtype=torch.long), NetworkTrace()
    means = network(frames, task, trace)
    rates = trace.layers["hidden"].spikes.detach().float().mean(0).numpy()
    assert rates.any()
    assert found["plasticity"]["dormant_ratio"] == pytest.approx(dormant_share(rates))
    assert found["plasticity"]["effective_rank"] == rank(rates)
    # E |grad log pi|^2 over the Gaussian: |grad mean|^2 / deviation^2, and Monte Carlo beside it.
    parameters = list(network.parameters())
    squares = [
        sum(
            float((part.numpy() ** 2).sum())
            for part in torch.autograd.grad(
                mean, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        )
        for mean in means[:, 0]
    ]
    deviation = trainer.learner.deviation[0][0]
    exact = np.mean(squares) / deviation**2
    assert found["plasticity"]["fisher_trace"] == pytest.approx(exact, rel=1e-4)
    noise = np.random.default_rng(0).standard_normal(200_000) * deviation
    slopes = (noise / deviation**2) ** 2
    assert exact == pytest.approx(np.mean(squares) * slopes.mean(), rel=0.02)
    norm = float(np.linalg.norm(network.advantage.weight.detach().numpy()))
    assert found["weight_norm"]["advantage"] == pytest.approx(norm)
    shown = np.concatenate([messages / MESSAGES_PER_DEVIATION, seen[:, -1:], action], 1)
    for number, critic in enumerate(trainer.learner.critics):
        layers = [
            [part.detach().numpy() for part in (layer.weight, layer.bias)]
            for layer in critic
            if isinstance(layer, torch.nn.Linear)
        ]
        first = np.maximum(shown @ layers[0][0].T + layers[0][1], 0)
        second = np.maximum(first @ layers[1][0].T + layers[1][1], 0)
        asleep = dormant_share(first) * 8 + dormant_share(second) * 6
        assert found["critics"][f"dormant_ratio {number}"] == pytest.approx(asleep / 14)
        assert found["critics"][f"effective_rank {number}"] == rank(second)
        weights = np.sqrt(sum((weight**2).sum() for weight, _ in layers))
        assert found["critics"][f"weight_norm {number}"] == pytest.approx(weights, rel=1e-5)
    assert "plasticity" not in trainer.measurements()


def test_the_gradient_is_that_of_the_actors_loss_and_measuring_changes_nothing() -> None:
    looked = learning(5, plasticity={"measure_every": 1, "samples": 8})
    plain = learning(5)
    for one, other in zip(looked.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(*(t.learner.critic.parameters() for t in (looked, plain)), strict=True):
        assert torch.equal(one, other)
    view = looked.judged_on(None)
    torch.manual_seed(4)
    measured = measure(looked.network, view, ("Pendulum-v1",))
    torch.manual_seed(4)
    loss = looked.learner.actor_loss(view.seen)
    parts = torch.autograd.grad(
        loss, list(looked.network.parameters()), allow_unused=True, materialize_grads=True
    )
    norm = np.sqrt(sum(float((part.numpy() ** 2).sum()) for part in parts))
    assert measured.gradient_norm["Pendulum-v1"] == pytest.approx(norm, rel=1e-5)


def test_dormant_neurons_of_actor_and_critics_are_renewed() -> None:
    trainer = learning(plasticity={"redo_every": 4, "samples": 12})
    hidden, critic = trainer.network.hidden, trainer.learner.critics[1]
    with torch.no_grad():
        hidden.standardise.gain[3], hidden.synapses.bias[3] = 0.0, -1.0
        critic[0].weight[5], critic[0].bias[5] = 0.0, -1.0
    trainer.progress.updates += 1
    seen, action = drawn(trainer, 12)
    inputs = trainer.learner.critic_inputs(torch.from_numpy(seen), torch.from_numpy(action))
    before = critic(inputs).detach()
    trainer.care.after_update(trainer.network, trainer.judged_on(None), trainer.optimizer, 4)
    # What a dormant unit sends is 0, and its new weights are not heard.
    assert torch.allclose(critic(inputs), before)
    assert critic[0].weight[5].abs().sum() > 0
    assert not critic[2].weight[:, 5].any()
    moments = trainer.learner.critic.optimizer.state
    assert not moments[critic[0].weight]["exp_avg"][5].any()
    assert not moments[critic[2].weight]["exp_avg"][:, 5].any()
    assert hidden.synapses.bias[3].item() == pytest.approx(0.3)
    assert not trainer.network.advantage.weight[:, 3].any()
    found = trainer.measurements()
    assert found["renewed"]["hidden"] >= 1
    assert found["critics"]["renewed 1"] >= 1


def test_a_reset_draws_the_outputs_of_actor_critics_and_their_slow_copies() -> None:
    trainer = learning(plasticity={"reset_every": 4, "reset_most": 1})
    critics, slow = trainer.learner.critics, trainer.learner._sac.critic_target.q_networks
    before = [[part.detach().clone() for part in one.parameters()] for one in critics]
    head = trainer.network.advantage.weight.detach().clone()
    trainer.progress.updates += 1
    trainer._look()
    assert not torch.equal(trainer.network.advantage.weight, head)
    for old, critic, target in zip(before, critics, slow, strict=True):
        *inner, weight, bias = critic.parameters()
        assert all(torch.equal(a, b) for a, b in zip(old[:-2], inner, strict=True))
        assert not torch.equal(weight, old[-2])
        assert torch.equal(target[-1].weight, weight)
        assert torch.equal(target[-1].bias, bias)
        assert not trainer.learner.critic.optimizer.state[weight]["exp_avg"].any()
    assert trainer.measurements()["reset"] == {"heads": 1.0}


def test_weights_shrink_by_their_share_and_deviations_do_not() -> None:
    # One gradient step, on the same batch, from the same weights.
    changes: dict[str, Any] = {"replay": {**FIELDS["replay"], "update_every": 6}}
    begun, plain = learning(0, **changes), learning(1, **changes)
    decayed = learning(1, plasticity={"weight_decay": 0.5}, **changes)
    rate = plain.config.learning_rate
    pairs = [(trainer.network, trainer.learner.critic) for trainer in (begun, plain, decayed)]
    for one in (0, 1):
        rows = zip(*(pair[one].parameters() for pair in pairs), strict=True)
        changed = False
        for start, usual, less in rows:
            expected = usual - rate * 0.5 * start
            assert torch.allclose(less, expected, atol=1e-7)
            changed |= not torch.equal(start, usual)
        assert changed
    assert decayed.learner.deviation == plain.learner.deviation


def test_tasks_find_paths_alone_and_go_on_with_the_means() -> None:
    pruning = {
        **{"layers": ["hidden"], "method": "pathways", "density": 0.3, "start": 0.0, "end": 0.9},
        **{"every_updates": 1, "pretrain_steps": 12},
    }
    trainer = learning(0, **TWO, pruning=pruning)
    critic = trainer.learner.critic
    learned = [*trainer.network.parameters(), *critic.parameters()]
    begun = [part.detach().clone() for part in learned]
    turns: list[list[torch.Tensor]] = []
    original = trainer.alone.after_update

    def noted(decisions: int, modules: Any) -> bool:
        values = [part.detach().clone() for part in learned]
        ended: bool = original(decisions, modules)
        if ended:
            turns.append(values)
        return ended

    trainer.alone.after_update = noted
    for turn in (0, 1):
        assert trainer.active == (turn,)
        while len(turns) == turn:
            trainer.update()
        assert len(trainer.memories[0]) == (12 if turn == 0 else 0)
        slow = trainer.learner._sac.critic_target
        assert all(map(torch.equal, critic.parameters(), slow.parameters()))
        assert not critic.optimizer.state
        if turn == 0:
            assert all(map(torch.equal, learned, begun))
    for value, *of_tasks in zip(learned, *turns, strict=True):
        mean = sum(part.numpy() for part in of_tasks) / 2
        np.testing.assert_allclose(value.detach().numpy(), mean, rtol=1e-6, atol=1e-7)
    assert trainer.active == (0, 1)
    paths = trainer.network.hidden.paths
    assert [int(own.sum()) for own in paths] == [round(0.3 * paths[0].numel())] * 2
    # What was learned alone plays from the first decision on, and fills the memories again.
    assert trainer.epsilon == 0
    for _ in range(3):
        trainer.update()
    assert all(len(memory) > 6 for memory in trainer.memories)
    assert critic.optimizer.state


def test_a_checkpoints_plasticity_is_that_of_its_gaussian() -> None:
    agent = learning().agent()
    played = play_transitions(agent, 16, seed=2)
    deviation = agent.tasks[0].environment.box.deviation
    assert played.deviations.tolist() == [pytest.approx(list(deviation))]
    assert played.advantages.mean().item() == pytest.approx(0, abs=1e-5)
    values = agent.network(played.frames, played.task)
    apart = (played.drawn - values).detach().numpy() / np.array(deviation)
    assert 0.3 < apart.std() < 3
    logarithms = -0.5 * (apart**2).sum(1)
    loss = -(played.advantages.numpy() * logarithms).mean()
    assert played.loss(agent.network).item() == pytest.approx(loss, rel=1e-4)
    measured = measure(agent.network, played, ("Pendulum-v1",))
    assert measured.samples == len(played.task)
    assert measured.fisher_trace > 0
    box = agent.tasks[0].environment.box
    assert box.size == 1
    unknown = replace(agent.tasks[0].environment, box=replace(box, deviation=()))
    agent.tasks = (replace(agent.tasks[0], environment=unknown),)
    with pytest.raises(BadRequestError, match="deviations that they were drawn with are not known"):
        play_transitions(agent, 4, seed=2)
