"""What ``mtspark export`` is asked for a network that is no agent of mtspark."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING

from mtspark.core.errors import BadRequestError
from mtspark.core.files.limits import current_policy

if TYPE_CHECKING:
    from mtspark.convert.nir.neurons import ImportOptions


@dataclass(frozen=True)
class ExportRequest:
    """What the command line asks for; see its help."""

    source: Path
    folder: Path
    replace: bool = False
    weight_bits: int = 8
    per_channel: bool = True
    keep_sums: bool = True
    dt: float | None = None
    integrator: str | None = None
    reset: str | None = None
    order: str | None = None
    start: str | None = None
    if_gain_dt: bool | None = None
    fires_at_threshold: bool = False
    time_steps: int | None = None
    input_scale: float | None = None
    input_bits: int = 0
    held: bool = False
    output_node: str | None = None
    recording: Path | None = None
    calibrate: str | None = None
    bound_currents: bool = False
    input_shape: str | None = None
    weights: Path | None = None
    readout: str | None = None
    palette: int | None = None
    palette_chip: str | None = None
    formats: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)


def asked_shape(text: str) -> tuple[int, ...]:
    """What --input-shape says.

    Raises:
        BadRequestError: no sizes, or more values than a layer may have.
    """
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise BadRequestError(f"--input-shape {text}: numbers with commas, as 2,34,34") from error
    most = current_policy().limits.neurons
    if min(shape) < 1 or prod(shape) > most:
        raise BadRequestError(f"--input-shape {text}: sizes from 1, and at most {most:,} values")
    return shape


def check_request(request: ExportRequest) -> None:
    """Refuse numbers that no network has, before anything is read.

    Raises:
        BadRequestError: there is one.
    """
    if request.input_bits not in (0, 8):
        raise BadRequestError(f"--input-bits {request.input_bits}: 0 (spikes) or 8 (bytes) exist")
    scale = request.input_scale
    if scale is not None and not (isfinite(scale) and scale > 0):
        raise BadRequestError(f"--input-scale {scale}: must be above 0")
    most = current_policy().limits.time_steps
    if request.time_steps is not None and request.time_steps > most:
        raise BadRequestError(
            f"--time-steps {request.time_steps}: {most:,} is the limit; raise it with "
            "`mtspark --limit time_steps=N ...`"
        )


def import_options(request: ExportRequest) -> ImportOptions:
    """The choices that NIR does not store."""
    from mtspark.convert.nir.neurons import ImportOptions, Integrator, Order, Start
    from mtspark.core.float_network.network import FloatReset

    return ImportOptions(
        dt=request.dt,
        integrator=None if request.integrator is None else Integrator(request.integrator),
        reset=None if request.reset is None else FloatReset(request.reset.replace("-", "_")),
        order=None if request.order is None else Order(request.order),
        start=None if request.start is None else Start(request.start),
        if_gain_dt=request.if_gain_dt,
        fires_at_threshold=request.fires_at_threshold or None,
        input_scale=request.input_scale,
        time_steps=_steps(request),
        output=request.output_node,
    )


def _steps(request: ExportRequest) -> int | None:
    """T: as asked, else as long as the recording.

    Raises:
        BadFileError: the recording cannot be read.
    """
    if request.time_steps is not None or request.recording is None:
        return request.time_steps
    from mtspark.sim.recording.inputs import mapped_array

    shape = mapped_array(request.recording).shape
    # (T, ...) and (batch, T, ...) are told apart once the input's shape is known.
    return int(shape[0]) if len(shape) == 2 else None
