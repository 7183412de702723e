"""What our Lava processes are: ports, variables and constants. The models say what they do.

Lava must have been loaded by :func:`mtspark.deploy.lava.shim.load_lava` first. Shapes are
(channels, rows, columns) or (neurons,); t counts Lava's steps from 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from numpy.typing import NDArray


class FrameSource(AbstractProcess):  # type: ignore[misc]
    """Sends what lies in shared memory in the first steps of every decision.

    Args:
        frame: int32, shared with the driver, which writes it between runs: one frame, its
            changes, or with `series` (T, *shape), one slice a step.
        series: send slice after slice.
        steps: of a decision, T + L.
        active_steps: T, or 1 for a frame that is kept; in the remaining ones nothing (zeros) is
            sent.
    """

    def __init__(
        self, *, frame: NDArray[np.int32], series: bool, steps: int, active_steps: int
    ) -> None:
        super().__init__(frame=frame, series=series, steps=steps, active_steps=active_steps)
        self.s_out = OutPort(shape=frame.shape[1:] if series else frame.shape)


class Synapses(AbstractProcess):  # type: ignore[misc]
    """A dense or convolutional connection with a weight exponent; 1 + delay steps of latency.

    Args:
        weights: (out, in) for dense, (out, in / groups, rows, columns) for conv.
        source_shape, target_shape: of the two ends.
        exponent: the sum over inputs is shifted by this, rounding down.
        conv: stride, padding, dilation as (rows, columns) and groups; None for dense.
        single_precision: the caller has proven sum |w| |x| < 2^24 for every output, so that
            float32 products are exact; otherwise float64 is used (exact below 2^53).
        delay: further steps on the way.
        gate: (steps of a decision, first, end): pass on only what the source sends in the
            steps first to end - 1 of a decision, counted from 0, and within that decision;
            None: everything.
    """

    def __init__(
        self,
        *,
        weights: NDArray[np.int64],
        source_shape: tuple[int, ...],
        target_shape: tuple[int, ...],
        exponent: int,
        conv: dict[str, Any] | None,
        single_precision: bool,
        delay: int,
        gate: tuple[int, int, int] | None,
    ) -> None:
        super().__init__(
            delay=delay,
            gate=gate,
            exponent=exponent,
            conv=conv,
            single_precision=single_precision,
            source_shape=source_shape,
            target_shape=target_shape,
        )
        self.s_in = InPort(shape=source_shape)
        self.a_out = OutPort(shape=target_shape)
        self.weights = Var(shape=weights.shape, init=weights.astype(np.int32))


class FrameSynapses(Synapses):
    """A connection from the input that keeps the sum of a frame over a decision, or a game.

    Args:
        steps: of a decision, T + L.
        window: the first of the target's T steps, counted from 0, and their end: in each of them
            the shifted sum is sent, outside of them nothing.
        whole: every decision brings the whole frame, so that the sum begins at 0; otherwise it
            brings changes.
        others: as for :class:`Synapses`.

    The Var `total` is the sum of weight times value before the exponent.
    """

    def __init__(self, *, steps: int, window: tuple[int, int], whole: bool, **others: Any) -> None:
        super().__init__(**others)
        for name, value in {"steps": steps, "window": window, "whole": whole}.items():
            self.proc_params[name] = value
        self.total = Var(shape=others["target_shape"], init=0)


class TaskLIF(AbstractProcess):  # type: ignore[misc]
    """Leaky integrate-and-fire neurons with one threshold a neuron and task, and a reset.

    Args:
        thresholds: mantissas of shape (tasks, *shape).
        current_decay, membrane_decay: of 4096, for all neurons or, of shape `shape`, for each.
        reset: what a spike does, a value of :class:`mtspark.core.chip_network.network.Reset`.
        fires_at_threshold: also where the membrane equals the threshold.
        bias_mantissa: of shape `shape`.
        bias_exponent: of all biases.
        task: row of the thresholds that holds at first; set the Var `task` to change it.
        reset_interval, reset_offset: u and v become 0, before integration, in every step t
            with t % interval == offset % interval.
        stateful: in these steps neurons go on from the ones before, and hold in all others.

    The port `v_out` sends the membranes after the step to whoever is connected.
    """

    def __init__(
        self,
        *,
        thresholds: NDArray[np.int64],
        current_decay: int | NDArray[np.int64],
        membrane_decay: int | NDArray[np.int64],
        reset: str,
        fires_at_threshold: bool,
        bias_mantissa: NDArray[np.int64],
        bias_exponent: int,
        task: int,
        reset_interval: int,
        reset_offset: int,
        stateful: bool,
    ) -> None:
        super().__init__(
            reset=reset,
            stateful=stateful,
            fires_at_threshold=fires_at_threshold,
            reset_interval=reset_interval,
            reset_offset=reset_offset,
        )
        shape = thresholds.shape[1:]
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.v_out = OutPort(shape=shape)
        self.u = Var(shape=shape, init=0)
        self.v = Var(shape=shape, init=0)
        self.du = Var(shape=shape, init=_each(current_decay, shape))
        self.dv = Var(shape=shape, init=_each(membrane_decay, shape))
        self.bias_mant = Var(shape=shape, init=bias_mantissa.astype(np.int16))
        self.bias_exp = Var(shape=shape, init=bias_exponent)
        self.thresholds = Var(shape=thresholds.shape, init=thresholds.astype(np.int32))
        self.task = Var(shape=(1,), init=task)


def _each(decay: int | NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int32]:
    return np.array(np.broadcast_to(decay, shape), dtype=np.int32)


class PortRecorder(AbstractProcess):  # type: ignore[misc]
    """Writes what arrives at its ports into shared memory, one row a step of the decision.

    Args:
        spikes: bool (steps, *shape).
        membranes: int32 of the same shape, or None to record no membranes; `v_in` then
            stays unconnected.
    """

    def __init__(self, *, spikes: NDArray[np.bool_], membranes: NDArray[np.int32] | None) -> None:
        super().__init__(spikes=spikes, membranes=membranes)
        shape = spikes.shape[1:]
        self.s_in = InPort(shape=shape)
        self.v_in = InPort(shape=shape)


class RefRecorder(AbstractProcess):  # type: ignore[misc]
    """Like :class:`PortRecorder` for stock neurons, whose membranes are read by reference.

    Args:
        spikes: bool (steps, *shape).
        membranes: int32 of the same shape; read in the phase after spiking of every step.
    """

    def __init__(self, *, spikes: NDArray[np.bool_], membranes: NDArray[np.int32]) -> None:
        super().__init__(spikes=spikes, membranes=membranes)
        shape = spikes.shape[1:]
        self.s_in = InPort(shape=shape)
        self.v_ref = RefPort(shape=shape)
