"""Options that the network at hand has no use for, though others of its kind have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mtspark.core.errors import BadFileError, BadNetworkError, BadRequestError
from mtspark.core.files import encode
from mtspark.core.float_network import FloatNetwork, FloatReset, float_network_to_plain
from mtspark.workflows.export.request import ExportRequest

if TYPE_CHECKING:
    from mtspark.convert.nir import ImportOptions


def check_used(request: ExportRequest, network: FloatNetwork) -> None:
    """Refuse an option that changes nothing in a graph, rather than ignore it.

    Args:
        request: what was asked.
        network: that was read of the graph.

    Raises:
        BadRequestError: there is one, or the file states another shape than was asked for.
    """
    check_shape_taken(request, network.input.shape)
    overruled: dict[str, tuple[float | None, float]] = {
        "--dt": (request.dt, network.dt),
        "--time-steps": (request.time_steps, network.time_steps),
        "--input-scale": (request.input_scale, network.input.scale),
    }
    for flag, (told, stated) in overruled.items():
        if told is not None and told != stated:
            raise BadRequestError(
                f"{flag} {told:g}: the file says {stated:g} itself; leave the option out"
            )
    neurons = network.populations
    # A readout that adds up what arrives is none of the graph's neurons.
    own = [one for one in neurons if one.spiking or one.reset is not FloatReset.NONE]
    integrates = any(bool(np.any(one.membrane_keep == 1)) for one in neurons)
    leaks = any(bool(np.any(one.membrane_keep != 1)) for one in neurons)
    currents = any(one.has_current_memory for one in neurons)
    fires = any(one.spiking for one in own)
    needs = {
        "--integrator": (request.integrator, leaks or currents, "neurons that leak"),
        "--order": (request.order, currents, "neurons whose currents last (CubaLIF, CubaLI)"),
        "--reset": (request.reset, fires, "neurons that fire"),
        "--fires-at-threshold": (request.fires_at_threshold, fires, "neurons that fire"),
        "--if-gain-dt": (
            request.if_gain_dt is not None,
            integrates,
            "neurons that never leak (IF, I)",
        ),
    }
    for flag, (asked, there, what) in needs.items():
        if asked and not there:
            raise BadRequestError(
                f"{flag}: is of {what}, and {network.name} has none; leave it out"
            )


def check_matters(
    request: ExportRequest,
    network: FloatNetwork,
    options: ImportOptions,
    again: Callable[[ImportOptions], FloatNetwork],
) -> None:
    """Refuse a time step and a start of membranes that change nothing: others give the same.

    Args:
        request: what was asked.
        network: that was read of the graph.
        options: that it was read with.
        again: reads it with other options.

    Raises:
        BadRequestError: there is one.
    """
    from mtspark.convert.nir import Start

    others: dict[str, tuple[ImportOptions, str]] = {}
    if request.dt is not None:
        halved = replace(options, dt=request.dt / 2)
        others["--dt"] = halved, "no neuron or delay counts in it"
    if request.start is not None:
        start = Start.ZERO if request.start == Start.REST.value else Start.REST
        moved = replace(options, start=start)
        others["--start"] = moved, "its membranes rest at 0, or the file says where they start"
    for flag, (changed, why) in others.items():
        try:
            other = again(changed)
        except (BadNetworkError, BadFileError):
            # A network that there is not is another one.
            continue
        # Who repeats what the file says of itself has said nothing wrong.
        repeated = flag == "--dt" and other.dt == network.dt
        if not repeated and _numbers(other) == _numbers(network):
            raise BadRequestError(f"{flag}: changes nothing in {network.name}: {why}; leave it out")


def _numbers(network: FloatNetwork) -> bytes:
    """All that a network computes with, as bytes."""
    return b"".join(encode(float_network_to_plain(replace(network, notes=(), dt=1.0))))


def check_shape_taken(request: ExportRequest, shape: tuple[int, ...]) -> None:
    """Refuse a shape of the input that a file overrules.

    Args:
        request: what was asked.
        shape: that the network takes.

    Raises:
        BadRequestError: it is another one.
    """
    asked = request.input_shape
    if asked is not None and tuple(asked) != tuple(shape):
        told, own = (",".join(map(str, one)) for one in (asked, shape))
        raise BadRequestError(
            f"--input-shape {told}: the file says {own} itself; leave the option out"
        )
