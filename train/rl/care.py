"""Plasticity during a run: measures in its log, and new weights for dormant neurons."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mtspark.train.config import TrainConfig
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.plasticity import Plasticity, Transitions, measure, renew_dormant
from mtspark.train.rl.turn import Turn
from mtspark.train.rl.values import ActionValues, rescale, unscale


@dataclass
class Seen:
    """Decisions of one update, in order.

    Attributes:
        update: number of the update.
        turns, tasks: of each decision: what was played, and (copies,) task indices.
    """

    update: int = -1
    turns: list[Turn] = field(default_factory=list)
    tasks: list[Tensor] = field(default_factory=list)


class Care:
    """Measures a run's network on the transitions of its last update, and renews neurons.

    Networks are measured in float32, also where a run learns in bfloat16 or on integers.

    Args:
        config: of the run.
        values: of its networks.
    """

    def __init__(self, config: TrainConfig, values: ActionValues) -> None:
        self._config, self._values = config, values
        self._seen = Seen()
        self._measured: Plasticity | None = None
        self._renewed: dict[str, int] | None = None

    def see(self, turn: Turn, task: Tensor, update: int) -> None:
        """Take a decision of an update; only those that will be needed are kept."""
        wanted = self._config.plasticity
        if not _due(wanted.measure_every, update + 1) and not _due(wanted.redo_every, update + 1):
            return
        if self._seen.update != update:
            self._seen = Seen(update)
        self._seen.turns.append(turn)
        self._seen.tasks.append(task)

    def after_update(
        self,
        network: MTSparkNetwork,
        target: MTSparkNetwork,
        optimizer: torch.optim.Optimizer,
        updates: int,
    ) -> None:
        """Do what is due after so many updates: measure first, then renew."""
        wanted, config = self._config.plasticity, self._config
        if not self._seen.turns:
            return
        transitions = self._transitions(target).thinned(wanted.samples)
        self._seen = Seen()
        if not len(transitions.task):
            return  # Games only restarted.
        if _due(wanted.measure_every, updates):
            self._measured = measure(
                network,
                transitions,
                config.games,
                threshold=wanted.dormant_threshold,
                delta=wanted.rank_delta,
            )
        if _due(wanted.redo_every, updates):
            self._renewed = renew_dormant(
                network,
                transitions.frames,
                transitions.task,
                wanted.dormant_threshold,
                optimizer,
            )

    def measurements(self) -> dict[str, dict[str, float | None]]:
        """What was measured and done since the last call, by name and then by layer or game."""
        found: dict[str, dict[str, float | None]] = {}
        if self._measured is not None:
            one = self._measured
            found["plasticity"] = {
                "dormant_ratio": one.dormant_ratio,
                "effective_rank": float(one.effective_rank),
                "fisher_trace": one.fisher_trace,
                "gradient_cosine": one.gradient_cosine,
                "conflicts": one.conflicts,
            }
            found["dormant"] = {**one.dormant}
            found["weight_norm"] = {**one.weight_norm}
            found["gradient_norm"] = {**one.gradient_norm}
        if self._renewed is not None:
            found["renewed"] = {name: float(count) for name, count in self._renewed.items()}
        self._measured = self._renewed = None
        return found

    @torch.no_grad()
    def _transitions(self, target: MTSparkNetwork) -> Transitions:
        """The update's decisions, with one-step goals by the target network."""
        turns, tasks = self._seen.turns, self._seen.tasks
        parts = []
        for turn, following, task in zip(turns[:-1], turns[1:], tasks[:-1], strict=True):
            best = self._values(target, following.frames, task).max(1).values
            best = unscale(best) if self._config.rescale_values else best
            going = (~turn.joined("terminal")).float().to(best.device)
            goals = turn.rewards.to(best.device) + self._config.discount * best * going
            goals = rescale(goals) if self._config.rescale_values else goals
            valid = turn.joined("valid").to(best.device)
            now = (turn.frames, task, turn.actions.to(best.device), goals)
            parts.append([tensor[valid] for tensor in now])
        frames, tasks_of, actions, wanted = (torch.cat(one) for one in zip(*parts, strict=True))
        return Transitions(frames, tasks_of, actions, wanted, self._values.mask)


def _due(every: int, updates: int) -> bool:
    return bool(every) and updates % every == 0
