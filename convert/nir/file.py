"""Read an untrusted NIR file: scanned, in a limited process, then checked by nir."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import nir
import numpy as np

from mtspark.convert.nir.fields import KINDS, node_of
from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files import AnyPath, FileLimits, read_hdf5

LAST_MAJOR = 1
"""Of the versions of NIR that are known; the first number tells what a file means."""

_VERSION = re.compile(r"([0-9]{1,9})(?![0-9])", re.ASCII)

MAX_POOL = "; of spikes it is the same as SumPool2d, then a Threshold of 0.5"
METADATA = "mtspark"
"""Key of the metadata that mtspark writes: what NIR does not store."""


def read_nir(
    path: AnyPath,
    limits: FileLimits | None = None,
    trust: bool | None = None,
    *,
    type_check: bool = True,
    content: bytes | None = None,
) -> nir.NIRGraph:
    """Read a NIR graph by any tool.

    Args:
        path: the file.
        limits, trust: see :func:`mtspark.core.files.sandbox.read_guarded`.
        type_check: have nir check that shapes along the edges agree; some published graphs
            (Rockpool's) have loose ends and need False.
        content: the file's bytes where they have been read; then `path` only names them.

    Raises:
        BadFileError: no HDF5 file, no NIR graph, or anything in it that
            :mod:`mtspark.core.files.hdf5` refuses.
    """
    path = Path(path)

    # nir's nodes are no plain values: the limited process builds the graph only to check it.
    def check(values: dict[str, Any]) -> None:
        _graph(path, values, type_check)

    values = read_hdf5(path, limits, trust, check, content=content)
    return _graph(path, values, type_check)[0]


def read_nir_here(
    path: Path, limits: FileLimits, *, type_check: bool = True, content: bytes | None = None
) -> tuple[nir.NIRGraph, list[str]]:
    """:func:`read_nir` for code that runs in a limited process already.

    Returns:
        The graph, and a sentence for everything that the file does not say and that is assumed.

    Raises:
        BadFileError: see :func:`read_nir`.
    """
    return _graph(path, read_hdf5(path, limits, trust=True, content=content), type_check)


def _graph(path: Path, content: dict[str, Any], type_check: bool) -> tuple[nir.NIRGraph, list[str]]:
    """The graph, and a sentence for everything that the file leaves open and is filled in."""
    node = content.get("node")
    kind = node.get("type") if isinstance(node, dict) else None
    if not isinstance(node, dict) or not isinstance(kind, str) or kind != "NIRGraph":
        raise BadFileError(f"{path}: an HDF5 file, but no NIR graph (no group /node of one)")
    if "version" in content:
        _check_version(path, content["version"])
    if "type_check" in node:
        raise BadFileError(f"{path}: /node/type_check is no part of a NIR graph")
    _check_types(path, node, "")
    _check_groups(path, node, "node")
    notes: list[str] = []
    return _level(path, node, "", type_check, notes), notes


def _check_version(path: Path, version: Any) -> None:
    """Refuse what a newer NIR wrote, whose nodes may mean something else."""
    number = _VERSION.match(version) if isinstance(version, str) else None
    if number is None or int(number[1]) > LAST_MAJOR:
        raise BadFileError(
            f"{path}: NIR version {one_line(repr(version), 40)}; mtspark reads 0.x to "
            f"{LAST_MAJOR}.x, write the graph with such a version of nir"
        )


def _level(
    path: Path, node: dict[str, Any], prefix: str, type_check: bool, notes: list[str]
) -> nir.NIRGraph:
    """A graph, or one within another, from its fields."""
    where = f"subgraph {one_line(prefix[:-1], 80)!r}" if prefix else "it"
    inside, edges = node.get("nodes"), node.get("edges")
    if not isinstance(inside, dict) or edges is None:
        lacking = "edges" if isinstance(inside, dict) else "nodes"
        raise BadFileError(f"{path}: not a readable NIR graph: {where} has no {lacking}")
    pairs = edges if isinstance(edges, list) else np.asarray(edges).tolist()
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(end, str) for end in pair)
        for pair in pairs
    ):
        raise BadFileError(
            f"{path}: not a readable NIR graph: the edges of {where} are no pairs of names"
        )
    nodes = {
        name: _level(path, inner, f"{prefix}{name}.", type_check, notes)
        if inner["type"] == "NIRGraph"
        else node_of(str(path), prefix + name, inner, notes)
        for name, inner in inside.items()
    }
    metadata = node.get("metadata")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return nir.NIRGraph(
                nodes=nodes,
                edges=[(first, second) for first, second in pairs],
                metadata=metadata if isinstance(metadata, dict) else {},
                type_check=type_check,
            )
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        # nir checks shapes and edges; it raises assertions, type, key and value errors.
        raise BadFileError(f"{path}: not a readable NIR graph: {one_line(error)}") from error


def _check_types(path: Path, node: dict[str, Any], prefix: str) -> None:
    """Name a node of a type that NIR does not have; nir itself fails without a text."""
    nodes = node.get("nodes")
    for name, inner in nodes.items() if isinstance(nodes, dict) else ():
        kind = inner.get("type") if isinstance(inner, dict) else None
        if not isinstance(kind, str) or kind not in (*KINDS, "NIRGraph"):
            of_max = isinstance(kind, str) and kind.lower().startswith("maxpool")
            raise BadFileError(
                f"{path}: not a readable NIR graph: node {one_line(prefix + name)!r} has type "
                f"{one_line(str(kind))!r}, which NIR {nir.version} does not have"
                + (MAX_POOL if of_max else "")
            )
        if kind == "NIRGraph":
            _check_types(path, inner, f"{prefix}{name}.")


def _check_groups(path: Path, node: dict[str, Any], where: str) -> None:
    """Parameters of a node are arrays; groups are its metadata, and the nodes of a graph."""
    for key, value in node.items():
        if not isinstance(value, dict) or key == "metadata":
            continue
        if node.get("type") != "NIRGraph" or key != "nodes":
            raise BadFileError(f"{path}: /{where}/{key} is a group where an array belongs")
        for name, inner in value.items():
            if not isinstance(inner, dict) or not isinstance(inner.get("type"), str):
                raise BadFileError(f"{path}: /{where}/nodes/{one_line(name, 80)} is no node")
            _check_groups(path, inner, f"{where}/nodes/{one_line(name, 80)}")
