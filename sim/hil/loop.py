"""Hardware in the loop: a game in its own time, and a chip whose answers come when they come.

The border of a decision is the moment at which a frame skip ends and the next begins. With a
decision delay of 0 the host observes there, sends, and presses an answer at the next emulator
frame after it came. With a delay of 1 it does at each border, in this order: collect the answers,
latch the newest, begin to press it, observe, send the observation with the action that it now
presses. So every latency up to a whole decision gives the same game. An answer that comes later is
latched at the border after it came; until then the pressed action stays, and it is what the
network sees.

Where actions are drawn, each observation has a draw of its own, the one that the agent loop makes
in its decision of that number. An answer gets the draw of its observation whenever it comes, so
one that is late, or that never comes, changes no other. An action that is no longer allowed is
replaced by the next best of the same draw.

A chip that remembers goes on from the observations that it has decided on. One that was skipped,
or lost on the way, has left nothing in its state; one whose answer was late or lost has. What a
chip remembered is gone when it dies: it begins again at rest, and that is counted.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Pixels
from mtspark.core.backend import AgentBackend
from mtspark.core.chip_network import ChipNetwork, Encoder
from mtspark.core.environments import (
    NOOP,
    GameProtocol,
    Sampling,
    Task,
    action_bytes,
    check_sampling,
    chosen_actions,
    noise_of_decision,
    noisy_values,
    protocol_with_sticky,
)
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.sim.hil.chip import check_state
from mtspark.sim.hil.faults import Faults
from mtspark.sim.hil.game import FrameGame, Pace, WorldGame, allowed_in, open_game, pace_of
from mtspark.sim.hil.host import HostedChip
from mtspark.sim.hil.options import Hold
from mtspark.sim.hil.realtime import RealTransport
from mtspark.sim.hil.sender import Sender, check_sender
from mtspark.sim.hil.timing import (
    Answer,
    FaultSchedule,
    Question,
    Reply,
    Sent,
    SimulatedTransport,
    Tally,
    Timing,
)

STATES_LOST = "states_lost"
"""Of an episode of a network that keeps state: how often the chip began again at rest."""
MOST_BETWEEN = 10**7
"""Decisions from one whole frame to the next; no game is longer."""


@dataclass(frozen=True)
class Loop:
    """How a game is played with a chip in the loop.

    Attributes:
        timing: how long things take.
        faults: what breaks.
        away_ms: how long a chip that died is gone.
        hold: what the game gets while no new action has come.
        pixel_bits: upper bits of a pixel that are sent; the others are 0.
        realtime: the wall clock passes instead of the simulated one.
        max_decisions: cut every episode off after this many observations.
        sticky: another probability of sticky actions than the protocol's.
        refresh_every: of an encoder that sends changes: a whole frame at least every so many
            decisions; None sends one only where it must.
        sampling: draw actions; None takes the best.
    """

    timing: Timing = field(default_factory=Timing)
    faults: Faults = field(default_factory=Faults)
    away_ms: float = 1000.0
    hold: Hold = Hold.LAST
    pixel_bits: int = 8
    realtime: bool = False
    max_decisions: int | None = None
    sticky: float | None = None
    refresh_every: int | None = None
    sampling: Sampling | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.pixel_bits <= 8:
            raise BadRequestError(f"{self.pixel_bits} bits a pixel: 1 to 8 can be sent")
        if not 0 <= self.away_ms <= 3_600_000:
            raise BadRequestError(f"a chip away for {self.away_ms:g} ms: 0 to 3,600,000 is allowed")
        if self.max_decisions is not None and self.max_decisions < 1:
            raise BadRequestError("max-decisions must be at least 1")
        if self.refresh_every is not None and not 1 <= self.refresh_every <= MOST_BETWEEN:
            raise BadRequestError(
                f"refresh-every {self.refresh_every}: 1 to {MOST_BETWEEN:,} decisions"
            )
        if self.sticky is not None and not 0 <= self.sticky < 1:
            raise BadRequestError(f"sticky action probability {self.sticky}: 0 up to below 1")
        if self.realtime and self.timing.measured:
            raise BadRequestError(
                "real time feels what the chip's simulation takes already; leave measured out"
            )


@dataclass(frozen=True)
class HilEpisode:
    """One game with a chip in the loop.

    Attributes:
        seed: of its game.
        score: its unclipped return.
        decisions: observations that were taken.
        frames: emulator frames, or steps of an environment, that passed.
        stale_frames: of these, frames that began without an answer to the newest observation
            whose answer may act by then.
        finished: False where it was cut off by the decision limit of whoever asked for it.
        trajectory: hash of the action and the reward of every frame.
        tally: what became of the observations.
        overrun_ms: in real time: how late a frame began, at worst.
        truncated: a finished one did not end by the game's rules but by the protocol's limit of
            emulator frames.
        success: whether an environment said that its task is solved; None where it does not say.
    """

    seed: int
    score: float
    decisions: int
    frames: int
    stale_frames: int
    finished: bool
    trajectory: str
    tally: Tally
    overrun_ms: float | None
    truncated: bool = False
    success: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the episode as plain JSON values."""
        tally = self.tally
        return {
            "seed": self.seed,
            "return": self.score,
            "decisions": self.decisions,
            "frames": self.frames,
            "stale_frames": self.stale_frames,
            "finished": self.finished,
            **({"truncated": True} if self.truncated else {}),
            **({} if self.success is None else {"success": self.success}),
            "trajectory": self.trajectory,
            "in_time": tally.in_time,
            "late": tally.late,
            "skipped": tally.skipped,
            "missing": tally.missing,
            "pending": tally.pending,
            "overtaken": tally.overtaken,
            "chip_deaths": tally.deaths,
            "response_ms": _spread(tally.response_ms),
            "chip_host_ms": _spread(tally.chip_host_ms),
            "worst_overrun_ms": self.overrun_ms,
            **({} if tally.sent is None else {"input": _sent_json(tally.sent)}),
            **({} if tally.differing is None else {"differing": tally.differing}),
            **({} if tally.forgotten is None else {STATES_LOST: tally.forgotten}),
        }


class Transport(Protocol):
    """What carries observations to a chip and answers back."""

    def wait(self, until_s: float) -> None:
        """Let time pass."""

    def send(self, decision: int, now_s: float, frame: Pixels) -> None:
        """An observation sets out."""

    def collect(self, now_s: float) -> list[Answer]:
        """Answers that have arrived."""

    def unfinished(self) -> int:
        """How many are still on the way."""


@dataclass(frozen=True)
class FrameMoment:
    """What an observer of the loop sees at every observation.

    Attributes:
        decision: its number.
        frame: uint8 or int8 (stack, height, width), before pixels are cut to fewer bits.
        action: what is held when the frames after it begin: its number, or float32 numbers.
    """

    decision: int
    frame: NDArray[np.uint8]
    action: Any


def game_protocol(network: ChipNetwork, task: str, sticky: float | None) -> GameProtocol | None:
    """How the game of a task is played; None for an environment.

    Raises:
        BadRequestError: unknown task, or sticky actions in an environment.
        BadNetworkError: the network plays no game, or takes something else than one frame.
    """
    known = network.tasks[network.task_index(task)]
    if not known.game or not known.legal_actions:
        games = [one.name for one in network.tasks if one.game and one.legal_actions]
        remedy = f"name one that is: {', '.join(games)}" if games else "none of its tasks is"
        raise BadNetworkError(f"{network.name}: task {task!r} is no game; {remedy}")
    protocol = protocol_with_sticky(network.protocol, sticky)
    if known.environment is not None or protocol is None:
        return None
    protocol = replace(protocol, life_loss_ends_episode=False)
    if network.input.shape != protocol.observation_shape or not network.input.held:
        raise BadNetworkError(
            f"{network.name}: takes {network.input.shape}, the game shows "
            f"{protocol.observation_shape}; hardware in the loop needs an agent that takes frames"
        )
    return protocol


def _check_environment(task: Task, loop: Loop) -> None:
    """Refuse what an environment does not have.

    Raises:
        BadRequestError: pixels, or an action that does nothing.
    """
    if task.environment is None:
        return
    if loop.pixel_bits < 8:
        raise BadRequestError(
            f"pixel-bits {loop.pixel_bits}: {task.name} shows numbers or spikes, which are sent "
            "whole; leave it out"
        )
    if loop.hold is Hold.NOOP:
        raise BadRequestError(
            f"hold {loop.hold.value}: {task.name} states no action that does nothing; use "
            f"{Hold.LAST.value}"
        )


def play_hil(
    chip: HostedChip,
    network: ChipNetwork,
    task: str,
    loop: Loop,
    *,
    episodes: int,
    seed: int,
    observe: Callable[[FrameMoment], None] | None = None,
    judge: AgentBackend | None = None,
) -> Iterator[HilEpisode]:
    """Play whole episodes, one after another; episode i is the game of `seed` + i.

    With simulated time, no measured latency and no chip that goes away unasked, everything
    that is yielded follows from the arguments.

    Args:
        chip: who decides.
        network: that it runs.
        task: name of the game.
        loop: how it is played.
        episodes: how many games.
        seed: of the first.
        observe: called at every observation.
        judge: a faultless chip of the network; answers whose best action differs from the one that
            it chooses on the same whole frame are counted, also where actions are drawn.

    Raises:
        BadRequestError: unknown task, a seed that is none, what only an encoder that sends
            changes can have, or numbers that cannot be drawn.
        BadNetworkError: the network plays no game.
        BackendFailedError: the chip is gone for good.
    """
    if episodes < 1:
        raise BadRequestError("episodes must be at least 1")
    if not 0 <= seed < 2**30 - episodes:
        raise BadRequestError(f"seed {seed}: 0 to {2**30 - 1 - episodes} can be used")
    protocol = game_protocol(network, task, loop.sticky)
    check_sender(network.input.encoder, loop.refresh_every, loop.faults)
    known = network.tasks[network.task_index(task)]
    _check_environment(known, loop)
    check_state(network, overlap=loop.timing.overlap)
    check_sampling(known, loop.sampling)
    game, pace = open_game(known, protocol), pace_of(known, protocol)
    try:
        for number in range(seed, seed + episodes):
            judging = None if judge is None else _Judge(judge, network.task_index(task), known)
            yield _play(chip, network, game, pace, task, loop, number, observe, judging)
    finally:
        game.close()


def _play(
    chip: HostedChip,
    network: ChipNetwork,
    game: FrameGame | WorldGame,
    pace: Pace,
    task: str,
    loop: Loop,
    seed: int,
    observe: Callable[[FrameMoment], None] | None,
    judge: _Judge | None,
) -> HilEpisode:
    known = network.tasks[network.task_index(task)]
    skip, delay = pace.skip, pace.delay
    kept = np.uint8(256 - 2 ** (8 - loop.pixel_bits))
    game.reset(seed)
    tally = Tally(differing=None if judge is None else 0)
    forgotten_before = chip.forgotten if network.stateful else 0
    transport = _transport(chip, network, task, loop, seed, tally, judge)
    resting = game.resting if isinstance(game, WorldGame) else NOOP
    draws = None if loop.sampling is None else _Draws(known, loop.sampling, seed)
    button = _Button(known, tally, pace.decision_s, resting, judge, draws)
    digest = hashlib.sha256()

    score, frames, stale, decision, ended = 0.0, 0, 0, -1, False
    while not ended:
        now = frames / pace.rate_hz
        transport.wait(now)
        seen, border = None, frames % skip == 0
        if border:
            if decision + 1 == loop.max_decisions:
                break
            decision += 1
            if not delay:
                seen = game.observe()
                button.allow(allowed_in(game))
                transport.send(decision, now, seen & kept.view(seen.dtype))
        if border or not delay:
            button.press(transport.collect(now), frames)
            if loop.hold is Hold.NOOP and frames - button.since >= skip:
                button.action = NOOP
        if border and delay:
            button.allow(allowed_in(game))
            seen = game.observe(button.action)
            transport.send(decision, now, seen & kept.view(seen.dtype))
        if seen is not None and observe is not None:
            observe(FrameMoment(decision, seen, button.action))
        stale += button.newest < decision - delay
        reward, ended = game.act(button.action)
        digest.update(action_bytes(button.action) + struct.pack("<d", reward))
        score += reward
        frames += 1
    tally.pending = transport.unfinished()
    if network.stateful:
        tally.forgotten = chip.forgotten - forgotten_before
    return HilEpisode(
        seed=seed,
        score=score,
        decisions=decision + 1,
        frames=frames,
        stale_frames=stale,
        finished=ended,
        trajectory=digest.hexdigest()[:16],
        tally=tally,
        overrun_ms=transport.overrun_s * 1000 if isinstance(transport, RealTransport) else None,
        truncated=game.truncated,
        success=game.success if isinstance(game, WorldGame) else None,
    )


class _Judge:
    """What a chip chooses that is shown whole every frame that is sent.

    One that remembers is shown them in the same order, and never loses its state.

    Args:
        backend: it, at rest from here on.
        row: of the task.
        task: that is played.
    """

    def __init__(self, backend: AgentBackend, row: int, task: Task) -> None:
        backend.start(1)
        self._backend = backend
        self._row = row
        self._task = task
        self._values: dict[int, NDArray[np.float64]] = {}

    def see(self, decision: int, frame: Pixels) -> None:
        """Decide, and keep the values until an answer is there to compare."""
        self._values[decision] = self._backend.decide(frame[None], self._row).values

    def differs(self, answer: Answer, allowed: NDArray[np.bool_] | None) -> bool:
        """Whether the best action of an answer is another one than here, of those allowed then."""
        here, there = (
            chosen_actions(values, self._task, allowed)
            for values in (self._values.pop(answer.decision), answer.values[None])
        )
        return not np.array_equal(here, there)


class _Draws:
    """What chance adds to the values of each observation of an episode, by its number.

    Args:
        task: that is played.
        sampling: says how.
        seed: of the episode.
    """

    def __init__(self, task: Task, sampling: Sampling, seed: int) -> None:
        self._task = task
        self._sampling = sampling
        self._generator = sampling.generator(seed)
        self._noise: list[NDArray[np.float64]] = []

    def added_to(self, values: NDArray[np.float64], decision: int) -> NDArray[np.float64]:
        """Return the values of an observation with its draw; the same one whenever it is asked."""
        while len(self._noise) <= decision:
            self._noise.append(noise_of_decision(self._task, self._generator))
        noise = self._noise[decision][None]
        return noisy_values(values[None], self._task, self._sampling, noise)[0]


@dataclass
class _Button:
    """What the game gets: the action of the newest answer.

    Attributes:
        task: that is played.
        tally: counts the answers.
        deadline_s: an answer that took longer is late.
        action: held now; at first what is pressed before any decision.
        judge: compares them, if anybody does.
        draws: what chance adds to their values; None takes the best.
        newest: decision whose answer it is; -1 before the first.
        since: emulator frame from which it is held.
        allowed: (1, legal actions) which of them the environment allows now; None: all.
        values: of the newest answer, with its draw.
    """

    task: Task
    tally: Tally
    deadline_s: float
    action: Any = NOOP
    judge: _Judge | None = None
    draws: _Draws | None = None
    newest: int = -1
    since: int = 0
    allowed: NDArray[np.bool_] | None = None
    values: NDArray[np.float64] | None = None

    def allow(self, allowed: NDArray[np.bool_] | None) -> None:
        """Hold an action that is allowed from now on: the next best of the newest answer."""
        self.allowed = allowed
        legal = self.task.legal_actions
        if allowed is None or allowed[0, legal.index(self.action)]:
            return
        values = np.zeros(max(legal) + 1) if self.values is None else self.values
        self.action = self._best(values)

    def _best(self, values: NDArray[np.float64]) -> Any:
        return chosen_actions(values[None], self.task, self.allowed)[0]

    def press(self, answers: list[Answer], frame: int) -> None:
        """Count answers that have arrived, and hold the action of the newest from a frame on."""
        for answer in answers:
            self.tally.answered(answer, self.deadline_s)
            if self.judge is not None and self.tally.differing is not None:
                self.tally.differing += self.judge.differs(answer, self.allowed)
            if answer.decision < self.newest:
                self.tally.overtaken += 1
                continue
            self.newest, self.since = answer.decision, frame
            values = answer.values
            if self.draws is not None:
                values = self.draws.added_to(values, answer.decision)
            self.action, self.values = self._best(values), values


def _transport(
    chip: HostedChip,
    network: ChipNetwork,
    task: str,
    loop: Loop,
    seed: int,
    tally: Tally,
    judge: _Judge | None,
) -> Transport:
    encoder = network.input.encoder
    sender = Sender(
        encoder,
        loop.refresh_every,
        loop.faults,
        seed,
        stateful=network.stateful,
        watch=None if judge is None else judge.see,
    )
    schedule = FaultSchedule(loop.faults, seed, loop.away_ms / 1000)
    if encoder is not Encoder.EVERY_STEP:
        tally.sent = Sent()
    if loop.realtime:
        return RealTransport(loop.timing, schedule, chip, task, tally, sender)

    def ask(question: Question) -> Reply | None:
        sending = sender.send(question.decision, question.frame)
        reply = chip.ask(task, seed, sending)
        if reply is not None:
            sender.heard()
        if tally.sent is not None:
            tally.sent.add(sending, reply, loop.timing)
        return reply

    return SimulatedTransport(loop.timing, schedule, ask, chip.die, tally, sender.forget)


def _sent_json(sent: Sent) -> dict[str, Any]:
    return {
        "messages": sent.messages,
        "whole_frames": sent.whole_frames,
        "lost": sent.lost,
        "write_ms": _spread(sent.write_ms),
    }


def _spread(values: list[float]) -> dict[str, float] | None:
    """Mean and percentiles; None where there is nothing."""
    if not values:
        return None
    array = np.array(values)
    half, most = np.percentile(array, [50, 95])
    return {
        "mean": round(float(array.mean()), 4),
        "p50": round(float(half), 4),
        "p95": round(float(most), 4),
        "max": round(float(array.max()), 4),
    }
