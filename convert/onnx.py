"""Build ONNX graphs of floats from a trained network: one step, or a whole decision.

The graphs are built node by node from the folded weights, so that nothing depends on how an
exporter traces. The state goes in and out, since an exporter freezes a state that the module keeps
itself; the batch is free, and each sample names its task.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from mtspark.core.errors import BadNetworkError
from mtspark.core.files import NEXT, OnnxGraph, Port
from mtspark.train.checkpoint import Agent
from mtspark.train.networks import NeuronConstants

STEP_FORMAT, DECISION_FORMAT = "mtspark-float-step", "mtspark-float-decision"
VERSION = 1


def float_step_model(agent: Agent) -> onnx.ModelProto:
    """Build one time step.

    Inputs: ``frames`` uint8, or int8 of signed values, (batch, channels, height, width); ``task``
    int64 (batch,); and the state, zeros at the start of a decision: ``membrane.L`` of each spiking
    layer L, and ``count.hidden``, the spikes so far of the last one. Outputs: ``values`` (batch,
    actions), which after T steps are those of the network; ``spikes.L``; and the next state, each
    under its own name behind ``next.``.

    Raises:
        BadNetworkError: neurons that ONNX has no operators for.
    """
    network = _Network(agent)
    graph = network.graph
    state = {port.name: port.name for port in network.state}
    _, spikes = network.step(network.pixels(), state, "spikes.")
    hidden = list(spikes)[-1]
    values = network.head(state[f"count.{hidden}"])
    graph.op("Identity", values, result="values")
    for port in network.state:
        graph.op("Identity", state[port.name], result=NEXT + port.name)
    outputs = [network.values]
    outputs += [Port(f"spikes.{name}", "float32", network.shapes[name]) for name in spikes]
    outputs += [port.renamed(NEXT + port.name) for port in network.state]
    return graph.model([*network.inputs, *network.state], outputs, network.describe(STEP_FORMAT))


def float_decision_model(agent: Agent) -> onnx.ModelProto:
    """Build all T steps, unrolled from rest.

    Inputs: ``frames`` and ``task`` as in :func:`float_step_model`. Output: ``values``.

    Raises:
        BadNetworkError: neurons that ONNX has no operators for.
    """
    network = _Network(agent)
    graph = network.graph
    pixels = network.pixels()
    state: dict[str, str] = {}
    drive: str | None = None
    for number in range(network.steps):
        # A constant frame gives a constant current: the first product serves all steps.
        drive, spikes = network.step(pixels, state, f"s{number}.", drive)
    values = network.head(state[f"count.{list(spikes)[-1]}"])
    graph.op("Identity", values, result="values")
    return graph.model(network.inputs, [network.values], network.describe(DECISION_FORMAT))


class _Network:
    """The parts of an agent's graph."""

    def __init__(self, agent: Agent) -> None:
        self.agent, self.network = agent, agent.network
        config = agent.network.config
        if config.neuron != "lif":
            raise BadNetworkError(
                f"neurons of kind {config.neuron!r} have no ONNX operators; only 'lif' is supported"
            )
        self.graph = OnnxGraph()
        self.steps = config.time_steps
        self.shapes = {name: tuple(shape) for name, shape in config.layer_shapes.items()}
        frame = "int8" if config.input == "values" else "uint8"
        self.inputs = [Port("frames", frame, config.observation_shape), Port("task", "int64")]
        self.values = Port("values", "float32", (config.actions,))
        last = list(self.shapes)[-1]
        self.state = [
            Port(f"membrane.{name}", "float32", shape) for name, shape in self.shapes.items()
        ]
        self.state.append(Port(f"count.{last}", "float32", self.shapes[last]))

    def describe(self, kind: str) -> dict[str, Any]:
        """What a runner needs beside the graph."""
        return {
            "format": kind,
            "version": VERSION,
            "tasks": [task.name for task in self.agent.tasks],
            "time_steps": self.steps,
        }

    def pixels(self) -> str:
        """Frames as the network sees them, pixels as floats from 0 to 1."""
        levels = self.graph.constant(1 / self.network.config.message_value, np.float32)
        return self.graph.op("Div", self.graph.cast("frames", "float32"), levels)

    def step(
        self, pixels: str, state: dict[str, str], prefix: str, drive: str | None = None
    ) -> tuple[str, dict[str, str]]:
        """One step; changes `state`, the names of the tensors that hold it.

        Returns:
            The current of the first layer, and the spikes by layer, named with `prefix`.
        """
        graph, spikes = self.graph, dict[str, str]()
        arriving, first = pixels, ""
        for name in self.shapes:
            current = drive if drive and not spikes else self._current(name, arriving)
            first = first or current
            before = state.get(f"membrane.{name}")
            fired, state[f"membrane.{name}"] = self._neurons(
                self.network.layer(name).neuron.constants, current, before, prefix + name
            )
            spikes[name] = arriving = fired
        total = state.get(f"count.{name}")
        state[f"count.{name}"] = graph.op("Add", total, arriving) if total else arriving
        return first, spikes

    def _current(self, name: str, arriving: str) -> str:
        graph, layer = self.graph, self.network.layer(name)
        weight, bias = _array(layer.folded_weight()), _array(layer.folded_bias())
        if isinstance(layer.synapses, torch.nn.Conv2d):
            current = graph.op(
                "Conv",
                arriving,
                graph.constant(weight, np.float32),
                graph.constant(bias, np.float32),
                strides=list(layer.synapses.stride),
            )
        else:
            current = graph.op(
                "Gemm",
                graph.op("Flatten", arriving, axis=1),
                graph.constant(weight, np.float32),
                graph.constant(bias, np.float32),
                transB=1,
            )
        with torch.no_grad():
            gains = self.network.gains_of_tasks(name, slice(None))
        if gains is None:
            return current
        table = graph.constant(_array(gains), np.float32)
        return graph.op("Mul", current, graph.op("Gather", table, "task", axis=0))

    def _neurons(
        self, constants: NeuronConstants, current: str, before: str | None, spikes: str
    ) -> tuple[str, str]:
        """Names of the spikes and of the membrane after reset, as in train/networks/neurons.py."""
        graph = self.graph
        if constants.winners:
            raise BadNetworkError("k-winners have no ONNX operators; train without k_winners")
        membrane = current
        if before:
            kept = graph.op("Mul", before, graph.constant(constants.beta, np.float32))
            membrane = graph.op("Add", kept, current)
        threshold = graph.constant(constants.threshold, np.float32)
        fired = graph.op("Greater", membrane, threshold)
        sent = graph.cast(fired, "float32", spikes)
        if constants.reset == "zero":
            return sent, graph.op("Where", fired, graph.constant(0.0, np.float32), membrane)
        if constants.reset == "subtract":
            return sent, graph.op("Sub", membrane, graph.op("Mul", threshold, sent))
        return sent, membrane

    def head(self, count: str) -> str:
        """Action values of the spikes counted over a decision: an affine map of their mean."""
        graph = self.graph
        with torch.no_grad():
            weight, bias = self.network.folded_head()
        steps = graph.constant(float(self.steps), np.float32)
        return graph.op(
            "Gemm",
            graph.op("Div", count, steps),
            graph.constant(_array(weight), np.float32),
            graph.constant(_array(bias), np.float32),
            transB=1,
        )


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
