"""One task of an agent as an agent of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtspark.core.environments import task_index
from mtspark.train.checkpoint.agent import Agent
from mtspark.train.networks import MTSparkNetwork


def single_task(agent: Agent, task: str) -> Agent:
    """Take one task out of an agent: its own synapses, thresholds, experts and head alone.

    A pathway becomes cut synapses, and the contexts of other tasks go. Every number that acts in
    the task stays as it is, so the new agent computes what the old one computes in that task.

    Args:
        agent: of any number of tasks.
        task: its name, or what gymnasium calls it.

    Raises:
        BadRequestError: the agent has no such task.
    """
    index = task_index(agent.tasks, task)
    old = agent.network
    config = replace(
        old.config,
        tasks=1,
        masked_layers=(*old.config.masked_layers, *old.config.pathway_layers),
        pathway_layers=(),
        heads="shared",
    )
    own_head = old.config.heads == "task"
    with torch.random.fork_rng(devices=[]):
        network = MTSparkNetwork(config)
    state: dict[str, Tensor] = {}
    for name, value in old.state_dict().items():
        owner, _, last = name.rpartition(".")
        if last == "paths":
            state[f"{owner}.mask"] = value[index]
        elif last == "segments" and config.context == "one_hot":
            state[name] = value[:, :, index : index + 1]
        elif last in ("vectors", "expert_gate"):
            state[name] = value[index : index + 1]
        elif own_head and owner in ("advantage", "value"):
            state[name] = value.unflatten(0, (old.config.tasks, -1))[index]
        else:
            state[name] = value
    network.load_state_dict(state)
    return Agent(
        network.eval(),
        (agent.tasks[index],),
        agent.protocol,
        agent.training,
        [one for one in agent.evaluations if _is_of(one, agent.tasks[index].name)],
    )


def _is_of(evaluation: Any, task: str) -> bool:
    return isinstance(evaluation, dict) and evaluation.get("task", task) == task
