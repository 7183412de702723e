"""All tasks of an agent side by side in one network whose thresholds choose among them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint.agent import Agent
from mtspark.train.checkpoint.single import single_task
from mtspark.train.networks import (
    HIDDEN,
    MTSparkNetwork,
    NetworkConfig,
    why_not_deployable,
)

OFF = 100.0
"""A gain's logit of this size is 0 or 1 in float32."""


def side_by_side(agent: Agent) -> Agent:
    """Give every task neurons of its own from the first layer on whose synapses differ.

    The neurons of other tasks have gain 0, so they never fire: a switch of tasks rewrites
    thresholds and no synapse. Layers before stay shared. Synapses between the neurons of two tasks
    are cut.

    Args:
        agent: of tasks with synapses of their own, or weights of experts in the head.

    Raises:
        BadRequestError: tasks have no synapses of their own, or heads of their own, or no chip
            computes the network.
    """
    old = agent.network.config
    if not old.by_task:
        raise BadRequestError(
            "--side-by-side: tasks share all synapses and differ in thresholds alone; leave it out"
        )
    if old.heads == "task":
        raise BadRequestError(
            "--side-by-side: tasks have heads of their own, whose biases one readout cannot hold; "
            "export one task at a time (--task NAME)"
        )
    alone = [single_task(agent, task.name).network for task in agent.tasks]
    problem = why_not_deployable(alone[0].config)
    if problem is not None:
        raise BadRequestError(f"--side-by-side: {problem}")
    names = list(old.layer_names)
    first = min(names.index(name) for name in (*old.pathway_layers, HIDDEN))
    config = _config(old, len(alone), set(names[first:]))
    with torch.random.fork_rng(devices=[]):
        network = MTSparkNetwork(config)
    with torch.no_grad():
        for index, name in enumerate(names):
            _fill_layer(network, alone, name, copies=index >= first, feeds=index > first)
        heads = [(network.advantage, [one.advantage for one in alone])]
        if network.value is not None:
            heads.append((network.value, [_head(one.value) for one in alone]))
        for head, parts in heads:
            weights = [_of_every_neuron(part, one) for part, one in zip(parts, alone, strict=True)]
            head.weight.copy_(torch.cat(weights, 1))
            head.bias.copy_(parts[0].bias)
    return replace(agent, network=network.eval())


def _config(old: NetworkConfig, tasks: int, copied: set[str]) -> NetworkConfig:
    convolutions = tuple(
        replace(size, channels=size.channels * (tasks if name in copied else 1))
        for name, size in zip(old.layer_names, old.convolutions, strict=False)
    )
    connected = old.layer_names[len(old.convolutions) :]
    dense = tuple(
        width * (tasks if name in copied else 1)
        for name, width in zip(connected, old.dense, strict=False)
    )
    return replace(
        old,
        convolutions=convolutions,
        dense=dense,
        hidden=old.hidden * tasks,
        masked_layers=old.layer_names,
        pathway_layers=(),
        experts=0,
        expert_gate=NetworkConfig.expert_gate,
        dendrite_segments=1,
        dendrite_layers=old.layer_names,
        conv_gate="neuron",
        context="one_hot",
        context_size=0,
    )


def _fill_layer(
    network: MTSparkNetwork, alone: list[MTSparkNetwork], name: str, *, copies: bool, feeds: bool
) -> None:
    """Fill a layer; `copies`: every task has neurons of its own, `feeds`: so has what it hears."""
    layer, parts = network.layer(name), [one.layer(name) for one in alone]
    count, weight = len(parts), parts[0].synapses.weight
    axes = [1] * (weight.dim() - 2)
    # Copies of a row's weights leave their mean and deviation, and grow its fan-in.
    rows, columns = (count if copies else 1), (count if feeds else 1)
    layer.synapses.weight.copy_(weight.repeat(rows, columns, *axes))
    _bias(layer.synapses).copy_(_bias(parts[0].synapses).repeat(rows))
    layer.standardise.gain.copy_(parts[0].standardise.gain.repeat(rows) * columns**0.5)
    assert layer.mask is not None
    layer.mask.fill_(False)
    height, width = weight.shape[:2]
    for task, part in enumerate(parts if copies else parts[:1]):
        there = torch.ones_like(weight, dtype=torch.bool) if part.mask is None else part.mask
        own = slice(task * height, (task + 1) * height)
        heard = slice(task * width, (task + 1) * width) if feeds else slice(None)
        layer.mask[own, heard] = there
    gains = [_gain(one, name) for one in alone]
    logits = torch.full((count, rows, *gains[0].shape), -OFF)
    for task, gain in enumerate(gains):
        logits[task, task if copies else 0] = gain.double().logit().clamp(-OFF, OFF).float()
    dendrites = network.dendrites_of(name)
    assert dendrites is not None
    dendrites.segments.copy_(logits.flatten(1).T[:, None, :])


def _gain(network: MTSparkNetwork, name: str) -> Tensor:
    gains = network.gains_of_tasks(name, slice(0, 1))
    return torch.ones(network.layer_shapes[name]) if gains is None else gains[0]


def _bias(synapses: nn.Conv2d | nn.Linear) -> Tensor:
    assert synapses.bias is not None
    return synapses.bias


def _head(head: nn.Linear | None) -> nn.Linear:
    assert head is not None
    return head


def _of_every_neuron(head: nn.Linear, network: MTSparkNetwork) -> Tensor:
    """A head's weights over all hidden neurons, with those of experts folded in."""
    gate = network.expert_gate
    if gate is None:
        return head.weight
    factors = torch.ones_like(gate[0]) if network.config.expert_gate == "current" else gate[0]
    return torch.cat([head.weight * factor for factor in factors], 1)
