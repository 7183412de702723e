"""A chip network as a netx file of lava-dl (HDF5 ``.net``), which its netx loads and runs.

netx holds a chain of convolutions and dense layers of LIF neurons with 8-bit weights. It stores
one set of thresholds, biases in steps of 64, and no weight exponents. A network that it cannot hold
to the bit is refused. Layer names of such a file are those that its importer gives.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    Population,
    Reset,
    SignMode,
    check_forgets,
    check_network,
    check_sent_every_step,
)
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.core.files import AnyPath, hdf5_bytes, write_bytes
from mtspark.deploy.lower import HELPERS

BIAS_STEP = 64
"""netx shifts every bias left by 6."""

NO_CURRENT_MEMORY = 4095
"""du of neurons whose current lasts one step."""

Layer = dict[str, Any]


def save_netx(network: ChipNetwork, path: AnyPath, task: int = 0) -> None:
    """Write a file whole or not at all; a link stays a link.

    Args:
        network: a chain that netx can hold.
        path: of the ``.net`` file.
        task: whose thresholds are written.

    Raises:
        BadNetworkError: something that netx cannot hold, naming the layer.
        BadRequestError: there is no such task.
        BadFileError: the file cannot be written.
    """
    layers = netx_layers(network, task)

    def fill(file: Any) -> None:
        for index, layer in enumerate(layers):
            _write(file.create_group(f"layer/{index}"), layer)
        file.create_dataset("simulation/Ts", data=1)
        file.create_dataset("simulation/tSample", data=network.time_steps)

    write_bytes(path, hdf5_bytes(fill))


def netx_layers(network: ChipNetwork, task: int = 0) -> list[Layer]:
    """The layers of the file in their order, as nested dicts of arrays and texts.

    Raises:
        BadNetworkError: something that netx cannot hold, naming the layer.
        BadRequestError: there is no such task.
    """
    check_network(network)
    check_forgets(
        network, "lava-dl's neurons do not hold it between two decisions", "leave netx out"
    )
    if not 0 <= task < len(network.tasks):
        raise BadRequestError(f"task {task}: this network has tasks 0 to {len(network.tasks) - 1}")
    shape = network.input.shape
    layers: list[Layer] = [{"type": "input", "shape": np.array(shape)}]
    source = INPUT
    for population in network.populations:
        if population.name in HELPERS:
            raise BadNetworkError(
                "biases of currents that decay slowly need a neuron of their own "
                f"({population.name!r}), for which a netx chain has no place; use biases of "
                "neurons without current memory"
            )
        forward, own = _links(network, population, source)
        if source == INPUT and drives_neurons_directly(network, forward):
            layers[0] |= {"weight": np.float32(1), "bias": np.float32(0)}
            layers[0] |= {"neuron": _neuron(population, task)}
            _no_bias(population)
            _no_current_memory(population)
        elif source == INPUT and network.input.payload_bits:
            raise BadNetworkError(
                f"layer {population.name!r} hears graded messages; netx files hold "
                "networks that hear spikes, or whose first neurons take the pixels as their bias"
            )
        elif forward.kind.convolves:
            layers.append(_conv(population, forward, task))
        else:
            if len(shape) > 1:
                layers.append({"type": "flatten", "shape": np.array([1, 1, int(np.prod(shape))])})
            layers.append(_dense(population, forward, own, task))
        if own is not None and forward.kind.convolves:
            raise BadNetworkError(f"layer {population.name!r}: netx has no recurrent convolution")
        source, shape = population.name, population.shape
    if network.readout.population != source:
        raise BadNetworkError(
            f"{network.readout.population!r} is read, which is not the last layer"
        )
    # Last: only where nothing else is in the way does another encoder help.
    check_sent_every_step(network, "netx")
    return layers


def drives_neurons_directly(network: ChipNetwork, link: Connection) -> bool:
    """Graded inputs, each for one neuron with weight 1: netx's input layer with neurons."""
    channels = network.input.shape[0]
    return (
        network.input.payload_bits == 8
        and not network.input.signed
        and network.input.held
        and link.kind.convolves
        and link.weights.shape == (channels, 1, 1, 1)
        and bool((link.weights == 1).all())
        and (link.groups, link.exponent, link.delay) == (channels, 0, 0)
        and link.stride == (1, 1)
        and link.padding == (0, 0)
    )


def _links(
    network: ChipNetwork, population: Population, source: str
) -> tuple[Connection, Connection | None]:
    """The connection from the layer before and, where there is one, that to itself."""
    name = population.name
    into = [link for link in network.connections if link.target == name]
    forward = [link for link in into if not link.recurrent]
    own = [link for link in into if link.recurrent]
    if len(forward) != 1 or forward[0].source != source:
        heard = ", ".join(link.source for link in forward)
        raise BadNetworkError(
            f"layer {name!r} hears {heard}: netx holds chains, here of {source!r} alone"
        )
    if len(own) > 1 or any(link.source != name or link.delay for link in own):
        raise BadNetworkError(f"layer {name!r}: netx holds loops of a layer to itself only")
    return forward[0], own[0] if own else None


def _neuron(population: Population, task: int) -> Layer:
    name = population.name
    if population.reset is not Reset.ZERO:
        raise BadNetworkError(
            f"layer {name!r} resets by {population.reset.value!r}: netx has neurons that go to zero"
        )
    if population.fires_at_threshold:
        raise BadNetworkError(
            f"layer {name!r} fires at its threshold: netx has neurons that fire above it"
        )
    decays = {}
    for key, value, more in (
        ("iDecay", population.current_decay, 1),
        ("vDecay", population.membrane_decay, 0),
    ):
        distinct = np.unique(np.asarray(value))
        if len(distinct) > 1:
            raise BadNetworkError(f"layer {name!r}: {key} differs between neurons; netx has one")
        decays[key] = int(distinct[0]) + more
    thresholds = _by_channel(population, "thresholds", population.thresholds[task])
    return {"type": "LOIHI", **decays, "vThMant": thresholds, "refDelay": 1, "wgtExp": 0}


def _by_channel(population: Population, what: str, values: Integers) -> Any:
    """One number, one a channel, or (dense layers) one a neuron.

    netx hands arrays to neurons that it lays out as (columns, rows, channels); only the last
    axis means the same there and here.
    """
    if len(np.unique(values)) == 1:
        return int(values.flat[0])
    rows = values.reshape(len(values), -1)
    if (rows != rows[:, :1]).any():
        raise BadNetworkError(
            f"layer {population.name!r}: {what} differ within a channel; netx has one a channel"
        )
    return rows[:, 0].copy()


def _bias(population: Population) -> Integers:
    """Bias mantissas at exponent 6, one a neuron or channel."""
    exact = population.bias_mantissa << population.bias_exponent
    if np.any(exact % BIAS_STEP):
        raise BadNetworkError(
            f"layer {population.name!r}: biases that are no multiples of {BIAS_STEP}; netx has no "
            "other"
        )
    mantissas = _by_channel(population, "biases", exact // BIAS_STEP)
    return np.broadcast_to(np.asarray(mantissas), population.shape[:1]).copy()


def _no_bias(population: Population) -> None:
    if population.bias_mantissa.any():
        raise BadNetworkError(
            f"layer {population.name!r}: neurons that take the input as their bias have no other"
        )


def _no_current_memory(population: Population) -> None:
    if np.any(np.asarray(population.current_decay) != NO_CURRENT_MEMORY):
        raise BadNetworkError(
            f"layer {population.name!r}: currents of pixels that outlast a step; in netx the input "
            "is the bias of these neurons, which is no part of their current"
        )


def _weights(link: Connection, *more: Connection) -> list[Integers]:
    """Weights with their exponent multiplied in, on the grid that netx is read back from."""
    scaled_weights = []
    for one in (link, *more):
        if (one.sign_mode, one.exponent) != (link.sign_mode, link.exponent):
            raise BadNetworkError(
                f"{one.name!r} and {link.name!r} differ in exponent or sign mode; netx has one"
            )
        scaled = one.weights * 2**one.exponent if one.exponent >= 0 else one.weights
        if one.exponent < 0:
            if np.any(one.weights % 2**-one.exponent):
                raise BadNetworkError(
                    f"connection {one.name!r}: exponent {one.exponent}; netx stores none, and "
                    "its weights cannot be divided by it"
                )
            scaled = one.weights >> -one.exponent
        scaled_weights.append(scaled)
    low, high = min(w.min() for w in scaled_weights), max(w.max() for w in scaled_weights)
    odd = any(np.any(w % 2) for w in scaled_weights)
    signs = link.sign_mode is SignMode.MIXED or low < 0 < high
    bounds = ((-128, 127) if odd else (-256, 254)) if signs else (-255, 255)
    if low < bounds[0] or high > bounds[1]:
        raise BadNetworkError(
            f"connection {link.name!r}: weights {low}..{high} with their exponent; netx holds "
            f"{bounds[0]}..{bounds[1]}"
        )
    if not any(w.any() for w in scaled_weights):
        raise BadNetworkError(
            f"connection {link.name!r}: lava-dl cannot load weights that are all 0"
        )
    return scaled_weights


def _conv(population: Population, link: Connection, task: int) -> Layer:
    if link.delay:
        raise BadNetworkError(f"connection {link.name!r}: lava-dl ignores delays of convolutions")
    (weights,) = _weights(link)
    return {
        "type": "conv",
        "shape": np.array(population.shape),
        "weight": weights.astype(np.float32),
        "bias": _bias(population).astype(np.float32),
        "stride": np.array(link.stride),
        "padding": np.array(link.padding),
        "dilation": np.array(link.dilation),
        "groups": link.groups,
        "inChannels": weights.shape[1] * link.groups,
        "outChannels": len(weights),
        "kernelSize": np.array(weights.shape[2:]),
        "neuron": _neuron(population, task),
    }


def _dense(population: Population, link: Connection, own: Connection | None, task: int) -> Layer:
    weights = _weights(link, *([] if own is None else [own]))
    layer: Layer = {
        "type": "dense" if own is None else "dense_rec",
        "shape": np.array([population.size, 1, 1]),
        "weight": weights[0].astype(np.float32),
        "bias": _bias(population).astype(np.float32),
        "inFeatures": weights[0].shape[1],
        "outFeatures": population.size,
        "neuron": _neuron(population, task),
    }
    if own is not None:
        layer["weight_rec"] = weights[1].astype(np.float32)
    if link.delay:
        if own is not None:
            raise BadNetworkError(f"layer {population.name!r}: delays in a recurrent layer")
        layer["delay"] = np.full(weights[0].shape[1], link.delay)
    return layer


def _write(group: Any, content: Layer) -> None:
    import h5py

    for key, value in content.items():
        if isinstance(value, dict):
            _write(group.create_group(key), value)
        elif key == "type" and "shape" in content:
            # As lava-dl writes it: layers by fixed text, neurons by text of any length.
            group.create_dataset(key, data=np.array([value.encode()], "S10"))
        elif isinstance(value, str):
            group.create_dataset(key, data=value, dtype=h5py.string_dtype())
        else:
            group.create_dataset(key, data=value)
