"""Float graphs in ONNX Runtime against torch; each trap of tracing exporters has its test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mtspark.convert.onnx import float_decision_model, float_step_model
from mtspark.core.errors import BadNetworkError
from mtspark.core.files.onnx.graph import NEXT
from mtspark.train.checkpoint.agent import Agent
from mtspark.train.networks.network import NetworkTrace

CLOSE = 1e-5


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def some(agent: Agent, batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (batch, *agent.network.config.observation_shape)
    frames = rng.integers(0, 256, shape).astype(np.uint8)
    return frames, rng.integers(0, agent.network.config.tasks, batch)


def in_torch(agent: Agent, frames: np.ndarray, tasks: np.ndarray) -> tuple[Any, NetworkTrace]:
    trace = NetworkTrace()
    with torch.no_grad():
        values = agent.network(torch.from_numpy(frames), torch.from_numpy(tasks), trace)
    return values.numpy(), trace


class Stepper:
    """The step graph with the state that its caller keeps."""

    def __init__(self, agent: Agent, batch: int) -> None:
        model = float_step_model(agent)
        self.session = session(model)
        self.state = {
            entry.name: np.zeros([batch, *entry.shape[1:]], np.float32)
            for entry in self.session.get_inputs()
            if "." in entry.name
        }

    def run(self, frames: np.ndarray, tasks: np.ndarray) -> dict[str, np.ndarray]:
        names = [entry.name for entry in self.session.get_outputs()]
        feeds = {"frames": frames, "task": tasks, **self.state}
        made = dict(zip(names, self.session.run(names, feeds), strict=True))
        self.state = {name: made[NEXT + name] for name in self.state}
        return made


@pytest.mark.parametrize(
    "changes", [{}, {"reset": "subtract"}, {"dueling": False, "drive": 0.5}, {"dense": (12, 9)}]
)
def test_each_step_is_that_of_torch(make_agent: Callable[..., Agent], changes: Any) -> None:
    agent = make_agent(**changes)
    frames, tasks = some(agent, 5)
    values, trace = in_torch(agent, frames, tasks)
    stepper = Stepper(agent, 5)
    made: dict[str, np.ndarray] = {}
    for number in range(agent.network.config.time_steps):
        made = stepper.run(frames, tasks)
        for name, layer in trace.layers.items():
            assert np.array_equal(made[f"spikes.{name}"], layer.spikes[number].numpy()), name
    assert np.abs(made["values"] - values).max() <= CLOSE
    assert any(layer.spikes.any() for layer in trace.layers.values())


def test_membranes_of_one_step_are_those_of_torch(tiny_agent: Agent) -> None:
    frames, tasks = some(tiny_agent, 3)
    _, trace = in_torch(tiny_agent, frames, tasks)
    made = Stepper(tiny_agent, 3).run(frames, tasks)
    for name, layer in trace.layers.items():
        current = layer.current[0].numpy()
        fired = layer.spikes[0].numpy()
        expected = np.where(fired > 0, 0, current)
        assert np.abs(made[f"{NEXT}membrane.{name}"] - expected).max() <= CLOSE, name


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_whole_decision_is_that_of_torch_for_any_batch(tiny_agent: Agent, batch: int) -> None:
    frames, tasks = some(tiny_agent, batch, batch)
    model = session(float_decision_model(tiny_agent))
    (values,) = model.run(["values"], {"frames": frames, "task": tasks})
    assert np.abs(values - in_torch(tiny_agent, frames, tasks)[0]).max() <= CLOSE


def test_the_state_is_not_frozen_into_the_graph(tiny_agent: Agent) -> None:
    """A module that keeps its state itself is traced into a graph that always starts anew."""
    frames, tasks = some(tiny_agent, 2)
    stepper = Stepper(tiny_agent, 2)
    first = stepper.run(frames, tasks)
    second = stepper.run(frames, tasks)
    name = f"{NEXT}membrane.conv1"
    assert not np.array_equal(first[name], second[name])
    stepper.state = {name: np.zeros_like(value) for name, value in stepper.state.items()}
    again = stepper.run(frames, tasks)
    assert all(np.array_equal(again[name], first[name]) for name in first)


def test_the_task_of_each_sample_counts(tiny_agent: Agent) -> None:
    frames, _ = some(tiny_agent, 2)
    frames[1] = frames[0]
    model = session(float_decision_model(tiny_agent))
    (values,) = model.run(["values"], {"frames": frames, "task": np.array([0, 1])})
    assert not np.allclose(values[0], values[1])


def test_unrolled_and_stepped_agree(tiny_agent: Agent) -> None:
    frames, tasks = some(tiny_agent, 4)
    (whole,) = session(float_decision_model(tiny_agent)).run(
        ["values"], {"frames": frames, "task": tasks}
    )
    stepper = Stepper(tiny_agent, 4)
    for _ in range(tiny_agent.network.config.time_steps):
        made = stepper.run(frames, tasks)
    assert np.abs(made["values"] - whole).max() <= 1e-6


def test_no_exporter_of_torch_is_needed(tiny_agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "torch.onnx", None)
    float_step_model(tiny_agent)
    float_decision_model(tiny_agent)


def test_what_onnx_cannot_say_is_refused(make_agent: Callable[..., Agent]) -> None:
    with pytest.raises(BadNetworkError, match="k_winners"):
        float_step_model(make_agent(k_winners=0.2))
    with pytest.raises(BadNetworkError, match="relu"):
        float_decision_model(make_agent(neuron="relu"))


def test_integer_division_rounds_toward_zero() -> None:
    """The trap under the integer graphs: of exporters, torch.div 'trunc' came out as floor."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Div", ["a", "b"], ["c"])],
        "g",
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, [None]) for n in "ab"],
        [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.INT64, [None])],
    )
    opset = [onnx.helper.make_opsetid("", 20)]
    model = session(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10))
    (made,) = model.run(None, {"a": np.array([-7, 7, -4097]), "b": np.array([2, 2, 4096])})
    assert made.tolist() == [-3, 3, -1]
