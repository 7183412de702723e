"""Mixtures of experts: groups of hidden neurons that each task weighs in its own way."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_NORM = 1e-6
"""A shorter rest of an expert lies within the others, or the expert is silent."""


def orthonormal(vectors: Tensor) -> Tensor:
    """Make the experts of every sample orthonormal, by Gram-Schmidt (MOORE: arXiv:2311.11385).

    u_k = v_k - sum_{i<k} <v_k, e_i> e_i and e_k = u_k / |u_k|, where each projection takes what the
    ones before it left. An expert that lies within those before it becomes 0.

    Args:
        vectors: (batch, experts, neurons).

    Returns:
        The same shape.
    """
    basis: list[Tensor] = []
    for rest in vectors.unbind(1):
        for unit in basis:
            rest = rest - (rest * unit).sum(1, keepdim=True) * unit
        norm = torch.linalg.vector_norm(rest, dim=1, keepdim=True)
        unit = rest / norm.clamp(min=SMALLEST_NORM)
        basis.append(torch.where(norm > SMALLEST_NORM, unit, torch.zeros_like(unit)))
    return torch.stack(basis, 1)
