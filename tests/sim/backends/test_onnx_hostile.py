"""ONNX files made to do harm are refused in one line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mtspark.core.errors import MtsparkError
from mtspark.core.files.limits import FileLimits
from mtspark.core.files.onnx.graph import METADATA, save_onnx
from mtspark.deploy.formats.onnx_integer import integer_model
from mtspark.sim.backends.onnx import OnnxChip
from tests.support.networks import three_neurons

Edit = Callable[[onnx.ModelProto], None]


def refused(folder: Path, edit: Edit, limits: FileLimits | None = None) -> str:
    model = integer_model(three_neurons())
    edit(model)
    path = folder / "step.onnx"
    path.write_bytes(model.SerializeToString())
    texts = []
    for trust in (False, True):
        began = time.process_time()
        with pytest.raises(MtsparkError) as caught:
            OnnxChip(path, limits, trust)
        texts.append(str(caught.value))
        assert "\n" not in texts[-1]
        assert time.process_time() - began < 5
    return texts[0]


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))

    def edit(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        onnx.external_data_helper.set_external_data(_with_raw(tensor), "secret", 0, 64)
        tensor.ClearField("raw_data")

    assert "another file" in refused(tmp_path, edit)


def _with_raw(tensor: TensorProto) -> TensorProto:
    tensor.raw_data = bytes(8)
    return tensor


def test_external_data_of_an_attribute_is_refused(tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        tensor = numpy_helper.from_array(np.zeros(4, np.float32))
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/hostname"
        model.graph.node[0].attribute.append(helper.make_attribute("value", tensor))

    assert "another file" in refused(tmp_path, edit)


def test_other_operators_are_refused(tmp_path: Path) -> None:
    def shell(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "com.evil"

    def fill(model: onnx.ModelProto) -> None:
        model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["step"], ["x"]))

    assert "refused" in refused(tmp_path, shell)
    assert "'ConstantOfShape' is refused" in refused(tmp_path, fill)


def test_a_loop_is_refused(tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        body = helper.make_attribute("body", onnx.GraphProto(name="inner"))
        model.graph.node[0].attribute.append(body)

    assert "a graph within a graph" in refused(tmp_path, edit)


def test_huge_and_false_tensors_are_refused(tmp_path: Path) -> None:
    def huge(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[:] = [2**31, 2**31]

    def false(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[:] = [1000]

    def none_but_one(model: onnx.ModelProto) -> None:
        """No values are declared, one is stored beside the bytes."""
        name = model.graph.initializer[0].name
        tensor = helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0])
        tensor.dims[:] = [0]
        model.graph.initializer[0].CopyFrom(tensor)

    def negative(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[:] = [-1]

    def text(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].CopyFrom(
            helper.make_tensor(model.graph.initializer[0].name, TensorProto.STRING, [1], [b"x"])
        )

    def infinite(model: onnx.ModelProto) -> None:
        name = model.graph.initializer[0].name
        tensor = numpy_helper.from_array(np.array([np.inf], np.float32), name)
        model.graph.initializer[0].CopyFrom(tensor)

    assert "array_bytes" in refused(tmp_path, huge)
    assert "stores others" in refused(tmp_path, false)
    assert "stores others" in refused(tmp_path, none_but_one)
    assert "shape" in refused(tmp_path, negative)
    assert "type object" in refused(tmp_path, text)
    assert "not finite" in refused(tmp_path, infinite)


def test_values_that_grow_at_every_node_are_refused(tmp_path: Path) -> None:
    """Forty doublings of one tensor: small in the file, a terabyte when it runs."""

    def edit(model: onnx.ModelProto) -> None:
        last = "input"
        for index in range(40):
            node = helper.make_node("Concat", [last, last], [f"big{index}"], axis=0)
            model.graph.node.insert(index, node)
            last = f"big{index}"

    model = integer_model(three_neurons())
    edit(model)
    path = tmp_path / "step.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(MtsparkError):
        OnnxChip(path, FileLimits(memory_bytes=2**29, seconds=5))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps_per_decision", 10**12),
        ("time_steps", 0),
        ("depths", {"hidden": 10**9, "out": 1}),
        ("input_shape", [2**40]),
        ("input_shape", []),
        ("state", []),
        ("state", [["current.hidden", "object", [2]]]),
        ("state", 3),
        ("tasks", []),
        ("readout", "nobody"),
        ("task", 7),
        ("format", "other"),
        ("version", 99),
    ],
)
def test_a_false_description_is_refused(tmp_path: Path, key: str, value: object) -> None:
    def edit(model: onnx.ModelProto) -> None:
        data = json.loads(model.metadata_props[0].value)
        data[key] = value
        model.metadata_props[0].value = json.dumps(data)

    refused(tmp_path, edit)


def test_another_tools_model_is_refused(tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.metadata_props[0].key = "other"

    assert METADATA != "other"
    assert "did not write" in refused(tmp_path, edit)


@pytest.mark.parametrize("content", [b"", b"\x08", b"no model", bytes(1000)])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(MtsparkError):
        OnnxChip(tmp_path / "x.onnx")


def test_saving_over_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real.onnx")
    save_onnx(integer_model(three_neurons()), tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    OnnxChip(tmp_path / "real.onnx")
