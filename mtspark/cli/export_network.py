"""Exporting networks that are no agents of mtspark: NIR, netx, any snntorch module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.cli.export_request import ExportRequest, asked_shape, check_request, import_options
from mtspark.core.errors import BadRequestError

if TYPE_CHECKING:
    from mtspark.core.chip_network.network import ChipNetwork
    from mtspark.core.float_network.network import FloatNetwork
    from mtspark.deploy.bundle import Bundle
    from mtspark.deploy.quantise.options import QuantiseOptions

GRAPH = "graph.default.nir"
NETX = "network.net"
NETX_NOTE = "weight exponents 0 and biases in steps of 64, for the netx file"
RANDOM_RATE, RANDOM_BATCH = 0.1, 2
"""Without a recording, the float network and the chip are compared on random spikes."""


def export_network(request: ExportRequest) -> tuple[Bundle, dict[str, Any]]:
    """Convert, quantise, compare and write a bundle; returns it with its fidelity figures.

    Raises:
        BadRequestError: an option that means nothing for this source.
        BadFileError, BadNetworkError: see the readers.
    """
    from dataclasses import asdict, replace

    from mtspark.deploy.quantise.options import Quantisation

    check_request(request)
    if request.source.suffix == ".net":
        return _export_netx(request)
    network, traced = _float_network(request)
    if traced is not None:
        # The module said itself how its input comes.
        request = replace(request, held=request.held or traced["held"])
    options, reports = _quantise_options(request, network)
    chip = _quantised(request, network, options)
    palette: list[dict[str, Any]] = []
    if request.palette is not None:
        from mtspark.deploy.quantise.codebook import choose_palette

        chip, costs = choose_palette(chip, request.palette, request.palette_chip)
        palette = [asdict(cost) for cost in costs]
    fidelity = {
        "headroom": _headroom(chip),
        "module_against_network": traced["layers"] if traced is not None else [],
        "palette": palette,
        "calibration": reports,
        "quantise_options": {
            "may_saturate": options.may_saturate,
            "for_netx": options.for_netx,
            "weight_limits": {name: one.tolist() for name, one in options.weight_limits.items()},
            "largest_currents": dict(options.largest_currents),
        },
        "import_notes": [*network.notes, *([NETX_NOTE] if options.for_netx else [])],
        **_compared(request, network, chip),
    }
    record = Quantisation(options, request.palette, request.palette_chip, request.calibrate)
    return _write(request, chip, fidelity, network, record.to_json()), fidelity


def _float_network(request: ExportRequest) -> tuple[FloatNetwork, dict[str, Any] | None]:
    """The source as a float network; of a module, how that agrees with its own run, too."""
    from dataclasses import asdict, replace

    if request.source.suffix == ".nir":
        from mtspark.convert.nir.reader import import_nir

        return import_nir(request.source, import_options(request)), None
    from mtspark.convert.snntorch.source import build_module
    from mtspark.convert.snntorch.trace import trace_module
    from mtspark.convert.snntorch.verify import compare_with_recording

    text = str(request.source)
    if request.input_shape is None:
        raise BadRequestError(f"{text}: give the shape of one step's input, --input-shape 2,34,34")
    shape = asked_shape(request.input_shape)
    module, lines = build_module(text, request.weights)
    traced = trace_module(
        module,
        name=text.rpartition(":")[2],
        input_shape=shape,
        time_steps=request.time_steps,
        readout=request.readout,
        lines=lines,
    )
    layers = [asdict(layer) for layer in compare_with_recording(traced)]
    network = traced.network
    if request.input_scale is not None:
        network = replace(network, input=replace(network.input, scale=request.input_scale))
    return network, {"layers": layers, "held": traced.recording.held}


def _series(request: ExportRequest, network: FloatNetwork) -> Any:
    """The recording as (T, batch, *shape), None without one."""
    from mtspark.sim.recording.inputs import load_recording

    if request.recording is None:
        return None
    return load_recording(request.recording, network.input.shape).swapaxes(0, 1)


def _quantise_options(
    request: ExportRequest, network: FloatNetwork
) -> tuple[QuantiseOptions, list[dict[str, Any]]]:
    from dataclasses import asdict

    from mtspark.deploy.quantise.calibrate import Calibration, calibrate
    from mtspark.deploy.quantise.options import QuantiseOptions

    options = QuantiseOptions(
        request.weight_bits,
        request.per_channel,
        request.keep_sums,
        may_saturate=True,
        for_netx="netx" in request.formats,
    )
    if request.calibrate is None and not request.bound_currents:
        return options, []
    series = _series(request, network)
    if series is None:
        raise BadRequestError("--calibrate and --bound-currents need recorded inputs: --input FILE")
    chosen, reports = calibrate(
        network,
        series,
        options,
        method=Calibration(request.calibrate or "largest"),
        bound_currents=request.bound_currents,
    )
    return chosen, [asdict(report) for report in reports]


def _quantised(
    request: ExportRequest, network: FloatNetwork, options: QuantiseOptions
) -> ChipNetwork:
    from mtspark.deploy.quantise.network import quantise

    return quantise(
        network,
        name=_stem(request.source),
        payload_bits=request.input_bits,
        held=request.held,
        options=options,
        provenance=_provenance(request),
    )


def _stem(source: Path) -> str:
    return source.name.partition(":")[0].rsplit(".", 1)[0]


def _provenance(request: ExportRequest) -> dict[str, str]:
    import mtspark
    from mtspark.deploy.bundle import sha256

    found = {"source": request.source.name, "mtspark": mtspark.__version__}
    if request.source.is_file():
        found["source_sha256"] = sha256(request.source)
    return found


def _headroom(chip: ChipNetwork) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from mtspark.deploy.quantise.bounds import headroom

    return [asdict(room) for room in headroom(chip)]


def _compared(request: ExportRequest, network: FloatNetwork, chip: ChipNetwork) -> dict[str, Any]:
    """Float network and chip on the same inputs, layer by layer."""
    from dataclasses import replace

    import numpy as np

    from mtspark.core.float_network.simulator import run_float
    from mtspark.deploy.quantise.fidelity import layer_fidelity, warnings_of
    from mtspark.sim.backends.reference import ReferenceChip
    from mtspark.sim.recording.inputs import as_messages

    series = _series(request, network)
    told = str(request.recording)
    if series is None:
        shape = (chip.time_steps, RANDOM_BATCH, *network.input.shape)
        spikes = np.random.default_rng(0).random(shape) < RANDOM_RATE
        series = spikes * (chip.input.scale * (255 if chip.input.payload_bits else 1))
        told = f"random spikes, {RANDOM_RATE:.0%} a step"
    if chip.input.held:
        series = np.broadcast_to(series[:1], (chip.time_steps, *series.shape[1:]))
    if len(series) != chip.time_steps:
        chip = replace(chip, time_steps=len(series))
    messages = as_messages(series, chip, request.recording or Path("random spikes"))
    frames = messages.reshape(*messages.shape[:2], *chip.input.shape).swapaxes(0, 1)
    if chip.input.held:
        frames = frames[:, 0]
    decision = ReferenceChip(chip).decide(np.ascontiguousarray(frames), 0, trace=True)
    assert decision.trace is not None
    layers = layer_fidelity(network, chip, run_float(network, series), decision.trace)
    return {
        "compared_on": told,
        "layers": [layer.to_json() for layer in layers],
        "warnings": warnings_of(layers),
    }


def _export_netx(request: ExportRequest) -> tuple[Bundle, dict[str, Any]]:
    from dataclasses import replace

    from mtspark.convert.netx import import_netx

    chip = import_netx(request.source, request.time_steps)
    chip = replace(chip, provenance={**chip.provenance, **_provenance(request)})
    notes = chip.provenance.get("notes", "")
    fidelity = {
        "headroom": _headroom(chip),
        "import_notes": ["integers as they stand in the file", *filter(None, [notes])],
        "warnings": [],
    }
    return _write(request, chip, fidelity, None), fidelity


def _write(
    request: ExportRequest,
    chip: ChipNetwork,
    fidelity: dict[str, Any],
    network: FloatNetwork | None,
    quantiser: dict[str, Any] | None = None,
) -> Bundle:
    import json
    import shutil

    from mtspark.cli.export_formats import write_formats
    from mtspark.deploy.bundle import FIDELITY, write_bundle

    def write_more(target: Path) -> None:
        if request.source.suffix == ".nir" and network is not None:
            from mtspark.convert.nir.annotate import copy_with_choices

            copy_with_choices(request.source, target / GRAPH, import_options(request), network)
        elif request.source.suffix == ".net":
            shutil.copyfile(request.source, target / NETX)
        elif network is not None:
            _write_graph(network, target / GRAPH, fidelity)
        write_formats(target, chip, request.formats)
        (target / FIDELITY).write_text(json.dumps(fidelity, indent=2) + "\n")

    return write_bundle(
        request.folder, chip, write_more, replace=request.replace, quantiser=quantiser
    )


def _write_graph(network: FloatNetwork, path: Path, fidelity: dict[str, Any]) -> None:
    """The NIR graph of a traced module, where NIR has nodes for all of it."""
    from mtspark.convert.nir.agent import save_graph
    from mtspark.convert.nir.writer import network_to_nir
    from mtspark.core.errors import BadNetworkError

    try:
        save_graph(network_to_nir(network), path)
    except BadNetworkError as error:
        fidelity["warnings"].append(f"no NIR graph was written: {error}")
