"""Chip networks as JSON plus named arrays, and back, with everything checked on the way in."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network.encoding import Encoder
from mtspark.core.chip_network.limits import check_network_limits
from mtspark.core.chip_network.network import (
    ChipNetwork,
    Connection,
    ConnectionKind,
    Decay,
    FrameInput,
    Population,
    Readout,
    ReadoutKind,
    Reset,
    SignMode,
)
from mtspark.core.chip_network.rules import check_network
from mtspark.core.environments import (
    protocol_from_json,
    protocol_to_json,
    tasks_from_json,
    tasks_to_json,
)
from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files import FileLimits, current_policy
from mtspark.core.version import is_version

FORMAT = "mtspark-chip-network"
VERSION = 2

DECAYS = ("current_decay", "membrane_decay")
PER_NEURON = "per neuron"
"""Stands in the JSON for a decay that is an array."""

Arrays = dict[str, NDArray[Any]]


def network_to_json(network: ChipNetwork) -> tuple[dict[str, Any], Arrays]:
    """Split a network into plain JSON values and arrays in the narrowest fitting type."""
    arrays: Arrays = {"readout.scale": network.readout.scale.astype(np.float64)}
    populations, connections = [], []
    for population in network.populations:
        arrays[f"{population.name}.thresholds"] = population.thresholds.astype(np.int32)
        arrays[f"{population.name}.bias_mantissa"] = population.bias_mantissa.astype(np.int16)
        for key in DECAYS:
            value = getattr(population, key)
            if not isinstance(value, int):
                arrays[f"{population.name}.{key}"] = value.astype(np.int16)
        # A field at its default is not written, so that a network keeps its hash.
        at_threshold = {"fires_at_threshold": True} if population.fires_at_threshold else {}
        populations.append(
            {
                "name": population.name,
                "shape": list(population.shape),
                **{key: _decay_entry(getattr(population, key)) for key in DECAYS},
                "bias_exponent": population.bias_exponent,
                "reset": population.reset.value,
                **at_threshold,
            }
        )
    for link in network.connections:
        arrays[f"{link.name}.weights"] = link.weights.astype(np.int16)
        connections.append(
            {
                "name": link.name,
                "source": link.source,
                "target": link.target,
                "kind": link.kind.value,
                "sign_mode": link.sign_mode.value,
                "exponent": link.exponent,
                "weight_bits": link.weight_bits,
                "stride": list(link.stride),
                "padding": list(link.padding),
                "dilation": list(link.dilation),
                "groups": link.groups,
                "delay": link.delay,
                "recurrent": link.recurrent,
            }
        )
    encoder = network.input.encoder
    data = {
        "format": FORMAT,
        "version": VERSION,
        "name": network.name,
        "input": {
            "shape": list(network.input.shape),
            "payload_bits": network.input.payload_bits,
            "held": network.input.held,
            "scale": network.input.scale,
            **({} if encoder is Encoder.EVERY_STEP else {"encoder": encoder.value}),
            **({"signed": True} if network.input.signed else {}),
        },
        "populations": populations,
        "connections": connections,
        "readout": {
            "population": network.readout.population,
            "kind": network.readout.kind.value,
        },
        "tasks": tasks_to_json(network.tasks),
        "time_steps": network.time_steps,
        **({"stateful": True} if network.stateful else {}),
        "protocol": None if network.protocol is None else protocol_to_json(network.protocol),
        "provenance": dict(network.provenance),
    }
    return data, arrays


def network_from_json(
    data: Any, arrays: Arrays, where: str, limits: FileLimits | None = None
) -> ChipNetwork:
    """Rebuild and check a network; `where` names the file in errors.

    Raises:
        BadFileError: another format or version, a missing or mistyped field or array, or a
            declared size over a limit.
        BadNetworkError: the network breaks a rule of its representation.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BadFileError(f"{where}: not a chip network ({FORMAT}); make one with mtspark export")
    version = data.get("version")
    if not is_version(version, VERSION):
        raise BadFileError(
            f"{where}: chip network version {one_line(repr(version), 40)}, this mtspark reads "
            f"{VERSION}; export it again"
        )
    try:
        network = ChipNetwork(
            name=str(data["name"]),
            input=FrameInput(
                _shape(data["input"]["shape"]),
                index(data["input"]["payload_bits"]),
                held=_flag(data["input"]["held"]),
                scale=_number(data["input"]["scale"]),
                encoder=Encoder(data["input"].get("encoder", Encoder.EVERY_STEP.value)),
                signed=_flag(data["input"].get("signed", False)),
            ),
            populations=tuple(_population(entry, arrays) for entry in data["populations"]),
            connections=tuple(_connection(entry, arrays) for entry in data["connections"]),
            readout=Readout(
                str(data["readout"]["population"]),
                _reals(arrays, "readout.scale"),
                ReadoutKind(data["readout"]["kind"]),
            ),
            tasks=tasks_from_json(data["tasks"], where),
            time_steps=index(data["time_steps"]),
            protocol=(
                None if data["protocol"] is None else protocol_from_json(data["protocol"], where)
            ),
            provenance={str(key): str(value) for key, value in data["provenance"].items()},
            stateful=_flag(data.get("stateful", False)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFileError(
            f"{where}: field missing or of the wrong type: {type(error).__name__} {error}"
        ) from error
    check_network_limits(network, limits or current_policy().limits, where)
    check_network(network)
    return network


def _shape(values: Any) -> tuple[int, ...]:
    shape = tuple(index(value) for value in values)
    if not shape or min(shape) < 1:
        raise ValueError(f"shape {shape}")
    return shape


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    return index(first), index(second)


def _population(entry: dict[str, Any], arrays: Arrays) -> Population:
    name = str(entry["name"])
    return Population(
        name=name,
        shape=_shape(entry["shape"]),
        current_decay=_decay(entry, "current_decay", arrays),
        membrane_decay=_decay(entry, "membrane_decay", arrays),
        thresholds=_integers(arrays, f"{name}.thresholds"),
        bias_mantissa=_integers(arrays, f"{name}.bias_mantissa"),
        bias_exponent=index(entry["bias_exponent"]),
        reset=Reset(entry["reset"]),
        fires_at_threshold=_flag(entry.get("fires_at_threshold", False)),
    )


def _connection(entry: dict[str, Any], arrays: Arrays) -> Connection:
    name = str(entry["name"])
    return Connection(
        name=name,
        source=str(entry["source"]),
        target=str(entry["target"]),
        kind=ConnectionKind(entry["kind"]),
        weights=_integers(arrays, f"{name}.weights"),
        sign_mode=SignMode(entry["sign_mode"]),
        exponent=index(entry["exponent"]),
        weight_bits=index(entry["weight_bits"]),
        stride=_pair(entry["stride"]),
        padding=_pair(entry["padding"]),
        dilation=_pair(entry["dilation"]),
        groups=index(entry["groups"]),
        delay=index(entry["delay"]),
        recurrent=_flag(entry["recurrent"]),
    )


def _decay_entry(value: Decay) -> int | str:
    return value if isinstance(value, int) else PER_NEURON


def _decay(entry: dict[str, Any], key: str, arrays: Arrays) -> Decay:
    if entry[key] == PER_NEURON:
        return _integers(arrays, f"{entry['name']}.{key}")
    return index(entry[key])


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} where a number is needed")
    return float(value)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{value!r} where true or false is needed")
    return value


def _integers(arrays: Arrays, key: str) -> NDArray[np.int64]:
    values = arrays[key]
    if values.dtype.kind not in "iu":
        raise TypeError(f"array {key} holds {values.dtype}, integers are needed")
    return values.astype(np.int64)


def _reals(arrays: Arrays, key: str) -> NDArray[np.float64]:
    values = arrays[key]
    if values.dtype.kind not in "fiu":
        raise TypeError(f"array {key} holds {values.dtype}, numbers are needed")
    return values.astype(np.float64)
