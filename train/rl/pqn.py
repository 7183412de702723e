"""PQN for spiking networks: vectorised games, no replay, a soft target network.

Gallici et al. 2024, arXiv:2407.04811, with a target network that follows softly, and double Q.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtspark.train.config import TrainConfig
from mtspark.train.rl.distil import advice, divergence
from mtspark.train.rl.trainer import Trainer
from mtspark.train.rl.values import rescale, unscale


def lambda_returns(
    rewards: Tensor, terminated: Tensor, finished: Tensor, next_values: Tensor, config: TrainConfig
) -> Tensor:
    """Lambda returns of a rollout, all tensors (steps, games).

    G_t = r_t + gamma (1 - terminated_t) [(1 - lambda) V_{t+1} + lambda G_{t+1}]; where an
    episode finished, or at the end of the rollout, V_{t+1} stands in for G_{t+1}.
    """
    returns = torch.empty_like(rewards)
    following = next_values[-1]
    for step in reversed(range(rewards.shape[0])):
        mixed = torch.lerp(next_values[step], following, config.trace)
        mixed = torch.where(finished[step], next_values[step], mixed)
        following = rewards[step] + config.discount * mixed * (~terminated[step]).float()
        returns[step] = following
    return returns


class PqnTrainer(Trainer):
    """Plays rollouts of all active games and makes several passes over each."""

    def update(self) -> float:
        """Play one rollout and learn from it; return the mean loss."""
        episodes = self.games.episodes
        rollout = self.roll_out()
        with torch.no_grad():
            targets = self.targets(rollout)
        decisions = rollout["actions"].numel()
        self.count(decisions, episodes)
        loss = self.learn(rollout, targets)
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, self.config.target_rate)
        self.tend_network()
        return loss

    def roll_out(self) -> dict[str, Tensor]:
        """Play one rollout; tensors (steps, copies, ...), but ``task`` is (copies,)."""
        task = self.task_of_copy()
        with torch.no_grad(), self.network.weights_kept():
            turns = [self.play() for _ in range(self.config.rollout_steps)]
            last_frames = self.observe()
            last_greedy = self.greedy(last_frames, task)

        def joined(name: str) -> Tensor:
            return torch.stack([turn.joined(name) for turn in turns]).to(self.device)

        frames = [turn.frames for turn in turns]
        greedy = [turn.greedy for turn in turns]
        return {
            "task": task,
            "frames": torch.stack(frames),
            "next_frames": torch.stack([*frames[1:], last_frames]),
            "next_greedy": torch.stack([*greedy[1:], last_greedy]),
            "actions": torch.stack([turn.actions for turn in turns]).to(self.device),
            "rewards": torch.stack([turn.rewards for turn in turns]).to(self.device),
            "terminated": joined("terminal"),
            "finished": joined("finished"),
            "valid": joined("valid"),
        }

    def targets(self, rollout: dict[str, Tensor]) -> Tensor:
        """Returns to learn, (steps, copies).

        Double Q: the online network picks the next action, the target network values it.
        """
        best, tasks = rollout["next_greedy"], rollout["task"].expand(rollout["actions"].shape)
        size = max(1, best.numel() // self.config.minibatches)
        with self.target.weights_kept():
            values = [
                self.values(self.target, frames, task)
                for frames, task in zip(
                    rollout["next_frames"].flatten(0, 1).split(size),
                    tasks.flatten().split(size),
                    strict=True,
                )
            ]
        next_values = torch.cat(values).gather(1, best.view(-1, 1)).view_as(best)
        if self.config.rescale_values:
            next_values = unscale(next_values)
        returns = lambda_returns(
            rollout["rewards"], rollout["terminated"], rollout["finished"], next_values, self.config
        )
        return rescale(returns) if self.config.rescale_values else returns

    def learn(self, rollout: dict[str, Tensor], targets: Tensor) -> float:
        """Make several passes over a rollout; return the mean loss."""
        config = self.config
        self.network.train()
        self.set_learning_rate()
        frames = rollout["frames"].flatten(0, 1)
        actions = rollout["actions"].flatten()
        valid = rollout["valid"].flatten().float()
        goals = targets.flatten()
        tasks = rollout["task"].repeat(config.rollout_steps)
        has_teacher = torch.tensor([teacher is not None for teacher in self.teachers])
        taught = has_teacher.to(self.device)[tasks]
        advised = None
        if bool(taught.any()):
            advised = advice(
                self.teachers, frames, tasks, self.values.mask, bfloat16=config.bfloat16
            )
        size = len(goals) // config.minibatches
        losses = []
        for _ in range(config.epochs):
            order = torch.from_numpy(self.generator.permutation(len(goals))).to(self.device)
            for chunk in order[: size * config.minibatches].split(size):
                spikes: dict[str, Tensor] | None = None if self.cost is None else {}
                values = self.values(self.network, frames[chunk], tasks[chunk], spikes)
                error = values.gather(1, actions[chunk][:, None]).squeeze(1) - goals[chunk]
                losses_of_samples = 0.5 * error * error
                if advised is not None:
                    lesson = divergence(values, advised[chunk], config.distillation_temperature)
                    lesson = self.distillation_weight * lesson
                    if config.taught_from_rewards:
                        lesson = lesson + losses_of_samples
                    losses_of_samples = torch.where(taught[chunk], lesson, losses_of_samples)
                weight = valid[chunk]
                if self.cost is not None and spikes is not None:
                    price = self.cost.of_samples(spikes, tasks[chunk], weight)
                    losses_of_samples = losses_of_samples + price
                loss = (weight * losses_of_samples).sum() / weight.sum().clamp(min=1)
                self.step_optimizer(loss)
                losses.append(loss.detach())
        return float(torch.stack(losses).mean())
