"""Steps that read a source and make the float network (or, of netx, the integers)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtspark.core.environments import box_of
from mtspark.core.errors import BadInputError, BadNetworkError, BadRequestError
from mtspark.core.files import current_policy, read_whole
from mtspark.core.geometry import Shape
from mtspark.core.version import __version__
from mtspark.deploy.quantise import DEFAULT_STEPS
from mtspark.sim.recording import check_one_frame
from mtspark.workflows.export.acting import in_environment
from mtspark.workflows.export.quantising import compared_inputs
from mtspark.workflows.export.request import ExportRequest, check_shape, import_options
from mtspark.workflows.export.sample import Layout, is_graded, layouts, sample_encoding
from mtspark.workflows.export.state import Export
from mtspark.workflows.export.unused import check_matters, check_shape_taken, check_used
from mtspark.workflows.whole import SIDE_BY_SIDE

if TYPE_CHECKING:
    from torch import nn

    from mtspark.convert.snntorch import Traced
    from mtspark.core.float_network import FloatNetwork

MOST_VALUES, MOST_SAMPLES, LEAST_SAMPLES = 2**24, 256, 16
"""Of a comparison: values of all layers and steps, and inputs."""

GRAPH = "graph.default.nir"
NETX = "network.net"


def read_agent(export: Export) -> Export:
    """Load the checkpoint, or save the agent and load that: what is exported is what is kept."""
    from mtspark.deploy.bundle import AGENT
    from mtspark.train.checkpoint import agent_bytes, load_agent, side_by_side, single_task
    from mtspark.train.sparsity import path_sharing

    path = export.request.path
    source: Any = export.request.source
    content = agent_bytes(source) if path is None else _content(path)
    agent = load_agent(path or AGENT, content=content)
    if export.request.stateful and not agent.network.config.stateful:
        raise BadRequestError(
            f"{path or export.name}: learned to decide from rest, so state cannot survive its "
            "decisions; leave --stateful out, or train with network.stateful = true"
        )
    provenance = {
        "checkpoint": AGENT if path is None else path.name,
        "checkpoint_sha256": hashlib.sha256(content).hexdigest(),
        "mtspark": __version__,
    }
    task = export.request.task
    if export.request.side_by_side:
        agent = side_by_side(agent)
        provenance[SIDE_BY_SIDE] = f"{len(agent.tasks)} tasks"
        files = {AGENT: agent_bytes(agent)}
        return replace(export, agent=agent, provenance=provenance, files=files)
    if task is None:
        return replace(export, agent=agent, provenance=provenance, files={AGENT: content})
    whole, agent = agent, single_task(agent, task)
    index = whole.tasks.index(agent.tasks[0])
    sharing = None
    if whole.network.config.pathway_layers:
        sharing = path_sharing(whole.network, [one.name for one in whole.tasks], index)
    return replace(
        export,
        agent=agent,
        provenance={**provenance, "task": agent.tasks[0].name},
        files={AGENT: agent_bytes(agent)},
        sharing=sharing,
    )


def write_agent_graphs(export: Export) -> Export:
    """Write the NIR graph of every task and read it back: what follows sees what was written."""
    from mtspark.convert.nir import Head, agent_to_nir, graph_bytes, load_graph

    assert export.agent is not None
    numbers = [task.name for task in export.agent.tasks if box_of(task) is not None]
    if export.request.advantage_only and numbers:
        raise BadRequestError(
            f"advantage-only: {numbers[0]} takes the numbers themselves, and without their mean "
            "they are others; leave it out"
        )
    if export.request.advantage_only and not export.agent.network.config.dueling:
        raise BadRequestError(
            f"--advantage-only: {export.name} has one head and no value stream; leave it out"
        )
    head = Head.ADVANTAGE if export.request.advantage_only else Head.DUELING
    files, graphs = dict(export.files), {}
    for task, graph in agent_to_nir(export.agent, head).items():
        name = f"graph.{task}.nir"
        files[name] = graph_bytes(graph)
        graphs[task] = load_graph(name, content=files[name])
    provenance = {**export.provenance, "head": head.value}
    return replace(export, files=files, graphs=graphs, provenance=provenance)


def join_agent_graphs(export: Export) -> Export:
    """Join the graphs of all tasks in one float network."""
    from mtspark.convert.nir import import_tasks

    network = import_tasks(dict(export.graphs), name=export.name)
    return replace(export, float_network=network)


def read_nir(export: Export) -> Export:
    """Read a NIR graph as a float network; keep a copy that says how it was read."""
    from mtspark.convert.nir import copy_with_choices, import_nir

    request, path = export.request, export.request.path
    assert path is not None
    options = import_options(request)
    if request.sample is not None:
        sent = sample_encoding(request)
        options = replace(options, input_scale=sent.scale, input_signed=sent.signed or None)
    content = _content(path)
    network = import_nir(path, options, content=content)
    check_used(request, network)
    check_matters(request, network, options, lambda other: import_nir(path, other, content=content))
    layout = None
    if request.sample is not None:
        sample, shape = request.sample, network.input.shape
        if request.recording is not None and sample.shape[1:] == shape and not is_graded(sample):
            # Spikes of (T, *shape) are one series.
            sample = sample[None]
            request = replace(request, sample=sample)
            export = replace(export, request=request)
        layout = Layout.of_series(sample.shape, shape, network.name, request.sample_name)
        if layout.time_steps is not None and not network.time_steps:
            network = replace(network, time_steps=layout.time_steps)
    graph = copy_with_choices(path, options, network, content=content)
    export = replace(
        export,
        float_network=network,
        one_frame=request.one_frame,
        input_bits=request.input_bits,
        provenance=_provenance(export, content),
        files={GRAPH: graph},
    )
    return _with_sample(export, layout)


def trace_module(export: Export) -> Export:
    """Run the module, write down what happened, and make a float network of it."""
    from mtspark.convert.snntorch import build_module, compare_with_recording

    request = export.request
    if request.path is not None:
        text = str(request.path)
        if request.input_shape is None and request.sample is None:
            raise BadRequestError(
                f"{text}: give some of its inputs, --input x.npy, or the shape of one step's "
                "input, --input-shape 2,34,34"
            )
        built = build_module(text, request.weights)
        module, lines, remarks = built.module, built.lines, built.notes
    else:
        module, lines, remarks = _module_in_memory(request.source), {}, ()
    with _kept(module):
        traced, layout = _traced(export, module, lines)
        agreement = tuple(compare_with_recording(traced))
        network = replace(traced.network, notes=(*traced.network.notes, *remarks))
        if request.input_scale is not None:
            network = replace(network, input=replace(network.input, scale=request.input_scale))
        if request.environment is not None:
            network = in_environment(network, request.environment)
        export = replace(
            export,
            float_network=network,
            module_agreement=agreement,
            # The module said itself how its input comes.
            one_frame=request.one_frame or request.stateful or traced.recording.held,
            input_bits=request.input_bits,
            provenance=_provenance(export),
        )
        export = _with_sample(export, layout)
        return export if request.max_pool is None else _with_exchange(export, module, traced)


def _with_exchange(export: Export, module: nn.Module, traced: Traced) -> Export:
    """Measure what --max-pool changed, on the inputs that float network and chip share."""
    from mtspark.convert.snntorch import measure_exchange

    network = export.float_network
    assert network is not None
    if not traced.exchanged:
        raise BadRequestError(
            f"--max-pool: is of max pools before neurons, and {network.name} has none; leave it out"
        )
    series, inputs = compared_inputs(export)
    labels = export.request.labels
    if labels is not None:
        labels = labels[: series.shape[1]]
    if labels is not None and labels.shape != series.shape[1:2]:
        labels = None
    return replace(
        export,
        exchange=measure_exchange(module, traced, series, inputs, labels),
        provenance={**export.provenance, "max_pool": "or"},
    )


def write_module_graph(export: Export) -> Export:
    """Write the NIR graph of a traced module, where NIR has nodes for all of it."""
    from mtspark.convert.nir import graph_bytes, network_to_nir

    assert export.float_network is not None
    try:
        graph = network_to_nir(export.float_network)
    except BadNetworkError as error:
        return replace(export, graph_warning=f"no NIR graph was written: {error}")
    acts = export.request.environment
    name = GRAPH if acts is None else f"graph.{acts.name}.nir"
    files = {**export.files, name: graph_bytes(graph)}
    return replace(export, files=files)


def read_netx(export: Export) -> Export:
    """Read the integers of a netx file as a chip network."""
    from mtspark.convert.netx import import_netx

    path = export.request.path
    assert path is not None
    if export.request.sample is not None:
        raise BadRequestError(f"{path}: holds integers already, which need no sample; leave it out")
    content, shape = _content(path), export.request.input_shape
    network = import_netx(path, export.request.time_steps, input_shape=shape, content=content)
    check_shape_taken(export.request, network.input.shape)
    provenance = {**network.provenance, **_provenance(export, content)}
    network = replace(network, provenance=provenance)
    return replace(export, network=network, provenance=provenance, files={NETX: content})


def _traced(
    export: Export, module: nn.Module, lines: dict[int, str]
) -> tuple[Traced, Layout | None]:
    """Trace a module on the shape that was asked, or on the first that its sample allows."""
    from mtspark.convert.snntorch import trace_module

    request = export.request
    bits, scale = request.input_bits, request.input_scale
    if request.sample is not None:
        bits, scale = sample_encoding(request)[:2]

    steps = None if request.stateful else request.time_steps

    def attempt(shape: tuple[int, ...], time_steps: int | None) -> Traced:
        return trace_module(
            module,
            name=export.name if request.path is None else str(request.path).rpartition(":")[2],
            input_shape=shape,
            time_steps=time_steps,
            readout=request.readout,
            lines=lines,
            input_spike=None if bits else scale or 1.0,
            exchange_pools=request.max_pool == "or",
            stateful=request.stateful,
        )

    if request.sample is None:
        if request.input_shape is None:
            raise BadRequestError(
                f"{export.name}: the shape of its input is not known; give sample= (a batch of "
                "its data) or input_shape= (of one step, without batch)"
            )
        text = ",".join(map(str, request.input_shape))
        check_shape(request.input_shape, f"--input-shape {text}")
        return attempt(request.input_shape, steps), None
    failure: BadNetworkError | None = None
    known = list(
        layouts(
            request.sample.shape,
            request.input_shape,
            steps,
            graded=is_graded(request.sample),
            batch_first=request.batch_first,
        )
    )
    for layout in known:
        try:
            traced = attempt(layout.shape, layout.time_steps)
        except BadNetworkError as error:
            # What a layout that runs meets in the network tells more than that another does not.
            if failure is None or isinstance(failure, BadInputError):
                failure = error
            continue
        if layout.series and traced.recording.held:
            continue
        settled = _settled(layout, known, traced.recording.time_axis, request)
        if settled.time_steps != layout.time_steps:
            traced = attempt(settled.shape, settled.time_steps)
        return traced, settled
    if failure is not None:
        _check_steps(request, attempt)
        if isinstance(failure, BadInputError) and request.batch_first:
            given = f"{request.sample_name}: has shape {request.sample.shape}"
            raise BadInputError(f"{given}; {failure}") from failure
        raise failure
    raise BadRequestError(
        f"{request.sample_name}: has shape {request.sample.shape}, {export.name} takes "
        "(batch, *shape of a step), or (T, batch, ...) or (batch, T, ...) with time_steps=T; give "
        "input_shape= to say which axes are a step's"
    )


def _settled(
    layout: Layout, known: Sequence[Layout], own: int | None, request: ExportRequest
) -> Layout:
    """Say which of the first two axes of a sample in memory is time, where both may be.

    Args:
        layout: with which the module runs.
        known: all that the sample allows.
        own: which axis the module itself takes for time; None where it is called step by step.
        request: with the sample.

    Raises:
        BadRequestError: nobody says it.
    """
    both = {one.time_axis: one for one in known if one.series and one.shape == layout.shape}
    if not layout.series or len(both) == 1:
        return layout
    if own is not None:
        return both[own]
    if request.stateful or both[0].time_steps == both[1].time_steps:
        return both[1]
    assert request.sample is not None
    raise BadRequestError(
        f"{request.sample_name}: has shape {request.sample.shape}, and either of its first two "
        f"axes may be time; give time_steps={both[1].time_steps} where samples come first, or "
        f"time_steps={both[0].time_steps} where steps do"
    )


def _with_sample(export: Export, layout: Layout | None) -> Export:
    """Take over the inputs in memory, and how they are sent where nobody said so."""
    request, network = export.request, export.float_network
    if request.sample is None or layout is None or network is None:
        return export
    sent = sample_encoding(request)
    given = replace(network.input, signed=sent.signed or network.input.signed)
    if sent.scale is not None:
        given = replace(given, scale=sent.scale)
    steps = network.time_steps or DEFAULT_STEPS
    shown = f"inputs are frames, each shown in all {steps} steps"
    if layout.series:
        first = "steps" if layout.time_axis == 0 else "samples"
        shown = f"inputs are series of {layout.time_steps} steps, {first} first"
    elif network.stateful:
        shown = "inputs are the frames of one episode"
    if network.stateful:
        steps = layout.time_steps or 1
    how = sent.note
    if sent.bits and request.sample.dtype == np.uint8 and request.input_scale is None:
        # As everywhere, bytes are messages.
        how += "; where the network learned pixels from 0 to 1, give --input-scale 0.00392157"
    network = replace(network, input=given, notes=(*network.notes, how, shown))
    one_frame = export.one_frame and not network.stateful
    if not layout.series and "one_frame" not in request.given:
        one_frame = True
    if one_frame and layout.series:
        by_sample = request.sample if layout.time_axis else request.sample.swapaxes(0, 1)
        check_one_frame(by_sample, layout.shape, request.sample_name)
    few = _few(network, steps)
    rows = (slice(None), slice(few)) if layout.time_axis == 0 else (slice(few),)
    series = layout.series_of(request.sample[rows], network.input.shape, steps)
    if network.stateful and not layout.series:
        series = series.swapaxes(0, 1)
    return replace(
        export, float_network=network, input_bits=sent.bits, one_frame=one_frame, series=series
    )


def _few(network: FloatNetwork, steps: int) -> int:
    """How many inputs of a sample float network and chip are compared on: a test set is long."""
    sizes = [network.input.shape, *(population.shape for population in network.populations)]
    values = steps * sum(prod(shape) for shape in sizes)
    return min(max(MOST_VALUES // values, LEAST_SAMPLES), MOST_SAMPLES)


def _module_in_memory(source: Any) -> nn.Module:
    module: nn.Module = source
    devices = {str(parameter.device) for parameter in module.parameters()} - {"cpu"}
    if devices:
        raise BadRequestError(
            f"{type(module).__name__}: lies on {', '.join(sorted(devices))}; give module.cpu()"
        )
    return module


@contextmanager
def _kept(module: nn.Module) -> Iterator[None]:
    """Leave the caller's module as it was.

    Tracing sets it to eval mode, and snntorch's neurons with `init_hidden` keep their state.
    """
    before = [(part, dict(vars(part)), dict(part._buffers)) for part in module.modules()]
    try:
        yield
    finally:
        for part, attributes, buffers in before:
            own = vars(part)
            own.clear()
            own.update(attributes)
            own["_buffers"].clear()
            own["_buffers"].update(buffers)


def _provenance(export: Export, content: bytes | None = None) -> dict[str, str]:
    """Where a network comes from; `content` is what was read of its file."""
    path = export.request.path
    if path is None:
        return {"source": f"{export.name} in memory", "mtspark": __version__}
    texts = {"source": path.name, "mtspark": __version__}
    if content is not None:
        texts["source_sha256"] = hashlib.sha256(content).hexdigest()
    return texts


def _content(path: Path) -> bytes:
    """The bytes that are parsed, hashed and kept, read once."""
    return read_whole(path, current_policy().limits)


def _check_steps(request: ExportRequest, attempt: Callable[[Shape, int | None], Traced]) -> None:
    """Refuse a number of steps that a sample's series contradict, where nothing else is wrong.

    Raises:
        BadRequestError: without that number the module runs on them.
    """
    sample, asked = request.sample, request.time_steps
    if sample is None or asked is None:
        return
    known = layouts(
        sample.shape,
        request.input_shape,
        None,
        graded=is_graded(sample),
        batch_first=request.batch_first,
    )
    for layout in known:
        if layout.time_steps in (None, asked):
            continue
        try:
            attempt(layout.shape, layout.time_steps)
        except BadNetworkError:
            continue
        raise BadRequestError(
            f"--time-steps {asked}: {request.sample_name} has shape {sample.shape}, of which the "
            f"network takes {layout.shape} in each of {layout.time_steps} steps; leave the option "
            f"out, or give inputs of {asked} steps, or frames of the network's own shape"
        )
