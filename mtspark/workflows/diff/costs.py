"""What the decisions of a comparison cost, of each chip network among its sides."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Booleans
from mtspark.core.backend import Moment
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.sim.energy import PriceCard
from mtspark.sim.verdict import Cost, Costing

BATCH = 100


class EpisodeLog:
    """Keeps which episode each recorded frame is of, and what was allowed there.

    Attributes:
        numbers: by frame; none where the frames are of no game.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._masks: list[Booleans] = []

    def observe(self, moment: Moment) -> None:
        """Note the decision of a game that is played alone."""
        self.numbers.append(int(moment.episodes[0]))
        if moment.masks is not None:
            self._masks.append(moment.masks[0])

    @property
    def masks(self) -> Booleans | None:
        """(frames, legal actions) which of them an environment allowed; None where all."""
        return np.stack(self._masks) if self._masks else None


def costs_of(
    networks: Mapping[str, tuple[ChipNetwork, NDArray[np.uint8], int]],
    episodes: list[int],
    card: PriceCard | None,
    *,
    progress: ProgressCallback = no_progress,
) -> dict[str, Cost]:
    """Price the mean decision of chip networks.

    Args:
        networks: by name; each with its frames, (decisions, *input shape) or (decisions, T, *input
            shape), and the row of its task.
        episodes: of each frame, as :class:`EpisodeLog` keeps them.
        card: prices; None for no costs.
        progress: told that the engine answers, before it does.
    """
    costs: dict[str, Cost] = {}
    for name, (network, frames, row) in networks.items() if card is not None else ():
        progress(Progress(f"pricing {name}", 0, len(frames), "decisions"))
        costing = Costing(network)
        # What keeps its state answers random frames as one episode.
        known = episodes or [0] * len(frames) * network.stateful
        count_frames(costing, network, frames, row, known)
        assert card is not None
        costs[name] = costing.cost(card, network.tasks[row].name)
    return costs


def count_frames(
    costing: Costing,
    network: ChipNetwork,
    frames: NDArray[np.uint8],
    row: int,
    episodes: list[int] | None = None,
) -> None:
    """Let the engine answer frames, and count what it does.

    Args:
        costing: counts.
        network: that answers.
        frames: (count, *input shape), or (count, T, *input shape).
        row: of the task.
        episodes: of each frame, those of one after another; none where the frames have nothing to
            do with each other, so that each is sent whole.
    """
    from mtspark.sim.engine import EngineChip

    chip, last = EngineChip(network), None
    if not episodes:
        for start in range(0, len(frames), BATCH):
            part = frames[start : start + BATCH]
            chip.start(len(part))
            costing.add(chip.decide(part, row), part, None)
        return
    for episode, frame in zip(episodes, frames, strict=True):
        if episode != last:
            chip.start(1)
        last = episode
        costing.add(chip.decide(frame[None], row), frame[None], np.array([episode]))
