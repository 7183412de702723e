"""An integer network in ONNX Runtime as a backend: one step at a time, state kept between."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import Activity, ChipTrace, Decision
from mtspark.core.chip_network import INPUT, check_batch
from mtspark.core.errors import BadFileError, BadRequestError, MtsparkError, one_line
from mtspark.core.files import NEXT, AnyPath, FileLimits, OnnxFile, Port, read_onnx
from mtspark.core.version import is_version
from mtspark.deploy.formats import FORMAT, VERSION

if TYPE_CHECKING:
    import onnxruntime

INPUT_TYPES = ("uint8", "int8")
STATE_TYPES = ("int64", *INPUT_TYPES)


@dataclass(frozen=True)
class StepDescription:
    """What a model says of itself, see :func:`mtspark.deploy.formats.onnx_integer.describe`.

    Attributes:
        name: of the network.
        tasks: names, in the order of the thresholds' rows.
        task: the row that is baked in, or None.
        time_steps: T.
        steps_per_decision: T + L.
        held: one frame for the whole decision, otherwise a slice a step.
        input_shape: of a frame or slice.
        readout: population that is read.
        depths: of the populations, in their order.
        state: tensors that go in and come out.
        input_type: NumPy name of a frame's type.
        stateful: state survives decisions.
    """

    name: str
    tasks: tuple[str, ...]
    task: int | None
    time_steps: int
    steps_per_decision: int
    held: bool
    input_shape: tuple[int, ...]
    readout: str
    depths: dict[str, int]
    state: tuple[Port, ...]
    input_type: str
    stateful: bool = False

    @property
    def input_dtype(self) -> np.dtype[np.generic]:
        """Type of a frame."""
        return np.dtype(self.input_type)


class OnnxChip:
    """A network that :func:`mtspark.deploy.formats.onnx_integer.integer_model` wrote, on the CPU.

    Args:
        path: the model.
        limits, trust: see :func:`mtspark.core.files.sandbox.read_guarded`.

    Raises:
        BadFileError: no such model, hostile, or not runnable.
    """

    name = "onnx"

    def __init__(
        self, path: AnyPath, limits: FileLimits | None = None, trust: bool | None = None
    ) -> None:
        path = Path(path)

        def attempt(file: OnnxFile) -> None:
            described = _described(path, file.description, limits or FileLimits())
            step = _Stepper(path, open_session(path, file.content), described)
            step.start(1)
            frame = np.zeros((1, *described.input_shape), described.input_dtype)
            step.run(frame, 0, described.task or 0)

        file = read_onnx(path, limits, trust, attempt)
        self.description = _described(path, file.description, limits or FileLimits())
        self._stepper = _Stepper(path, open_session(path, file.content), self.description)

    def start(self, batch: int) -> None:
        """Put `batch` chips at rest."""
        self._stepper.start(batch)

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Run the T + L steps of one decision; state goes on from the decision before.

        Args:
            frames: uint8 (batch, *input shape), or (batch, T, *input shape) of a series.
            task: row of the thresholds.
            trace: return every spike and membrane.

        Raises:
            BadRequestError: wrong frames, no such task, or another than is baked in.
        """
        about = self.description
        _check_request(about, frames, task)
        check_batch(about, self._stepper.batch, len(frames))
        if len(frames) != self._stepper.batch:
            self.start(len(frames))
        names = list(about.depths)
        spikes: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        membranes: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        sent = []
        values = np.zeros(0)
        for step in range(about.steps_per_decision):
            frame = frames if about.held else frames[:, min(step, about.time_steps - 1)]
            values = self._stepper.run(frame, step, task)
            state = self._stepper.state
            sent.append(state[f"sent.{INPUT}.0"] != 0)
            for name in names:
                spikes[name].append(state[f"sent.{name}.0"] != 0)
                membranes[name].append(state[f"membrane.{name}"])
        counted = {INPUT: np.stack(sent), **{name: np.stack(log) for name, log in spikes.items()}}
        windows = {INPUT: 0, **about.depths}
        window = {
            name: log[windows[name] : windows[name] + about.time_steps].sum(0, dtype=np.int64)
            for name, log in counted.items()
        }
        drain = {name: log.sum(0, dtype=np.int64) - window[name] for name, log in counted.items()}
        recorded = None
        if trace:
            recorded = ChipTrace(
                spikes={name: counted[name] for name in names},
                membranes={name: np.stack(log) for name, log in membranes.items()},
            )
        return Decision(values, Activity(window, drain), recorded)

    def close(self) -> None:
        """Nothing to release."""


class _Stepper:
    """A session and the state between its runs."""

    def __init__(
        self, path: Path, session: onnxruntime.InferenceSession, about: StepDescription
    ) -> None:
        self.path, self.session, self.about = path, session, about
        self.batch = 0
        self.state: dict[str, NDArray[Any]] = {}
        wanted = {"input", "step", *(port.name for port in about.state)}
        wanted |= set() if about.task is not None else {"task"}
        if {entry.name for entry in session.get_inputs()} != wanted:
            raise BadFileError(f"{path}: its inputs do not match mtspark's description in it")
        outputs = {entry.name for entry in session.get_outputs()}
        if outputs != {"values", *(NEXT + port.name for port in about.state)}:
            raise BadFileError(f"{path}: its outputs do not match mtspark's description in it")

    def start(self, batch: int) -> None:
        self.batch = batch
        self.state = {
            port.name: np.zeros((batch, *port.shape), np.dtype(port.dtype))
            for port in self.about.state
        }

    def run(self, frame: NDArray[np.uint8], step: int, task: int) -> NDArray[np.float64]:
        feeds = {"input": frame, "step": np.array(step, np.int64), **self.state}
        if self.about.task is None:
            feeds["task"] = np.array(task, np.int64)
        names = ["values", *(NEXT + port.name for port in self.about.state)]
        try:
            values, *state = self.session.run(names, feeds)
        except MtsparkError:
            raise
        except Exception as error:
            # ONNX Runtime's errors share no base with a public name.
            raise BadFileError(f"{self.path}: ONNX Runtime cannot run it: {one_line(error)}") from (
                error
            )
        for port, value in zip(self.about.state, state, strict=True):
            if value.shape != (self.batch, *port.shape) or value.dtype != np.dtype(port.dtype):
                raise BadFileError(f"{self.path}: {port.name} changes its shape or type")
        self.state = {port.name: value for port, value in zip(self.about.state, state, strict=True)}
        return values


def open_session(path: Path, content: bytes) -> onnxruntime.InferenceSession:
    """One thread, no rewriting: what runs is the graph as it was scanned."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception as error:
        raise BadFileError(f"{path}: ONNX Runtime refuses it: {one_line(error)}") from error


def _check_request(about: StepDescription, frames: NDArray[np.uint8], task: int) -> None:
    wanted = (*(() if about.held else (about.time_steps,)), *about.input_shape)
    if frames.dtype != about.input_dtype or frames.shape[1:] != wanted or not len(frames):
        raise BadRequestError(
            f"frames are {frames.dtype} {frames.shape}, this network takes {about.input_dtype} "
            f"(batch, {', '.join(map(str, wanted))})"
        )
    if not 0 <= task < len(about.tasks):
        raise BadRequestError(f"task {task}: this network has tasks 0 to {len(about.tasks) - 1}")
    if about.task not in (None, task):
        raise BadRequestError(
            f"this ONNX network was written for task {about.tasks[about.task or 0]!r} only"
        )


def _described(path: Path, data: dict[str, Any], limits: FileLimits) -> StepDescription:
    if data.get("format") != FORMAT or not is_version(data.get("version"), VERSION):
        raise BadFileError(f"{path}: no integer network of this mtspark ({FORMAT} {VERSION})")
    try:
        state = tuple(Port(str(n), str(kind), _shape(s)) for n, kind, s in data["state"])
        # The messages of a frame that is sent as it is have its type.
        sent = next((port.dtype for port in state if port.name == f"sent.{INPUT}.0"), "")
        about = StepDescription(
            name=str(data["name"]),
            tasks=tuple(str(name) for name in data["tasks"]),
            task=None if data["task"] is None else int(data["task"]),
            time_steps=int(data["time_steps"]),
            steps_per_decision=int(data["steps_per_decision"]),
            held=bool(data["held"]),
            input_shape=_shape(data["input_shape"]),
            readout=str(data["readout"]),
            depths={str(name): int(depth) for name, depth in data["depths"].items()},
            state=state,
            input_type=str(data.get("input_type", sent)),
            stateful=bool(data.get("stateful", False)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadFileError(f"{path}: mtspark's description in it is damaged") from error
    largest = max(int(np.prod(port.shape, dtype=object)) for port in about.state)
    steps = about.steps_per_decision
    states = {port.name for port in about.state}
    needed = {f"sent.{INPUT}.0"}
    needed |= {f"{kind}.{name}" for name in about.depths for kind in ("membrane", "current")}
    needed |= {f"sent.{name}.0" for name in about.depths}
    sound = (
        1 <= about.time_steps <= steps <= limits.time_steps
        and not (about.stateful and about.time_steps > 1)
        and largest <= limits.neurons
        and all(0 < depth <= steps for depth in about.depths.values())
        and needed <= states
        and about.readout in about.depths
        and (about.task is None or 0 <= about.task < len(about.tasks))
        and about.tasks
        and all(port.dtype in STATE_TYPES for port in about.state)
        and about.input_type in INPUT_TYPES
    )
    if not sound:
        raise BadFileError(f"{path}: mtspark's description in it does not fit together")
    return about


def _shape(values: Any) -> tuple[int, ...]:
    shape = tuple(int(value) for value in values)
    if not shape or min(shape) < 1:
        raise ValueError(f"shape {shape}")
    return shape
