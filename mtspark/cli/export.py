"""The command ``mtspark export``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from mtspark.cli.common import check_json_target, one_thread_each, write_json
from mtspark.core.errors import BadRequestError

NETWORK = "Networks that are no mtspark agents"
"""Heading of the options that checkpoints do not have."""


class IntegratorName(str, Enum):
    """See :class:`mtspark.convert.nir_import_neurons.Integrator`."""

    EULER = "euler"
    EXPONENTIAL = "exponential"
    EXPONENTIAL_DECAY = "exponential-decay"
    ROCKPOOL = "rockpool"


class ResetName(str, Enum):
    """See :class:`mtspark.core.float_network.FloatReset`."""

    ZERO = "zero"
    ZERO_LATE = "zero-late"
    SUBTRACT = "subtract"
    SUBTRACT_LATE = "subtract-late"
    SUBTRACT_GUARDED = "subtract-guarded"


class OrderName(str, Enum):
    """See :class:`mtspark.convert.nir_import_neurons.Order`."""

    CURRENT_FIRST = "current-first"
    MEMBRANE_FIRST = "membrane-first"


class StartName(str, Enum):
    """See :class:`mtspark.convert.nir_import_neurons.Start`."""

    ZERO = "zero"
    REST = "rest"


class CalibrationName(str, Enum):
    """See :class:`mtspark.deploy.calibrate.Calibration`."""

    LARGEST = "largest"
    PERCENTILE = "percentile"
    MSE = "mse"


def _option(help_text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=NETWORK, **settings)


def export_command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A trained agent (.pt), a NIR graph by any tool (.nir), a netx network of lava-dl "
            "(.net), or any snntorch module (file.py:factory).",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder to make (default: NAME.deploy)."),
    ] = None,
    weight_bits: Annotated[int, typer.Option(help="Bits of a weight, 2 to 8.")] = 8,
    scale_per_layer: Annotated[
        bool, typer.Option(help="One weight scale a layer instead of one a channel.")
    ] = False,
    round_nearest: Annotated[
        bool, typer.Option(help="Round each weight alone instead of keeping each kernel's sum.")
    ] = False,
    advantage_only: Annotated[
        bool, typer.Option(help="Leave out the value stream: same greedy actions.")
    ] = False,
    palette: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most so many distinct thresholds (one for each task) in a layer; 8 are what a "
            "core of Loihi 1 holds.",
        ),
    ] = None,
    palette_chip: Annotated[
        str | None,
        typer.Option(
            help="With --palette: so many on each core of this chip (loihi1, loihi2, or a "
            "description) instead of in a layer, which changes them less.",
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="Further files in the folder, for example onnx,netx: nir (always there), onnx, "
            "netx (.net of lava-dl), lava (a check: its processes are made from the bundle)."
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace an existing bundle.")] = False,
    dt: Annotated[
        float | None,
        _option("Time step in the unit of the graph's time constants (default: 1e-4)."),
    ] = None,
    integrator: Annotated[
        IntegratorName | None,
        _option(
            "How neurons step (default: euler). exponential is exact (nengo); exponential-decay "
            "keeps e^(-dt/tau) and counts dt/tau (sinabs); rockpool also corrects what Rockpool's "
            "exporter leaves out."
        ),
    ] = None,
    reset: Annotated[
        ResetName | None,
        _option(
            "What a spike does to the membrane (default: zero, to v_reset). subtract-late is "
            "snntorch's default, subtract-guarded its reset_delay=False."
        ),
    ] = None,
    order: Annotated[
        OrderName | None,
        _option(
            "Whether a current-based membrane sees the input of its own step (default: "
            "current-first, as all known tools)."
        ),
    ] = None,
    start: Annotated[
        StartName | None, _option("Where membranes start (default: zero; rest: at v_leak).")
    ] = None,
    if_gain_dt: Annotated[
        bool | None,
        _option(
            "IF and I nodes count dt * r of their input a step, or r (default: what is nearer to "
            "1).",
            "--if-gain-dt/--if-gain-r",
        ),
    ] = None,
    at_threshold: Annotated[
        bool, _option("A membrane that equals its threshold fires, too.", "--fires-at-threshold")
    ] = False,
    time_steps: Annotated[
        int | None,
        _option("Steps of one run (default: the file's own, the recording's, or 100).", min=1),
    ] = None,
    input_bits: Annotated[
        int, _option("Input messages: 0 (spikes) or 8 (values 0 to 255).", min=0, max=8)
    ] = 0,
    input_scale: Annotated[
        float | None, _option("What an input message of 1 stands for (default: 1).")
    ] = None,
    held: Annotated[
        bool, _option("One frame is held for all steps, rather than a series given.", "--held")
    ] = False,
    output_node: Annotated[
        str | None, _option("Name of the output to read, where a graph has several.")
    ] = None,
    recording: Annotated[
        Path | None,
        _option("Recorded inputs, .npy of (T, ...) or (batch, T, ...).", "--input"),
    ] = None,
    calibrate: Annotated[
        CalibrationName | None,
        _option(
            "Choose weight limits on the recorded inputs (of an agent: on frames of its games)."
        ),
    ] = None,
    bound_currents: Annotated[
        bool,
        _option("Bound currents by the recorded inputs, not by proof.", "--bound-currents"),
    ] = False,
    input_shape: Annotated[
        str | None, _option("snntorch modules: shape of one step's input, as 2,34,34.")
    ] = None,
    weights: Annotated[Path | None, _option("snntorch modules: a saved state_dict.")] = None,
    readout: Annotated[
        str | None, _option("snntorch modules: the layer to read, where several are returned.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the summary to this file.")
    ] = None,
) -> None:
    """Turn a spiking network into a folder: float graphs and an integer chip network."""
    from mtspark.cli.export_agent import export_agent, print_export
    from mtspark.cli.export_formats import chosen_formats
    from mtspark.cli.export_network import ExportRequest, export_network, is_network, print_network

    one_thread_each()
    check_json_target(json_out)
    if palette_chip is not None and palette is None:
        raise BadRequestError("--palette-chip says whose cores get a palette; add --palette N")
    wanted = chosen_formats(formats)
    folder = output or Path.cwd() / f"{checkpoint.name.split(':')[0].rsplit('.', 1)[0]}.deploy"
    if is_network(checkpoint):
        bundle, fidelity = export_network(
            ExportRequest(
                source=checkpoint,
                folder=folder,
                replace=force,
                formats=wanted,
                weight_bits=weight_bits,
                per_channel=not scale_per_layer,
                keep_sums=not round_nearest,
                palette=palette,
                palette_chip=palette_chip,
                dt=dt,
                integrator=integrator and integrator.value,
                reset=reset and reset.value,
                order=order and order.value,
                start=start and start.value,
                if_gain_dt=if_gain_dt,
                fires_at_threshold=at_threshold,
                time_steps=time_steps,
                input_scale=input_scale,
                input_bits=input_bits,
                held=held,
                output_node=output_node,
                recording=recording,
                calibrate=calibrate and calibrate.value,
                bound_currents=bound_currents,
                input_shape=input_shape,
                weights=weights,
                readout=readout,
            )
        )
        print_network(bundle, fidelity)
        if json_out is not None:
            write_json(json_out, {"folder": str(folder), "files": bundle.files, **fidelity})
        return
    given = {
        "--dt": dt,
        "--integrator": integrator,
        "--reset": reset,
        "--order": order,
        "--start": start,
        "--time-steps": time_steps,
        "--input": recording,
        "--input-shape": input_shape,
        "--weights": weights,
    }
    for name, value in given.items():
        if value is not None:
            raise BadRequestError(f"{name} is for networks that are no checkpoints of mtspark")
    bundle, fidelity = export_agent(
        checkpoint,
        folder,
        weight_bits=weight_bits,
        per_channel=not scale_per_layer,
        keep_sums=not round_nearest,
        advantage_only=advantage_only,
        palette=palette,
        palette_chip=palette_chip,
        calibrate=calibrate and calibrate.value,
        formats=wanted,
        replace=force,
    )
    print_export(bundle, fidelity)
    if json_out is not None:
        write_json(json_out, {"folder": str(folder), "files": bundle.files, **fidelity})
