"""Proximal policy optimisation: its losses by hand, its runs, and the chip that plays them."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import mtspark
from mtspark.core.errors import BackendMissingError, BadRequestError, DivergedError
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.engine import EngineChip
from mtspark.sim.play import play
from mtspark.train.checkpoint import load_agent
from mtspark.train.config import TrainConfig, config_of, config_to_json, notes, to_config
from mtspark.train.networks import mask_illegal
from mtspark.train.rl.run import make_trainer, train
from tests.support.worlds import register_door

pytest.importorskip("stable_baselines3")

SMALL: dict[str, Any] = {
    "games": ["CartPole-v1"],
    "algorithm": "ppo",
    "games_per_task": 4,
    "rollout_steps": 8,
    "epochs": 2,
    "minibatches": 2,
    "trace": 0.9,
    "total_steps": 128,
    "reward_clipping": False,
    "bfloat16": False,
    "ppo": {"critic_layers": [6]},
    "network": {"hidden": 8, "dendrite_segments": 0, "time_steps": 3},
    "checkpoint_every_steps": 32,
    "final_learning_rate_fraction": 1.0,
}


def config(**changes: Any) -> TrainConfig:
    made = to_config({**SMALL, **changes}, "recipe")
    assert isinstance(made, TrainConfig)
    return made


def trained(**changes: Any) -> Any:
    return make_trainer(config(**changes))


def test_advantages_are_those_of_the_paper_at_ends_and_cuts() -> None:
    """A_t as the sum of (gamma lambda)^k d_{t+k}, up to the end of each episode."""
    from mtspark.train.rl.clipped import generalised_advantages

    noise = np.random.default_rng(3)
    steps, copies, gamma, trace = 7, 3, 0.9, 0.8
    rewards, values = noise.normal(size=(2, steps, copies)).astype(np.float32)
    last = noise.normal(size=copies).astype(np.float32)
    terminal = np.zeros((steps, copies), bool)
    finished = np.zeros((steps, copies), bool)
    terminal[2, 0] = finished[2, 0] = True  # An end.
    finished[3, 1] = True  # A cut: what is seen last is valued.
    finished[6, 2] = True  # A cut in the last step.
    found, returns = generalised_advantages(
        rewards, values, last, terminal, finished, discount=gamma, trace=trace
    )
    after = np.concatenate([values[1:], last[None]])
    for copy in range(copies):
        for step in range(steps):
            expected = 0.0
            for later in range(step, steps):
                follows = 0.0 if terminal[later, copy] else gamma * after[later, copy]
                error = rewards[later, copy] + follows - values[later, copy]
                expected += (gamma * trace) ** (later - step) * error
                if finished[later, copy]:
                    break
            assert found[step, copy] == pytest.approx(expected, abs=1e-5)
    assert returns == pytest.approx(found + values, abs=1e-6)


def test_advantages_are_normalised_in_every_task() -> None:
    from mtspark.train.rl.clipped import normalised

    task = torch.tensor([0, 1, 0, 1, 0, 2])
    found = normalised(torch.tensor([1.0, 100.0, 2.0, 300.0, 6.0, 5.0]), task).numpy()
    first = np.array([1.0, 2.0, 6.0])
    assert found[[0, 2, 4]] == pytest.approx((first - 3) / first.std(ddof=1))
    assert found[[1, 3]] == pytest.approx([-(0.5**0.5), 0.5**0.5])
    # Of one decision there is no deviation.
    assert found[5] == 5


def _with_ratios(trainer: Any, ratios: list[float], advantages: list[float]) -> Any:
    """A rollout of as many decisions, whose chances have these ratios to those that played."""
    rollout, _ = trainer.roll_out()
    chosen = torch.arange(len(ratios))
    return replace(
        rollout,
        seen=rollout.seen.at(chosen),
        actions=rollout.actions[chosen],
        values=rollout.values[chosen],
        log_chances=rollout.log_chances[chosen] - torch.tensor(ratios).log(),
        advantages=torch.tensor(advantages),
        returns=rollout.returns[chosen],
    )


def test_the_loss_is_the_clipped_surrogate_with_values_and_entropy() -> None:
    made = {"ppo": {"critic_layers": [6], "clip": 0.2, "entropy": 0.3}}
    trainer = trained(**made, epochs=1, minibatches=1)
    ratios, gains = [0.5, 0.9, 1.5, 1.5, 0.5], [1.0, 2.0, 3.0, -1.0, -2.0]
    rollout = _with_ratios(trainer, ratios, gains)
    scores = trainer.network(rollout.seen.frames, rollout.seen.task).detach().double().numpy()
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    values = trainer.learner.policy.critic(rollout.seen.frames, rollout.seen.task).detach()
    measured = trainer.learner.learn(rollout, trainer.generator)
    terms = [1.0 * 0.5, 2.0 * 0.9, 3.0 * 1.2, -1.0 * 1.5, -2.0 * 0.8]
    assert measured["policy_gradient_loss"] == pytest.approx(-np.mean(terms), abs=1e-4)
    entropy = -(chances * np.log(chances)).sum(1).mean()
    assert measured["entropy_loss"] == pytest.approx(-entropy, abs=1e-5)
    errors = (rollout.returns - values).numpy() ** 2
    assert measured["value_loss"] == pytest.approx(errors.mean(), rel=1e-4)
    assert measured["clip_fraction"] == pytest.approx(4 / 5)


def test_what_is_clipped_teaches_nothing() -> None:
    made = {"critic_layers": [6], "entropy": 0.0, "value_weight": 0.0}
    trainer = trained(ppo=made, epochs=1, minibatches=1)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.learner.learn(_with_ratios(trainer, [1.5, 0.5], [1.0, -1.0]), trainer.generator)
    after = trainer.network.state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())
    # The same ratios the other way round are not clipped.
    trainer.learner.learn(_with_ratios(trainer, [0.5, 1.5], [1.0, -1.0]), trainer.generator)
    assert not torch.equal(before["advantage.weight"], after["advantage.weight"])


def test_a_cut_episode_is_worth_what_it_showed_last() -> None:
    """Episodes of two decisions, cut; the critic says 5 of everything."""
    trainer = trained(environments=[{"id": "CartPole-v1", "max_steps": 2}], trace=0.0)
    critic = trainer.learner.policy.critic
    with torch.no_grad():
        critic.layers[-1].weight.zero_()
        critic.layers[-1].bias.fill_(5.0)
    rollout, decisions = trainer.roll_out()
    # Every third step only restarts a game.
    assert (decisions, len(rollout)) == (32, 4 * 6)
    assert rollout.returns.numpy() == pytest.approx(1 + 0.99 * 5)


@pytest.fixture
def door() -> Any:
    register_door()
    yield
    del gymnasium.registry["Door-v0"]


def test_actions_that_an_environment_does_not_allow_have_no_chance(door: None) -> None:
    trainer = trained(games=["Door-v0"])
    rollout, _ = trainer.roll_out()
    allowed = rollout.seen.allowed
    assert allowed.any(1).all()
    assert allowed.gather(1, rollout.actions[:, None]).all()
    scores = trainer.network(rollout.seen.frames, rollout.seen.task)
    scores = torch.where(allowed, scores, torch.tensor(-torch.inf)).detach().double().numpy()
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    expected = np.log(chances[np.arange(len(rollout)), rollout.actions])
    assert rollout.log_chances.numpy() == pytest.approx(expected, abs=1e-5)
    _, _, entropy = trainer.learner.policy.evaluate_actions(rollout.seen, rollout.actions)
    logs = np.where(chances > 0, np.log(np.maximum(chances, 1e-30)), 0)
    assert entropy.detach().numpy() == pytest.approx(-(chances * logs).sum(1), abs=1e-5)
    # The environment fails at any other action.
    for _ in range(4):
        trainer.update()


def test_actions_are_drawn_with_their_chances() -> None:
    trainer = trained()
    scores = torch.tensor([[0.0, 1.0, -1e9]]).expand(4000, 3)
    drawn = trainer._drawn(scores, torch.zeros(4000, dtype=torch.long)).numpy()
    assert set(drawn) == {0, 1}
    assert drawn.mean() == pytest.approx(math.e / (1 + math.e), abs=0.03)


def test_numbers_are_drawn_of_a_gaussian_and_squashed_for_the_game() -> None:
    trainer = trained(games=["Pendulum-v1"], ppo={"critic_layers": [6], "deviation": 0.5})
    rollout, _ = trainer.roll_out()
    means = trainer.network(rollout.seen.frames, rollout.seen.task).detach().numpy()[:, 0]
    apart = (rollout.actions.numpy()[:, 0] - means) / 0.5
    expected = -(apart**2) / 2 - math.log(0.5 * math.sqrt(2 * math.pi))
    assert rollout.log_chances.numpy() == pytest.approx(expected, abs=1e-4)
    assert 0.5 < apart.std() < 1.5
    played = trainer._played(np.array([[0.0], [0.3], [-40.0], [40.0]], np.float32))
    assert played[:, 0] == pytest.approx([0, 2 * math.tanh(0.3), -2, 2])
    trainer.update()
    (task,) = trainer.agent().tasks
    deviation = task.environment.box.deviation
    assert deviation == pytest.approx(trainer.learner.deviation[0])
    assert deviation != pytest.approx([0.5])


TWO = {"games": ["CartPole-v1", "Acrobot-v1"], "games_per_task": [3, 2]}


def test_tasks_have_values_of_their_own_and_only_their_actions() -> None:
    trainer = trained(**TWO, network={**SMALL["network"], "heads": "task"})
    rollout, _ = trainer.roll_out()
    first = rollout.seen.task == 0
    assert set(rollout.actions[first].tolist()) == {0, 1}
    assert set(rollout.actions[~first].tolist()) == {0, 1, 2}
    critic = trainer.learner.policy.critic
    with torch.no_grad():
        critic.layers[-1].weight.zero_()
        critic.layers[-1].bias.copy_(torch.tensor([3.0, -7.0]))
    values = critic(rollout.seen.frames, rollout.seen.task)
    assert torch.equal(values, torch.where(first, 3.0, -7.0))
    # Each task's advantages are normalised apart.
    for own in (first, ~first):
        assert float(rollout.advantages[own].mean()) == pytest.approx(0, abs=1e-5)
        assert float(rollout.advantages[own].std()) == pytest.approx(1, abs=1e-3)
    trainer.update()


def test_the_critic_sees_which_task_it_values() -> None:
    """Two tasks that look the same: only the one-hot task tells them apart in the body."""
    from mtspark.train.rl.critic import Critic

    network = config(**TWO).network
    critic = Critic(network, (6,))
    hidden = critic.layers[0]
    frames = torch.zeros(2, *network.observation_shape, dtype=torch.int8)
    seen: list[torch.Tensor] = []
    hidden.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    critic(frames, torch.tensor([0, 1]))
    assert seen[0][:, -2:].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param(TWO, marks=pytest.mark.slow),
        pytest.param({"games": ["Pendulum-v1"]}, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(changes: dict[str, Any]) -> None:
    one, other = trained(**changes), trained(**changes)
    for _ in range(2):
        one.update()
        other.update()
    resumed = make_trainer(config(**changes), resumed=True)
    assert resumed.restore(other.state()) == ()
    for _ in range(2):
        assert one.update() == resumed.update()
    for own, back in ((one.network, resumed.network), (one.learner.policy, resumed.learner.policy)):
        known = back.state_dict()
        assert all(torch.equal(value, known[name]) for name, value in own.state_dict().items())
    assert one.measurements() == resumed.measurements()


@pytest.mark.parametrize("method", ["magnitude", "evolution", "static"])
def test_cut_synapses_stay_cut(method: str) -> None:
    cut = {"layers": "all", "method": method, "density": 0.25, "every_updates": 1, "end": 0.6}
    trainer = trained(pruning=cut)
    while not trainer.finished:
        trainer.update()
    layer = trainer.network.hidden
    assert int(layer.mask.sum()) == 8  # A quarter of 8 neurons' 4 inputs.
    exported = trainer.agent().network.hidden.folded_weight()
    assert torch.equal(exported != 0, layer.mask)


def test_paths_are_chosen_by_the_gradient_of_the_policy() -> None:
    cut = {"layers": "all", "method": "pathways", "density": 0.3, "every_updates": 1}
    trainer = trained(**TWO, pruning={**cut, "start": 0.0, "end": 0.9})
    trainer._rollout, _ = trainer.roll_out()
    seen = trainer.last_transitions().of_task(1)
    assert (seen.task == 1).all()
    values = mask_illegal(trainer.network(seen.frames, seen.task), seen.legal[seen.task])
    logs = np.log(np.exp(scores := values.detach().double().numpy()).sum(1))
    chosen = scores[np.arange(len(logs)), seen.actions] - logs
    expected = -(seen.goals.numpy() * chosen).mean()
    assert seen.loss(trainer.network).item() == pytest.approx(expected, abs=1e-5)
    while not trainer.finished:
        trainer.update()
    paths = trainer.network.hidden.paths
    assert paths.flatten(1).float().mean(1).tolist() == pytest.approx([0.3, 0.3])
    assert not torch.equal(paths[0], paths[1])


def test_plasticity_is_measured_of_the_policy() -> None:
    trainer = trained(plasticity={"measure_every": 1, "samples": 16})
    trainer.update()
    measured = trainer.measurements()["plasticity"]
    assert measured["fisher_trace"] > 0
    assert 0 <= measured["dormant_ratio"] <= 1


def test_a_checkpoints_plasticity_is_that_of_its_policy() -> None:
    from mtspark.train.plasticity import play_transitions
    from mtspark.train.plasticity.experience import _discounted

    seen = play_transitions(trained().agent(), 64, 3)
    assert seen.of_policy
    assert float(seen.goals.mean()) == pytest.approx(0, abs=1e-5)
    assert float(seen.goals.std(correction=0)) == pytest.approx(1, abs=1e-4)
    # Drawn, not the best but one of twenty: a new network hardly prefers any.
    assert 0.3 < float(seen.actions.float().mean()) < 0.7
    other = trained(algorithm="pqn", ppo={}).agent()
    assert not play_transitions(other, 8, 3).of_policy
    none = np.zeros(4, bool)
    over = np.array([True, False, False, False])
    rewards = [np.array([1.0, 2, 0, 0]), np.array([3.0, 0, 1, 0])]
    found = _discounted([(rewards[0], over), (rewards[1], none)])
    assert found.numpy() == pytest.approx(np.array([[1, 2, 0.99, 0], [3, 0, 1, 0]]))


def test_what_drives_a_neuron_without_input_stays_away() -> None:
    trainer = trained(quiet_biases=True)
    trainer.update()
    bias = trainer.network.hidden.synapses.bias
    # beta is a half: a constant current adds up to twice itself, and the threshold is 1.
    assert bias.max().item() <= 0.5


def test_a_run_on_the_chips_integers_has_their_chances() -> None:
    trainer = trained(quantisation_aware=True)
    rollout, _ = trainer.roll_out()
    scores = trainer.values(trainer.network, rollout.seen.frames, rollout.seen.task)
    logs = scores.detach().log_softmax(1).gather(1, rollout.actions[:, None])[:, 0]
    assert torch.allclose(rollout.log_chances, logs, atol=1e-6)
    assert not torch.allclose(scores, trainer.network(*rollout.seen[:2]), atol=1e-6)
    trainer.update()


@pytest.mark.slow
def test_its_agent_plays_the_same_on_reference_and_engine(tmp_path: Path) -> None:
    agent = load_agent(train(config(), tmp_path / "run").path)
    deployed = mtspark.export(agent)
    fidelity = deployed.fidelity.graph_against_torch["CartPole-v1"]
    assert [layer.different for layer in fidelity] == [0]
    network, options = deployed.network, {"episodes": 1, "seed": 5, "max_decisions": 20}
    one, other = EngineChip(network), ReferenceChip(network)
    first = play(one, network, "CartPole-v1", **options)
    assert first.episodes == play(other, network, "CartPole-v1", **options).episodes


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"teachers": ["x.pt"]}, "teachers: is of action values, which algorithm ppo"),
        ({"network": {"dueling": True}}, "network.dueling: is of action values"),
        ({"rescale_values": True}, "rescale_values: is of action values"),
        ({"ppo": {"clip": 0}}, "clip is 0.0, must be above 0"),
        ({"ppo": {"entropy": -1.0}}, "entropy is -1.0, must be at least 0"),
        ({"ppo": {"critic_layers": [0]}}, "critic_layers is [0]"),
        ({"ppo": {"clop": 1}}, "ppo.clop: no such field, did you mean clip?"),
        ({"games": ["Pendulum-v1", "CartPole-v1"]}, "Pendulum-v1 takes numbers, CartPole-v1 one"),
        ({"minibatches": 33}, "a rollout has 32 decisions for 33 minibatches"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_one_line(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadRequestError) as error:
        config(**changes)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_paths_of_numbers_are_refused() -> None:
    made = config(games=["Pendulum-v1"], plasticity={"measure_every": 1})
    with pytest.raises(BadRequestError, match="Pendulum-v1 takes numbers; leave them out"):
        make_trainer(made)


def test_fields_of_other_algorithms_are_noted() -> None:
    made = config(final_exploration=0.5, target_rate=0.5, replay={"batch_size": 8})
    text = "\n".join(notes(made))
    for name in ("final_exploration", "target_rate", "replay.batch_size"):
        assert f"{name}: no effect, the algorithm is ppo" in text
    other = to_config({"games": ["CartPole-v1"], "ppo": {"clip": 0.1}}, "recipe")
    assert isinstance(other, TrainConfig)
    assert "ppo.clip: no effect, the algorithm is pqn" in "\n".join(notes(other))
    assert notes(config()) == []


def test_settings_of_ppo_are_not_written_at_their_default() -> None:
    assert "ppo" not in config_to_json(TrainConfig())
    assert config_to_json(config())["ppo"]["critic_layers"] == (6,)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mtspark.train.rl.clipped", None)
    with pytest.raises(BackendMissingError, match=r'pip install "mtspark\[ppo\]"'):
        trained()


def test_a_run_that_diverges_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"finite|the loss is") as error:
        train(config(learning_rate=1e30), tmp_path / "run")
    assert "\n" not in str(error.value)


LEARNS = {
    **{"games_per_task": 32, "rollout_steps": 32, "epochs": 4, "minibatches": 4},
    **{"learning_rate": 2e-3, "trace": 0.95, "gradient_norm": 0.5, "reward_scales": [0.1]},
    "ppo": {"critic_layers": [64, 64]},
    "network": {"hidden": 64, "dendrite_segments": 0, "time_steps": 4},
}


@pytest.mark.parametrize("tasks", [3, 5, 7])
def test_the_papers_benchmarks_are_recipes(tasks: int) -> None:
    """Rollouts of 2,000 decisions a task in minibatches of 250, as its text says."""
    pytest.importorskip("minigrid")
    path = Path(__file__).parents[3] / "examples" / "recipes" / f"minigrid-mt{tasks}-ppo.toml"
    made = config_of(path)
    assert isinstance(made, TrainConfig)
    assert (len(made.games), made.total_steps) == (tasks, tasks * 400_000)
    assert made.copies[0] * made.rollout_steps == 2_000
    assert sum(made.copies) * made.rollout_steps == 250 * made.minibatches
    assert (made.epochs, made.trace, made.ppo.clip, made.ppo.entropy) == (8, 0.95, 0.2, 0.01)
    # Of the default method, nothing is without effect.
    assert not [note for note in notes(made) if "no effect" in note]


@pytest.mark.slow
def test_it_learns_to_balance(tmp_path: Path) -> None:
    """Some 4 s of processor time."""
    train(config(**LEARNS, total_steps=14_000), tmp_path / "run")
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    returns = [json.loads(line)["returns"]["CartPole-v1"] for line in lines]
    assert max(returns) > 4 * returns[0]
