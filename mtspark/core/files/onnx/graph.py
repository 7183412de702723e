"""Building ONNX graphs node by node, and writing them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files.atomic import AnyPath, write_bytes

METADATA = "mtspark"
"""Key of the model's properties under which mtspark's own description stands, as JSON."""

OPSET, IR_VERSION = 20, 10

NEXT = "next."
"""Begins the name of the output that becomes the input of that name at the next step."""

TYPES = {
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "bool": TensorProto.BOOL,
    "int64": TensorProto.INT64,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}


@dataclass(frozen=True)
class Port:
    """An input or output of a model, or a tensor of its state.

    Attributes:
        name: of the input; of a state, with :data:`NEXT` before it, of the output too.
        dtype: NumPy name of its type.
        shape: without the batch.
        batched: whether a batch comes first.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    batched: bool = True

    def renamed(self, name: str) -> Port:
        """The same under another name."""
        return Port(name, self.dtype, self.shape, self.batched)


class OnnxGraph:
    """Nodes and constants; every operation gives the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._known: dict[bytes, str] = {}

    def op(self, kind: str, *inputs: str, result: str | None = None, **attributes: Any) -> str:
        """Add a node with one result."""
        name = result or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """Add a constant; equal ones are kept once."""
        array = np.asarray(value, dtype=dtype)
        key = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).digest()
        if key not in self._known:
            self._known[key] = f"c{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def cast(self, name: str, dtype: str, result: str | None = None) -> str:
        """Convert to a type by its NumPy name."""
        return self.op("Cast", name, result=result, to=TYPES[dtype])

    def model(
        self, inputs: Sequence[Port], outputs: Sequence[Port], description: dict[str, Any]
    ) -> onnx.ModelProto:
        """Finish: a checked model that carries its description."""
        model = helper.make_model(
            helper.make_graph(
                self.nodes,
                "mtspark",
                [_value_info(port) for port in inputs],
                [_value_info(port) for port in outputs],
                self.constants,
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="mtspark",
        )
        helper.set_model_props(model, {METADATA: json.dumps(description)})
        onnx.checker.check_model(model)
        return model


def _value_info(port: Port) -> onnx.ValueInfoProto:
    shape: list[Any] = (["batch"] if port.batched else []) + list(port.shape)
    return helper.make_tensor_value_info(port.name, TYPES[port.dtype], shape)


def save_onnx(model: onnx.ModelProto, path: AnyPath) -> None:
    """Write a model whole or not at all; a link stays a link.

    Raises:
        BadFileError: it cannot be written.
    """
    try:
        content = model.SerializeToString()
    except ValueError as error:
        # Protocol buffers end at two gigabytes.
        raise BadFileError(f"{path}: cannot be written ({one_line(error)})") from error
    write_bytes(path, content)
