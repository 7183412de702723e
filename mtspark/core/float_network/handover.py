"""Float networks as plain values (:mod:`mtspark.core.files.handover`) and back.

So that a network can be built in the process that reads a file, and handed over whole.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from mtspark.core.errors import BadFileError
from mtspark.core.float_network.network import (
    FloatConnection,
    FloatInput,
    FloatKind,
    FloatNetwork,
    FloatOutput,
    FloatPopulation,
    FloatReset,
    OutputKind,
)
from mtspark.core.float_network.rules import check_float_network


def float_network_to_plain(network: FloatNetwork) -> dict[str, Any]:
    """Dicts, lists, numbers, texts and arrays, which are shared with the network."""
    return {
        **vars(network),
        "input": _fields(network.input),
        "populations": [_fields(population) for population in network.populations],
        "connections": [_fields(link) for link in network.connections],
        "output": _fields(network.output),
    }


def float_network_from_plain(data: dict[str, Any], where: str) -> FloatNetwork:
    """The network again, checked; `where` names the file in errors.

    Raises:
        BadFileError: not what :func:`float_network_to_plain` makes.
        BadNetworkError: the network breaks a rule.
    """
    try:
        network = FloatNetwork(
            **{
                **data,
                "input": FloatInput(**data["input"]),
                "populations": tuple(
                    FloatPopulation(**{**entry, "reset": FloatReset(entry["reset"])})
                    for entry in data["populations"]
                ),
                "connections": tuple(
                    FloatConnection(**{**entry, "kind": FloatKind(entry["kind"])})
                    for entry in data["connections"]
                ),
                "output": FloatOutput(
                    **{**data["output"], "kind": OutputKind(data["output"]["kind"])}
                ),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadFileError(f"{where}: damaged hand-over: {type(error).__name__}") from error
    check_float_network(network)
    return network


def _fields(part: object) -> dict[str, Any]:
    return {
        key: value.value if isinstance(value, Enum) else value for key, value in vars(part).items()
    }
