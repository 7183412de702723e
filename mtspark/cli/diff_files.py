"""``mtspark diff X --against Y`` for any two of checkpoint, NIR, ONNX, bundle and netx."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.core.errors import BadRequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtspark.cli.diff_sides import Feed, LayerTrace, Side

BATCH = 10
DEFAULT_DECISIONS = 20


def diff_files(
    first: str, against: str, task: str | None, *, decisions: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Compare every spike of two sides, and every membrane where both are integers.

    Args:
        first: a bundle or file.
        against: another, or ``netx`` or ``onnx``: the first, in lava-dl or ONNX Runtime.
        task: by name (default: the first).
        decisions: how many frames.
        seed: of the frames: of a game where the first side plays one, otherwise random.

    Raises:
        BadRequestError: two different networks, or a file of no known kind.
    """
    import tempfile

    from mtspark.cli.diff_sides import ChipSide, FloatSide, netx_side, open_side, shared_feed
    from mtspark.workflows.backends import BackendName

    if against == "twin" or against in [name.value for name in BackendName]:
        raise BadRequestError(
            f"--against {against}: is for bundles, and {first} is a file; name the folder that "
            "mtspark export makes of it"
        )
    one = open_side(first)
    row = _row(one, task)
    with tempfile.TemporaryDirectory() as scratch:
        other: Side
        if against in ("netx", "onnx"):
            if not isinstance(one, ChipSide):
                raise BadRequestError(
                    f"--against {against}: {first} is no chip network; name the folder that "
                    "mtspark export makes of it, or a .net file"
                )
            if against == "netx":
                other = netx_side(one.network, row)
            else:
                other = _as_onnx(one, Path(scratch))
        else:
            other = open_side(against)
        feed = shared_feed(one, other)
        frames = _frames(one, other, feed, decisions or DEFAULT_DECISIONS, row, seed)
        other_row = row if against in ("netx", "onnx") else _row(other, task, row)
        found = _compare(one, other, frames, feed, row, other_row)
    return {
        "expected": first,
        "against": against,
        "task": one.tasks[row] if one.tasks else task,
        "seed": seed,
        **found,
        # What a NIR file does not store decides as much as what it does.
        "read_as": {
            side.name: side.network.notes[0]
            for side in (one, other)
            if isinstance(side, FloatSide) and side.network.notes
        },
    }


def _as_onnx(side: Any, folder: Path) -> Side:
    from mtspark.cli.diff_sides import OnnxIntegerSide
    from mtspark.core.files.onnx_graph import save_onnx
    from mtspark.deploy.formats.onnx_integer import integer_model

    save_onnx(integer_model(side.network), folder / "network.onnx")
    return OnnxIntegerSide(folder / "network.onnx")


def _row(side: Side, task: str | None, default: int = 0) -> int:
    if task is None or not side.tasks:
        return default if default < max(1, len(side.tasks)) else 0
    if task not in side.tasks:
        raise BadRequestError(f"{side.name} knows {', '.join(side.tasks)}, no task {task!r}")
    return side.tasks.index(task)


def _frames(
    one: Side, other: Side, feed: Feed, decisions: int, row: int, seed: int
) -> NDArray[np.uint8]:
    """Frames of the game where a chip network plays one, otherwise random ones."""
    from mtspark.cli.diff_sides import ChipSide, random_frames

    for side in (one, other):
        if isinstance(side, ChipSide) and side.network.tasks[row].game:
            from mtspark.cli.diff import game_frames

            return game_frames(side.network, side.network.tasks[row].name, decisions, seed)
    return random_frames(feed, decisions, seed)


def _compare(
    one: Side, other: Side, frames: NDArray[np.uint8], feed: Feed, row: int, other_row: int
) -> dict[str, Any]:
    from mtspark.cli.diff_sides import fitted

    layers: dict[str, dict[str, int]] = {}
    first: dict[str, Any] | None = None
    compared = different = 0
    step = len(frames) if other.name == "netx" else BATCH
    for start in range(0, len(frames), step):
        batch = frames[start : start + step]
        expected = one.run(fitted(batch, feed, one), feed, row)
        got = other.run(fitted(batch, feed, other), feed, other_row)
        found: list[tuple[tuple[int, int, int, int], dict[str, Any]]] = []
        for depth, (name, theirs) in enumerate(_pairs(one, other, expected, got)):
            entry = layers.setdefault(name, {"compared": 0, "different": 0})
            for order, (what, left, right) in enumerate(_values(expected[name], got[theirs])):
                right = right.reshape(left.shape)
                unequal = left != right
                count = int(unequal.sum())
                entry["compared"] += left.size
                entry["different"] += count
                compared, different = compared + left.size, different + count
                if count:
                    found.append(_first(unequal, left, right, name, what, (depth, order), start))
        if found and first is None:
            first = min(found, key=lambda entry: entry[0])[1]
    return {
        "equal": compared > 0 and different == 0,
        "exact": one.integer == other.integer,
        "decisions": len(frames),
        "compared": compared,
        "different": different,
        "first_divergence": first,
        "by_layer": layers,
    }


def _values(one: LayerTrace, other: LayerTrace) -> list[tuple[str, Any, Any]]:
    """Membranes before spikes: a wrong membrane is why a spike is wrong."""
    pairs: list[tuple[str, Any, Any]] = [("spike", one.spikes, other.spikes)]
    if one.membranes is not None and other.membranes is not None:
        pairs.insert(0, ("membrane", one.membranes, other.membranes))
    return pairs


def _first(
    unequal: Any, left: Any, right: Any, name: str, what: str, where: tuple[int, int], start: int
) -> tuple[tuple[int, int, int, int], dict[str, Any]]:
    """The first difference of one layer: by decision, then step, then layer."""
    import numpy as np

    places = np.argwhere(unequal)
    at = tuple(int(i) for i in places[np.lexsort((places[:, 0], places[:, 1]))[0]])
    return (at[1], at[0], *where), {
        "decision": start + at[1],
        "step": at[0] + 1,
        "layer": name,
        "neuron": list(at[2:]),
        "quantity": what,
        "expected": int(left[at]),
        "got": int(right[at]),
    }


def _pairs(
    one: Side, other: Side, expected: dict[str, LayerTrace], got: dict[str, LayerTrace]
) -> list[tuple[str, str]]:
    """Layers of the same name; where there are none, in order, of the same size.

    Raises:
        BadRequestError: no layer of one has its like in the other.
    """

    def size(trace: LayerTrace) -> tuple[int, int]:
        return len(trace.spikes), int(trace.spikes[0].size)

    pairs = [(name, name) for name in expected if name in got]
    if not pairs:
        # Readouts that never fire are layers of one side and none of the other.
        left = list(got)
        for name, trace in expected.items():
            like = next((theirs for theirs in left if size(got[theirs]) == size(trace)), None)
            if like is not None:
                pairs.append((name, like))
                left = left[left.index(like) + 1 :]
    if not pairs or any(size(expected[name]) != size(got[theirs]) for name, theirs in pairs):
        shapes = [
            ", ".join(f"{name} {trace.spikes.shape[2:]}" for name, trace in side.items())
            for side in (expected, got)
        ]
        raise BadRequestError(
            f"{one.name} ({shapes[0]}) and {other.name} ({shapes[1]}): two different networks"
        )
    return pairs
