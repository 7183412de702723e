"""Plasticity during a run: measures in its log, and new weights for dormant neurons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mtspark.train.config import TrainConfig
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.plasticity import Plasticity, Seen, measure, renew_dormant, reset_heads


class Care:
    """Measures a run's network on the transitions of its last update, and renews neurons.

    Networks are measured in float32, also where a run learns in bfloat16 or on integers.

    Args:
        config: of the run.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._measured: Plasticity | None = None
        self._renewed: dict[str, int] | None = None
        self._reset = False
        self._resets = 0

    def due(self, updates: int) -> bool:
        """Whether it looks at the decisions of an update after so many updates."""
        wanted = self._config.plasticity
        return is_due(wanted.measure_every, updates) or is_due(wanted.redo_every, updates)

    def after_update(
        self,
        network: MTSparkNetwork,
        seen: Seen,
        optimizer: torch.optim.Optimizer,
        updates: int,
    ) -> None:
        """Do what is due after so many updates: measure first, then renew.

        Args:
            network: of the run.
            seen: of the last update, or what stands for it.
            optimizer: of the network.
            updates: of the run.
        """
        wanted, config = self._config.plasticity, self._config
        transitions = seen.thinned(wanted.samples)
        if is_due(wanted.measure_every, updates):
            self._measured = measure(
                network,
                transitions,
                config.games,
                threshold=wanted.dormant_threshold,
                delta=wanted.rank_delta,
            )
        if is_due(wanted.redo_every, updates):
            self._renewed = renew_dormant(
                network,
                transitions.frames,
                transitions.task,
                wanted.dormant_threshold,
                optimizer,
            )

    def reset(
        self,
        network: MTSparkNetwork,
        target: MTSparkNetwork,
        optimizer: torch.optim.Optimizer,
        updates: int,
    ) -> bool:
        """Draw the weights of the heads anew, where that is due after so many updates.

        Returns:
            Whether it was.
        """
        wanted = self._config.plasticity
        if is_due(wanted.reset_every, updates) and self._resets < wanted.reset_most:
            reset_heads(network, target, optimizer)
            self._reset = True
            self._resets += 1
            return True
        return False

    def state(self) -> dict[str, int]:
        """How many resets there were; nothing where none will be."""
        return {"resets": self._resets} if self._config.plasticity.reset_every else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the count of :meth:`state` back.

        States of versions that kept none have counted by updates.
        """
        every, most = self._config.plasticity.reset_every, self._config.plasticity.reset_most
        if every:
            self._resets = int(state.get("resets", min(state["updates"] // every, most)))

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
        if self._reset:
            found["reset"] = {"heads": 1.0}
        self._measured = self._renewed = None
        self._reset = False
        return found


def is_due(every: int, updates: int) -> bool:
    """Say whether what is done every so many updates is done after so many; 0: never."""
    return bool(every) and updates % every == 0
