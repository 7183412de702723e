"""Sample inputs: which of their axes are time and batch, and how they are sent to the chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.sim.recording import load_array
from mtspark.workflows.export.request import ExportRequest

GLANCE = 2**20
"""Values that tell spikes from others."""
TOLERANCE = 1e-3
"""Of a message, which is a whole number."""
LARGEST_MESSAGE = 255


@dataclass(frozen=True)
class Layout:
    """How the axes of a sample are read.

    Attributes:
        shape: of one step's input.
        time_axis: 0 for (T, batch, ...), 1 for (batch, T, ...), None for frames (batch, ...).
        time_steps: T; None where the module says it.
    """

    shape: tuple[int, ...]
    time_axis: int | None
    time_steps: int | None

    @property
    def series(self) -> bool:
        """Whether the sample has an axis of time."""
        return self.time_axis is not None

    @classmethod
    def of_series(
        cls, sample: tuple[int, ...], shape: tuple[int, ...], name: str, what: str = "sample"
    ) -> Layout:
        """Return the layout of a sample for a network whose shape of a step is known.

        Args:
            sample: its shape.
            shape: of a step.
            name: of the network, for errors.
            what: the sample is called there.

        Raises:
            BadRequestError: neither (batch, *shape) nor (batch, T, *shape).
        """
        if sample[1:] == shape:
            return cls(shape, None, None)
        if sample[2:] == shape and len(sample) > 1:
            return cls(shape, 1, sample[1])
        # Axes of size 1, as of the one channel of an image, may be left out.
        if _plain(sample[1:]) == _plain(shape):
            return cls(sample[1:], None, None)
        if len(sample) > 1 and _plain(sample[2:]) == _plain(shape):
            return cls(sample[2:], 1, sample[1])
        wanted = ", ".join(map(str, shape))
        raise BadRequestError(
            f"{what}: has shape {sample}, {name} takes (batch, {wanted}) or (batch, T, {wanted})"
        )

    def series_of(
        self, sample: NDArray[Any], shape: tuple[int, ...], time_steps: int
    ) -> NDArray[Any]:
        """Bring a sample to (T, batch, *shape); frames are repeated for every step.

        Args:
            sample: as given.
            shape: of a step on the chip.
            time_steps: T of frames.
        """
        if self.time_axis is None:
            frames = sample.reshape(len(sample), *shape)
            return np.broadcast_to(frames, (max(time_steps, 1), *frames.shape))
        series = sample if self.time_axis == 0 else sample.swapaxes(0, 1)
        return series.reshape(*series.shape[:2], *shape)


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def with_recording(request: ExportRequest) -> ExportRequest:
    """Take the inputs in a file as the sample.

    Spikes of shape (T, *shape of a step) are one series, as everywhere; values of that shape are a
    batch of frames.

    Raises:
        BadFileError: it cannot be read, or has values that are not finite.
        BadRequestError: no input is in it.
    """
    path = request.recording
    if path is None or request.sample is not None:
        return request
    array = load_array(path)
    if not array.size:
        raise BadRequestError(f"{path}: has shape {array.shape}; give at least one input")
    if not np.isfinite(array).all():
        raise BadFileError(f"{path}: has values that are not finite")
    shape = request.input_shape
    if shape is not None and array.shape[1:] == shape and not is_graded(array):
        array = array[None]
    if request.input_scale is not None and array.dtype.itemsize == 1:
        # As everywhere, bytes are messages.
        array = array * np.float64(request.input_scale)
    return replace(request, sample=array)


def is_graded(values: NDArray[Any]) -> bool:
    """Whether values are no spikes: they have several sizes, or signs."""
    block = np.asarray(values).reshape(-1)
    beside = np.unique(block[block != 0][:GLANCE])
    return len(beside) > 1 or bool((beside < 0).any())


def layouts(
    sample: tuple[int, ...],
    input_shape: tuple[int, ...] | None,
    time_steps: int | None,
    *,
    graded: bool = False,
    batch_first: bool = False,
) -> Iterator[Layout]:
    """List the ways to read a sample's axes, in the order in which they are tried.

    A series comes first: layers that act on the last axis alone would take the batch of a series
    for a part of a frame, but not the other way round. Values with four axes are images first,
    (batch, channels, rows, columns), and an axis of length 1 is no time beside them.

    Args:
        sample: its shape.
        input_shape: of one step, where it is given.
        time_steps: T, where it is given.
        graded: the values are no spikes.
        batch_first: a series is (batch, T, ...), as in files, not (T, batch, ...).
    """
    if len(sample) < 2:
        raise BadRequestError(
            f"sample: has shape {sample}; give a batch, (batch, *shape of a step)"
        )
    series = []
    for axis in (1,) if batch_first else (0, 1):
        steps, shape = sample[axis], sample[2:]
        fits = time_steps in (None, steps) and input_shape in (None, shape)
        if 1 <= len(shape) <= 3 and fits:
            series.append(Layout(shape, axis, steps))
    if len(sample) > 4 or input_shape not in (None, sample[1:]):
        yield from series
        return
    frames = Layout(sample[1:], None, time_steps)
    if graded and len(sample) == 4 and time_steps not in (None, sample[1]):
        series = []
    # In images of one channel, no axis of length 1 is time.
    series = [one for one in series if one.time_steps != 1 or time_steps == 1]
    if graded and len(sample) == 4 and time_steps is None:
        yield frames
        yield from series
        return
    yield from series
    yield frames


class Encoding(NamedTuple):
    """How inputs are sent to the chip.

    Attributes:
        bits: of a message, 0 (spikes) or 8.
        scale: what a message of 1 stands for; None where nobody knows.
        signed: messages are -128 to 127.
        off: largest distance of a value from what its message stands for.
    """

    bits: int
    scale: float | None
    signed: bool = False
    off: float = 0.0

    @property
    def note(self) -> str:
        """A sentence about it."""
        one = 1.0 if self.scale is None else self.scale
        if not self.bits:
            return f"inputs are sent as spikes, 0 or {one:g}"
        low, high = (-128, 127) if self.signed else (0, LARGEST_MESSAGE)
        rounded = f", rounded to them (at most {self.off:.2g} off)" if self.off else ""
        return f"inputs are sent as 8-bit values, {low} to {high} times {one:.6g}{rounded}"


def sample_encoding(request: ExportRequest) -> Encoding:
    """Choose how the values of a sample are sent.

    What the caller gave stays. Otherwise one value beside 0 makes spikes; values that are 0 to 255
    (with negative ones -127 to 127) times a scale make 8-bit messages, and all others are rounded
    to such ones, the largest of which stands for the sample's largest value.

    Args:
        request: with a sample, in values that the network takes.

    Raises:
        BadRequestError: values that are not finite.
    """
    values = np.asarray(request.sample, np.float64)
    if not np.isfinite(values).all():
        odd = values[~np.isfinite(values)].flat[0]
        raise BadRequestError(f"{request.sample_name}: has the value {odd:g}; give finite values")
    given = request.given | {
        name for name in ("input_bits", "input_scale") if getattr(request, name)
    }
    signed, levels = bool((values < 0).any()), np.unique(values)
    if "input_bits" in given:
        signed = signed and request.input_bits > 0
        scale = request.input_scale
        if not request.input_bits:
            return Encoding(0, scale)
        if "input_scale" in given:
            return Encoding(request.input_bits, scale, signed, _off(levels, scale))
        return _graded(levels, signed)
    scale = request.input_scale
    beside = levels[levels != 0]
    if len(beside) < 2 and not signed and (scale is None or not len(beside)):
        return Encoding(0, float(beside[0]) if scale is None and len(beside) else scale)
    if scale is None:
        return _graded(levels, signed)
    if np.isin(levels, (0.0, scale)).all():
        return Encoding(0, scale)
    return Encoding(8, scale, signed, _off(levels, scale))


def _off(levels: NDArray[Any], scale: float | None) -> float:
    """Largest distance of values from multiples of a scale."""
    one = 1.0 if scale is None else scale
    off = float(np.abs(levels / one - np.round(levels / one)).max())
    return off * one if off > TOLERANCE else 0.0


def _graded(levels: NDArray[Any], signed: bool) -> Encoding:
    """8-bit messages for these values, sorted ones; exact where a plain scale allows it."""
    most = LARGEST_MESSAGE // 2 if signed else LARGEST_MESSAGE
    largest = float(np.abs(levels).max())
    if not largest:
        return Encoding(8, 1.0, signed)
    steps = np.diff(np.union1d(levels, [0.0]))
    unit = float(steps.min()) if len(steps) else largest
    for candidate in (1.0, 1 / 255, unit, unit / 2, unit / 3, largest / most):
        messages = levels / candidate
        whole = np.abs(messages - np.round(messages)).max() <= TOLERANCE
        if whole and np.abs(np.round(messages)).max() <= most:
            return Encoding(8, float(candidate), signed)
    scale = largest / most
    off = np.abs(levels - scale * np.round(levels / scale)).max()
    return Encoding(8, scale, signed, float(off))
