"""Weights of tasks that have paths of their own through shared layers, and their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtspark.train.networks.config import OverlapRule


def combined_gradient(
    gradients: Tensor, paths: Tensor, present: Tensor, rule: OverlapRule
) -> Tensor:
    """Combine the gradients of the tasks that use a weight (NPF and DAPD, NeurIPS 2024, code).

    With m_n the mask of task n and g_n its gradient:

    * participants: sum_n m_n g_n / max(1, number of tasks that use the weight). Every task counts
      in the divisor, whether it plays now or not (the released code leaves out the first).
    * sum: sum_n m_n g_n.
    * mean: sum_n m_n g_n / number of tasks.
    * euclidean: sqrt(sum_n (m_n g_n)^2). The sign is that of sum_n m_n g_n; the published rule has
      none, and a weight could then only fall.
    * stochastic: m_n g_n of one task that uses the weight, drawn anew for each weight.

    Args:
        gradients: (present tasks, *weights).
        paths: (tasks, *weights) True where a task uses a weight.
        present: indices of the present tasks in `paths`.
        rule: one of these.

    Returns:
        A gradient in the shape of the weights; 0 where no present task uses one.
    """
    used = paths[present]
    masked = gradients * used
    total = masked.sum(0)
    if rule == "sum":
        return total
    if rule == "mean":
        return total / len(paths)
    if rule == "euclidean":
        return total.sign() * masked.square().sum(0).sqrt()
    if rule == "stochastic":
        chances = torch.rand(used.shape, device=used.device).masked_fill(~used, -1.0)
        drawn = chances.argmax(0, keepdim=True)
        return masked.gather(0, drawn).squeeze(0)
    return total / paths.sum(0).clamp(min=1)


class _WeightsOfTasks(torch.autograd.Function):
    """Mask shared weights for every present task; backward by a rule of overlapping paths."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, paths: Tensor, present: Tensor, rule: OverlapRule
    ) -> Tensor:
        ctx.save_for_backward(paths, present)
        ctx.rule = rule
        return weight * paths[present]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        paths, present = ctx.saved_tensors
        return combined_gradient(grad_outputs[0], paths, present, ctx.rule), None, None, None


def weights_of_tasks(weight: Tensor, paths: Tensor, present: Tensor, rule: OverlapRule) -> Tensor:
    """Return the weights of each present task, (present tasks, *weights).

    Args:
        weight: shared by all tasks.
        paths: (tasks, *weights) True where a task uses a weight.
        present: indices of tasks.
        rule: of :func:`combined_gradient`, for the gradient of `weight`.
    """
    return _WeightsOfTasks.apply(weight, paths, present, rule)  # type: ignore[no-untyped-call]
