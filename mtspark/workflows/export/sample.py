"""Sample inputs: which of their axes are time and batch, and how they are sent to the chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.errors import BadRequestError
from mtspark.workflows.export.request import ExportRequest

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
    def of_series(cls, sample: tuple[int, ...], shape: tuple[int, ...], name: str) -> Layout:
        """Return the layout of a sample for a network whose shape of a step is known.

        Raises:
            BadRequestError: neither (batch, *shape) nor (batch, T, *shape).
        """
        if sample[1:] == shape:
            return cls(shape, None, None)
        if sample[2:] == shape and len(sample) > 1:
            return cls(shape, 1, sample[1])
        wanted = ", ".join(map(str, shape))
        raise BadRequestError(
            f"sample: has shape {sample}, {name} takes (batch, {wanted}) or (batch, T, {wanted})"
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


def layouts(
    sample: tuple[int, ...], input_shape: tuple[int, ...] | None, time_steps: int | None
) -> Iterator[Layout]:
    """List the ways to read a sample's axes, in the order in which they are tried.

    A series comes first: layers that act on the last axis alone would take the batch of a series
    for a part of a frame, but not the other way round.

    Args:
        sample: its shape.
        input_shape: of one step, where it is given.
        time_steps: T, where it is given.
    """
    if len(sample) < 2:
        raise BadRequestError(
            f"sample: has shape {sample}; give a batch, (batch, *shape of a step)"
        )
    for axis in (0, 1):
        steps, shape = sample[axis], sample[2:]
        fits = time_steps in (None, steps) and input_shape in (None, shape)
        if 1 <= len(shape) <= 3 and fits:
            yield Layout(shape, axis, steps)
    if len(sample) <= 4 and input_shape in (None, sample[1:]):
        yield Layout(sample[1:], None, time_steps)


def sample_encoding(request: ExportRequest) -> tuple[int, float | None]:
    """Return bits of an input message, and what a message of 1 stands for.

    What the caller gave stays. Otherwise one value beside 0 makes spikes, and values that are 0
    to 255 times a scale make 8-bit messages.

    Args:
        request: with a sample, in values that the network takes.

    Raises:
        BadRequestError: values that no message stands for.
    """
    if not request.given.isdisjoint(("input_bits", "input_scale")):
        return request.input_bits, request.input_scale
    values = np.asarray(request.sample, np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        odd = values[~(values >= 0)].flat[0] if (~(values >= 0)).any() else np.inf
        raise BadRequestError(
            f"sample: has the value {odd:g}; an input of the chip is 0 or one value (spikes), or 0 "
            "to 255 times a scale; shift and scale your data, in training, too"
        )
    levels = np.unique(values[values > 0])
    if len(levels) < 2:
        return 0, float(levels[0]) if len(levels) else None
    unit = float(np.diff(levels, prepend=0.0).min())
    for candidate in (1.0, 1 / 255, unit, unit / 2, unit / 3, levels[-1] / LARGEST_MESSAGE):
        messages = levels / candidate
        whole = np.abs(messages - np.round(messages)).max() <= TOLERANCE
        if whole and np.round(messages[-1]) <= LARGEST_MESSAGE:
            return 8, float(candidate)
    raise BadRequestError(
        f"sample: has {len(levels):,} different values, for example {levels[len(levels) // 2]:g}; "
        "an input of the chip is 0 or one value (spikes), or 0 to 255 times a scale; round your "
        "data to such values, for example np.round(x * 255) / 255"
    )
