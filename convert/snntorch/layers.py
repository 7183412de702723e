"""Layers of torch as linear maps, and what to write instead of functions that are not linear.

Each function of :data:`LAYERS` gets the arguments of a recorded torch function, the shape of one
sample and the user's line, and returns the map and the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtspark.convert.linear import (
    MATRIX_VALUES,
    Conv,
    Dense,
    LinearMap,
    Scale,
    convolution,
    identity,
    select,
)
from mtspark.core.arrays import Floats
from mtspark.core.errors import BadNetworkError
from mtspark.core.geometry import Pair, Shape

Layer = tuple[LinearMap, "Floats | None"]
"""A map, and what it adds to each channel (or output of a dense layer)."""

INSTEAD = {
    "relu": "spiking neurons are the nonlinearity: leave it out, or put snn.Leaky there",
    "layer_norm": "normalise the weights, or use nn.BatchNorm2d, which folds into them",
    "group_norm": "normalise the weights, or use nn.BatchNorm2d, which folds into them",
    "instance_norm": "normalise the weights, or use nn.BatchNorm2d, which folds into them",
    "softmax": "leave it out: it changes no order of the outputs",
    "scaled_dot_product_attention": "attention multiplies two signals; use linear layers",
    "multi_head_attention_forward": "attention multiplies two signals; use linear layers",
    "lstm": "snn.RLeaky or snn.RSynaptic",
    "gru": "snn.RLeaky or snn.RSynaptic",
    "sigmoid": "spiking neurons are the nonlinearity: put snn.Leaky there",
    "tanh": "spiking neurons are the nonlinearity: put snn.Leaky there",
}
for _name in ("relu_", "relu6", "leaky_relu", "elu", "gelu", "selu", "silu", "prelu", "clamp_min"):
    INSTEAD[_name] = INSTEAD["relu"]
INSTEAD["log_softmax"] = INSTEAD["softmax"]

TWO_SIGNALS = {"mul", "mul_", "div", "div_", "multiply", "true_divide", "matmul", "bmm", "einsum"}


def refusal(op: str, where: str, signals: int) -> BadNetworkError:
    """Explain that an operation is not linear, with what to write instead.

    Args:
        op: name of the torch function.
        where: the user's line.
        signals: how many of its arguments are signals.

    Returns:
        The error to raise.
    """
    if signals > 1 and op in TWO_SIGNALS:
        return BadNetworkError(
            f"{where}: {op} of two signals cannot be done by synapses; gate with a constant, or "
            "add the signals instead"
        )
    instead = INSTEAD.get(op)
    return BadNetworkError(
        f"{where}: {op} is not linear, a chip has synapses and neurons only; instead: {instead}"
        if instead
        else f"{where}: {op} is not known as a linear operation; use nn.Linear, nn.Conv1d, "
        "nn.Conv2d, nn.AvgPool2d, sums and constant factors between spiking neurons"
    )


def _argument(
    args: Sequence[Any], kwargs: Mapping[str, Any], at: int, name: str, default: Any
) -> Any:
    return args[at] if len(args) > at else kwargs.get(name, default)


def _double(tensor: Tensor) -> Floats:
    return tensor.detach().double().numpy()


def _linear(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    weight = _argument(args, kwargs, 1, "weight", None)
    bias = _argument(args, kwargs, 2, "bias", None)
    matrix = _double(weight)
    if len(shape) == 1:
        return Dense(matrix), None if bias is None else _double(bias)
    if bias is not None:
        raise BadNetworkError(
            f"{where}: nn.Linear with a bias on values of shape {shape}; flatten them first"
        )
    rows = prod(shape[:-1])
    if rows * rows * matrix.size > MATRIX_VALUES:
        raise BadNetworkError(
            f"{where}: nn.Linear on values of shape {shape} would need a matrix of "
            f"{rows * rows * matrix.size} values, {MATRIX_VALUES} are the limit; flatten them first"
        )
    return Dense(np.asarray(np.kron(np.eye(rows), matrix), np.float64)), None


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return value, value
    values = [int(entry) for entry in value]
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def _conv2d(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    weight = _double(_argument(args, kwargs, 1, "weight", None))
    bias = _argument(args, kwargs, 2, "bias", None)
    stride = _pair(_argument(args, kwargs, 3, "stride", 1))
    padding = _argument(args, kwargs, 4, "padding", 0)
    dilation = _pair(_argument(args, kwargs, 5, "dilation", 1))
    groups = int(_argument(args, kwargs, 6, "groups", 1))
    if len(shape) != 3:
        raise BadNetworkError(f"{where}: conv2d on values of shape {shape}; give channels first")
    conv = _convolution(weight, shape, stride, padding, dilation, groups, where)
    return conv, None if bias is None else _double(bias)


def _conv1d(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    weight = _double(_argument(args, kwargs, 1, "weight", None))[:, :, None]
    bias = _argument(args, kwargs, 2, "bias", None)
    if len(shape) != 2:
        raise BadNetworkError(f"{where}: conv1d on values of shape {shape}; give channels first")

    def one(at: int, name: str, default: int) -> int:
        value = _argument(args, kwargs, at, name, default)
        return int(value if isinstance(value, int) else value[0])

    padding = _argument(args, kwargs, 4, "padding", 0)
    conv = _convolution(
        weight,
        (shape[0], 1, shape[1]),
        (1, one(3, "stride", 1)),
        padding if isinstance(padding, str) else (0, one(4, "padding", 0)),
        (1, one(5, "dilation", 1)),
        int(_argument(args, kwargs, 6, "groups", 1)),
        where,
    )
    return conv, None if bias is None else _double(bias)


def _convolution(
    weight: Floats,
    shape: Shape,
    stride: Pair,
    padding: Any,
    dilation: Pair,
    groups: int,
    where: str,
) -> Conv:
    if padding == "valid":
        padding = 0
    if padding == "same":
        weight, padding, dilation = _same_padding(weight, dilation)
    pads = _pair(padding)
    conv = convolution(weight, shape, stride, pads, dilation, groups)
    if conv is None:
        raise BadNetworkError(f"{where}: kernels {weight.shape} do not fit {shape}")
    return conv


def _same_padding(weight: Floats, dilation: Pair) -> tuple[Floats, Pair, Pair]:
    """Padding "same" as equal padding on both sides.

    torch puts the odd zero at the end; a tap of weight zero at the start makes it even.
    """
    pads, gaps = [0, 0], [*dilation]
    for axis in range(2):
        total = dilation[axis] * (weight.shape[2 + axis] - 1)
        pads[axis] = (total + 1) // 2
        if total % 2:
            spread = np.zeros((*weight.shape[: 2 + axis], total + 2, *weight.shape[3 + axis :]))
            at = [slice(None)] * weight.ndim
            at[2 + axis] = slice(1, None, dilation[axis])
            spread[tuple(at)] = weight
            weight, gaps[axis] = spread, 1
    return weight, (pads[0], pads[1]), (gaps[0], gaps[1])


def _avg_pool2d(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    kernel = _pair(_argument(args, kwargs, 1, "kernel_size", None))
    stride = _argument(args, kwargs, 2, "stride", None)
    padding = _pair(_argument(args, kwargs, 3, "padding", 0))
    ceil = bool(_argument(args, kwargs, 4, "ceil_mode", False))
    counts = bool(_argument(args, kwargs, 5, "count_include_pad", True))
    divisor = _argument(args, kwargs, 6, "divisor_override", None)
    step = kernel if stride is None or stride == () else _pair(stride)
    if ceil or (any(padding) and not counts):
        return _by_basis(functional.avg_pool2d, args, kwargs, shape, where)
    weight = np.full((shape[0], 1, *kernel), 1.0 / (divisor or prod(kernel)))
    return _convolution(weight, shape, step, padding, (1, 1), shape[0], where), None


def _avg_pool1d(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    return _by_basis(functional.avg_pool1d, args, kwargs, shape, where)


def _adaptive_avg_pool2d(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    wanted = _argument(args, kwargs, 1, "output_size", 1)
    pair = (wanted, wanted) if isinstance(wanted, int) or wanted is None else tuple(wanted)
    sizes = [
        have if want is None else int(want) for want, have in zip(pair, shape[1:], strict=True)
    ]
    if all(have % want == 0 for have, want in zip(shape[1:], sizes, strict=True)):
        kernel = (shape[1] // sizes[0], shape[2] // sizes[1])
        weight = np.full((shape[0], 1, *kernel), 1.0 / prod(kernel))
        return _convolution(weight, shape, kernel, (0, 0), (1, 1), shape[0], where), None
    return _by_basis(functional.adaptive_avg_pool2d, args, kwargs, shape, where)


def _adaptive_avg_pool1d(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    return _by_basis(functional.adaptive_avg_pool1d, args, kwargs, shape, where)


def _mean(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    return _over_axes(torch.mean, args, kwargs, shape, where)


def _sum(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    return _over_axes(torch.sum, args, kwargs, shape, where)


def _over_axes(
    function: Callable[..., Tensor], args: Any, kwargs: Any, shape: Shape, where: str
) -> Layer:
    axes = _argument(args, kwargs, 1, "dim", _argument(args, kwargs, 1, "axis", None))
    axes = [axes] if isinstance(axes, int) else axes
    if axes is None or any(axis % (len(shape) + 1) == 0 for axis in axes):
        raise BadNetworkError(
            f"{where}: {function.__name__} over the samples of a batch; use other dimensions"
        )
    return _by_basis(function, args, kwargs, shape, where)


def _by_basis(
    function: Callable[..., Tensor], args: Any, kwargs: Any, shape: Shape, where: str
) -> Layer:
    """The matrix of a linear function, by running it on every unit vector."""
    size = prod(shape)
    rest = [a.detach().double() if isinstance(a, Tensor) else a for a in args[1:]]
    with torch.no_grad():
        outputs = function(torch.zeros(1, *shape, dtype=torch.float64), *rest, **kwargs).numel()
        if size * max(size, outputs) > MATRIX_VALUES:
            instead = (
                "; pool with nn.AvgPool2d without ceil_mode and with count_include_pad=True"
                if "pool" in function.__name__
                else "; put fewer values through it"
            )
            raise BadNetworkError(
                f"{where}: {function.__name__} on {size} values would need a matrix that is too "
                f"large{instead}"
            )
        basis = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
        columns = function(basis, *rest, **kwargs)
    return Dense(columns.reshape(size, -1).numpy().T.copy()), None


def _batch_norm(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    mean = _argument(args, kwargs, 1, "running_mean", None)
    variance = _argument(args, kwargs, 2, "running_var", None)
    weight = _argument(args, kwargs, 3, "weight", None)
    bias = _argument(args, kwargs, 4, "bias", None)
    training = bool(_argument(args, kwargs, 5, "training", False))
    eps = float(_argument(args, kwargs, 7, "eps", 1e-5))
    if training or mean is None or variance is None:
        raise BadNetworkError(
            f"{where}: this batch norm depends on the batch, even in eval mode; use "
            "track_running_stats=True so that it folds into the weights"
        )
    factor = 1.0 / np.sqrt(_double(variance) + eps)
    if weight is not None:
        factor = factor * _double(weight)
    shift = -_double(mean) * factor
    if bias is not None:
        shift = shift + _double(bias)
    per_channel = prod(shape[1:])
    return Scale(np.repeat(factor, per_channel)), shift


def _dropout(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    share = float(_argument(args, kwargs, 1, "p", 0.5))
    if share > 0 and bool(_argument(args, kwargs, 2, "training", True)):
        raise BadNetworkError(
            f"{where}: this dropout is active in eval mode; use nn.Dropout, or pass "
            "training=self.training"
        )
    return identity(prod(shape)), None


def _matmul(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    other = _argument(args, kwargs, 1, "other", _argument(args, kwargs, 1, "mat2", None))
    if len(shape) != 1 or other.ndim != 2:
        raise BadNetworkError(
            f"{where}: matmul of values of shape {shape} is not supported; use nn.Linear "
            "on flat values"
        )
    return Dense(_double(other).T.copy()), None


def _interpolate(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    """Nearest neighbours are copies of values; every other way of interpolating is a matrix."""
    if str(_argument(args, kwargs, 3, "mode", "nearest")).startswith("nearest"):
        places = torch.arange(prod(shape), dtype=torch.float64).reshape(1, *shape)
        moved = functional.interpolate(places, *args[1:], **kwargs)
        return select(moved.reshape(-1).long().numpy(), prod(shape)), None
    return _by_basis(functional.interpolate, args, kwargs, shape, where)


def _transposed1d(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    return _transposed(functional.conv_transpose1d, args, kwargs, shape, where)


def _transposed2d(args: Any, kwargs: Any, shape: Shape, where: str) -> Layer:
    return _transposed(functional.conv_transpose2d, args, kwargs, shape, where)


def _transposed(
    function: Callable[..., Tensor], args: Any, kwargs: Any, shape: Shape, where: str
) -> Layer:
    rest, named = [*args], dict(kwargs)
    bias = _argument(args, kwargs, 2, "bias", None)
    if len(rest) > 2:
        rest[2] = None
    named.pop("bias", None)
    named = {k: v.detach().double() if isinstance(v, Tensor) else v for k, v in named.items()}
    matrix, _ = _by_basis(function, rest, named, shape, where)
    return matrix, None if bias is None else _double(bias)


LAYERS: dict[str, Callable[[Any, Any, Shape, str], Layer]] = {
    "linear": _linear,
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "conv_transpose1d": _transposed1d,
    "conv_transpose2d": _transposed2d,
    "interpolate": _interpolate,
    "avg_pool1d": _avg_pool1d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool1d": _adaptive_avg_pool1d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "batch_norm": _batch_norm,
    "mean": _mean,
    "sum": _sum,
    "matmul": _matmul,
    "mm": _matmul,
    "dropout": _dropout,
    "dropout1d": _dropout,
    "dropout2d": _dropout,
    "alpha_dropout": _dropout,
    "feature_dropout": _dropout,
}
