"""Compare a float network with the recorded run of its module: every spike and membrane.

Each layer gets, in every step, the signals and the states of torch's own run, so that one spike
at a tie with its threshold does not spoil the steps after it; by induction over the steps this
compares the whole run. The network's own run from rest is counted as well.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mtspark.convert.agreement import TraceAgreement
from mtspark.convert.compare import TIE
from mtspark.convert.snntorch.calling import Call, Recording
from mtspark.convert.snntorch.maxima import after_pools
from mtspark.convert.snntorch.recorder import NeuronCall
from mtspark.convert.snntorch.trace import Traced
from mtspark.convert.snntorch.values import PoolCall, Series, Source
from mtspark.core.arrays import Floats
from mtspark.core.chip_network import INPUT
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network import (
    CONSTANT,
    FloatNetwork,
    FloatPopulation,
    FloatReset,
    delayed,
    deliver,
    run_float,
)

ANSWER = 1e-4
"""Largest difference of an answer, as a share of its largest value (or of 1): float32 in sums."""


def compare_with_recording(traced: Traced) -> list[TraceAgreement]:
    """Compare every layer of the float network with the module's recorded run.

    Layers that fire before their max pool are compared with the pool before them, as the module
    has them: all but that approximation is exact.

    Returns:
        The agreement of each layer of neurons, in the order of the recording.

    Raises:
        BadNetworkError: a spike differs that is no tie, or a membrane by more than 1e-5, or the
            answer is not what was made of them.
    """
    network, recording = traced.network, traced.recording
    steps, batch = recording.series.shape[:2]
    sent: dict[str, Floats] = {
        INPUT: recording.series.reshape(steps, batch, -1),
        CONSTANT: np.ones((steps, batch, 1)),
    }
    for name, calls in zip(traced.layers, recording.layers, strict=True):
        neurons = [call for call in calls if isinstance(call, NeuronCall)]
        if neurons:
            sent[name] = np.stack([fired_in(call) for call in neurons]).reshape(steps, batch, -1)
        else:
            # Of those before it, whose spikes are there by now.
            sent[name] = fired_pool(network, name, sent)
    alone = run_float(network, recording.series.reshape(steps, batch, *network.input.shape))
    exchanged = {one.layer: one for one in traced.exchanged}
    results = []
    for name, calls in zip(traced.layers, recording.layers, strict=True):
        population, first = network.population(name), calls[0]
        if isinstance(first, PoolCall):
            result = _compare_pool(recording, name, calls, sent[name])
        else:
            swapped = exchanged.get(name)
            drive = arriving(network, name if swapped is None else swapped.unpooled, sent)
            if swapped is not None:
                drive = after_pools(swapped.pools, drive.reshape(-1, *swapped.shape))
                drive, population = drive.reshape(steps, batch, -1), swapped.neurons
            if name == traced.summed:
                # Its current is the membrane that the module has.
                population = replace(
                    population,
                    membrane_keep=population.current_keep,
                    current_keep=np.zeros(population.shape),
                    gain=np.ones(population.shape),
                )
            neurons = [call for call in calls if isinstance(call, NeuronCall)]
            result = _compare_layer(population, neurons, drive, sent[name])
            if swapped is not None:
                result = replace(result, name=f"{name}, its max pool before it")
        if name in alone.spikes:
            own = alone.spikes[name].reshape(sent[name].shape)
            result = replace(result, different_alone=int((own != sent[name]).sum()))
        if result.different or result.membrane_error > TIE:
            raise BadNetworkError(
                f"{calls[0].where}: {result.different} of {result.compared} spikes of layer "
                f"{name!r} differ from the module's own run, none may (largest difference of a "
                f"membrane {result.membrane_error:.1e}); nothing was written; does its forward "
                "depend on anything but its input and states?"
            )
        results.append(result)
    _check_answer(traced)
    return results


def _check_answer(traced: Traced) -> None:
    """Compare what the module returned with what was recorded of it.

    Raises:
        BadNetworkError: it has other values, as where a part of it was changed in place.
    """
    recording = traced.recording
    for tensor in traced.answer:
        value = recording.form(tensor)
        series = isinstance(value, Series)
        forms = value.forms if series else [value]
        for form, own in zip(forms, tensor.unbind(value.axis) if series else [tensor], strict=True):
            theirs = own.detach().double().numpy()
            ours = np.broadcast_to(form.constant, theirs.shape).copy()
            for term in form.terms:
                arriving = _sent_by(recording, term.source)
                ours += term.linear.apply(arriving).reshape(theirs.shape)
            off = float(np.abs(ours - theirs).max(initial=0))
            if not off <= ANSWER * max(1.0, float(np.abs(ours).max(initial=0))):
                where = form.terms[0].where if form.terms else "the output"
                raise BadNetworkError(
                    f"{where}: what the module returns differs by up to {off:.2g} from what its "
                    "layers gave; nothing was written; is it changed in place, or by an operation "
                    "outside of torch? return the layers' own results"
                )


def _sent_by(recording: Recording, source: Source) -> Floats:
    """A signal of the recorded run, (batch, values)."""
    if source.call is None:
        values = recording.series[source.step or 0]
    elif isinstance(source.call, PoolCall):
        values = source.call.spikes.double().numpy()
    elif source.quantity == "spikes":
        # What a spike is worth is in the map.
        values = fired_in(source.call)
    else:
        values = getattr(source.call, source.quantity).double().numpy()
    return np.asarray(values, np.float64).reshape(len(values), -1)


def arriving(network: FloatNetwork, name: str, sent: dict[str, Floats]) -> Floats:
    """What arrives at a population, (T, batch, neurons)."""
    population = network.population(name)
    steps, batch = sent[INPUT].shape[:2]
    drive = np.zeros((steps, batch, population.size)) + population.bias_current.reshape(-1)
    for link in network.incoming(name):
        drive = drive + delayed(deliver(link, sent[link.source]), link.delay)
    return drive


def fired_pool(network: FloatNetwork, name: str, sent: dict[str, Floats]) -> Floats:
    """Which neurons of a maximum of spikes fire, (T, batch, neurons), 0 or 1."""
    threshold = network.population(name).thresholds
    assert threshold is not None
    return (arriving(network, name, sent) > threshold.reshape(-1)).astype(np.float64)


def _compare_pool(
    recording: Recording, name: str, calls: list[Call], fired: Floats
) -> TraceAgreement:
    """Spikes of a maximum, in the steps in which the module takes it."""
    compared = different = 0
    for call in calls:
        step = recording.place(call)[1]
        ours = fired if step is None else fired[step : step + 1]
        theirs = call.spikes.double().numpy().reshape(1, *fired.shape[1:])
        compared, different = compared + ours.size, different + int((ours != theirs).sum())
    return TraceAgreement(name, compared, int(fired.sum()), 0, different, 0, 0.0, 0)


def fired_in(call: NeuronCall) -> Floats:
    """Which neurons fired in a call, (batch, *shape), 0 or 1."""
    fired = call.spikes != 0
    worthless = call.module.graded_spikes_factor.detach() == 0
    if worthless.any():
        # Their spikes are sent as 0; a delayed reset leaves the membrane that fired.
        fired = torch.where(worthless, call.membrane > call.module.threshold.detach(), fired)
    return np.asarray(fired.double().numpy())


def _compare_layer(
    population: FloatPopulation, calls: list[NeuronCall], drive: Floats, fired: Floats
) -> TraceAgreement:
    shape = drive.shape[1:]
    keep, current_keep = population.membrane_keep.ravel(), population.current_keep.ravel()
    gain = population.gain.ravel()
    threshold = np.full(population.size, np.inf)
    if population.thresholds is not None:
        threshold = population.thresholds[0].ravel()
    reset = population.reset
    # With a reset in the step itself snntorch reports the membrane after it.
    after = reset is FloatReset.SUBTRACT_GUARDED or (
        reset is FloatReset.ZERO and not calls[0].module.reset_delay
    )
    current, membrane, before = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    ties = different = at_ties = 0
    error = largest = 0.0
    for step, call in enumerate(calls):
        own = call.membrane.double().numpy().reshape(shape)
        new_current = current_keep * current + drive[step]
        new = keep * membrane + gain * new_current
        guard = np.zeros(shape)
        if reset is FloatReset.SUBTRACT_LATE:
            new = new - before * np.where(np.isfinite(threshold), threshold, 0)
        elif reset is FloatReset.SUBTRACT_GUARDED:
            guard = np.where(membrane > threshold, threshold, 0)
        scale = np.abs(new).max(initial=0) + np.abs(drive[step]).max(initial=0)
        scale = max(scale, float(np.min(threshold)) if np.isfinite(threshold).any() else 1e-30)
        margin = TIE * np.maximum(np.abs(threshold), scale if np.isfinite(scale) else 1.0)
        tie = np.abs(new - guard - threshold) <= margin
        if reset is FloatReset.SUBTRACT_GUARDED:
            tie |= np.abs(membrane - threshold) <= margin
        spikes = (new - guard > threshold).astype(np.float64)
        wrong = (spikes != fired[step]) & np.isfinite(threshold)
        ties, different = ties + int(tie.sum()), different + int((wrong & ~tie).sum())
        at_ties += int((wrong & tie).sum())
        rest = new
        if reset is FloatReset.ZERO:
            rest = np.where(fired[step] > 0, 0.0, new)
        elif reset is FloatReset.SUBTRACT_GUARDED:
            rest = new - fired[step] * threshold
        off = np.abs((rest if after else new) - own)
        error, largest = max(error, float(off[~(wrong & tie)].max(initial=0))), max(largest, scale)
        # The next step begins from torch's own state.
        membrane = np.where(fired[step] > 0, 0.0, own) if reset is FloatReset.ZERO else own
        current = new_current
        if call.current is not None:
            current = call.current.double().numpy().reshape(shape)
        before = fired[step]
    return TraceAgreement(
        name=population.name,
        compared=int(fired.size),
        fired=int(fired.sum()),
        ties=ties,
        different=different,
        different_ties=at_ties,
        membrane_error=float(error / largest) if largest else 0.0,
        different_alone=0,
    )
