"""An interpreter of NIR graphs in NumPy: the primitives' equations, a node and a step at a time.

Shares no code with mtspark. Every state is the one that the NIR paper writes down (v is the
membrane itself, not its distance from a reset), and a node sees what its sources gave in the same
step, but for the edges in `late`, which carry what was given a step before.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

Edge = tuple[str, str]


@dataclass(frozen=True)
class Rules:
    """What NIR leaves open."""

    dt: float = 1.0
    integrator: str = "euler"
    reset: str = "zero"
    membrane_first: bool = False
    start_at_rest: bool = False
    at_threshold: bool = False
    if_counts_dt: bool = False


@dataclass
class Record:
    """What every node gave, (T, *shape), and of neurons v before the reset, with its bound.

    `guards` is how far v at the end of the step before was from the threshold, where a guarded
    reset asks for it.
    """

    given: dict[str, list[np.ndarray]] = field(default_factory=dict)
    membranes: dict[str, list[np.ndarray]] = field(default_factory=dict)
    bounds: dict[str, list[np.ndarray]] = field(default_factory=dict)
    guards: dict[str, list[np.ndarray]] = field(default_factory=dict)


class Interpreter:
    """Runs a graph without subgraphs; names its ends, which need not be nodes of their own."""

    def __init__(
        self, graph: nir.NIRGraph, rules: Rules, first: str, late: frozenset[Edge] = frozenset()
    ) -> None:
        self.nodes, self.edges = graph.nodes, graph.edges
        self.rules, self.first, self.late = rules, first, late
        self.states: dict[str, dict[str, np.ndarray]] = {}

    def run(self, series: np.ndarray) -> Record:
        """Run (T, *shape) from the start."""
        record = Record({n: [] for n in self.nodes})
        heard: dict[str, list[np.ndarray]] = {n: [] for n in self.nodes}
        order = self._order()
        for step, values in enumerate(series):
            for name in order:
                total = values.astype(float) if name == self.first else None
                for source, target in self.edges:
                    if target != name:
                        continue
                    if (source, target) not in self.late:
                        sent = record.given[source][step]
                    elif step:
                        sent = record.given[source][step - 1]
                    else:
                        continue
                    if total is None:
                        total = sent
                    else:
                        larger = total if total.ndim >= sent.ndim else sent
                        total = (total.ravel() + sent.ravel()).reshape(larger.shape)
                if total is None:
                    # Only late edges, in the first step: silence.
                    source = next(s for s, t in self.edges if t == name)
                    total = np.zeros_like(self.nodes[source].v_threshold)
                heard[name].append(total)
                record.given[name].append(self._node(name, heard[name], record))
        return record

    def _order(self) -> list[str]:
        order: list[str] = []
        while len(order) < len(self.nodes):
            for name in self.nodes:
                before = [s for s, t in self.edges if t == name and (s, t) not in self.late]
                if name not in order and all(source in order for source in before):
                    order.append(name)
        return order

    def _node(self, name: str, heard: list[np.ndarray], record: Record) -> np.ndarray:
        node, x = self.nodes[name], heard[-1]
        if isinstance(node, (nir.Input, nir.Output)):
            return x
        if isinstance(node, nir.Flatten):
            return x.ravel()
        if isinstance(node, nir.Affine):
            return node.weight @ x.ravel() + node.bias
        if isinstance(node, nir.Linear):
            return node.weight @ x.ravel()
        if isinstance(node, nir.Scale):
            return x * node.scale.reshape(x.shape)
        if isinstance(node, nir.Delay):
            return self._delayed(node, heard)
        if isinstance(node, nir.Conv1d):
            settings = [(0, _one(node.padding)), (1, _one(node.stride)), (1, _one(node.dilation))]
            image = convolve(x[:, None], node.weight[:, :, None], node.bias, *settings, node.groups)
            return image[:, 0]
        if isinstance(node, nir.Conv2d):
            kernel = node.weight.shape[2:]
            dilation = _two(node.dilation)
            if isinstance(node.padding, str) and node.padding == "same":
                reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
                x = np.pad(x, [(0, 0), *((r // 2, r - r // 2) for r in reach)])
                padding = (0, 0)
            else:
                padding = (0, 0) if isinstance(node.padding, str) else _two(node.padding)
            return convolve(
                x, node.weight, node.bias, padding, _two(node.stride), dilation, node.groups
            )
        if isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
            kernel = _two(node.kernel_size)
            ones = np.ones((len(x), 1, *kernel))
            pooled = convolve(
                x, ones, np.zeros(len(x)), _two(node.padding), _two(node.stride), (1, 1), len(x)
            )
            return pooled / (kernel[0] * kernel[1]) if isinstance(node, nir.AvgPool2d) else pooled
        return self._neurons(name, node, x, record)

    def _delayed(self, node: Any, heard: list[np.ndarray]) -> np.ndarray:
        result = np.zeros_like(heard[-1])
        steps = np.broadcast_to(np.rint(node.delay / self.rules.dt).astype(int), result.shape)
        for place in np.ndindex(result.shape):
            if steps[place] < len(heard):
                result[place] = heard[-1 - steps[place]][place]
        return result

    def _neurons(self, name: str, node: Any, x: np.ndarray, record: Record) -> np.ndarray:
        rules = self.rules
        own = np.shape(node.threshold if isinstance(node, nir.Threshold) else node.r)
        if int(np.prod(own)) == x.size:
            x = x.reshape(own)
        if isinstance(node, nir.Threshold):
            bound = np.broadcast_to(node.threshold, x.shape)
            record.membranes.setdefault(name, []).append(x)
            record.bounds.setdefault(name, []).append(bound)
            return (x >= bound if rules.at_threshold else x > bound).astype(float)
        cuba = isinstance(node, (nir.CubaLI, nir.CubaLIF))
        leaky = cuba or isinstance(node, (nir.LI, nir.LIF))
        fires = isinstance(node, (nir.IF, nir.LIF, nir.CubaLIF))
        zero = np.zeros_like(x)
        if name not in self.states:
            rest = node.v_leak if leaky else node.v_reset if fires else 0.0
            v = zero + rest if rules.start_at_rest else zero
            self.states[name] = {"v": v, "i": zero, "s": zero}
        state = self.states[name]
        v, drive = state["v"], x
        if cuba:
            old = state["i"]
            state["i"] = self._towards(old, node.tau_syn, 0.0, node.w_in * x)
            drive = old if rules.membrane_first else state["i"]
        if leaky:
            before = v
            v = self._towards(v, node.tau_mem if cuba else node.tau, node.v_leak, node.r * drive)
        else:
            before = v
            v = v + node.r * drive * (rules.dt if rules.if_counts_dt else 1.0)
        if not fires:
            state["v"] = v
            record.membranes.setdefault(name, []).append(v)
            return v
        theta = node.v_threshold
        above = before >= theta if rules.at_threshold else before > theta
        if rules.reset == "subtract_late":
            v = v - np.where(state["s"] > 0, theta, 0.0)
        bound = theta + zero
        if rules.reset == "subtract_guarded":
            record.guards.setdefault(name, []).append(np.abs(before - theta))
            bound = bound + np.where(above, theta, 0.0)
        fired = v >= bound if rules.at_threshold else v > bound
        record.membranes.setdefault(name, []).append(v)
        record.bounds.setdefault(name, []).append(bound)
        if rules.reset == "zero":
            v = np.where(fired, node.v_reset, v)
        elif rules.reset in ("subtract", "subtract_guarded"):
            v = v - np.where(fired, theta, 0.0)
        state["v"], state["s"] = v, fired.astype(float)
        return fired.astype(float)

    def _towards(self, state: Any, tau: Any, leak: Any, drive: Any) -> Any:
        """One step of tau dx/dt = (leak - x) + drive."""
        ratio = self.rules.dt / tau
        if self.rules.integrator == "euler":
            return state + ratio * ((leak - state) + drive)
        if self.rules.integrator == "exponential":
            end = leak + drive
            return end + (state - end) * np.exp(-ratio)
        return np.exp(-ratio) * state + ratio * (leak + drive)


def convolve(
    image: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    padding: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> np.ndarray:
    """Cross-correlation by one tap of the kernel after another."""
    out, share, *taps = weight.shape
    padded = np.pad(image, [(0, 0), *((p, p) for p in padding)])
    made = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, d, s in zip(padded.shape[1:], taps, dilation, stride, strict=True)
    ]
    result = np.zeros((out, *made)) + np.reshape(bias, (-1, 1, 1))
    for o, c in itertools.product(range(out), range(share)):
        source = padded[o // (out // int(groups)) * share + c]
        for ky, kx in itertools.product(*map(range, taps)):
            y, x = ky * dilation[0], kx * dilation[1]
            rows = source[y : y + (made[0] - 1) * stride[0] + 1 : stride[0]]
            result[o] += (
                weight[o, c, ky, kx] * rows[:, x : x + (made[1] - 1) * stride[1] + 1 : stride[1]]
            )
    return result


def _one(value: Any) -> int:
    return int(np.ravel(value)[0])


def _two(value: Any) -> tuple[int, int]:
    values = [int(v) for v in np.ravel(value)]
    return (values[0], values[-1])
