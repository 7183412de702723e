"""Random NIR graphs that use every node: branches, loops, delays, subgraphs, odd geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

Edge = tuple[str, str]
HIDDEN, OUT = 5, 3


@dataclass(frozen=True)
class RandomGraph:
    """A graph, the edges that close loops, and node names of neurons (as importer names)."""

    graph: nir.NIRGraph
    late: tuple[Edge, ...]
    neurons: tuple[str, ...]
    shape: tuple[int, ...]
    kind: str


class Builder:
    """Draws nodes. `exact`: numbers that the chip's integers can hold without any rounding."""

    def __init__(self, seed: int, exact: bool, subtract: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.exact, self.subtract = exact, subtract

    def weights(self, *shape: int) -> Any:
        if not self.exact:
            return self.rng.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape)
        values = 2.0 * self.rng.integers(-40, 60, shape)
        # The largest weight of the layer is the end of the chip's grid: the unit is 1.
        values.flat[self.rng.integers(values.size)] = 254.0
        return values

    def bias(self, size: int) -> Any:
        if self.exact:
            return self.rng.integers(-20, 20, size).astype(float)
        return self.rng.normal(0, 0.2, size)

    def pick(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def spread(self, shape: tuple[int, ...], low: float, high: float) -> Any:
        return self.rng.uniform(low, high, shape)

    def neuron(self, shape: tuple[int, ...], kind: str) -> nir.NIRNode:
        ones = np.ones(shape)
        if self.exact:
            threshold = ones * self.rng.integers(60, 300, shape)
            if kind == "IF":
                return nir.IF(r=ones, v_threshold=threshold, v_reset=0 * ones)
            if kind == "Threshold":
                return nir.Threshold(threshold=threshold)
            half = {"v_leak": 0 * ones, "v_threshold": threshold, "v_reset": 0 * ones}
            if kind == "LIF":
                return nir.LIF(tau=2 * ones, r=2 * ones, **half)
            return nir.CubaLIF(
                tau_syn=2 * ones, tau_mem=2 * ones, r=2 * ones, w_in=2 * ones, **half
            )
        threshold = self.spread(shape, 0.2, 0.8)
        leak = self.pick(0.0, 0.1) * self.rng.normal(0, 1, shape)
        reset = 0.0 if self.subtract else self.pick(0.0, 0.1)
        states = {"v_threshold": threshold, "v_reset": reset * self.rng.normal(0, 1, shape)}
        if kind == "IF":
            return nir.IF(r=self.spread(shape, 0.3, 1.2), **states)
        if kind == "Threshold":
            return nir.Threshold(threshold=threshold)
        gain = self.spread(shape, 1, 4)
        if kind == "LIF":
            return nir.LIF(tau=self.spread(shape, 1.5, 9), r=gain, v_leak=leak, **states)
        return nir.CubaLIF(
            tau_syn=self.spread(shape, 1.2, 6),
            tau_mem=self.spread(shape, 1.5, 9),
            r=gain,
            w_in=self.spread(shape, 0.5, 2),
            v_leak=leak,
            **states,
        )

    def integrator(self, shape: tuple[int, ...]) -> nir.NIRNode:
        """Neurons that never fire."""
        kind = "I" if self.exact else self.pick("I", "LI", "CubaLI")
        if kind == "I":
            return nir.I(r=np.ones(shape))
        leak = {"r": self.spread(shape, 1, 2), "v_leak": self.spread(shape, -0.1, 0.1)}
        if kind == "LI":
            return nir.LI(tau=self.spread(shape, 2, 5), **leak)
        return nir.CubaLI(
            tau_syn=self.spread(shape, 1.2, 6),
            tau_mem=self.spread(shape, 2, 5),
            w_in=self.spread(shape, 0.5, 2),
            **leak,
        )

    def image_layers(self, nodes: dict[str, Any]) -> tuple[int, ...]:
        """Convolutions and pooling on (2, 5, 6); returns their shape."""
        groups = self.pick(1, 2)
        taps = (int(self.rng.integers(1, 4)), int(self.rng.integers(1, 4)))
        same = self.pick(True, False)
        settings: dict[str, Any] = {"stride": (1, 1), "padding": "same"}
        if not same:
            settings = {"stride": (int(self.rng.integers(1, 3)), 1), "padding": (1, 2)}
        dilation = (1, int(self.rng.integers(1, 3)))
        nodes["conv"] = nir.Conv2d(
            input_shape=(5, 6),
            weight=self.weights(4, 2 // groups, *taps),
            dilation=dilation,
            groups=groups,
            bias=self.bias(4),
            **settings,
        )
        rows, columns = 5, 6
        if not same:
            rows = (5 + 2 - taps[0]) // settings["stride"][0] + 1
            columns = 6 + 4 - dilation[1] * (taps[1] - 1)
        return 4, rows, columns


def random_graph(seed: int, *, exact: bool = False, subtract: bool = False) -> RandomGraph:
    """Image, neurons, then dense neurons with a loop, a skip around them, and an end."""
    build = Builder(seed, exact, subtract)
    nodes: dict[str, Any] = {"input": nir.Input(input_type={"input": np.array([2, 5, 6])})}
    edges: list[Edge] = []
    shape = build.image_layers(nodes)
    edges.append(("input", "conv"))
    last = "conv"
    if not exact and build.pick(True, False):
        nodes["scale"] = nir.Scale(scale=build.spread(shape, 0.5, 1.5))
        edges.append((last, "scale"))
        last = "scale"
    kinds = ("IF", "LIF", "CubaLIF", "Threshold") if not exact else ("IF", "LIF", "Threshold")
    nodes["first"] = build.neuron(shape, build.pick(*kinds))
    edges.append((last, "first"))
    last = "first"
    if build.pick(True, False):
        pool = nir.SumPool2d if exact or build.pick(True, False) else nir.AvgPool2d
        # Windows that overlap would add weights up, beyond what the grid holds exactly.
        stride = 2 if exact else 1
        nodes["pool"] = pool(
            kernel_size=np.array([2, 2]), stride=np.array([2, stride]), padding=np.array([0, 0])
        )
        edges.append((last, "pool"))
        shape = (4, (shape[1] - 2) // 2 + 1, (shape[2] - 2) // stride + 1)
        last = "pool"
    nodes["flatten"] = nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)
    edges.append((last, "flatten"))
    size = int(np.prod(shape))
    nodes["dense"] = nir.Affine(weight=build.weights(HIDDEN, size), bias=build.bias(HIDDEN))
    edges.append(("flatten", "dense"))
    entry = "dense"
    if build.pick(True, False):
        nodes["delay"] = nir.Delay(delay=build.rng.integers(0, 3, HIDDEN).astype(float))
        edges.append(("dense", "delay"))
        entry = "delay"
    kind = build.pick("LIF", "CubaLIF", "IF")
    hidden = build.neuron((HIDDEN,), kind)
    loop = nir.Affine(weight=build.weights(HIDDEN, HIDDEN), bias=build.bias(HIDDEN))
    late: tuple[Edge, ...]
    if build.pick(True, False):
        ends = {
            "input": nir.Input(input_type={"input": np.array([HIDDEN])}),
            "output": nir.Output(output_type={"output": np.array([HIDDEN])}),
        }
        nodes["cell"] = nir.NIRGraph(
            nodes={**ends, "lif": hidden, "w_rec": loop},
            edges=[("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
            type_check=False,
        )
        late, exit_node, neuron = (("cell.w_rec", "cell.lif"),), "cell", "cell.lif"
        edges.append((entry, "cell"))
    else:
        nodes["second"], nodes["w_rec"] = hidden, loop
        edges += [(entry, "second"), ("second", "w_rec"), ("w_rec", "second")]
        late, exit_node, neuron = (("w_rec", "second"),), "second", "second"
    nodes["skip"] = nir.Linear(weight=build.weights(OUT, size))
    nodes["head"] = nir.Affine(weight=build.weights(OUT, HIDDEN), bias=build.bias(OUT))
    edges += [("flatten", "skip"), (exit_node, "head")]
    end = build.pick("spikes", "membrane", "current")
    neurons = ["first", neuron]
    if end == "spikes":
        nodes["last"] = build.neuron((OUT,), "IF" if exact else build.pick("IF", "LIF", "CubaLIF"))
        edges += [("skip", "last"), ("head", "last"), ("last", "output")]
        neurons.append("last")
    elif end == "membrane":
        nodes["last"] = build.integrator((OUT,))
        edges += [("skip", "last"), ("head", "last"), ("last", "output")]
    else:
        edges += [("skip", "output"), ("head", "output")]
    nodes["output"] = nir.Output(output_type={"output": np.array([OUT])})
    graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
    return RandomGraph(graph, late, tuple(neurons), (2, 5, 6), end)
