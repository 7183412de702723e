"""Densities of layers that are sparse from the start: Erdős-Rényi-Kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping


def erk_densities(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Share synapses out among layers, more densely where a layer is small.

    The density of a layer is proportional to the sum of its weights' dimensions over their
    product: (n_in + n_out + k_h + k_w) / (n_in n_out k_h k_w), and (n_in + n_out) / (n_in n_out)
    for a dense layer (Evci et al. 2020, arXiv:1911.11134, appendix). A layer that this would give
    more synapses than it has room for is dense, and the others share what it leaves.

    Args:
        shapes: of each layer's weights, by its name.
        density: of all layers together, above 0 and at most 1.

    Returns:
        The density of each layer, above 0 and at most 1.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    shares = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    full: set[str] = set()
    while len(full) < len(shapes):
        left = density * sum(sizes.values()) - sum(sizes[name] for name in full)
        rest = [name for name in shapes if name not in full]
        factor = left / sum(shares[name] * sizes[name] for name in rest)
        over = [name for name in rest if factor * shares[name] >= 1]
        if not over:
            return {name: 1.0 if name in full else factor * shares[name] for name in shapes}
        highest = max(shares[name] for name in over)
        full |= {name for name in over if shares[name] == highest}
    return dict.fromkeys(shapes, 1.0)
