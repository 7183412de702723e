"""Comparison of any two of checkpoint, NIR, ONNX, bundle and netx, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import ChipTrace
from mtspark.core.errors import BadRequestError
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.deploy.bundle import Bundle
from mtspark.sim.compare import Agreement, Comparison, SharedPlaces
from mtspark.sim.energy import PriceCard
from mtspark.workflows.backends import BackendName
from mtspark.workflows.diff.costs import EpisodeLog, costs_of
from mtspark.workflows.diff.frames import Feed, game_frames, random_frames
from mtspark.workflows.diff.result import DiffResult
from mtspark.workflows.diff.sides import (
    ChipSide,
    OnnxIntegerSide,
    Side,
    TorchSide,
    fitted,
    netx_side,
    onnx_side,
    open_side,
    shared_feed,
)
from mtspark.workflows.whole import shared_places

TWIN = "twin"
"""The checkpoint's float network with quantised weights (:mod:`mtspark.train.quantised.twin`)."""

NETX, ONNX = "netx", "onnx"
RUNNERS = (NETX, ONNX)
"""Tools that run a file of their own, which is written for the comparison."""

BATCH = 10
DEFAULT_DECISIONS = 20


def diff_files(
    first: Bundle | str,
    against: str,
    task: str | None = None,
    *,
    decisions: int | None = None,
    seed: int = 0,
    card: PriceCard | None = None,
    progress: ProgressCallback = no_progress,
) -> DiffResult:
    """Compare every spike of two sides, and every membrane where both are integers.

    Args:
        first: a bundle or file.
        against: another, or ``netx`` or ``onnx``: the first, in lava-dl or ONNX Runtime.
        task: by name; the first one where None.
        decisions: how many frames.
        seed: of the frames: of a game where a chip network plays one, otherwise random.
        card: prices of the chip networks among the two; None for no costs.
        progress: receives the decisions compared so far.

    Raises:
        BadRequestError: two different networks, or a file of no known kind.
    """
    name = str(first.folder) if isinstance(first, Bundle) else first
    if against in (TWIN, *(backend.value for backend in BackendName)):
        raise BadRequestError(
            f"--against {against}: is for bundles, and {name} is a file; name the folder that "
            "mtspark export makes of it"
        )
    with _opened(first, against, task) as (one, other):
        row = _row(one, task)
        other_row = row if against in RUNNERS else _row(other, task, row)
        if task is not None and not (one.tasks or other.tasks):
            raise BadRequestError(
                f"--task {task}: is of networks with tasks, and neither file has any; leave it out"
            )
        feed = shared_feed(one, other)
        count = decisions or DEFAULT_DECISIONS
        log = EpisodeLog()
        frames = _frames(one, other, feed, count, row, seed, log, progress)
        stage = f"{name} against {against}"
        agreement, places = _compare(one, other, frames, feed, (row, other_row), stage, progress)
        sides = {
            side.name: (side.network, fitted(frames, feed, side), at)
            for side, at in ((one, row), (other, other_row))
            # Netx runs the very network of the other side.
            if isinstance(side, ChipSide) and side.name != NETX
        }
        return DiffResult(
            expected=name,
            against=against,
            task=one.tasks[row] if one.tasks else task,
            seed=seed,
            agreement=agreement,
            exact=one.integer == other.integer,
            read_as={side.name: side.notes for side in (one, other) if side.notes},
            costs=costs_of(sides, log.numbers, card, progress=progress),
            unit="decision" if log.numbers else "random input",
            removed=places.removed,
        )


@contextmanager
def _opened(first: Bundle | str, against: str, task: str | None) -> Iterator[tuple[Side, Side]]:
    with ExitStack() as stack:
        one = open_side(first)
        stack.callback(one.close)
        row = _row(one, task)
        other: Side
        if against not in RUNNERS:
            other = open_side(against)
        elif not isinstance(one, ChipSide):
            raise BadRequestError(
                f"--against {against}: {one.name} is no chip network; name the folder that "
                "mtspark export makes of it, or a .net file"
            )
        elif against == NETX:
            other = netx_side(one.network, row)
        else:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="mtspark-onnx-")))
            other = onnx_side(one.network, folder)
        stack.callback(other.close)
        for side, its_like in ((one, other), (other, one)):
            if isinstance(side, TorchSide) and isinstance(its_like, ChipSide) and its_like.bundle:
                side.follow(its_like.bundle)
        yield one, other


def _row(side: Side, task: str | None, default: int = 0) -> int:
    if task is None or not side.tasks:
        return default if default < max(1, len(side.tasks)) else 0
    if task not in side.tasks:
        raise BadRequestError(f"{side.name} knows {', '.join(side.tasks)}, no task {task!r}")
    return side.tasks.index(task)


def _frames(
    one: Side,
    other: Side,
    feed: Feed,
    decisions: int,
    row: int,
    seed: int,
    log: EpisodeLog,
    progress: ProgressCallback,
) -> NDArray[np.uint8]:
    """Return frames of the game where a chip network plays one, otherwise random ones."""
    for side in (one, other):
        if isinstance(side, ChipSide) and side.network.tasks[row].game:
            task = side.network.tasks[row].name
            return game_frames(
                side.network, task, decisions, seed, observe=log.observe, progress=progress
            )
    return random_frames(feed, decisions, seed)


def _compare(
    one: Side,
    other: Side,
    frames: NDArray[np.uint8],
    feed: Feed,
    rows: tuple[int, int],
    stage: str,
    progress: ProgressCallback,
) -> tuple[Agreement, SharedPlaces]:
    comparison, places = Comparison(), SharedPlaces()
    # Netx starts a process for every batch.
    batch = len(frames) if other.name == NETX else BATCH
    if any(isinstance(side, ChipSide) and side.network.stateful for side in (one, other)):
        # One episode, decision by decision.
        batch = 1
        for side in (one, other):
            if not isinstance(side, ChipSide | OnnxIntegerSide):
                raise BadRequestError(
                    f"{side.name}: answers decisions alone, and the state of the other side "
                    "survives them; compare it with a bundle or an integer ONNX step"
                )
    for start in range(0, len(frames), batch):
        progress(Progress(stage, start, len(frames), "decisions"))
        part = frames[start : start + batch]
        expected = one.run(fitted(part, feed, one), feed, rows[0])
        got = other.run(fitted(part, feed, other), feed, rows[1])
        if not start:
            places = _places(one, other, expected, got)
        expected = expected if places.one is None else places.one.spread(expected)
        got = got if places.other is None else places.other.spread(got)
        pairs = _pairs(one, other, expected, got)
        comparison.add_trace(expected, got, pairs, only=places.only)
    progress(Progress(stage, len(frames), len(frames), "decisions"))
    return comparison.result(), places


def _places(one: Side, other: Side, expected: ChipTrace, got: ChipTrace) -> SharedPlaces:
    """Say in which places sides are compared: in their own where they have the same neurons."""
    if one.places is None or other.places is None:
        sizes = [{name: log[0, 0].size for name, log in t.spikes.items()} for t in (expected, got)]
        if all(sizes[0][name] == sizes[1].get(name, sizes[0][name]) for name in sizes[0]):
            return SharedPlaces()
    return shared_places(one.places, other.places)


def _pairs(one: Side, other: Side, expected: ChipTrace, got: ChipTrace) -> dict[str, str]:
    """Pair layers of the same name; where there are none, layers of the same size, in order.

    Raises:
        BadRequestError: no layer of one has its like in the other.
    """
    left, right = expected.spikes, got.spikes

    def size(spikes: NDArray[np.bool_]) -> tuple[int, int]:
        return len(spikes), int(spikes[0].size)

    pairs = {name: name for name in left if name in right}
    if not pairs:
        # Readouts that never fire are layers of one side and none of the other.
        free = list(right)
        for name, spikes in left.items():
            like = next((theirs for theirs in free if size(right[theirs]) == size(spikes)), None)
            if like is not None:
                pairs[name] = like
                free = free[free.index(like) + 1 :]
    if not pairs or any(size(left[name]) != size(right[theirs]) for name, theirs in pairs.items()):
        shapes = [
            ", ".join(f"{name} {spikes.shape[2:]}" for name, spikes in side.items())
            for side in (left, right)
        ]
        raise BadRequestError(
            f"{one.name} ({shapes[0]}) and {other.name} ({shapes[1]}): two different networks"
        )
    return pairs
