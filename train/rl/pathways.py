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
        # One whose paths narrow step by step learns the gains that it needs.
        self._keeps_gains = bool(config.start_from) or config.pruning.gradual
        # An agent that has paths goes on with them.
        self._begun = any(path_density(network, name) < 1 for name in config.pruning.layers)
        self._frozen = [False] * tasks
        self._alone: list[int] = []
        self._episodes = [0] * tasks

    def due(self, updates: int, share: float) -> bool:
        """Whether paths may be chosen now.

        Gradual ones also are in the first update after their end, so that they have `density`
        however many updates are between two looks.

        Args:
            updates: of the run.
            share: of the run's planned decisions.
        """
        if all(self._frozen):
            return False
        last = self._pruning.gradual and share >= self._pruning.end
        return last or updates % self._pruning.every_updates == 0

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
            self._choose_alone(network, target, alone, transitions, games)
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
                path = self._chosen(network, task, transitions, share)
                if path is not None:
                    follow_path(network, task, path)
                self._episodes[task] = games[task].episodes
        self._copy(network, target)
        # A gradual path that was not looked at has not got its last density yet.
        self._freeze(games, share, present if self._pruning.gradual else set(tasks))

    def _choose_alone(
        self,
        network: MTSparkNetwork,
        target: MTSparkNetwork,
        task: int,
        transitions: Scored,
        games: Games,
    ) -> None:
        """Choose the path of a task whose turn it is: first at once, then where episodes ended."""
        first = task not in self._alone
        if self._frozen[task] or not (first or games[task].episodes > self._episodes[task]):
            return
        path = self._chosen(network, task, transitions, 1.0, alone=True)
        self._episodes[task] = games[task].episodes
        if path is None:
            return
        follow_path(network, task, path)
        self._copy(network, target)
        if first:
            self._alone.append(task)
            self._raise((network, target), task)
            # What all go on with after the turns has gains of sparse layers.
            self._begun = len(self._alone) == len(self._frozen)
        self._frozen[task] = self._plays_well(games, task)

    def _begin(
        self,
        network: MTSparkNetwork,
        target: MTSparkNetwork,
        transitions: Scored,
        games: Games,
        share: float,
    ) -> None:
        """Choose the first path of every task, once all can be; a new network's gains rise then."""
        tasks = range(len(self._frozen))
        found = [self._chosen(network, task, transitions, share) for task in tasks]
        paths = [path for path in found if path is not None]
        if len(paths) < len(found):
            return
        for task, path in enumerate(paths):
            follow_path(network, task, path)
            self._episodes[task] = games[task].episodes
        self._copy(network, target)
        self._begun = True
        if not self._alone:
            self._raise((network, target))

    def _raise(self, networks: tuple[MTSparkNetwork, ...], task: int | None = None) -> None:
        if not self._keeps_gains:
            for one in networks:
                raise_gains(one, self._pruning.layers, task)

    def _chosen(
        self,
        network: MTSparkNetwork,
        task: int,
        transitions: Scored,
        share: float,
        *,
        alone: bool = False,
    ) -> dict[str, Tensor] | None:
        """A task's path by its last looks; None where too few synapses have a score."""
        own = transitions.of_task(task).thinned(SCORED)
        old = {name: self._path(network, name, task) for name in self._pruning.layers}
        scales = {
            name: self._scale(network, name, task, alone=alone) for name in self._pruning.layers
        }
        history = self._history[task]
        history.append(path_scores(network, lambda: own.loss(network), scales))
        gradual = self._pruning.gradual
        return choose_path(
            mean_scores(history),
            self._pruning.density_at(share) if gradual else self._pruning.density,
            self._pruning.ranking,
            old if gradual else None,
        )

    def _scale(
        self, network: MTSparkNetwork, name: str, task: int, *, alone: bool
    ) -> float | Tensor:
        """What a layer's weights are multiplied by while all of a task's synapses are scored."""
        if self._pruning.gradual:
            return self._path(network, name, task).float()
        if self._keeps_gains:
            # Whoever trained the agent: currents vary as they do with its path.
            weight = network.layer(name).shared_weight().detach()
            path = self._path(network, name, task)
            return float((weight * path).norm() / weight.norm().clamp(min=1e-12))
        if task in self._alone if alone else self._begun:
            return math.sqrt(path_density(network, name, task if alone else None))
        return 1.0

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

    def _freeze(self, games: Games, share: float, tasks: set[int]) -> None:
        for task in tasks:
            if share >= self._pruning.end or self._plays_well(games, task):
                self._frozen[task] = True
                self._history[task].clear()

    def _plays_well(self, games: Games, task: int) -> bool:
        """Whether the last episodes of a task reach all that is asked of them, and something is."""
        returns, success = self._pruning.freeze_returns, self._pruning.freeze_success
        reached, solved = games[task].mean_return(), games[task].success_rate()
        asked = []
        if returns:
            asked.append(reached is not None and reached >= returns[task])
        if success:
            asked.append(solved is not None and solved >= success)
        return bool(asked) and all(asked)

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

    def notes(self, network: MTSparkNetwork) -> list[str]:
        """Say which paths have not the density that was asked for, a line each."""
        names, wanted = self._pruning.layers, self._pruning.density
        said = []
        for task, name in enumerate(self._config.games):
            own = [self._path(network, layer, task) for layer in names]
            size, kept = sum(path.numel() for path in own), sum(int(path.sum()) for path in own)
            # Every layer is rounded by itself, and keeps one.
            if abs(kept - wanted * size) > len(names):
                said.append(
                    f"the path of {name} has {kept:,} of {size:,} synapses, {kept / size:.3g} of "
                    f"them where pruning.density is {wanted:g}"
                )
        return said

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the paths themselves."""
        return {
            "pathways": {
                "begun": self._begun,
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
        self._episodes = [int(count) for count in saved["episodes"]]
        self._alone = [int(task) for task in saved.get("alone", [])]
        for history, looks in zip(self._history, saved["history"], strict=True):
            history.clear()
            history.extend(
                {name: scores.to(device) for name, scores in look.items()} for look in looks
            )
