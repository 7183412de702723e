"""Functions fused by torch.compile, where a run asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., object])


def fused(function: Function) -> Function:
    """`function` by torch.compile: a compilation for each shape and gradient mode.

    Args:
        function: of tensors and plain values, at the top of a module.
    """
    return cast(Function, _fused(function))


@cache
def _fused(function: Callable[..., object]) -> object:
    # Imported when it is asked for: torch's compiler takes longer to import than torch.
    # The limit is of all layers, batch sizes and gradient modes together.
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(function, dynamic=False)
