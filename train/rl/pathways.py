"""The paths of a run's tasks through its shared layers: when they are chosen, when they stay."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Protocol

import torch
from torch import Tensor

from mtspark.train.config import TrainConfig
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.rl.collect import Games
from mtspark.train.sparsity import (
    choose_path,
    follow_path,
    mean_scores,
    path_density,
    path_overlap,
    path_scores,
    raise_gains,
)

SCORED = 1024
"""Transitions of a task on which its synapses are scored, at most."""


class Scored(Protocol):
    """Decisions of an update, with the loss that scores synapses."""

    @property
    def task(self) -> Tensor:
        """(samples,) task indices."""

    def of_task(self, index: int) -> Scored:
        """Those of one task."""

    def thinned(self, samples: int) -> Scored:
        """At most so many samples, spread evenly over these."""

    def loss(self, network: MTSparkNetwork) -> Tensor:
        """Mean loss of a network on them."""


class Pathways:
    """Chooses each task's synapses during a run's warm-up, see `PruningConfig`.

    Args:
        config: of the run.
        network: with paths.
    """

    def __init__(self, config: TrainConfig, network: MTSparkNetwork) -> None:
        self._config, self._pruning = config, config.pruning
        network.overlap = config.pruning.overlap
        tasks = len(config.games)
        window = config.pruning.score_window
        self._history: list[deque[dict[str, Tensor]]] = [deque(maxlen=window) for _ in range(tasks)]
        # An agent that has learned keeps its gains: its best synapses carry most of its currents.
        # One that has paths goes on with them, and with the gains of sparse layers.
        # One whose paths narrow step by step learns the gains that it needs.
        self._keeps_gains = bool(config.start_from) or config.pruning.gradual
        self._begun = any(path_density(network, name) < 1 for name in config.pruning.layers)
        self._raised = self._begun
        self._frozen = [False] * tasks
        self._alone: list[int] = []
        self._episodes = [0] * tasks

    def due(self, updates: int) -> bool:
        """Whether paths may be chosen after so many updates."""
        return not all(self._frozen) and updates % self._pruning.every_updates == 0

    def after_update(
        self,
        network: MTSparkNetwork,
        target: MTSparkNetwork,
        transitions: Scored,
        games: Games,
        share: float,
        *,
        alone: int | None = None,
    ) -> None:
        """Choose the paths that are due.

        Args:
            network: is scored; its paths change.
            target: follows them.
            transitions: of the last update.
            games: say which tasks finished an episode, and how well they play.
            share: of the run's planned decisions that are over.
            alone: the task that plays alone; None: all play.
        """
        if alone is not None:
            self._choose_alone(network, alone, transitions, games)
            self._copy(network, target)
            return
        if share < self._pruning.start:
            return
        tasks = range(len(self._frozen))
        present = set(transitions.task.unique().tolist())
        if not self._begun:
            if len(present) == len(self._frozen):
                self._begin(network, target, transitions, games, share)
            return
        for task in tasks:
            if self._frozen[task] or task not in present:
                continue
            if self._pruning.gradual or games[task].episodes > self._episodes[task]:
                self._choose(network, task, transitions, share)
                self._episodes[task] = games[task].episodes
        self._copy(network, target)
        self._freeze(games, share)

    def _choose_alone(
        self, network: MTSparkNetwork, task: int, transitions: Scored, games: Games
    ) -> None:
        """Choose the path of a task whose turn it is: first at once, then where episodes ended."""
        first = task not in self._alone
        if self._frozen[task] or not (first or games[task].episodes > self._episodes[task]):
            return
        if self._choose(network, task, transitions, 1.0, alone=True) and first:
            if not self._keeps_gains:
                raise_gains(network, self._pruning.layers, task)
            self._alone.append(task)
            # What all go on with after the turns has gains of sparse layers.
            self._begun = len(self._alone) == len(self._frozen)
            self._raised |= self._begun and not self._keeps_gains
        self._episodes[task] = games[task].episodes
        wanted, reached = self._pruning.freeze_returns, games[task].mean_return()
        self._frozen[task] = bool(wanted) and reached is not None and reached >= wanted[task]

    def _begin(
        self,
        network: MTSparkNetwork,
        target: MTSparkNetwork,
        transitions: Scored,
        games: Games,
        share: float,
    ) -> None:
        """Choose the first path of every task; a new network's gains rise as sparse layers need."""
        for task in range(len(self._frozen)):
            self._choose(network, task, transitions, share)
            self._episodes[task] = games[task].episodes
        self._copy(network, target)
        self._begun = True
        if not self._keeps_gains:
            raise_gains(network, self._pruning.layers)
            raise_gains(target, self._pruning.layers)
            self._raised = True

    def _choose(
        self,
        network: MTSparkNetwork,
        task: int,
        transitions: Scored,
        share: float,
        *,
        alone: bool = False,
    ) -> bool:
        """Choose a path; return whether enough synapses have a score."""
        own = transitions.of_task(task).thinned(SCORED)
        raised = self._raised or (alone and task in self._alone and not self._keeps_gains)
        old = {name: self._path(network, name, task) for name in self._pruning.layers}
        scales: dict[str, float | Tensor] = {}
        for name, path in old.items():
            whose = task if alone else None
            raise_undone = math.sqrt(path_density(network, name, whose)) if raised else 1.0
            scales[name] = path.float() if self._pruning.gradual else raise_undone
        history = self._history[task]
        history.append(path_scores(network, lambda: own.loss(network), scales))
        chosen = choose_path(
            mean_scores(history),
            self._pruning.density_at(share) if self._pruning.gradual else self._pruning.density,
            self._pruning.ranking,
            old if self._pruning.gradual else None,
        )
        if chosen is None:
            return False
        follow_path(network, task, chosen)
        return True

    @staticmethod
    def _path(network: MTSparkNetwork, layer: str, task: int) -> Tensor:
        paths = network.layer(layer).paths
        assert paths is not None
        return paths[task]

    def _copy(self, network: MTSparkNetwork, target: MTSparkNetwork) -> None:
        for name in self._pruning.layers:
            fast, slow = network.layer(name).paths, target.layer(name).paths
            assert fast is not None
            assert slow is not None
            slow.copy_(fast)

    def _freeze(self, games: Games, share: float) -> None:
        wanted = self._pruning.freeze_returns or (math.inf,) * len(self._frozen)
        for task, least in enumerate(wanted):
            reached = games[task].mean_return()
            if share >= self._pruning.end or (reached is not None and reached >= least):
                self._frozen[task] = True
                self._history[task].clear()

    def measurements(self, network: MTSparkNetwork) -> dict[str, dict[str, float | None]]:
        """Density of each layer and task, how paths overlap, and which paths stay."""
        names = self._config.games
        density: dict[str, float | None] = {
            f"{layer}.{name}": round(path_density(network, layer, task), 4)
            for layer in self._pruning.layers
            for task, name in enumerate(names)
        }
        overlap: dict[str, float | None] = {
            pair: round(share, 4) for pair, share in path_overlap(network, names).items()
        }
        frozen: dict[str, float | None] = {
            name: float(stays) for name, stays in zip(names, self._frozen, strict=True)
        }
        return {"path_density": density, "path_overlap": overlap, "path_frozen": frozen}

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the paths themselves."""
        return {
            "pathways": {
                "begun": self._begun,
                "raised": self._raised,
                "frozen": list(self._frozen),
                "episodes": list(self._episodes),
                "history": [list(history) for history in self._history],
                **({"alone": list(self._alone)} if self._pruning.pretrain_steps else {}),
            }
        }

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Resume from :meth:`state`."""
        saved = state["pathways"]
        self._begun, self._frozen = bool(saved["begun"]), [bool(one) for one in saved["frozen"]]
        # Runs of earlier versions raised gains wherever paths had begun.
        self._raised = bool(saved.get("raised", saved["begun"]))
        self._episodes = [int(count) for count in saved["episodes"]]
        self._alone = [int(task) for task in saved.get("alone", [])]
        for history, looks in zip(self._history, saved["history"], strict=True):
            history.clear()
            history.extend(
                {name: scores.to(device) for name, scores in look.items()} for look in looks
            )
