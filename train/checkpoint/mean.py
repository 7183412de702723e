"""The mean of several agents' weights: one agent that often plays better than each of them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint.agent import Agent
from mtspark.train.networks import act_as


@torch.no_grad()
def mean_agent(agents: Iterable[Agent]) -> Agent:
    """Average agents of the same networks and tasks that were trained from the same weights.

    It is the acting weights of layers that are averaged: folded, and 0 where a synapse is cut. So a
    synapse is there where one of the agents has it. Heads, gains, dendrites and the gates of
    experts are averaged each by itself; of a gate and the head behind it, the mean is not that of
    their products, unless the agents are close. Runs from the same start, as seeds of a recipe,
    stay close enough for their mean to act as they do, and it is often better (Wortsman et al.
    2022, arXiv:2203.05482); of networks that began with other weights it need not play at all.

    Args:
        agents: two or more.

    Returns:
        An agent of its own, without evaluations. Its `training` is the first one's, with those of
        all under "mean_of".

    Raises:
        BadRequestError: fewer than two agents, agents of other networks, tasks or protocols, or
            tasks with synapses of their own. Agents of an environment whose numbers are sent by
            running statistics have other tasks, too: their weights know other messages.
    """
    agents = list(agents)
    odd = [type(one).__name__ for one in agents if not isinstance(one, Agent)]
    if odd:
        raise BadRequestError(
            f"agents: {', '.join(dict.fromkeys(odd))} given; give agents, as of "
            "mtspark.load_agent(path)"
        )
    if len(agents) < 2:
        raise BadRequestError(f"agents: {len(agents)} given, a mean needs two or more")
    first = agents[0]
    for place, agent in enumerate(agents[1:], 2):
        for what, one, other in (
            ("another network", first.network.config, agent.network.config),
            ("other tasks, or other statistics of what they show,", first.tasks, agent.tasks),
            ("another protocol", first.protocol, agent.protocol),
        ):
            if one != other:
                raise BadRequestError(
                    f"agents: agent {place} has {what} than the first; give agents of one recipe "
                    "that differ in their weights alone"
                )
    if first.network.config.pathway_layers:
        raise BadRequestError(
            "agents: their tasks have synapses of their own, whose paths have no mean; give agents "
            "without pathways"
        )
    network = copy.deepcopy(first.network)
    states = [agent.network.state_dict() for agent in agents]
    mean: dict[str, Tensor] = {}
    for name, value in states[0].items():
        of_all = torch.stack([state[name] for state in states])
        if value.is_floating_point():
            mean[name] = of_all.double().mean(0).to(value.dtype)
        elif value.dtype == torch.bool:
            mean[name] = of_all.any(0)
        else:
            mean[name] = value
    network.load_state_dict(mean)
    for name in network.layer_names:
        acting = [agent.network.layer(name).folded_weight().double() for agent in agents]
        act_as(network.layer(name), torch.stack(acting).mean(0))
    training = {**first.training, "mean_of": [agent.training for agent in agents]}
    return replace(first, network=network.eval(), training=training, evaluations=[])
