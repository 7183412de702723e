"""A simulated device: operations that would fail on a GPU fail on it, on any machine.

Tensors moved to it report the device ``meta`` and compute on the CPU. As on a GPU, an
operation that mixes them with tensors of the CPU fails, and so does :meth:`torch.Tensor.numpy`.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = "meta"
BETWEEN_DEVICES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


class Elsewhere(Tensor):
    """A tensor of the pretended device; `here` holds its values."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Elsewhere:
        created: Elsewhere = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        created.here = here
        return created

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


class Pretended(TorchDispatchMode):
    """While it is on, the pretended device exists."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


def dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU and put its results where a GPU would have them."""
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    away = [isinstance(tensor, Elsewhere) for tensor in tensors]
    # As CUDA: a number in a tensor of the CPU may join in.
    stays = [
        tensor for tensor, gone in zip(tensors, away, strict=True) if not gone and tensor.dim()
    ]
    if any(away) and stays and func not in BETWEEN_DEVICES:
        raise RuntimeError(f"{func}: tensors on the device and on the CPU")
    device = kwargs.get("device")
    to_there = any(away) if device is None else torch.device(device).type == DEVICE
    inner = {**kwargs, "device": "cpu"} if device is not None else kwargs
    result = func(*tree_map(_here, args), **tree_map(_here, inner))
    if func._schema.is_mutable:
        return return_and_correct_aliasing(func, args, kwargs, result)
    if not to_there:
        return result
    result = tree_map(
        lambda value: Elsewhere(value) if isinstance(value, Tensor) else value, result
    )
    if any(away) and device is None:
        return return_and_correct_aliasing(func, args, kwargs, result)
    return result


def _here(value: Any) -> Any:
    return value.here if isinstance(value, Elsewhere) else value


def pretend(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let autocast take the device's name; returns the names that it was given."""
    given: list[str] = []

    def autocast(kind: str, **_: Any) -> nullcontext[None]:
        given.append(kind)
        return nullcontext()

    monkeypatch.setattr(torch, "autocast", autocast)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind=DEVICE: False)
    return given
