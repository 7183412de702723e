"""When an action arrives: one observation travels to the chip, and its answer travels back.

The game never waits. An observation is taken at the end of every frame skip, travels to the
chip, is computed, and its answer travels back; an emulator frame takes the newest action that
is there when the frame begins. Time is the game's own, in seconds since the episode began.

Messages of the input are written when the chip takes an observation: it keeps one sum of a frame,
which must not change while the window of the decision before is open, and all of a decision's
messages arrive before its own window opens. So an observation that a newer one replaced was never
written, and costs nothing.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mtspark.core.arrays import Floats, Pixels
from mtspark.core.errors import BadRequestError
from mtspark.sim.hil.faults import FaultKind, Faults
from mtspark.sim.hil.options import Jitter
from mtspark.sim.hil.sender import Sending

LONGEST_MS = 60_000.0
SAME_TIME_S = 1e-9
"""Times closer than this are the same; a step of float64 at an hour of play is far smaller."""


@dataclass(frozen=True)
class Timing:
    """How long things take; all times in milliseconds.

    Attributes:
        input_ms: from the observation to the chip: host work and transfer.
        chip_ms: the chip computes; it is busy for this long.
        output_ms: from the chip to the pressed button: transfer and host work.
        jitter_ms: scale of a random time on the way back, see `jitter`.
        jitter: its distribution.
        io_step_ms: answers reach the game only at multiples of this time (a bus that is
            polled); 0 means at any time.
        measured: instead of `chip_ms` take what the simulation of the chip took on its
            computer; such a game is not repeated exactly.
        overlap: the chip takes every observation at once, as a pipeline would, instead of
            finishing one decision and then taking the newest observation that waits.
        seed: of the jitter.
        message_us: microseconds that the host needs to write one message of the input, on top of
            `input_ms` and for each one that is really sent.
    """

    input_ms: float = 0.0
    chip_ms: float = 0.0
    output_ms: float = 0.0
    jitter_ms: float = 0.0
    jitter: Jitter = Jitter.EXPONENTIAL
    io_step_ms: float = 0.0
    measured: bool = False
    overlap: bool = False
    seed: int = 0
    message_us: float = 0.0

    def __post_init__(self) -> None:
        for name in ("input_ms", "chip_ms", "output_ms", "jitter_ms", "io_step_ms"):
            value = getattr(self, name)
            if not 0 <= value <= LONGEST_MS:
                raise BadRequestError(
                    f"{name.replace('_ms', '').replace('_', ' ')} time of {value:g} ms: 0 to "
                    f"{LONGEST_MS:,.0f} can be simulated"
                )
        if not 0 <= self.message_us <= LONGEST_MS:
            raise BadRequestError(
                f"{self.message_us:g} us a message: 0 to {LONGEST_MS:,.0f} can be simulated"
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; a time a message only where there is one."""
        named = {**asdict(self), "jitter": self.jitter.value}
        if not self.message_us:
            del named["message_us"]
        return named

    def write_s(self, messages: int) -> float:
        """Return how long the host writes messages, in seconds."""
        return messages * self.message_us / 1e6

    def jitter_s(self, episode: int, decision: int) -> float:
        """The random part of one answer's way, in seconds."""
        if not self.jitter_ms:
            return 0.0
        generator = np.random.default_rng([self.seed, episode, decision])
        if self.jitter is Jitter.UNIFORM:
            drawn = generator.random()
        elif self.jitter is Jitter.EXPONENTIAL:
            drawn = generator.exponential()
        else:
            drawn = abs(generator.standard_normal())
        return float(drawn) * self.jitter_ms / 1000

    def arrival_s(self, sent_s: float) -> float:
        """When something sent at a time reaches the game, after the bus was polled."""
        if not self.io_step_ms:
            return sent_s
        step = self.io_step_ms / 1000
        return float(np.ceil(sent_s / step - SAME_TIME_S / step)) * step


@dataclass(frozen=True)
class Answer:
    """What came back for one observation.

    Attributes:
        decision: number of the observation in its episode.
        asked_s: when the observation was taken.
        arrived_s: when the answer was there.
        values: action values.
        chip_host_s: what the simulation of the chip took on its computer.
    """

    decision: int
    asked_s: float
    arrived_s: float
    values: Floats
    chip_host_s: float


class Reply(NamedTuple):
    """What a chip answered to one question.

    Attributes:
        values: action values.
        host_s: what the simulation of the chip took on its computer.
        messages: that the host wrote for it.
        repeated: the chip did not know what changes counted from, and got the whole frame.
    """

    values: Floats
    host_s: float
    messages: int = 0
    repeated: bool = False


@dataclass
class Sent:
    """Messages of an encoder that sends a frame before the window opens.

    Attributes:
        messages: written by the host, those that were lost included.
        whole_frames: frames that were sent whole.
        lost: messages of changes that were lost on the way.
        write_ms: of each observation that was sent, how long the host wrote.
    """

    messages: int = 0
    whole_frames: int = 0
    lost: int = 0
    write_ms: list[float] = field(default_factory=list)

    def add(self, sending: Sending, reply: Reply | None, timing: Timing) -> None:
        """Count what was sent of one frame, and again where the chip asked for it."""
        messages = sending.messages if reply is None else reply.messages
        self.messages += messages
        self.whole_frames += sending.changes is None or (reply is not None and reply.repeated)
        self.lost += sending.lost
        self.write_ms.append(1000 * timing.write_s(messages))


@dataclass
class Tally:
    """What became of the observations of an episode: each is in exactly one count but `late`.

    Attributes:
        in_time: answered within the deadline.
        late: answered after it; counted when the answer is there.
        skipped: replaced by a newer one while the chip was busy.
        missing: lost on the way, or met by a dead chip.
        pending: on the way when the episode ended.
        overtaken: of the answered ones, those that came after a newer answer, and were ignored.
        deaths: how often the chip died.
        response_ms: of the answered ones, in order of arrival.
        chip_host_ms: likewise, measured on the chip's computer: not the chip's own time.
        sent: messages of the input; None for an encoder that sends the frame in every step.
        differing: answered ones whose action differs from the one that a chip chooses which was
            shown the whole frame; None where nobody compared.
        forgotten: how often the chip began again at rest within the episode, because what it
            remembered was lost with it; None of a network that keeps no state.
    """

    in_time: int = 0
    late: int = 0
    skipped: int = 0
    missing: int = 0
    pending: int = 0
    overtaken: int = 0
    deaths: int = 0
    response_ms: list[float] = field(default_factory=list)
    chip_host_ms: list[float] = field(default_factory=list)
    sent: Sent | None = None
    differing: int | None = None
    forgotten: int | None = None

    def answered(self, answer: Answer, deadline_s: float) -> None:
        """Count an answer that has arrived."""
        response = answer.arrived_s - answer.asked_s
        self.response_ms.append(response * 1000)
        self.chip_host_ms.append(answer.chip_host_s * 1000)
        if response > deadline_s + SAME_TIME_S:
            self.late += 1
        else:
            self.in_time += 1


@dataclass(frozen=True)
class Question:
    """An observation on its way.

    Attributes:
        decision: its number in the episode.
        asked_s: when it was taken.
        reaches_s: when it is at the chip.
        frame: uint8 (stack, height, width).
    """

    decision: int
    asked_s: float
    reaches_s: float
    frame: Pixels


Ask = Callable[[Question], Reply | None]
"""Asks the chip; None where nothing came back."""


@dataclass(frozen=True)
class FaultSchedule:
    """Faults between host and chip in one episode, by number of the decision.

    Attributes:
        faults: what is ordered; see :mod:`mtspark.sim.hil.faults`.
        episode: number of the game, which seeds the draws.
        away_s: how long a chip that died is gone.
    """

    faults: Faults = field(default_factory=Faults)
    episode: int = 0
    away_s: float = 1.0

    def frame_is_lost(self, decision: int) -> bool:
        """The observation never reaches the chip."""
        return self.faults.happens(FaultKind.LOST_MESSAGES, self.episode, decision, 0)

    def answer_is_lost(self, decision: int) -> bool:
        """The answer never reaches the host."""
        return self.faults.happens(FaultKind.LOST_MESSAGES, self.episode, decision, 1)

    def chip_dies(self, decision: int) -> bool:
        """The chip dies while it works on this decision."""
        return self.faults.happens(FaultKind.CHIP_DEATH, self.episode, decision)


class SimulatedTransport:
    """Carries observations and answers in simulated time: the same settings, the same arrivals.

    Args:
        timing: how long things take.
        schedule: the faults between host and chip.
        ask: called when the chip begins with a question, in the order in which it does.
        kill: called when the chip dies; the next question must find a new one.
        tally: counts what did not come back.
        forget: called before the first question after one that has no answer: the chip may know
            less than the host has sent.
    """

    def __init__(
        self,
        timing: Timing,
        schedule: FaultSchedule,
        ask: Ask,
        kill: Callable[[], None],
        tally: Tally,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        self._timing = timing
        self._schedule = schedule
        self._ask = ask
        self._kill = kill
        self._tally = tally
        self._forget = forget
        self._missed: int | None = None
        self._travelling: deque[Question] = deque()
        self._waiting: Question | None = None
        self._free_s = 0.0
        self._back_s = 0.0
        # When it arrives and when the chip was done; no two have the same decision.
        self._answers: list[tuple[float, int, float, Answer]] = []

    def wait(self, until_s: float) -> None:
        """Simulated time passes by itself."""

    def send(self, decision: int, now_s: float, frame: Pixels) -> None:
        """An observation sets out."""
        if self._schedule.frame_is_lost(decision):
            self._miss(decision)
            return
        reaches = now_s + self._timing.input_ms / 1000
        self._travelling.append(Question(decision, now_s, reaches, frame))

    def collect(self, now_s: float) -> list[Answer]:
        """All answers that have arrived by now, in order of arrival."""
        self._advance(now_s + SAME_TIME_S)
        arrived = []
        while self._answers and self._answers[0][0] <= now_s + SAME_TIME_S:
            arrived.append(heapq.heappop(self._answers)[3])
        return arrived

    def unfinished(self) -> int:
        """Questions and answers that are still on the way."""
        return len(self._travelling) + (self._waiting is not None) + len(self._answers)

    def _advance(self, until_s: float) -> None:
        """Let the chip take questions, in the order of time, up to a moment."""
        while True:
            begins = max(self._free_s, self._waiting.reaches_s) if self._waiting else np.inf
            comes = self._travelling[0].reaches_s if self._travelling else np.inf
            if min(begins, comes) > until_s:
                return
            if self._waiting is not None and begins <= comes:
                question, self._waiting = self._waiting, None
                self._compute(question, begins)
            else:
                self._reach(self._travelling.popleft())

    def _reach(self, question: Question) -> None:
        """A question is at the chip, which may be dead or busy."""
        if question.reaches_s < self._back_s - SAME_TIME_S:
            self._miss(question.decision)
        elif self._timing.overlap:
            self._compute(question, question.reaches_s)
        else:
            if self._waiting is not None:
                self._tally.skipped += 1
            self._waiting = question

    def _compute(self, question: Question, begins_s: float) -> None:
        timing, decision = self._timing, question.decision
        if self._schedule.chip_dies(decision):
            self._die(begins_s, decision)
            return
        if self._missed is not None and decision > self._missed:
            self._missed = None
            self._forget()
        reply = self._ask(question)
        chip_s = reply.host_s if reply and timing.measured else timing.chip_ms / 1000
        written_s = timing.write_s(reply.messages) if reply else 0.0
        self._free_s = done = begins_s + written_s + chip_s
        if reply is None or self._schedule.answer_is_lost(decision):
            self._miss(decision)
            return
        sent = done + timing.output_ms / 1000 + timing.jitter_s(self._schedule.episode, decision)
        arrives = timing.arrival_s(sent)
        answer = Answer(decision, question.asked_s, arrives, reply.values, reply.host_s)
        heapq.heappush(self._answers, (arrives, decision, done, answer))

    def _miss(self, decision: int) -> None:
        self._tally.missing += 1
        self._missed = max(decision, -1 if self._missed is None else self._missed)

    def _die(self, now_s: float, decision: int) -> None:
        """The decision that it works on is lost, and in a pipeline all that are not done."""
        self._kill()
        self._miss(decision)
        self._tally.deaths += 1
        left = [entry for entry in self._answers if entry[2] <= now_s]
        self._tally.missing += len(self._answers) - len(left)
        heapq.heapify(left)
        self._answers = left
        self._free_s = self._back_s = now_s + self._schedule.away_s
