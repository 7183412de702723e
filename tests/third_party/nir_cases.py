"""What all cases share: how one is registered, its inputs, and what is filled in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

STEPS = 60
CASES: list[tuple[dict[str, Any], Callable[[], Any]]] = []


def case(
    tool: str, name: str, nodes: list[str], *, mended: bool = False, **options: Any
) -> Callable[..., Any]:
    """Register a case; it returns graph, input (T, batch, ...) and output (T, batch, ...).

    Where `mended`, something that the tool's exporter left out was put into the graph.
    """
    about = {"tool": tool, "name": name, "nodes": nodes, "options": options, "mended": mended}

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        CASES.append((about, function))
        return function

    return register


def inputs(*shape: int, rate: float = 0.3, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((STEPS, 2, *shape)) < rate).astype(np.float32)


def seeded() -> Any:
    import torch

    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    return torch


def with_shapes(graph: Any, *shapes: tuple[int, int]) -> Any:
    """Fill in the sizes that norse and sinabs leave open, which nir cannot write."""
    import nir

    waiting = list(shapes)
    for name in sorted(graph.nodes):
        node = graph.nodes[name]
        if isinstance(node, nir.Conv2d) and node.input_shape is None:
            node.input_shape = waiting.pop(0)
        if isinstance(node, nir.Flatten) and node.input_type["input"] is None:
            node.input_type = {"input": np.array([4, 3, 3])}
    return graph
