"""Malformed files: bytes changed at random, or sound structures with wrong content.

Bytes alone seldom get past a checksum or a compressed block, so half of the files are made by
Hypothesis: a strange value, shape, type, link or name in an otherwise sound file.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st

from mtspark.deploy.bundle import sha256

TEXT = h5py.string_dtype()
NUMBERS = st.one_of(
    st.integers(-3, 10),
    st.sampled_from([2**31 - 1, 2**31, 2**63 - 1, -(2**63), 10**9, 4096, 255]),
    st.floats(width=32),
)
SIZES = st.sampled_from([0, 1, 2, 3, 7, 10**4, 10**9, 2**31, 2**32, 2**62])
WORDS = st.one_of(
    st.sampled_from(["", "input", "LIF", "NIRGraph", "same", "..", "/", "\x1b[2J", "a" * 5000]),
    st.text(max_size=12),
)
JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        WORDS,
        st.sampled_from([10**30, -1, 2**63, "x" * 3000]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def mutate(kind: str, seed: Path, target: Path, draw: Callable[[Any], Any]) -> str:
    """Write a malformed file (or bundle) at `target`; says what was done to it."""
    if kind == "bundle":
        shutil.copytree(seed, target)
        return _bundle(target, draw)
    if draw(st.booleans()):
        target.write_bytes(mutated_bytes(seed.read_bytes(), draw))
        return "bytes"
    shutil.copyfile(seed, target)
    edits = {"nir": _hdf5, "net": _hdf5, "pt": _checkpoint, "onnx": _model}
    try:
        return edits[kind](target, draw)
    except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError, AttributeError):
        # What the library that writes such files does not write: then bytes are changed.
        target.write_bytes(mutated_bytes(seed.read_bytes(), draw))
        return "bytes"


def mutated_bytes(content: bytes, draw: Callable[[Any], Any]) -> bytes:
    """A few cuts, overwritten and inserted stretches, flipped bits, numbers at their extremes."""
    data = bytearray(content)
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    for _ in range(int(generator.integers(1, 6))):
        if not data:
            break
        at, length = int(generator.integers(len(data))), int(generator.integers(1, 17))
        what = int(generator.integers(8))
        if what == 0:
            data[at] ^= 1 << int(generator.integers(8))
        elif what == 1:
            data[at : at + length] = generator.bytes(len(data[at : at + length]))
        elif what == 2:
            data[at:at] = generator.bytes(length)
        elif what == 3:
            del data[at : at + length]
        elif what == 4 and generator.random() < 0.3:
            del data[at:]
        elif what == 5:
            source = int(generator.integers(len(data)))
            data[at : at + 64] = data[source : source + 64]
        elif what == 6:
            value = int(generator.choice([0, 1, 2**7, 2**15, 2**31, 2**32 - 1, 2**62]))
            data[at : at + 8] = value.to_bytes(8, "little")
        else:
            data[at : at + length] = b"\xff" * len(data[at : at + length])
    return bytes(data)


def _array(draw: Callable[[Any], Any]) -> np.ndarray[Any, Any]:
    kinds = ["f4", "f8", "f2", "i1", "i8", "u8", "?", ">i4", "i4"]
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    values = draw(st.lists(NUMBERS, min_size=1, max_size=3))
    with np.errstate(all="ignore"):
        filled = np.resize(np.asarray(values, np.float64), shape)
        return np.nan_to_num(filled, nan=0, posinf=1e9, neginf=-1e9).astype(
            draw(st.sampled_from(kinds))
        )


def _hdf5(path: Path, draw: Callable[[Any], Any]) -> str:
    done = []
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(draw(st.integers(1, 3))):
            name = draw(st.sampled_from(names))
            try:
                done.append(_hdf5_edit(file, name, draw))
            except (KeyError, ValueError, OSError, RuntimeError, TypeError, UnicodeError):
                done.append("an edit that an earlier one made impossible")
    return ", ".join(done)


def _hdf5_edit(file: Any, name: str, draw: Callable[[Any], Any]) -> str:
    what = draw(
        st.sampled_from(
            ["array", "array", "text", "texts", "number", "delete", "group", "soft", "external",
             "hard", "storage", "huge", "unstored", "virtual", "reference", "rename", "nan",
             "copy", "empty", "chunk"]
        )
    )  # fmt: skip
    if what == "rename":
        word = draw(WORDS).replace("/", "") or "x"
        file.move(name, name.rpartition("/")[0] + "/" + word[:300])
        return what
    if what == "copy":
        file.copy(name, f"{name}_{draw(st.integers(0, 99))}x")
        return what
    if what == "hard":
        file[f"{name}_again{draw(st.integers(0, 9))}"] = file[name]
        return what
    nan = file[name]
    if what == "nan" and isinstance(nan, h5py.Dataset) and nan.dtype.kind == "f" and nan.size:
        values = nan[()]
        values = np.asarray(values)
        values.flat[-1] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
        nan[...] = values
        return what
    del file[name]
    if what in ("array", "nan"):
        file[name] = _array(draw)
    elif what == "number":
        number = draw(NUMBERS)
        file[name] = number if isinstance(number, float) else np.int64(number)
    elif what == "text":
        file.create_dataset(name, data=_storable(draw(WORDS)), dtype=TEXT)
    elif what == "texts":
        rows = draw(st.lists(st.tuples(WORDS, WORDS), max_size=3))
        file.create_dataset(name, data=[[_storable(a), _storable(b)] for a, b in rows], dtype=TEXT)
    elif what == "group":
        file.create_group(name)
    elif what == "soft":
        file[name] = h5py.SoftLink(draw(st.sampled_from(["/", "/node", "/none", name])))
    elif what == "external":
        file[name] = h5py.ExternalLink("/etc/hostname", "/")
    elif what == "storage":
        file.create_dataset(name, (4,), "f4", external=[("/etc/hostname", 0, 16)])
    elif what in ("huge", "unstored"):
        shape = tuple(draw(st.lists(SIZES, min_size=1, max_size=3)))
        shape = shape if what == "huge" else tuple(min(n, 50) for n in shape)
        while np.prod(shape, dtype=object) * 8 >= 2**63:
            shape = shape[1:] or (10**9,)
        chunks = tuple(max(1, min(n, 8)) for n in shape)
        file.create_dataset(name, shape, "f8", chunks=chunks if 0 not in shape else None)
    elif what == "virtual":
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource("/etc/hostname", "x", (3,))
        file.create_virtual_dataset(name, layout)
    elif what == "reference":
        kinds = [h5py.ref_dtype, h5py.vlen_dtype(np.int32), np.dtype("V5"), np.complex64]
        file.create_dataset(name, (2,), draw(st.sampled_from(kinds)))
    elif what == "empty":
        file.create_dataset(name, data=h5py.Empty("f4"))
    elif what == "chunk":
        file.create_dataset(
            name, data=np.ones(4), chunks=(2,), maxshape=(None,), compression="gzip"
        )
    return what


def _storable(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _replaced(value: Any, draw: Callable[[Any], Any], new: Callable[[Any], Any]) -> Any:
    """The same nested value with one part, found by walking down at random, made anew."""
    inside = isinstance(value, (dict, list, tuple)) and len(value) > 0
    if not inside or draw(st.integers(0, 5)) == 0:
        return new(value)
    if isinstance(value, dict):
        key = draw(st.sampled_from(sorted(value, key=str)))
        if draw(st.integers(0, 12)) == 0:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: _replaced(value[key], draw, new)}
    at = draw(st.integers(0, len(value) - 1))
    return [_replaced(item, draw, new) if index == at else item for index, item in enumerate(value)]


def _checkpoint(path: Path, draw: Callable[[Any], Any]) -> str:
    import torch

    content = torch.load(path, weights_only=True)

    def new(old: Any) -> Any:
        if isinstance(old, torch.Tensor) and draw(st.booleans()):
            return draw(
                st.sampled_from(
                    [
                        torch.zeros(1).expand(3, 10**6),
                        torch.zeros(3, device="meta"),
                        torch.zeros(2, 2).to_sparse(),
                        old.double(),
                        old.to(torch.bfloat16),
                        old.flatten(),
                        old * float("nan"),
                        old[..., :0],
                        torch.zeros(2**16).as_strided((2**10, 2**10), (0, 1)),
                    ]
                )
            )
        if isinstance(old, int) and draw(st.booleans()):
            return draw(SIZES)
        return draw(JUNK)

    for _ in range(draw(st.integers(1, 3))):
        content = _replaced(content, draw, new)
    torch.save(content, path)
    return "content"


def _model(path: Path, draw: Callable[[Any], Any]) -> str:
    import onnx

    model = onnx.load_model_from_string(path.read_bytes())
    done = []
    for _ in range(draw(st.integers(1, 3))):
        what = draw(
            st.sampled_from(
                ["dims", "type", "operator", "input", "external", "describe", "shape", "value",
                 "attribute", "drop", "domain", "again"]
            )
        )  # fmt: skip
        done.append(what)
        graph = model.graph
        tensor = graph.initializer[draw(st.integers(0, len(graph.initializer) - 1))]
        node = graph.node[draw(st.integers(0, max(0, len(graph.node) - 1)))]
        if what == "dims":
            tensor.dims[:] = draw(st.lists(SIZES, max_size=3))
        elif what == "type":
            tensor.data_type = draw(st.integers(0, 24))
        elif what == "operator":
            names = ["Add", "Conv", "MatMul", "Reshape", "Loop", "If", "Expand", "Tile", "Gather"]
            node.op_type = draw(st.one_of(st.sampled_from(names), WORDS.map(_storable)))
        elif what == "input" and node.input:
            names = [entry.output[0] for entry in graph.node] + [graph.input[0].name, "none"]
            node.input[draw(st.integers(0, len(node.input) - 1))] = draw(st.sampled_from(names))
        elif what == "external":
            tensor.data_location = onnx.TensorProto.EXTERNAL
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", "/etc/hostname"
        elif what == "describe":
            data = json.loads(model.metadata_props[0].value)
            data = _replaced(data, draw, lambda old: draw(st.one_of(JUNK, SIZES)))
            model.metadata_props[0].value = _storable(json.dumps(data))
        elif what == "shape":
            ports = [*graph.input, *graph.output]
            dims = ports[draw(st.integers(0, len(ports) - 1))].type.tensor_type.shape.dim
            if dims:
                dims[draw(st.integers(0, len(dims) - 1))].dim_value = draw(SIZES)
        elif what == "value":
            tensor.raw_data = draw(st.binary(max_size=64))
        elif what == "attribute" and node.attribute:
            node.attribute[0].ints[:] = draw(st.lists(st.integers(-5, 2**40), max_size=5))
        elif what == "drop" and len(graph.node) > 1:
            del graph.node[draw(st.integers(0, len(graph.node) - 1))]
        elif what == "domain":
            model.opset_import[0].version = draw(st.sampled_from([1, 5, 13, 19, 99, 10**9]))
        elif what == "again":
            graph.node.append(copy.deepcopy(node))
    path.write_bytes(model.SerializeToString())
    return ", ".join(done)


def _bundle(folder: Path, draw: Callable[[Any], Any]) -> str:
    name = draw(st.sampled_from(["network.json", "network.safetensors", "manifest.json"]))
    path = folder / name
    what = draw(st.sampled_from(["bytes", "content", "content", "link"]))
    if what == "content" and name.endswith(".json"):
        data = json.loads(path.read_text())
        for _ in range(draw(st.integers(1, 3))):
            data = _replaced(data, draw, lambda old: draw(st.one_of(JUNK, SIZES)))
        path.write_text(json.dumps(data), encoding="utf-8", errors="replace")
    elif what == "link":
        path.unlink()
        path.symlink_to("/etc/hostname")
    else:
        path.write_bytes(mutated_bytes(path.read_bytes(), draw))
    if name != "manifest.json" and draw(st.integers(0, 4)):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"] = {entry: sha256(folder / entry) for entry in manifest["files"]}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return f"{name} {what}"
