"""Maps as matrices, and as connections of a float network."""

from __future__ import annotations

import numpy as np

from mtspark.convert.linear.maps import BLOCK_VALUES, Conv, Dense, LinearMap, Scale
from mtspark.core.arrays import Floats
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network import FloatConnection, FloatKind

MATRIX_VALUES = 2**25
"""Values of the largest matrix that maps without a compact form may become (256 MiB).

As many bytes as one array of a file may have (``FileLimits.array_bytes``). Matrices are built in
blocks of :data:`~mtspark.convert.linear.maps.BLOCK_VALUES`, so a process that may use 1 GiB has
room for one and its factors. Exactness sets no limit: all products are float64.
"""


def check_size(outputs: int, inputs: int, *factors: LinearMap) -> None:
    """Check that a matrix may be built.

    Args:
        outputs, inputs: its size.
        factors: maps that it is made of; a matrix among them may be as large as it is already.

    Raises:
        BadNetworkError: it would be too large.
    """
    there = [factor.weights.size for factor in factors if isinstance(factor, Dense)]
    if outputs * inputs > max([MATRIX_VALUES, *there]):
        raise BadNetworkError(
            f"layers without neurons between them combine to a matrix of {outputs} x {inputs}, "
            f"{MATRIX_VALUES} values are the limit; put spiking neurons between them"
        )


def matrix(linear: LinearMap) -> Floats:
    """The matrix of a map, (outputs, inputs).

    Raises:
        BadNetworkError: it would be too large.
    """
    if isinstance(linear, Dense):
        return linear.weights
    if isinstance(linear, Scale):
        check_size(linear.outputs, linear.inputs)
        return np.diag(linear.factors)
    return product(linear, None)


def product(second: LinearMap, first: LinearMap | None) -> Floats:
    """The matrix of `first`, then `second`, (outputs, inputs).

    Rows are taken back through `first`, or columns on through `second`: where neither is a
    matrix, unit vectors from the smaller end, a block at a time.

    Args:
        second: applied last.
        first: applied before; None: nothing is.

    Raises:
        BadNetworkError: it would be too large.
    """
    chain = (second,) if first is None else (first, second)
    inputs, outputs = chain[0].inputs, second.outputs
    check_size(outputs, inputs, *chain)
    if first is not None and isinstance(second, Dense):
        return first.transposed(second.weights)
    if isinstance(first, Dense):
        return np.ascontiguousarray(second.apply(first.weights.T).T)
    result = np.empty((outputs, inputs))
    block = max(1, BLOCK_VALUES // max(outputs, *(linear.inputs for linear in chain)))
    for start in range(0, min(outputs, inputs), block):
        if outputs <= inputs:
            rows = _units(outputs, start, block)
            for linear in reversed(chain):
                rows = linear.transposed(rows)
            result[start : start + block] = rows
        else:
            rows = _units(inputs, start, block)
            for linear in chain:
                rows = linear.apply(rows)
            result[:, start : start + block] = rows.T
    return result


def _units(size: int, start: int, count: int) -> Floats:
    """Unit vectors number `start` and the following ones, as rows."""
    count = min(count, size - start)
    rows = np.zeros((count, size))
    rows[np.arange(count), start + np.arange(count)] = 1
    return rows


def connection(linear: LinearMap, name: str, source: str, target: str) -> FloatConnection:
    """Make a connection of a map; one that has no compact form there becomes a matrix.

    Args:
        linear: the map.
        name: of the connection.
        source, target: names of populations.

    Raises:
        BadNetworkError: that matrix would be too large.
    """
    if isinstance(linear, Conv):
        return FloatConnection(
            name,
            source,
            target,
            FloatKind.CONV,
            linear.weights,
            input_shape=linear.geometry.input_shape,
            output_shape=linear.geometry.output_shape,
            **linear.geometry.conv_fields,
        )
    if isinstance(linear, Scale):
        return FloatConnection(name, source, target, FloatKind.DIAGONAL, linear.factors)
    return FloatConnection(name, source, target, FloatKind.DENSE, matrix(linear))
