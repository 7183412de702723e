"""Read an untrusted NIR file: scanned, in a limited process, then checked by nir."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nir

from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files import AnyPath, FileLimits, read_hdf5, text_of_nir

METADATA = "mtspark"
"""Key of the metadata that mtspark writes: what NIR does not store."""


def read_nir(
    path: AnyPath,
    limits: FileLimits | None = None,
    trust: bool | None = None,
    *,
    type_check: bool = True,
) -> nir.NIRGraph:
    """Read a NIR graph by any tool.

    Args:
        path: the file.
        limits, trust: see :func:`mtspark.core.files.sandbox.read_guarded`.
        type_check: have nir check that shapes along the edges agree; some published graphs
            (Rockpool's) have loose ends and need False.

    Raises:
        BadFileError: no HDF5 file, no NIR graph, or anything in it that
            :mod:`mtspark.core.files.hdf5` refuses.
    """
    path = Path(path)

    # nir's nodes are no plain values: the limited process builds the graph only to check it.
    def check(content: dict[str, Any]) -> None:
        _graph(path, content, type_check)

    return _graph(path, read_hdf5(path, text_of_nir, limits, trust, check), type_check)


def read_nir_here(path: Path, limits: FileLimits, *, type_check: bool = True) -> nir.NIRGraph:
    """:func:`read_nir` for code that runs in a limited process already.

    Raises:
        BadFileError: see :func:`read_nir`.
    """
    return _graph(path, read_hdf5(path, text_of_nir, limits, trust=True), type_check)


def _graph(path: Path, content: dict[str, Any], type_check: bool) -> nir.NIRGraph:
    node = content.get("node")
    kind = node.get("type") if isinstance(node, dict) else None
    if not isinstance(node, dict) or not isinstance(kind, str) or kind != "NIRGraph":
        raise BadFileError(f"{path}: an HDF5 file, but no NIR graph (no group /node of one)")
    if "type_check" in node:
        raise BadFileError(f"{path}: /node/type_check is no part of a NIR graph")
    _check_types(path, node, "")
    _check_groups(path, node, "node")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # nir changes the dicts that it reads.
            graph = nir.dict2NIRNode(_unchecked(_copied(node), type_check))
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        # nir raises assertions, type, key, value and attribute errors on malformed nodes.
        reason = one_line(error)
        raise BadFileError(f"{path}: not a readable NIR graph: {reason}") from error
    if not isinstance(graph, nir.NIRGraph):
        raise BadFileError(f"{path}: no NIR graph")
    return graph


def _check_types(path: Path, node: dict[str, Any], prefix: str) -> None:
    """Name a node of a type that NIR does not have; nir itself fails without a text."""
    nodes = node.get("nodes")
    for name, inner in nodes.items() if isinstance(nodes, dict) else ():
        kind = inner.get("type") if isinstance(inner, dict) else None
        known = getattr(nir.ir, kind, None) if isinstance(kind, str) else None
        if not (isinstance(known, type) and issubclass(known, nir.NIRNode)):
            raise BadFileError(
                f"{path}: not a readable NIR graph: node {one_line(prefix + name)!r} has type "
                f"{one_line(str(kind))!r}, which NIR {nir.version} does not have"
            )
        if kind == "NIRGraph":
            _check_types(path, inner, f"{prefix}{name}.")


def _unchecked(node: dict[str, Any], type_check: bool) -> dict[str, Any]:
    """Tell a graph and the graphs in it, which nir would always check, whether to check."""
    nodes = node.get("nodes")
    if node.get("type") == "NIRGraph" and isinstance(nodes, dict):
        for inner in nodes.values():
            if isinstance(inner, dict) and inner.get("type") == "NIRGraph":
                _unchecked(inner, type_check)
        node["type_check"] = type_check
    return node


def _copied(content: dict[str, Any]) -> dict[str, Any]:
    """The dicts anew, the arrays shared."""
    return {
        key: _copied(value) if isinstance(value, dict) else value for key, value in content.items()
    }


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
