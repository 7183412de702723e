"""Networks of lava-dl (netx, HDF5 ``.net``) as chip networks, without any rounding.

Follows what lava-dl 0.6.0 builds from such a file (``lava/lib/dl/netx/hdf5.py``): du is iDecay
- 1, biases are shifted by 6, kernels are plain cross-correlations in (out, in, rows, columns).
Transposed convolutions and pools, which lava-dl trains but does not build, are what they are in
its training. Other neurons and what the chip cannot hold are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.convert.linear import convolution, matrix
from mtspark.core.arithmetic import DELAYS
from mtspark.core.arrays import Integers
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    FrameInput,
    Population,
    Readout,
    ReadoutKind,
    SignMode,
    check_network,
    check_network_limits,
    network_from_json,
    network_to_json,
)
from mtspark.core.environments import Task
from mtspark.core.errors import BadNetworkError, one_line
from mtspark.core.files import (
    AnyPath,
    FileLimits,
    chosen_policy,
    read_guarded,
    read_hdf5,
)

BIAS_EXPONENT = 6
DEFAULT_STEPS = 16

DECAYED = 4096
"""Of 4096: a decay that leaves nothing."""

NEVER = 131071
"""Threshold of neurons that are read by their membrane, and the largest of the chip."""

KINDS = ("input", "conv", "convT", "pool", "unpool", "flatten", "dense", "dense_rec")

Shape = tuple[int, ...]
Layer = dict[str, Any]


@dataclass
class _Chain:
    """The network so far.

    Attributes:
        shape: of the signal that the last layer sends.
        source: name of the population that sends it.
        input_shape: of the network.
        graded: whether frames are bytes.
        asked: shape of the input that the user gave.
        populations, connections: so far.
        notes: for the user, one sentence each.
    """

    shape: Shape = ()
    source: str = INPUT
    input_shape: Shape = ()
    graded: bool = False
    asked: Shape | None = None
    populations: list[Population] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def named(self, kind: str) -> str:
        """conv-0, conv-1, ..., as lava-dl's own recordings are called."""
        return f"{kind}-{sum(p.name.startswith(f'{kind}-') for p in self.populations)}"

    def add(self, population: Population, connections: list[Connection]) -> None:
        """Append a layer."""
        self.populations.append(population)
        self.connections += connections
        self.source, self.shape = population.name, population.shape


def import_netx(
    path: AnyPath,
    time_steps: int | None = None,
    *,
    input_shape: Shape | None = None,
    limits: FileLimits | None = None,
    trust: bool | None = None,
    content: bytes | None = None,
) -> ChipNetwork:
    """Read an untrusted file: the whole import runs in a limited process.

    Args:
        path: of the file.
        time_steps: T of one run; default: the file's own tSample, else 16.
        input_shape: of one step, (channels, rows, columns), for a file without an input layer.
        limits, trust: see :func:`mtspark.core.files.sandbox.read_guarded`.
        content: the file's bytes where they have been read; then `path` only names them.

    Raises:
        BadFileError: not a readable HDF5 file, or a network over a limit.
        BadNetworkError: a layer that lava-dl does not build, or that the chip does not have.
    """
    path = Path(path)

    def read(bounds: FileLimits) -> dict[str, Any]:
        values = read_hdf5(path, bounds, trust=True, content=content)
        network = _imported(path, values, time_steps, input_shape)
        check_network_limits(network, bounds, str(path))
        check_network(network)
        data, arrays = network_to_json(network)
        return {"data": data, "arrays": arrays}

    answer = read_guarded(str(path), read, limits, trust)
    bounds = chosen_policy(limits, trust).limits
    return network_from_json(answer["data"], answer["arrays"], str(path), bounds)


def _imported(
    path: Path, content: Layer, time_steps: int | None, input_shape: Shape | None
) -> ChipNetwork:
    layers = content.get("layer")
    if not isinstance(layers, dict) or not layers:
        raise BadNetworkError(f"{path}: an HDF5 file, but no netx network (no group /layer)")
    chain = _Chain(asked=input_shape)
    for index in range(len(layers)):
        where = f"{path}: layer {index}"
        layer = layers.get(str(index))
        if not isinstance(layer, dict):
            raise BadNetworkError(f"{where} is missing, {len(layers)} layers are listed")
        try:
            _add_layer(chain, layer)
        except KeyError as error:
            raise BadNetworkError(f"{where}: has no field {one_line(error)}") from error
        except (TypeError, ValueError, OverflowError, IndexError) as error:
            raise BadNetworkError(
                f"{where}: missing or malformed: {type(error).__name__} {one_line(error)}"
            ) from error
        except BadNetworkError as error:
            raise BadNetworkError(f"{where}: {error}") from error
    if not chain.populations:
        raise BadNetworkError(f"{path}: no layer with neurons")
    last = chain.populations[-1]
    silent = bool((last.thresholds == NEVER).all())
    return ChipNetwork(
        name=path.stem,
        input=FrameInput(chain.input_shape, 8 if chain.graded else 0, held=chain.graded),
        populations=tuple(chain.populations),
        connections=tuple(chain.connections),
        readout=Readout(
            last.name,
            np.ones(last.shape),
            ReadoutKind.MEMBRANE if silent else ReadoutKind.SPIKES,
        ),
        tasks=(Task("default", "", ()),),
        time_steps=_steps(content) if time_steps is None else time_steps,
        protocol=None,
        provenance={"netx": path.name, "notes": "; ".join(chain.notes)},
    )


def _steps(content: Layer) -> int:
    sample = content.get("simulation")
    stored = sample.get("tSample") if isinstance(sample, dict) else None
    return DEFAULT_STEPS if stored is None else int(_whole("tSample", stored).reshape(-1)[0])


def _add_layer(chain: _Chain, layer: Layer) -> None:
    kind = layer["type"]
    kind = kind[0] if isinstance(kind, list) else kind
    if isinstance(kind, np.ndarray):
        kind = kind.reshape(-1)[0]
    kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)
    if kind not in KINDS:
        raise BadNetworkError(f"type {kind!r}; must be {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    _check_neurons(layer)
    if kind == "input":
        _add_input(chain, layer)
        return
    _begin(chain, layer, kind)
    if kind == "conv":
        _add_conv(chain, layer)
    elif kind == "pool":
        _add_pool(chain, layer)
    elif kind in ("convT", "unpool"):
        _add_transposed(chain, layer, kind)
    elif kind == "flatten":
        chain.shape = (int(np.prod(chain.shape)),)
    else:
        _add_dense(chain, layer, kind == "dense_rec")


def _begin(chain: _Chain, layer: Layer, kind: str) -> None:
    """Give the chain the shape of its input where no layer of the file says it.

    Dense layers say it by their weights, and convolutions of stride 1 by the shape they make.
    """
    shape = chain.asked
    if chain.input_shape or (shape is None and kind in ("flatten", "dense", "dense_rec")):
        return
    if shape is None and kind == "conv":
        weights, made = _kernels(layer), _shape(layer["shape"])
        steps = [_pair(key, layer[key]) for key in ("stride", "padding", "dilation")]
        groups = int(_whole("groups", layer["groups"]).reshape(-1)[0])
        if steps[0] == (1, 1) and len(made) == 3:
            sides = zip(made[1:], weights.shape[2:], steps[1], steps[2], strict=True)
            rows, columns = (out + spread * (tap - 1) - 2 * pad for out, tap, pad, spread in sides)
            shape = (weights.shape[1] * groups, rows, columns)
            chain.notes.append(f"no input layer: the input of shape {shape} follows from conv-0")
    if shape is None:
        raise BadNetworkError(
            f"a {kind} layer first, and nothing says the shape of its input; give it, "
            "--input-shape CHANNELS,ROWS,COLUMNS"
        )
    chain.shape = chain.input_shape = shape


def _whole(name: str, value: Any) -> Integers:
    if np.asarray(value).dtype.kind not in "biuf":
        raise BadNetworkError(f"{name} is a text, where numbers belong")
    array = np.asarray(value, np.float64)
    if not np.isfinite(array).all() or np.any(array != np.round(array)):
        raise BadNetworkError(f"{name} has values that are no whole numbers")
    if array.size and np.abs(array).max() >= 2**31:
        raise BadNetworkError(f"{name} has values beyond 32 bits")
    return array.astype(np.int64)


def _shape(value: Any) -> Shape:
    shape = tuple(int(length) for length in _whole("shape", value).reshape(-1))
    if not shape or min(shape) < 1 or len(shape) > 3:
        raise BadNetworkError(f"shape {shape}")
    return shape


def _check_neurons(layer: Layer) -> None:
    """Refuse neurons that the chip does not have, before anything that only they need is read.

    Raises:
        BadNetworkError: there are such.
    """
    neuron = layer.get("neuron")
    if neuron is None:
        return
    kind = neuron["type"]
    kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)
    if kind not in ("LOIHI", "CUBA"):
        raise BadNetworkError(f"neurons of type {kind!r}; only LOIHI and CUBA can be deployed")
    bits = neuron.get("messageBits")
    if bits is not None and np.any(_whole("messageBits", bits)):
        raise BadNetworkError(f"neurons that send {bits}-bit messages; only spikes can be deployed")
    if np.any(_whole("gradedSpike", neuron.get("gradedSpike", 0))):
        raise BadNetworkError(
            "neurons that were trained with graded spikes (gradedSpike), of which netx sends only "
            "whether there is one; train them with graded_spike=False"
        )


def _neurons(chain: _Chain, name: str, layer: Layer, shape: Shape, bias: Integers) -> Population:
    if "neuron" not in layer:
        return _holding(chain, name, shape, bias)
    neuron = layer["neuron"]
    if "refDelay" in neuron and np.any(_whole("refDelay", neuron["refDelay"]) > 1):
        chain.notes.append(f"{name}: a refractory time, which lava-dl ignores")
    current = _whole("iDecay", neuron["iDecay"]) - 1
    membrane = _whole("vDecay", neuron["vDecay"])
    thresholds = np.broadcast_to(
        _by_neuron("vThMant", _whole("vThMant", neuron["vThMant"]), shape), shape
    )
    if current.min() < 0:
        if (current == -1).all() and (membrane == DECAYED).all() and (thresholds >= NEVER).all():
            return _holding(chain, name, shape, bias)
        raise BadNetworkError(
            "iDecay 0: a current that never decays, in neurons that fire or have a membrane of "
            "their own; a chip's current decays"
        )
    if (thresholds > NEVER).any():
        # lava-dl gives layers that are read by their membranes a threshold of 2^18 - 1.
        thresholds = np.minimum(thresholds, NEVER)
        chain.notes.append(f"{name}: thresholds that no membrane reaches are taken as {NEVER:,}")
    return Population(
        name=name,
        shape=shape,
        current_decay=_decay(current, shape),
        membrane_decay=_decay(membrane, shape),
        thresholds=thresholds[None].copy(),
        bias_mantissa=bias,
        bias_exponent=BIAS_EXPONENT,
    )


def _holding(chain: _Chain, name: str, shape: Shape, bias: Integers) -> Population:
    """Neurons whose current never decays, with no membrane of their own, which never fire.

    lava-dl's default where a layer has no neurons: u <- u + a, v <- u. A membrane that never
    decays with a current of no memory holds the same sum, v <- v + a.
    """
    if bias.any():
        raise BadNetworkError(
            "a bias beside a current that never decays: it is no part of the sum over the steps; "
            "give the layer neurons (iDecay 4096, vDecay 0 adds the bias in every step)"
        )
    chain.notes.append(f"{name}: no neurons that fire; its sum over the steps is its membrane")
    return Population(
        name=name,
        shape=shape,
        current_decay=DECAYED - 1,
        membrane_decay=0,
        thresholds=np.full((1, *shape), NEVER),
        bias_mantissa=bias,
        bias_exponent=BIAS_EXPONENT,
    )


def _decay(values: Integers, shape: Shape) -> int | Integers:
    if values.size == 1:
        return int(values.reshape(-1)[0])
    return _by_neuron("decay", values, shape)


def _by_neuron(name: str, values: Integers, shape: Shape) -> Integers:
    """One value for all, one a channel, or one a neuron."""
    if values.size == 1:
        return np.full(shape, values.reshape(-1)[0])
    if values.size == int(np.prod(shape)):
        return values.reshape(shape).copy()
    if values.size == shape[0]:
        return np.broadcast_to(values.reshape(-1, *[1] * (len(shape) - 1)), shape).copy()
    raise BadNetworkError(f"{name} has {values.size} values for neurons {shape}")


def _bias(layer: Layer, shape: Shape) -> Integers:
    # lava-dl cuts biases to whole numbers, as it does with weights.
    bias = np.asarray(layer.get("bias", 0), np.float64)
    return _by_neuron("bias", _whole("bias", np.trunc(bias)), shape)


def _add_input(chain: _Chain, layer: Layer) -> None:
    if chain.populations or chain.input_shape:
        raise BadNetworkError("a second input")
    shape = _shape(layer["shape"])
    if chain.asked not in (None, shape):
        raise BadNetworkError(
            f"the input has shape {shape}, not {chain.asked}; leave out --input-shape"
        )
    chain.shape = chain.input_shape = shape
    if "neuron" not in layer:
        return
    # The host makes a whole number of each value, weight * value + bias, and these neurons take
    # it as their bias: on the chip, graded messages over a synapse of weight 1.
    chain.graded = True
    channels = shape if len(shape) == 3 else (int(np.prod(shape)), 1, 1)
    chain.input_shape = channels
    weight, bias = (
        np.asarray(layer.get(*pair)).reshape(-1) for pair in (("weight", 64), ("bias", 0))
    )
    name = chain.named("input")
    chain.notes.append(
        f"frames hold {np.trunc(weight).tolist()} * value + {np.trunc(bias).tolist()} as bytes"
    )
    link = Connection(
        name=f"{INPUT}->{name}",
        source=INPUT,
        target=name,
        kind=ConnectionKind.CONV,
        weights=np.ones((channels[0], 1, 1, 1), np.int64),
        sign_mode=SignMode.EXCITATORY,
        groups=channels[0],
    )
    neurons = _neurons(chain, name, layer, channels, np.zeros(channels, np.int64))
    # A bias is no part of the current, whose decay means nothing here; as messages it would be.
    chain.add(replace(neurons, current_decay=DECAYED - 1), [link])


def _add_conv(chain: _Chain, layer: Layer) -> None:
    if len(chain.shape) != 3:
        raise BadNetworkError(f"a convolution after a signal of shape {chain.shape}")
    weights = _kernels(layer)
    shape = _shape(layer["shape"])
    groups = int(_whole("groups", layer["groups"]).reshape(-1)[0])
    if weights.shape[1] * groups != chain.shape[0]:
        raise BadNetworkError(
            f"kernels for {weights.shape[1] * groups} channels after a signal of shape "
            f"{chain.shape}"
        )
    name = chain.named("conv")
    if "delay" in layer and np.any(np.asarray(layer["delay"])):
        chain.notes.append(f"{name}: delays, which lava-dl ignores in convolutions")
    kernel, exponent, mode = _on_grid(weights)
    link = Connection(
        name=f"{chain.source}->{name}",
        source=chain.source,
        target=name,
        kind=ConnectionKind.CONV.without_zeros(kernel),
        weights=kernel,
        sign_mode=mode,
        exponent=exponent,
        stride=_pair("stride", layer["stride"]),
        padding=_pair("padding", layer["padding"]),
        dilation=_pair("dilation", layer["dilation"]),
        groups=groups,
    )
    chain.add(_neurons(chain, name, layer, shape, _bias(layer, shape)), [link])


def _add_pool(chain: _Chain, layer: Layer) -> None:
    """Pooling of slayer: one kernel, (1, 1, rows, columns), over every channel by itself."""
    if len(chain.shape) != 3:
        raise BadNetworkError(f"pooling after a signal of shape {chain.shape}")
    channels = chain.shape[0]
    kernel = _kernels(layer)
    if kernel.shape[:2] != (1, 1):
        raise BadNetworkError(f"a pool of shape {kernel.shape}; must be (1, 1, rows, columns)")
    _add_conv(
        chain,
        {**layer, "weight": np.repeat(kernel, channels, 0), "groups": np.asarray(channels)},
    )


def _add_transposed(chain: _Chain, layer: Layer, kind: str) -> None:
    """A transposed convolution, weights (in, out / groups, rows, columns), as a sparse matrix.

    It is the transpose of the convolution with these kernels from its output to its input. Of
    unpool, one kernel is over every channel by itself.
    """
    if len(chain.shape) != 3:
        raise BadNetworkError(f"a transposed convolution after a signal of shape {chain.shape}")
    kernel, channels = _kernels(layer), chain.shape[0]
    groups = channels
    if kind == "convT":
        groups = int(_whole("groups", layer["groups"]).reshape(-1)[0])
    elif kernel.shape[:2] == (1, 1):
        kernel = np.repeat(kernel, channels, 0)
    shape = _shape(layer["shape"])
    fits = len(shape) == 3 and groups > 0 and shape[0] == kernel.shape[1] * groups
    back = (
        convolution(
            np.asarray(kernel, np.float64),
            shape,
            _pair("stride", layer["stride"]),
            _pair("padding", layer["padding"]),
            _pair("dilation", layer["dilation"]),
            groups,
        )
        if fits
        else None
    )
    if back is None or back.geometry.output_shape != chain.shape:
        raise BadNetworkError(
            f"kernels {kernel.shape} of a transposed convolution do not lead from {chain.shape} to "
            f"{shape}"
        )
    name = chain.named(kind)
    weights, exponent, mode = _on_grid(np.rint(matrix(back).T).astype(np.int64))
    link = Connection(
        name=f"{chain.source}->{name}",
        source=chain.source,
        target=name,
        kind=ConnectionKind.SPARSE,
        weights=weights,
        sign_mode=mode,
        exponent=exponent,
    )
    chain.add(_neurons(chain, name, layer, shape, _bias(layer, shape)), [link])


def _kernels(layer: Layer) -> Integers:
    weights = _whole("weight", layer["weight"])
    if weights.ndim == 5 and weights.shape[4] == 1:
        weights = weights[..., 0]
    if weights.ndim != 4:
        raise BadNetworkError(f"kernels of shape {weights.shape}; must be (out, in, rows, columns)")
    return weights


def _pair(name: str, value: Any) -> tuple[int, int]:
    array = _whole(name, value).reshape(-1)
    if array.size not in (1, 2):
        raise BadNetworkError(f"{name} {array.tolist()}")
    rows, columns = np.broadcast_to(array, 2).tolist()
    return rows, columns


def _add_dense(chain: _Chain, layer: Layer, recurrent: bool) -> None:
    for key in ("real", "imag"):
        if isinstance(layer["weight"], dict) and key in layer["weight"]:
            raise BadNetworkError("complex weights")
    shape = (int(np.prod(_shape(layer["shape"]))),)
    weights = _whole("weight", layer["weight"]).reshape(shape[0], -1)
    if not chain.input_shape:
        chain.shape = chain.input_shape = (weights.shape[1],)
    if len(chain.shape) == 3 and chain.shape[1:] != (1, 1):
        raise BadNetworkError(f"a dense layer after {chain.shape} without flatten between")
    if weights.shape[1] != int(np.prod(chain.shape)):
        raise BadNetworkError(f"weights {weights.shape} after a signal of shape {chain.shape}")
    name = chain.named("fc")
    own = _whole("weight_rec", layer["weight_rec"]).reshape(shape[0], -1) if recurrent else None
    # Forward and recurrent weights share one exponent and sign mode, as in lava-dl.
    together = weights if own is None else np.hstack([weights, own])
    grid, exponent, mode = _on_grid(together)
    links = _delayed(chain, name, layer, grid[:, : weights.shape[1]], exponent, mode)
    if own is not None:
        if np.any(np.asarray(layer.get("delay", 0))):
            raise BadNetworkError("delays in a recurrent layer")
        links.append(
            Connection(
                name=f"{name}->{name}",
                source=name,
                target=name,
                kind=ConnectionKind.DENSE,
                weights=grid[:, weights.shape[1] :],
                sign_mode=mode,
                exponent=exponent,
                recurrent=True,
            )
        )
    chain.add(_neurons(chain, name, layer, shape, _bias(layer, shape)), links)


def _delayed(
    chain: _Chain, name: str, layer: Layer, weights: Integers, exponent: int, mode: SignMode
) -> list[Connection]:
    """One connection for each delay; the shortest one defines the depth."""
    steps = _whole("delay", layer.get("delay", 0))
    if steps.min() < 0:
        raise BadNetworkError(f"delay {steps.min()}")
    if steps.max() > DELAYS[-1]:
        chain.notes.append(f"{name}: delays beyond {DELAYS[-1]} are cut to it, as in lava-dl")
        steps = np.minimum(steps, DELAYS[-1])
    if steps.ndim == 1 and steps.size == weights.shape[0]:
        steps = steps[:, None]
    elif steps.ndim == 1 and steps.size == weights.shape[1]:
        steps = steps[None, :]
    steps = np.broadcast_to(steps.reshape(steps.shape or (1, 1)), weights.shape)
    links: list[Connection] = []
    for delay in np.unique(steps):
        taken = steps == delay
        kept = np.where(taken, weights, 0)
        kind = ConnectionKind.DENSE if taken.all() else ConnectionKind.SPARSE
        links.append(
            Connection(
                name=f"{chain.source}->{name}" + (f"#{len(links) + 1}" if links else ""),
                source=chain.source,
                target=name,
                kind=kind.without_zeros(kept),
                weights=kept,
                sign_mode=mode,
                exponent=exponent,
                delay=int(delay),
                recurrent=bool(links),
            )
        )
    return links


def _on_grid(weights: Integers) -> tuple[Integers, int, SignMode]:
    """Weights, exponent and sign mode that give the same sums on the chip's grid.

    Mixed weights are even there; odd ones are doubled and halved again by the exponent, which
    is exact since the doubled sum is even.
    """
    if not weights.size:
        raise BadNetworkError("no weights")
    if weights.min() >= 0 and weights.max() <= 255:
        return weights, 0, SignMode.EXCITATORY
    if weights.max() <= 0 and weights.min() >= -255:
        return weights, 0, SignMode.INHIBITORY
    if not np.any(weights % 2) and weights.min() >= -256 and weights.max() <= 254:
        return weights, 0, SignMode.MIXED
    if weights.min() >= -128 and weights.max() <= 127:
        return weights * 2, -1, SignMode.MIXED
    raise BadNetworkError(
        f"weights {weights.min()}..{weights.max()}: mixed ones are even within -256..254, or any "
        "within -128..127"
    )
