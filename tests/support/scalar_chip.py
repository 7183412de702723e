"""A chip in plain Python integers, one synapse at a time: the oracle of the reference.

Shares no code with mtspark's simulators; written from the equations of Lava's fixed-point
neurons. Unbounded Python integers, no arrays, no convolution trick.
"""

from __future__ import annotations

import itertools
from typing import Any


def toward_zero(value: int, decay: int) -> int:
    product = abs(value) * (4096 - decay) // 4096
    return product if value >= 0 else -product


def synapses(link: Any, source: tuple[int, ...], target: tuple[int, ...]) -> list[Any]:
    """Every (source index, target index, weight) of a connection; zeros if it stores them."""
    found = []
    if "conv" not in link.kind.value:
        for row, to in enumerate(itertools.product(*map(range, target))):
            for column, origin in enumerate(itertools.product(*map(range, source))):
                if link.kind.value == "dense" or link.weights[row, column]:
                    found.append((origin, to, int(link.weights[row, column])))
        return found
    out, per_group, high, wide = link.weights.shape
    for o, y, x in itertools.product(*map(range, target)):
        group = o // (out // link.groups)
        for i, ky, kx in itertools.product(range(per_group), range(high), range(wide)):
            sy = y * link.stride[0] - link.padding[0] + ky * link.dilation[0]
            sx = x * link.stride[1] - link.padding[1] + kx * link.dilation[1]
            if 0 <= sy < source[1] and 0 <= sx < source[2]:
                origin = (group * per_group + i, sy, sx)
                weight = int(link.weights[o, i, ky, kx])
                if link.kind.value == "conv" or weight:
                    found.append((origin, (o, y, x), weight))
    return found


def own(decay: Any, index: tuple[int, ...]) -> int:
    return decay if isinstance(decay, int) else int(decay[index])


class ScalarChip:
    """One chip; :meth:`decide` returns spikes and membranes by (step, population, index).

    `rounded` counts the products and shifts of the last decision's windows that had a remainder.
    """

    def __init__(self, net: Any) -> None:
        self.net = net
        shapes = {"input": net.input.shape} | {p.name: p.shape for p in net.populations}
        self.links = [(c, synapses(c, shapes[c.source], shapes[c.target])) for c in net.connections]
        self.indices = {name: list(itertools.product(*map(range, s))) for name, s in shapes.items()}
        self.u = {(p.name, i): 0 for p in net.populations for i in self.indices[p.name]}
        self.v = dict(self.u)
        self.past: list[dict[Any, int]] = [{} for _ in range(64)]
        depth = {"input": 0}
        for link in net.connections:
            if link.recurrent:
                continue
            depth[link.target] = depth[link.source] + 1 + link.delay
        self.depth = depth
        self.frame = dict.fromkeys(self.indices["input"], 0)
        self.frame_sums: dict[Any, int] = {}
        self.messages = self.rounded = 0

    def send_frame(self, frame: Any) -> None:
        """Tell each first synapse of a frame, or of its changes, before the window opens."""
        if self.net.input.encoder.value == "held":
            self.frame, self.frame_sums = dict.fromkeys(self.frame, 0), {}
        change = {index: int(frame[index]) - self.frame[index] for index in self.frame}
        self.messages += sum(value != 0 for value in change.values())
        for link, parts in self.links:
            if link.source == "input":
                for origin, to, weight in parts:
                    key = (link.name, to)
                    self.frame_sums[key] = self.frame_sums.get(key, 0) + weight * change[origin]
        self.frame = {index: int(frame[index]) for index in self.frame}

    def decide(self, frame: Any, task: int) -> tuple[dict[Any, int], dict[Any, int]]:
        net, spikes, membranes = self.net, {}, {}
        self.rounded = 0
        every_step = net.input.encoder.value == "every-step"
        if not every_step:
            self.send_frame(frame)
        for step in range(1, net.time_steps + max(self.depth.values()) + 1):
            sums: dict[Any, int] = {}
            for link, parts in self.links:
                sent_in_layer_step = step - 1 - link.delay - self.depth[link.source]
                if link.recurrent and not 1 <= sent_in_layer_step <= net.time_steps:
                    continue
                totals: dict[Any, int] = {}
                if not every_step and link.source == "input":
                    opens = self.depth[link.target]
                    if opens < step <= opens + net.time_steps:
                        for (name, to), total in self.frame_sums.items():
                            if name == link.name:
                                totals[to] = total
                    parts = []
                for origin, to, weight in parts:
                    message = self.past[link.delay].get((link.source, origin), 0)
                    totals[to] = totals.get(to, 0) + weight * message
                opened = self.depth[link.target] < step <= self.depth[link.target] + net.time_steps
                for to, total in totals.items():
                    self.rounded += opened and total % 2 ** max(0, -link.exponent) > 0
                    moved = (
                        total * 2**link.exponent
                        if link.exponent >= 0
                        else (total // 2**-link.exponent)
                    )
                    sums[link.target, to] = sums.get((link.target, to), 0) + moved
            sending: dict[Any, int] = {}
            if step <= net.time_steps and every_step:
                for index in self.indices["input"]:
                    value = int(frame[index] if net.input.held else frame[(step - 1, *index)])
                    sending["input", index] = value if net.input.payload_bits else int(value != 0)
            for p in net.populations:
                for index in self.indices[p.name]:
                    key = (p.name, index)
                    u, v, again = self.u[key], self.v[key], self.past[0].get(key, 0)
                    if step == self.depth[p.name] + 1:
                        u = v = again = 0
                    if self.depth[p.name] < step <= self.depth[p.name] + net.time_steps:
                        kept = u * (4095 - own(p.current_decay, index))
                        held = v * (4096 - own(p.membrane_decay, index))
                        self.rounded += (kept % 4096 > 0) + (held % 4096 > 0)
                    u = toward_zero(u, own(p.current_decay, index) + 1) + sums.get(key, 0) * 64
                    if u > 2**23:
                        u -= 2**24
                    elif u <= -(2**23):
                        u += 2**24
                    bias = int(p.bias_mantissa[index]) * 2**p.bias_exponent
                    theta = int(p.thresholds[(task, *index)]) * 64
                    above = v >= theta if p.fires_at_threshold else v > theta
                    v = toward_zero(v, own(p.membrane_decay, index)) + u + bias
                    if p.reset.value == "subtract late" and again:
                        v -= theta
                    v = max(-(2**23 - 1), min(2**23 - 1, v))
                    guarded = p.reset.value == "subtract guarded" and above
                    needed = 2 * theta if guarded else theta
                    fired = v >= needed if p.fires_at_threshold else v > needed
                    if fired:
                        v = {"zero": 0, "subtract late": v, "none": v}.get(p.reset.value, v - theta)
                    self.u[key], self.v[key] = u, v
                    sending[key] = int(fired)
                    spikes[step, p.name, index] = int(fired)
                    membranes[step, p.name, index] = self.v[key]
            self.past = [sending, *self.past[:-1]]
        return spikes, membranes
