"""Results of hardware in the loop: settings, the points of a curve, and its picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field

from mtspark.core.files import (
    AnyPath,
    Entry,
    Flag,
    Number,
    Text,
    VersionOne,
    stored_result,
    write_bytes,
)
from mtspark.sim.hil.faults import FaultKind
from mtspark.sim.hil.loop import HilEpisode, Loop
from mtspark.sim.play import success_rate

FORMAT = "mtspark-hil"
VERSION = 1

REFRESH = "refresh_every"
"""Of a point whose host sent whole frames so often; absent where only where it had to."""
SAMPLING = "sampling"
"""Of a point whose actions were drawn: seed and temperature."""
DIFFERING = "differing_share"
"""Of a point whose answers were compared with a chip that was shown whole frames."""
OUTCOMES = ("in_time", "late", "skipped", "missing", "pending")
EQUAL_BACKENDS = ("engine", "reference", "reference with faults", "lava", "lava-stock")
"""Equal to the bit, so that they play the same games."""


@dataclass(frozen=True)
class Setting:
    """How the games of one point are played.

    Attributes:
        place: on the curve: a latency in milliseconds or a rate; None where nothing is varied.
        loop: everything else.
    """

    place: float | None
    loop: Loop

    def to_json(self) -> dict[str, Any]:
        """Return the setting as plain JSON values."""
        loop = self.loop
        return {
            "place": self.place,
            "clock": "real" if loop.realtime else "simulated",
            "timing": loop.timing.to_json(),
            "faults": {kind.value: rate for kind, rate in loop.faults.rates.items()},
            "fault_seed": loop.faults.seed,
            "away_ms": loop.away_ms,
            "hold": loop.hold.value,
            "pixel_bits": loop.pixel_bits,
            "max_decisions": loop.max_decisions,
            "sticky": loop.sticky,
            **({} if loop.refresh_every is None else {REFRESH: loop.refresh_every}),
            **({} if loop.sampling is None else {SAMPLING: asdict(loop.sampling)}),
        }


@dataclass(frozen=True)
class Point:
    """The games that were played with one setting.

    Attributes:
        setting: how they were played.
        backend: what stood for the chip.
        episodes: the games.
        interval_95: of the mean return; None for few games.
        losses: how often the chip went away without an order; such games do not repeat exactly.
    """

    setting: Setting
    backend: str
    episodes: tuple[HilEpisode, ...]
    interval_95: tuple[float, float] | None
    losses: int = 0

    @property
    def mean_return(self) -> float:
        """Mean over the games."""
        return sum(episode.score for episode in self.episodes) / len(self.episodes)

    def share(self, name: str) -> float:
        """Return the share of all observations in a count of the tally, by its name."""
        counts = sum(getattr(episode.tally, name) for episode in self.episodes)
        return float(counts) / sum(episode.decisions for episode in self.episodes)

    @property
    def stale_share(self) -> float:
        """Share of emulator frames that began without an answer to the newest observation."""
        stale = sum(episode.stale_frames for episode in self.episodes)
        return stale / sum(episode.frames for episode in self.episodes)

    @property
    def differing_share(self) -> float | None:
        """Share of answers with another action than a chip's that was shown whole frames."""
        tallies = [episode.tally for episode in self.episodes]
        if any(tally.differing is None for tally in tallies):
            return None
        answered = sum(tally.in_time + tally.late for tally in tallies)
        return sum(tally.differing or 0 for tally in tallies) / answered if answered else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the point as plain JSON values."""
        differing, solved = self.differing_share, success_rate(self.episodes)
        return {
            **self.setting.to_json(),
            "backend": self.backend,
            "mean_return": self.mean_return,
            **({} if solved is None else {"success_rate": solved}),
            "interval_95": None if self.interval_95 is None else list(self.interval_95),
            "distinct_episodes": len({episode.trajectory for episode in self.episodes}),
            "shares": {name: self.share(name) for name in OUTCOMES},
            "stale_frames_share": self.stale_share,
            **({} if differing is None else {DIFFERING: differing}),
            "episodes": [episode.to_json() for episode in self.episodes],
        }


@dataclass(frozen=True)
class StoredPoint:
    """A point of an earlier run, as its file has it.

    Attributes:
        content: JSON values, as of :meth:`Point.to_json`.
    """

    content: dict[str, Any]

    def has_setting(self, setting: Setting) -> bool:
        """Whether its games were played with this setting."""
        wanted, there = setting.to_json(), self.content
        compared = FaultKind.LOST_CHANGES in setting.loop.faults.rates
        return (
            wanted.items() <= there.items()
            and all((name in wanted) == (name in there) for name in (REFRESH, SAMPLING))
            and compared == (DIFFERING in there)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the point as plain JSON values."""
        return self.content


class _Mean(Entry):
    mean: Number


class _Game(Entry):
    seed: int
    score: Number = Field(alias="return")
    response_ms: _Mean | None


class _Timing(Entry):
    measured: Flag


class _Shares(Entry):
    in_time: Number
    late: Number
    skipped: Number
    missing: Number
    pending: Number


class _PointEntry(Entry):
    place: Number | None
    clock: Text
    timing: _Timing
    backend: Text
    mean_return: Number
    success_rate: Number | None = None
    interval_95: tuple[Number, Number] | None = Field(strict=False)
    shares: _Shares
    stale_frames_share: Number
    differing_share: Number = 0.0
    episodes: list[_Game] = Field(min_length=1)


class _HilFile(Entry):
    format: Literal["mtspark-hil"]
    version: VersionOne
    network_sha256: Text
    task: Text
    connected: Text | None = None
    points: list[_PointEntry]


def stored_points(
    path: AnyPath | None, network_hash: str, task: str, seeds: range
) -> list[StoredPoint]:
    """Return the points of an earlier run of the same network and games.

    Only what repeats exactly: simulated time, modelled latency, a simulated chip that was
    started for it. Empty where the file is missing or something else.
    """
    content = stored_result(path, _HilFile)
    if content is None or content.get("connected") is not None:
        return []
    if (content["network_sha256"], content["task"]) != (network_hash, task):
        return []
    return [
        StoredPoint(point)
        for point in content["points"]
        if point["clock"] == "simulated"
        and not point["timing"]["measured"]
        and point["backend"] in EQUAL_BACKENDS
        and [episode["seed"] for episode in point["episodes"]] == list(seeds)
    ]


def save_curve(points: Sequence[dict[str, Any]], varied: str, title: str, path: AnyPath) -> None:
    """Draw score and fate of the observations against what was varied.

    Args:
        points: as of :meth:`Point.to_json`.
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
    curves: dict[int | None, list[dict[str, Any]]] = {}
    for point in points:
        curves.setdefault(point.get(REFRESH), []).append(point)
    for number, (refresh, curve) in enumerate(curves.items()):
        colour = f"C{number}"
        # Rates span decades and start at 0: equal steps, one for every rate.
        places = [at if rate else float(one["place"] or 0) for at, one in enumerate(curve)]
        for place, point in zip(places, curve, strict=True):
            scores = [episode["return"] for episode in point["episodes"]]
            upper.plot([place] * len(scores), scores, "o", color=colour, alpha=0.35, ms=5)
        means = [point["mean_return"] for point in curve]
        name = "never" if refresh is None else f"every {refresh}"
        upper.plot(places, means, "-o", color=colour, ms=3, label=name)
        if all(point["interval_95"] for point in curve):
            low, high = zip(*(point["interval_95"] for point in curve), strict=True)
            upper.fill_between(places, low, high, color=colour, alpha=0.15, lw=0)
        if DIFFERING in curve[0]:
            shares = [point[DIFFERING] for point in curve]
            lower.plot(places, shares, "-o", color=colour, ms=3)
    upper.set_ylabel("return of a game")
    upper.set_title(title, fontsize=10, parse_math=False)
    upper.grid(alpha=0.3)
    if len(curves) > 1:
        upper.legend(title="whole frame", fontsize=8)
    if DIFFERING in points[0]:
        lower.set_ylabel("decisions that differ")
        lower.grid(alpha=0.3)
    else:
        _draw_outcomes(lower, places, points)
    if rate:
        first = next(iter(curves.values()))
        lower.set_xticks(range(len(first)), [f"{point['place']:g}" for point in first])
        lower.set_xlabel(f"rate of {varied}")
    else:
        lower.set_xlabel("latency of the chip [ms]")
    # In memory: of a full disk Pillow says no more than that it failed.
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_bytes(path, buffer.getvalue())


def _draw_outcomes(axes: Any, places: Sequence[float], points: Sequence[dict[str, Any]]) -> None:
    """Stack what became of the observations; with several curves, of the last one."""
    points = points[-len(places) :]
    bottom = [0.0] * len(points)
    colours = ("tab:green", "tab:orange", "tab:gray", "tab:red")
    for name, colour in zip(OUTCOMES, colours, strict=False):
        shares = [point["shares"][name] for point in points]
        tops = [a + b for a, b in zip(bottom, shares, strict=True)]
        axes.fill_between(places, bottom, tops, color=colour, alpha=0.7, lw=0)
        axes.plot([], [], color=colour, lw=6, label=name.replace("_", " "))
        bottom = tops
    axes.set_ylim(0, 1)
    axes.set_ylabel("observations")
    axes.legend(ncols=4, fontsize=8, loc="lower center")
