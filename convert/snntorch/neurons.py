"""Read the constants of snntorch's neurons, and find the chip's reset that gives their spikes.

The equations beside the cases were measured on snntorch 1.0.0. U is the membrane, X the input,
r = H(U - theta) before the step; H is strict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mtspark.core.arrays import Floats
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network import FloatReset

LARGEST_OVERSHOOT = 6.0
"""Surrogates are looked at up to this power of ten above and below the threshold."""

MECHANISMS = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}


@dataclass(frozen=True)
class NeuronConstants:
    """What one spiking layer computes, in float64; arrays of the layer's shape.

    Attributes:
        current_keep: alpha, the share of a current that is left after a step; 0: no memory.
        membrane_keep: beta.
        threshold: strictly above fires.
        reset: what a spike does.
        spike_value: what a spike is worth to its receivers (graded_spikes_factor).
        recurrent: nn.Linear, nn.Conv2d, an array of self-weights, or nothing.
    """

    current_keep: Floats
    membrane_keep: Floats
    threshold: Floats
    reset: FloatReset
    spike_value: Floats
    recurrent: nn.Linear | nn.Conv2d | Floats | None


def neuron_constants(neuron: SpikingNeuron, shape: tuple[int, ...], where: str) -> NeuronConstants:
    """Read the constants of a Leaky, Synaptic, RLeaky or RSynaptic.

    Args:
        neuron: the module.
        shape: of its layer, without batch.
        where: of its call, for errors.

    Raises:
        BadNetworkError: something that the chip does not have, with what to write instead.
    """
    kind = type(neuron).__name__
    if neuron.inhibition:
        raise BadNetworkError(
            f"{where}: inhibition=True lets one neuron silence all others within a step, which "
            "no chip synapse is fast enough for; use negative recurrent weights (snn.RLeaky)"
        )
    if neuron.state_quant:
        raise BadNetworkError(
            f"{where}: state_quant rounds the state in its own way; leave it out, the export "
            "rounds the state as the chip does"
        )
    _check_fires_at_threshold(neuron, where)
    threshold = _array(neuron.threshold, shape, "threshold", where)
    if (threshold < 0).any():
        raise BadNetworkError(f"{where}: threshold {threshold.min():g}: must not be < 0")
    spike_value = _array(neuron.graded_spikes_factor, shape, "graded_spikes_factor", where)
    beta = np.clip(_array(neuron.beta, shape, "beta", where), 0, 1)
    alpha = np.zeros(shape)
    if kind in ("Synaptic", "RSynaptic"):
        alpha = np.clip(_array(neuron.alpha, shape, "alpha", where), 0, 1)
    return NeuronConstants(
        current_keep=alpha,
        membrane_keep=beta,
        threshold=threshold,
        reset=_reset(neuron, kind, where),
        spike_value=spike_value,
        recurrent=_recurrent(neuron, kind, shape, where),
    )


def _reset(neuron: SpikingNeuron, kind: str, where: str) -> FloatReset:
    """The chip's reset that gives the same spikes.

    The equation is chosen when the module is built (`state_function`), the reset without delay
    at each call (`reset_mechanism_val`, which a state_dict carries): they can disagree.
    """
    mechanism = MECHANISMS.get(getattr(neuron.state_function, "__name__", ""))
    # RSynaptic without delay resets two local variables that it then drops: nothing happens.
    late = bool(neuron.reset_delay) or kind == "RSynaptic"
    if mechanism is None:
        raise BadNetworkError(f"{where}: {kind} with a state function of its own is not known")
    at_once = ("subtract", "zero", "none")[int(neuron.reset_mechanism_val)]
    if not late and at_once != mechanism:
        raise BadNetworkError(
            f"{where}: {kind} was built with reset_mechanism={mechanism!r} and its state_dict "
            f"says {at_once!r}; build it with reset_mechanism={at_once!r}"
        )
    if mechanism == "none":
        return FloatReset.NONE  # U <- beta U + X
    if mechanism == "subtract":
        if late:
            return FloatReset.SUBTRACT_LATE  # U <- beta U + X - r theta
        # B = beta U + X - r theta; S = H(B - theta); U <- B - (S - r) theta
        return FloatReset.SUBTRACT_GUARDED
    if not late or kind == "Leaky":
        # Leaky: U <- beta (1 - r) U + X: the spikes of an immediate reset to zero. Without
        # delay U is at most theta before every step, so r = 0 and nothing is dropped.
        return FloatReset.ZERO
    # U <- (1 - r) (beta U + I): the input of the step after a spike is lost.
    remedy = (
        "use reset_mechanism='subtract', or snn.Synaptic(..., reset_delay=False) with the "
        "recurrent nn.Linear in your forward"
        if kind == "RSynaptic"
        else "use reset_delay=False, or reset_mechanism='subtract'"
    )
    raise BadNetworkError(
        f"{where}: {kind} with reset_mechanism='zero' and a delayed reset also drops its input in "
        f"the step after a spike, which the chip's neurons do not; {remedy}"
    )


def _recurrent(
    neuron: SpikingNeuron, kind: str, shape: tuple[int, ...], where: str
) -> nn.Linear | nn.Conv2d | Floats | None:
    if kind not in ("RLeaky", "RSynaptic"):
        return None
    if not neuron.all_to_all:
        return _array(neuron.recurrent.V, shape, "V", where)
    # Masks and norms of the weights (parametrisations) are in the weights that are read.
    kind_of_layer = parametrize.type_before_parametrizations(neuron.recurrent)
    if kind_of_layer not in (nn.Linear, nn.Conv2d):
        raise BadNetworkError(
            f"{where}: recurrence by {kind_of_layer.__name__}; use nn.Linear or nn.Conv2d"
        )
    return neuron.recurrent


def _check_fires_at_threshold(neuron: SpikingNeuron, where: str) -> None:
    """Some surrogates change the forward pass, too (noise, leaks, no threshold at all)."""
    # Zero itself and the numbers beside it: a grid with an odd count only comes near it. Far
    # from it, too, where weights may bring a membrane that random ones do not.
    tiny = torch.finfo(torch.float32).tiny
    border = torch.tensor([-tiny, 0.0, tiny])
    far = torch.logspace(-6.0, LARGEST_OVERSHOOT, 1000)
    overshoot = torch.cat([torch.linspace(-3.0, 3.0, 2401), border, far, -far])
    with torch.no_grad():
        fired = neuron.spike_grad(overshoot)
        at_threshold = neuron.spike_grad(torch.zeros(1))
    if float(at_threshold) != 0:
        raise BadNetworkError(
            f"{where}: its spike_grad gives {float(at_threshold):g} where the membrane equals the "
            "threshold, and snntorch's neurons fire above it only; compare with > in its forward "
            "pass, or use snntorch.surrogate.atan()"
        )
    if not torch.equal(fired, (overshoot > 0).to(fired.dtype)):
        raise BadNetworkError(
            f"{where}: its spike_grad does not fire exactly where the membrane is above the "
            "threshold; use a surrogate that changes the gradient only, such as "
            "snntorch.surrogate.atan()"
        )


def _array(value: Tensor, shape: tuple[int, ...], name: str, where: str) -> Floats:
    array = value.detach().double().numpy()
    if array.ndim == len(shape) + 1 and array.shape[0] == 1:
        array = array[0]
    try:
        full = np.broadcast_to(array, shape).astype(np.float64)
    except ValueError as error:
        raise BadNetworkError(
            f"{where}: {name} has shape {tuple(array.shape)}, the layer {shape}"
        ) from error
    if not np.isfinite(full).all():
        raise BadNetworkError(f"{where}: {name} is not finite")
    return full


def refuse_kind(neuron: SpikingNeuron, where: str) -> BadNetworkError:
    """Explain that a kind of neuron is not supported, with what to write instead.

    Args:
        neuron: of any kind but Leaky, Synaptic, RLeaky and RSynaptic.
        where: the user's line.

    Returns:
        The error to raise.
    """
    kind = type(neuron).__name__
    if kind == "Lapicque" and type(neuron).__module__.startswith("snntorch"):
        keep = 1 - float(neuron.time_step) / (float(neuron.R) * float(neuron.C))
        gain = float(neuron.time_step) / float(neuron.C)
        return BadNetworkError(
            f"{where}: snn.Lapicque has a gain, which the chip's neuron does not have; write "
            f"snn.Leaky(beta={keep:.6g}, threshold={_number(neuron.threshold)}) and multiply the "
            f"weights and biases before it by {gain:.6g}"
        )
    if kind == "Alpha" and type(neuron).__module__.startswith("snntorch"):
        return BadNetworkError(
            f"{where}: snn.Alpha has two currents, the chip's neuron has one; use "
            f"snn.Synaptic(alpha={_number(neuron.alpha)}, beta={_number(neuron.beta)}, "
            "reset_delay=False) and train again"
        )
    if not type(neuron).__module__.startswith("snntorch"):
        return BadNetworkError(
            f"{where}: {kind} changes the forward pass of {type(neuron).__mro__[1].__name__}; use "
            "snn.Leaky, Synaptic, RLeaky or RSynaptic as they are"
        )
    return BadNetworkError(
        f"{where}: snn.{kind} has no chip neuron; use snn.Leaky, Synaptic, RLeaky or RSynaptic"
    )


def _number(value: Any) -> str:
    numbers = torch.as_tensor(value).detach().flatten()
    return f"{float(numbers[0]):.6g}" if len(numbers) == 1 else "..."
