"""Results that a module collects over its time steps: stacked, summed, averaged, the last one."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import torch

from mtspark.convert.linear.snntorch_maps import Scale, join
from mtspark.convert.snntorch.recorder import Node
from mtspark.convert.snntorch.values import Form, Series, Term, Value, substitute
from mtspark.core.errors import BadNetworkError

UNCHANGED = {"detach", "clone", "contiguous", "to", "float", "double", "cpu"}
"""Operations that leave a series as it is."""


def on_series(
    node: Node, first: Value, values: dict[int, Value], form: Callable[[Node], Form]
) -> Value:
    """Results that are collected over time: stack, out[t] = s, sum, mean, [-1]."""
    if node.op == "stack":
        tensors = node.args[0] if node.args else node.kwargs["tensors"]
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if all(isinstance(entry, Node) for entry in tensors):
            forms = [form(entry) for entry in tensors]
            return Series(forms, axis % len(node.shape))
    elif node.op == "__setitem__":
        target, place, value = node.args
        if isinstance(place, int) and isinstance(value, Node):
            before = values[id(target)] if isinstance(target, Node) else None
            forms = list(before.forms) if isinstance(before, Series) else []
            place %= node.shape[0]
            if place == len(forms):
                return Series([*forms, form(value)], 0)
    elif isinstance(first, Series):
        if node.op in UNCHANGED:
            return first
        if node.op in ("sum", "mean"):
            axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
            axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
            rank = first.forms[0].constant.ndim + 2
            keep = node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False)
            if isinstance(axis, int) and axis % rank == first.axis and not keep:
                share = 1.0 if node.op == "sum" else 1.0 / len(first.forms)
                return total(first.forms, share, node.where)
        if node.op == "__getitem__" and first.axis == 0 and isinstance(node.args[1], int):
            return first.forms[node.args[1]]
        if node.op in ("transpose", "permute", "movedim", "swapaxes"):
            numbers = torch.zeros(*[axis + 2 for axis in range(len(node.args[0].shape))])
            args, kwargs = substitute((node.args, node.kwargs), {id(node.args[0]): numbers})
            assert node.function is not None
            moved = node.function(*args, **kwargs).shape
            axes = [size - 2 for size in moved]
            rest = [axis for axis in axes if axis != first.axis]
            if rest == sorted(rest):
                return Series(first.forms, axes.index(first.axis))
    raise BadNetworkError(
        f"{node.where}: {node.op} on results of several time steps cannot be read out; return "
        "the stacked spikes, or their sum or mean over time"
    )


def total(forms: list[Form], share: float, where: str) -> Form:
    """The sum of several forms, each times `share`."""
    shape = forms[0].shape
    scale = Scale(np.full(prod(shape), share))
    terms = tuple(
        Term(term.source, join(term.chain, scale, where), where)
        for form in forms
        for term in form.terms
    )
    return Form(shape, terms, share * np.sum([form.constant for form in forms], axis=0))
