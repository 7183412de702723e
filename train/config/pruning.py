"""How, when and how far synapses are cut during a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mtspark.train.config.checks import MOST_STEPS, check_at_most, check_once
from mtspark.train.networks import OVERLAP_RULES, PATH_RANKINGS, OverlapRule, PathRanking

PruningMethod = Literal["magnitude", "evolution", "static", "pathways"]
"""Ways of making a network sparse, see :class:`PruningConfig`."""

MOST_LOOKS = 100


@dataclass(frozen=True)
class PruningConfig:
    """Sparse layers: how their synapses are chosen.

    * ``magnitude``: every layer begins dense, and its smallest weights are cut until `density` is
      left (gradual magnitude pruning: Zhu and Gupta 2017, arXiv:1710.01878).
    * ``evolution``: the layers have `density` together from the start; from time to time each
      drops the smallest of its weights and grows as many at random other places (SET: Mocanu et
      al. 2018, arXiv:1707.04780).
    * ``static``: the layers have `density` together from the start, at random places that stay.

    * ``pathways``: every task has its own synapses of the shared layers, `density` of all of them:
      those with the largest |weight times gradient| of its loss, and fewer where fewer have one
      that is not 0. From `start` on they are chosen anew every `every_updates` updates in which
      the task has finished an episode since, by the mean of the last `score_window` looks, until
      the task reaches its return or `end` has come (NPF, ICLR 2023 submission; DAPD, NeurIPS
      2024).

    ``evolution`` and ``static`` share the synapses out among the layers by Erdős-Rényi-Kernel
    (Evci et al. 2020, arXiv:1911.11134), see
    :func:`mtspark.train.sparsity.densities.erk_densities`.

    Attributes:
        layers: whose synapses are cut: hidden, conv1, ..., dense1, ...; empty: none. A recipe may
            say "all". The loop of `network.recurrent` and the head keep all synapses.
        method: magnitude, evolution, static or pathways.
        density: share of synapses that is left in the end: of each layer's (magnitude) or of all
            these layers' together; of each task (pathways).
        start: share of the run's decisions before the first cut or exchange.
        end: share of the run's decisions after which no more are cut or exchanged.
        every_updates: updates between two cuts or exchanges; magnitude and gradual paths are also
            cut in the first update after `end`. A run in which none comes is refused.
        drop_fraction: share of a layer's synapses that evolution exchanges at a time.
        score_window: looks whose scores are averaged (pathways).
        freeze_returns: of each game, the mean return of its last episodes from which on its path
            stays (pathways); empty: paths stay from `end` on.
        freeze_success: share of its last episodes in which a task was solved, from which on its
            path stays, of environments that say so, as Meta-World's; of another, `end` alone
            counts (pathways). Where `freeze_returns` are given, too, both must be reached. 0: not
            asked for.
        ranking: among which synapses a path takes the best (pathways): network, all layers
            together, as published; layer, `density` of each layer. A weight of a convolution acts
            at many places: together they are kept nearly all, and most operations with them.
        gradual: paths begin with all synapses and narrow by the cubic schedule of ``magnitude``;
            what a task has cut stays cut (pathways). For an agent that has learned: cut at once to
            a tenth, it forgets what it knew.
        overlap: how gradients of tasks that share a synapse are combined (pathways):
            participants, sum, mean, euclidean or stochastic, see
            :func:`mtspark.train.networks.paths.combined_gradient`.
        scope: all: of both networks of a run; actor: of the one that plays and is exported, while
            its target, which values the next states, keeps all synapses (magnitude); critics: also
            of the critics of sac and ppo, in all their layers, which otherwise stay dense
            (magnitude).
        pretrain_steps: decisions that each task first plays alone, from the same weights, to find
            its path; then the weights are averaged, replays are emptied, and all play together
            with these paths (pathways; ``pretrain_masks`` of NPF). 0: all play together at once.
        reopen: the synapses of `layers` that the agent of ``start_from`` has cut come back at 0,
            and this run cuts anew (magnitude), or finds each task's path among all (pathways).

    Raises:
        ValueError: a number out of its range, or an unknown method.
    """

    layers: tuple[str, ...] = ()
    density: float = 0.05
    start: float = 0.05
    end: float = 0.5
    every_updates: int = 10
    method: PruningMethod = "magnitude"
    drop_fraction: float = 0.3
    score_window: int = 5
    freeze_returns: tuple[float, ...] = ()
    freeze_success: float = 0.0
    ranking: PathRanking = "network"
    gradual: bool = False
    overlap: OverlapRule = "participants"
    scope: Literal["all", "actor", "critics"] = "all"
    pretrain_steps: int = 0
    reopen: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.method not in get_args(PruningMethod):
            known = ", ".join(get_args(PruningMethod))
            raise ValueError(f"method is {self.method!r}, must be one of {known}")
        check_once("layers", self.layers)
        if self.scope not in ("all", "actor", "critics"):
            raise ValueError(f"scope is {self.scope!r}, must be all, actor or critics")
        if self.scope != "all" and self.method != "magnitude":
            raise ValueError(
                f"scope is {self.scope!r}, method {self.method!r}: only magnitude cuts a network "
                "that has learned with all synapses; set method = 'magnitude' or leave scope out"
            )
        if self.overlap not in OVERLAP_RULES:
            raise ValueError(
                f"overlap is {self.overlap!r}, must be one of {', '.join(OVERLAP_RULES)}"
            )
        if self.ranking not in PATH_RANKINGS:
            raise ValueError(
                f"ranking is {self.ranking!r}, must be one of {', '.join(PATH_RANKINGS)}"
            )
        if not 1 <= self.score_window <= MOST_LOOKS:
            raise ValueError(
                f"score_window is {self.score_window}, must be from 1 to {MOST_LOOKS}: each look "
                "keeps a number for every synapse and task"
            )
        if not 0 < self.density <= 1:
            raise ValueError(f"density is {self.density}, must be above 0 and at most 1")
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(
                f"start {self.start} and end {self.end}: 0 <= start < end <= 1 is needed"
            )
        if self.every_updates < 1:
            raise ValueError(f"every_updates is {self.every_updates}, must be at least 1")
        if self.pretrain_steps < 0:
            raise ValueError(f"pretrain_steps is {self.pretrain_steps}, must be at least 0")
        if self.pretrain_steps and self.method != "pathways":
            raise ValueError(
                f"pretrain_steps is {self.pretrain_steps}, method {self.method!r}: tasks find "
                "pathways alone; set method = 'pathways' or leave it out"
            )
        if self.reopen and (self.method not in ("magnitude", "pathways") or not self.layers):
            raise ValueError(
                f"reopen, method {self.method!r}, layers {list(self.layers)}: cut synapses come "
                "back for magnitude or pathways to choose anew, in layers; leave it out"
            )
        if not 0 <= self.freeze_success <= 1:
            raise ValueError(
                f"freeze_success is {self.freeze_success}, must be from 0 to 1, a share of episodes"
            )
        if self.gradual and (self.freeze_returns or self.freeze_success or self.pretrain_steps):
            raise ValueError(
                "gradual: a path is as narrow as it will be at `end`, where it stays; leave "
                "freeze_returns, freeze_success and pretrain_steps out"
            )
        check_at_most(self, {"every_updates": MOST_STEPS, "pretrain_steps": MOST_STEPS})
        if not 0 < self.drop_fraction <= 1:
            raise ValueError(
                f"drop_fraction is {self.drop_fraction}, must be above 0 and at most 1"
            )

    def density_at(self, share: float) -> float:
        """Density of the layers after a share of the run: falls by a cubic from 1.

        d(s) = d_end + (1 - d_end) (1 - (s - start) / (end - start))^3 between start and end.
        """
        passed = min(max((share - self.start) / (self.end - self.start), 0.0), 1.0)
        return self.density + (1.0 - self.density) * (1.0 - passed) ** 3
