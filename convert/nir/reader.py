"""Any NIR graph, by any tool, as one float network, or one line that says why not.

ImportOptions settle what NIR does not store (time step, integrator, reset); the network's notes
list what was chosen. Metadata that mtspark itself wrote into the file precede the options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np

from mtspark.convert.linear import Scale
from mtspark.convert.nir.file import METADATA, read_nir_here
from mtspark.convert.nir.graph import FlatGraph, flatten_graph, shape_behind
from mtspark.convert.nir.loops import break_loops, computing_order
from mtspark.convert.nir.neurons import (
    NEURONS,
    Choices,
    ImportOptions,
    Order,
    choose,
    population_of,
)
from mtspark.convert.nir.nodes import Effect, fit, linear_effect, shape_of, size
from mtspark.convert.nir.signals import Signal, connections_of, through, total
from mtspark.core.arrays import Floats
from mtspark.core.chip_network import INPUT
from mtspark.core.errors import BadNetworkError, BadRequestError, one_line
from mtspark.core.files import AnyPath, FileLimits, read_guarded
from mtspark.core.float_network import (
    CONSTANT,
    FloatInput,
    FloatNetwork,
    FloatOutput,
    FloatPopulation,
    FloatReset,
    OutputKind,
    check_float_limits,
    check_float_network,
    float_network_from_plain,
    float_network_to_plain,
    leaky_population,
    merge_tasks,
)
from mtspark.core.geometry import Shape


def import_nir(
    path: AnyPath,
    options: ImportOptions | None = None,
    *,
    name: str | None = None,
    limits: FileLimits | None = None,
    trust: bool | None = None,
    content: bytes | None = None,
) -> FloatNetwork:
    """Read an untrusted file: the whole import runs in a limited process.

    Args:
        path: of the file.
        options: what NIR does not store.
        name: of the network; default: the file's.
        limits, trust: see :func:`mtspark.core.files.sandbox.read_guarded`.
        content: the file's bytes where they have been read; then `path` only names them.

    Raises:
        BadFileError: not a readable NIR file, or a network over a limit.
        BadNetworkError: a graph that is not supported, naming the node.
        BadRequestError: an option that is not valid.
    """
    path = Path(path)

    def read(bounds: FileLimits) -> dict[str, Any]:
        network = _imported(path, options, name or path.stem, bounds, content)
        check_float_limits(network, bounds, str(path))
        return float_network_to_plain(network)

    return float_network_from_plain(read_guarded(str(path), read, limits, trust), str(path))


def import_nir_tasks(
    paths: Mapping[str, AnyPath],
    options: ImportOptions | None = None,
    name: str = "agent",
    *,
    contents: Mapping[str, bytes] | None = None,
) -> FloatNetwork:
    """Read a file for each task, as :func:`import_nir` does, and join them.

    Args:
        paths: by task.
        options: what NIR does not store.
        name: of the network.
        contents: the files' bytes by task, where they have been read.

    Raises:
        BadFileError, BadNetworkError, BadRequestError: see :func:`import_nir`; or two tasks
            differ in more than thresholds.
    """
    networks = [
        import_nir(path, options, name=name, content=None if contents is None else contents[task])
        for task, path in paths.items()
    ]
    return merge_tasks(networks, list(paths))


def _imported(
    path: Path,
    options: ImportOptions | None,
    name: str,
    limits: FileLimits,
    content: bytes | None,
) -> FloatNetwork:
    graph, assumed = read_nir_here(path, limits, type_check=False, content=content)
    try:
        # Numbers at the ends of float64 may leave it here; what they become is refused later.
        with np.errstate(all="ignore"):
            network = import_graph(graph, options, name=name)
    except (BadNetworkError, BadRequestError) as error:
        raise type(error)(f"{path}: {error}") from error
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        # A parameter of a shape or kind that no node has; nir checks few of them.
        raise BadNetworkError(
            f"{path}: a node's parameter is malformed ({type(error).__name__}: {one_line(error)})"
        ) from error
    return replace(network, notes=(*network.notes, *assumed))


def import_tasks(
    graphs: Mapping[str, nir.NIRGraph], options: ImportOptions | None = None, name: str = "agent"
) -> FloatNetwork:
    """Join the graphs of several tasks, which differ in thresholds only.

    Args:
        graphs: by task.
        options: what NIR does not store.
        name: of the network.

    Raises:
        BadNetworkError: they differ elsewhere, or see :func:`import_graph`.
    """
    networks = [import_graph(graph, options, name=name) for graph in graphs.values()]
    return merge_tasks(networks, list(graphs))


def import_graph(
    graph: nir.NIRGraph, options: ImportOptions | None = None, *, name: str = "graph"
) -> FloatNetwork:
    """Turn a graph in memory into a float network.

    Args:
        graph: its nodes may have shapes that nir does not check.
        options: what NIR does not store.
        name: of the network.

    Raises:
        BadNetworkError: a node, a shape or a loop that is not supported, in one line.
        BadRequestError: an option that is not valid.
    """
    options = options or ImportOptions()
    own = graph.metadata.get(METADATA) if isinstance(graph.metadata, dict) else None
    own = own if isinstance(own, dict) else {}
    choices, notes = choose(options, own)
    asked = own.get("input_shape", options.input_shape)
    flat = flatten_graph(graph, options.output)
    for node_name in choices.resets:
        if node_name not in flat.nodes:
            raise BadNetworkError(f"a reset is given for {node_name!r}, which is no node")
    shapes = signal_shapes(flat, choices.dt, None if asked is None else shape_of(asked))
    notes += [*flat.notes, *_contradictions(flat, shapes)]
    notes += [
        f"{one}: declares one value behind neurons of one number each; takes {shapes[one]}"
        for one in sorted(flat.open & set(flat.nodes))
        if size(shapes[one]) > 1
    ]
    names = _population_names(flat)
    populations: dict[str, FloatPopulation] = {}
    for node_name, short in names.items():
        node = flat.nodes[node_name]
        population, remarks = population_of(node_name, node, shapes[node_name], choices)
        populations[short] = replace(population, name=short)
        notes += remarks
    signals = _signals(flat, shapes, names, choices)
    arriving: dict[str, Signal] = {}
    for node_name, short in names.items():
        arriving[short] = total(signals, flat.sources[node_name], shapes[node_name])
        deaf = populations[short].gain == 0
        if deaf.any():
            # A chip has no gain of 0, but weights of 0: an infinite tau, or an r of 0.
            mask = Effect(Scale(np.where(deaf, 0.0, 1.0).reshape(-1)), None, shapes[node_name])
            arriving[short] = through(mask, arriving[short])
            gain = np.where(deaf, 1.0, populations[short].gain)
            populations[short] = replace(populations[short], gain=gain)
            notes.append(f"{node_name}: {int(deaf.sum())} neurons hear nothing (r dt / tau is 0)")
    output = _output(flat, signals, shapes, populations, arriving)
    if choices.stateful and output.kind is OutputKind.MEAN:
        # Over the one step of a decision, the mean is what arrives.
        read = populations[output.population]
        populations[read.name] = replace(read, membrane_keep=np.zeros(read.shape))
        output = FloatOutput(read.name, OutputKind.MEMBRANE)
    loops = break_loops(arriving)
    notes += loops.notes
    if choices.order is Order.MEMBRANE_FIRST:
        # The step between current and membrane comes on top of what a loop takes.
        for node_name, short in names.items():
            if isinstance(flat.nodes[node_name], (nir.CubaLI, nir.CubaLIF)):
                arriving[short] = arriving[short].later(1)
                loops = loops.later(short)
    order = computing_order(arriving, loops)
    network = FloatNetwork(
        name=name,
        input=FloatInput(shapes[flat.input], choices.input_scale, bool(choices.input_signed)),
        populations=tuple(_with_bias(populations[one], arriving[one]) for one in order),
        connections=tuple(
            link for one in order for link in connections_of(one, arriving[one], loops.notional)
        ),
        output=output,
        dt=choices.dt,
        time_steps=choices.time_steps or int(bool(choices.stateful)),
        stateful=bool(choices.stateful),
        notes=(_summary(choices, flat, populations), *notes),
    )
    check_float_network(network)
    return network


def signal_shapes(flat: FlatGraph, dt: float, asked: Shape | None = None) -> dict[str, Shape]:
    """Work out the shape of what every node sends, from the input on.

    Args:
        flat: the graph.
        dt: time step, for delays.
        asked: shape of the input that the user gave.

    Raises:
        BadNetworkError: a shape that does not fit, or an input without one.
    """
    shapes: dict[str, Shape] = {flat.input: _input_shape(flat, asked)}
    changed = True
    while changed:
        changed = False
        for name, node in flat.nodes.items():
            if name in shapes:
                continue
            known = [shapes[source] for source in flat.sources[name] if source in shapes]
            if not known:
                continue
            try:
                effect = linear_effect(name, node, known[0], dt)
            except BadNetworkError as error:
                if asked is None and _is_flat_image(flat, name, known[0]):
                    raise BadNetworkError(f"{error}{_GIVE_SHAPE}") from error
                raise
            if effect is not None:
                shapes[name] = effect.shape
            elif isinstance(node, NEURONS):
                shapes[name] = _neuron_shape(name, node, known[0])
            else:
                raise BadNetworkError(
                    f"node {name!r} is a {type(node).__name__}, which is not supported"
                )
            changed = True
    for name in flat.nodes:
        if name not in shapes:
            raise BadNetworkError(f"node {name!r}: its shape cannot be worked out")
        for source in flat.sources[name][1:]:
            fit(name, shapes[source], shapes[flat.sources[name][0]])
    return shapes


_GIVE_SHAPE = "; if these are the values of an image, give --input-shape CHANNELS,ROWS,COLUMNS"


def _is_flat_image(flat: FlatGraph, name: str, arriving: Shape) -> bool:
    """Whether a node wants images and gets the input, whose shape may only lack their axes."""
    node = flat.nodes[name]
    if not isinstance(node, (nir.Conv2d, nir.SumPool2d, nir.AvgPool2d)):
        return False
    channels = _channels(node)
    if len(arriving) > 2 or size(arriving) not in arriving or size(arriving) % channels:
        return False
    while name != flat.input:
        sources = flat.sources[name]
        if len(sources) != 1 or not (sources[0] == flat.input or _any_shape(flat, sources[0])):
            return False
        name = sources[0]
    return True


def _channels(node: nir.NIRNode) -> int:
    """Channels of the image that a node takes, 1 where any number will do."""
    if not isinstance(node, (nir.Conv1d, nir.Conv2d)):
        return 1
    return max(1, int(np.shape(node.weight)[1] * np.ravel(node.groups)[0]))


def _any_shape(flat: FlatGraph, name: str) -> bool:
    """Whether what a node sends has the shape of what arrives, whatever that is."""
    node = flat.nodes[name]
    if isinstance(node, NEURONS):
        return size(_own_shape(node)) == 1
    return isinstance(node, (nir.Scale, nir.Delay)) or name in flat.open


def _input_shape(flat: FlatGraph, asked: Shape | None) -> Shape:
    node = flat.nodes[flat.input]
    declared = node.input_type.get("input") if node.input_type else None
    shape = shape_of(declared) if declared is not None and np.size(declared) else ()
    if size(shape) == 1:
        # Neurons of one number each, and an end in front of them, leave it to what follows.
        behind = shape_behind(flat, flat.input, beyond=bool(shape))
        if behind and size(behind) > 1:
            if shape:
                flat.notes.append(
                    f"{flat.input}: declares one value in front of neurons of one number each; "
                    f"takes {behind}"
                )
            shape = behind
    if asked is not None:
        if shape and size(shape) != size(asked):
            raise BadNetworkError(f"input {flat.input!r} has shape {shape}, not {asked}")
        shape = asked
    if not shape:
        raise BadNetworkError(
            f"nothing says the shape of the input in front of {', '.join(flat.targets(flat.input))}"
            "; give it, --input-shape CHANNELS,ROWS,COLUMNS"
        )
    if min(shape) < 1:
        raise BadNetworkError(f"input {flat.input!r} has shape {shape}")
    return shape


def _neuron_shape(name: str, node: nir.NIRNode, arriving: Shape) -> Shape:
    """A neuron's own shape where it has one of that size, otherwise that of the signal."""
    own = _own_shape(node)
    return fit(name, arriving, own) if own and size(own) == size(arriving) else arriving


def _own_shape(node: nir.NIRNode) -> Shape:
    keys = ("v_threshold", "threshold", "r")
    return next(np.shape(getattr(node, key)) for key in keys if hasattr(node, key))


def _contradictions(flat: FlatGraph, shapes: dict[str, Shape]) -> list[str]:
    """Sentences on shapes that nodes declare, and that are not those that arrive."""
    notes = []
    for name, node in flat.nodes.items():
        if name == flat.input:
            continue
        arriving = shapes[flat.sources[name][0]]
        if isinstance(node, (nir.Conv1d, nir.Conv2d)) and node.input_shape is not None:
            declared = shape_of(node.input_shape)[-1 if isinstance(node, nir.Conv1d) else -2 :]
            # Rows and columns alone; of an image in one line they say which they are.
            differs = size(declared) * _channels(node) != size(arriving)
            differs |= size(arriving) not in arriving and arriving[-len(declared) :] != declared
        elif isinstance(node, nir.Flatten):
            taken = (node.input_type or {}).get("input")
            declared = () if taken is None or not np.size(taken) else shape_of(taken)
            differs = bool(declared) and size(declared) != size(arriving)
        else:
            continue
        if differs:
            notes.append(f"{name}: declares an input of {declared}; takes {arriving}, what arrives")
    return notes


def _population_names(flat: FlatGraph) -> dict[str, str]:
    """The population's name of every neuron node: the node's own.

    Neurons "x_lif" after a node "x" get the name "x", since agent.py writes them so.
    """
    names: dict[str, str] = {}
    for name, node in flat.nodes.items():
        if isinstance(node, NEURONS):
            short = name.removesuffix("_lif")
            names[name] = _free(short if short in flat.sources[name] else name, names.values())
    return names


def _free(name: str, taken: Any) -> str:
    while name in (INPUT, CONSTANT) or name in taken:
        name += "_"
    return name


def _signals(
    flat: FlatGraph, shapes: dict[str, Shape], names: dict[str, str], choices: Choices
) -> dict[str, Signal]:
    """Express what every node sends as maps of what populations and the input send."""
    signals = {name: Signal.of(short, size(shapes[name])) for name, short in names.items()}
    signals[flat.input] = Signal.of(INPUT, size(shapes[flat.input]))
    waiting = [name for name in flat.nodes if name not in signals]
    while waiting:
        ready = [n for n in waiting if all(source in signals for source in flat.sources[n])]
        if not ready:
            raise BadNetworkError(
                f"loop without neurons through {', '.join(waiting[:5])}: nothing bounds it; put "
                "neurons or remove an edge"
            )
        for name in ready:
            arriving = shapes[flat.sources[name][0]]
            effect = linear_effect(name, flat.nodes[name], arriving, choices.dt)
            if effect is None:
                raise BadNetworkError(f"node {name!r} is not linear")
            try:
                signals[name] = through(effect, total(signals, flat.sources[name], arriving))
            except BadNetworkError as error:
                raise BadNetworkError(f"node {name!r}: {error}") from error
        waiting = [name for name in waiting if name not in signals]
    return signals


def _output(
    flat: FlatGraph,
    signals: dict[str, Signal],
    shapes: dict[str, Shape],
    populations: dict[str, FloatPopulation],
    arriving: dict[str, Signal],
) -> FloatOutput:
    """The population to read: one that is there, or a new one that sums what arrives."""
    final = signals[flat.output]
    direct = final.population()
    if direct is not None and direct in populations:
        spiking = populations[direct].spiking
        return FloatOutput(direct, OutputKind.SPIKES if spiking else OutputKind.MEMBRANE)
    sources = flat.sources[flat.output]
    name = sources[0] if len(sources) == 1 and sources[0] != flat.input else "output"
    name = _free(name, populations)
    shape = shapes[flat.output]
    populations[name] = leaky_population(name, shape, membrane_keep=1.0, reset=FloatReset.NONE)
    arriving[name] = final
    return FloatOutput(name, OutputKind.MEAN)


def _with_bias(population: FloatPopulation, arriving: Signal) -> FloatPopulation:
    bias: Floats | None = arriving.constants.get(0)
    if bias is None:
        return population
    return replace(population, bias_current=bias.reshape(population.shape).copy())


def _summary(choices: Choices, flat: FlatGraph, populations: Mapping[str, FloatPopulation]) -> str:
    """The choices that matter for this graph, on one line."""
    kinds = {type(node) for node in flat.nodes.values()}
    parts = [f"dt {choices.dt:g}"]
    if kinds & {nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF}:
        parts.append(f"integrator {choices.integrator.value}")
    resets = sorted({p.reset.value for p in populations.values() if p.spiking})
    if resets:
        parts.append(f"reset {', '.join(resets)}")
    if kinds & {nir.CubaLI, nir.CubaLIF}:
        parts.append(choices.order.value)
    parts.append(f"a spike {'at or ' if choices.fires_at_threshold else ''}above the threshold")
    return "; ".join(parts)
