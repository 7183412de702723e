"""A chip network as a float network in the chip's own units, for tools that know no integers.

Weights are whole multiples of 2^(6 + exponent), thresholds and biases those that the chip
compares and adds. A float network cannot express the chip's rounding: each decay rounds toward
zero, sums are shifted after adding, currents wrap and membranes saturate. Where every decay is
none or complete, and no limit is reached, every spike is the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mtspark.core.arithmetic import DECAY_ONE, STATE_SHIFT, THRESHOLD_LIMIT
from mtspark.core.arrays import Floats
from mtspark.core.chip_network import (
    ChipNetwork,
    Connection,
    Decay,
    Population,
    ReadoutKind,
    check_forgets,
)
from mtspark.core.float_network import (
    FloatConnection,
    FloatInput,
    FloatKind,
    FloatNetwork,
    FloatOutput,
    FloatPopulation,
    FloatReset,
    OutputKind,
)
from mtspark.deploy.quantise import RESETS

AS_FLOAT = {chip: as_float for as_float, chip in RESETS.items()}


def in_chip_units(network: ChipNetwork) -> FloatNetwork:
    """The same network with its integers as floats, in layer-synchronous time."""
    check_forgets(network, "NIR's graph of integers does not say so", "leave nir out")
    read = network.readout
    kind = OutputKind.SPIKES if read.kind is ReadoutKind.SPIKES else OutputKind.MEMBRANE
    return FloatNetwork(
        name=network.name,
        input=FloatInput(network.input.shape),
        populations=tuple(_population(network, entry) for entry in network.populations),
        connections=tuple(_connection(network, link) for link in network.connections),
        output=FloatOutput(read.population, kind),
        tasks=tuple(task.name for task in network.tasks),
        time_steps=network.time_steps,
    )


def integer_metadata(network: ChipNetwork) -> dict[str, Any]:
    """Return scales and exponents that convert the units back, for NIR's metadata."""
    return {
        "state_shift": STATE_SHIFT,
        "readout_scale": network.readout.scale,
        "input_scale": network.input.scale,
        "weight_exponent": {link.name: link.exponent for link in network.connections},
        "weight_bits": {link.name: link.weight_bits for link in network.connections},
        "sign_mode": {link.name: link.sign_mode.value for link in network.connections},
        "bias_exponent": {entry.name: entry.bias_exponent for entry in network.populations},
    }


def _population(network: ChipNetwork, entry: Population) -> FloatPopulation:
    kept = _kept(entry, entry.membrane_decay, 0)
    current = _kept(entry, entry.current_decay, 1)
    bias = np.asarray(entry.bias_mantissa * 2**entry.bias_exponent, np.float64)
    rest = np.zeros(entry.shape)
    # The chip adds a bias to the membrane; where currents last one step that is the same.
    remembers = bool(current.any())
    silent = (
        entry.name == network.readout.population
        and network.readout.kind is ReadoutKind.MEMBRANE
        and bool((entry.thresholds == THRESHOLD_LIMIT).all())
    )
    return FloatPopulation(
        name=entry.name,
        shape=entry.shape,
        membrane_keep=kept,
        current_keep=current,
        gain=np.ones(entry.shape),
        thresholds=None if silent else np.asarray(entry.thresholds * 2.0**STATE_SHIFT, np.float64),
        reset=FloatReset.NONE if silent else AS_FLOAT[entry.reset],
        fires_at_threshold=entry.fires_at_threshold and not silent,
        bias_current=rest if remembers else bias,
        membrane_bias=bias if remembers else rest,
        initial_current=rest,
        initial_membrane=rest,
        membrane_offset=rest,
    )


def _kept(entry: Population, decay: Decay, added: int) -> Floats:
    share: Floats = np.asarray(1 - (np.asarray(decay, np.float64) + added) / DECAY_ONE, np.float64)
    return np.array(np.broadcast_to(share, entry.shape))


def _connection(network: ChipNetwork, link: Connection) -> FloatConnection:
    depths = network.depths
    conv = link.kind.convolves
    geometry: dict[str, Any] = {}
    if conv:
        geometry = {
            "input_shape": network.shape_of(link.source),
            "output_shape": network.shape_of(link.target),
            **link.conv_fields,
        }
    return FloatConnection(
        name=link.name,
        source=link.source,
        target=link.target,
        kind=FloatKind.CONV if conv else FloatKind.DENSE,
        weights=np.asarray(link.weights * 2.0 ** (link.exponent + STATE_SHIFT), np.float64),
        delay=depths[link.source] + 1 + link.delay - depths[link.target],
        **geometry,
    )
