"""Our spiking actor and a plain critic as stable-baselines3's PPO takes them.

Of the library are the distributions, the generalised advantages and the passes over a rollout
(``PPO.train``). Play, checkpoints and logs are ours, so that a run resumes to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
)
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor, nn

from mtspark.core.arrays import Booleans, Singles
from mtspark.train.config import TrainConfig
from mtspark.train.networks import MTSparkNetwork, mask_illegal
from mtspark.train.rl.critic import Critic
from mtspark.train.rl.values import ActionValues

LOWEST_LOG, HIGHEST_LOG = -5.0, 2.0
"""Of the deviation of a value before the tanh."""
SMALLEST_SPREAD = 1e-8
"""Added to the deviation of advantages, as the library adds it."""


class Seen(NamedTuple):
    """What decisions were made on.

    Attributes:
        frames: (decisions, stack, height, width).
        task: (decisions,) task indices.
        allowed: (decisions, outputs) which actions the environments allowed; None: all legal ones.
    """

    frames: Tensor
    task: Tensor
    allowed: Tensor | None

    def at(self, chosen: Tensor) -> Seen:
        """Those of some decisions."""
        allowed = None if self.allowed is None else self.allowed[chosen]
        return Seen(self.frames[chosen], self.task[chosen], allowed)


@dataclass(frozen=True)
class Rollout:
    """Decisions to learn from, without those that only restarted a finished game.

    Attributes:
        seen: what they were made on.
        actions: (decisions,) of a list, or (decisions, numbers) before the tanh.
        values: (decisions,) that the critic gave.
        log_chances: (decisions,) of the actions when they were played.
        advantages: (decisions,) normalised.
        returns: (decisions,) for the critic to learn.
    """

    seen: Seen
    actions: Tensor
    values: Tensor
    log_chances: Tensor
    advantages: Tensor
    returns: Tensor

    def __len__(self) -> int:
        """Decisions."""
        return len(self.returns)


class OwnNumbers(DiagGaussianDistribution):  # type: ignore[misc]
    """A Gaussian of which each row uses some of the numbers; those beyond have no chance.

    Attributes:
        own: (batch, numbers) which numbers the row's task takes.
    """

    own: Tensor

    def log_prob(self, actions: Tensor) -> Tensor:
        """Logarithms of the density of the own numbers, (batch,)."""
        return (self.distribution.log_prob(actions) * self.own).sum(1)

    def entropy(self) -> Tensor:
        """Of the own numbers, in nats, (batch,)."""
        return (self.distribution.entropy() * self.own).sum(1)


class ActorCritic(nn.Module):
    """What the library's gradient step asks a policy for.

    Args:
        config: of the run.
        values: evaluates the actor's network.
        network: the actor's.
        numbers: of each task's box: actions are of a Gaussian whose deviation no state changes, so
            that the chip answers with the mean alone. Empty: one of a list, by the softmax of
            values. Where tasks take different numbers, each has deviations of its own.
    """

    own: Tensor | None

    def __init__(
        self,
        config: TrainConfig,
        values: ActionValues,
        network: MTSparkNetwork,
        *,
        numbers: tuple[int, ...],
    ) -> None:
        super().__init__()
        self._values, self.network = values, network
        self.critic = Critic(
            config.network, config.ppo.critic_layers, layer_norm=config.ppo.critic_layer_norm
        )
        size = config.network.actions
        differ = len(set(numbers)) > 1
        shape = (len(numbers), size) if differ else (size,)
        spread = torch.full(shape, math.log(config.ppo.deviation))
        self.log_spread = nn.Parameter(spread) if numbers else None
        own = torch.arange(size)[None] < torch.tensor(numbers)[:, None] if differ else None
        self.register_buffer("own", own, persistent=False)
        self.to(config.device)
        self._distribution: Distribution = CategoricalDistribution(size)
        if numbers:
            self._distribution = (OwnNumbers if differ else DiagGaussianDistribution)(size)
        of_network = {id(one) for one in network.parameters()}
        others = [one for one in self.parameters() if id(one) not in of_network]
        decay = config.plasticity.weight_decay
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(network.parameters()), "weight_decay": decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            eps=1e-5,
            fused=True,
        )

    @property
    def log_deviation(self) -> Tensor | None:
        """Of each number, (numbers,), or of each task's, (tasks, numbers), within its bounds.

        None where actions are of a list.
        """
        own = self.log_spread
        return None if own is None else own.clamp(LOWEST_LOG, HIGHEST_LOG)

    def log_deviation_of(self, task: Tensor) -> Tensor | None:
        """Of what is drawn for each decision, to be broadcast to (batch, numbers)."""
        known = self.log_deviation
        return known if known is None or self.own is None else known[task]

    def set_training_mode(self, mode: bool) -> None:
        """As the library names it."""
        self.train(mode)

    def scores(self, seen: Seen) -> Tensor:
        """(batch, outputs) values of the network; out of reach where an action is not allowed."""
        values = self._values(self.network, seen.frames, seen.task)
        return values if seen.allowed is None else mask_illegal(values, seen.allowed)

    def distribution(self, scores: Tensor, task: Tensor) -> Distribution:
        """Of the actions, by the network's values for each decision and its task."""
        known = self.log_deviation_of(task)
        if known is None:
            return self._distribution.proba_distribution(action_logits=scores)
        if self.own is not None:
            assert isinstance(self._distribution, OwnNumbers)
            self._distribution.own = self.own[task]
        return self._distribution.proba_distribution(scores, known)

    def evaluate_actions(self, seen: Seen, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values of the states, log chances of the actions, and entropies; (batch,) all."""
        chances = self.distribution(self.scores(seen), seen.task)
        values = self.critic(seen.frames, seen.task)
        return values, chances.log_prob(actions), chances.entropy()


class _Batches:
    """A rollout as the library asks for it: minibatches of all decisions, in a drawn order."""

    def __init__(self, rollout: Rollout, minibatches: int, generator: np.random.Generator) -> None:
        self._rollout, self._count, self._generator = rollout, minibatches, generator
        self.values, self.returns = rollout.values.cpu().numpy(), rollout.returns.cpu().numpy()

    def get(self, _: int) -> Iterator[RolloutBufferSamples]:
        """Give every decision once."""
        rollout = self._rollout
        order = self._generator.permutation(len(rollout))
        for part in np.array_split(order, min(self._count, len(rollout))):
            chosen = torch.from_numpy(part).to(rollout.returns.device)
            yield RolloutBufferSamples(
                rollout.seen.at(chosen),
                rollout.actions[chosen],
                rollout.values[chosen],
                rollout.log_chances[chosen],
                rollout.advantages[chosen],
                rollout.returns[chosen],
            )


class Learner:
    """PPO of stable-baselines3 around our network.

    Args:
        config: of the run.
        values: evaluates the network.
        network: the actor's; it learns.
        numbers: of each task's box; empty where actions are of a list.
        rate: gives the learning rate.
    """

    def __init__(
        self,
        config: TrainConfig,
        values: ActionValues,
        network: MTSparkNetwork,
        *,
        numbers: tuple[int, ...],
        rate: Callable[[], float],
    ) -> None:
        own, size = config.ppo, config.network.actions
        self._config = config
        self.policy = ActorCritic(config, values, network, numbers=numbers)
        self._ppo = PPO(
            ActorCriticPolicy,
            None,
            learning_rate=lambda _: rate(),
            n_epochs=config.epochs,
            gamma=config.discount,
            gae_lambda=config.trace,
            clip_range=lambda _: own.clip,
            # Over a whole rollout and by task, see `normalised`.
            normalize_advantage=False,
            ent_coef=own.entropy,
            vf_coef=own.value_weight,
            max_grad_norm=config.gradient_norm,
            target_kl=own.largest_change or None,
            device=config.device,
            _init_setup_model=False,
        )
        self._numbers = numbers
        box = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self._ppo.action_space = box if numbers else spaces.Discrete(size)
        self._ppo.policy = self.policy
        self._ppo._setup_lr_schedule()
        self._ppo.set_logger(Logger(folder=None, output_formats=[]))

    def learn(self, rollout: Rollout, generator: np.random.Generator) -> dict[str, float]:
        """Make the passes over a rollout; return the means of what was measured in them."""
        self._ppo.rollout_buffer = _Batches(rollout, self._config.minibatches, generator)
        self._ppo.train()
        measured = self._ppo.logger.name_to_value
        names = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl")
        return {
            name: float(measured[f"train/{name}"])
            for name in (*names, "clip_fraction", "explained_variance")
        }

    @property
    def deviation(self) -> tuple[tuple[float, ...], ...]:
        """Of each task's numbers before the tanh, now; empty where actions are of a list."""
        known = self.policy.log_deviation
        if known is None:
            return ()
        rows = known.detach().exp().expand(len(self._numbers), -1)
        return tuple(
            tuple(row[:count].tolist()) for row, count in zip(rows, self._numbers, strict=True)
        )

    def state(self) -> dict[str, Any]:
        """Tensors of all but the actor's network and the optimizer."""
        own = self.policy.log_spread
        return {
            "critic": self.policy.critic.state_dict(),
            **({} if own is None else {"log_deviation": own.detach().clone()}),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.policy.critic.load_state_dict(state["critic"])
        own = self.policy.log_spread
        if own is not None:
            with torch.no_grad():
                own.copy_(state["log_deviation"])


def generalised_advantages(
    rewards: Singles,
    values: Singles,
    last_values: Singles,
    terminal: Booleans,
    finished: Booleans,
    *,
    discount: float,
    trace: float,
) -> tuple[Singles, Singles]:
    """Estimate advantages of a rollout (GAE: Schulman et al. 2016, arXiv:1506.02438).

    A_t = d_t + discount trace (1 - finished_t) A_{t+1} with
    d_t = r_t + discount (1 - terminal_t) V_{t+1} - V_t. A truncated episode is finished and not
    terminal: V_{t+1} is then of what it showed last.

    Args:
        rewards, values: (steps, copies).
        last_values: (copies,) of what is seen after the last step.
        terminal, finished: (steps, copies).
        discount: gamma.
        trace: lambda.

    Returns:
        Advantages, and the returns A + V, (steps, copies) both.
    """
    steps, copies = rewards.shape
    nothing = spaces.Discrete(2)
    buffer = RolloutBuffer(steps, nothing, nothing, "cpu", trace, discount, copies)
    following = np.concatenate([values[1:], last_values[None]])
    # The library cuts off where an episode ended, so what a truncated one goes on with is a reward.
    buffer.rewards = rewards + discount * following * (finished & ~terminal)
    buffer.values = values
    buffer.episode_starts[1:] = finished[:-1]
    buffer.compute_returns_and_advantage(torch.from_numpy(last_values), finished[-1])
    return buffer.advantages, buffer.returns


def normalised(advantages: Tensor, task: Tensor) -> Tensor:
    """Return advantages with mean 0 and deviation 1 in every task, (decisions,).

    So that no task whose returns are larger, or that succeeds more often, decides for the others.
    """
    scaled = advantages.clone()
    for index in task.unique():
        own = task == index
        if int(own.sum()) > 1:
            part = advantages[own]
            scaled[own] = (part - part.mean()) / (part.std() + SMALLEST_SPREAD)
    return scaled
