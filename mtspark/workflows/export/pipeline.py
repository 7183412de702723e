"""An export as a list of named steps, and the bundle that it writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath, write_bytes, write_text
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.deploy.bundle import (
    AGENT,
    FIDELITY,
    NETWORK_ARRAYS,
    NETWORK_JSON,
    Bundle,
    check_bundle_target,
    write_bundle,
)
from mtspark.workflows.export.comparing import (
    compare_graphs,
    compare_layers,
    compare_limited_thresholds,
)
from mtspark.workflows.export.formats import FLOAT_DECISION, FLOAT_STEP, INTEGER_STEP, write_formats
from mtspark.workflows.export.pruning import prune_agent
from mtspark.workflows.export.quantising import (
    bound_sums,
    choose_options,
    limit_thresholds,
    quantise_network,
)
from mtspark.workflows.export.request import (
    ExportRequest,
    Source,
    check_options,
    check_source,
    plain_name,
)
from mtspark.workflows.export.sample import with_recording
from mtspark.workflows.export.sources import (
    GRAPH,
    NETX,
    join_agent_graphs,
    read_agent,
    read_netx,
    read_nir,
    trace_module,
    write_agent_graphs,
    write_module_graph,
)
from mtspark.workflows.export.state import Export
from mtspark.workflows.export.switching import count_switches


@dataclass(frozen=True)
class Step:
    """One step of an export.

    Attributes:
        name: what it does, as a phrase.
        work: takes what the steps before it worked out, returns that and one more thing.
    """

    name: str
    work: Callable[[Export], Export]


QUANTISE = (
    Step("choosing how weights become integers", choose_options),
    Step("turning weights, thresholds and biases into integers", quantise_network),
    Step("limiting distinct thresholds", limit_thresholds),
    Step("bounding currents and membranes", bound_sums),
)

STEPS: dict[Source, tuple[Step, ...]] = {
    Source.AGENT: (
        Step("reading the agent", read_agent),
        Step("writing a NIR graph of every task", write_agent_graphs),
        Step("joining the graphs in a float network", join_agent_graphs),
        *QUANTISE,
        Step("counting what a change of pathway writes", count_switches),
        Step("comparing answers with limited thresholds", compare_limited_thresholds),
        Step("removing what no input makes matter", prune_agent),
        Step("comparing the graphs with torch", compare_graphs),
    ),
    Source.NIR: (
        Step("reading the graph as a float network", read_nir),
        *QUANTISE,
        Step("comparing float network and chip", compare_layers),
    ),
    Source.MODULE: (
        Step("tracing the module as a float network", trace_module),
        *QUANTISE,
        Step("comparing float network and chip", compare_layers),
        Step("writing the NIR graph", write_module_graph),
    ),
    Source.NETX: (
        Step("reading the integers", read_netx),
        Step("bounding currents and membranes", bound_sums),
    ),
}
"""What an export does, by what the network comes from, in this order."""


@dataclass(frozen=True)
class ExportResult:
    """An export that was written.

    Attributes:
        export: everything that its steps worked out.
        bundle: the folder.
    """

    export: Export
    bundle: Bundle

    def to_json(self) -> dict[str, Any]:
        """Return what ``mtspark export --json`` writes, but for the folder's name as asked."""
        return {
            "folder": str(self.bundle.folder),
            "files": self.bundle.files,
            **self.export.fidelity().to_json(),
        }


def run_steps(
    request: ExportRequest,
    *,
    progress: ProgressCallback = no_progress,
    steps: Sequence[Step] | None = None,
) -> Export:
    """Run the steps of an export in memory.

    Args:
        request: what to export, and how.
        progress: called at the start of every step.
        steps: others than those of :data:`STEPS`, for example only the first of them.

    Raises:
        BadRequestError: an option that means nothing for this source, or cannot be.
        BadFileError, BadNetworkError: see the readers.
    """
    check_options(request)
    check_source(request)
    kind = request.kind
    if request.sample is not None and kind is Source.AGENT:
        raise BadRequestError("sample: an agent brings the frames of its games; leave it out")
    request = with_recording(request)
    if request.sample is not None and not request.sample.size:
        raise BadRequestError(
            f"{request.sample_name}: has shape {request.sample.shape}; give at least one input"
        )
    export = Export(request, kind, request.name or _name(request))
    chosen = STEPS[kind] if steps is None else steps
    for number, step in enumerate(chosen):
        progress(Progress(step.name, number, len(chosen), "steps"))
        export = step.work(export)
    return export


def write_export(export: Export, folder: AnyPath, *, overwrite: bool = False) -> Bundle:
    """Write a finished export as a bundle, with the formats that were asked for.

    Args:
        export: whose steps have all run.
        folder: must not exist, or with `overwrite` hold a bundle.
        overwrite: replace an existing bundle.

    Raises:
        BadRequestError: the folder is taken.
        BadFileError: the folder cannot be written.
        BadNetworkError: a format cannot hold the network; nothing is written.
    """
    network = export.network
    assert network is not None

    def write_more(target: Path) -> None:
        for name, content in export.files.items():
            write_bytes(target / name, content)
        write_formats(target, network, export.request.formats, export.agent)
        text = json.dumps(export.fidelity().to_json(), indent=2)
        write_text(target / FIDELITY, text + "\n")

    record = export.quantisation
    return write_bundle(
        Path(folder),
        network,
        write_more,
        replace=overwrite,
        quantiser=None if record is None else record.to_json(),
    )


def export_to(
    request: ExportRequest,
    folder: AnyPath,
    *,
    overwrite: bool = False,
    check: Callable[[Export], None] | None = None,
    progress: ProgressCallback = no_progress,
) -> ExportResult:
    """Run all steps and write the bundle.

    Args:
        request: what to export, and how.
        folder, overwrite: as for :func:`write_export`; checked before any step runs.
        check: called with the export before anything is written; what it raises ends it.
        progress: called at the start of every step.

    Raises:
        BadRequestError, BadFileError, BadNetworkError: as :func:`run_steps` and
            :func:`write_export`.
    """
    check_bundle_target(Path(folder), replace=overwrite, names=_known_names(request))
    export = run_steps(request, progress=progress)
    if check is not None:
        check(export)
    return ExportResult(export, write_export(export, folder, overwrite=overwrite))


def _known_names(request: ExportRequest) -> tuple[str, ...]:
    """Names of files that an export will write, as far as they depend on no task's name."""
    names = [NETWORK_JSON, NETWORK_ARRAYS, FIDELITY]
    names += {Source.AGENT: [AGENT], Source.NETX: [NETX]}.get(request.kind, [GRAPH])
    if "onnx" in request.formats:
        names.append(INTEGER_STEP)
        if request.kind is Source.AGENT:
            names += [FLOAT_STEP, FLOAT_DECISION]
    return tuple(names)


def _name(request: ExportRequest) -> str:
    path = request.path
    if path is None:
        return "agent" if request.kind is Source.AGENT else type(request.source).__name__
    if request.kind is Source.AGENT:
        return path.stem
    return plain_name(path)
