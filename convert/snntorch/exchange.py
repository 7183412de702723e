"""What it costs that neurons fire before their max pool: network and module on the same inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mtspark.convert.agreement import ExchangedLayer, PoolExchange
from mtspark.convert.snntorch.calling import rerun
from mtspark.convert.snntorch.recorder import NeuronCall
from mtspark.convert.snntorch.trace import Traced
from mtspark.convert.snntorch.verify import arriving, fired_in, fired_pool
from mtspark.core.arrays import Floats
from mtspark.core.chip_network import INPUT
from mtspark.core.float_network import (
    CONSTANT,
    FloatConnection,
    FloatInput,
    FloatKind,
    FloatNetwork,
    OutputKind,
    run_float,
)

BLOCK = 16
"""Samples that run at once; the recorder keeps every tensor of a run."""


def measure_exchange(
    module: nn.Module,
    traced: Traced,
    series: Floats,
    inputs: str,
    labels: NDArray[np.int64] | None = None,
) -> PoolExchange | None:
    """Run the module and its network on the same inputs and compare spikes and answers.

    Args:
        module: that was traced, in the state of the trace.
        traced: its network, made with `exchange_pools`.
        series: (T, batch, *shape of the network's input), in the module's values.
        inputs: what they are, in a few words.
        labels: (batch,) classes, where they are known.

    Returns:
        The comparison; None where no layer was exchanged.

    Raises:
        BadInputError: the module does not run on them.
    """
    if not traced.exchanged:
        return None
    counts = {one.layer: np.zeros(4) for one in traced.exchanged}
    off, size = 0.0, 0.0
    answers: list[NDArray[np.int64]] = []
    for start in range(0, series.shape[1], BLOCK):
        part = np.asarray(series[:, start : start + BLOCK], np.float64)
        sent = _spikes_of_module(module, traced, part)
        run = run_float(traced.network, part)
        for name, total in counts.items():
            own, other = sent[name], run.spikes[name].reshape(sent[name].shape)
            total += [own.size, own.sum(), other.sum(), (own != other).sum()]
        wanted = _answers(traced.network, sent).reshape(part.shape[1], -1)
        values = run.values.reshape(wanted.shape)
        answers.append(np.stack([wanted.argmax(1), values.argmax(1)]))
        off, size = off + float(np.abs(values - wanted).sum()), size + float(np.abs(wanted).sum())
    theirs, ours = np.concatenate(answers, axis=1)
    several = wanted.shape[1] > 1
    known = labels if several else None
    return PoolExchange(
        inputs=inputs,
        samples=series.shape[1],
        layers=tuple(
            ExchangedLayer(name, *(int(count) for count in total)) for name, total in counts.items()
        ),
        same_answer=int((theirs == ours).sum()) if several else None,
        values_error=off / size if size else 0.0,
        right=None if known is None else int((theirs == known).sum()),
        right_exchanged=None if known is None else int((ours == known).sum()),
    )


def _spikes_of_module(module: nn.Module, traced: Traced, series: Floats) -> dict[str, Floats]:
    """What each layer of the module itself sends, (T, batch, neurons)."""
    steps, batch = series.shape[:2]
    sent: dict[str, Floats] = {
        INPUT: series.reshape(steps, batch, -1),
        CONSTANT: np.ones((steps, batch, 1)),
    }
    layers = rerun(module, traced.recording, series)
    for name, calls in zip(traced.layers, layers, strict=False):
        sent[name] = np.stack([fired_in(call) for call in calls]).reshape(steps, batch, -1)
    for name, (first, *_) in zip(traced.layers, traced.recording.layers, strict=True):
        if not isinstance(first, NeuronCall):
            sent[name] = fired_pool(traced.network, name, sent)
    return sent


def _answers(network: FloatNetwork, sent: dict[str, Floats]) -> Floats:
    """What the network's output says of the spikes of the module, (batch, values)."""
    output = network.population(network.output.population)
    if network.output.kind is OutputKind.SPIKES:
        return np.asarray(sent[output.name].sum(0))
    drive = arriving(network, output.name, sent)
    alone = FloatNetwork(
        name=network.name,
        input=FloatInput((output.size,)),
        populations=(replace(output, bias_current=np.zeros(output.shape)),),
        connections=(
            FloatConnection(
                output.name, INPUT, output.name, FloatKind.DIAGONAL, np.ones(output.size)
            ),
        ),
        output=network.output,
    )
    return run_float(alone, drive).values
