"""Plain inputs through a deployed network: values, spikes, counts; in batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.core.backend import AgentBackend, ChipTrace, Decision
from mtspark.core.chip_network import ANSWER_FACTOR, ChipNetwork, Encoder, check_forgets
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath, replacing, writable_folder
from mtspark.core.process import main_memory_bytes
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.deploy.bundle import Bundle
from mtspark.sim.backends import episode_decisions, episode_trace
from mtspark.sim.counts import Counter, RunCounts, ShareCounter
from mtspark.sim.recording import (
    as_messages,
    axes_before,
    check_one_frame,
    load_inputs,
    rounding,
)
from mtspark.sim.verdict import PricedSamples
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.run.data import (
    BATCH,
    as_array,
    batch_first,
    batches,
    is_loader,
    loader_of,
    sample_count,
    shown_values,
)

log = logging.getLogger(__name__)

BYTES_RECORDED = 9
"""A spike and a membrane of a neuron in a step."""

WHITE = 255


@dataclass(frozen=True)
class InputsResult(PricedSamples):
    """What a network made of inputs.

    Attributes:
        network: that ran, with the number of steps that it ran.
        network_sha256: of the bundle's network.
        backend: who ran it.
        task: row of the thresholds, by name.
        values: float64 (samples, *shape of the readout); of an episode, after its last decision.
        decision_values: where state survives decisions, of each episode float64 (T, *shape), after
            every decision; otherwise none.
        spike_counts: by population, int32 (samples, *shape): spikes in its window.
        spikes: by population, bool (T, samples, *shape), in its window; empty where they were
            not recorded.
        membranes: likewise, int64, after each step.
        counts: totals over all samples; a decision is one sample.
        sent: messages by source, of its shape, over all samples; empty for a float network.
        shares: how often what is not zero, and changes; None for a float network.
    """

    network: ChipNetwork
    network_sha256: str
    backend: str
    task: str
    values: NDArray[np.float64]
    spike_counts: Mapping[str, NDArray[np.int32]]
    spikes: Mapping[str, NDArray[np.bool_]]
    membranes: Mapping[str, NDArray[np.int64]]
    counts: RunCounts
    sent: Mapping[str, Integers] = field(default_factory=dict, repr=False)
    shares: ShareCounter | None = field(default=None, repr=False)
    decision_values: tuple[NDArray[np.float64], ...] = field(default=(), repr=False)

    @property
    def samples(self) -> int:
        """How many inputs ran."""
        return len(self.values)

    @property
    def classes(self) -> NDArray[np.int64]:
        """Index of the largest value of each sample; the first one wins a tie."""
        return self.values.reshape(self.samples, -1).argmax(1)

    def to_json(self) -> dict[str, Any]:
        """Return totals of spikes, and all values.

        ``spikes`` are those of ``spikes_window`` in ``layers``, and ``network_hash`` is
        ``network_sha256``, as they were called first. ``decision_values`` are there where state
        survives decisions.
        """
        decisions = [episode.tolist() for episode in self.decision_values]
        content = {
            "network_hash": self.network_sha256,
            "network_sha256": self.network_sha256,
            "backend": self.backend,
            "task": self.task,
            "samples": self.samples,
            "time_steps": self.network.time_steps,
            "spikes": {name: int(count.sum()) for name, count in self.spike_counts.items()},
            "input_events": self.counts.input_events.to_json(),
            "layers": [layer.to_json() for layer in self.counts.layers],
            "values": self.values.tolist(),
        }
        return {**content, "decision_values": decisions} if decisions else content


@dataclass(frozen=True)
class RecordedRun:
    """A network's run on a file of recorded inputs.

    Attributes:
        recording: name of the file.
        result: what came out.
        inputs: what went in, (samples, *input shape) or (samples, T, *input shape), in the
            network's own values.
    """

    recording: str
    result: InputsResult
    inputs: NDArray[Any] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return what ``mtspark run --input --json`` writes."""
        inner = self.result.to_json()
        head = {key: inner.pop(key) for key in ("network_hash", "backend", "task")}
        return {**head, "recording": self.recording, **inner}


@dataclass(frozen=True)
class Answer:
    """A backend's answer to one batch.

    Attributes:
        network: that answered, with the number of steps of the batch.
        values: what went in, (batch, *shape) or (batch, T, *shape).
        frames: the same as messages.
        rounding: how far values lie at most from what their messages stand for.
        labels: of the batch, where there are any.
        decision: the answer.
    """

    network: ChipNetwork
    values: NDArray[Any]
    frames: NDArray[np.uint8]
    labels: NDArray[Any] | None
    decision: Decision
    rounding: float = 0.0


def answers(
    bundle: Bundle,
    x: Any,
    y: Any = None,
    *,
    task: str | None = None,
    backend: BackendName = BackendName.ENGINE,
    record: bool = False,
    batch_size: int = BATCH,
    time_first: bool = False,
    progress: ProgressCallback = no_progress,
) -> Iterator[Answer]:
    """Yield a backend's answers to inputs, batch by batch.

    Args:
        bundle: of the network.
        x: array, tensor or loader of frames (batch, *shape) or series (batch, T, *shape), in the
            network's own values; the length of a series takes the place of the network's T.
        y: labels, where `x` is no loader that brings them.
        task: default: the first.
        backend: who answers.
        record: with every spike and membrane.
        batch_size: samples of an array that are simulated together.
        time_first: series are (T, batch, *shape).
        progress: called before every batch.

    Raises:
        BadRequestError: unknown task, or inputs that the network does not take.
        TypeError: no numbers.
    """
    network = bundle.network
    name = network.tasks[0].name if task is None else network.task_name(task)
    row = network.task_index(name)
    check_forgets(network, "recorded inputs are no course of an episode")
    x = loader_of(x)
    if time_first and not network.input.held and not is_loader(x):
        x, time_first = batch_first(as_array(x, "x")), False
    total, done = sample_count(x), 0
    stage = f"{network.name} on {backend.value}"
    with ExitStack() as stack:
        player: AgentBackend | None = None
        for values, labels in batches(x, y, size=batch_size):
            progress(Progress(stage, done, total, "samples"))
            if time_first and not network.input.held:
                values = batch_first(values)
            if player is None:
                for remark in _remarks(values, network):
                    log.warning(remark)
            values = shown_values(values, network)
            frames = as_messages(values, network, Path("x"))
            steps = network.time_steps if network.input.held else frames.shape[1]
            if player is None:
                network = replace(network, time_steps=steps)
                player = stack.enter_context(
                    open_backend(backend, replace(bundle, network=network), name, trace=record)
                )
            if steps != network.time_steps:
                raise BadRequestError(
                    f"x: a series of {steps} steps after one of {network.time_steps}; give "
                    "batches of equal length"
                )
            if network.input.encoder is Encoder.CHANGES:
                # Samples are no course of a game: each is sent whole.
                player.start(len(frames))
            decision = player.decide(np.ascontiguousarray(frames), row, trace=record)
            done += len(frames)
            yield Answer(network, values, frames, labels, decision, rounding(values, network))
    if not done:
        raise BadRequestError("x: has no sample in it")
    progress(Progress(stage, done, done, "samples"))


def _remarks(values: NDArray[Any], network: ChipNetwork) -> Iterator[str]:
    """Yield how inputs are read, where a user may have meant another thing; a sentence each.

    Args:
        values: of the first batch, as they were given.
        network: that takes them.
    """
    given, shape = network.input, values.shape
    # Where white is 255 or 1, as by ToTensor, pixels and messages are the same.
    alike = given.scale == 1 or abs(given.scale * WHITE - 1) < 1 / WHITE
    if values.dtype == np.uint8 and given.payload_bits and not alike:
        yield (
            f"inputs of uint8 are read as messages of {given.scale:g} each, here up to "
            f"{values.max(initial=0) * given.scale:g}; if they are pixels, give real numbers, "
            "scaled as for the network"
        )
    series = not given.held and axes_before(shape, network) == 2
    if series and shape[0] == network.time_steps != shape[1]:
        yield (
            f"inputs are read as {shape[0]} samples of {shape[1]} steps, and the network was made "
            f"for {network.time_steps} steps; if the steps come first, swap the first two axes"
        )
    if series and shape[1] != network.time_steps and ANSWER_FACTOR in network.provenance:
        yield (
            f"inputs have {shape[1]} steps, and the factor of the answers, "
            f"{network.provenance[ANSWER_FACTOR]}, is that of the {network.time_steps} steps that "
            "the network was made for: a mean of the steps is then none"
        )


def run_inputs(
    bundle: Bundle,
    x: Any,
    *,
    task: str | None = None,
    backend: BackendName = BackendName.ENGINE,
    record: bool = False,
    batch_size: int = BATCH,
    time_first: bool = False,
    progress: ProgressCallback = no_progress,
) -> InputsResult:
    """Run plain inputs; arguments and errors as for :func:`answers`.

    Where state survives decisions, inputs are episodes (batch, T, *shape), each from rest: values
    are those after its last decision, counts of every decision.
    """
    task = bundle.network.tasks[0].name if task is None else bundle.network.task_name(task)
    x = loader_of(x)
    if bundle.network.stateful:
        x = batch_first(as_array(x, "x")) if time_first and not is_loader(x) else x
        return _run_episodes(bundle, x, task, backend, batch_size, progress, record=record)
    counter: Counter | None = None
    shares: ShareCounter | None = None
    values: list[NDArray[np.float64]] = []
    sent: dict[str, list[NDArray[np.int32]]] = {}
    spikes: dict[str, list[NDArray[np.bool_]]] = {}
    membranes: dict[str, list[NDArray[np.int64]]] = {}
    for answer in answers(
        bundle,
        x,
        task=task,
        backend=backend,
        record=record,
        batch_size=batch_size,
        time_first=time_first,
        progress=progress,
    ):
        decision, network = answer.decision, answer.network
        counter = counter or Counter(network)
        counter.add(decision.activity)
        if backend is not BackendName.TORCH:
            shares = shares or ShareCounter(network)
            shares.add(decision.activity.window, answer.frames, None)
        values.append(decision.values)
        for population in network.populations:
            name, own = population.name, network.window(population.name)
            # What a float network only reads out sends no messages.
            if name in decision.activity.window:
                count = np.asarray(decision.activity.window[name])
                sent.setdefault(name, []).append(count.astype(np.int32))
            if decision.trace is not None:
                spikes.setdefault(name, []).append(decision.trace.spikes[name][own])
                membranes.setdefault(name, []).append(decision.trace.membranes[name][own])
    assert counter is not None
    return InputsResult(
        network=counter.network,
        network_sha256=bundle.network_hash,
        backend=backend.value,
        task=task,
        values=np.concatenate(values),
        spike_counts={name: np.concatenate(parts) for name, parts in sent.items()},
        spikes={name: np.concatenate(parts, 1) for name, parts in spikes.items()},
        membranes={name: np.concatenate(parts, 1) for name, parts in membranes.items()},
        counts=counter.result(pipeline=backend is not BackendName.TORCH),
        sent={} if backend is BackendName.TORCH else counter.sent,
        shares=shares,
    )


def _run_episodes(
    bundle: Bundle,
    x: Any,
    task: str,
    backend: BackendName,
    batch_size: int,
    progress: ProgressCallback,
    *,
    record: bool,
) -> InputsResult:
    """Run episodes of a network whose state survives decisions."""
    network, counter, shares = bundle.network, Counter(bundle.network), ShareCounter(bundle.network)
    in_torch = backend is BackendName.TORCH
    row, total = network.task_index(task), sample_count(x)
    answered: list[NDArray[np.float64]] = []
    sent: dict[str, list[NDArray[np.int32]]] = {}
    traces: list[ChipTrace] = []
    done = 0
    with open_backend(backend, bundle, task, trace=record) as player:
        for given, _ in batches(x, size=batch_size):
            progress(Progress(f"{network.name} on {backend.value}", done, total, "samples"))
            frames = _episodes(given, network)
            members = np.arange(done, done + frames.shape[1])
            decisions = []
            for shown, decision in zip(
                frames, episode_decisions(player, frames, row, trace=record), strict=True
            ):
                counter.add(decision.activity)
                if not in_torch:
                    shares.add(decision.activity.window, shown, members)
                decisions.append(decision)
            answered.extend(np.stack([one.values for one in decisions], axis=1))
            for population in network.populations:
                name = population.name
                if name not in decisions[-1].activity.window:
                    continue
                counts = sum(np.asarray(one.activity.window[name]) for one in decisions)
                sent.setdefault(name, []).append(np.asarray(counts, np.int32))
            if decisions[-1].trace is not None:
                traces.append(episode_trace(network, decisions))
            done += len(members)
    if not done:
        raise BadRequestError("x: has no sample in it")
    if len({next(iter(one.spikes.values())).shape[0] for one in traces}) > 1:
        raise BadRequestError("x: episodes of several lengths; record those of equal length")
    progress(Progress(f"{network.name} on {backend.value}", done, done, "samples"))

    def joined(kind: str) -> dict[str, NDArray[Any]]:
        names = [population.name for population in network.populations] if traces else []
        return {name: np.concatenate([getattr(t, kind)[name] for t in traces], 1) for name in names}

    return InputsResult(
        network=network,
        network_sha256=bundle.network_hash,
        backend=backend.value,
        task=task,
        values=np.stack([episode[-1] for episode in answered]),
        decision_values=tuple(answered),
        spike_counts={name: np.concatenate(parts) for name, parts in sent.items()},
        spikes=joined("spikes"),
        membranes=joined("membranes"),
        counts=counter.result(pipeline=not in_torch),
        sent={} if in_torch else counter.sent,
        shares=None if in_torch else shares,
    )


def _episodes(given: NDArray[Any], network: ChipNetwork) -> NDArray[Any]:
    """Messages (T, batch, *input shape) of episodes (batch, T, *shape).

    Raises:
        BadRequestError: another shape, or a value that no message stands for.
    """
    shape = network.input.shape
    if axes_before(given.shape, network) != 2 or not given.size:
        wanted = ", ".join(map(str, shape))
        check_forgets(
            network,
            f"x of shape {given.shape} is no course of an episode",
            f"give episodes (batch, T, {wanted})",
        )
    if not np.isfinite(given).all():
        raise BadRequestError("x: has values that are not finite")
    messages = as_messages(given, network, Path("x"))
    return messages.reshape(*given.shape[:2], *shape).swapaxes(0, 1)


def run_recording(
    bundle: Bundle,
    recording: AnyPath,
    *,
    task: str | None = None,
    backend: BackendName = BackendName.ENGINE,
    progress: ProgressCallback = no_progress,
) -> RecordedRun:
    """Run a file of recorded inputs, with every spike and membrane.

    Args:
        bundle: its network may take a series, or hold the first slice of the recording.
        recording: .npy of frames (batch, ...) or series (batch, T, ...), whose length replaces
            the network's T; spikes may also be one series (T, ...). Where state survives
            decisions, episodes (batch, T, ...) or one (T, ...): each begins at rest, and its
            state is carried from decision to decision.
        task: default: the first.
        backend: who runs it.
        progress: called at the start and at the end.

    Raises:
        BadFileError: a file that cannot be read.
        BadRequestError: values that the network's input does not take.
    """
    path, network = Path(recording), bundle.network
    network.task_index(task or network.tasks[0].name)
    series, frames = load_inputs(path, network)
    # Checked here once more, for an error that names the file.
    messages = as_messages(series, network, path)
    if network.input.held and not frames and not network.stateful:
        check_one_frame(messages, network.input.shape, path)
        series = series[:, 0]
    one = network.time_steps if network.input.held or frames else series.shape[1]
    steps = series.shape[1] if network.stateful else one
    _check_memory(network, len(series), steps, path)
    result = run_inputs(
        bundle,
        series,
        task=task,
        backend=backend,
        record=True,
        batch_size=len(series),
        progress=progress,
    )
    shown = series if network.stateful else shown_values(series, result.network, path.name)
    return RecordedRun(path.name, result, shown)


def _check_memory(network: ChipNetwork, samples: int, steps: int, path: Path) -> None:
    """Refuse a recording whose spikes and membranes this computer's memory cannot hold."""
    neurons = sum(population.size for population in network.populations)
    needed, memory = samples * steps * neurons * BYTES_RECORDED, main_memory_bytes()
    if memory is not None and needed > memory:
        raise BadRequestError(
            f"{path}: every spike and membrane of {neurons:,} neurons in {samples} x {steps:,} "
            f"steps take {needed / 2**30:,.1f} GiB, this computer has {memory / 2**30:.1f} GiB; "
            "run it in shorter parts"
        )


def check_archive_target(path: AnyPath | None) -> None:
    """Refuse a file of spikes that could not be written, before long work starts.

    Raises:
        BadRequestError: no .npz file.
        BadFileError: its folder cannot be written.
    """
    if path is None:
        return
    path = Path(path)
    if path.suffix != ".npz" or path.is_dir():
        raise BadRequestError(f"{path}: give -o the name of an .npz file")
    writable_folder(path.resolve().parent)


def save_archive(result: InputsResult, path: AnyPath) -> None:
    """Write values, and of every population spikes and membranes, as .npz.

    Where state survives decisions, ``decision_values`` are (samples, T, *shape), too.

    Raises:
        BadFileError: it cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {"values": result.values}
    if result.decision_values:
        arrays["decision_values"] = np.stack(result.decision_values)
    for name in result.spikes:
        arrays[f"spikes/{name}"] = result.spikes[name]
        arrays[f"membranes/{name}"] = result.membranes[name]
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
