"""The decisions of a run's last update, as transitions with goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mtspark.train.config import TrainConfig
from mtspark.train.networks import MTSparkNetwork, mask_illegal
from mtspark.train.plasticity import Transitions
from mtspark.train.rl.turn import Turn
from mtspark.train.rl.values import ActionValues, rescale, unscale


@dataclass
class _Seen:
    """Decisions of one update, in order.

    Attributes:
        update: number of the update.
        turns, tasks: of each decision: what was played, and (copies,) task indices.
    """

    update: int = -1
    turns: list[Turn] = field(default_factory=list)
    tasks: list[Tensor] = field(default_factory=list)


class RecentPlay:
    """Keeps the decisions of an update for those that look at them at its end.

    Args:
        config: of the run.
        values: of its networks.
        wanted: whether anybody will look after so many updates; other decisions are not kept.
    """

    def __init__(
        self, config: TrainConfig, values: ActionValues, wanted: Callable[[int], bool]
    ) -> None:
        self._config, self._values, self._wanted = config, values, wanted
        self._seen = _Seen()

    def see(self, turn: Turn, task: Tensor, update: int) -> None:
        """Take a decision of an update."""
        if not self._wanted(update + 1):
            return
        if self._seen.update != update:
            self._seen = _Seen(update)
        self._seen.turns.append(turn)
        self._seen.tasks.append(task)

    def forget(self) -> None:
        """Drop the decisions."""
        self._seen = _Seen()

    @torch.no_grad()
    def transitions(self, target: MTSparkNetwork) -> Transitions | None:
        """The update's decisions, with one-step goals by the target network; None without any."""
        turns, tasks = self._seen.turns, self._seen.tasks
        if len(turns) < 2:
            return None
        parts = []
        for turn, following, task in zip(turns[:-1], turns[1:], tasks[:-1], strict=True):
            values = self._values(target, following.frames, task)
            best = mask_illegal(values, self._allowed(following, task)).max(1).values
            best = unscale(best) if self._config.rescale_values else best
            going = (~turn.joined("terminal")).float().to(best.device)
            goals = turn.rewards.to(best.device) + self._config.discount * best * going
            goals = rescale(goals) if self._config.rescale_values else goals
            valid = turn.joined("valid").to(best.device)
            allowed = self._allowed(turn, task)
            now = (turn.frames, task, turn.actions.to(best.device), goals, allowed)
            parts.append([tensor[valid] for tensor in now])
        frames, tasks_of, actions, wanted, allowed = (
            torch.cat(one) for one in zip(*parts, strict=True)
        )
        # Of an update in which games only restarted, nothing is left.
        if not len(tasks_of):
            return None
        return Transitions(frames, tasks_of, actions, wanted, self._values.mask, allowed=allowed)

    def _allowed(self, turn: Turn, task: Tensor) -> Tensor:
        """(copies, actions) which actions could be chosen in a turn."""
        legal = self._values.mask[task]
        return legal if turn.allowed is None else turn.allowed.to(legal.device)
