"""Scales from recorded inputs: limits of the weights, and bounds of the currents.

A larger weight scale makes every weight coarser, so clipping a few large weights can lower the
error. In a deep network of neurons without leak the worst case over all inputs can be so large
that no exponent is proven. There the exponent follows from the currents of recorded inputs, and a
note of the network says so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from mtspark.core.arrays import Floats
from mtspark.core.chip_network import INPUT
from mtspark.core.errors import BadRequestError
from mtspark.core.float_network import CONSTANT, FloatNetwork, FloatRun, convolve, run_float
from mtspark.core.geometry import conv_geometry
from mtspark.deploy.lower import HELPERS, ChipLink, lower
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.deploy.quantise.rounding import natural_unit, round_weights

SAMPLES = 256
"""Recorded moments whose messages measure the error of a rounding."""

CLIPPED_SHARES = tuple(np.linspace(1.0, 0.35, 14))
"""Candidate limits, as shares of the largest weight of a channel."""


class Calibration(str, Enum):
    """How the largest weight that is represented is chosen.

    * LARGEST: the largest there is, nothing is clipped.
    * PERCENTILE: a percentile of the magnitudes of each channel's weights.
    * MSE: what gives the least mean squared error of the current, on the recorded inputs.
    """

    LARGEST = "largest"
    PERCENTILE = "percentile"
    MSE = "mse"


@dataclass(frozen=True)
class CalibrationReport:
    """What calibration chose for one connection.

    Attributes:
        connection: its name.
        clipped: share of its weights beyond the limit of their channel.
        error: root mean squared error of the current on the recorded inputs, over the
            current's own root mean square.
        error_unclipped: the same without clipping.
    """

    connection: str
    clipped: float
    error: float
    error_unclipped: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values, a field each."""
        return asdict(self)


def calibrate(
    network: FloatNetwork,
    series: Floats,
    options: QuantiseOptions,
    *,
    method: Calibration = Calibration.MSE,
    percentile: float = 99.9,
    task: int = 0,
    bound_currents: bool = False,
) -> tuple[QuantiseOptions, list[CalibrationReport]]:
    """Choose weight limits, and optionally bounds of currents, on recorded inputs.

    Args:
        network: float.
        series: recorded inputs (T, batch, *input shape), in the network's own values.
        options: bits and rounding, kept.
        method: of the weight limits.
        percentile: of the weights under PERCENTILE, and of the currents with `bound_currents`.
        task: row of the thresholds in the recorded run.
        bound_currents: bound currents by what was recorded (times the margin of
            :mod:`mtspark.deploy.quantise.layer`) instead of by proof, and let membranes saturate.

    Returns:
        The options to quantise with, and a report by connection.

    Raises:
        BadRequestError: a percentile outside of 50 to 100.
    """
    if not 50 <= percentile <= 100:
        raise BadRequestError(f"percentile {percentile}: must be 50 to 100")
    run = run_float(network, series, task)
    sent = _sent(network, series, run)
    limits: dict[str, Floats] = {}
    reports = []
    lowered = lower(network)
    shapes = {population.name: population.shape for population in lowered.populations}
    shapes[INPUT] = lowered.input_shape
    for links in lowered.links.values():
        for link in links:
            if link.source in HELPERS or not np.any(link.weights):
                continue
            channels = _Channels(
                link, shapes[link.source], shapes[link.target], _messages(sent[link.source], link)
            )
            limit, report = _limit(channels, options, method, percentile)
            reports.append(report)
            if method is not Calibration.LARGEST:
                limits[link.name] = limit
    currents: dict[str, float] = {}
    if bound_currents:
        level = 100.0 if method is not Calibration.PERCENTILE else percentile
        for name, values in run.currents.items():
            currents[name] = float(np.percentile(np.abs(values), level))
    chosen = replace(
        options,
        weight_limits=limits,
        largest_currents=currents,
        may_saturate=options.may_saturate or bound_currents,
    )
    return chosen, reports


def _sent(network: FloatNetwork, series: Floats, run: FloatRun) -> dict[str, Floats]:
    """Messages of every source, (T, batch, values)."""
    steps, batch = series.shape[:2]
    sent = {INPUT: series.reshape(steps, batch, -1), CONSTANT: np.ones((steps, batch, 1))}
    for population in network.populations:
        values = run.spikes.get(population.name, run.membranes[population.name])
        sent[population.name] = values.reshape(steps, batch, -1)
    return sent


def _messages(sent: Floats, link: ChipLink) -> Floats:
    """What a connection carries at a sample of moments, (samples, values)."""
    flat = sent.reshape(-1, sent.shape[-1])
    count = SAMPLES if not link.kind.convolves else SAMPLES // 16
    if len(flat) > count:
        flat = flat[np.random.default_rng(0).choice(len(flat), count, replace=False)]
    return flat


@dataclass(frozen=True)
class _Channels:
    """A connection, the shapes of its ends, and recorded messages (samples, values)."""

    link: ChipLink
    source_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    messages: Floats

    def squares(self, weights: Floats) -> Floats:
        """Sum of squares of what each output channel gets, over moments and places."""
        link = self.link
        if not link.kind.convolves:
            return np.asarray(((self.messages @ weights.T) ** 2).sum(0))
        geometry = conv_geometry(link, self.source_shape, weights.shape)
        assert geometry is not None, "the network is checked"
        images = self.messages.reshape(-1, *self.source_shape)
        return np.asarray((convolve(geometry, weights, images) ** 2).sum((0, 2, 3)))

    def error(self, limit: Floats, options: QuantiseOptions) -> Floats:
        """Squared error of the current of each output channel under a limit."""
        weights, bits = self.link.weights, options.weight_bits
        unit = natural_unit(limit, bits)
        rounded = round_weights(weights, unit, bits, options.keep_sums)
        per_row = unit.reshape(-1, *[1] * (weights.ndim - 1))
        return self.squares(rounded * per_row - weights)


def _limit(
    channels: _Channels, options: QuantiseOptions, method: Calibration, percentile: float
) -> tuple[Floats, CalibrationReport]:
    """The largest magnitude of each output channel that is represented, and what it costs."""
    link = channels.link
    magnitudes = np.abs(link.weights.reshape(len(link.weights), -1))
    top = magnitudes.max(1)
    base = top if options.per_channel else np.full_like(top, top.max())
    signal = channels.squares(link.weights)
    unclipped = channels.error(base, options)
    if method is Calibration.LARGEST:
        limit, error = top, unclipped
    elif method is Calibration.PERCENTILE:
        if options.per_channel:
            limit = np.percentile(magnitudes, percentile, axis=1)
        else:
            limit = np.full_like(top, np.percentile(magnitudes, percentile))
        limit = np.where(limit > 0, limit, top)
        error = channels.error(limit, options)
    else:
        limit, error = base, unclipped
        for share in CLIPPED_SHARES[1:]:
            tried = channels.error(share * base, options)
            better = tried < error
            if not options.per_channel:
                better = np.full_like(better, tried.sum() < error.sum())
            limit, error = np.where(better, share * base, limit), np.where(better, tried, error)
    whole = max(float(signal.sum()), 1e-30)
    report = CalibrationReport(
        connection=link.name,
        clipped=float((magnitudes > limit[:, None] * (1 + 1e-12)).mean()),
        error=float(np.sqrt(error.sum() / whole)),
        error_unclipped=float(np.sqrt(unclipped.sum() / whole)),
    )
    return limit, report
