"""What a recorded tensor can be: a sum of linear maps of signals, a view of the input, a series.

A tensor that is none of these is the error that says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtspark.convert.linear import LinearMap, compose
from mtspark.convert.snntorch.recorder import NeuronCall, Node
from mtspark.core.arrays import Floats
from mtspark.core.errors import BadNetworkError

HEAD = "readout"
"""Name of the population that sums what a last layer without neurons gives."""


@dataclass(frozen=True)
class Source:
    """The origin of a signal.

    Attributes:
        call: the call of a neuron, or a max pool of spikes; None for the input.
        quantity: "spikes", "current" or "membrane" of the neuron.
        step: of the input's slice; None where one frame is held.
    """

    call: NeuronCall | PoolCall | None
    quantity: str = ""
    step: int | None = None


@dataclass(frozen=True)
class Term:
    """A signal through a linear map.

    Attributes:
        source: of the signal.
        linear: the map.
        where: the line of the user's source that it comes from.
    """

    source: Source
    linear: LinearMap
    where: str = ""


def composed(second: LinearMap, first: LinearMap, where: str) -> LinearMap:
    """:func:`~mtspark.convert.linear.composition.compose` with the user's line in its error."""
    try:
        return compose(second, first)
    except BadNetworkError as error:
        raise BadNetworkError(f"{where}: {error}") from error


@dataclass
class Form:
    """A sum of terms and a constant.

    Attributes:
        shape: of one sample.
        terms: to be added up.
        constant: added to them, of that shape.
    """

    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    constant: Floats


@dataclass(eq=False)
class PoolCall:
    """A maximum of spikes in one step: neurons that fire on any spike of their window.

    Attributes:
        drive: how many values of each neuron's window are there.
        threshold: above which it fires: 0.5 for any of them; all but half of one where the
            values are negative spikes, whose maximum falls only when all are there.
        node: that was recorded.
        spikes: what it sent in the recorded run, (batch, *shape), 0 or 1.
    """

    drive: Form
    threshold: Floats
    node: Node
    spikes: Tensor

    @property
    def where(self) -> str:
        """The line of the user's source."""
        return self.node.where


@dataclass
class Pooled:
    """A maximum of values that are no spikes, which no synapse can take.

    Neurons right behind it may fire before it (an approximation).

    Attributes:
        form: the values.
        pools: the maxima that were taken of them, in order.
        of: what the values are, in a few words.
    """

    form: Form
    pools: tuple[Node, ...]
    of: str


@dataclass(frozen=True)
class InputValues:
    """What the values of the input are.

    Attributes:
        spike: what a spike is worth; None where messages are values.
        recorded: whether the module was run on spikes, rather than on any values.
    """

    spike: float | None = 1.0
    recorded: bool = False


class NeedsSpikesError(BadNetworkError):
    """What is recorded depends on the input's being spikes, and it was not."""


class MixedInputError(BadNetworkError):
    """The input is not used one time step and one sample at a time."""


@dataclass
class View:
    """Values of the whole input, moved only.

    Attributes:
        index: the number of every value in the input, (step, sample, value) in row-major order.
        call: which call of the module the input belongs to; -1 where there is one call.
    """

    index: NDArray[np.int64]
    call: int


@dataclass
class Series:
    """Forms of several steps, stacked.

    Attributes:
        forms: by step.
        axis: along which they are stacked, batch included.
    """

    forms: list[Form]
    axis: int


Value = Form | View | Series | Pooled | BadNetworkError


def nodes_in(value: Any) -> list[Node]:
    """List all nodes in nested lists, tuples and dicts."""
    if isinstance(value, Node):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [node for entry in value for node in nodes_in(entry)]
    return []


def substitute(
    value: Any, arrays: dict[int, Any], *, double: bool = False, zero_rest: bool = False
) -> Any:
    """Put arrays in the place of nodes, to run a recorded function again.

    Args:
        value: arguments of the function: nested lists, tuples and dicts.
        arrays: by the id of the node that they replace.
        double: also turn plain tensors into float64.
        zero_rest: put integer zeros in the place of plain tensors.
    """
    if isinstance(value, Node):
        return torch.as_tensor(np.array(arrays[id(value)]))
    if isinstance(value, Tensor):
        if zero_rest and value.is_floating_point():
            return torch.zeros(value.shape, dtype=torch.int64)
        return value.detach().double() if double and value.is_floating_point() else value
    if isinstance(value, dict):
        return {
            key: substitute(entry, arrays, double=double, zero_rest=zero_rest)
            for key, entry in value.items()
        }
    if isinstance(value, (list, tuple)):
        entries = [substitute(e, arrays, double=double, zero_rest=zero_rest) for e in value]
        return tuple(entries) if isinstance(value, tuple) else entries
    return value
