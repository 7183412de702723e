"""ONNX files of strangers: looked at node by node, tried once in a limited process.

An ONNX file can name other files as its weights, carry operators of its own and loops, and
declare tensors that no memory holds. Only what mtspark itself writes is read: plain operators
on tensors whose values are all in the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files.limits import FileLimits, check_file_size, over
from mtspark.core.files.onnx.graph import METADATA
from mtspark.core.files.sandbox import read_guarded

if TYPE_CHECKING:
    import onnx

OPERATORS = frozenset(
    (
        "Abs",
        "Add",
        "And",
        "Cast",
        "Clip",
        "Concat",
        "Conv",
        "Div",
        "Equal",
        "Flatten",
        "Gather",
        "Gemm",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "MatMul",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "ReduceMean",
        "ReduceSum",
        "Reshape",
        "Sign",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
        "Where",
    )
)
"""What the graphs that mtspark writes are made of; none of them loops or reads a file."""


@dataclass(frozen=True)
class OnnxFile:
    """A scanned model.

    Attributes:
        content: its bytes, the very ones that were scanned.
        description: what mtspark wrote into it.
    """

    content: bytes
    description: dict[str, Any]


def read_onnx(
    path: Path,
    limits: FileLimits | None = None,
    trust: bool | None = None,
    attempt: Callable[[OnnxFile], object] | None = None,
) -> OnnxFile:
    """Read an ONNX model that mtspark wrote, in a limited process of its own.

    Args:
        path: the file.
        limits, trust: see :func:`mtspark.core.files.sandbox.read_guarded`.
        attempt: called on the file in that process; it raises what is wrong with it.

    Raises:
        BadFileError: no ONNX model of mtspark, or anything in it that is refused or over a
            limit.
    """

    def read(bounds: FileLimits) -> dict[str, Any]:
        check_file_size(path, bounds)
        content = path.read_bytes()
        file = OnnxFile(content, _scan(path, content, bounds))
        if attempt is not None:
            attempt(file)
        return {"content": np.frombuffer(content, np.uint8), "description": file.description}

    answer = read_guarded(str(path), read, limits, trust)
    return OnnxFile(answer["content"].tobytes(), answer["description"])


def _scan(path: Path, content: bytes, limits: FileLimits) -> dict[str, Any]:
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        # Protobuf's own errors share no base with a public name.
        raise BadFileError(f"{path}: not an ONNX model: {one_line(error)}") from error
    graph = model.graph
    if len(graph.node) + len(graph.initializer) > limits.objects:
        raise over("objects", f"{path}", len(graph.node) + len(graph.initializer), limits)
    if model.functions or model.training_info or graph.sparse_initializer:
        raise BadFileError(f"{path}: holds functions, training or sparse tensors; refused")
    if any(entry.domain not in ("", "ai.onnx") for entry in model.opset_import):
        raise BadFileError(f"{path}: needs operators beyond ONNX's own; refused")
    total = 0
    for tensor in graph.initializer:
        total += _check_tensor(path, tensor, limits)
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise BadFileError(f"{path}: operator {one_line(node.op_type, 40)!r} is refused")
        for attribute in node.attribute:
            if attribute.g.node or attribute.graphs or attribute.sparse_tensors:
                raise BadFileError(f"{path}: a graph within a graph; refused")
            if attribute.HasField("g") or attribute.HasField("sparse_tensor"):
                raise BadFileError(f"{path}: a graph within a graph; refused")
            for tensor in (attribute.t, *attribute.tensors):
                total += _check_tensor(path, tensor, limits)
    if total > limits.total_bytes:
        raise over("total_bytes", f"{path}: tensors", total, limits)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _check_value(path, value, limits)
    try:
        onnx.checker.check_model(model)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        raise BadFileError(f"{path}: not a valid ONNX model: {one_line(error)}") from error
    return _description(path, model, limits)


def _check_tensor(path: Path, tensor: onnx.TensorProto, limits: FileLimits) -> int:
    import onnx

    if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise BadFileError(f"{path}: keeps tensors in another file; refused")
    if not tensor.data_type:
        return 0
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, TypeError, ValueError) as error:
        raise BadFileError(f"{path}: a tensor of unknown type {tensor.data_type}") from error
    if kind.kind not in "biuf":
        raise BadFileError(f"{path}: a tensor of type {kind}; refused")
    if any(length < 0 for length in tensor.dims):
        raise BadFileError(f"{path}: a tensor of shape {list(tensor.dims)[:8]}")
    size = prod(tensor.dims) * kind.itemsize
    if size > limits.array_bytes:
        raise over("array_bytes", f"{path}: a tensor declares", size, limits)
    numbers = (tensor.float_data, tensor.int32_data, tensor.int64_data)
    typed = sum(map(len, (*numbers, tensor.double_data, tensor.uint64_data)))
    raw = len(tensor.raw_data)
    if (raw, typed) not in ((size, 0), (0, prod(tensor.dims))):
        raise BadFileError(f"{path}: a tensor declares {prod(tensor.dims)} values, stores others")
    if kind.kind == "f" and not np.isfinite(onnx.numpy_helper.to_array(tensor)).all():
        raise BadFileError(f"{path}: a tensor has values that are not finite")
    return size


def _check_value(path: Path, value: onnx.ValueInfoProto, limits: FileLimits) -> None:
    if len(value.name) > 2 * limits.name_length:
        raise over("name_length", f"{path}: a name", len(value.name), limits)
    # A name that is no UTF-8 comes as bytes.
    if not isinstance(value.name, str) or not value.name.isprintable():
        raise BadFileError(f"{path}: holds a name that cannot be printed")
    known = [max(1, entry.dim_value) for entry in value.type.tensor_type.shape.dim]
    if prod(known) > limits.neurons:
        raise over("neurons", f"{path}: {value.name}", prod(known), limits)


def _description(path: Path, model: onnx.ModelProto, limits: FileLimits) -> dict[str, Any]:
    texts = [entry.value for entry in model.metadata_props if entry.key == METADATA]
    if len(texts) != 1 or len(texts[0]) > limits.text_bytes:
        raise BadFileError(f"{path}: an ONNX model that mtspark did not write")
    try:
        description = json.loads(texts[0])
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{path}: mtspark's description in it is damaged") from error
    if not isinstance(description, dict):
        raise BadFileError(f"{path}: mtspark's description in it is damaged")
    return description
