"""PQN for spiking networks: vectorised games, no replay, a soft target network.

Gallici et al. 2024, arXiv:2407.04811, with a target network that follows softly, and double Q.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtspark.train.config import TrainConfig
from mtspark.train.networks import MTSparkNetwork, mask_illegal
from mtspark.train.rl.distil import advice, divergence
from mtspark.train.rl.trainer import Trainer
from mtspark.train.rl.values import rescale, unscale

MEMORY = "memory."


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
        """Play one rollout; tensors (steps, copies, ...), but ``task`` is (copies,).

        Of a stateful network also ``begins``, of one decision more, and ``memory.NAME``, (copies,
        ...) its state before the first decision.
        """
        task, before = self.task_of_copy(), []
        with torch.no_grad(), self.network.weights_kept():
            turns = []
            for _ in range(self.config.rollout_steps):
                before.append(None if self.recall is None else self.recall.now)
                turns.append(self.play())
            last_frames = self.observe()
            last_greedy = self.greedy(last_frames, task)

        def joined(name: str) -> Tensor:
            return torch.stack([turn.joined(name) for turn in turns]).to(self.device)

        frames = [turn.frames for turn in turns]
        greedy = [turn.greedy for turn in turns]
        remembered = {}
        if self.recall is not None:
            moments = [one for one in [*before, self.recall.now] if one is not None]
            remembered = {
                "begins": torch.stack([one.begins for one in moments]),
                **{MEMORY + name: one for name, one in moments[0].memory.items()},
            }
        return {
            **remembered,
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
        best = rollout["next_greedy"]
        following = self.following(rollout)
        next_values = following.gather(1, best.view(-1, 1)).view_as(best)
        if self.config.rescale_values:
            next_values = unscale(next_values)
        returns = lambda_returns(
            rollout["rewards"], rollout["terminated"], rollout["finished"], next_values, self.config
        )
        return rescale(returns) if self.config.rescale_values else returns

    def following(self, rollout: dict[str, Tensor]) -> Tensor:
        """(steps * copies, actions) values of the next frames, by the target network."""
        tasks = rollout["task"].expand(rollout["actions"].shape)
        if self.recall is not None:
            frames = torch.cat([rollout["frames"][:1], rollout["next_frames"]])
            with self.target.weights_kept():
                return self.unrolled(self.target, rollout, frames)[1:].flatten(0, 1)
        size = max(1, tasks.numel() // self.config.minibatches)
        with self.target.weights_kept():
            values = [
                self.values(self.target, frames, task)
                for frames, task in zip(
                    rollout["next_frames"].flatten(0, 1).split(size),
                    tasks.flatten().split(size),
                    strict=True,
                )
            ]
        return torch.cat(values)

    def unrolled(
        self,
        network: MTSparkNetwork,
        rollout: dict[str, Tensor],
        frames: Tensor,
        copies: Tensor | None = None,
    ) -> Tensor:
        """Values of decisions in a row, from the state in which the rollout began.

        Args:
            network: one of the run's.
            rollout: of :meth:`roll_out`.
            frames: (decisions, copies, ...) from the first one of the rollout on.
            copies: indices of some; None: all.

        Returns:
            (decisions, copies, actions).
        """
        chosen = slice(None) if copies is None else copies
        memory = {
            name.removeprefix(MEMORY): one[chosen]
            for name, one in rollout.items()
            if name.startswith(MEMORY)
        }
        task, begins = rollout["task"][chosen], rollout["begins"][: len(frames), chosen]
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.bfloat16):
            values, _ = network.unroll(frames[:, chosen], task, memory, begins)
        return mask_illegal(values, self.values.mask[task])

    def learn(self, rollout: dict[str, Tensor], targets: Tensor) -> float:
        """Make several passes over a rollout; return the mean loss."""
        config = self.config
        self.network.train()
        self.set_learning_rate()
        if self.recall is not None:
            return self._learn_in_order(rollout, targets)
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

    def _learn_in_order(self, rollout: dict[str, Tensor], targets: Tensor) -> float:
        """As :meth:`learn`, through time: minibatches are copies, and each is unrolled whole.

        Kapturowski et al. 2019 (R2D2): from the state that was stored when it was played.
        """
        config, losses = self.config, []
        frames, actions, valid = rollout["frames"], rollout["actions"], rollout["valid"].float()
        copies = frames.shape[1]
        size = copies // config.minibatches
        for _ in range(config.epochs):
            order = torch.from_numpy(self.generator.permutation(copies)).to(self.device)
            for chunk in order[: size * config.minibatches].split(size):
                values = self.unrolled(self.network, rollout, frames, chunk)
                chosen = values.gather(2, actions[:, chunk, None]).squeeze(2)
                error, weight = chosen - targets[:, chunk], valid[:, chunk]
                loss = (weight * 0.5 * error * error).sum() / weight.sum().clamp(min=1)
                self.step_optimizer(loss)
                losses.append(loss.detach())
        return float(torch.stack(losses).mean())
