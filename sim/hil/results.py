"""Results of hardware in the loop: points of a curve as JSON, and their picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtspark.core.files import AnyPath, replacing
from mtspark.sim.hil.loop import HilEpisode, Loop, episode_to_json

FORMAT = "mtspark-hil"
VERSION = 1


@dataclass(frozen=True)
class Point:
    """The games that were played with one setting.

    Attributes:
        place: of the setting on the curve: a latency in milliseconds or a rate; None where
            nothing was varied.
        loop: the setting.
        backend: what stood for the chip.
        episodes: the games.
        interval_95: of the mean return; None for few games.
    """

    place: float | None
    loop: Loop
    backend: str
    episodes: tuple[HilEpisode, ...]
    interval_95: tuple[float, float] | None

    @property
    def mean_return(self) -> float:
        """Mean over the games."""
        return sum(episode.score for episode in self.episodes) / len(self.episodes)

    def share(self, name: str) -> float:
        """Share of all observations that ended so: a count of the tally, by its name."""
        counts = sum(getattr(episode.tally, name) for episode in self.episodes)
        return float(counts) / sum(episode.decisions for episode in self.episodes)

    @property
    def stale_share(self) -> float:
        """Share of emulator frames that began without an answer to the newest observation."""
        stale = sum(episode.stale_frames for episode in self.episodes)
        return stale / sum(episode.frames for episode in self.episodes)


OUTCOMES = ("in_time", "late", "skipped", "missing", "pending")


def setting_to_json(place: float | None, loop: Loop) -> dict[str, Any]:
    """What was asked for at a point, as plain JSON values."""
    return {
        "place": place,
        "clock": "real" if loop.realtime else "simulated",
        "timing": {**asdict(loop.timing), "jitter": loop.timing.jitter.value},
        "faults": {kind.value: rate for kind, rate in loop.faults.rates.items()},
        "fault_seed": loop.faults.seed,
        "away_ms": loop.away_ms,
        "hold": loop.hold.value,
        "pixel_bits": loop.pixel_bits,
        "max_decisions": loop.max_decisions,
        "sticky": loop.sticky,
    }


def point_to_json(point: Point) -> dict[str, Any]:
    """A point as plain JSON values."""
    return {
        **setting_to_json(point.place, point.loop),
        "backend": point.backend,
        "mean_return": point.mean_return,
        "interval_95": None if point.interval_95 is None else list(point.interval_95),
        "distinct_episodes": len({episode.trajectory for episode in point.episodes}),
        "shares": {name: point.share(name) for name in OUTCOMES},
        "stale_frames_share": point.stale_share,
        "episodes": [episode_to_json(episode) for episode in point.episodes],
    }


EQUAL_BACKENDS = ("engine", "reference", "reference with faults", "lava", "lava-stock")
"""Equal to the bit, so that they play the same games."""


def stored_points(path: Path, network_hash: str, task: str, seeds: range) -> list[dict[str, Any]]:
    """Points of an earlier run of the same network and games that a new one need not play.

    Only what repeats exactly: simulated time, modelled latency, a simulated chip that was
    started for it. Empty where the file is missing or something else.
    """
    try:
        found = json.loads(path.read_text())
        same = (
            found["format"] == FORMAT
            and found["version"] == VERSION
            and found["network_sha256"] == network_hash
            and found["task"] == task
            and found.get("connected") is None
        )
        return [
            point
            for point in found["points"]
            if same
            and point["clock"] == "simulated"
            and not point["timing"]["measured"]
            and point["backend"] in EQUAL_BACKENDS
            and [episode["seed"] for episode in point["episodes"]] == list(seeds)
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def save_curve(points: Sequence[dict[str, Any]], varied: str, title: str, path: AnyPath) -> None:
    """Draw score and fate of the observations against what was varied.

    Args:
        points: as of :func:`point_to_json`.
        varied: "latency", or the kind of fault.
        title: of the picture.
        path: of the PNG.

    Raises:
        BadFileError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    rate = varied != "latency"
    # Rates span decades and start at 0: equal steps, each with its number.
    places = list(range(len(points))) if rate else [float(point["place"] or 0) for point in points]
    for place, point in zip(places, points, strict=True):
        scores = [episode["return"] for episode in point["episodes"]]
        upper.plot([place] * len(scores), scores, "o", color="tab:blue", alpha=0.35, ms=5)
    upper.plot(places, [point["mean_return"] for point in points], "-o", color="tab:blue", ms=3)
    if all(point["interval_95"] for point in points):
        low, high = zip(*(point["interval_95"] for point in points), strict=True)
        upper.fill_between(places, low, high, color="tab:blue", alpha=0.15, lw=0)
    upper.set_ylabel("return of a game")
    upper.set_title(title, fontsize=10)
    upper.grid(alpha=0.3)
    bottom = [0.0] * len(points)
    colours = ("tab:green", "tab:orange", "tab:gray", "tab:red")
    for name, colour in zip(OUTCOMES, colours, strict=False):
        shares = [point["shares"][name] for point in points]
        tops = [a + b for a, b in zip(bottom, shares, strict=True)]
        lower.fill_between(places, bottom, tops, color=colour, alpha=0.7, lw=0)
        lower.plot([], [], color=colour, lw=6, label=name.replace("_", " "))
        bottom = tops
    lower.set_ylim(0, 1)
    lower.set_ylabel("observations")
    lower.legend(ncols=4, fontsize=8, loc="lower center")
    if rate:
        lower.set_xticks(places, [f"{point['place']:g}" for point in points])
        lower.set_xlabel(f"rate of {varied}")
    else:
        lower.set_xlabel("latency of the chip [ms]")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
