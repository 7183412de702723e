"""Build nir's nodes from the fields of a file, whatever version of NIR wrote them.

nir's constructors want every field as the newest version has it, and their errors name neither
the node nor a remedy. Here, what follows from the other fields is filled in: fields that older
versions do not write, parameters of one number beside parameters of many, a matrix of input
weights. Everything that is filled in is said in a note.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

from mtspark.core.arrays import AnyArray
from mtspark.core.errors import BadFileError, one_line

Fields = dict[str, Any]
Default = Callable[[Fields], Any]


@dataclass(frozen=True)
class _Kind:
    """The fields of one type of node.

    Attributes:
        needed: nothing else says what they are.
        assumed: absent ones have a value that a note says.
        understood: absent ones have the value that the format itself gives them.
    """

    needed: tuple[str, ...] = ()
    assumed: dict[str, Default] = field(default_factory=dict)
    understood: dict[str, Default] = field(default_factory=dict)

    @property
    def known(self) -> tuple[str, ...]:
        """Names of all fields."""
        return (*self.needed, *self.assumed, *self.understood)


def _always(value: Any) -> Default:
    return lambda _: value


def _no_bias(fields: Fields) -> AnyArray:
    return np.zeros(np.shape(fields["weight"])[:1])


_STEPS = {"stride": _always(1), "padding": _always(0), "dilation": _always(1), "groups": _always(1)}
_CONVOLUTION = _Kind(("weight",), {**_STEPS, "bias": _no_bias}, {"input_shape": _always(None)})
_POOL = _Kind(("kernel_size",), {"stride": lambda f: f["kernel_size"], "padding": _always(0)})
_RESET: dict[str, Default] = {"v_reset": _always(0.0)}
_GAIN: dict[str, Default] = {"w_in": _always(1.0)}

KINDS: dict[str, _Kind] = {
    "Input": _Kind((), {}, {"shape": _always(None)}),
    "Output": _Kind((), {}, {"shape": _always(None)}),
    "Linear": _Kind(("weight",)),
    "Affine": _Kind(("weight",), {"bias": _no_bias}),
    "Scale": _Kind(("scale",)),
    "Conv1d": _CONVOLUTION,
    "Conv2d": _CONVOLUTION,
    "SumPool2d": _POOL,
    "AvgPool2d": _POOL,
    "Flatten": _Kind(
        (),
        {},
        {"input_type": _always(None), "start_dim": _always(1), "end_dim": _always(-1)},
    ),
    "Delay": _Kind(("delay",)),
    "Threshold": _Kind(("threshold",)),
    "I": _Kind(("r",)),
    "LI": _Kind(("tau", "r", "v_leak")),
    "IF": _Kind(("r", "v_threshold"), {}, _RESET),
    "LIF": _Kind(("tau", "r", "v_leak", "v_threshold"), {}, _RESET),
    "CubaLI": _Kind(("tau_syn", "tau_mem", "r", "v_leak"), _GAIN),
    "CubaLIF": _Kind(("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"), _GAIN, _RESET),
}
"""Types of nodes by name; NIRGraph apart, which holds others."""

NEURONS = ("I", "LI", "IF", "LIF", "CubaLI", "CubaLIF")
WHOLE = ("stride", "padding", "dilation", "groups", "kernel_size", "start_dim", "end_dim")
DIMENSIONS = {"Linear": 2, "Affine": 2, "Conv1d": 3, "Conv2d": 4}


def node_of(where: str, name: str, content: Fields, notes: list[str]) -> nir.NIRNode:
    """Build one node.

    Args:
        where: begins the error: the file.
        name: of the node, with the names of the graphs around it.
        content: the node's fields, its type and its metadata.
        notes: gets a sentence for everything that the file does not say.

    Raises:
        BadFileError: a field that is missing, unknown, or of no form that the type has.
    """
    kind = content["type"]
    known = KINDS[kind]
    label = f"{where}: not a readable NIR graph: node {one_line(name, 80)!r} ({kind})"
    metadata = content.get("metadata")
    fields = {
        key: value
        for key, value in content.items()
        if key not in ("type", "metadata") and value is not None
    }
    padding = fields.get("padding")
    if isinstance(padding, list) and len(padding) == 1:
        # A text as an array of one.
        fields["padding"] = padding[0]
    for key, value in fields.items():
        if key not in known.known:
            raise BadFileError(
                f"{label} has a field {one_line(key, 40)!r}, which NIR {nir.version} does not "
                f"have; a {kind} has {', '.join(known.known) or 'none'}"
            )
        if key != "padding" and np.asarray(value).dtype.kind not in "biuf":
            raise BadFileError(f"{label}: {key} is a text, where numbers belong")
    for key in known.needed:
        if key not in fields:
            raise BadFileError(
                f"{label} has no {key}, and nothing else in the file says it; write the file "
                f"again with its {key}"
            )
    weight = fields.get("weight")
    if weight is not None and np.ndim(weight) != DIMENSIONS[kind]:
        raise BadFileError(
            f"{label}: weight has shape {np.shape(weight)}; {kind} weights have {DIMENSIONS[kind]} "
            "dimensions"
        )
    for key in WHOLE:
        if key in fields and np.asarray(fields[key]).dtype.kind != "U":
            _check_whole(f"{label}: {key}", fields[key])
    for key in ("shape", "input_type", "input_shape"):
        if key in fields:
            _check_shape(f"{label}: {key}", fields[key])
    told = list(fields)
    for key, default in known.assumed.items():
        if key not in fields:
            fields[key] = default(fields)
            values = sorted({f"{value:g}" for value in np.ravel(fields[key])})
            notes.append(f"{name}: no {key} in the file, taken as {', '.join(values)}")
    for key, default in known.understood.items():
        fields.setdefault(key, default(fields))
    matrix = _share_a_shape(label, fields) if kind in NEURONS else None
    single = [key for key in told if np.size(content[key]) == 1 < np.size(fields[key])]
    if single:
        count = np.size(fields[single[0]])
        # A row of input weights may be of one neuron, which what is around it says.
        row = "w_in" in told and np.shape(content["w_in"]) == (1, count)
        of = f"beside {count} of w_in" if row else f"which holds for all {count} neurons"
        notes.append(f"{name}: {', '.join(single)}: one number, {of}")
    try:
        node = _constructed(kind, fields)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        # nir's constructors compute with what they are given, and check little of it before.
        raise BadFileError(f"{label} cannot be built: {one_line(error)}") from error
    if matrix is not None:
        node.w_in = matrix
        node.input_type = {"input": np.array(matrix.shape[1:])}
    node.metadata = metadata if isinstance(metadata, dict) else {}
    return node


def _constructed(kind: str, fields: Fields) -> nir.NIRNode:
    if kind in ("Input", "Output"):
        # An end without a shape takes that of its neighbours.
        shape = fields["shape"] if np.size(fields["shape"]) else None
        key, made = ("input", nir.Input) if kind == "Input" else ("output", nir.Output)
        return made({key: None if shape is None else np.asarray(shape)})
    if kind == "Flatten":
        fields["input_type"] = {"input": fields["input_type"]}
    constructor: Any = getattr(nir, kind)
    return constructor(**fields)


def _check_whole(label: str, value: Any) -> None:
    numbers = np.asarray(value, np.float64)
    if not np.isfinite(numbers).all() or np.any(numbers != np.round(numbers)):
        raise BadFileError(
            f"{label} is {one_line(str(numbers.tolist()), 40)}; must be whole numbers"
        )


def _check_shape(label: str, value: Any) -> None:
    sizes = np.asarray(value, np.float64)
    if sizes.ndim > 1 or not np.isfinite(sizes).all() or np.any(sizes != np.round(sizes)):
        raise BadFileError(f"{label} is {one_line(str(sizes.tolist()), 40)}, which is no shape")
    if np.any(sizes < 1):
        raise BadFileError(
            f"{label} is {one_line(str(sizes.astype(np.int64).tolist()), 40)}; sizes begin at 1"
        )


def _share_a_shape(label: str, fields: Fields) -> AnyArray | None:
    """Bring a neuron's parameters to one shape; returns input weights that are a matrix.

    One number holds for all neurons, as does a length of 1 for all places of its dimension.
    """
    arrays = {key: np.asarray(value) for key, value in fields.items()}
    weights = arrays.pop("w_in", np.ones(()))
    shape, matrix = _common(label, arrays), None
    is_matrix = weights.ndim == 2 and len(weights) > 1 and _plain(weights.shape) != _plain(shape)
    if is_matrix and int(np.prod(shape)) in (1, len(weights)):
        shape, matrix = (shape if np.prod(shape) > 1 else (len(weights),)), weights
    elif "w_in" in fields:
        arrays["w_in"] = weights
        shape = _common(label, arrays)
    for key, array in arrays.items():
        same_size = array.size == int(np.prod(shape))
        fields[key] = array.reshape(shape) if same_size else np.broadcast_to(array, shape).copy()
    if matrix is not None:
        fields["w_in"] = 1.0
    return matrix


def _common(label: str, arrays: dict[str, AnyArray]) -> tuple[int, ...]:
    """The shape that a neuron's parameters share."""
    many = {key: array.shape for key, array in arrays.items() if array.size != 1}
    if not many:
        return max((array.shape for array in arrays.values()), key=len)
    shapes = sorted(set(many.values()), key=len)
    if len({_plain(shape) for shape in shapes}) == 1:
        return shapes[-1]
    if len({len(shape) for shape in shapes}) == 1:
        try:
            return np.broadcast_shapes(*shapes)
        except ValueError:
            pass
    told = ", ".join(f"{key} {shape}" for key, shape in many.items())
    raise BadFileError(
        f"{label}: parameters of different shapes ({told}); each is one number, or has the shape "
        "of the neurons"
    )


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without lengths of 1."""
    return tuple(length for length in shape if length != 1)
