"""The result of games with the chip in the loop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mtspark.core.files import AnyPath
from mtspark.core.version import __version__
from mtspark.deploy.bundle import Bundle
from mtspark.sim.hil import (
    FORMAT,
    FRAME_RATE_HZ,
    VERSION,
    Point,
    StoredPoint,
    pace_of,
    save_curve,
)
from mtspark.sim.verdict import Cost
from mtspark.workflows.hil.modelled import ModelledTimes
from mtspark.workflows.hil.request import HilRequest
from mtspark.workflows.hil.verdict import verdict


@dataclass(frozen=True)
class HilResult:
    """A curve, or the one point where nothing was varied.

    Attributes:
        agent: name of the network.
        network_sha256: names its weights.
        request: what was asked for.
        deadline_ms: a decision of the game.
        modelled: where the chip's times come from; None where the request gives them.
        points: in the order of the sweep, those of an earlier run included.
        complete: whether these are all points of the request.
        date: when it was written, in UTC.
        decision_delay: with which the agent learned; None: none, in an environment.
        in_environment: of gymnasium, not in a game of ALE.
        frame_rate_hz: emulator frames, or steps of an environment, in a second.
        cost: of a mean decision of the first game; None where nothing was counted or priced.
        waiting_return: score of the first game, where it waited for its decisions; None where it
            was not played so.
    """

    agent: str
    network_sha256: str
    request: HilRequest
    deadline_ms: float
    modelled: ModelledTimes | None
    points: tuple[Point | StoredPoint, ...]
    complete: bool
    date: str
    decision_delay: int | None = 0
    in_environment: bool = False
    frame_rate_hz: float = FRAME_RATE_HZ
    cost: Cost | None = None
    waiting_return: float | None = None

    @property
    def verdict(self) -> str:
        """Why the agent keeps or loses its score in real time, in one sentence."""
        return self._verdict(None if self.modelled is None else self.modelled.waiting_return)

    def _verdict(self, waiting: float | None) -> str:
        return verdict(
            [point.to_json() for point in self.points],
            decision_delay=self.decision_delay,
            deadline_ms=self.deadline_ms,
            varied=self.request.varied,
            waiting_return=waiting,
        )

    @property
    def sentences(self) -> tuple[str, str]:
        """Say how well it plays in real time and why, and what a decision costs."""
        points = [point.to_json() for point in self.points]
        games = sum(len(point["episodes"]) for point in points)
        # Messages were counted, and priced, in the first game; `eval` prices all of them.
        what = "decision" if games == 1 else "decision of the first game"
        cost = "What a decision costs was not counted."
        if self.cost is not None:
            cost = self.cost.sentence(what)
        if not points:
            return f"{self.request.task}: no game was played.", cost
        scores = [point["mean_return"] for point in points]
        text = f"{scores[0]:,.4g}"
        if len(points) > 1:
            text = f"{min(scores):,.4g} to {max(scores):,.4g} at {len(points)} points"
        over = f"{games:,} game" + "s" * (games != 1)
        score = f"{self.request.task} in real time, the chip in the loop: scores {text} over {over}"
        cut = sum(not one["finished"] for point in points for one in point["episodes"])
        if cut:
            which = "it was" if games == 1 else f"{cut:,} of them were"
            score += f" ({which} cut off)"
        why = self._verdict(self.waiting_return)
        return f"{score}; {why[0].lower()}{why[1:]}", cost

    @property
    def resumed(self) -> int:
        """How many points an earlier run had played."""
        return sum(isinstance(point, StoredPoint) for point in self.points)

    @property
    def losses(self) -> tuple[int, ...]:
        """How often the chip went away without an order, for each point where it did."""
        played = (point for point in self.points if isinstance(point, Point))
        return tuple(point.losses for point in played if point.losses)

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``mtspark hil --json``."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "note": "ESTIMATE: no neuromorphic hardware was measured",
            "mtspark": __version__,
            "date": self.date,
            "agent": self.agent,
            "network_sha256": self.network_sha256,
            "task": self.request.task,
            "seed": self.request.seed,
            "frame_rate_hz": self.frame_rate_hz,
            "deadline_ms": self.deadline_ms,
            "varied": self.request.varied,
            "modelled": None if self.modelled is None else self.modelled.to_json(),
            "connected": self.request.connect,
            "complete": self.complete,
            "decision_delay": self.decision_delay,
            **({"in_environment": True} if self.in_environment and self.decision_delay else {}),
            "verdict": self.verdict,
            "points": [point.to_json() for point in self.points],
        }

    def save_curve(self, path: AnyPath) -> None:
        """Draw score and fate of the observations against what was varied, as a PNG.

        Raises:
            BadFileError: the file cannot be written.
        """
        request = self.request
        games = f"{request.episodes} game{'s' * (request.episodes > 1)} a point"
        title = f"{self.agent}: {request.task}, {games}"
        points = [point.to_json() for point in self.points]
        save_curve(points, str(request.varied), title, path)


def result_so_far(
    bundle: Bundle,
    request: HilRequest,
    modelled: ModelledTimes | None,
    points: list[Point | StoredPoint | None],
    waiting: tuple[float, Cost] | None = None,
) -> HilResult:
    """Return the result of the points that there are; None stands for one still to play.

    Args:
        bundle, request, modelled, points: as of :class:`HilResult`.
        waiting: score and cost of the first game that waited, where no chip is modelled.
    """
    score, cost = waiting or (None, None)
    if modelled is not None:
        score, cost = modelled.waiting_return, modelled.cost
    network = bundle.network
    task = network.tasks[network.task_index(request.task)]
    pace = pace_of(task, network.protocol)
    done = tuple(point for point in points if point is not None)
    return HilResult(
        agent=bundle.network.name,
        network_sha256=bundle.network_hash,
        request=request,
        deadline_ms=1000 * pace.decision_s,
        frame_rate_hz=pace.rate_hz,
        modelled=modelled,
        points=done,
        complete=len(done) == len(points),
        decision_delay=pace.delay if task.environment is None else pace.delay or None,
        in_environment=task.environment is not None,
        cost=cost,
        waiting_return=score,
        date=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    )
