"""Open the subgraphs of a NIR graph: nodes by dotted name, edges, one input, one output."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

from mtspark.core.arrays import AnyArray
from mtspark.core.errors import BadNetworkError

SELECTED = 2**25
"""Largest matrix that picks one of several inputs out of their join."""

IMPLICIT = {"input": nir.Input, "output": nir.Output}
"""Names that stand for the ends of a subgraph in files that leave those nodes out."""


@dataclass
class FlatGraph:
    """Nodes and edges without subgraphs.

    Attributes:
        nodes: by name; a node of subgraph "a" is called "a.name". The ends of subgraphs, which
            only pass values on, are nodes of type Input and Output too.
        sources: of every node, the nodes that lead to it, in the file's order.
        input, output: names of the two ends of the whole graph.
        notes: decisions, for the user, one sentence each.
        open: ends that declare one value behind neurons of one number each, which says nothing.
    """

    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)
    input: str = ""
    output: str = ""
    notes: list[str] = field(default_factory=list)
    open: set[str] = field(default_factory=set)

    def targets(self, name: str) -> list[str]:
        """Nodes that a node leads to."""
        return [target for target, sources in self.sources.items() if name in sources]


def flatten_graph(graph: nir.NIRGraph, output: str | None = None) -> FlatGraph:
    """Open all subgraphs and find the ends.

    Args:
        graph: of any depth.
        output: name of the output node to keep where there are several.

    Raises:
        BadNetworkError: ends that are missing or more than one, edges that lead nowhere or are
            listed twice, nodes that nothing reaches.
    """
    flat = FlatGraph()
    edges: list[tuple[str, str]] = []
    ends = _open(graph, "", flat, edges)
    if len(set(edges)) < len(edges):
        twice = next(edge for edge in edges if edges.count(edge) > 1)
        raise BadNetworkError(f"edge {twice[0]!r} to {twice[1]!r} is listed twice")
    for name in flat.nodes:
        flat.sources[name] = [source for source, target in edges if target == name]
    _split_input_weights(flat)
    flat.output = _only("output", ends[1], output)
    flat.input = _joined(flat, ends[0])
    _open_ends(flat)
    _prune(flat, set(ends[1]))
    return flat


def _split_input_weights(flat: FlatGraph) -> None:
    """Put input weights that are a matrix in front of their neurons, as a Linear node.

    The current's equation is linear in w_in S, so w_in as a matrix weighs what arrives.
    """
    for name, node in list(flat.nodes.items()):
        if not isinstance(node, (nir.CubaLI, nir.CubaLIF)):
            continue
        weights, like = np.asarray(node.w_in), np.asarray(node.v_leak)
        if weights.shape == like.shape and _line_is_matrix(flat, name, weights):
            # A file's neurons take the shape that all of their parameters have in common.
            node = _of_shape(node, weights.shape[:1])
            like = np.asarray(node.v_leak)
        elif weights.ndim != 2 or weights.shape == like.shape or len(weights) != like.size:
            continue
        before = f"{name}.w_in"
        while before in flat.nodes:
            before += "_"
        neurons = copy(node)
        neurons.w_in = np.ones(like.shape)
        neurons.input_type = {"input": np.array(like.shape)}
        flat.nodes |= {before: nir.Linear(weights), name: neurons}
        flat.sources |= {before: flat.sources[name], name: [before]}
        rows, columns = weights.shape
        flat.notes.append(f"{name}: w_in is a matrix ({rows} x {columns}), in front of its neurons")


def _line_is_matrix(flat: FlatGraph, name: str, weights: AnyArray) -> bool:
    """Whether weights of shape (n, 1) or (1, n) are a matrix, and not one number a neuron.

    Both have as many values. Weights of one input do where one value arrives, and those of one
    neuron where n arrive and what follows takes one; one number a neuron would then not fit.
    """
    if weights.ndim != 2 or 1 not in weights.shape or weights.size == 1:
        return False
    arriving = {_sent(flat.nodes[source]) for source in flat.sources[name]}
    if weights.shape[1] == 1:
        return arriving == {1}
    taken = [taken_shape(flat.nodes[target]) for target in flat.targets(name)]
    wanted = {int(np.prod(shape)) for shape in taken if shape is not None and np.size(shape)}
    return arriving == {weights.size} and wanted == {1} and _alike(flat.nodes[name])


def _sent(node: nir.NIRNode) -> int | None:
    """Number of values that a node says it sends."""
    sent = (node.output_type or {}).get("output")
    return int(np.prod(sent)) if sent is not None and np.size(sent) else None


def _alike(node: nir.NIRNode) -> bool:
    """Whether all neurons of a node have the same parameters, and may be only one."""
    keys = ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset")
    values = (np.asarray(getattr(node, key)) for key in keys if hasattr(node, key))
    return all(np.all(value == value.flat[0]) for value in values)


def _of_shape(node: nir.NIRNode, shape: tuple[int, ...]) -> nir.NIRNode:
    """The same neurons in another shape: as many, or the first of those that are alike."""
    changed, count = copy(node), int(np.prod(shape))
    for key in ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset"):
        if hasattr(node, key):
            setattr(changed, key, np.ravel(getattr(node, key))[:count].reshape(shape))
    changed.output_type = {"output": np.array(shape)}
    return changed


def _joined(flat: FlatGraph, names: list[str]) -> str:
    """The one input of the graph: several that lead to the output become parts of one."""
    leading = _reached([flat.output], flat.sources)
    used = [name for name in names if name in leading]
    if len(used) < 2:
        return _input_before(flat, _only("input", used or names, None))
    names = [_input_before(flat, name) for name in used]
    shapes = {}
    for name in names:
        shape = tuple(int(length) for length in np.ravel(declared_input(flat, name)))
        if not shape or min(shape) < 1:
            raise BadNetworkError(
                f"{len(names)} inputs ({', '.join(names)}) are joined in one, and nothing says the "
                f"shape of {name!r}; write the file again with that shape in its Input node"
            )
        shapes[name] = shape
    # Images of one size are joined by their channels, so that convolutions stay such.
    images = all(len(shape) == 3 for shape in shapes.values())
    images = images and len({shape[1:] for shape in shapes.values()}) == 1
    per_channel = int(np.prod(shapes[names[0]][1:])) if images else 1
    counts = [int(np.prod(shape)) // per_channel for shape in shapes.values()]
    total = sum(counts)
    if max(counts) * total > SELECTED:
        raise BadNetworkError(
            f"{len(names)} inputs ({', '.join(names)}) of {total} values are too many to join; "
            "join them before the network, in one Input node"
        )
    rows = shapes[names[0]][1:] if images else ()
    joint = _free_name(flat, "input")
    for name, start, count in zip(names, np.cumsum([0, *counts]), counts, strict=False):
        chosen = np.eye(total)[start : start + count]
        part = _free_name(flat, f"{name}.part")
        flat.nodes[part] = (
            nir.Conv2d(rows, chosen[:, :, None, None], 1, 0, 1, 1, np.zeros(count))
            if images
            else nir.Linear(chosen)
        )
        flat.sources |= {part: [joint], name: [part]}
    shape = (total, *rows)
    flat.nodes = {joint: nir.Input({"input": np.array(shape)}), **flat.nodes}
    flat.sources = {joint: [], **flat.sources}
    told = ", ".join(f"{name!r} {shapes[name]}" for name in names)
    flat.notes.append(f"{len(names)} inputs are joined in one of shape {shape}, in order: {told}")
    return joint


def declared_input(flat: FlatGraph, name: str) -> Any:
    """The shape of an input as it says it, or as a node behind it does; else nothing."""
    for node in (flat.nodes[name], *(flat.nodes[target] for target in flat.targets(name))):
        taken = taken_shape(node)
        if taken is not None and np.size(taken):
            return taken
    return ()


def shape_behind(flat: FlatGraph, name: str, *, beyond: bool) -> tuple[int, ...]:
    """The shape that nodes behind an input take; empty where none says it.

    Args:
        flat: the graph.
        name: of the input.
        beyond: whether only nodes beyond neurons of one number each are asked.
    """
    waiting, seen = [(name, beyond)], {name}
    one: tuple[int, ...] = ()
    while waiting:
        here, skips = waiting.pop(0)
        for target in flat.targets(here):
            node = flat.nodes[target]
            open_end = _shapeless(node)
            taken = taken_shape(node)
            if not skips and not open_end and taken is not None and np.size(taken):
                return tuple(int(length) for length in np.ravel(taken))
            if open_end and target not in seen:
                seen.add(target)
                waiting.append((target, False))
                one = (1,)
    return () if beyond else one


def _open_ends(flat: FlatGraph) -> None:
    """Let ends take what arrives where the neurons before them have no shape of their own.

    Exporters of neurons with one number for all declare ends of one value behind them.
    """
    changed = True
    while changed:
        changed = False
        for name, node in list(flat.nodes.items()):
            sources = flat.sources[name]
            ends = isinstance(node, (nir.Input, nir.Output)) and name not in flat.open
            if not ends or not sources or np.prod(_declared(node)) != 1:
                continue
            if all(source in flat.open or _shapeless(flat.nodes[source]) for source in sources):
                flat.nodes[name] = type(node)({_KEY[type(node)]: None})
                flat.open.add(name)
                changed = True


_KEY = {nir.Input: "input", nir.Output: "output"}


def _declared(node: nir.NIRNode) -> tuple[int, ...]:
    taken = (node.input_type or {}).get("input")
    return (2,) if taken is None else tuple(int(length) for length in np.ravel(taken))


def _shapeless(node: nir.NIRNode) -> bool:
    """Whether one number holds for all values that go through a node."""
    kinds = (nir.I, nir.LI, nir.IF, nir.LIF, nir.CubaLI, nir.CubaLIF)
    if not isinstance(node, (*kinds, nir.Threshold, nir.Scale, nir.Delay)):
        return False
    return all(np.prod(length) == 1 for length in (node.output_type or {}).values())


def _free_name(flat: FlatGraph, name: str) -> str:
    while name in flat.nodes:
        name += "_"
    return name


def _input_before(flat: FlatGraph, first: str) -> str:
    """The input node of the graph; one is put in front of a first node that is none.

    `nir.read` does the same. The first node keeps acting: it must not stand for the input.
    """
    node = flat.nodes[first]
    if isinstance(node, nir.Input):
        return first
    name = "input"
    while name in flat.nodes:
        name += "_"
    flat.nodes = {name: nir.Input({"input": taken_shape(node)}), **flat.nodes}
    flat.sources = {name: [], **flat.sources}
    flat.sources[first] = [name, *flat.sources[first]]
    return name


def taken_shape(node: nir.NIRNode) -> Any:
    """The shape that a node says it takes, as nir has it; None or empty where it says none.

    Of a convolution with groups nir counts the channels of one group.
    """
    taken = (node.input_type or {}).get("input")
    if isinstance(node, (nir.Conv1d, nir.Conv2d)) and taken is not None and np.size(taken) > 1:
        channels = node.weight.shape[1] * int(np.ravel(node.groups)[0])
        return np.array([channels, *np.ravel(taken)[1:]])
    return taken


def _only(kind: str, names: list[str], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in names:
            raise BadNetworkError(f"no {kind} {wanted!r}; this graph has {', '.join(names)}")
        return wanted
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise BadNetworkError(
            f"{len(names)} {kind}s ({listed}), exactly 1 can be deployed"
            + ("" if names else f"; add a node {kind.capitalize()}")
            + ("; name one with --output-node" if kind == "output" and names else "")
        )
    return names[0]


def _open(
    graph: nir.NIRGraph, prefix: str, flat: FlatGraph, edges: list[tuple[str, str]]
) -> tuple[list[str], list[str]]:
    """Add the nodes and edges of one level; returns the names of its inputs and outputs."""
    where = f"subgraph {prefix[:-1]!r}" if prefix else "the graph"
    inside: dict[str, tuple[list[str], list[str]]] = {}
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            inside[name] = _open(node, f"{prefix}{name}.", flat, edges)
        else:
            flat.nodes[prefix + name] = node
    named = {end for edge in graph.edges for end in edge}
    for name, kind in IMPLICIT.items():
        if name in named and name not in graph.nodes and prefix:
            flat.nodes[prefix + name] = kind({name: None})
            flat.notes.append(f"{where} has edges to {name!r} but no such node: taken as its end")

    def ends_of(name: str, which: int) -> str:
        full = prefix + name
        if name in inside:
            inner_ends = inside[name][which]
            if len(inner_ends) != 1:
                kind = ("inputs", "outputs")[which]
                raise BadNetworkError(
                    f"subgraph {full!r} has {len(inner_ends)} {kind}, an edge needs exactly 1"
                )
            return inner_ends[0]
        if full in flat.nodes:
            return full
        raise BadNetworkError(f"{where} has an edge to {name!r}, which it does not contain")

    level = [(ends_of(source, 1), ends_of(target, 0)) for source, target in graph.edges]
    edges += level
    here = [prefix + name for name in (*graph.nodes, *IMPLICIT) if prefix + name in flat.nodes]
    inputs = [name for name in dict.fromkeys(here) if isinstance(flat.nodes[name], nir.Input)]
    outputs = [name for name in dict.fromkeys(here) if isinstance(flat.nodes[name], nir.Output)]
    return (
        inputs or _loose(graph, prefix, flat, level, inside, 0),
        outputs or _loose(graph, prefix, flat, level, inside, 1),
    )


def _loose(
    graph: nir.NIRGraph,
    prefix: str,
    flat: FlatGraph,
    level: list[tuple[str, str]],
    inside: dict[str, tuple[list[str], list[str]]],
    which: int,
) -> list[str]:
    """The nodes of a level that nothing leads to (0), or that lead nowhere (1): its ends."""
    taken = {edge[1 - which] for edge in level}
    ends: list[str] = []
    for name in graph.nodes:
        own = inside[name][which] if name in inside else [prefix + name]
        ends += [end for end in own if end not in taken]
    ends = ends or _ends_of_loops(flat, level, which)
    if len(ends) == 1:
        kind = ("input", "output")[which]
        place = ("in front of", "behind")[which]
        lacks = f"subgraph {prefix[:-1]!r} has no {kind} node: its" if prefix else ""
        flat.notes.append(f"{lacks or f'no {kind} node: the'} {kind} is {place} {ends[0]!r}")
    return ends


def _ends_of_loops(flat: FlatGraph, level: list[tuple[str, str]], which: int) -> list[str]:
    """Neurons of a loop at an end: only it leads to them (0), or they lead only into it (1)."""
    onwards: dict[str, list[str]] = {end: [] for edge in level for end in edge}
    back: dict[str, list[str]] = {end: [] for edge in level for end in edge}
    for source, target in level:
        onwards[source].append(target)
        back[target].append(source)
    along, against = (onwards, back) if which else (back, onwards)
    return [
        name
        for name in onwards
        if hasattr(flat.nodes[name], "v_threshold")
        and _reached([name], along) <= _reached([name], against)
    ]


def _prune(flat: FlatGraph, outputs: set[str]) -> None:
    """Leave out what does not lead to the output; refuse what the input does not reach."""
    leading = _reached([flat.output], flat.sources)
    left_out = [name for name in flat.nodes if name not in leading]
    if left_out:
        flat.notes.append(f"left out, as they do not lead to the output: {', '.join(left_out)}")
    targets: dict[str, list[str]] = {name: [] for name in flat.nodes}
    for name, sources in flat.sources.items():
        for source in sources:
            targets[source].append(name)
    reached = _reached([flat.input], targets)
    for name in leading:
        if name not in reached:
            raise BadNetworkError(
                f"node {name!r} leads to the output but the input does not reach it"
            )
        if not flat.sources[name] and name != flat.input:
            raise BadNetworkError(f"node {name!r} has no incoming edge")
    if flat.input not in leading:
        raise BadNetworkError("the input does not lead to the output")
    flat.nodes = {name: node for name, node in flat.nodes.items() if name in leading}
    flat.sources = {
        name: [source for source in flat.sources[name] if source in leading] for name in flat.nodes
    }
    passed = outputs & set(flat.nodes) - {flat.output}
    if passed:
        raise BadNetworkError(f"output {sorted(passed)[0]!r} leads on to other nodes")


def _reached(start: list[str], following: dict[str, list[str]]) -> set[str]:
    reached, waiting = set(start), list(start)
    while waiting:
        for name in following[waiting.pop()]:
            if name not in reached:
                reached.add(name)
                waiting.append(name)
    return reached
