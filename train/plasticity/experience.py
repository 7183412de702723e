"""Transitions that an agent plays in its own games, by its own protocol."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import torch

from mtspark.core.environments import box_of, make_games
from mtspark.core.errors import BadRequestError
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.train.checkpoint import Agent
from mtspark.train.networks import legal_action_mask, mask_illegal
from mtspark.train.plasticity.measures import Transitions

COPIES, RANDOM_ACTIONS, DISCOUNT = 4, 0.05, 0.99


def play_transitions(
    agent: Agent, decisions: int, seed: int, progress: ProgressCallback = no_progress
) -> Transitions:
    """Play every task with four copies, one action of twenty at random.

    Rewards count by their sign, and values of the next frames are discounted by 0.99: the measures
    of all agents are then of one loss, whatever their training learned.

    Args:
        agent: of games.
        decisions: of each task, rounded up to whole decisions of all copies.
        seed: of games and random actions.
        progress: called at every decision.

    Raises:
        BadRequestError: a task is an image set, or takes numbers.
    """
    strangers = [task.name for task in agent.tasks if not task.game]
    if strangers:
        raise BadRequestError(
            f"{', '.join(strangers)}: plasticity is measured on frames of games; "
            "give an agent that plays games"
        )
    numbers = [task.name for task in agent.tasks if box_of(task) is not None]
    if numbers:
        raise BadRequestError(
            f"{', '.join(numbers)}: takes numbers; plasticity is measured of the values of a list "
            "of actions; give an agent that learned with pqn or dqn"
        )
    legal = legal_action_mask(
        [task.legal_actions for task in agent.tasks], agent.network.config.actions
    )
    generator = np.random.default_rng(seed)
    turns = -(-decisions // COPIES)
    parts: list[tuple[torch.Tensor, ...]] = []
    with torch.no_grad(), agent.network.weights_kept():
        for index, task in enumerate(agent.tasks):
            which = torch.full((COPIES,), index)
            with closing(make_games(task, agent.protocol, COPIES)) as games:
                frames, _ = games.reset(seed=generator.integers(0, 2**30) + np.arange(COPIES))
                done = np.zeros(COPIES, dtype=bool)
                values = mask_illegal(
                    agent.network(seen := torch.from_numpy(frames.copy()), which), legal[which]
                )
                for turn in range(turns):
                    actions = values.argmax(1).numpy()
                    random = generator.random(COPIES) < RANDOM_ACTIONS
                    actions[random] = generator.choice(task.legal_actions, size=int(random.sum()))
                    games.send(actions)
                    frames, rewards, ended, cut, _ = games.recv()
                    following = torch.from_numpy(frames.copy())
                    values = mask_illegal(agent.network(following, which), legal[which])
                    goals = torch.from_numpy(np.sign(rewards)).float()
                    goals += DISCOUNT * values.max(1).values * torch.from_numpy(~ended).float()
                    valid = torch.from_numpy(~done)
                    now = (seen, which, torch.from_numpy(actions), goals)
                    parts.append(tuple(tensor[valid] for tensor in now))
                    done, seen = ended | cut, following
                    progress(Progress(f"playing {task.name}", turn + 1, turns, "decisions"))
    seen, which, played, wanted = (torch.cat(one) for one in zip(*parts, strict=True))
    return Transitions(seen, which, played, wanted, legal)
