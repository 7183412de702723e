"""Times of host and chip, taken from a chip's description."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mtspark.core.backend import Moment
from mtspark.core.chip_network import Encoder
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath
from mtspark.core.progress import ProgressCallback, begin, no_progress
from mtspark.deploy.bundle import Bundle
from mtspark.deploy.chips import load_chip
from mtspark.sim.counts import ShareCounter
from mtspark.sim.device import map_for, on_chip
from mtspark.sim.energy import load_card
from mtspark.sim.hil import Timing
from mtspark.sim.play import Run, play
from mtspark.sim.verdict import Cost, card_for, cost_on, mean_cost
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.hil.request import HilRequest
from mtspark.workflows.run import episode_reports


@dataclass(frozen=True)
class ModelledTimes:
    """How long a decision takes on a chip, estimated.

    Attributes:
        chip: its name.
        times: name of its set of times.
        decisions: of the game whose messages were counted.
        terms_us: parts of a decision in microseconds, by name; None where the description has no
            time for a part, which adds nothing then.
        not_modelled: parts without a time, those within the chip's steps included.
        steps_lack: of these, the parts within the chip's steps.
        broken_limits: limits of the chip that the network breaks; with any the times are of a
            chip that could not run it.
        message_us: how long the host writes one message, where each decision has as many as its
            frame needs; None where the host writes the same number in every decision.
        waiting_return: score of that game, which waited for its decisions.
        cost: of a mean decision of that game; None where no card is of the chip.
    """

    chip: str
    times: str
    decisions: int
    terms_us: dict[str, float | None]
    not_modelled: tuple[str, ...]
    steps_lack: tuple[str, ...]
    broken_limits: int
    message_us: float | None = None
    waiting_return: float | None = None
    cost: Cost | None = None

    @property
    def total_us(self) -> float:
        """Time of a mean decision with the host's parts; of what has a time."""
        return sum(us for us in self.terms_us.values() if us is not None)

    def added_to(self, timing: Timing) -> Timing:
        """Return the timing with the chip's time, and the host's parts on top of its own.

        Where messages differ from decision to decision, each decision takes the time of its own.
        """
        ms = {name: (time_us or 0.0) / 1000 for name, time_us in self.terms_us.items()}
        written_ms = ms["host input values"] if self.message_us is None else 0.0
        return replace(
            timing,
            message_us=timing.message_us + (self.message_us or 0.0),
            input_ms=timing.input_ms + written_ms + ms["host call"],
            chip_ms=ms["chip steps"],
            output_ms=timing.output_ms + ms["host output values"],
        )

    def to_json(self) -> dict[str, Any]:
        """Return where the times come from, as plain JSON values."""
        return {
            "chip": self.chip,
            "times": self.times,
            "decisions": self.decisions,
            "decision_time_us": self.total_us,
            "terms_ms": {
                name: us if us is None else us / 1000 for name, us in self.terms_us.items()
            },
            "not_modelled": list(self.not_modelled),
            "broken_limits": self.broken_limits,
            "waiting_return": self.waiting_return,
            **({} if self.message_us is None else {"message_us": self.message_us}),
        }


def check_prices(request: HilRequest) -> None:
    """Read the chip, its times and the card that a request names, before anything is waited for.

    Raises:
        BadFileError: no such chip, card, or set of times.
        BadRequestError: the card is of another chip.
    """
    if request.chip is not None:
        model = load_chip(request.chip)
        model.time_set(request.times)
        card_for(model, request.card)
    elif request.card is not None:
        load_card(request.card)


def modelled_times(
    bundle: Bundle,
    request: HilRequest,
    *,
    progress: ProgressCallback = no_progress,
) -> ModelledTimes:
    """Estimate how long a decision takes on a chip, from the messages of the request's first game.

    That game waits for its decisions, so the estimate is the one that ``mtspark map --task`` and
    ``mtspark report`` give for it.

    Args:
        bundle: of the agent.
        request: which game, how long, and on which chip by which set of times.
        progress: receives the decisions played so far.

    Raises:
        BadFileError: no such chip, card, or set of times.
        BadRequestError: no chip is named, its description has no times, or the card is of another.
    """
    if request.chip is None:
        raise BadRequestError("no chip to model; name one")
    model = load_chip(request.chip)
    model.time_set(request.times)
    card = card_for(model, request.card)
    run, shares = _play(bundle, request, progress)
    decisions = run.counts.decisions
    mapping = map_for(bundle.network, model, bundle.network.input.encoder, run.sent)
    on = on_chip(
        bundle.network,
        model,
        mapping,
        run.sent,
        decisions,
        task=request.task,
        times=request.times,
    )
    if on.time.chip_us is None:
        raise BadRequestError(f"{request.chip}: its description has no times; give --latency-ms")
    message_us = None
    if bundle.network.input.encoder is not Encoder.EVERY_STEP:
        time_set = model.time_set(request.times)
        figure = None if time_set is None else time_set.figures.get("host_input_value_ns")
        message_us = None if figure is None else float(figure.value) / 1000
    return ModelledTimes(
        chip=model.name,
        times=on.time.step.times,
        decisions=decisions,
        terms_us={term.name: term.time_us for term in on.time.terms},
        not_modelled=on.time.missing,
        steps_lack=on.time.step.missing,
        broken_limits=len(mapping.violations),
        message_us=message_us,
        waiting_return=run.episodes[0].score,
        cost=cost_on(on, run.counts, bundle.network, shares, card),
    )


def waiting_game(
    bundle: Bundle,
    request: HilRequest,
    card: AnyPath,
    *,
    progress: ProgressCallback = no_progress,
) -> tuple[float, Cost]:
    """Play the request's first game, waiting for every decision.

    Args:
        bundle: of the agent.
        request: which game, and how long.
        card: prices of its mean decision, a name or a file.
        progress: receives the decisions played so far.

    Returns:
        Its score, and what a decision costs.

    Raises:
        BadFileError: no such card.
    """
    prices = load_card(card)
    run, shares = _play(bundle, request, progress)
    _, cost = mean_cost(run.counts, bundle.network, prices, run.sent, shares, request.task)
    return run.episodes[0].score, cost


def _play(
    bundle: Bundle, request: HilRequest, progress: ProgressCallback
) -> tuple[Run, ShareCounter]:
    """Play the request's first game, waiting for every decision."""
    stage = f"{request.task}, counting messages"
    begin(progress, stage, "numba")
    shares, report = ShareCounter(bundle.network), episode_reports(progress, stage, 1)

    def observe(moment: Moment) -> None:
        report(moment)
        shares.add(moment.decision.activity.window, moment.frames, moment.episodes)

    with open_backend(BackendName.ENGINE, bundle, request.task) as player:
        run = play(
            player,
            bundle.network,
            request.task,
            episodes=1,
            seed=request.seed,
            max_decisions=request.loop.max_decisions,
            sticky=request.loop.sticky,
            observe=observe,
            sampling=request.loop.sampling,
        )
    return run, shares
