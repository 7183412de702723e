"""Plasticity of networks and runs, and the renewal of dormant neurons."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint import Agent
from mtspark.train.config.plasticity import PlasticityConfig
from mtspark.train.config.stored import config_to_json
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.networks.network import MTSparkNetwork, NetworkTrace
from mtspark.train.plasticity.experience import play_transitions
from mtspark.train.plasticity.measures import Transitions, layer_activity, measure
from mtspark.train.plasticity.renewal import renew_dormant
from mtspark.train.rl.dqn import DqnTrainer
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.rl.run import train
from mtspark.train.rl.trainer import Trainer
from mtspark.train.runs.callbacks import RunCallback
from tests.support.scripted import SMALL, script_games
from tests.support.worlds import cartpole

TINY = NetworkConfig(
    (1, 8, 8), (ConvSize(3, 4, 2),), hidden=6, actions=3, tasks=2, masked_layers=("hidden",)
)
CARED = replace(SMALL, plasticity=PlasticityConfig(measure_every=2, samples=16))


def transitions(samples: int = 8) -> Transitions:
    generator = torch.Generator().manual_seed(4)
    return Transitions(
        torch.randint(0, 256, (samples, 1, 8, 8), generator=generator, dtype=torch.uint8),
        torch.arange(samples) % 2,
        torch.randint(0, 2, (samples,), generator=generator),
        torch.randn(samples, generator=generator),
        torch.tensor([[True, True, False], [True, True, True]]),
    )


def test_dormant_neurons_of_spikes_leave_out_those_without_synapses() -> None:
    torch.manual_seed(3)
    network, seen = MTSparkNetwork(TINY), transitions()
    layer = network.hidden
    assert layer.mask is not None
    assert layer.synapses.bias is not None
    layer.mask[0] = False
    with torch.no_grad():
        layer.synapses.bias[0] = layer.synapses.bias[1] = -100
    trace = NetworkTrace()
    network(seen.frames, seen.task, trace)
    rates = trace.layers["hidden"].spikes.detach().numpy().mean((0, 1))
    channels = trace.layers["conv1"].spikes.detach().numpy().mean((0, 1, 3, 4))
    quiet = (rates[1:] / rates[1:].mean()) <= 0.5
    quiet_channels = (channels / channels.mean()) <= 0.5
    assert quiet[0]
    found = measure(network, seen, ("a", "b"), threshold=0.5)
    assert found.dormant["hidden"] == pytest.approx(quiet.mean())
    assert found.dormant["conv1"] == pytest.approx(quiet_channels.mean())
    assert found.dormant_ratio == pytest.approx((quiet.sum() + quiet_channels.sum()) / 8)
    assert found.weight_norm["hidden"] == pytest.approx(
        np.linalg.norm(layer.synapses.weight.detach().numpy()), rel=1e-5
    )


def test_gradients_are_those_of_each_task_alone() -> None:
    torch.manual_seed(3)
    network, seen = MTSparkNetwork(TINY), transitions()
    flat = []
    for index in (0, 1):
        network.zero_grad()
        values = network(seen.frames[index::2], seen.task[index::2])
        chosen = values[torch.arange(4), seen.actions[index::2]]
        (0.5 * (chosen - seen.goals[index::2]) ** 2).mean().backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat.append(np.concatenate([g.numpy().ravel() for g in gradients]))
    network.zero_grad()
    before = torch.get_rng_state()
    found = measure(network, seen, ("a", "b"))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in network.parameters())
    norms = [np.linalg.norm(row) for row in flat]
    assert found.gradient_norm == pytest.approx(dict(zip("ab", norms, strict=True)), rel=1e-4)
    cosine = float(flat[0] @ flat[1] / norms[0] / norms[1])
    assert found.gradient_cosine == pytest.approx(cosine, abs=1e-4)
    assert found.conflicts == float(cosine < 0)


def test_a_renewed_neuron_changes_nothing_at_once_and_is_awake() -> None:
    torch.manual_seed(3)
    network, seen = MTSparkNetwork(replace(TINY, neuron="relu")), transitions()
    with torch.no_grad():
        for layer, neuron in ((network.convolutions[0], 1), (network.hidden, 2)):
            layer.synapses.bias[neuron] = -1000  # type: ignore[union-attr, index]
            layer.synapses.weight[neuron] *= 3  # type: ignore[union-attr, index]
    head = network.advantage.weight.detach().clone()
    raw = network.hidden.synapses.weight.detach().clone()
    optimizer = torch.optim.RAdam(network.parameters())
    network(seen.frames, seen.task).sum().backward()
    optimizer.step()
    with torch.no_grad():
        network.advantage.weight.copy_(head)
        network.hidden.synapses.weight.copy_(raw)
    assert renew_dormant(network, seen.frames, seen.task, 0.0, optimizer) == {
        "conv1": 1,
        "hidden": 1,
    }
    # Outgoing weights act as 0, of a channel of 3 x 3 places and of a hidden neuron.
    acting = network.hidden.folded_weight().view(6, 3, 9)
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(acting[others, 1], torch.zeros(5, 9), atol=1e-5, rtol=0)
    assert bool((acting[others][:, [0, 2]].abs().flatten(1).max(1).values > 0.01).all())
    wanted = head.clone()
    wanted[:, 2] = 0
    torch.testing.assert_close(network.advantage.weight.detach(), wanted)
    means = optimizer.state[network.advantage.weight]["exp_avg"]
    assert not means[:, 2].any()
    activity = layer_activity(network, seen.frames, seen.task)
    assert float(activity["conv1"][0][:, 1].mean()) > 0
    assert renew_dormant(network, seen.frames, seen.task, 0.0).get("conv1") == 0


def test_many_renewed_neurons_leave_the_others_what_standardisation_allows() -> None:
    torch.manual_seed(3)
    network, seen = MTSparkNetwork(replace(TINY, neuron="relu")), transitions()
    with torch.no_grad():
        biases = [network.layer(name).synapses.bias for name in ("conv1", "hidden")]
        of_conv1, of_hidden = (one for one in biases if one is not None)
        for channel in (0, 2):
            of_conv1[channel] = -1000
            network.hidden.synapses.weight.view(6, 3, 9)[:, channel] *= 5
        of_hidden.fill_(20)
        before = network.hidden.folded_weight().view(6, 3, 9).clone()
    renewed = renew_dormant(network, seen.frames, seen.task, 0.0)
    assert renewed == {"conv1": 2, "hidden": 0}
    after = network.hidden.folded_weight().view(6, 3, 9)
    torch.testing.assert_close(after[:, [0, 2]], torch.zeros(6, 2, 9), atol=1e-5, rtol=0)
    # Not scaled, though the rows spread less: less by their mean alone.
    kept = before[:, 1]
    torch.testing.assert_close(after[:, 1], kept - kept.mean(1, keepdim=True))


@pytest.mark.parametrize("kind", [PqnTrainer, DqnTrainer])
def test_a_run_measures_when_it_is_due_and_learns_the_same(
    monkeypatch: pytest.MonkeyPatch, kind: type[Trainer]
) -> None:
    script_games(monkeypatch)
    replay = replace(SMALL.replay, warmup=4, capacity=64, batch_size=4)
    algorithm = "pqn" if kind is PqnTrainer else "dqn"
    weights = []
    for config in (SMALL, CARED):
        trainer = kind(replace(config, replay=replay, algorithm=algorithm))  # type: ignore[arg-type]
        trainer.update()
        assert "plasticity" not in trainer.measurements()
        trainer.update()
        found = trainer.measurements()
        weights.append(trainer.network.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert set(found["gradient_norm"]) == {"pong", "breakout"}
    assert all(value is not None for value in found["plasticity"].values())


def test_renewal_and_decay_change_a_run_and_it_resumes_to_the_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    care = PlasticityConfig(
        measure_every=1, redo_every=1, dormant_threshold=0.9, samples=16, weight_decay=0.1
    )
    config = replace(SMALL, plasticity=care, total_steps=48, checkpoint_every_steps=24)
    train(config, tmp_path / "whole")

    class StopThere(RunCallback):
        def on_checkpoint(self, run: Any) -> None:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(config, tmp_path / "halves", callbacks=(StopThere(),))
    train(config, tmp_path / "halves")
    states = [
        torch.load(tmp_path / name / "resume.pt", weights_only=True)["state"]["network"]
        for name in ("whole", "halves")
    ]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    log = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    assert sum(json.loads(log[0])["renewed"].values()) > 0
    assert json.loads(log[0])["plasticity"]["effective_rank"] >= 1
    decayed = replace(SMALL, plasticity=PlasticityConfig(weight_decay=0.5))
    trainers = [PqnTrainer(SMALL), PqnTrainer(decayed)]
    for trainer in trainers:
        trainer.update()
    norms = [trainer.network.hidden.synapses.weight.norm().item() for trainer in trainers]
    assert norms[1] < norms[0]


def test_a_network_that_remembers_decisions_is_refused() -> None:
    network = MTSparkNetwork(
        replace(TINY, masked_layers=(), dendrite_segments=0, time_steps=1, tasks=1, stateful=True)
    )
    seen = transitions()
    seen = replace(seen, task=torch.zeros_like(seen.task))
    refused = pytest.raises(BadRequestError, match=r"^network.stateful is true: .*; give an agent")
    with refused:
        measure(network, seen, ("a",))
    with refused:
        renew_dormant(network, seen.frames, seen.task, 0.1)
    with refused:
        play_transitions(Agent(network, (cartpole(),), None, {}), 4, seed=0)


def test_files_of_runs_without_it_do_not_name_it() -> None:
    assert "plasticity" not in config_to_json(SMALL)
    assert config_to_json(CARED)["plasticity"]["measure_every"] == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"measure_every": -1}, "measure_every is -1"),
        ({"samples": 0}, "samples is 0"),
        ({"rank_delta": 1.0}, "rank_delta is 1.0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
    ],
)
def test_numbers_out_of_range(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PlasticityConfig(**fields)


def test_one_decision_between_updates_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least 2 are needed"):
        replace(CARED, rollout_steps=1)
