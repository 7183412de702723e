"""How our Lava processes behave on a CPU, to the bit.

Absolute imports on purpose: Lava executes this file a second time under another name while
it looks for models, and then takes the classes from here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import AbstractPyLifModelFixed

from mtspark.deploy.lava.processes.processes import (
    FrameSource,
    FrameSynapses,
    PortRecorder,
    RefRecorder,
    Synapses,
    TaskLIF,
)


@implements(proc=FrameSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PyFrameSource(PyLoihiProcessModel):  # type: ignore[misc]
    """Reads shared memory in each active step; the driver writes only between runs."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.frame = proc_params["frame"]
        self.series = proc_params["series"]
        self.nothing = np.zeros_like(self.frame[0] if self.series else self.frame)
        self.steps = proc_params["steps"]
        self.active_steps = proc_params["active_steps"]

    def run_spk(self) -> None:
        """Send the frame, or its slices, in the first steps of a decision, then zeros."""
        step = (self.time_step - 1) % self.steps
        if step >= self.active_steps:
            self.s_out.send(self.nothing)
        else:
            self.s_out.send(self.frame[step] if self.series else self.frame)


class WeighingModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Floating-point products of integers that are small enough to be exact.

    Lava lets no model extend one that implements a process, so this implements none.
    """

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    weights: np.ndarray[Any, Any] = LavaPyType(np.ndarray, np.int32, precision=9)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.exponent = int(proc_params["exponent"])
        self.conv = proc_params["conv"]
        self.target_shape = tuple(proc_params["target_shape"])
        self.source_shape = tuple(proc_params["source_shape"])
        self.float_type = np.float32 if proc_params["single_precision"] else np.float64
        self.matrices: Any = None
        self.silence = np.zeros(self.target_shape, np.int32)

    def sums(self, arrived: Any) -> Any:
        """The sums of weight times value, before the exponent."""
        if self.matrices is None:
            groups = self.conv["groups"] if self.conv else 1
            grouped = self.weights.reshape(groups, self.weights.shape[0] // groups, -1)
            self.matrices = grouped.astype(self.float_type)
        sums = (self.convolve if self.conv else self.multiply)(arrived.astype(self.float_type))
        return sums.astype(np.int32).reshape(self.target_shape)

    def shift(self, sums: Any) -> Any:
        """Sums moved by the exponent, rounding down."""
        if self.exponent >= 0:
            return np.left_shift(sums, self.exponent)
        return np.right_shift(sums, -self.exponent)

    def multiply(self, values: Any) -> Any:
        """Weights times the flattened input."""
        return self.matrices[0] @ values.reshape(-1)

    def convolve(self, values: Any) -> Any:
        """Cross-correlation as one product of weights and patches for each group."""
        (rows, columns), (pad_r, pad_c) = self.conv["kernel"], self.conv["padding"]
        (step_r, step_c), (gap_r, gap_c) = self.conv["stride"], self.conv["dilation"]
        padded = np.pad(values, ((0, 0), (pad_r, pad_r), (pad_c, pad_c)))
        span = ((rows - 1) * gap_r + 1, (columns - 1) * gap_c + 1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(1, 2))
        windows = windows[:, ::step_r, ::step_c, ::gap_r, ::gap_c]
        # (channels, out rows, out columns, rows, columns) -> (groups, taps, positions)
        patches = windows.transpose(0, 3, 4, 1, 2).reshape(
            len(self.matrices), self.matrices.shape[2], -1
        )
        return np.matmul(self.matrices, patches)


@implements(proc=Synapses, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PySynapses(WeighingModel):
    """Passes shifted sums on, 1 + delay steps after their messages."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.gate = proc_params["gate"]
        self.waiting = [self.silence] * (1 + int(proc_params["delay"]))

    def run_spk(self) -> None:
        """Send the sums over the input of 1 + delay steps ago, then work on this step's."""
        if self.gate is not None and (self.time_step - 1) % self.gate[0] == 0:
            # What a loop still carries from the decision before is dropped.
            self.waiting = [self.silence] * len(self.waiting)
        self.a_out.send(self.waiting.pop(0))
        arrived = self.s_in.recv()
        sends = arrived.any() and self.gate_is_open()
        self.waiting.append(self.shift(self.sums(arrived)) if sends else self.silence)

    def gate_is_open(self) -> bool:
        """Whether what the source sends in this step is passed on."""
        if self.gate is None:
            return True
        steps, first, end = self.gate
        return bool(first <= (self.time_step - 1) % steps < end)


@implements(proc=FrameSynapses, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PyFrameSynapses(WeighingModel):
    """Adds to a sum that no step decays, and sends it anew in each step of a window."""

    total: np.ndarray[Any, Any] = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.steps = int(proc_params["steps"])
        self.first, self.end = proc_params["window"]
        self.whole = bool(proc_params["whole"])

    def run_spk(self) -> None:
        """Send the shifted sum within the window, then take what the first step brings."""
        step = (self.time_step - 1) % self.steps
        self.a_out.send(self.shift(self.total) if self.first <= step < self.end else self.silence)
        arrived = self.s_in.recv()
        if step:
            return
        if self.whole:
            self.total[...] = 0
        if arrived.any():
            self.total += self.sums(arrived)


@implements(proc=TaskLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PyTaskLIF(AbstractPyLifModelFixed):  # type: ignore[misc]
    """Lava's own fixed-point currents and membranes; thresholds and reset are ours.

    Every variable is an array: Lava cannot read back or set other kinds reliably.
    """

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    v_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    du: np.ndarray[Any, Any] = LavaPyType(np.ndarray, np.int32, precision=12)
    dv: np.ndarray[Any, Any] = LavaPyType(np.ndarray, np.int32, precision=13)
    thresholds: np.ndarray[Any, Any] = LavaPyType(np.ndarray, np.int32, precision=17)
    task: np.ndarray[Any, Any] = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.reset_interval = int(proc_params["reset_interval"])
        self.reset_offset = int(proc_params["reset_offset"]) % self.reset_interval
        self.reset = proc_params["reset"]
        self.stateful = bool(proc_params["stateful"])
        self.lower = int(proc_params["fires_at_threshold"])
        self.effective_bias: Any = 0
        self.limits: Any = None
        self.fired: Any = None

    def on_var_update(self) -> None:
        """Scale biases and thresholds anew after any variable was set."""
        self.limits = None

    def run_spk(self) -> None:
        """One step: back to rest if due, integrate, fire, and what a spike does."""
        arrived = self.a_in.recv()
        if self.limits is None:
            self.limits = self.thresholds[int(self.task[0])] << self.vth_shift
            self.scale_bias()
            self.bias = self.effective_bias
        due = self.time_step % self.reset_interval == self.reset_offset
        if self.stateful and not due:
            self.s_out.send(np.zeros(self.v.shape, bool))
            self.v_out.send(self.v)
            return
        if self.fired is None or (due and not self.stateful):
            self.u[:] = 0
            self.v[:] = 0
            self.fired = np.zeros(self.v.shape, bool)
        quiet = self.limits - self.lower
        above = self.v > quiet
        if self.reset == "subtract late":
            # Lava adds the bias before it saturates, and that is where the reset belongs.
            self.effective_bias = self.bias - self.fired * self.limits
        self.subthr_dynamics(arrived)
        guard = above * self.limits if self.reset == "subtract guarded" else 0
        self.fired = self.v - guard > quiet
        if self.reset == "zero":
            self.v[self.fired] = 0
        elif self.reset in ("subtract", "subtract guarded"):
            self.v -= self.fired * self.limits
        self.s_out.send(self.fired)
        self.v_out.send(self.v)


@implements(proc=PortRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PyPortRecorder(PyLoihiProcessModel):  # type: ignore[misc]
    """Receives in the spiking phase; the driver reads only between runs."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    v_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.spikes = proc_params["spikes"]
        self.membranes = proc_params["membranes"]

    def run_spk(self) -> None:
        """Store this step's row."""
        row = (self.time_step - 1) % len(self.spikes)
        self.spikes[row] = self.s_in.recv() != 0
        if self.membranes is not None:
            self.membranes[row] = self.v_in.recv()


@implements(proc=RefRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PyRefRecorder(PyLoihiProcessModel):  # type: ignore[misc]
    """Receives spikes while spiking and reads membranes in the management phase after it."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    v_ref: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.spikes = proc_params["spikes"]
        self.membranes = proc_params["membranes"]

    def run_spk(self) -> None:
        """Store this step's spikes."""
        self.spikes[(self.time_step - 1) % len(self.spikes)] = self.s_in.recv() != 0

    def post_guard(self) -> bool:
        """Ask for the phase in which variables of other processes may be read."""
        return True

    def run_post_mgmt(self) -> None:
        """Store the membranes as the step left them."""
        self.membranes[(self.time_step - 1) % len(self.spikes)] = self.v_ref.read()
