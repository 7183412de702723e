"""NIR's linear nodes as linear maps, biases and delays of a signal of known shape.

Shapes follow from the signal that arrives. nir's own inference is not used: it is wrong for
rectangular kernels and grouped convolutions. Signals are flattened row-major, so a node takes a
signal of another shape where the sizes agree and one of the two is a plain vector; otherwise the
file contradicts itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from mtspark.convert.linear import Dense, LinearMap, Scale, convolution, identity
from mtspark.core.arrays import Floats
from mtspark.core.errors import BadNetworkError
from mtspark.core.geometry import Pair, Shape

DELAY_TOLERANCE = 1e-3
"""Delays are often float32; this far from a whole number of steps, in steps, is whole."""

MASKS = 64
"""Largest number of different delays within one Delay node."""


@dataclass(frozen=True)
class Effect:
    """What one node does to a signal.

    Attributes:
        map: applied first.
        bias: then added, in the map's output; None: nothing.
        shape: of the output.
        delays: then, by delay in steps, which values (1) take it and which do not (0).
    """

    map: LinearMap
    bias: Floats | None
    shape: Shape
    delays: dict[int, Floats] | None = None


def linear_effect(name: str, node: nir.NIRNode, shape: Shape, dt: float) -> Effect | None:
    """Work out what a linear node does to a signal.

    Args:
        name: of the node, for errors.
        node: any node.
        shape: of the signal that arrives.
        dt: time step, for delays.

    Returns:
        The effect; None for nodes that are no linear ones.

    Raises:
        BadNetworkError: shapes that do not fit, or parameters that are not valid.
    """
    if isinstance(node, (nir.Input, nir.Output)):
        declared = (node.input_type or {}).get("input")
        told = declared is not None and np.size(declared) > 0
        fitted = fit(name, shape, shape_of(declared)) if told else shape
        return Effect(identity(size(shape)), None, fitted)
    if isinstance(node, (nir.Affine, nir.Linear)):
        return _affine(name, node, shape)
    if isinstance(node, nir.Scale):
        return Effect(_scale(name, node, shape), None, shape)
    if isinstance(node, (nir.Conv1d, nir.Conv2d)):
        return _convolution(name, node, shape)
    if isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
        return _pool(name, node, shape)
    if isinstance(node, nir.Flatten):
        return Effect(identity(size(shape)), None, _flattened(node, shape))
    if isinstance(node, nir.Delay):
        return _delay(name, node, shape, dt)
    return None


def size(shape: Shape) -> int:
    """Number of values."""
    return int(np.prod(shape))


def shape_of(values: Any) -> Shape:
    """A NIR shape as a tuple."""
    return tuple(int(value) for value in np.atleast_1d(np.asarray(values)))


def fit(name: str, shape: Shape, wanted: Shape) -> Shape:
    """Return `wanted` if a signal of `shape` can be read as one of that shape.

    Raises:
        BadNetworkError: it cannot, naming the node.
    """
    plain = _trimmed(shape), _trimmed(wanted)
    if size(shape) != size(wanted) or (
        plain[0] != plain[1] and len(plain[0]) > 1 and len(plain[1]) > 1
    ):
        raise BadNetworkError(f"node {name!r} takes {wanted}, what arrives is {shape}")
    return wanted


def _trimmed(shape: Shape) -> Shape:
    """Without dimensions of size 1."""
    return tuple(length for length in shape if length != 1)


def broadcast(name: str, key: str, value: Any, shape: Shape) -> Floats:
    """Give a node's parameter for every value of a signal.

    One number holds for all. Otherwise the sizes must agree, or the parameter must have as many
    dimensions as the signal, of the same lengths or 1.

    Args:
        name, key: of the node and the parameter, for errors.
        value: of the parameter.
        shape: of the signal.

    Raises:
        BadNetworkError: the shapes do not fit.
    """
    array = np.asarray(value, np.float64)
    if array.size == 1:
        return np.full(shape, float(array.reshape(())))
    if array.size == size(shape):
        fit(f"{name}.{key}", array.shape, shape)
        return array.reshape(shape).copy()
    if array.ndim == len(shape) and all(
        one in (1, other) for one, other in zip(array.shape, shape, strict=True)
    ):
        return np.broadcast_to(array, shape).copy()
    raise BadNetworkError(f"node {name!r}: {key} has shape {array.shape}, the signal {shape}")


def _finite(name: str, key: str, value: Any) -> Floats:
    array = np.asarray(value, np.float64)
    if not np.isfinite(array).all():
        raise BadNetworkError(f"node {name!r}: {key} is not finite")
    return array


def _affine(name: str, node: nir.Affine | nir.Linear, shape: Shape) -> Effect:
    weight = _finite(name, "weight", node.weight)
    if weight.ndim != 2 or weight.shape[1] != size(shape):
        raise BadNetworkError(
            f"node {name!r}: weights {weight.shape} need {weight.shape[-1]} values, what arrives "
            f"is {shape}"
        )
    bias = None
    if isinstance(node, nir.Affine) and node.bias is not None:
        bias = broadcast(name, "bias", _finite(name, "bias", node.bias), (len(weight),))
    return Effect(Dense(weight), bias, (len(weight),))


def _scale(name: str, node: nir.Scale, shape: Shape) -> Scale:
    return Scale(broadcast(name, "scale", _finite(name, "scale", node.scale), shape).reshape(-1))


def _pair(name: str, key: str, value: Any, dimensions: int) -> Pair:
    """One or two whole numbers as (rows, columns); of a 1-d node, as (neutral row, columns)."""
    array = np.asarray(value, np.float64).reshape(-1)
    whole = np.isfinite(array).all() and np.all(array == np.round(array))
    if array.size not in (1, dimensions) or not whole:
        raise BadNetworkError(f"node {name!r}: {key} {np.asarray(value).tolist()} is not valid")
    if dimensions == 1:
        return (0 if key == "padding" else 1), int(array[0])
    pair = np.broadcast_to(array, 2)
    return int(pair[0]), int(pair[1])


def _text(value: Any) -> str | None:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(())[()]
    if isinstance(value, bytes):
        return value.decode("utf8", "replace")
    return value if isinstance(value, str) else None


def _convolution(name: str, node: nir.Conv1d | nir.Conv2d, shape: Shape) -> Effect:
    dimensions = 1 if isinstance(node, nir.Conv1d) else 2
    weight = _finite(name, "weight", node.weight)
    if weight.ndim != 2 + dimensions:
        raise BadNetworkError(f"node {name!r}: weights {weight.shape} of a {dimensions}-d kernel")
    groups = int(np.asarray(node.groups).reshape(-1)[0])
    if dimensions == 1:
        weight = weight[:, :, None]
    image = _image(name, node, shape, weight.shape[1] * groups, dimensions)
    stride = _pair(name, "stride", node.stride, dimensions)
    dilation = _pair(name, "dilation", node.dilation, dimensions)
    text = _text(node.padding)
    if text == "same":
        weight, dilation, padding = _same(name, weight, stride, dilation)
    elif text == "valid":
        padding = (0, 0)
    elif text is not None:
        raise BadNetworkError(f"node {name!r}: padding {text!r}; use 'same', 'valid' or numbers")
    else:
        padding = _pair(name, "padding", node.padding, dimensions)
    conv = convolution(weight, image, stride, padding, dilation, groups)
    if conv is None:
        raise BadNetworkError(
            f"node {name!r}: kernels {weight.shape} (stride {stride}, padding {padding}, dilation "
            f"{dilation}, groups {groups}) do not fit {image}"
        )
    bias = None
    if node.bias is not None:
        channels = _finite(name, "bias", node.bias)
        if channels.size not in (1, len(weight)):
            raise BadNetworkError(
                f"node {name!r}: {channels.size} biases for {len(weight)} channels"
            )
        per_channel = np.broadcast_to(channels.reshape(-1), (len(weight),))
        bias = np.broadcast_to(per_channel[:, None, None], conv.geometry.output_shape).copy()
    rows, columns = conv.geometry.output_shape[1:]
    out = (len(weight), columns) if dimensions == 1 else (len(weight), rows, columns)
    return Effect(conv, bias, out)


def _image(
    name: str, node: nir.Conv1d | nir.Conv2d, shape: Shape, channels: int, dimensions: int
) -> Shape:
    """The signal as (channels, rows, columns)."""
    plain = shape
    while len(plain) > dimensions + 1 and plain[0] == 1:
        plain = plain[1:]
    if len(plain) == dimensions and channels == 1 and (dimensions > 1 or plain[0] != 1):
        # The one channel has no axis of its own.
        plain = (1, *plain)
    if len(plain) == dimensions + 1 and plain[0] == channels:
        return (channels, 1, plain[1]) if dimensions == 1 else plain
    declared = None if node.input_shape is None else shape_of(node.input_shape)
    if declared and len(_trimmed(shape)) <= 1 and size(declared) * channels == size(shape):
        return (channels, 1, declared[0]) if dimensions == 1 else (channels, *declared)
    raise BadNetworkError(f"node {name!r} takes {channels} channels, what arrives is {shape}")


def _same(name: str, weight: Floats, stride: Pair, dilation: Pair) -> tuple[Floats, Pair, Pair]:
    """Weights, dilation and padding of 'same': an even reach pads one more behind than before.

    The chip pads both sides alike, so the kernel then gets a leading row (column) of zeros.
    """
    if stride != (1, 1):
        raise BadNetworkError(f"node {name!r}: padding 'same' with stride {stride} is not defined")
    padding = []
    for axis in (0, 1):
        total = dilation[axis] * (weight.shape[2 + axis] - 1)
        padding.append(total - total // 2)
        if total % 2:
            taps = np.zeros((*weight.shape[: 2 + axis], total + 1, *weight.shape[3 + axis :]))
            spread = [slice(None)] * 4
            spread[2 + axis] = slice(None, None, dilation[axis])
            taps[tuple(spread)] = weight
            widths = [(0, 0)] * 4
            widths[2 + axis] = (1, 0)
            weight = np.pad(taps, widths)
            dilation = (1, dilation[1]) if axis == 0 else (dilation[0], 1)
    return weight, dilation, (padding[0], padding[1])


def _pool(name: str, node: nir.SumPool2d | nir.AvgPool2d, shape: Shape) -> Effect:
    plain = shape
    while len(plain) > 3 and plain[0] == 1:
        plain = plain[1:]
    if len(plain) != 3:
        raise BadNetworkError(f"node {name!r} pools images, what arrives is {shape}")
    kernel = _pair(name, "kernel_size", node.kernel_size, 2)
    stride = _pair(name, "stride", node.stride, 2)
    padding = _pair(name, "padding", node.padding, 2)
    factor = 1.0
    if isinstance(node, nir.AvgPool2d):
        # Padding counts as zeros, torch's default; NIR does not say.
        factor = 1.0 / max(1, kernel[0] * kernel[1])
    windows = None
    if min(*kernel, *stride) >= 1 and min(padding) >= 0:
        weight = np.full((plain[0], 1, *kernel), factor)
        windows = convolution(weight, plain, stride, padding, (1, 1), plain[0])
    if windows is None:
        raise BadNetworkError(
            f"node {name!r}: windows {kernel}, stride {stride}, padding {padding} do not fit "
            f"{plain}"
        )
    return Effect(windows, None, windows.geometry.output_shape)


def _flattened(node: nir.Flatten, shape: Shape) -> Shape:
    """NIR's dimensions leave the batch out; only names of dimensions change, never the order."""
    start = int(np.asarray(node.start_dim).reshape(-1)[0])
    end = int(np.asarray(node.end_dim).reshape(-1)[0])
    count = len(shape)
    start, end = start % count if start < 0 else start, end % count if end < 0 else end
    if start >= min(end, count - 1):
        return shape
    return (*shape[:start], size(shape[start : end + 1]), *shape[end + 1 :])


def _delay(name: str, node: nir.Delay, shape: Shape, dt: float) -> Effect:
    steps = broadcast(name, "delay", _finite(name, "delay", node.delay), shape) / dt
    whole = np.round(steps)
    if np.any(whole < 0):
        raise BadNetworkError(
            f"node {name!r}: a delay of {float(steps.min() * dt):g}; must be at least 0, since "
            "nothing arrives before it was sent"
        )
    if np.any(np.abs(steps - whole) > DELAY_TOLERANCE):
        odd = steps[np.abs(steps - whole) > DELAY_TOLERANCE].flat[0]
        raise BadNetworkError(
            f"node {name!r}: a delay of {odd:g} steps of {dt:g}; must be whole steps; choose a "
            "--dt that divides it"
        )
    distinct = np.unique(whole)
    if len(distinct) > MASKS:
        raise BadNetworkError(
            f"node {name!r} has {len(distinct)} different delays, {MASKS} are the limit"
        )
    delays = {int(value): (whole == value).astype(np.float64).reshape(-1) for value in distinct}
    return Effect(identity(size(shape)), None, shape, delays)
