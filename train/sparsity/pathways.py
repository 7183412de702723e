"""Neural pathways: for each task the synapses that its loss is most sensitive to.

NPF (ICLR 2023 submission) and DAPD (NeurIPS 2024).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtspark.core.errors import BadRequestError
from mtspark.train.networks import MTSparkNetwork, PathRanking


@dataclass(frozen=True)
class PathSharing:
    """A task's path beside those of the other tasks, over all layers with paths.

    Attributes:
        synapses: in these layers.
        own: in the task's path.
        union: in any path.
        others: names of the other tasks.
    """

    synapses: int
    own: int
    union: int
    others: tuple[str, ...]


COLLAPSE_SHARE = 0.1
"""Each layer keeps at least this share of the density, whatever its scores."""


def path_scores(
    network: MTSparkNetwork, loss: Callable[[], Tensor], scales: Mapping[str, float | Tensor]
) -> dict[str, Tensor]:
    """Score every synapse by |w dL/dw| with all synapses in place, normalised over all layers.

    That is |dL/dm| at a mask m of ones (SNIP: Lee et al. 2019, arXiv:1810.02340). The weights that
    act count, with standardisation folded in.

    Args:
        network: neither its weights nor their gradients change.
        loss: computes a task's loss with the network.
        scales: of each layer, its name with a factor on its weights. Gains of sparse layers are
            high: with all synapses in place, their neurons would only ever fire. A mask in the
            shape of the weights scores the synapses in it alone; the others get 0.

    Returns:
        Scores in the shape of each layer's weights; they sum to 1 over the layers, or are 0.
    """
    layers = {name: network.layer(name) for name in scales}
    try:
        for name, layer in layers.items():
            weight = layer.shared_weight().detach() * scales[name]
            layer.trial = weight.requires_grad_()
        trials = [layer.trial for layer in layers.values() if layer.trial is not None]
        gradients = torch.autograd.grad(loss(), trials, allow_unused=True, materialize_grads=True)
        raw = [(one.detach() * slope).abs() for one, slope in zip(trials, gradients, strict=True)]
    finally:
        for layer in layers.values():
            layer.trial = None
    return shares_of(dict(zip(layers, raw, strict=True)))


def shares_of(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Divide the scores of all layers by their sum; scores that are all 0 stay."""
    total = torch.stack([score.sum() for score in scores.values()]).sum()
    return {name: score / total if float(total) > 0 else score for name, score in scores.items()}


def mean_scores(history: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average the scores of several looks, layer by layer.

    Raises:
        BadRequestError: there is no look, or looks are of different layers.
    """
    if not history:
        raise BadRequestError("scores: none; give those of at least one look")
    if any(one.keys() != history[-1].keys() for one in history):
        raise BadRequestError("scores: the looks are of different layers; score the same in all")
    return {name: torch.stack([scores[name] for scores in history]).mean(0) for name in history[-1]}


def choose_path(
    scores: Mapping[str, Tensor],
    density: float,
    ranking: PathRanking = "network",
    within: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor] | None:
    """Keep the synapses of the highest scores, over all layers together or of each layer.

    So that no layer collapses where all are ranked together, each keeps its best synapses up to a
    tenth of the density, at least one; the others are chosen from all layers. Equal scores go in
    the order of layers and places.

    Args:
        scores: of each layer, by its name.
        density: share of all synapses that is kept, rounded to whole ones; of each layer, at
            least one, where layers are ranked apart.
        ranking: network or layer.
        within: masks of a path that is narrowed: its synapses alone are kept, those without a
            score last.

    Returns:
        Masks by layer, without synapses whose score is 0, so that there may be fewer. None where
        no score of a layer is above 0, or `within` has fewer synapses: the old path then stays.
    """
    names = list(scores)
    sizes = [scores[name].numel() for name in names]
    flat = torch.cat([scores[name].flatten() for name in names])
    known = flat > 0
    if within is not None:
        known = torch.cat([within[name].flatten() for name in names])
    flat = flat.masked_fill(~known, -1.0)
    there = [int(part.sum()) for part in known.split(sizes)]
    share = density if ranking == "layer" else COLLAPSE_SHARE * density
    counted = round if ranking == "layer" else math.floor
    least = [
        min(max(1, counted(share * size)), most) for size, most in zip(sizes, there, strict=True)
    ]
    kept = sum(least) if ranking == "layer" else max(1, round(density * sum(sizes)))
    if within is None:
        kept = min(kept, sum(there))
    if min(there) == 0 if within is None else sum(there) < kept:
        return None
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    for part, taken, count in zip(flat.split(sizes), chosen.split(sizes), least, strict=True):
        taken[part.argsort(descending=True, stable=True)[:count]] = True
    left = kept - int(chosen.sum())
    if left > 0:
        order = flat.masked_fill(chosen, -2.0).argsort(descending=True, stable=True)
        chosen[order[:left]] = True
    parts = chosen.split(sizes)
    return {name: part.view_as(scores[name]) for name, part in zip(names, parts, strict=True)}


@torch.no_grad()
def follow_path(network: MTSparkNetwork, task: int, path: Mapping[str, Tensor]) -> None:
    """Let a task use these synapses, by layer, and no others."""
    for name, mask in path.items():
        paths = network.layer(name).paths
        assert paths is not None
        paths[task].copy_(mask)


@torch.no_grad()
def raise_gains(network: MTSparkNetwork, layers: Iterable[str], task: int | None = None) -> None:
    """Raise the gains of layers by 1 / sqrt(density), when their first paths are chosen.

    How currents vary then stays; see :func:`mtspark.train.sparsity.evolution.draw_synapses`.

    Args:
        network: with paths.
        layers: whose gains are raised.
        task: whose density counts, where it plays alone; None: the mean of all.
    """
    for name in layers:
        layer = network.layer(name)
        layer.standardise.gain.mul_(1 / math.sqrt(path_density(network, name, task)))


def path_density(network: MTSparkNetwork, layer: str, task: int | None = None) -> float:
    """Return the share of a layer's synapses in a task's path; without one, the mean of tasks."""
    paths = network.layer(layer).paths
    assert paths is not None
    return float((paths if task is None else paths[task]).float().mean())


def path_overlap(network: MTSparkNetwork, names: Sequence[str]) -> dict[str, float]:
    """Measure how tasks share their synapses, over all layers with paths.

    Args:
        network: with paths.
        names: of the tasks.

    Returns:
        `union`: share of synapses in any path. `A/B`: of each pair, the synapses in both paths
        over those of the smaller one.
    """
    flat = _all_paths(network)
    counts = flat.sum(1)
    found = {"union": float(flat.any(0).float().mean())}
    for (one, first), (other, second) in itertools.combinations(enumerate(names), 2):
        shared = int((flat[one] & flat[other]).sum())
        smaller = max(1, int(torch.minimum(counts[one], counts[other])))
        found[f"{first}/{second}"] = shared / smaller
    return found


def path_sharing(network: MTSparkNetwork, names: Sequence[str], task: int) -> PathSharing:
    """Count the synapses of a task's path, and those of all tasks.

    Args:
        network: with paths.
        names: of the tasks.
        task: index of the task.
    """
    flat = _all_paths(network)
    others = tuple(name for index, name in enumerate(names) if index != task)
    return PathSharing(flat.shape[1], int(flat[task].sum()), int(flat.any(0).sum()), others)


def _all_paths(network: MTSparkNetwork) -> Tensor:
    """Paths of all layers side by side, (tasks, synapses)."""
    layers = [network.layer(name).paths for name in network.config.pathway_layers]
    return torch.cat([paths.flatten(1) for paths in layers if paths is not None], 1)
