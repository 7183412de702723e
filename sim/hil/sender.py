"""What the host sends of a frame: all of it, or what changed since the one that it last sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Pixels
from mtspark.core.chip_network import Encoder
from mtspark.core.errors import BadRequestError
from mtspark.sim.hil.faults import FaultKind, Faults
from mtspark.sim.hil.protocol import (
    CHANGE_TYPE,
    LARGEST_FRAME,
    PLACE_TYPE,
    Change,
    Decide,
    Decided,
    Forgotten,
    Question,
    Step,
    Unknown,
)

LOST = FaultKind.LOST_CHANGES


@dataclass(frozen=True)
class Changes:
    """Signed changes of a frame, without those that were lost on the way.

    Attributes:
        since: number of the decision whose frame they count from.
        places: ascending, in the frame's row-major order.
        values: -255 to 255, what is to be added there.
    """

    since: int
    places: NDArray[np.uint32]
    values: NDArray[np.int16]


@dataclass(frozen=True)
class Sending:
    """A frame on its way to a chip.

    Attributes:
        decision: number of the observation in its episode.
        frame: uint8, of the input's shape.
        changes: what is sent instead of all of it, if it is.
        messages: how many the host writes, those that are lost included.
        lost: how many are lost.
        begins: an episode begins with it, so that the chip is put at rest; None where the network
            keeps no state.
    """

    decision: int
    frame: Pixels
    changes: Changes | None = None
    messages: int = 0
    lost: int = 0
    begins: bool | None = None

    def again(self, answer: Decided | Unknown | Forgotten) -> Sending | None:
        """Return what a chip is sent that lacks what this builds on: the whole frame.

        Args:
            answer: of the chip; where it has no state of the episode, it begins again at rest.

        Returns:
            None where the chip has decided, or asks for what it has got.
        """
        begins = self.begins
        if isinstance(answer, Forgotten) and begins is False:
            begins = True
        elif not isinstance(answer, Unknown) or self.changes is None:
            return None
        return replace(self._whole(), begins=begins)

    def _whole(self) -> Sending:
        if self.changes is None:
            return self
        return whole(self.decision, self.frame, Encoder.CHANGES)

    def question(self, number: int, task: str, episode: int) -> Question:
        """Return the question that carries it, under a number."""
        if self.changes is None:
            words = (number, task, episode, self.decision, self.frame.tobytes())
            return Decide(*words) if self.begins is None else Step(*words, self.begins)
        changes = self.changes
        return Change(
            number,
            task,
            episode,
            self.decision,
            changes.since,
            changes.places.astype(PLACE_TYPE).tobytes(),
            changes.values.astype(CHANGE_TYPE).tobytes(),
        )


@dataclass
class Sender:
    """Turns the frames of one game into messages.

    Differences are to the frame that was sent last, so an observation that was never sent costs
    nothing. The first frame of a game is sent whole, and so is the next one after
    :meth:`forget`.

    Attributes:
        encoder: of the network.
        refresh_every: send a whole frame at least this many decisions after the last; None never.
        faults: messages of changes may be lost; the host does not notice.
        episode: number of the game, which seeds the draws.
        stateful: the chip remembers the frames before; see :meth:`heard`.
        watch: called with every observation that is really sent, and its number.
    """

    encoder: Encoder = Encoder.EVERY_STEP
    refresh_every: int | None = None
    faults: Faults = field(default_factory=Faults)
    episode: int = 0
    stateful: bool = False
    watch: Callable[[int, Pixels], None] | None = None
    _last: Sending | None = field(default=None, init=False)
    _whole: int = field(default=0, init=False)
    _heard: bool = field(default=False, init=False)

    def send(self, decision: int, frame: Pixels) -> Sending:
        """Return what is sent of a frame, and take it for sent."""
        if self.watch is not None:
            self.watch(decision, frame)
        begins = not self._heard if self.stateful else None
        return replace(self._sent(decision, frame), begins=begins)

    def heard(self) -> None:
        """Take a first answer: the chip has a state of the game, which later frames go on from."""
        self._heard = True

    def forget(self) -> None:
        """Send the next frame whole: nobody knows what arrived."""
        self._last = None

    def _sent(self, decision: int, frame: Pixels) -> Sending:
        last, self._last = self._last, Sending(decision, frame)
        due = self.refresh_every is not None and decision - self._whole >= self.refresh_every
        begins = self.stateful and not self._heard
        if self.encoder is Encoder.CHANGES and last is not None and not due and not begins:
            changed = self._changed(decision, frame, last)
            # Places take four times the bytes of a frame; only a huge one does not fit.
            if changed.messages * np.dtype(PLACE_TYPE).itemsize <= LARGEST_FRAME:
                return changed
        self._whole = decision
        return whole(decision, frame, self.encoder)

    def _changed(self, decision: int, frame: Pixels, last: Sending) -> Sending:
        difference = frame.astype(np.int16).reshape(-1) - last.frame.reshape(-1)
        places = np.flatnonzero(difference)
        sent = len(places)
        if self.faults.rate(LOST):
            lost = self._lost(decision, frame.size)[places]
            places = places[~lost]
        changes = Changes(last.decision, places.astype(np.uint32), difference[places])
        return Sending(decision, frame, changes, sent, sent - len(places))

    def _lost(self, decision: int, size: int) -> NDArray[np.bool_]:
        """Draw for every value, so that what is lost at a low rate also is at a higher one."""
        drawn = self.faults.generator(LOST, self.episode, decision).random(size, dtype=np.float32)
        lost: NDArray[np.bool_] = drawn < self.faults.rate(LOST)
        return lost


def whole(decision: int, frame: Pixels, encoder: Encoder) -> Sending:
    """Return a frame that is sent whole.

    Neurons that send it in every step are written value by value; messages to sums are those of
    nonzero values.
    """
    every = encoder is Encoder.EVERY_STEP
    return Sending(decision, frame, messages=frame.size if every else int(np.count_nonzero(frame)))


def check_sender(encoder: Encoder, refresh_every: int | None, faults: Faults) -> None:
    """Refuse what only changes can have, where whole frames are sent.

    Raises:
        BadRequestError: the network's encoder is another one.
    """
    if encoder is Encoder.CHANGES:
        return
    wants = [
        *(["--refresh-every"] if refresh_every is not None else []),
        *([f"the fault {LOST.value}"] if LOST in faults.rates else []),
    ]
    if wants:
        raise BadRequestError(
            f"{' and '.join(wants)}: this bundle's encoder is {encoder.value}, which sends whole "
            f"frames; export the agent with --encoder {Encoder.CHANGES.value}"
        )
