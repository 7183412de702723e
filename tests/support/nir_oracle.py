"""An oracle of NIR graphs in plain Python: one number at a time, one node after another.

Shares no code with mtspark: no arrays in the arithmetic, no maps, no composition. A graph runs
in steps; an edge listed in `late` carries what its source gave in the step before.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import nir
import numpy as np

Edge = tuple[str, str]


def flat(graph: nir.NIRGraph, prefix: str = "") -> tuple[dict[str, Any], list[Edge]]:
    """Nodes and edges with subgraphs opened; their Input and Output nodes stay as they are."""
    nodes: dict[str, Any] = {}
    edges: list[Edge] = []
    inner = {name for name, node in graph.nodes.items() if isinstance(node, nir.NIRGraph)}
    for name, node in graph.nodes.items():
        if name in inner:
            below, links = flat(node, f"{prefix}{name}.")
            nodes.update(below)
            edges += links
        else:
            nodes[prefix + name] = node
    for source, target in graph.edges:
        first = f"{prefix}{source}.output" if source in inner else prefix + source
        second = f"{prefix}{target}.input" if target in inner else prefix + target
        edges.append((first, second))
    return nodes, edges


class Oracle:
    """Runs one series (T, *shape) from rest; results by node: lists of flat lists."""

    def __init__(
        self,
        graph: nir.NIRGraph,
        *,
        dt: float = 1.0,
        integrator: str = "euler",
        reset: str = "zero",
        membrane_first: bool = False,
        late: tuple[Edge, ...] = (),
    ) -> None:
        self.nodes, self.edges = flat(graph)
        self.dt, self.integrator, self.reset = dt, integrator, reset
        self.membrane_first, self.late = membrane_first, set(late)

    def run(self, series: np.ndarray) -> dict[str, list[list[float]]]:
        self.given: dict[str, list[list[float]]] = {name: [] for name in self.nodes}
        self.heard: dict[str, list[list[float]]] = {name: [] for name in self.nodes}
        self.state: dict[str, list[dict[str, float]]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {"input": series.shape[1:]}
        for step, values in enumerate(series):
            done = {"input"}
            self.given["input"].append([float(value) for value in values.ravel()])
            while len(done) < len(self.nodes):
                for name in self.nodes:
                    before = [s for s, t in self.edges if t == name and (s, t) not in self.late]
                    if name not in done and all(source in done for source in before):
                        self.given[name].append(self._step(name, step))
                        done.add(name)
        return self.given

    def _step(self, name: str, step: int) -> list[float]:
        total: list[float] | None = None
        shape: tuple[int, ...] = ()
        for source, target in self.edges:
            if target != name:
                continue
            late = (source, target) in self.late
            if late and step == 0:
                values = self._before_the_first_step(source)
            else:
                values = self.given[source][step - 1 if late else step]
            shape = self.shapes.get(source, shape) if not late or not shape else shape
            if values is not None:
                total = (
                    values
                    if total is None
                    else [a + b for a, b in zip(total, values, strict=False)]
                )
        assert total is not None
        self.heard[name].append(total)
        return self._node(name, self.nodes[name], total, shape, step)

    def _before_the_first_step(self, source: str) -> list[float] | None:
        """What a linear node gives for silence: its bias."""
        node = self.nodes[source]
        if isinstance(node, nir.Affine):
            return [float(bias) for bias in node.bias]
        if isinstance(node, (nir.Linear, nir.Output)):
            return None
        return None

    def _node(self, name: str, node: Any, x: list[float], shape: Any, step: int) -> list[float]:
        self.shapes[name] = shape
        if isinstance(node, (nir.Input, nir.Output)):
            return x
        if isinstance(node, nir.Flatten):
            self.shapes[name] = (len(x),)
            return x
        if isinstance(node, (nir.Affine, nir.Linear)):
            rows, columns = node.weight.shape
            self.shapes[name] = (rows,)
            result = []
            for row in range(rows):
                value = float(node.bias[row]) if isinstance(node, nir.Affine) else 0.0
                for column in range(columns):
                    value += float(node.weight[row, column]) * x[column]
                result.append(value)
            return result
        if isinstance(node, nir.Scale):
            return [float(s) * value for s, value in zip(node.scale.ravel(), x, strict=False)]
        if isinstance(node, nir.Delay):
            back = round(float(node.delay.ravel()[0]) / self.dt)
            steps = [round(float(value) / self.dt) for value in node.delay.ravel()]
            assert back in steps
            return [
                self.heard[name][step - k][index] if step >= k else 0.0
                for index, k in enumerate(steps)
            ]
        if isinstance(node, nir.Conv1d):
            return self._conv1d(name, node, x, shape)
        if isinstance(node, nir.Conv2d):
            return self._conv2d(name, node, x, shape)
        if isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
            return self._pool(name, node, x, shape)
        return self._neurons(name, node, x)

    def _conv2d(self, name: str, node: Any, x: list[float], shape: Any) -> list[float]:
        out, per_group, taps_y, taps_x = node.weight.shape
        _channels, height, width = shape
        stride, dilation = _two(node.stride), _two(node.dilation)
        if isinstance(node.padding, str) and node.padding == "same":
            total = [dilation[0] * (taps_y - 1), dilation[1] * (taps_x - 1)]
            before, made = [total[0] // 2, total[1] // 2], [height, width]
        else:
            before = [0, 0] if isinstance(node.padding, str) else _two(node.padding)
            made = [
                (size + 2 * pad - dil * (taps - 1) - 1) // step + 1
                for size, pad, dil, taps, step in (
                    (height, before[0], dilation[0], taps_y, stride[0]),
                    (width, before[1], dilation[1], taps_x, stride[1]),
                )
            ]
        self.shapes[name] = (out, *made)
        result = []
        for o, row, column in itertools.product(range(out), range(made[0]), range(made[1])):
            value = float(node.bias[o])
            first = o // (out // int(node.groups)) * per_group
            for c, ky, kx in itertools.product(range(per_group), range(taps_y), range(taps_x)):
                y = row * stride[0] + ky * dilation[0] - before[0]
                z = column * stride[1] + kx * dilation[1] - before[1]
                if 0 <= y < height and 0 <= z < width:
                    value += (
                        float(node.weight[o, c, ky, kx])
                        * x[(first + c) * height * width + y * width + z]
                    )
            result.append(value)
        return result

    def _conv1d(self, name: str, node: Any, x: list[float], shape: Any) -> list[float]:
        out, per_group, taps = node.weight.shape
        length = shape[1]
        stride, pad, dil = (int(np.ravel(v)[0]) for v in (node.stride, node.padding, node.dilation))
        made = (length + 2 * pad - dil * (taps - 1) - 1) // stride + 1
        self.shapes[name] = (out, made)
        result = []
        for o, column in itertools.product(range(out), range(made)):
            value = float(node.bias[o])
            first = o // (out // int(node.groups)) * per_group
            for c, k in itertools.product(range(per_group), range(taps)):
                place = column * stride + k * dil - pad
                if 0 <= place < length:
                    value += float(node.weight[o, c, k]) * x[(first + c) * length + place]
            result.append(value)
        return result

    def _pool(self, name: str, node: Any, x: list[float], shape: Any) -> list[float]:
        channels, height, width = shape
        kernel, stride, pad = _two(node.kernel_size), _two(node.stride), _two(node.padding)
        made = [
            (size + 2 * p - k) // s + 1
            for size, p, k, s in zip((height, width), pad, kernel, stride, strict=False)
        ]
        self.shapes[name] = (channels, *made)
        result = []
        for c, row, column in itertools.product(range(channels), range(made[0]), range(made[1])):
            value = 0.0
            for ky, kx in itertools.product(range(kernel[0]), range(kernel[1])):
                y, z = row * stride[0] + ky - pad[0], column * stride[1] + kx - pad[1]
                if 0 <= y < height and 0 <= z < width:
                    value += x[c * height * width + y * width + z]
            average = isinstance(node, nir.AvgPool2d)
            result.append(value / (kernel[0] * kernel[1]) if average else value)
        return result

    def _neurons(self, name: str, node: Any, x: list[float]) -> list[float]:
        own = next(np.shape(getattr(node, k)) for k in ("r", "threshold") if hasattr(node, k))
        self.shapes[name] = own
        if isinstance(node, nir.Threshold):
            return [float(v > t) for v, t in zip(x, node.threshold.ravel(), strict=False)]
        states = self.state.setdefault(name, [{"v": 0.0, "i": 0.0, "s": 0.0} for _ in x])
        return [self._neuron(node, index, states[index], value) for index, value in enumerate(x)]

    def _neuron(self, node: Any, index: int, state: dict[str, float], x: float) -> float:
        def of(key: str) -> float:
            return float(np.ravel(getattr(node, key))[index])

        drive = x
        if isinstance(node, (nir.CubaLI, nir.CubaLIF)):
            keep, share = self._factors(of("tau_syn"))
            old = state["i"]
            state["i"] = keep * old + share * of("w_in") * x
            drive = old if self.membrane_first else state["i"]
        if isinstance(node, (nir.I, nir.IF)):
            v = state["v"] + of("r") * drive
        else:
            mem = "tau_mem" if hasattr(node, "tau_mem") else "tau"
            keep, share = self._factors(of(mem))
            v = keep * state["v"] + share * (of("v_leak") + of("r") * drive)
        if not hasattr(node, "v_threshold"):
            state["v"] = v
            return v
        threshold = of("v_threshold")
        if self.reset == "subtract_late":
            v -= state["s"] * threshold
        fired = v > threshold
        if fired and self.reset == "zero":
            v = of("v_reset")
        elif fired and self.reset == "subtract":
            v -= threshold
        state["v"], state["s"] = v, float(fired)
        return float(fired)

    def _factors(self, tau: float) -> tuple[float, float]:
        ratio = self.dt / tau
        if self.integrator == "euler":
            return 1 - ratio, ratio
        if self.integrator == "exponential":
            return math.exp(-ratio), 1 - math.exp(-ratio)
        return math.exp(-ratio), ratio


def _two(value: Any) -> list[int]:
    values = [int(v) for v in np.ravel(value)]
    return values * 2 if len(values) == 1 else values
