"""Sides of a comparison: files of five kinds, each as something that runs.

A side records its layers each in the layer's own time: step 1 of a layer is the first one that
the input can reach, whatever pipeline its chip has. So traces of a chip and of a float network
begin with the same step.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import ChipTrace, Decider
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadFileError, BadRequestError, one_line
from mtspark.core.files import current_policy
from mtspark.core.float_network import run_float
from mtspark.core.version import is_version
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.compare import Places
from mtspark.workflows.diff.frames import Feed, feed_of
from mtspark.workflows.whole import SIDE_BY_SIDE, places_of

if TYPE_CHECKING:
    from mtspark.core.float_network import FloatNetwork
    from mtspark.train.checkpoint import Agent

DEFAULT_STEPS = 100
"""Steps of one run where neither side says how many."""

SUFFIXES = (".pt", ".nir", ".onnx", ".net")
"""Of the files that can be a side."""


class Side(Protocol):
    """One of the two things that are compared.

    Attributes:
        name: shown to the user.
        tasks: names; empty where the side knows one task only.
        feed: what it takes; None where it takes what the other side does.
        integer: whether membranes are integers of the chip.
        notes: how an ambiguous file was read; empty where there was nothing to choose.
        places: of the neurons of a pruned bundle in its network before; None of other sides.
    """

    name: str
    tasks: tuple[str, ...]
    feed: Feed | None
    integer: bool
    notes: str

    @property
    def places(self) -> Places | None:
        """As above; looked up when it is first asked for, which takes seconds."""
        ...

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> ChipTrace:
        """Return what every spiking layer did, input side first.

        Args:
            frames: (batch, *shape) of a feed that is held, otherwise (batch, T, *shape).
            feed: what both sides get.
            row: of the task.

        Returns:
            Arrays (T, batch, *shape) by name; membranes of integer sides only.
        """
        ...

    def close(self) -> None:
        """Release processes and files; safe to call twice."""
        ...


class _Plain:
    """A side that holds nothing to release and had nothing to choose."""

    notes = ""
    places: Places | None = None

    def close(self) -> None:
        """Nothing to release."""


class ChipSide:
    """A chip network, run by any backend that gives traces.

    Args:
        name: shown to the user.
        network: what the backend runs.
        backend: closed with this side.
        bundle: of the network, where it is of one.
    """

    integer = True
    notes = ""

    def __init__(
        self, name: str, network: ChipNetwork, backend: Decider, bundle: Bundle | None = None
    ) -> None:
        self.name, self.network, self._backend, self.bundle = name, network, backend, bundle
        self.tasks = tuple(task.name for task in network.tasks)
        self.feed: Feed | None = feed_of(network)

    @cached_property
    def places(self) -> Places | None:
        """Where the neurons of a pruned bundle stood before."""
        return None if self.bundle is None else places_of(self.bundle)

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> ChipTrace:
        """Run whole decisions and cut out each population's window."""
        trace = self._backend.decide(frames, row, trace=True).trace
        assert trace is not None
        return in_windows(trace, {name: self.network.window(name) for name in trace.spikes})

    def close(self) -> None:
        """Release the backend."""
        self._backend.close()


def in_windows(trace: ChipTrace, windows: dict[str, slice]) -> ChipTrace:
    """Return, of each population, only the steps in which it works on the decision.

    Args:
        trace: of whole decisions, (steps_per_decision, batch, *shape).
        windows: steps of each population, T of them; others are left out.
    """
    return ChipTrace(
        {name: trace.spikes[name][window] for name, window in windows.items()},
        {name: trace.membranes[name][window] for name, window in windows.items()},
    )


class OnnxIntegerSide(_Plain):
    """An integer network in ONNX Runtime."""

    integer = True

    def __init__(self, path: Path) -> None:
        from mtspark.sim.backends import OnnxChip

        self.name, self._chip = str(path), OnnxChip(path)
        self.about = self._chip.description
        self.tasks = self.about.tasks
        self.feed: Feed | None = None

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> ChipTrace:
        """Run whole decisions and cut out each population's window."""
        trace = self._chip.decide(frames, row, trace=True).trace
        assert trace is not None
        steps = self.about.time_steps
        windows = {name: slice(depth, depth + steps) for name, depth in self.about.depths.items()}
        return in_windows(trace, windows)


class TorchSide(_Plain):
    """A checkpoint, in torch."""

    integer = False

    def __init__(self, path: Path) -> None:
        from mtspark.train.checkpoint import load_agent

        self.name = str(path)
        self.agent: Agent = load_agent(path)
        self.tasks = tuple(task.name for task in self.agent.tasks)
        config = self.agent.network.config
        self.feed: Feed | None = Feed(
            config.observation_shape,
            config.time_steps,
            held=True,
            graded=config.input != "spikes",
            scale=config.message_value,
            signed=config.input == "values",
        )

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> ChipTrace:
        """Return the spikes of every layer and step."""
        import torch

        from mtspark.train.networks import NetworkTrace

        trace = NetworkTrace()
        with torch.no_grad():
            tasks = torch.full((len(frames),), row, dtype=torch.long)
            self.agent.network(torch.from_numpy(frames), tasks, trace)
        spikes = {name: layer.spikes.numpy() > 0 for name, layer in trace.layers.items()}
        return ChipTrace(spikes, {})

    def follow(self, bundle: Bundle) -> None:
        """Become what a bundle was exported from, where it holds all tasks side by side.

        Args:
            bundle: that this side is compared with.

        Raises:
            BadRequestError: this agent's tasks cannot stand side by side, so it is another one.
        """
        from mtspark.train.checkpoint import side_by_side

        if SIDE_BY_SIDE in bundle.network.provenance and self.agent.network.config.by_task:
            try:
                self.agent = side_by_side(self.agent)
            except BadRequestError as error:
                raise BadRequestError(
                    f"{self.name} and {bundle.folder}: two different networks"
                ) from error


class FloatSide(_Plain):
    """A NIR graph, in our own float simulator."""

    integer = False

    def __init__(self, path: Path) -> None:
        from mtspark.convert.nir import import_nir

        self.name = str(path)
        self.network: FloatNetwork = import_nir(path)
        self.tasks = self.network.tasks if len(self.network.tasks) > 1 else ()
        self.feed: Feed | None = None
        given = self.network.input
        if self.network.time_steps:
            # Only pixels have a scale, and only pixels are held.
            pixels = given.scale != 1.0
            self.feed = Feed(given.shape, self.network.time_steps, pixels, pixels, given.scale)
        # What a NIR file does not store decides as much as what it does.
        self.notes = self.network.notes[0] if self.network.notes else ""

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> ChipTrace:
        """Return the spikes of every population and step, on the frames' float values."""
        series = frames[:, None].repeat(feed.time_steps, 1) if feed.held else frames
        shape = (*series.shape[:2], *self.network.input.shape)
        # A chip that plays takes bytes for what they are; its float network knows their scale.
        scale = feed.scale if self.feed is None else self.feed.scale
        values = series.reshape(shape).swapaxes(0, 1) * scale
        answer = run_float(self.network, values, row if len(self.network.tasks) > 1 else 0)
        spikes = {name: log > 0 for name, log in answer.spikes.items() if log.size}
        return ChipTrace(spikes, {})


class OnnxFloatSide(_Plain):
    """One float step in ONNX Runtime, run T times."""

    integer = False

    def __init__(self, path: Path, content: bytes, description: dict[str, Any]) -> None:
        from mtspark.convert.onnx import VERSION as ONNX_VERSION
        from mtspark.sim.backends import open_session

        self.name, self._path = str(path), path
        self._session = open_session(path, content)
        inputs = {entry.name: tuple(entry.shape[1:]) for entry in self._session.get_inputs()}
        self._state = {name: shape for name, shape in inputs.items() if "." in name}
        shapes = [length for shape in inputs.values() for length in shape]
        if not is_version(description.get("version"), ONNX_VERSION):
            raise BadFileError(
                f"{path}: float step of version {one_line(repr(description.get('version')), 40)}, "
                f"this mtspark reads {ONNX_VERSION}; export it again"
            )
        try:
            self.tasks = tuple(str(name) for name in description["tasks"])
            steps, frame = int(description["time_steps"]), inputs["frames"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadFileError(f"{path}: mtspark's description in it is damaged") from error
        most = current_policy().limits.time_steps
        if any(type(length) is not int for length in shapes) or not 1 <= steps <= most:
            raise BadFileError(f"{path}: mtspark's description in it does not fit together")
        self.feed: Feed | None = Feed(frame, steps, True, True, 1 / 255)

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> ChipTrace:
        """Return the spikes of every layer and step."""
        from mtspark.core.files import NEXT

        names = [entry.name for entry in self._session.get_outputs()]
        state = {
            name: np.zeros((len(frames), *shape), np.float32) for name, shape in self._state.items()
        }
        logs: dict[str, list[NDArray[np.bool_]]] = {}
        for _ in range(feed.time_steps):
            feeds = {"frames": frames, "task": np.full(len(frames), row), **state}
            try:
                outputs = dict(zip(names, self._session.run(names, feeds), strict=True))
                state = {name: outputs[NEXT + name] for name in state}
            except Exception as error:
                # ONNX Runtime's errors share no base with a public name.
                raise BadFileError(
                    f"{self._path}: ONNX Runtime cannot run it: {one_line(error)}"
                ) from error
            for name in names:
                if name.startswith("spikes."):
                    logs.setdefault(name.removeprefix("spikes."), []).append(outputs[name] > 0)
        return ChipTrace({name: np.stack(log) for name, log in logs.items()}, {})


def open_side(source: Bundle | str) -> Side:
    """Open a bundle or a file as a side.

    Args:
        source: a bundle, its folder, or a file that ends in one of :data:`SUFFIXES`.

    Raises:
        BadRequestError: it is of no known kind.
        MtsparkError: it cannot be read as what it is.
    """
    if isinstance(source, Bundle):
        return _bundle_side(str(source.folder), source)
    path = Path(source)
    if path.is_dir():
        return _bundle_side(source, load_bundle(path))
    if path.suffix == ".net":
        from mtspark.convert.netx import import_netx

        network = import_netx(path)
        return ChipSide(source, network, ReferenceChip(network))
    if path.suffix == ".nir":
        return FloatSide(path)
    if path.suffix == ".pt":
        return TorchSide(path)
    if path.suffix == ".onnx":
        return _open_onnx(path)
    raise BadRequestError(
        f"{source}: no bundle, and no file that ends in {', '.join(SUFFIXES)}; give one of these"
    )


def _bundle_side(name: str, bundle: Bundle) -> ChipSide:
    return ChipSide(name, bundle.network, ReferenceChip(bundle.network), bundle)


def _open_onnx(path: Path) -> Side:
    from mtspark.convert.onnx import DECISION_FORMAT, STEP_FORMAT
    from mtspark.core.files import OnnxFile, read_onnx

    def attempt(file: OnnxFile) -> None:
        """One decision in the limited process, before this one runs anything."""
        if file.description.get("format") == STEP_FORMAT:
            side = OnnxFloatSide(path, file.content, file.description)
            assert side.feed is not None
            side.run(np.zeros((1, *side.feed.shape), np.uint8), side.feed, 0)

    file = read_onnx(path, attempt=attempt)
    kind = file.description.get("format")
    if kind == DECISION_FORMAT:
        raise BadRequestError(
            f"{path}: a whole decision in one graph has no spikes to compare; give the graph of "
            "one step"
        )
    if kind == STEP_FORMAT:
        return OnnxFloatSide(path, file.content, file.description)
    return OnnxIntegerSide(path)


def shared_feed(one: Side, other: Side) -> Feed:
    """Return what both sides get.

    Raises:
        BadRequestError: they take different things.
    """
    feeds = [side.feed for side in (one, other) if side.feed is not None]
    (shape, steps), (others, more) = _takes(one), _takes(other)
    if np.prod(shape) != np.prod(others) or (steps and more and steps != more):
        raise BadRequestError(
            f"{one.name} takes {shape}{_for(steps)}, {other.name} {others}{_for(more)}: two "
            "different networks"
        )
    if len(feeds) == 2 and not isinstance(one, ChipSide) and isinstance(other, ChipSide):
        return feeds[1]
    if feeds:
        return feeds[0]
    # Neither says all: series of spikes, unless the integers hold a frame for all steps.
    held = any(isinstance(side, OnnxIntegerSide) and side.about.held for side in (one, other))
    return Feed(shape, steps or more or DEFAULT_STEPS, held, held, 1.0)


def _takes(side: Side) -> tuple[tuple[int, ...], int | None]:
    """Return the shape of a frame or slice, and T where the side has one of its own."""
    if isinstance(side, OnnxIntegerSide):
        return side.about.input_shape, side.about.time_steps
    if isinstance(side, FloatSide) and side.feed is None:
        return side.network.input.shape, None
    assert side.feed is not None
    return side.feed.shape, side.feed.time_steps


def _for(steps: int | None) -> str:
    return "" if steps is None else f" for {steps} steps"


def fitted(frames: NDArray[np.uint8], feed: Feed, side: Side) -> NDArray[np.uint8]:
    """Return the same frames in the shape that a side takes."""
    if side.feed is None:
        return frames
    return frames.reshape(*frames.shape[: 1 if feed.held else 2], *side.feed.shape)


def netx_side(network: ChipNetwork, row: int) -> ChipSide:
    """Open a network in lava-dl's netx.

    Args:
        network: what to run.
        row: of the task.

    Raises:
        BackendMissingError: lava-dl is not installed.
        BadNetworkError: netx cannot hold the network.
    """
    from mtspark.sim.backends import NetxBackend

    return ChipSide("netx", network, NetxBackend(network, row))


def onnx_side(network: ChipNetwork, folder: Path) -> OnnxIntegerSide:
    """Open a network in ONNX Runtime.

    Args:
        network: what to run.
        folder: for its file, as long as the side is open.
    """
    from mtspark.core.files import save_onnx
    from mtspark.deploy.formats import integer_model

    save_onnx(integer_model(network), folder / "network.onnx")
    return OnnxIntegerSide(folder / "network.onnx")
