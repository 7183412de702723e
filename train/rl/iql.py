"""Implicit Q-learning from recorded data (Kostrikov et al. 2021, arXiv:2110.06169)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from mtspark.core.environments import box_of
from mtspark.train.config import TrainConfig
from mtspark.train.networks import MTSparkNetwork, mask_illegal
from mtspark.train.plasticity import Transitions
from mtspark.train.rl.critic import Critic
from mtspark.train.rl.offline import OfflineTrainer
from mtspark.train.rl.pathways import Scored
from mtspark.train.rl.recorded import Batch
from mtspark.train.rl.values import ActionValues

LOWEST_LOG, HIGHEST_LOG = -5.0, 2.0
"""Of the deviation of a number from -1 to 1."""


def expectile_loss(error: Tensor, expectile: float) -> Tensor:
    """|expectile - 1(error < 0)| error^2, mean: of Q - V, it lowers V to this expectile of Q."""
    weight = torch.where(error < 0, 1 - expectile, expectile)
    return (weight * error.square()).mean()


def advantage_weights(advantage: Tensor, sharpness: float, largest: float) -> Tensor:
    """exp(sharpness * advantage), at most `largest`."""
    return (sharpness * advantage).exp().clamp(max=largest)


class Judges(nn.Module):
    """Two critics of actions; the lower value counts.

    Args:
        config: of the run.
        boxed: actions are numbers, which the critics see; otherwise each has an output.
    """

    def __init__(self, config: TrainConfig, *, boxed: bool) -> None:
        super().__init__()
        network, size = config.network, config.network.actions
        self._boxed = boxed
        self.both = nn.ModuleList(
            Critic(
                network,
                config.offline.critic_layers,
                outputs=1 if boxed else size,
                numbers=size if boxed else 0,
                activation=nn.ReLU,
                layer_norm=config.offline.critic_layer_norm,
            )
            for _ in range(2)
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return the values of the actions of a batch, (2, batch)."""
        if self._boxed:
            seen = batch.frames, batch.task, batch.actions
            return torch.stack([one(*seen) for one in self.both])
        values = (one(batch.frames, batch.task) for one in self.both)
        chosen = batch.actions[:, None]
        return torch.stack([one.view(len(chosen), -1).gather(1, chosen)[:, 0] for one in values])


class Actor(nn.Module):
    """The policy that a network is: a softmax of its values, or Gaussians around numbers.

    A Gaussian lies around tanh of a value, from -1 to 1, so that the chip answers with its middle;
    each task has a deviation for each of its numbers, the same in all states.

    Args:
        config: of the run.
        numbers: of each task's box; empty: actions are of a list.
    """

    def __init__(self, config: TrainConfig, numbers: tuple[int, ...]) -> None:
        super().__init__()
        self.log_spread: nn.Parameter | None = None
        size = config.network.actions
        if numbers:
            begin = torch.full((len(numbers), size), math.log(config.offline.deviation))
            self.log_spread = nn.Parameter(begin)
        own = torch.arange(size)[None] < torch.tensor(numbers)[:, None]
        self.register_buffer("own", own, persistent=False)

    def log_chances(self, values: Tensor, batch: Batch) -> Tensor:
        """Logarithms of the chances of a batch's actions, (batch,), by the network's values."""
        if self.log_spread is None:
            logs = mask_illegal(values, batch.allowed).log_softmax(1)
            return logs.gather(1, batch.actions[:, None]).squeeze(1)
        spread = self.log_spread.clamp(LOWEST_LOG, HIGHEST_LOG)[batch.task].exp()
        terms = Normal(torch.tanh(values), spread).log_prob(batch.actions)
        assert isinstance(self.own, Tensor)
        return (terms * self.own[batch.task]).sum(1)


class IqlTrainer(OfflineTrainer):
    """Values by expectile regression, and the actor by weighted regression on the data's actions.

    With target critics Q', V lowers the expectile loss of min Q' - V, each critic of actions
    (r + discount V(s') - Q)^2, and the actor -exp(sharpness (min Q' - V)) log pi(a), all in one
    step.
    """

    def made_critics(self) -> dict[str, nn.Module]:
        """Critics of states, of actions with their target, and the deviation of numbers."""
        boxes = [box_of(task) for task in self.tasks]
        numbers = tuple(box.size for box in boxes if box is not None)
        own = self.config.offline
        judges = Judges(self.config, boxed=bool(numbers))
        return {
            "value": Critic(
                self.config.network,
                own.critic_layers,
                activation=nn.ReLU,
                layer_norm=own.critic_layer_norm,
            ),
            "judges": judges,
            "judges_target": copy.deepcopy(judges),
            "actor": Actor(self.config, numbers),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Sum of the losses of values, critics and actor."""
        own = self.config.offline
        value = self.critics["value"](batch.frames, batch.task)
        with torch.no_grad():
            judged = self.critics["judges_target"](batch).min(0).values
            following = self.critics["value"](batch.next_frames, batch.task)
            goals = batch.rewards + self.config.discount * (1 - batch.terminal) * following
        value_loss = expectile_loss(judged - value, own.expectile)
        errors = self.critics["judges"](batch) - goals
        judges_loss = errors.square().mean(1).sum()
        advantage = judged - value.detach()
        weights = advantage_weights(advantage, own.sharpness, own.largest_weight)
        actor_loss = self._actor_loss(self.network, batch, weights)
        measured = {
            "value_loss": float(value_loss.detach()),
            "judges_loss": float(judges_loss.detach()),
            "actor_loss": float(actor_loss.detach()),
            "value": float(value.detach().mean()),
            "advantage": float(advantage.mean()),
            "weight": float(weights.mean()),
        }
        return value_loss + judges_loss + actor_loss, measured

    def _actor_loss(self, network: MTSparkNetwork, batch: Batch, weights: Tensor) -> Tensor:
        return weighted_loss(self.values, self._actor, network, batch, weights)

    @property
    def _actor(self) -> Actor:
        actor = self.critics["actor"]
        assert isinstance(actor, Actor)
        return actor

    def after_step(self) -> None:
        """Mix the critics of actions into their target."""
        self.follow("judges")

    @torch.no_grad()
    def _weights(self, batch: Batch) -> Tensor:
        own = self.config.offline
        judged = self.critics["judges_target"](batch).min(0).values
        advantage = judged - self.critics["value"](batch.frames, batch.task)
        return advantage_weights(advantage, own.sharpness, own.largest_weight)

    def scored(self, batch: Batch) -> Scored:
        """Decisions of the data with the actor's loss, whose weights are those of now."""
        weights = self._weights(batch)
        if self._actor.log_spread is None:
            seen = batch.frames, batch.task, batch.actions, weights
            return Transitions(*seen, self.values.mask, of_policy=True, allowed=batch.allowed)
        return WeightedNumbers(batch, weights, self.values, self._actor)


def weighted_loss(
    values: ActionValues, actor: Actor, network: MTSparkNetwork, batch: Batch, weights: Tensor
) -> Tensor:
    """-weight log pi(action), mean."""
    return -(weights * actor.log_chances(values(network, batch.frames, batch.task), batch)).mean()


@dataclass(frozen=True)
class WeightedNumbers:
    """Recorded numbers with their weights, by task, and the actor's loss there.

    Attributes:
        batch: of the data.
        weights: (batch,) of its actions.
        values: evaluates networks.
        actor: with the deviations.
    """

    batch: Batch
    weights: Tensor
    values: ActionValues
    actor: Actor

    @property
    def task(self) -> Tensor:
        """(samples,) task indices."""
        return self.batch.task

    def of_task(self, index: int) -> WeightedNumbers:
        """Those of one task."""
        return self._at((self.task == index).nonzero().squeeze(1))

    def thinned(self, samples: int) -> WeightedNumbers:
        """At most so many samples, spread evenly over these."""
        count = len(self.task)
        if count <= samples:
            return self
        return self._at(torch.linspace(0, count - 1, samples).long())

    def _at(self, chosen: Tensor) -> WeightedNumbers:
        part = Batch(**{name: value[chosen] for name, value in vars(self.batch).items()})
        return WeightedNumbers(part, self.weights[chosen], self.values, self.actor)

    def loss(self, network: MTSparkNetwork) -> Tensor:
        """Mean loss of a network as the actor."""
        return weighted_loss(self.values, self.actor, network, self.batch, self.weights)
