"""Games in a thread, one after the other, that wait where somebody has paused them."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import AgentBackend, Decision, Moment
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import seconds_per_decision
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath
from mtspark.core.process import give_back_memory
from mtspark.core.progress import ProgressCallback, begin, no_progress
from mtspark.sim.energy import DEFAULT_CARD
from mtspark.sim.engine import EngineChip
from mtspark.sim.hil import (
    CHIP_KINDS,
    FaultKind,
    Faults,
    FaultyChip,
    break_network,
    chip_with_faults,
)
from mtspark.sim.play import check_length, play
from mtspark.workflows.watch.ring import Ring
from mtspark.workflows.watch.telling import Prices, Teller

LAST_SEED = 2**30 - 1
SPEEDS = (0.01, 1000.0)
MOST_STEPS = 100
"""Single decisions that may wait to be played."""
ENDED_S = 1.0
"""Seconds between two looks whether the game has ended: some systems heed no Ctrl-C in between."""


@dataclass(frozen=True)
class WatchRequest:
    """What is watched.

    Attributes:
        task: a game of the agent.
        seed: of the first game; the next one has seed + 1.
        max_decisions: cut every game off after this many.
        sticky: probability of sticky actions; None: the agent's own.
        speed: times the game's own speed, at most.
        card: prices of a decision, a name or a file.
    """

    task: str
    seed: int = 0
    max_decisions: int | None = None
    sticky: float | None = None
    speed: float = 1.0
    card: AnyPath = DEFAULT_CARD


class _Ended(Exception):
    """Nobody watches any more."""


class Session:
    """An agent that plays in a thread of its own, on a simulated chip that can be broken.

    It begins to play when somebody looks. A paused game waits before its next decision.

    Args:
        network: of the agent.
        request: what is watched.
        progress: told while the engine is compiled and the network is mapped.

    Raises:
        BadRequestError: unknown task, no game, or numbers that cannot be.
        BadFileError: no such price card.

    Attributes:
        messages: JSON texts for the page, the latest ones.
    """

    def __init__(
        self,
        network: ChipNetwork,
        request: WatchRequest,
        *,
        progress: ProgressCallback = no_progress,
    ) -> None:
        if not network.plays:
            raise BadRequestError(f"{network.name}: plays no game, so there is nothing to watch")
        protocol = network.protocol_with(request.sticky)
        name = network.task_name(request.task)
        self._task = network.tasks[network.task_index(name)]
        self._row = network.task_index(name)
        check_length(1, request.max_decisions)
        if not 0 <= request.seed <= LAST_SEED:
            raise BadRequestError(f"seed {request.seed}: must be 0 to {LAST_SEED}")
        if not SPEEDS[0] <= request.speed <= SPEEDS[1]:
            raise BadRequestError(
                f"speed {request.speed:g}: must be {SPEEDS[0]:g} to {SPEEDS[1]:g} times the game's"
            )
        seconds = seconds_per_decision(self._task, network.protocol)
        if seconds is None:
            raise BadRequestError(f"task {name!r}: is not a game, so there is nothing to watch")
        begin(progress, f"{name} for a page", "numba")
        self._network, self._request = network, request
        self._interval_s = seconds / request.speed
        self._teller = Teller(network, self._task, protocol, Prices(network, request.card))
        self._healthy = EngineChip(network)
        # Compiled here, where Ctrl-C is heeded.
        frame = np.zeros((1, *network.input.shape), network.input.dtype)
        self._healthy.decide(frame, self._row, trace=True)
        self.messages = Ring()
        self._changed = threading.Condition()
        self._opened = self._paused = self._over = False
        self._steps = 0
        self._due = 0.0
        self._faults, self._orders = Faults(), 0
        self._failure: BaseException | None = None
        self._seed = request.seed
        self._thread = threading.Thread(target=self._run, name="watched game", daemon=True)

    def start(self) -> None:
        """Begin the thread; the game waits for :meth:`look`."""
        self._thread.start()

    def look(self) -> None:
        """Say that somebody looks: the first time, the game begins."""
        with self._changed:
            self._opened = True
            self._changed.notify_all()

    def pause(self) -> None:
        """Let the game wait before its next decision."""
        self._set(paused=True)

    def resume(self) -> None:
        """Let the game go on."""
        self._set(paused=False)

    def step(self) -> None:
        """Pause, and let one decision pass."""
        self._set(paused=True, steps=1)

    def inject(self, kind: FaultKind, rate: float) -> None:
        """Break the chip: from the next decision on, another one plays that has these faults, too.

        Args:
            kind: what breaks; of those that happen on a chip.
            rate: of it, 0 to 1; 0 takes the fault away.

        Raises:
            BadRequestError: a kind that happens elsewhere, or no rate.
        """
        if kind not in CHIP_KINDS or not 0 <= rate <= 1:
            known = ", ".join(one.value for one in CHIP_KINDS)
            raise BadRequestError(
                f"fault {kind.value}={rate:g}: must be one of {known}, with a rate from 0 to 1"
            )
        self._order({kind: rate})

    def heal(self) -> None:
        """Take all faults away."""
        self._order(None)

    def state(self) -> dict[str, Any]:
        """Whether it is paused, and what is broken, as JSON values."""
        with self._changed:
            return {
                "paused": self._paused,
                "faults": {kind.value: rate for kind, rate in self._faults.rates.items()},
                "seed": self._seed,
            }

    def about(self) -> dict[str, Any]:
        """What a page is told first, as JSON values."""
        kinds = [kind.value for kind in CHIP_KINDS]
        return {"type": "hello", **self._teller.about(), "kinds": kinds, "state": self.state()}

    def wait(self) -> None:
        """Wait until the thread ends, which it does by an error or by :meth:`close`.

        Raises:
            MtsparkError: the game cannot be played.
        """
        while self._thread.is_alive():
            self._thread.join(ENDED_S)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the game and release it; safe to call twice."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        self._healthy.close()

    def _set(self, *, paused: bool, steps: int = 0) -> None:
        with self._changed:
            self._paused = paused
            self._steps = min(self._steps + steps, MOST_STEPS) if paused else 0
            self._changed.notify_all()
        self._tell({"type": "state"})

    def _order(self, change: dict[FaultKind, float] | None) -> None:
        """Change rates of faults; None: heal all."""
        with self._changed:
            rates = {} if change is None else {**self._faults.rates, **change}
            self._faults = Faults({kind: rate for kind, rate in rates.items() if rate})
            self._orders += 1
        self._tell({"type": "state"})

    def _tell(self, content: dict[str, Any]) -> None:
        self.messages.add(json.dumps({**content, "state": self.state()}))

    def _run(self) -> None:
        player = _BreakableChip(self, self._network, self._healthy)
        try:
            while True:
                self._play(player)
        except _Ended:
            pass
        except BaseException as error:
            # Of a thread: `wait` raises it in the one that asked for the page.
            self._failure = error
            self._tell({"type": "failed"})
        finally:
            self._teller.close()

    def _play(self, player: AgentBackend) -> None:
        """Play one game."""
        with self._changed:
            while not self._opened and not self._over:
                self._changed.wait()
        self._teller.start(self._seed)
        run = play(
            player,
            self._network,
            self._task.name,
            episodes=1,
            seed=self._seed,
            max_decisions=self._request.max_decisions,
            sticky=self._request.sticky,
            trace=True,
            observe=self._observe,
        )
        give_back_memory()
        (episode,) = run.episodes
        self._tell({"type": "game", "score": episode.score, "decisions": episode.decisions})
        with self._changed:
            self._seed = 0 if self._seed == LAST_SEED else self._seed + 1

    def _observe(self, moment: Moment) -> None:
        self._tell({"type": "decision", **self._teller.decision(moment)})

    def take_turn(self) -> tuple[Faults, int]:
        """Wait until the next decision may pass; return what is broken, and a number of the order.

        Raises:
            _Ended: nobody watches any more.
        """
        with self._changed:
            while not self._over:
                if self._paused and not self._steps:
                    self._changed.wait()
                    continue
                left = self._due - time.monotonic()
                if self._paused or left <= 0:
                    self._steps = max(0, self._steps - 1)
                    self._due = time.monotonic() + self._interval_s
                    return self._faults, self._orders
                self._changed.wait(left)
        raise _Ended


class _BreakableChip:
    """The chip of a session: waits for its turn, and is another one after a fault was ordered.

    A chip that takes the place of another one is at rest, and is sent the next frame whole.
    """

    name = "engine"

    def __init__(self, session: Session, network: ChipNetwork, healthy: AgentBackend) -> None:
        self._session, self._network = session, network
        self._healthy = self._chip = healthy
        self._order = self._decision = 0

    def start(self, batch: int) -> None:
        """Put the chip at rest."""
        self._chip.start(batch)
        self._decision = 0

    def keep(self, members: NDArray[np.int64]) -> None:
        """Go on with some members of a batch, of which there is one."""
        self._chip.keep(members)

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Wait, then answer."""
        faults, order = self._session.take_turn()
        if order != self._order:
            self._order, self._chip = order, self._made(faults, order)
            self._chip.start(len(frames))
        if isinstance(self._chip, FaultyChip):
            self._chip.begin(self._decision)
        self._decision += 1
        return self._chip.decide(frames, task, trace=trace)

    def close(self) -> None:
        """Nothing to do: the session releases the chip."""

    def _made(self, faults: Faults, number: int) -> AgentBackend:
        if not faults.rates:
            return self._healthy
        broken = break_network(self._network, faults, number)
        return chip_with_faults(broken, faults, number, EngineChip)
