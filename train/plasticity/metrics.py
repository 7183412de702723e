"""Measures of plasticity on plain tensors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def activity_scores(activity: Tensor, counted: Tensor) -> Tensor:
    """Compare how active each neuron is with the mean of its layer.

    s_i = E|h_i| / mean_k E|h_k|, the mean over counted neurons (Sokar et al. 2023,
    arXiv:2302.12902, equation 1). A layer that is silent has scores of 0.

    Args:
        activity: (samples, neurons).
        counted: (neurons,) False where a neuron is left out, since all its synapses are cut.

    Returns:
        (neurons,) scores; 0 of those that are left out.
    """
    sizes = activity.abs().mean(0) * counted
    mean = sizes.sum() / counted.sum().clamp(min=1)
    return sizes / mean if float(mean) > 0 else torch.zeros_like(sizes)


def dormant(scores: Tensor, counted: Tensor, threshold: float) -> Tensor:
    """Return which of the counted neurons have a score of at most the threshold."""
    return (scores <= threshold) & counted


def effective_rank(features: Tensor, delta: float) -> int:
    """Count the singular values that hold all but a share `delta` of their sum.

    srank = min k with sum_{i <= k} sigma_i / sum_i sigma_i >= 1 - delta (Kumar et al. 2021,
    arXiv:2010.14498).

    Args:
        features: (samples, features).
        delta: from 0 to below 1.

    Returns:
        The rank; 0 where all features are 0.
    """
    values = torch.linalg.svdvals(features.double())
    total = values.sum()
    if float(total) == 0:
        return 0
    shares = values.cumsum(0) / total
    # Rounding of the last sums must not ask for one value more than there are.
    return min(int((shares < 1 - delta).sum()) + 1, len(values))


def fisher_trace(policies: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Average the trace of the Fisher information of a policy over states.

    Tr F = E_s E_{a ~ pi} |grad log pi(a|s)|^2, with the expectation over actions exact.

    Args:
        policies: of each state: (actions,) probabilities, and (actions, parameters) gradients of
            the log probabilities; of a Gaussian, 1 / deviation^2 and gradients of the means.
    """
    traces = [
        float((chances * (gradients * gradients).sum(1)).sum()) for chances, gradients in policies
    ]
    return sum(traces) / max(1, len(traces))


def gradient_cosines(gradients: Tensor) -> Tensor:
    """Compare the directions of the gradients of every pair of tasks.

    Args:
        gradients: (tasks, parameters).

    Returns:
        (pairs,) cosines, pair by pair in the order (0, 1), (0, 2), ..., (1, 2), ...; below 0 two
        tasks are in conflict (Yu et al. 2020, arXiv:2001.06782). 0 where a gradient is 0.
    """
    unit = torch.nn.functional.normalize(gradients.double(), dim=1)
    first, second = torch.triu_indices(len(unit), len(unit), 1)
    return (unit[first] * unit[second]).sum(1)
