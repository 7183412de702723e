"""Difference of the chip from the float network, layer by layer, on recorded inputs.

The float network and the chip get the same inputs; spikes are compared in the window of each
layer, where the chip's step d + t is the float network's step t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import MEMBRANE_LIMIT, STATE_SHIFT, THRESHOLD_LIMIT
from mtspark.core.backend import ChipTrace
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadRequestError
from mtspark.core.float_network import FloatNetwork, FloatRun
from mtspark.deploy.quantise.bounds import headroom

SILENT_SHARE = 0.1
"""A layer with less than this share of its float spikes counts as fallen silent."""


@dataclass(frozen=True)
class LayerFidelity:
    """One layer of the chip beside the same layer of the float network.

    Attributes:
        layer: its name.
        neurons: in it.
        moments: steps times samples that were compared.
        float_rate, chip_rate: spikes of a neuron in a step, on average.
        spike_distance: share of all (step, sample, neuron) in which one fires and not the other.
        count_distance: mean |difference| of a neuron's spikes in a decision.
        rate_error: mean over neurons of |difference of their rates| over the float rate.
        dead: neurons that fire in the float network and never on the chip.
        woken: neurons that fire on the chip and never in the float network.
        capped: neurons whose threshold is the chip's largest in this task.
        saturated: neurons whose membrane reached the end of its range.
        membrane_used: largest |membrane| recorded, of the range.
        worst_current, worst_membrane: largest possible ones over all inputs, of the range;
            above 1 they can overflow.
    """

    layer: str
    neurons: int
    moments: int
    float_rate: float
    chip_rate: float
    spike_distance: float
    count_distance: float
    rate_error: float
    dead: int
    woken: int
    capped: int
    saturated: int
    membrane_used: float
    worst_current: float
    worst_membrane: float

    @property
    def silent(self) -> bool:
        """Whether the layer fires in the float network and (nearly) not on the chip."""
        return self.float_rate > 0 and self.chip_rate < SILENT_SHARE * self.float_rate

    @property
    def many_dead(self) -> bool:
        """Whether more than a tenth of the neurons never fire on the chip only."""
        return self.dead > self.neurons / 10

    @property
    def faulty_spikes(self) -> bool:
        """Whether the layer, or many of its neurons, lost their spikes."""
        return self.silent or self.many_dead

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "silent": self.silent}


def layer_fidelity(
    network: FloatNetwork, chip: ChipNetwork, run: FloatRun, trace: ChipTrace, task: int = 0
) -> list[LayerFidelity]:
    """Compare every spiking layer of a float run with the chip's trace of the same inputs.

    Args:
        network, chip: the float network, and the chip network that was quantised from it.
        run: (T, batch, ...) of the float network.
        trace: (steps of a decision, batch, ...) of the chip; where its state survives decisions,
            each layer's step of every one, (T, batch, ...).
        task: row of the thresholds.

    Raises:
        BadRequestError: runs of other lengths or batches.
    """
    rooms = {room.population: room for room in headroom(chip)}
    report = []
    for population in network.populations:
        name = population.name
        if not population.spiking:
            continue
        ours = run.spikes[name]
        own = slice(None) if chip.stateful else chip.window(name)
        window = trace.spikes[name][own]
        if window.size != ours.size or window.shape[:2] != ours.shape[:2]:
            raise BadRequestError(
                f"layer {name!r}: {ours.shape[:2]} steps and samples in the float run, "
                f"{window.shape[:2]} on the chip"
            )
        steps, batch = ours.shape[:2]
        wanted = ours.reshape(steps, batch, -1) > 0
        got = window.reshape(steps, batch, -1).astype(bool)
        membranes = trace.membranes[name][own].reshape(steps * batch, -1)
        thresholds = chip.population(name).thresholds[task].reshape(-1)
        report.append(
            _compare(
                name, wanted, got, membranes, thresholds, rooms[name].current, rooms[name].membrane
            )
        )
    return report


def _compare(
    name: str,
    wanted: NDArray[np.bool_],
    got: NDArray[np.bool_],
    membranes: NDArray[np.int64],
    thresholds: NDArray[np.int64],
    worst_current: float,
    worst_membrane: float,
) -> LayerFidelity:
    float_rates, chip_rates = wanted.mean((0, 1)), got.mean((0, 1))
    counts = np.abs(wanted.sum(0) - got.sum(0))
    mean_rate = float(float_rates.mean())
    largest = np.abs(membranes).max(0)
    return LayerFidelity(
        layer=name,
        neurons=len(thresholds),
        moments=int(wanted.shape[0] * wanted.shape[1]),
        float_rate=mean_rate,
        chip_rate=float(chip_rates.mean()),
        spike_distance=float((wanted != got).mean()),
        count_distance=float(counts.mean()),
        rate_error=float(np.abs(float_rates - chip_rates).mean() / mean_rate) if mean_rate else 0.0,
        dead=int(((float_rates > 0) & (chip_rates == 0)).sum()),
        woken=int(((float_rates == 0) & (chip_rates > 0)).sum()),
        capped=int((thresholds == THRESHOLD_LIMIT).sum()),
        saturated=int((largest >= MEMBRANE_LIMIT).sum()),
        membrane_used=float(largest.max() / (THRESHOLD_LIMIT << STATE_SHIFT)),
        worst_current=worst_current,
        worst_membrane=worst_membrane,
    )


def warnings_of(
    report: Sequence[LayerFidelity], remedies: Mapping[str, str] | None = None
) -> list[str]:
    """Return a sentence for every serious fault of a layer.

    Args:
        report: by layer.
        remedies: by layer, what was tried on the same inputs and mends its fault.
    """
    warnings, remedies = [], remedies or {}
    for layer in report:
        remedy = f"; {remedies[layer.layer]}" if layer.layer in remedies else ""
        if layer.silent:
            warnings.append(
                f"layer {layer.layer!r} has gone silent: {layer.float_rate:.2%} of its neurons "
                f"fire in a step of the float network, {layer.chip_rate:.2%} on the chip{remedy}"
            )
        elif layer.many_dead:
            warnings.append(
                f"layer {layer.layer!r}: {layer.dead} of {layer.neurons} neurons fire in the float "
                f"network and never on the chip{remedy}"
            )
        if layer.saturated:
            warnings.append(
                f"layer {layer.layer!r}: the membranes of {layer.saturated} of {layer.neurons} "
                f"neurons reached the end of their range{'' if layer.faulty_spikes else remedy}"
            )
        if layer.woken and layer.float_rate == 0:
            warnings.append(
                f"layer {layer.layer!r}: {layer.woken} of {layer.neurons} neurons fire on the "
                "chip, none in the float network"
            )
        elif layer.float_rate == 0:
            warnings.append(
                f"layer {layer.layer!r} fires in neither network on these inputs: nothing after it "
                "was compared"
            )
    return warnings


def mends(tried: LayerFidelity, before: LayerFidelity) -> bool:
    """Whether a layer has lost its fault, and got no other."""
    if before.faulty_spikes:
        return not tried.faulty_spikes and tried.saturated <= before.saturated
    return bool(before.saturated) and not tried.saturated and not tried.faulty_spikes
