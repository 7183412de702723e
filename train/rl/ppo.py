"""Proximal policy optimisation: a spiking actor, a plain critic (arXiv:1707.06347).

The games, their statistics, checkpoints and logs are those of every trainer; the passes over a
rollout are stable-baselines3's, see :mod:`mtspark.train.rl.clipped`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mtspark.core.arrays import AnyArray
from mtspark.core.environments import box_of, stretched
from mtspark.core.errors import BackendMissingError, DivergedError
from mtspark.train.checkpoint import Agent
from mtspark.train.config import TrainConfig
from mtspark.train.plasticity import Transitions
from mtspark.train.rl.sac import with_deviation
from mtspark.train.rl.trainer import Trainer
from mtspark.train.runs import check_finite
from mtspark.train.sparsity import SparseModule, quiet_biases

if TYPE_CHECKING:
    from mtspark.train.rl.clipped import Rollout

EXTRA = 'algorithm ppo: needs stable-baselines3; pip install "mtspark[ppo]"'


class PpoTrainer(Trainer):
    """Plays rollouts of all active games, with drawn actions, and makes passes over each.

    Args:
        config: of the run.
        resumed: :meth:`restore` follows.

    Raises:
        BackendMissingError: stable-baselines3 is not installed.
    """

    def __init__(self, config: TrainConfig, *, resumed: bool = False) -> None:
        try:
            from mtspark.train.rl.clipped import Learner
        except ModuleNotFoundError as error:
            raise BackendMissingError(EXTRA) from error

        super().__init__(config, resumed=resumed)
        self.boxes = [box_of(task) for task in self.tasks]
        self.learner = Learner(
            config,
            self.values,
            self.network,
            numbers=tuple(box.size for box in self.boxes if box is not None),
            rate=lambda: self.optimizer.param_groups[0]["lr"],
        )
        self.optimizer = self.learner.policy.optimizer
        self._critic_cuts: SparseModule | None = None
        if config.pruning.scope == "critics":
            # The optimizer keeps the same parameters; masks travel in the critic's state.
            self._critic_cuts = SparseModule(self.learner.policy.critic)
        if config.quiet_biases:
            self.optimizer.register_step_post_hook(lambda *_: quiet_biases(self.network))
        if self.alone is not None:
            self.alone.begin(self.learned())
        self._measured: dict[str, float] = {}
        self._rollout: Rollout | None = None

    @property
    def epsilon(self) -> float:
        """No action is random beside what the policy draws."""
        return 0.0

    def update(self) -> float:
        """Play one rollout and learn from it; return the mean loss."""
        episodes = self.games.episodes
        rollout, decisions = self.roll_out()
        self.count(decisions, episodes)
        loss = self._learned(rollout) if len(rollout) else 0.0
        self._rollout = rollout
        self.tend_network()
        self._rollout = None
        return loss

    @torch.no_grad()
    def roll_out(self) -> tuple[Rollout, int]:
        """Play one rollout; return it, and how many decisions were played."""
        from mtspark.train.rl.clipped import Rollout, Seen, generalised_advantages, normalised

        policy, task = self.learner.policy, self.task_of_copy()
        policy.set_training_mode(False)
        seen, actions, values, chances = [], [], [], []
        rewards, ends = [], []
        with self.network.weights_kept():
            for _ in range(self.config.rollout_steps):
                allowed = self.games.allowed(self.active)
                shown = None if allowed is None else allowed.to(self.device)
                seen.append(Seen(self.observe(), task, shown))
                scores = policy.scores(seen[-1])
                actions.append(self._drawn(scores, task))
                chances.append(policy.distribution(scores, task).log_prob(actions[-1]))
                values.append(policy.critic(seen[-1].frames, task))
                steps = self.games.step(self.active, self._played(actions[-1].cpu().numpy()))
                rewards.append(self.games.learned_rewards(self.active, steps))
                ends.append(
                    [
                        np.concatenate([getattr(step, name) for step in steps])
                        for name in ("terminal", "finished", "valid")
                    ]
                )
        last = policy.critic(self.observe(), task).cpu().numpy()
        terminal, finished, valid = (np.stack(one) for one in zip(*ends, strict=True))
        estimated = torch.stack(values)
        both = generalised_advantages(
            np.stack(rewards),
            estimated.cpu().numpy(),
            last,
            terminal,
            finished,
            discount=self.config.discount,
            trace=self.config.trace,
        )
        kept = torch.from_numpy(valid.reshape(-1)).to(self.device)
        advantages, returns = (torch.from_numpy(one).to(self.device).flatten() for one in both)
        tasks = task.repeat(self.config.rollout_steps)
        masks = [one.allowed for one in seen if one.allowed is not None]
        looks = Seen(
            torch.cat([one.frames for one in seen]), tasks, torch.cat(masks) if masks else None
        )
        rollout = Rollout(
            looks.at(kept),
            torch.cat(actions)[kept],
            estimated.flatten()[kept],
            torch.cat(chances)[kept],
            normalised(advantages[kept], tasks[kept]),
            returns[kept],
        )
        return rollout, valid.size

    def _drawn(self, scores: Tensor, task: Tensor) -> Tensor:
        """Draw the actions of all copies, on the device of the scores."""
        known = self.learner.policy.log_deviation_of(task)
        if known is None:
            # The best of values with Gumbel noise has the probabilities of their softmax.
            noisy = scores.double().cpu().numpy() + self.generator.gumbel(size=scores.shape)
            return torch.from_numpy(noisy.argmax(1)).to(scores.device)
        noise = torch.from_numpy(self.generator.standard_normal(scores.shape, np.float32))
        return scores + known.exp() * noise.to(scores.device)

    def _played(self, actions: AnyArray) -> AnyArray:
        """Actions as the games take them; numbers beyond those of a task are 0."""
        if self.boxes[0] is None:
            return actions
        borders = np.cumsum([self.games[index].copies for index in self.active])[:-1]
        parts = []
        for index, part in zip(self.active, np.split(actions, borders), strict=True):
            box = self.boxes[index]
            assert box is not None
            taken = np.zeros_like(part)
            taken[:, : box.size] = stretched(np.tanh(part[:, : box.size]), box)
            parts.append(taken)
        return np.concatenate(parts)

    def _learned(self, rollout: Rollout) -> float:
        """Make the passes over a rollout; return their mean loss.

        Raises:
            DivergedError: the loss was, or a weight is now, not finite.
        """
        problem: ValueError | None = None
        loss = math.nan
        self.set_learning_rate()
        try:
            measured = self.learner.learn(rollout, self.generator)
            own = self.config.ppo
            loss = (
                measured["policy_gradient_loss"]
                + own.value_weight * measured["value_loss"]
                + own.entropy * measured["entropy_loss"]
            )
            self._measured = {
                "entropy": -measured.pop("entropy_loss"),
                "policy_loss": measured.pop("policy_gradient_loss"),
                "change": measured.pop("approx_kl"),
                **measured,
            }
        except ValueError as error:
            # A distribution takes no values that are no numbers.
            problem = error
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            raise DivergedError(f"a step of the learning rate is not finite: {error}") from error
        try:
            check_finite(self.learner.policy.state_dict())
        except ValueError as error:
            raise DivergedError(str(error)) from error
        if problem is not None:
            raise problem
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss}")
        return loss

    def cut_critics(self, density: float) -> None:
        """Cut the critic."""
        assert self._critic_cuts is not None
        self._critic_cuts.prune(density)

    def learned(self) -> dict[str, nn.Module]:
        """The actor and, once it is there, the critic."""
        learner = getattr(self, "learner", None)
        both = {} if learner is None else {"critic": learner.policy.critic}
        return {**super().learned(), **both}

    def last_transitions(self) -> Transitions | None:
        """The decisions of this update, with their advantages."""
        rollout = self._rollout
        if rollout is None or not len(rollout):
            return None
        seen = rollout.seen
        return Transitions(
            *(seen.frames, seen.task, rollout.actions, rollout.advantages, self.values.mask),
            of_policy=True,
            allowed=seen.allowed,
        )

    def measurements(self) -> dict[str, dict[str, float | None]]:
        """Those of every trainer, and what the last passes measured."""
        rows = self.learner.deviation
        several = len({len(row) for row in rows}) > 1
        deviations = {
            f"value {n}{f' {task.name}' if several else ''}": round(d, 4)
            for task, row in zip(self.tasks, rows, strict=bool(rows))
            for n, d in enumerate(row)
        }
        passes = {name: round(value, 6) for name, value in self._measured.items()}
        found: dict[str, dict[str, float | None]] = super().measurements()
        if self._critic_cuts is not None:
            found["critic_density"] = {**self._critic_cuts.densities}
        return {**found, "ppo": {**passes, **deviations}}

    def agent(self) -> Agent:
        """The agent as it is now; where it draws numbers, its tasks know their deviation."""
        made, deviation = super().agent(), self.learner.deviation
        if deviation:
            made.tasks = tuple(map(with_deviation, made.tasks, deviation))
        return made

    def state(self) -> dict[str, Any]:
        """The state of every trainer, and the learner's."""
        return {**super().state(), "learner": self.learner.state()}

    def restore(
        self, state: dict[str, Any], on_decision: Callable[[int, int], None] = lambda *_: None
    ) -> tuple[str, ...]:
        """Resume from :meth:`state`."""
        self.learner.restore(state["learner"])
        return super().restore(state, on_decision)
