"""Double DQN with a replay of each task (van Hasselt et al. 2016, arXiv:1509.06461)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mtspark.train.config import TrainConfig, replay_places
from mtspark.train.rl.distil import advice, divergence
from mtspark.train.rl.replay import Replay
from mtspark.train.rl.trainer import Trainer
from mtspark.train.rl.turn import Turn
from mtspark.train.rl.values import rescale, unscale


class DqnTrainer(Trainer):
    """Plays chunks into replays; a gradient step learns a batch of every active task."""

    def __init__(self, config: TrainConfig, *, resumed: bool = False) -> None:
        super().__init__(config, resumed=resumed)
        stack = config.network.observation_shape[0]
        # A replay keeps bytes, whatever they stand for.
        self._seen = torch.int8 if config.network.input == "values" else torch.uint8
        self._stack, self._gradient_steps = stack, 0
        self.replays = self._empty_replays()

    def _empty_replays(self) -> list[Replay]:
        replay = self.config.replay
        return [
            Replay(replay.capacity, self._stack, replay.batch_size, places)
            for places in replay_places(self.config)
        ]

    def forget_experience(self) -> None:
        """Empty the replays."""
        self.replays = self._empty_replays()

    def update(self) -> float:
        """Play a chunk, store it and learn from the replays; return the mean loss."""
        episodes, active = self.games.episodes, self.active
        with self.network.weights_kept():
            turns = [self.play() for _ in range(self.config.rollout_steps)]
        decisions = sum(len(turn.actions) for turn in turns)
        self._store(turns, active)
        self.count(decisions, episodes)
        self.set_learning_rate()
        ready = all(len(self.replays[index]) >= self.config.replay.warmup for index in active)
        steps = decisions // self.config.replay.update_every if ready else 0
        losses = [self.learn(active) for _ in range(steps)]
        self.tend_network(is_learning=ready)
        return float(torch.stack(losses).mean()) if losses else 0.0

    def _store(self, turns: list[Turn], active: tuple[int, ...]) -> None:
        first = 0
        for position, index in enumerate(active):
            own = slice(first, first + self.games[index].copies)
            first = own.stop
            steps = [turn.steps[position] for turn in turns]
            self.replays[index].add(
                torch.stack([turn.frames[own, -1].cpu().view(torch.uint8) for turn in turns]),
                torch.stack([turn.actions[own] for turn in turns]),
                torch.stack([turn.rewards[own] for turn in turns]),
                torch.stack([torch.from_numpy(step.terminal) for step in steps]),
                torch.stack([torch.from_numpy(step.valid) for step in steps]),
            )

    def learn(self, active: tuple[int, ...]) -> Tensor:
        """Take one gradient step on a batch of every active task; return the loss."""
        config = self.config
        self.network.train()
        losses = []
        for index in active:
            batch = self.replays[index].sample()
            task = torch.full((len(batch.actions),), index, device=self.device)
            frames = batch.frames.view(self._seen).to(self.device)
            spikes: dict[str, Tensor] | None = None if self.cost is None else {}
            values = self.values(self.network, frames, task, spikes)
            if self.cost is not None and spikes is not None:
                everyone = torch.ones(len(task), device=self.device)
                losses.append(self.cost.of_samples(spikes, task, everyone).mean())
            taught = self.teachers[index] is not None
            if taught:
                advised = advice(
                    self.teachers, frames, task, self.values.mask, bfloat16=config.bfloat16
                )
                lesson = divergence(values, advised, config.distillation_temperature)
                losses.append(self.distillation_weight * lesson.mean())
            if taught and not config.taught_from_rewards:
                continue
            goals = self._goals(
                batch.next_frames.view(self._seen).to(self.device),
                batch.rewards.to(self.device),
                batch.terminal.to(self.device),
                task,
            )
            chosen = values.gather(1, batch.actions.to(self.device)[:, None]).squeeze(1)
            losses.append(functional.smooth_l1_loss(chosen, goals))
        loss = torch.stack(losses).sum() / len(active)
        self.step_optimizer(loss)
        self._gradient_steps += 1
        if self._gradient_steps % config.replay.target_every == 0:
            self.target.load_state_dict(self.network.state_dict())
            self.cuts.restore_target(self.target)
        return loss.detach()

    @torch.no_grad()
    def _goals(self, frames: Tensor, rewards: Tensor, terminal: Tensor, task: Tensor) -> Tensor:
        """Values to learn, (batch,): the target network values the online network's next action."""
        best = self.values(self.network, frames, task).argmax(1, keepdim=True)
        following = self.values(self.target, frames, task).gather(1, best).squeeze(1)
        if self.config.rescale_values:
            following = unscale(following)
        goals = rewards + self.config.discount * following * (~terminal).float()
        return rescale(goals) if self.config.rescale_values else goals

    def state(self) -> dict[str, Any]:
        """The state of every trainer, with the counts of gradient steps and of stored decisions."""
        stored = [len(replay) for replay in self.replays]
        return {**super().state(), "gradient_steps": self._gradient_steps, "stored": stored}

    def restore(
        self, state: dict[str, Any], on_decision: Callable[[int, int], None] = lambda *_: None
    ) -> tuple[str, ...]:
        """Resume from :meth:`state`."""
        self._gradient_steps = int(state["gradient_steps"])
        return super().restore(state, on_decision)

    def save_experience(self, folder: Path) -> None:
        """Save every replay into a folder of its own."""
        for task, replay in zip(self.tasks, self.replays, strict=True):
            if len(replay):
                replay.save(folder / task.name)

    def load_experience(self, folder: Path, state: dict[str, Any]) -> None:
        """Load the replays; a task that has not played has none."""
        for task, replay, stored in zip(self.tasks, self.replays, state["stored"], strict=True):
            if stored:
                replay.load(folder / task.name)
            if len(replay) != stored:
                raise ValueError(f"{len(replay)} decisions of {task.name}, {stored} were saved")
