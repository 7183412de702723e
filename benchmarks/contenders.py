"""Everyone that runs the benchmark's network in this process, each by one function a step.

They compute the same thing: v <- 3/4 v + w x + b, a spike where v is above the threshold,
which resets v to zero. The float ones advance all layers in one step (no pipeline), which
changes when a layer works and not how much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network.network import ChipNetwork
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.engine.chip import EngineChip

Decide = Callable[[], Any]
SCALE = 64.0
KEEP = 0.75


def engine(network: ChipNetwork, frames: NDArray[np.uint8], **options: Any) -> Decide:
    """The engine: one decision of T + L steps."""
    chip = EngineChip(network, **options)
    return lambda: chip.decide(frames, 0)


def reference(network: ChipNetwork, frames: NDArray[np.uint8]) -> Decide:
    """The plain reference: one decision."""
    chip = ReferenceChip(network)
    return lambda: chip.decide(frames, 0)


def numpy_im2col(network: ChipNetwork, frames: NDArray[np.uint8]) -> Decide:
    """One process of plain NumPy: gather windows, multiply in float32, update neurons."""
    layers = []
    for link, population in zip(network.connections, network.populations, strict=True):
        weights = link.weights.reshape(len(link.weights), -1).T.astype(np.float32)
        bias = (population.bias_mantissa / SCALE).astype(np.float32)[None]
        threshold = population.thresholds[0].astype(np.float32)[None]
        conv = link.kind.convolves
        layers.append((conv, link.weights.shape[2:], link.stride, weights, bias, threshold))
    first = (frames != 0).astype(np.float32)

    def decide() -> int:
        membranes = [np.zeros((len(first), *p.shape), np.float32) for p in network.populations]
        fired = 0
        for _ in range(network.time_steps):
            sent = first
            for number, (conv, kernel, stride, weights, bias, threshold) in enumerate(layers):
                if conv:
                    views = np.lib.stride_tricks.sliding_window_view(sent, kernel, axis=(2, 3))
                    taps = views[:, :, :: stride[0], :: stride[1]].transpose(0, 2, 3, 1, 4, 5)
                    batch, rows, columns = taps.shape[:3]
                    current = taps.reshape(batch * rows * columns, -1) @ weights
                    current = current.reshape(batch, rows, columns, -1).transpose(0, 3, 1, 2)
                else:
                    current = sent.reshape(len(sent), -1) @ weights
                membrane = membranes[number]
                membrane *= np.float32(KEEP)
                membrane += current
                membrane += bias
                spikes = membrane > threshold
                membrane[spikes] = 0
                sent = spikes.astype(np.float32)
                fired += int(spikes.sum())
        return fired

    return decide


def snntorch_eager(
    network: ChipNetwork, frames: NDArray[np.uint8], *, compiled: str = ""
) -> Decide:
    """snntorch's Leaky between torch's Conv2d and Linear, without gradients.

    With `compiled`, torch.compile of one step of all layers, which the first call waits for:
    of "snntorch", which is no single graph since Leaky writes to itself, or of what it
    computes, written in "plain" torch.
    """
    import snntorch
    import torch

    torch.set_num_threads(1)
    torch._dynamo.config.recompile_limit = 64  # Else it gives up on a fifth layer.
    layers: list[Any] = []
    for link, population in zip(network.connections, network.populations, strict=True):
        weights = torch.tensor(link.weights, dtype=torch.float32)
        if link.kind.convolves:
            out, inner, *kernel = link.weights.shape
            synapses: Any = torch.nn.Conv2d(inner, out, kernel, link.stride, bias=False)
        else:
            out, inner = link.weights.shape
            synapses = torch.nn.Linear(inner, out, bias=False)
        synapses.weight.data = weights
        threshold = torch.tensor(population.thresholds[0], dtype=torch.float32)
        neurons = snntorch.Leaky(
            beta=KEEP, threshold=threshold, reset_mechanism="zero", reset_delay=False
        )
        bias = torch.tensor(population.bias_mantissa / SCALE, dtype=torch.float32)
        layers.append((not link.kind.convolves, synapses, bias, neurons))
    first = torch.tensor((frames != 0).astype(np.float32))

    def step(sent: Any, membranes: list[Any]) -> tuple[Any, list[Any]]:
        after = []
        for (flat, synapses, bias, neurons), membrane in zip(layers, membranes, strict=True):
            current = synapses(sent.flatten(1) if flat else sent) + bias
            sent, new = neurons(current, membrane)
            after.append(new)
        return sent, after

    def plain(sent: Any, membranes: list[Any]) -> tuple[Any, list[Any]]:
        after = []
        for (flat, synapses, bias, neurons), membrane in zip(layers, membranes, strict=True):
            current = synapses(sent.flatten(1) if flat else sent) + bias
            new = KEEP * membrane + current
            spikes = new > neurons.threshold
            after.append(torch.where(spikes, 0.0, new))
            sent = spikes.to(torch.float32)
        return sent, after

    run: Any = step
    if compiled:
        run = torch.compile(plain if compiled == "plain" else step, dynamic=False)

    def decide() -> Any:
        with torch.inference_mode():
            shapes = [(len(frames), *p.shape) for p in network.populations]
            membranes = [torch.zeros(shape) for shape in shapes]
            for _ in range(network.time_steps):
                sent, membranes = run(first, membranes)
            return sent, membranes

    for _ in range(3 if compiled else 0):
        decide()  # Some of it is compiled anew when it is met the second time.
    return decide


def onnx_runtime(network: ChipNetwork, frames: NDArray[np.uint8]) -> Decide:
    """One step of all layers as an ONNX graph, membranes in and out, one thread."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, inputs, outputs = [], [], [], []

    def constant(name: str, values: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    batch = len(frames)
    keep, zero = constant("keep", KEEP), constant("zero", 0.0)
    inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [*frames.shape]))
    sent = "x"
    for i, (link, population) in enumerate(
        zip(network.connections, network.populations, strict=True)
    ):
        shape = [batch, *population.shape]
        inputs.append(helper.make_tensor_value_info(f"v{i}", TensorProto.FLOAT, shape))
        outputs.append(helper.make_tensor_value_info(f"n{i}", TensorProto.FLOAT, shape))
        if link.kind.convolves:
            weights = constant(f"w{i}", link.weights)
            nodes.append(
                helper.make_node("Conv", [sent, weights], [f"c{i}"], strides=list(link.stride))
            )
        else:
            weights = constant(f"w{i}", link.weights.T)
            nodes.append(helper.make_node("Flatten", [sent], [f"f{i}"]))
            nodes.append(helper.make_node("MatMul", [f"f{i}", weights], [f"c{i}"]))
        bias = constant(f"b{i}", population.bias_mantissa[None] / SCALE)
        threshold = constant(f"t{i}", population.thresholds[:1])
        nodes += [
            helper.make_node("Mul", [f"v{i}", keep], [f"k{i}"]),
            helper.make_node("Add", [f"k{i}", f"c{i}"], [f"a{i}"]),
            helper.make_node("Add", [f"a{i}", bias], [f"m{i}"]),
            helper.make_node("Greater", [f"m{i}", threshold], [f"g{i}"]),
            helper.make_node("Where", [f"g{i}", zero, f"m{i}"], [f"n{i}"]),
            helper.make_node("Cast", [f"g{i}"], [f"s{i}"], to=TensorProto.FLOAT),
        ]
        sent = f"s{i}"
    graph = helper.make_graph(nodes, "step", inputs, outputs, constants)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    first = (frames != 0).astype(np.float32)

    def decide() -> Any:
        state = [np.zeros((batch, *p.shape), np.float32) for p in network.populations]
        for _ in range(network.time_steps):
            feed = {"x": first} | {f"v{i}": values for i, values in enumerate(state)}
            state = session.run(None, feed)
        return state

    return decide
