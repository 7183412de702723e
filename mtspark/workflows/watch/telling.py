"""What a page is told of a decision: picture, spikes, values, and energy under the main card."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import Moment
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import Task, box_of, seconds_per_decision
from mtspark.core.errors import MtsparkError
from mtspark.core.files import AnyPath
from mtspark.deploy.chips import load_chip
from mtspark.sim.counts import Counter
from mtspark.sim.device import map_for, on_chip
from mtspark.sim.energy import load_card, price
from mtspark.sim.recording import ACTION_NAMES, FilmRecorder, Shot, Twin, message_picture

if TYPE_CHECKING:
    from mtspark.core.environments import GameProtocol

LONGEST_SIDE = 400
"""Pixels of a picture's longer side."""


class Prices:
    """The bill of single decisions; the network is mapped once, which takes long beside them.

    Args:
        network: that plays.
        card: prices, a name or a file.

    Raises:
        BadFileError: no such price card.
    """

    def __init__(self, network: ChipNetwork, card: AnyPath) -> None:
        self._network, self._card = network, load_card(card)
        self._chip = load_chip(self._card.chip) if self._card.chip else None
        self._mapping = (
            None if self._chip is None else map_for(network, self._chip, network.input.encoder)
        )

    @property
    def name(self) -> str:
        """Of the card."""
        return self._card.name

    def dynamic_uj(self, moment: Moment) -> float:
        """Return the dynamic energy of one decision in microjoules."""
        counter = Counter(self._network)
        counter.add(moment.decision.activity)
        counts, device = counter.result(), None
        if self._chip is not None and self._mapping is not None:
            on = on_chip(self._network, self._chip, self._mapping, counter.sent, 1)
            device = on.device
        return 1e6 * price(counts, self._network, self._card, device).dynamic_j_per_decision


class Teller:
    """Turns the decisions of one game after the other into JSON values.

    Args:
        network: that plays.
        task: that is played.
        protocol: how, with its stickiness; None of an environment.
        prices: of a decision.
    """

    def __init__(
        self, network: ChipNetwork, task: Task, protocol: GameProtocol | None, prices: Prices
    ) -> None:
        self._network, self._task, self._protocol, self._prices = network, task, protocol, prices
        self._recorder = FilmRecorder(network, 1)
        self._twin: Twin | None = None
        self.view = ""
        self._number = 0

    def about(self) -> dict[str, Any]:
        """What does not change while the agent plays."""
        seconds = seconds_per_decision(self._task, self._network.protocol)
        box = box_of(self._task)
        return {
            "agent": self._network.name,
            "task": self._task.name,
            "card": self._prices.name,
            "interval_ms": None if seconds is None else 1000 * seconds,
            "steps": self._network.steps_per_decision,
            "layers": [
                {
                    "name": name,
                    "neurons": self._network.population(name).size,
                    "shown": len(rows),
                }
                for name, rows in self._recorder.shown.items()
            ],
            "actions": self._names(),
            "bounds": None if box is None else [list(box.low), list(box.high)],
        }

    def start(self, seed: int) -> None:
        """Begin a game: the copy that draws it begins, too.

        Where none can draw, :attr:`view` says why, and people are shown what the agent sees.
        """
        self._recorder, self._number, self.view = FilmRecorder(self._network, 1), 0, ""
        try:
            if self._twin is None:
                self._twin = Twin(self._task, self._protocol)
            self._twin.reset(seed)
            self._twin.picture()
        except MtsparkError as error:
            self._without_picture(str(error))

    def decision(self, moment: Moment) -> dict[str, Any]:
        """Describe a decision of the game."""
        self._recorder(moment)
        (shot,) = self._recorder.latest
        picture = self._picture(shot)
        values = shot.action if isinstance(shot.action, tuple) else self._legal_values(shot)
        return {
            "number": shot.number,
            "score": shot.score,
            "reward": shot.reward,
            "values": list(values),
            "chosen": self._place(shot),
            "spikes": {name: int(steps.sum()) for name, steps in shot.spikes.items()},
            "operations": shot.synops,
            "energy_uj": self._prices.dynamic_uj(moment),
            "picture": _png(picture),
            "view": self.view,
            "rasters": {
                name: base64.b64encode(np.packbits(rows).tobytes()).decode()
                for name, rows in shot.rasters.items()
            },
        }

    def close(self) -> None:
        """Release the copy of the game; safe to call twice."""
        twin, self._twin = self._twin, None
        if twin is not None:
            twin.close()

    def _picture(self, shot: Shot) -> NDArray[np.uint8]:
        """Draw what a decision was made on, and let its action pass in the copy."""
        if self._twin is not None:
            try:
                if np.array_equal(self._twin.seen, shot.observation):
                    picture = self._twin.picture()
                    self._twin.act(shot.action)
                    return picture
                self._without_picture("a second copy of the game differs: not deterministic")
            except MtsparkError as error:
                self._without_picture(str(error))
        is_world = self._task.environment is not None
        return message_picture(shot.observation) if is_world else shot.frame

    def _without_picture(self, reason: str) -> None:
        self.view = reason
        self.close()

    def _names(self) -> list[str]:
        box = box_of(self._task)
        if box is not None:
            return [f"number {place + 1}" for place in range(len(box.low))]
        legal = self._task.legal_actions
        return [ACTION_NAMES[action] if self._task.is_ale else str(action) for action in legal]

    def _legal_values(self, shot: Shot) -> list[float]:
        values = shot.values.reshape(-1)
        return [float(values[action]) for action in self._task.legal_actions]

    def _place(self, shot: Shot) -> int | None:
        """The chosen action's place among the legal ones; None of numbers of a box."""
        if isinstance(shot.action, tuple):
            return None
        return self._task.legal_actions.index(shot.action)


def _png(pixels: NDArray[np.uint8]) -> str:
    """Encode a picture as a data URI."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
