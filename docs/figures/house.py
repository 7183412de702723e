"""Draw the house: ``python docs/figures/house.py docs/house.svg``.

Reads every import of the package, so the picture cannot go stale unnoticed: a test draws it again
and compares. Floors are rows; a package may import from its own floor's box and from boxes below.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[2] / "mtspark"
FLOORS = (("cli",), ("workflows",), ("convert", "sim"), ("train", "deploy"), ("core",))
COLOURS = {
    "cli": "#e8e8e8",
    "workflows": "#dbe7f5",
    "convert": "#e3f1df",
    "sim": "#fbe9d7",
    "train": "#f4dfe9",
    "deploy": "#e6e0f3",
    "core": "#f5f0cf",
}
COLUMNS = {"cli": 7, "workflows": 7, "convert": 3, "sim": 4, "train": 4, "deploy": 3, "core": 7}
ROW_HEIGHT, TITLE_HEIGHT, GAP = 0.36, 0.5, 0.55
WIDTH = 14.0


@dataclass(frozen=True)
class Room:
    """A package right below mtspark.

    Attributes:
        name: of the package.
        parts: its modules and packages, those that import nobody else of the room first.
        purpose: the first sentence of its docstring.
    """

    name: str
    parts: tuple[str, ...]
    purpose: str


def module_files(room: str) -> dict[str, Path]:
    """Dotted name of every module of a room, and its file."""
    folder = (ROOT / room).resolve()
    files = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        inner = parts[:-1] if parts[-1] == "__init__" else parts
        files[".".join(("mtspark", room, *inner))] = path
    return files


def imported_names(path: Path) -> set[str]:
    """Dotted names below mtspark that a file imports, deferred imports included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("mtspark.")}


def room_imports() -> Counter[tuple[str, str]]:
    """How many files of one room import from another."""
    counts: Counter[tuple[str, str]] = Counter()
    for floor in FLOORS:
        for room in floor:
            for path in module_files(room).values():
                for other in {name.split(".")[1] for name in imported_names(path)} - {room}:
                    counts[room, other] += 1
    return counts


def describe_room(name: str) -> Room:
    """Read a room's parts in the order in which they build on one another."""
    files = module_files(name)
    uses: dict[str, set[str]] = {}
    for module, path in files.items():
        if module.count(".") < 2:
            continue
        part = module.split(".")[2]
        wanted = {n.split(".")[2] for n in imported_names(path) if n.split(".")[1] == name}
        uses[part] = uses.get(part, set()) | (wanted - {part})
    order: list[str] = []
    while len(order) < len(uses):
        ready = sorted(p for p in uses if p not in order and uses[p] & set(uses) <= set(order))
        # In a circle nobody is ready; a test keeps circles out, the picture shows the rest.
        order += ready or sorted(set(uses) - set(order))
    docstring = ast.get_docstring(ast.parse(files[f"mtspark.{name}"].read_text())) or ""
    purpose = " ".join(docstring.split("\n\n")[0].split()).split(". ")[0].rstrip(".")
    shown = tuple(part for part in order if not part.startswith("__"))
    return Room(name, shown, purpose)


def draw(target: Path) -> None:
    """Draw all rooms and who imports from whom."""
    matplotlib.rcParams.update({"svg.hashsalt": "house", "font.size": 9, "svg.fonttype": "none"})
    rooms = {room: describe_room(room) for floor in FLOORS for room in floor}
    heights = {
        room: TITLE_HEIGHT + ROW_HEIGHT * -(-len(each.parts) // COLUMNS[room])
        for room, each in rooms.items()
    }
    floors = [max(heights[room] for room in floor) for floor in FLOORS]
    total = sum(floors) + GAP * (len(FLOORS) - 1) + 0.3
    figure, axes = pyplot.subplots(figsize=(WIDTH, total))
    axes.set(xlim=(0, WIDTH), ylim=(0, total))
    axes.axis("off")
    boxes: dict[str, tuple[float, float, float, float]] = {}
    top = total - 0.15
    for floor, height in zip(FLOORS, floors, strict=True):
        wide = (WIDTH - 0.3 - 0.4 * (len(floor) - 1)) / len(floor)
        for place, room in enumerate(floor):
            left = 0.15 + place * (wide + 0.4)
            boxes[room] = (left, top - height, wide, height)
        top -= height + GAP
    for room, (left, bottom, wide, high) in boxes.items():
        axes.add_patch(
            FancyBboxPatch(
                (left, bottom),
                wide,
                high,
                boxstyle="round,pad=0.02,rounding_size=0.08",
                facecolor=COLOURS[room],
                edgecolor="#777777",
                linewidth=0.8,
            )
        )
        axes.text(left + 0.12, bottom + high - 0.27, room, fontsize=12, weight="bold")
        limit = int(wide * 10.5) - 12
        purpose = rooms[room].purpose
        short = purpose if len(purpose) <= limit else purpose[: limit - 1].rsplit(" ", 1)[0] + " …"
        axes.text(left + 1.25, bottom + high - 0.27, short, color="#444444")
        columns = COLUMNS[room]
        for number, part in enumerate(rooms[room].parts):
            row, column = divmod(number, columns)
            axes.text(
                left + 0.2 + column * (wide - 0.3) / columns,
                bottom + high - TITLE_HEIGHT - 0.22 - row * ROW_HEIGHT,
                part,
                family="monospace",
            )
    for (room, other), files in sorted(room_imports().items()):
        if room not in boxes or other not in boxes:
            continue
        # Through the gap only: an arrow that skips a floor would cross other boxes.
        if abs(floor_of(room) - floor_of(other)) != 1:
            continue
        left, bottom, wide, _ = boxes[room]
        to_left, to_bottom, to_wide, to_high = boxes[other]
        middle = max(left, to_left) + min(left + wide, to_left + to_wide)
        start, end = middle / 2, middle / 2
        if max(left, to_left) >= min(left + wide, to_left + to_wide):
            start = left + wide * (0.85 if to_left > left else 0.15)
            end = to_left + to_wide * (0.15 if to_left > left else 0.85)
        arrow = FancyArrowPatch(
            (start, bottom - 0.03), (end, to_bottom + to_high + 0.03),
            arrowstyle="-|>", mutation_scale=12, color="#555555", linewidth=1.1,
        )  # fmt: skip
        axes.add_patch(arrow)
        axes.text(
            (start + end) / 2 + 0.08, (bottom + to_bottom + to_high) / 2 - 0.07,
            f"{files} files", fontsize=8, color="#555555",
        )  # fmt: skip
    figure.subplots_adjust(0, 0, 1, 1)
    figure.savefig(target, metadata={"Date": None, "Creator": "docs/figures/house.py"})
    pyplot.close(figure)


def floor_of(room: str) -> int:
    """Number of a room's floor, from the top."""
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
