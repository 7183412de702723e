"""Names that ``mtspark export`` takes, and which options are for which sources."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from mtspark.core.errors import BadRequestError

NETWORK = "Networks that are no mtspark agents"
"""Heading of the options that checkpoints do not have."""


class IntegratorName(str, Enum):
    """See :class:`mtspark.convert.nir.neurons.Integrator`."""

    EULER = "euler"
    EXPONENTIAL = "exponential"
    EXPONENTIAL_DECAY = "exponential-decay"
    ROCKPOOL = "rockpool"


class ResetName(str, Enum):
    """See :class:`mtspark.core.float_network.network.FloatReset`."""

    ZERO = "zero"
    ZERO_LATE = "zero-late"
    SUBTRACT = "subtract"
    SUBTRACT_LATE = "subtract-late"
    SUBTRACT_GUARDED = "subtract-guarded"


class OrderName(str, Enum):
    """See :class:`mtspark.convert.nir.neurons.Order`."""

    CURRENT_FIRST = "current-first"
    MEMBRANE_FIRST = "membrane-first"


class StartName(str, Enum):
    """See :class:`mtspark.convert.nir.neurons.Start`."""

    ZERO = "zero"
    REST = "rest"


class CalibrationName(str, Enum):
    """See :class:`mtspark.deploy.quantise.calibrate.Calibration`."""

    LARGEST = "largest"
    PERCENTILE = "percentile"
    MSE = "mse"


def option(help_text: str, *names: str, **settings: Any) -> Any:
    """An option under the heading :data:`NETWORK` of the help."""
    return typer.Option(*names, help=help_text, rich_help_panel=NETWORK, **settings)


class Source(str, Enum):
    """What a network comes from."""

    AGENT = "a checkpoint of mtspark"
    NIR = "a NIR graph"
    NETX = "a netx network"
    MODULE = "an snntorch module"


FLOAT = (Source.NIR, Source.MODULE)
QUANTISED = (Source.AGENT, *FLOAT)

TAKEN_BY: dict[str, tuple[Source, ...]] = {
    "weight_bits": QUANTISED,
    "scale_per_layer": QUANTISED,
    "round_nearest": QUANTISED,
    "palette": QUANTISED,
    "palette_chip": QUANTISED,
    "calibrate": QUANTISED,
    "advantage_only": (Source.AGENT,),
    "dt": (Source.NIR,),
    "integrator": (Source.NIR,),
    "reset": (Source.NIR,),
    "order": (Source.NIR,),
    "start": (Source.NIR,),
    "if_gain_dt": (Source.NIR,),
    "at_threshold": (Source.NIR,),
    "output_node": (Source.NIR,),
    "time_steps": (*FLOAT, Source.NETX),
    "input_bits": FLOAT,
    "input_scale": FLOAT,
    "held": FLOAT,
    "recording": FLOAT,
    "bound_currents": FLOAT,
    "input_shape": (Source.MODULE,),
    "weights": (Source.MODULE,),
    "readout": (Source.MODULE,),
}
"""Parameters of the command that some sources have no use for."""


def source_of(path: Path) -> Source:
    """What a source is, by its name.

    Raises:
        BadRequestError: it is nothing that is read.
    """
    if path.suffix in (".nir", ".net"):
        return Source.NIR if path.suffix == ".nir" else Source.NETX
    file, _, function = path.name.rpartition(":")
    if file.endswith(".py") and function.isidentifier():
        return Source.MODULE
    if path.suffix == ".py" or ".py:" in path.name:
        name = path.name.partition(":")[0]
        raise BadRequestError(f"{path}: name the function that makes the module, {name}:FUNCTION")
    if path.suffix == ".onnx" or path.is_dir():
        raise BadRequestError(
            f"{path}: folders and ONNX graphs are what an export makes; give what it was made of: "
            "a checkpoint (.pt), .nir, .net or file.py:factory"
        )
    return Source.AGENT


def check_given(context: typer.Context, source: Source) -> None:
    """Refuse an option that this source has no use for, rather than ignore it.

    Raises:
        BadRequestError: there is one.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        origin = context.get_parameter_source(name)
        if origin is None or origin.name != "COMMANDLINE":
            continue
        if source not in TAKEN_BY.get(name, tuple(Source)):
            *others, last = [kind.value for kind in TAKEN_BY[name]]
            taken = f"{', '.join(others)} or {last}" if others else last
            raise BadRequestError(
                f"{_shown(parameter.opts)} is for {taken}; this is {source.value}"
            )


WEIGHT_BITS = 8
"""Of a weight where nothing else is asked for."""


def check_weight_bits(bits: int) -> None:
    """Refuse a number of bits that no weight of the chip has.

    Raises:
        BadRequestError: it is one.
    """
    if not 2 <= bits <= 8:
        raise BadRequestError(f"--weight-bits {bits}: 2 to 8 exist on the chip")


def _shown(names: Iterable[str]) -> str:
    return max(names, key=len)
