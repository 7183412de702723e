"""Options that the network at hand has no use for, though others of its kind have."""

from __future__ import annotations

import numpy as np

from mtspark.core.errors import BadRequestError
from mtspark.core.float_network import FloatNetwork, FloatReset
from mtspark.workflows.export.request import ExportRequest


def check_used(request: ExportRequest, network: FloatNetwork) -> None:
    """Refuse an option that changes nothing in a graph, rather than ignore it.

    Args:
        request: what was asked.
        network: that was read of the graph.

    Raises:
        BadRequestError: there is one, or the file states another shape than was asked for.
    """
    check_shape_taken(request, network.input.shape)
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
