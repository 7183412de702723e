"""Transport to the chip and back by the wall clock: what is measured is what the game feels."""

from __future__ import annotations

import time

from mtspark.core.arrays import Pixels
from mtspark.sim.hil.client import ChipGoneError
from mtspark.sim.hil.host import FAR_LIMIT_S, GIVE_UP_S, HostedChip
from mtspark.sim.hil.protocol import Decided, Forgotten, Unknown
from mtspark.sim.hil.sender import Sender, Sending
from mtspark.sim.hil.timing import Answer, FaultSchedule, Question, Tally, Timing

WHOLE_MS_S = 0.001


class RealTransport:
    """As :class:`mtspark.sim.hil.timing.SimulatedTransport`, in real time, without waiting.

    An answer reaches the game when it is there, but not before the modelled latency is over.

    Args:
        timing: modelled times; the real ones come on top where they are longer.
        schedule: the faults between host and chip.
        chip: who is asked.
        task: name of the task.
        tally: counts what did not come back.
        sender: turns frames into messages.

    Attributes:
        overrun_s: how late an emulator frame began, at worst: this computer was too slow.
    """

    def __init__(
        self,
        timing: Timing,
        schedule: FaultSchedule,
        chip: HostedChip,
        task: str,
        tally: Tally,
        sender: Sender,
    ) -> None:
        self._timing = timing
        self._schedule = schedule
        self._chip = chip
        self._task = task
        self._tally = tally
        self._sender = sender
        self._asked: dict[int, tuple[Question, Sending]] = {}
        self._waiting: Question | None = None
        self._answers: list[Answer] = []
        self._back_s = 0.0
        self._answered_s = 0.0
        self._said_silent = False
        self._started = time.perf_counter()
        self.overrun_s = 0.0

    def now_s(self) -> float:
        """Seconds since the episode began."""
        return time.perf_counter() - self._started

    def wait(self, until_s: float) -> None:
        """Let time pass until an emulator frame begins; answers are stamped as they come."""
        self.overrun_s = max(self.overrun_s, self.now_s() - until_s)
        while (left := until_s - self.now_s()) > 0:
            # ZeroMQ waits in whole milliseconds; the rest is slept.
            if left > WHOLE_MS_S and self._chip.link is not None:
                self._take(left - WHOLE_MS_S)
                self._ask()
            else:
                time.sleep(min(left, WHOLE_MS_S))

    def send(self, decision: int, now_s: float, frame: Pixels) -> None:
        """An observation sets out."""
        if self._schedule.frame_is_lost(decision):
            self._miss()
            return
        if self._waiting is not None:
            self._tally.skipped += 1
        self._waiting = Question(decision, now_s, now_s, frame)

    def collect(self, now_s: float) -> list[Answer]:
        """All answers that have arrived, in order of arrival."""
        self._take(0)
        self._ask()
        arrived = sorted(
            (answer for answer in self._answers if answer.arrived_s <= self.now_s()),
            key=lambda answer: answer.arrived_s,
        )
        self._answers = [answer for answer in self._answers if answer not in arrived]
        return arrived

    def unfinished(self) -> int:
        """Questions and answers that are still on the way."""
        return len(self._asked) + (self._waiting is not None) + len(self._answers)

    def _take(self, wait_s: float) -> None:
        """Read what has come; give up what will not come any more."""
        link = self._chip.link
        while link is not None and (reply := link.receive(wait_s)) is not None:
            wait_s = 0
            question, sending = self._asked.pop(reply.id, (None, None))
            if question is None or sending is None:
                continue
            if isinstance(reply, Unknown | Forgotten):
                again = sending.again(reply)
                if again is not None:
                    if isinstance(reply, Forgotten):
                        self._chip.forgotten += 1
                    self._post(question, again)
                continue
            if not isinstance(reply, Decided):
                continue
            self._sender.heard()
            self._answered_s, self._said_silent = self.now_s(), False
            if self._schedule.answer_is_lost(question.decision):
                self._miss()
                continue
            self._answers.append(self._stamped(question, sending, reply))
        if self._chip.ended():
            self._chip.lost += 1
            self._away(0)
        for number, (asked, _) in list(self._asked.items()):
            if self.now_s() - asked.asked_s > FAR_LIMIT_S:
                del self._asked[number]
                self._miss()
                if not self._said_silent:
                    self._said_silent = True
                    self._chip.say_silent(GIVE_UP_S)
        if self.now_s() - self._answered_s > GIVE_UP_S:
            raise ChipGoneError(
                f"no answer from a chip for {GIVE_UP_S:g} s of real time{self._chip.state()}"
            )

    def _stamped(self, question: Question, sending: Sending, reply: Decided) -> Answer:
        timing, decision = self._timing, question.decision
        modelled = question.asked_s + (timing.input_ms + timing.chip_ms + timing.output_ms) / 1000
        modelled += timing.write_s(sending.messages)
        modelled += timing.jitter_s(self._schedule.episode, decision)
        arrives = max(self.now_s(), timing.arrival_s(modelled))
        return Answer(decision, question.asked_s, arrives, self._chip.read(reply), reply.host_s)

    def _ask(self) -> None:
        """Send the newest observation if there is a chip that is free."""
        if not self._is_there():
            # A dead chip keeps nothing.
            self._tally.missing += self._waiting is not None
            self._waiting = None
            return
        if self._waiting is None or (self._asked and not self._timing.overlap):
            return
        question, self._waiting = self._waiting, None
        if self._schedule.chip_dies(question.decision):
            self._chip.die()
            self._tally.deaths += 1
            self._miss()
            self._away(self._schedule.away_s)
            return
        self._post(question, self._sender.send(question.decision, question.frame))

    def _post(self, question: Question, sending: Sending) -> None:
        """Send what was made of an observation."""
        link = self._chip.link
        number = 0 if link is None else link.next_id()
        asked = sending.question(number, self._task, self._schedule.episode)
        if link is None or not link.send(asked):
            self._miss()
            return
        self._asked[number] = question, sending
        if self._tally.sent is not None:
            self._tally.sent.add(sending, None, self._timing)

    def _miss(self) -> None:
        """No answer will come, and nobody knows what the chip was told."""
        self._tally.missing += 1
        self._sender.forget()

    def _away(self, seconds: float) -> None:
        """What a dead chip was working on is lost."""
        self._sender.forget()
        self._tally.missing += len(self._asked)
        self._asked.clear()
        self._back_s = self.now_s() + seconds

    def _is_there(self) -> bool:
        """Whether there is a chip; starts a dead one again when its time has come."""
        if self._chip.link is not None:
            return True
        if self.now_s() < self._back_s:
            return False
        self._chip.start()
        if self._chip.finish_start(0) is None:
            return False
        self._answered_s = self.now_s()
        return True
