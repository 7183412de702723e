"""Measures where tasks share weights: gradients of the loss, and numbers drawn in measuring."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mtspark.train.checkpoint import single_task
from mtspark.train.config.plasticity import PlasticityConfig
from mtspark.train.config.pruning import OVERLAP_RULES, PruningConfig
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.networks.network import MTSparkNetwork
from mtspark.train.plasticity import DrawnNumbers, Transitions, measure
from mtspark.train.plasticity.measures import _random_numbers_kept
from mtspark.train.rl.pqn import PqnTrainer
from tests.support.scripted import SMALL, script_games

BY_HAND = NetworkConfig(
    observation_shape=(1, 2, 1),
    convolutions=(),
    hidden=1,
    actions=1,
    tasks=2,
    dendrite_segments=0,
    dueling=False,
    neuron="relu",
    input="spikes",
    pathway_layers=("hidden",),
)
WALKING = replace(
    SMALL,
    pruning=PruningConfig(
        ("conv1", "hidden"),
        0.2,
        start=0.0,
        end=0.9,
        every_updates=1,
        method="pathways",
        overlap="stochastic",
    ),
    network=replace(SMALL.network, pathway_layers=("conv1", "hidden")),
)


def one_neuron() -> MTSparkNetwork:
    """Task 0 has both synapses of the one neuron, task 1 shares the second; 2 w / |w| act."""
    network = MTSparkNetwork(BY_HAND)
    layer = network.hidden
    assert layer.paths is not None
    assert layer.synapses.bias is not None
    with torch.no_grad():
        layer.synapses.weight.copy_(torch.tensor([[3.0, 4.0]]))
        layer.synapses.bias.zero_()
        layer.paths[1, 0, 0] = False
        network.advantage.weight.fill_(1.0)
        network.advantage.bias.zero_()
    return network


# By hand: 1.2 and 1.6 act, so the values are 2.8 and 1.6, and the goals are 1 below. Slopes of the
# weights are 2 / |w| (d - u (u d)) with u = (0.6, 0.8), and d = (1, 1) and (0, 1); those of gain,
# bias and the head's weight and bias follow.
FIRST = (0.064, -0.048, 2.8, 1.0, 2.8, 1.0)
SECOND = (-0.192, 0.144, 1.6, 1.0, 1.6, 1.0)
ONES = torch.ones(2, 1, 2, 1)
TASK = torch.tensor([0, 1])


def squared(slopes: tuple[float, ...]) -> float:
    return sum(slope * slope for slope in slopes)


@pytest.mark.parametrize("rule", OVERLAP_RULES)
def test_gradients_by_hand_whatever_the_rule_of_shared_weights(rule: Any) -> None:
    network = one_neuron()
    network.overlap = rule
    goals, legal = torch.tensor([1.8, 0.6]), torch.ones(2, 1, dtype=torch.bool)
    found = measure(
        network, Transitions(ONES, TASK, torch.zeros(2).long(), goals, legal), ("a", "b")
    )
    first, second = math.sqrt(squared(FIRST)), math.sqrt(squared(SECOND))
    assert found.gradient_norm == pytest.approx({"a": first, "b": second}, rel=1e-5)
    product = sum(one * other for one, other in zip(FIRST, SECOND, strict=True))
    assert found.gradient_cosine == pytest.approx(product / first / second, rel=1e-5)
    drawn = torch.tensor([[1.8], [0.6]])
    numbers = DrawnNumbers(ONES, TASK, drawn, torch.ones(2), torch.full((2, 1), 0.5))
    trace = (squared(FIRST) + squared(SECOND)) / 2 / 0.5**2
    assert measure(network, numbers, ("a", "b")).fisher_trace == pytest.approx(trace, rel=1e-5)
    assert network.overlap == rule


def transitions(tasks: int, samples: int = 12) -> Transitions:
    generator = torch.Generator().manual_seed(4)
    return Transitions(
        torch.randint(0, 256, (samples, 1, 8, 8), generator=generator, dtype=torch.uint8),
        torch.arange(samples) % tasks,
        torch.randint(0, 3, (samples,), generator=generator),
        torch.randn(samples, generator=generator),
        torch.ones(tasks, 3, dtype=torch.bool),
    )


@pytest.mark.parametrize("heads", ["shared", "task"])
def test_each_task_measures_as_the_agent_of_it_alone(
    make_agent: Callable[..., Any], heads: str
) -> None:
    agent = make_agent(
        observation_shape=(1, 8, 8),
        convolutions=(ConvSize(3, 4, 2),),
        hidden=8,
        actions=3,
        pathway_layers=("conv1", "hidden"),
        heads=heads,
    )
    names = tuple(task.name for task in agent.tasks)
    assert len(names) > 1
    generator = torch.Generator().manual_seed(1)
    for name in ("conv1", "hidden"):
        paths = agent.network.layer(name).paths
        paths.copy_(torch.rand(paths.shape, generator=generator) < 0.6)
    seen = transitions(len(names))
    found = measure(agent.network, seen, names)
    for index, name in enumerate(names):
        own = seen.of_task(index)
        alone = measure(
            single_task(agent, name).network,
            replace(own, task=torch.zeros_like(own.task), legal=own.legal[:1]),
            (name,),
        )
        assert found.gradient_norm[name] == pytest.approx(alone.gradient_norm[name], rel=1e-4)
        assert measure(agent.network, own, names).fisher_trace == pytest.approx(
            alone.fisher_trace, rel=1e-4
        )
        assert alone.fisher_trace > 0


class Drawing(Transitions):
    """Draws numbers wherever it can, on the device of its frames."""

    def loss(self, network: MTSparkNetwork) -> Tensor:
        torch.rand(3, device=self.frames.device)
        return super().loss(network)

    def policies(self, network: MTSparkNetwork) -> Iterator[tuple[Tensor, Tensor]]:
        for weights, numbers in super().policies(network):
            torch.rand(3, device=self.frames.device)
            yield weights, numbers


class Broken(Drawing):
    """Fails once its numbers are drawn."""

    def policies(self, network: MTSparkNetwork) -> Iterator[tuple[Tensor, Tensor]]:
        yield from super().policies(network)
        raise ArithmeticError


DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


def drawn_next(device: str) -> list[Tensor]:
    """What the CPU and a device draw next."""
    return [torch.rand(4), torch.rand(4, device=device).cpu()]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", [Drawing, Broken])
def test_what_measuring_draws_is_drawn_again(kind: type[Transitions], device: str) -> None:
    network = MTSparkNetwork(replace(SMALL.network, actions=3, pathway_layers=("hidden",)))
    network.to(device).overlap = "stochastic"
    fields = vars(transitions(2)).items()
    seen = kind(**{name: one.to(device) if torch.is_tensor(one) else one for name, one in fields})
    torch.manual_seed(5)
    expected = drawn_next(device)
    torch.manual_seed(5)
    if kind is Broken:
        with pytest.raises(ArithmeticError):
            measure(network, seen, ("a", "b"))
    else:
        measure(network, seen, ("a", "b"))
    assert all(map(torch.equal, drawn_next(device), expected))
    assert network.overlap == "stochastic"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_generator_of_the_networks_device_is_kept(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    asked: list[dict[str, Any]] = []

    @contextmanager
    def noted(**options: Any) -> Iterator[None]:
        asked.append(options)
        yield

    monkeypatch.setattr(torch.random, "fork_rng", noted)
    # The device "meta" stands for an accelerator, of which this machine may have none.
    with _random_numbers_kept(MTSparkNetwork(BY_HAND).to(device)):
        pass
    kept = [] if device == "cpu" else [torch.device(device)]
    assert asked == [{"devices": kept, "device_type": device}]


def test_a_run_learns_the_same_whether_it_is_measured_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_games(monkeypatch)
    weights = []
    for care in (PlasticityConfig(), PlasticityConfig(measure_every=1, samples=16)):
        trainer = PqnTrainer(replace(WALKING, plasticity=care))
        for _ in range(4):
            trainer.update()
        weights.append(trainer.network.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert weights[0]["hidden.paths"].float().mean() < 0.5
    assert weights[0]["hidden.paths"].all(0).any()
