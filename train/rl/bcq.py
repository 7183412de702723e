"""Discrete batch-constrained Q-learning from recorded data (Fujimoto et al. 2019).

arXiv:1910.01708, with the losses of its released code.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtspark.train.networks import mask_illegal
from mtspark.train.plasticity import Transitions
from mtspark.train.rl.critic import Critic
from mtspark.train.rl.offline import OfflineTrainer
from mtspark.train.rl.pathways import Scored
from mtspark.train.rl.recorded import Batch

LOGIT_PRICE = 0.01
"""Weight of the squared outputs of the model, as in the released code."""


def constrained(logits: Tensor, allowed: Tensor, threshold: float) -> Tensor:
    """Which actions are likely enough: chance / largest chance > threshold, (batch, actions).

    Args:
        logits: (batch, actions) of the model of the data.
        allowed: (batch, actions) which could be chosen.
        threshold: 0: all allowed ones with any chance; 1: none is above it, so the likeliest.

    Returns:
        True for these actions; the likeliest one is always among them.
    """
    logs = mask_illegal(logits, allowed).log_softmax(1)
    share = (logs - logs.max(1, keepdim=True).values).exp()
    return ((share > threshold) | (share == 1)) & allowed


class BcqTrainer(OfflineTrainer):
    """Q-learning over the actions that the data has, and an actor that learns to choose the best.

    A model of the data's actions says which are likely enough; of these, the critic's best is taken
    in the next state and valued by the target critic (double Q-learning). The actor learns the best
    in each state of the data by cross-entropy.
    """

    def made_critics(self) -> dict[str, nn.Module]:
        """A critic of actions with its target, and the model of the data."""
        network, own = self.config.network, self.config.offline

        def made() -> Critic:
            return Critic(
                network,
                own.critic_layers,
                outputs=network.actions,
                activation=nn.ReLU,
                layer_norm=own.critic_layer_norm,
            )

        judge = made()
        return {"judge": judge, "judge_target": copy.deepcopy(judge), "model": made()}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Sum of the losses of critic, model and actor."""
        chosen = batch.actions[:, None]
        values = self._of("judge", batch.frames, batch.task)
        logits = self._of("model", batch.frames, batch.task)
        with torch.no_grad():
            best = self.best(batch.next_frames, batch.task, batch.next_allowed)[:, None]
            target = self._of("judge_target", batch.next_frames, batch.task)
            following = target.gather(1, best).squeeze(1)
            goals = batch.rewards + self.config.discount * (1 - batch.terminal) * following
            taught = self.best(batch.frames, batch.task, batch.allowed)
        judge_loss = functional.smooth_l1_loss(values.gather(1, chosen).squeeze(1), goals)
        likely = mask_illegal(logits, batch.allowed)
        model_loss = functional.cross_entropy(likely, batch.actions)
        model_loss = model_loss + LOGIT_PRICE * logits.square().mean()
        policy = self.values(self.network, batch.frames, batch.task)
        actor_loss = functional.cross_entropy(mask_illegal(policy, batch.allowed), taught)
        measured = {
            "judge_loss": float(judge_loss.detach()),
            "model_loss": float(model_loss.detach()),
            "actor_loss": float(actor_loss.detach()),
            "value": float(values.detach().gather(1, chosen).mean()),
            "as_recorded": float((taught == batch.actions).float().mean()),
        }
        return judge_loss + model_loss + actor_loss, measured

    def _of(self, name: str, frames: Tensor, task: Tensor) -> Tensor:
        """Outputs of one of the critics, (batch, actions)."""
        found: Tensor = self.critics[name](frames, task)
        return found.view(len(task), -1)

    @torch.no_grad()
    def best(self, frames: Tensor, task: Tensor, allowed: Tensor) -> Tensor:
        """Best actions of those that are likely enough in the data, (batch,)."""
        likely = constrained(
            self._of("model", frames, task), allowed, self.config.offline.threshold
        )
        return mask_illegal(self._of("judge", frames, task), likely).argmax(1)

    def after_step(self) -> None:
        """Mix the critic into its target."""
        self.follow("judge")

    def scored(self, batch: Batch) -> Scored:
        """States of the data with the actor's loss: the best actions there, all of weight 1."""
        best = self.best(batch.frames, batch.task, batch.allowed)
        weights = torch.ones(len(best), device=best.device)
        return Transitions(
            *(batch.frames, batch.task, best, weights, self.values.mask),
            of_policy=True,
            allowed=batch.allowed,
        )
