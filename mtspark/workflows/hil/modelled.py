"""Times of host and chip, taken from a chip's description."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mtspark.core.backend import Moment
from mtspark.core.errors import BadRequestError
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.deploy.bundle import Bundle
from mtspark.deploy.chips import load_chip
from mtspark.deploy.mapping import map_network
from mtspark.sim.hil import Timing
from mtspark.sim.latency import decision_time
from mtspark.sim.play import play
from mtspark.workflows.backends import BackendName, open_backend

MODELLED_DECISIONS = 60
"""Played to count messages, from which the chip's time is modelled."""


@dataclass(frozen=True)
class ModelledTimes:
    """How long a decision takes on a chip, estimated.

    Attributes:
        chip: its name.
        times: name of its set of times.
        terms_us: parts of a decision in microseconds, by name; None where the description has no
            time for a part, which adds nothing then.
        not_modelled: parts without a time, those within the chip's steps included.
        steps_lack: of these, the parts within the chip's steps.
        broken_limits: limits of the chip that the network breaks; with any the times are of a
            chip that could not run it.
    """

    chip: str
    times: str
    terms_us: dict[str, float | None]
    not_modelled: tuple[str, ...]
    steps_lack: tuple[str, ...]
    broken_limits: int

    def added_to(self, timing: Timing) -> Timing:
        """Return the timing with the chip's time, and the host's parts on top of its own."""
        ms = {name: (time_us or 0.0) / 1000 for name, time_us in self.terms_us.items()}
        return replace(
            timing,
            input_ms=timing.input_ms + ms["host input values"] + ms["host call"],
            chip_ms=ms["chip steps"],
            output_ms=timing.output_ms + ms["host output values"],
        )

    def to_json(self) -> dict[str, Any]:
        """Return where the times come from, as plain JSON values."""
        return {
            "chip": self.chip,
            "times": self.times,
            "terms_ms": {
                name: us if us is None else us / 1000 for name, us in self.terms_us.items()
            },
            "not_modelled": list(self.not_modelled),
            "broken_limits": self.broken_limits,
        }


def modelled_times(
    bundle: Bundle,
    task: str,
    chip: str,
    times: str | None = None,
    *,
    progress: ProgressCallback = no_progress,
) -> ModelledTimes:
    """Estimate how long a decision takes on a chip, from the messages of a short game.

    Args:
        bundle: of the agent.
        task: name of the game.
        chip: name or file of a description.
        times: which of its sets of times; None for the first.
        progress: receives the decisions played so far.

    Raises:
        BadFileError: no such chip or set of times.
        BadRequestError: the chip's description has no times.
    """
    model = load_chip(chip)
    model.time_set(times)
    sent, decisions = _messages(bundle, task, progress)
    mapping = map_network(bundle.network, model)
    time = decision_time(bundle.network, mapping, model, sent, decisions, times=times)
    if time.chip_us is None:
        raise BadRequestError(f"{chip}: its description has no times; give --latency-ms")
    return ModelledTimes(
        chip=model.name,
        times=time.step.times,
        terms_us={term.name: term.time_us for term in time.terms},
        not_modelled=time.missing,
        steps_lack=time.step.missing,
        broken_limits=len(mapping.violations),
    )


def _messages(bundle: Bundle, task: str, progress: ProgressCallback) -> tuple[dict[str, Any], int]:
    """Return the messages that every population sends in a short game, and its decisions."""
    sent: dict[str, Any] = {}
    played = 0

    def report() -> None:
        progress(Progress("counting messages", played, MODELLED_DECISIONS, "decisions"))

    def count(moment: Moment) -> None:
        nonlocal played
        activity = moment.decision.activity
        for name, window in activity.window.items():
            sent[name] = sent.get(name, 0) + window[0] + activity.drain[name][0]
        played += 1
        report()

    report()
    with open_backend(BackendName.ENGINE, bundle, task) as player:
        run = play(
            player,
            bundle.network,
            task,
            episodes=1,
            seed=0,
            max_decisions=MODELLED_DECISIONS,
            observe=count,
        )
    return sent, run.counts.decisions
