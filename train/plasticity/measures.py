"""Plasticity of a network on transitions of its own games."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from mtspark.core.errors import BadRequestError
from mtspark.train.networks import MTSparkNetwork, NetworkTrace, mask_illegal
from mtspark.train.plasticity.metrics import (
    activity_scores,
    dormant,
    effective_rank,
    fisher_trace,
    gradient_cosines,
)

FISHER_SAMPLES = 32
"""Each takes one backward pass for every action."""


class Seen(Protocol):
    """What a network is measured on: frames of some tasks, with a loss and a policy there."""

    @property
    def frames(self) -> Tensor:
        """(samples, stack, height, width)."""

    @property
    def task(self) -> Tensor:
        """(samples,) task indices."""

    def of_task(self, index: int) -> Seen:
        """Those of one task."""

    def thinned(self, samples: int) -> Seen:
        """At most so many samples, spread evenly over these."""

    def loss(self, network: MTSparkNetwork) -> Tensor:
        """The mean loss of a network, ()."""

    def policies(self, network: MTSparkNetwork) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield of each sample (terms,) weights, and numbers that the network computes.

        The trace of the Fisher information is the mean over samples of the sum over terms of a
        weight times the squared norm of its number's gradient.
        """


@dataclass(frozen=True)
class Transitions:
    """Decisions of some tasks, and the values that the network should have for them.

    Attributes:
        frames: (samples, stack, height, width).
        task: (samples,) task indices.
        actions: (samples,) played actions.
        goals: (samples,) r + gamma max Q(next), on the scale on which values are learned; of a
            policy, the advantages of the actions.
        legal: (tasks, actions) True for legal actions.
        of_policy: the network's values are those of a softmax policy rather than of actions.
        allowed: (samples, actions) True for the legal actions that an environment allowed; None:
            all of the task's.
    """

    frames: Tensor
    task: Tensor
    actions: Tensor
    goals: Tensor
    legal: Tensor
    of_policy: bool = False
    allowed: Tensor | None = None

    def of_task(self, index: int) -> Transitions:
        """Those of one task."""
        return self._at(self.task == index)

    def _at(self, chosen: Tensor) -> Transitions:
        return replace(
            self,
            frames=self.frames[chosen],
            task=self.task[chosen],
            actions=self.actions[chosen],
            goals=self.goals[chosen],
            allowed=None if self.allowed is None else self.allowed[chosen],
        )

    def _choices(self) -> Tensor:
        """(samples, actions) True for what could be chosen."""
        return self.legal[self.task] if self.allowed is None else self.allowed

    def loss(self, network: MTSparkNetwork) -> Tensor:
        """The mean loss of a network, ().

        0.5 (Q - goal)^2; of a policy, -advantage log pi(action), whose gradient is that of the
        clipped surrogate where the policy is the one that played.
        """
        values = network(self.frames, self.task)
        if self.of_policy:
            values = mask_illegal(values, self._choices()).log_softmax(1)
        chosen = values.gather(1, self.actions[:, None]).squeeze(1)
        if self.of_policy:
            return -(self.goals * chosen).mean()
        error = chosen - self.goals
        return (0.5 * error * error).mean()

    def thinned(self, samples: int) -> Transitions:
        """At most so many samples, spread evenly over these."""
        count = len(self.task)
        if count <= samples:
            return self
        chosen = torch.linspace(0, count - 1, samples).long().to(self.task.device)
        return self._at(chosen)

    def policies(self, network: MTSparkNetwork) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the chances of each sample's actions that are allowed, and their logarithms."""
        choices = self._choices()
        for sample in range(len(self.task)):
            one = slice(sample, sample + 1)
            task = self.task[one]
            values = mask_illegal(network(self.frames[one], task), choices[one])
            logarithms = values.log_softmax(1)[choices[one]]
            yield logarithms.detach().exp(), logarithms


@dataclass(frozen=True)
class DrawnNumbers:
    """Decisions of tasks that take numbers, drawn from a Gaussian around the network's values.

    Attributes:
        frames: (samples, stack, height, width).
        task: (samples,) task indices.
        drawn: (samples, numbers) what was drawn, before the tanh.
        advantages: (samples,) of what was drawn.
        deviations: (tasks, numbers) of the Gaussian; infinite beyond the numbers of a task.
    """

    frames: Tensor
    task: Tensor
    drawn: Tensor
    advantages: Tensor
    deviations: Tensor

    def of_task(self, index: int) -> DrawnNumbers:
        """Those of one task."""
        return self._at(self.task == index)

    def thinned(self, samples: int) -> DrawnNumbers:
        """At most so many samples, spread evenly over these."""
        count = len(self.task)
        if count <= samples:
            return self
        return self._at(torch.linspace(0, count - 1, samples).long().to(self.task.device))

    def _at(self, chosen: Tensor) -> DrawnNumbers:
        return replace(
            self,
            frames=self.frames[chosen],
            task=self.task[chosen],
            drawn=self.drawn[chosen],
            advantages=self.advantages[chosen],
        )

    def loss(self, network: MTSparkNetwork) -> Tensor:
        """-advantage log pi(numbers), but for what no weight changes; the tanh cancels."""
        apart = (self.drawn - network(self.frames, self.task)) / self.deviations[self.task]
        return (0.5 * self.advantages * apart.square().sum(1)).mean()

    def policies(self, network: MTSparkNetwork) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield 1 / deviation^2 of each number, and the number."""
        return of_gaussians(network, self.frames, self.task, self.deviations)


def of_gaussians(
    network: MTSparkNetwork, frames: Tensor, task: Tensor, deviations: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield of each sample 1 / deviation^2 of each number, and its mean, which the network gives.

    E |grad log pi|^2 of a Gaussian of fixed deviations is sum_i |grad mean_i|^2 / deviation_i^2; a
    tanh behind it changes nothing.

    Args:
        network: gives the means.
        frames: (samples, stack, height, width).
        task: (samples,) task indices.
        deviations: (tasks, numbers); infinite where a task has no such number.
    """
    for sample in range(len(task)):
        one = slice(sample, sample + 1)
        means = network(frames[one], task[one])[0]
        own = torch.isfinite(deviations[task[sample]])
        yield deviations[task[sample]][own] ** -2, means[own]


@dataclass(frozen=True)
class Plasticity:
    """What was measured.

    Attributes:
        samples: transitions.
        dormant_ratio: share of dormant neurons of all spiking layers.
        dormant: the same of each layer.
        effective_rank: of the activity of the last spiking layer.
        fisher_trace: of the softmax policy of the action values; of numbers, of the Gaussian.
        weight_norm: of each layer's weights, as they are learned, and of the head's.
        gradient_norm: of each task's loss, whatever the rule by which tasks share weights.
        gradient_cosine: mean over the pairs of tasks; None for one task.
        conflicts: share of pairs of tasks whose gradients are in conflict; None for one task.
    """

    samples: int
    dormant_ratio: float
    dormant: dict[str, float]
    effective_rank: int
    fisher_trace: float
    weight_norm: dict[str, float]
    gradient_norm: dict[str, float]
    gradient_cosine: float | None
    conflicts: float | None

    def to_json(self) -> dict[str, Any]:
        """The result as JSON holds it."""
        return asdict(self)


def check_stateless(network: MTSparkNetwork) -> None:
    """Check that a network's decisions are independent of those before.

    Raises:
        BadRequestError: the network is stateful. Single decisions, as they are measured, would
            begin at rest, which they do in no episode but at its first decision.
    """
    if network.config.stateful:
        raise BadRequestError(
            "network.stateful is true: plasticity is measured on single decisions, without memory "
            "of those before; give an agent trained without network.stateful"
        )


def layer_activity(
    network: MTSparkNetwork, frames: Tensor, task: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Measure how active neurons are; the channel of a convolution counts as one neuron.

    Args:
        network: spiking or not.
        frames: (samples, stack, height, width).
        task: (samples,) task indices.

    Returns:
        For each layer the mean activity, (samples, neurons), over the steps of a decision and the
        places of a channel; and which neurons count, (neurons,): those with a synapse left.

    Raises:
        BadRequestError: the network is stateful.
    """
    check_stateless(network)
    trace = NetworkTrace()
    with torch.no_grad():
        network(frames, task, trace)
    found = {}
    for name, layer in trace.layers.items():
        mask = network.layer(name).there
        activity = layer.spikes.float().abs().mean(0)
        activity = activity.flatten(2).mean(2) if activity.dim() == 4 else activity
        counted = torch.ones(activity.shape[1], dtype=torch.bool, device=activity.device)
        found[name] = activity, counted if mask is None else mask.flatten(1).any(1)
    return found


def measure(
    network: MTSparkNetwork,
    transitions: Seen,
    names: tuple[str, ...],
    *,
    threshold: float = 0.001,
    delta: float = 0.01,
) -> Plasticity:
    """Measure a network's plasticity; neither its weights nor random numbers change.

    Gradients are those of the loss, and of the policy: where tasks share a weight, the rule by
    which training combines their gradients (`network.overlap`) has no part in them.

    Args:
        network: in float32.
        transitions: of its tasks.
        names: of the tasks, by index.
        threshold: a neuron is dormant if its score is at most this.
        delta: share of the singular values' sum that the effective rank leaves out.

    Raises:
        BadRequestError: the network is stateful.
    """
    layers = layer_activity(network, transitions.frames, transitions.task)
    asleep = {
        name: dormant(activity_scores(*of_layer), of_layer[1], threshold)
        for name, of_layer in layers.items()
    }
    counts = {name: int(counted.sum()) for name, (_, counted) in layers.items()}
    sleeping = {name: int(which.sum()) for name, which in asleep.items()}
    features, _ = layers[network.layer_names[-1]]
    with _true_gradients(network):
        gradients = {
            names[int(index)]: _loss_gradient(network, transitions, int(index))
            for index in transitions.task.unique()
        }
        with _random_numbers_kept(network):
            fisher = fisher_trace(_policies(network, transitions.thinned(FISHER_SAMPLES)))
    cosines = (
        gradient_cosines(torch.stack(list(gradients.values()))) if len(gradients) > 1 else None
    )
    weights = {name: network.layer(name).synapses.weight for name in network.layer_names}
    weights["advantage"] = network.advantage.weight
    if network.value is not None:
        weights["value"] = network.value.weight
    return Plasticity(
        samples=len(transitions.task),
        dormant_ratio=sum(sleeping.values()) / max(1, sum(counts.values())),
        dormant={name: sleeping[name] / max(1, counts[name]) for name in layers},
        effective_rank=effective_rank(features, delta),
        fisher_trace=fisher,
        weight_norm={name: float(weight.detach().norm()) for name, weight in weights.items()},
        gradient_norm={name: float(gradient.norm()) for name, gradient in gradients.items()},
        gradient_cosine=None if cosines is None else float(cosines.mean()),
        conflicts=None if cosines is None else float((cosines < 0).double().mean()),
    )


@contextmanager
def _true_gradients(network: MTSparkNetwork) -> Iterator[None]:
    """Differentiate what a network computes, and then by its own rule of shared weights again.

    Rules other than "sum" replace the gradient of a shared weight, and one draws random numbers.
    """
    rule = network.overlap
    try:
        network.overlap = "sum"
        yield
    finally:
        network.overlap = rule


@contextmanager
def _random_numbers_kept(network: MTSparkNetwork) -> Iterator[None]:
    """Let what is drawn, on the CPU or the network's device, be drawn again afterwards."""
    device = network.advantage.weight.device
    devices = [] if device.type == "cpu" else [device]
    # PyTorch forks the generator of the CPU in any case.
    with torch.random.fork_rng(devices=devices, device_type=device.type):
        yield


def _loss_gradient(network: MTSparkNetwork, transitions: Seen, index: int) -> Tensor:
    """Gradient of a task's mean loss, all parameters in one row."""
    with _random_numbers_kept(network):
        return _flat_gradient(network, transitions.of_task(index).loss(network))


def _policies(network: MTSparkNetwork, transitions: Seen) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights of the terms of the Fisher information of each sample, and their gradients."""
    for weights, numbers in transitions.policies(network):
        rows = [_flat_gradient(network, number, keep=True) for number in numbers]
        yield weights, torch.stack(rows)


def _flat_gradient(network: MTSparkNetwork, value: Tensor, *, keep: bool = False) -> Tensor:
    parameters = [entry for entry in network.parameters() if entry.requires_grad]
    gradients = torch.autograd.grad(
        value, parameters, retain_graph=keep, allow_unused=True, materialize_grads=True
    )
    return torch.cat([gradient.flatten() for gradient in gradients])
