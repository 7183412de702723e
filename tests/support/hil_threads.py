"""A chip of our own in a thread instead of a process: the same wire, and a look inside."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from mtspark.core.backend import Decision
from mtspark.core.chip_network import ChipNetwork
from mtspark.sim.hil.chip import Chip
from mtspark.sim.hil.client import ChipLink, Paired
from mtspark.sim.hil.protocol import Change, Decide
from mtspark.sim.hil.server import Server
from mtspark.sim.hil.told import Told


class WatchedChip(Chip):
    """A chip that keeps every question that it decided, with every spike and membrane.

    Args:
        heard: receives them, and None wherever the chip was put at rest.
        arguments: of a chip.
    """

    def __init__(self, heard: list[Any], *arguments: Any) -> None:
        super().__init__(*arguments)
        build = self._build

        def watched(network: ChipNetwork) -> Any:
            heard.append(None)
            return _Traced(build(network), self._note, heard)

        self._build = watched
        self._heard = heard
        self._question: Any = None

    def decide(self, question: Decide | Change, told: Told) -> Any:
        self._question = question
        return super().decide(question, told)

    def _note(self, decision: Decision) -> None:
        assert decision.trace is not None
        self._heard.append((self._question, decision.trace))


class _Traced:
    def __init__(self, backend: Any, note: Callable[[Decision], None], heard: list[Any]) -> None:
        self.name, self.keep, self.close = backend.name, backend.keep, backend.close
        self._backend, self._note, self._heard = backend, note, heard

    def start(self, batch: int) -> None:
        self._heard.append(None)
        self._backend.start(batch)

    def decide(self, frames: np.ndarray, task: int, *, trace: bool = False) -> Decision:
        decision: Decision = self._backend.decide(frames, task, trace=True)
        self._note(decision)
        return decision


class ThreadedChip:
    """Stands for :class:`mtspark.sim.hil.client.ChipProcess`."""

    pid = 0

    def __init__(self, chip: Chip) -> None:
        ours, theirs = socket.socketpair()
        self._chip, self._theirs = chip, theirs
        # A test that fails before it closes its chip must not keep the process that ran it.
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.link = ChipLink(Paired(ours), self.alive)

    def ready(self, limit_s: float, silence_s: float) -> bool:
        return True

    def idle_s(self) -> float:
        return 0.0

    def alive(self) -> bool:
        return self._thread.is_alive()

    def ends(self, limit_s: float) -> bool:
        self._thread.join(limit_s)
        return not self.alive()

    def last_words(self) -> str:
        return ""

    def kill(self) -> None:
        self.link.close()
        self._thread.join()

    close = kill

    def _serve(self) -> None:
        server = Server(self._chip, lambda line: None)
        server.serve_one(self._theirs)
        server.close()
        self._chip.close()
