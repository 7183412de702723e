"""What ``mtspark diff`` compares: files of five kinds, each as something that can be run.

Sides are compared layer by layer in each layer's own time: step 1 of a layer is the first in
which it can hear the input, whatever pipeline its chip has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.errors import BadFileError, BadRequestError, one_line
from mtspark.core.files.limits import current_policy

if TYPE_CHECKING:
    from mtspark.core.backend import Decider
    from mtspark.core.float_network.network import FloatNetwork
    from mtspark.train.checkpoint.agent import Agent

DEFAULT_STEPS = 100
"""Steps of one run where neither side says how many."""

SUFFIXES = (".pt", ".nir", ".onnx", ".net")


@dataclass(frozen=True)
class Feed:
    """What a side is given.

    Attributes:
        shape: of one frame or slice.
        time_steps: T.
        held: one frame for all steps, otherwise a slice a step.
        graded: bytes 0 to 255, otherwise spikes 0 and 1.
        scale: what a message of 1 stands for in floats.
    """

    shape: tuple[int, ...]
    time_steps: int
    held: bool
    graded: bool
    scale: float


def feed_of(network: ChipNetwork) -> Feed:
    """What a chip network takes."""
    given = network.input
    return Feed(given.shape, network.time_steps, given.held, given.payload_bits > 0, given.scale)


@dataclass(frozen=True)
class LayerTrace:
    """One layer: arrays (T, batch, *shape); membranes of integer sides only."""

    spikes: NDArray[np.bool_]
    membranes: NDArray[np.int64] | None = None


class Side(Protocol):
    """One of the two things that are compared.

    Attributes:
        name: shown to the user.
        tasks: names; none where the side knows one task only.
        feed: what it takes; None where it takes what the other side does.
        integer: whether membranes are integers of the chip.
    """

    name: str
    tasks: tuple[str, ...]
    feed: Feed | None
    integer: bool

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> dict[str, LayerTrace]:
        """Everything that every spiking layer did, by name, input side first."""
        ...


class ChipSide:
    """A chip network, run by any backend that gives traces."""

    integer = True

    def __init__(self, name: str, network: ChipNetwork, backend: Decider) -> None:
        self.name, self.network, self._backend = name, network, backend
        self.tasks = tuple(task.name for task in network.tasks)
        self.feed: Feed | None = feed_of(network)

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> dict[str, LayerTrace]:
        """Run whole decisions and cut out each population's window."""
        trace = self._backend.decide(frames, row, trace=True).trace
        assert trace is not None
        windows = {name: self.network.window(name) for name in trace.spikes}
        return {
            name: LayerTrace(spikes[windows[name]], trace.membranes[name][windows[name]])
            for name, spikes in trace.spikes.items()
        }


class OnnxIntegerSide:
    """An integer network in ONNX Runtime."""

    integer = True

    def __init__(self, path: Path) -> None:
        from mtspark.sim.backends.onnx import OnnxChip

        self.name, self._chip = str(path), OnnxChip(path)
        self.about = self._chip.description
        self.tasks = self.about.tasks
        self.feed: Feed | None = None

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> dict[str, LayerTrace]:
        """Run whole decisions and cut out each population's window."""
        trace = self._chip.decide(frames, row, trace=True).trace
        assert trace is not None
        steps = self.about.time_steps
        return {
            name: LayerTrace(
                trace.spikes[name][depth : depth + steps],
                trace.membranes[name][depth : depth + steps],
            )
            for name, depth in self.about.depths.items()
        }


class TorchSide:
    """A checkpoint, in torch."""

    integer = False

    def __init__(self, path: Path) -> None:
        from mtspark.train.checkpoint.agent import load_agent

        self.name = str(path)
        self.agent: Agent = load_agent(path)
        self.tasks = tuple(task.name for task in self.agent.tasks)
        config = self.agent.network.config
        self.feed: Feed | None = Feed(
            config.observation_shape, config.time_steps, True, True, 1 / 255
        )

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> dict[str, LayerTrace]:
        """Spikes of every layer and step."""
        import torch

        from mtspark.train.networks.network import NetworkTrace

        trace = NetworkTrace()
        with torch.no_grad():
            tasks = torch.full((len(frames),), row, dtype=torch.long)
            self.agent.network(torch.from_numpy(frames), tasks, trace)
        return {name: LayerTrace(layer.spikes.numpy() > 0) for name, layer in trace.layers.items()}


class FloatSide:
    """A NIR graph, in our own float simulator."""

    integer = False

    def __init__(self, path: Path) -> None:
        from mtspark.convert.nir.reader import import_nir

        self.name = str(path)
        self.network: FloatNetwork = import_nir(path)
        self.tasks = self.network.tasks if len(self.network.tasks) > 1 else ()
        self.feed: Feed | None = None
        given = self.network.input
        if self.network.time_steps:
            # Only pixels have a scale, and only pixels are held.
            pixels = given.scale != 1.0
            self.feed = Feed(given.shape, self.network.time_steps, pixels, pixels, given.scale)

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> dict[str, LayerTrace]:
        """Spikes of every population and step, on the frames' float values."""
        from mtspark.core.float_network.simulator import run_float

        series = frames[:, None].repeat(feed.time_steps, 1) if feed.held else frames
        shape = (*series.shape[:2], *self.network.input.shape)
        # A chip that plays takes bytes for what they are; its float network knows their scale.
        scale = feed.scale if self.feed is None else self.feed.scale
        values = series.reshape(shape).swapaxes(0, 1) * scale
        found = run_float(self.network, values, row if len(self.network.tasks) > 1 else 0)
        return {
            name: LayerTrace(spikes > 0) for name, spikes in found.spikes.items() if spikes.size
        }


class OnnxFloatSide:
    """One float step in ONNX Runtime, run T times."""

    integer = False

    def __init__(self, path: Path, content: bytes, description: dict[str, Any]) -> None:
        from mtspark.sim.backends.onnx import open_session

        self.name, self._path = str(path), path
        self._session = open_session(path, content)
        inputs = {entry.name: tuple(entry.shape[1:]) for entry in self._session.get_inputs()}
        self._state = {name: shape for name, shape in inputs.items() if "." in name}
        shapes = [length for shape in inputs.values() for length in shape]
        try:
            self.tasks = tuple(str(name) for name in description["tasks"])
            steps, frame = int(description["time_steps"]), inputs["frames"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadFileError(f"{path}: mtspark's description in it is damaged") from error
        most = current_policy().limits.time_steps
        if any(type(length) is not int for length in shapes) or not 1 <= steps <= most:
            raise BadFileError(f"{path}: mtspark's description in it does not fit together")
        self.feed: Feed | None = Feed(frame, steps, True, True, 1 / 255)

    def run(self, frames: NDArray[np.uint8], feed: Feed, row: int) -> dict[str, LayerTrace]:
        """Spikes of every layer and step."""
        from mtspark.core.files.onnx_graph import NEXT

        names = [entry.name for entry in self._session.get_outputs()]
        state = {
            name: np.zeros((len(frames), *shape), np.float32) for name, shape in self._state.items()
        }
        logs: dict[str, list[NDArray[np.bool_]]] = {}
        for _ in range(feed.time_steps):
            feeds = {"frames": frames, "task": np.full(len(frames), row), **state}
            try:
                found = self._session.run(names, feeds)
                made = dict(zip(names, found, strict=True))
                state = {name: made[NEXT + name] for name in state}
            except Exception as error:
                # ONNX Runtime's errors share no base with a public name.
                raise BadFileError(
                    f"{self._path}: ONNX Runtime cannot run it: {one_line(error)}"
                ) from error
            for name in names:
                if name.startswith("spikes."):
                    logs.setdefault(name.removeprefix("spikes."), []).append(made[name] > 0)
        return {name: LayerTrace(np.stack(log)) for name, log in logs.items()}


def open_side(text: str) -> Side:
    """A file or folder as a side.

    Raises:
        BadRequestError: it is none of the kinds that are known.
        MtsparkError: it cannot be read as what it is.
    """
    from mtspark.sim.backends.reference import ReferenceChip

    path = Path(text)
    if path.is_dir():
        from mtspark.deploy.bundle import load_bundle

        network = load_bundle(path).network
        return ChipSide(text, network, ReferenceChip(network))
    if path.suffix == ".net":
        from mtspark.convert.netx import import_netx

        network = import_netx(path)
        return ChipSide(text, network, ReferenceChip(network))
    if path.suffix == ".nir":
        return FloatSide(path)
    if path.suffix == ".pt":
        return TorchSide(path)
    if path.suffix == ".onnx":
        return _open_onnx(path)
    raise BadRequestError(
        f"{text}: no bundle, and no file that ends in {', '.join(SUFFIXES)}; give one of these"
    )


def _open_onnx(path: Path) -> Side:
    from mtspark.convert.onnx import DECISION_FORMAT, STEP_FORMAT
    from mtspark.core.files.onnx import OnnxFile, read_onnx

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
    """What both sides are given.

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
    # Neither says all: series of spikes, unless the integers are of a network that holds pixels.
    held = any(isinstance(side, OnnxIntegerSide) and side.about.held for side in (one, other))
    return Feed(shape, steps or more or DEFAULT_STEPS, held, held, 1.0)


def _takes(side: Side) -> tuple[tuple[int, ...], int | None]:
    """Shape of a frame or slice, and T where the side has one of its own."""
    if isinstance(side, OnnxIntegerSide):
        return side.about.input_shape, side.about.time_steps
    if isinstance(side, FloatSide) and side.feed is None:
        return side.network.input.shape, None
    assert side.feed is not None
    return side.feed.shape, side.feed.time_steps


def _for(steps: int | None) -> str:
    return "" if steps is None else f" for {steps} steps"


def random_frames(feed: Feed, decisions: int, seed: int) -> NDArray[np.uint8]:
    """Bytes that are zero in six of ten places, or spikes in one of ten."""
    generator = np.random.default_rng(seed)
    shape = (decisions, *(() if feed.held else (feed.time_steps,)), *feed.shape)
    if feed.graded:
        values = generator.integers(0, 256, shape) * (generator.random(shape) < 0.4)
        return values.astype(np.uint8)
    return (generator.random(shape) < 0.1).astype(np.uint8)


def fitted(frames: NDArray[np.uint8], feed: Feed, side: Side) -> NDArray[np.uint8]:
    """The same frames in the shape that a side takes."""
    if side.feed is None:
        return frames
    return frames.reshape(*frames.shape[: 1 if feed.held else 2], *side.feed.shape)


def netx_side(network: ChipNetwork, row: int) -> ChipSide:
    """A network in lava-dl's netx.

    Raises:
        BackendMissingError: lava-dl is not installed.
        BadNetworkError: netx cannot hold the network.
    """
    from mtspark.sim.backends.netx.backend import NetxBackend

    return ChipSide("netx", network, NetxBackend(network, row))
