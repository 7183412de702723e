"""From the NIR graphs of all tasks to one integer chip network.

With one weight scale s_c per output channel, a float weight is s_c times its integer. A
neuron's whole life is then measured in that unit: its membrane, its bias and its threshold
are divided by s_c (and threshold by the task's gain, which the graph already did), so the
scale costs no hardware.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import (
    BIAS_EXPONENTS,
    BIAS_LIMIT,
    DECAY_ONE,
    STATE_SHIFT,
    THRESHOLD_LIMIT,
    WEIGHT_EXPONENTS,
)
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    FrameInput,
    Population,
    Readout,
    SignMode,
    check_network,
)
from mtspark.core.errors import BadNetworkError
from mtspark.core.protocol import GameProtocol, Task
from mtspark.deploy.bounds import headroom
from mtspark.deploy.chain import SynapseLayer, synapse_layers

NO_CURRENT_MEMORY = DECAY_ONE - 1


@dataclass(frozen=True)
class QuantiseOptions:
    """How weights become integers.

    Attributes:
        weight_bits: 2 to 8.
        per_channel: one scale per output channel, otherwise one per layer.
        keep_sums: round so that the sum of every kernel survives, see
            :func:`round_keeping_sums`; otherwise each weight to the nearest integer.
    """

    weight_bits: int = 8
    per_channel: bool = True
    keep_sums: bool = True


def quantise(
    graphs: dict[str, nir.NIRGraph],
    tasks: tuple[Task, ...],
    protocol: GameProtocol,
    *,
    name: str,
    options: QuantiseOptions | None = None,
    provenance: dict[str, str] | None = None,
) -> ChipNetwork:
    """Make one chip network of the graphs of all tasks, which share all weights.

    Args:
        graphs: by task name, as :func:`mtspark.convert.nir_export.agent_to_nir` makes them.
        tasks: the order of the threshold rows.
        protocol: travels along.
        name: of the network.
        options: bits and scales.
        provenance: travels along.

    Raises:
        BadNetworkError: a graph that is no chain of synapses and LIF neurons, constants that
            the chip does not have, or a layer for which no exponent avoids overflow.
    """
    options = options or QuantiseOptions()
    if not 2 <= options.weight_bits <= 8:
        raise BadNetworkError(f"{options.weight_bits} weight bits: 2 to 8 exist")
    meta: dict[str, Any] = graphs[tasks[0].name].metadata["mtspark"]
    dt, time_steps = float(meta["dt"]), int(meta["time_steps"])
    chains = [synapse_layers(graphs[task.name], dt) for task in tasks]
    first = chains[0]
    populations: list[Population] = []
    connections: list[Connection] = []
    scale = np.ones(0)
    for index, layer in enumerate(first):
        source = first[index - 1].name if index else INPUT
        input_scale = float(meta["input_scale"]) if index == 0 else 1.0
        thresholds = None
        if layer.neuron is not None:
            thresholds = np.stack([_neuron(chain[index]).v_threshold for chain in chains])
        population, connection, scale = _quantise_layer(
            layer,
            thresholds,
            tasks=len(tasks),
            source=source,
            input_scale=input_scale,
            steps=time_steps + len(first),
            options=options,
        )
        populations.append(population)
        connections.append(connection)
    network = ChipNetwork(
        name=name,
        input=FrameInput(shape=first[0].input_shape, payload_bits=8),
        populations=tuple(populations),
        connections=tuple(connections),
        readout=Readout(population=populations[-1].name, scale=scale / time_steps),
        tasks=tasks,
        time_steps=time_steps,
        protocol=protocol,
        provenance={
            **(provenance or {}),
            "weight_bits": str(options.weight_bits),
            "weight_scale": "per channel" if options.per_channel else "per layer",
            "rounding": "keeps kernel sums" if options.keep_sums else "to nearest",
            "head": str(meta.get("head", "")),
        },
    )
    check_network(network)
    unproven = [room.population for room in headroom(network) if not room.proven]
    if unproven:
        raise BadNetworkError(f"{name}: sums can overflow in {', '.join(unproven)}")
    return network


def _neuron(layer: SynapseLayer) -> nir.LIF:
    assert layer.neuron is not None
    return layer.neuron


def integer_weights(
    weight: NDArray[np.float64], options: QuantiseOptions
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Round float weights to the mixed-sign grid of the chip.

    Returns:
        Weights in chip units (multiples of 2^(9 - bits), -256..254) and, for each output
        channel, the float value of one chip unit. A channel without weights gets scale 1.
    """
    rows = np.abs(weight.reshape(len(weight), -1)).max(1)
    largest = rows if options.per_channel else np.full_like(rows, rows.max())
    levels = 2 ** (options.weight_bits - 1) - 1
    step = 2 ** (9 - options.weight_bits)
    unit = np.where(largest > 0, largest, levels * step) / (levels * step)
    exact = weight / (unit.reshape(-1, *[1] * (weight.ndim - 1)) * step)
    integers = round_keeping_sums(exact) if options.keep_sums else np.rint(exact)
    return np.clip(integers, -levels - 1, levels).astype(np.int64) * step, unit


def round_keeping_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round each value up or down so that every kernel (or dense row) keeps its sum.

    Largest-remainder rounding. What a neuron sees is mostly uniform (a game's background, a
    mean spike rate), so an error in the sum of a kernel shifts every one of its neurons alike,
    while errors that cancel within the kernel hardly matter.
    """
    groups = values.reshape(
        -1, int(np.prod(values.shape[2:])) if values.ndim > 2 else values.shape[1]
    )
    low = np.floor(groups)
    fraction = groups - low
    up = np.rint(fraction.sum(1)).astype(np.int64)
    rank = np.argsort(np.argsort(-fraction, axis=1, kind="stable"), axis=1, kind="stable")
    return (low + (rank < up[:, None])).reshape(values.shape)


def _quantise_layer(
    layer: SynapseLayer,
    thresholds: NDArray[np.float64] | None,
    *,
    tasks: int,
    source: str,
    input_scale: float,
    steps: int,
    options: QuantiseOptions,
) -> tuple[Population, Connection, NDArray[np.float64]]:
    """Integers of one layer and, of each output channel, the float value of one membrane unit."""
    weights, unit = integer_weights(layer.weight, options)
    unit = unit * input_scale
    connection = Connection(
        name=f"{source}->{layer.name}",
        source=source,
        target=layer.name,
        kind=layer.kind,
        weights=weights,
        sign_mode=SignMode.MIXED,
        weight_bits=options.weight_bits,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )
    per_neuron = (-1,) + (1,) * (len(layer.output_shape) - 1)
    for exponent in reversed(WEIGHT_EXPONENTS):
        gain = 2.0**exponent / unit.reshape(per_neuron)
        bias = np.broadcast_to(layer.bias.reshape(per_neuron) * gain, layer.output_shape)
        fitted = fit_bias(bias * 2**STATE_SHIFT)
        if fitted is None:
            continue
        if thresholds is None:
            mantissas = np.full((tasks, *layer.output_shape), float(THRESHOLD_LIMIT))
        else:
            mantissas = np.rint(thresholds / layer.drive * gain)
        population = Population(
            name=layer.name,
            shape=layer.output_shape,
            current_decay=NO_CURRENT_MEMORY,
            membrane_decay=layer.membrane_decay,
            # No membrane can reach the largest threshold (proven below), so a neuron whose
            # threshold is capped is off, as it was with its own larger threshold.
            thresholds=np.minimum(mantissas, THRESHOLD_LIMIT).astype(np.int64),
            bias_mantissa=fitted[0],
            bias_exponent=fitted[1],
        )
        candidate = replace(connection, exponent=exponent)
        if _fits(population, candidate, layer.input_shape, steps):
            return population, candidate, unit / 2.0 ** (exponent + STATE_SHIFT)
    raise BadNetworkError(
        f"layer {layer.name!r}: no weight exponent from {WEIGHT_EXPONENTS[0]} keeps its sums "
        f"within 24 bits (fan-in {layer.weight[0].size}); use fewer inputs or smaller biases"
    )


def _fits(
    population: Population, connection: Connection, input_shape: tuple[int, ...], steps: int
) -> bool:
    """Prove one layer alone: the same bounds as for the whole network."""
    alone = ChipNetwork(
        name="layer",
        input=FrameInput(input_shape, 8 if connection.source == INPUT else 0),
        populations=(population,),
        connections=(replace(connection, source=INPUT),),
        readout=Readout(population.name, np.ones(population.shape)),
        tasks=(Task("task", "game", ()),),
        time_steps=steps - 1,
        protocol=GameProtocol(),
    )
    return headroom(alone)[0].proven


def fit_bias(bias: NDArray[np.float64]) -> tuple[NDArray[np.int64], int] | None:
    """Mantissas and the finest common exponent for biases in membrane units; None: too large."""
    for exponent in BIAS_EXPONENTS:
        mantissa = np.rint(bias / 2**exponent)
        if np.abs(mantissa).max() <= BIAS_LIMIT:
            return mantissa.astype(np.int64), exponent
    return None
