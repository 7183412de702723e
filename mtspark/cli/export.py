"""The command ``mtspark export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import one_thread_each
from mtspark.cli.export_options import (
    WEIGHT_BITS,
    CalibrationName,
    IntegratorName,
    OrderName,
    ResetName,
    Source,
    StartName,
    check_given,
    check_weight_bits,
    option,
    source_of,
)
from mtspark.core.errors import BadRequestError
from mtspark.core.files.atomic import check_target, write_json


def export_command(
    context: typer.Context,
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
    weight_bits: Annotated[
        int | None,
        typer.Option(help="Bits of a weight, 2 to 8 (8; or those that the agent was trained on)."),
    ] = None,
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
        option("Time step in the unit of the graph's time constants (default: 1e-4)."),
    ] = None,
    integrator: Annotated[
        IntegratorName | None,
        option(
            "How neurons step (default: euler). exponential is exact (nengo); exponential-decay "
            "keeps e^(-dt/tau) and counts dt/tau (sinabs); rockpool also corrects what Rockpool's "
            "exporter leaves out."
        ),
    ] = None,
    reset: Annotated[
        ResetName | None,
        option(
            "What a spike does to the membrane (default: zero, to v_reset). subtract-late is "
            "snntorch's default, subtract-guarded its reset_delay=False."
        ),
    ] = None,
    order: Annotated[
        OrderName | None,
        option(
            "Whether a current-based membrane sees the input of its own step (default: "
            "current-first, as all known tools)."
        ),
    ] = None,
    start: Annotated[
        StartName | None, option("Where membranes start (default: zero; rest: at v_leak).")
    ] = None,
    if_gain_dt: Annotated[
        bool | None,
        option(
            "IF and I nodes count dt * r of their input a step, or r (default: what is nearer to "
            "1).",
            "--if-gain-dt/--if-gain-r",
        ),
    ] = None,
    at_threshold: Annotated[
        bool, option("A membrane that equals its threshold fires, too.", "--fires-at-threshold")
    ] = False,
    time_steps: Annotated[
        int | None,
        option("Steps of one run (default: the file's own, the recording's, or 100).", min=1),
    ] = None,
    input_bits: Annotated[
        int, option("Input messages: 0 (spikes) or 8 (values 0 to 255).", min=0, max=8)
    ] = 0,
    input_scale: Annotated[
        float | None, option("What an input message of 1 stands for (default: 1).")
    ] = None,
    held: Annotated[
        bool, option("One frame is held for all steps, rather than a series given.", "--held")
    ] = False,
    output_node: Annotated[
        str | None, option("Name of the output to read, where a graph has several.")
    ] = None,
    recording: Annotated[
        Path | None,
        option("Recorded inputs, .npy of (T, ...) or (batch, T, ...).", "--input"),
    ] = None,
    calibrate: Annotated[
        CalibrationName | None,
        option(
            "Choose weight limits on the recorded inputs (of an agent: on frames of its games)."
        ),
    ] = None,
    bound_currents: Annotated[
        bool,
        option("Bound currents by the recorded inputs, not by proof.", "--bound-currents"),
    ] = False,
    input_shape: Annotated[
        str | None, option("snntorch modules: shape of one step's input, as 2,34,34.")
    ] = None,
    weights: Annotated[Path | None, option("snntorch modules: a saved state_dict.")] = None,
    readout: Annotated[
        str | None, option("snntorch modules: the layer to read, where several are returned.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the summary to this file.")
    ] = None,
) -> None:
    """Turn a spiking network into a folder: float graphs and an integer chip network."""
    from mtspark.cli.export_agent import export_agent
    from mtspark.cli.export_formats import chosen_formats
    from mtspark.cli.export_network import export_network
    from mtspark.cli.export_request import ExportRequest
    from mtspark.cli.show.export import print_export, print_network
    from mtspark.deploy.bundle import check_bundle_target

    one_thread_each()
    check_target(json_out)
    source = source_of(checkpoint)
    check_given(context, source)
    if weight_bits is not None:
        check_weight_bits(weight_bits)
    if palette_chip is not None and palette is None:
        raise BadRequestError("--palette-chip says whose cores get a palette; add --palette N")
    wanted = chosen_formats(formats)
    folder = output or Path.cwd() / f"{checkpoint.name.split(':')[0].rsplit('.', 1)[0]}.deploy"
    check_bundle_target(folder, replace=force)
    if source is not Source.AGENT:
        bundle, fidelity = export_network(
            ExportRequest(
                source=checkpoint,
                folder=folder,
                replace=force,
                formats=wanted,
                weight_bits=weight_bits or WEIGHT_BITS,
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
