"""The style that all figures of the report share, and their way into the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

INK, MUTED, RULE, PAPER = "#1d1f24", "#6d7078", "#ddd6c8", "#fbf9f4"
PALETTE = ("#f4b942", "#f08a4b", "#e0567a", "#9b6bd6", "#4fa3d9", "#58b89c", "#c9c265")
"""Of the populations, input side first; bright on dark, strong on paper."""


def colours(names: Sequence[str]) -> dict[str, str]:
    """Choose a colour for each population."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def new_figure(width: float, height: float) -> Any:
    """Return a figure of so many inches, without a background."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "font.size": 9.5,
            # Names of layers may have dollars in them.
            "text.parse_math": False,
            "text.color": INK,
            "axes.labelcolor": MUTED,
            "axes.edgecolor": RULE,
            "xtick.color": MUTED,
            "ytick.color": INK,
            "hatch.linewidth": 0.7,
        }
    )
    return Figure(figsize=(width, height), facecolor="none")


def plain(axis: Any, *, keep_left: bool = False) -> None:
    """Take away what an axis does not need."""
    axis.set_facecolor("none")
    for side in ("top", "right") if keep_left else ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(length=0)


def svg(figure: Any, name: str) -> str:
    """Write a figure as an SVG element, with ids that cannot meet those of another figure."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = with_ids(text, f"{name}-")
    # The page's own fonts; DejaVu is what matplotlib measured with, and wider.
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", text)
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)


def with_ids(text: str, prefix: str) -> str:
    """Put a prefix before the ids of an SVG, and before what refers to them."""
    return re.sub(r'(?<=\bid=")|(?<=xlink:href="#)|(?<=url\(#)', prefix, text)
