"""Transitions that an agent plays in its own games, by its own protocol."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import torch

from mtspark.core.arrays import Booleans, Floats
from mtspark.core.environments import (
    Games,
    Task,
    box_of,
    make_games,
    masks_of,
    random_actions,
    stretched,
)
from mtspark.core.errors import BadRequestError
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.train.checkpoint import Agent
from mtspark.train.networks import legal_action_mask, mask_illegal
from mtspark.train.plasticity.measures import DrawnNumbers, Transitions, check_stateless

COPIES, RANDOM_ACTIONS, DISCOUNT = 4, 0.05, 0.99


def play_transitions(
    agent: Agent, decisions: int, seed: int, progress: ProgressCallback = no_progress
) -> Transitions | DrawnNumbers:
    """Play every task with four copies, one action of twenty at random.

    Rewards count by their sign, and values of the next frames are discounted by 0.99: the measures
    of all agents are then of one loss, whatever their training learned. An agent that learned a
    policy (ppo, iql, bcq) draws all actions, and has advantages as goals: the discounted rewards up
    to the end of the episode or the play, normalised, since its critic is not in the file. An agent
    whose actions are numbers draws them with the deviations that it was trained with, and its
    advantages are those of the rewards themselves.

    Args:
        agent: of games.
        decisions: of each task, rounded up to whole decisions of all copies.
        seed: of games and random actions.
        progress: called at every decision.

    Raises:
        BadRequestError: a task is an image set, or takes numbers whose deviations are not known;
            or the network is stateful.
    """
    check_stateless(agent.network)
    strangers = [task.name for task in agent.tasks if not task.game]
    if strangers:
        raise BadRequestError(
            f"{', '.join(strangers)}: plasticity is measured on frames of games; "
            "give an agent that plays games"
        )
    numbers = [task.name for task in agent.tasks if box_of(task) is not None]
    if numbers:
        return _play_numbers(agent, decisions, seed, progress)
    legal = legal_action_mask(
        [task.legal_actions for task in agent.tasks], agent.network.config.actions
    )
    generator = np.random.default_rng(seed)
    of_policy = _learned_a_policy(agent)
    turns = -(-decisions // COPIES)
    parts: list[tuple[torch.Tensor, ...]] = []
    with torch.no_grad(), agent.network.weights_kept():
        for index, task in enumerate(agent.tasks):
            which = torch.full((COPIES,), index)
            with closing(make_games(task, agent.protocol, COPIES)) as games:
                frames, _ = games.reset(seed=generator.integers(0, 2**30) + np.arange(COPIES))
                done = np.zeros(COPIES, dtype=bool)
                seen = torch.from_numpy(frames.copy())
                allowed = _allowed(games, task, legal[which])
                values = mask_illegal(agent.network(seen, which), allowed)
                played: list[tuple[torch.Tensor, ...]] = []
                gained: list[tuple[Floats, Booleans]] = []
                for turn in range(turns):
                    if of_policy:
                        noisy = values.double().numpy() + generator.gumbel(size=values.shape)
                        actions = noisy.argmax(1)
                    else:
                        actions = values.argmax(1).numpy()
                        random = generator.random(COPIES) < RANDOM_ACTIONS
                        masks = masks_of(games)
                        actions[random] = random_actions(
                            task,
                            int(random.sum()),
                            generator,
                            None if masks is None else masks[random],
                        )
                    games.send(actions)
                    frames, rewards, ended, cut, _ = games.recv()
                    following = torch.from_numpy(frames.copy())
                    before, allowed = allowed, _allowed(games, task, legal[which])
                    values = mask_illegal(agent.network(following, which), allowed)
                    goals = torch.from_numpy(np.sign(rewards)).float()
                    goals += DISCOUNT * values.max(1).values * torch.from_numpy(~ended).float()
                    gained.append((np.sign(rewards), ended | cut))
                    valid = torch.from_numpy(~done)
                    played.append((seen, torch.from_numpy(actions), goals, before, valid))
                    done, seen = ended | cut, following
                    progress(Progress(f"playing {task.name}", turn + 1, turns, "decisions"))
            looks, chosen, goals, free, valid = (
                torch.cat(one) for one in zip(*played, strict=True)
            )
            if of_policy:
                goals = _discounted(gained).flatten()
                goals = (goals - goals[valid].mean()) / goals[valid].std(correction=0).clamp(1e-8)
            now = (looks, which.repeat(turns), chosen, goals, free)
            parts.append(tuple(tensor[valid] for tensor in now))
    seen, which, taken, wanted, free = (torch.cat(one) for one in zip(*parts, strict=True))
    return Transitions(seen, which, taken, wanted, legal, of_policy=of_policy, allowed=free)


def _allowed(games: Games, task: Task, legal: torch.Tensor) -> torch.Tensor:
    """(copies, actions) which actions the games allow now.

    Args:
        games: that are played.
        task: of the games.
        legal: (copies, actions) the task's legal actions.
    """
    masks = masks_of(games)
    if masks is None:
        return legal
    allowed = torch.zeros_like(legal)
    allowed[:, list(task.legal_actions)] = torch.from_numpy(masks)
    return allowed


def _play_numbers(
    agent: Agent, decisions: int, seed: int, progress: ProgressCallback
) -> DrawnNumbers:
    """Play tasks that take numbers, all of them drawn."""
    generator, turns = np.random.default_rng(seed), -(-decisions // COPIES)
    deviations = torch.full((len(agent.tasks), agent.network.config.actions), torch.inf)
    parts: list[tuple[torch.Tensor, ...]] = []
    for index, task in enumerate(agent.tasks):
        box = box_of(task)
        if box is None or not box.deviation:
            raise BadRequestError(
                f"{task.name}: "
                + ("takes one of a list, other tasks" if box is None else "takes")
                + " numbers, and the deviations that they were drawn with are not known; give an "
                "agent that learned with sac or ppo"
            )
        deviations[index, : box.size] = torch.tensor(box.deviation)
        which = torch.full((COPIES,), index)
        own = deviations[index, : box.size].numpy()
        played: list[tuple[torch.Tensor, ...]] = []
        gained: list[tuple[Floats, Booleans]] = []
        with (
            torch.no_grad(),
            agent.network.weights_kept(),
            closing(make_games(task, agent.protocol, COPIES)) as games,
        ):
            frames, _ = games.reset(seed=generator.integers(0, 2**30) + np.arange(COPIES))
            done = np.zeros(COPIES, dtype=bool)
            for turn in range(turns):
                seen = torch.from_numpy(frames.copy())
                drawn = agent.network(seen, which).double().numpy()
                drawn[:, : box.size] += own * generator.standard_normal((COPIES, box.size))
                games.send(stretched(np.tanh(drawn[:, : box.size]), box))
                frames, rewards, ended, cut, _ = games.recv()
                gained.append((np.asarray(rewards, np.float64), ended | cut))
                played.append((seen, torch.from_numpy(drawn).float(), torch.from_numpy(~done)))
                done = ended | cut
                progress(Progress(f"playing {task.name}", turn + 1, turns, "decisions"))
        looks, chosen, valid = (torch.cat(one) for one in zip(*played, strict=True))
        goals = _discounted(gained).flatten()
        goals = (goals - goals[valid].mean()) / goals[valid].std(correction=0).clamp(1e-8)
        now = (looks, which.repeat(turns), chosen, goals)
        parts.append(tuple(tensor[valid] for tensor in now))
    seen, task_of, drawn_numbers, wanted = (torch.cat(one) for one in zip(*parts, strict=True))
    return DrawnNumbers(seen, task_of, drawn_numbers, wanted, deviations)


def _learned_a_policy(agent: Agent) -> bool:
    config = agent.training.get("config")
    return isinstance(config, dict) and config.get("algorithm") in ("ppo", "iql", "bcq")


def _discounted(gained: list[tuple[Floats, Booleans]]) -> torch.Tensor:
    """Discounted rewards from each turn to the end of its episode or the play, (turns, copies).

    Args:
        gained: rewards, and whether an episode is over, (copies,) both, of each turn.
    """
    following, found = np.zeros(COPIES), []
    for rewards, over in reversed(gained):
        following = rewards + DISCOUNT * following * ~over
        found.append(following)
    return torch.from_numpy(np.stack(found[::-1])).float()
