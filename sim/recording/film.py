"""A recorder of some seconds of play: frames, spikes, actions, values and score."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import Moment
from mtspark.core.chip_network import ChipNetwork, ReadoutKind, fan_out
from mtspark.core.environments import Action, as_plain

AFTER_A_POINT = 12
"""Decisions that are still shown after a scored point."""

WHITE = 255
ROWS = 96
"""Neurons of a population that a raster shows at most, evenly spaced."""


@dataclass(frozen=True)
class Shot:
    """One decision of the first game.

    Attributes:
        number: of the decision in its episode, from 0.
        observation: uint8 or int8 of the input's shape, what the chip was shown.
        frame: uint8 (height, width), of it what people are shown; with colours (height, width, 3).
        counts: by population, int32 of its shape, spikes of each neuron within its window; none
            where they were not asked for.
        synops: structural synaptic operations, window and drain.
        rasters: by population, bool (steps, shown neurons); none without a trace.
        spikes: by population, all spikes of each step, (steps,); none without a trace.
        values: of all actions.
        action: chosen: its number, or the numbers of a box.
        reward, score: received, and the score so far.
    """

    number: int
    observation: NDArray[Any]
    frame: NDArray[np.uint8]
    counts: dict[str, NDArray[np.int32]]
    synops: int
    rasters: dict[str, NDArray[np.bool_]]
    spikes: dict[str, NDArray[np.int64]]
    values: NDArray[np.float64]
    action: Action
    reward: float
    score: float


class FilmRecorder:
    """An observer of the agent loop that keeps some seconds of the first game.

    :attr:`shots` are those around the largest reward, the first of equals that has enough before
    it; without any, the last ones. :attr:`latest` are the last ones in any case. Spikes by step
    need decisions with a trace.

    Args:
        network: that plays.
        keep: decisions.
        stacked: the channels of an observation are frames, the newest one last; otherwise they
            are the colours of one picture, of which the mean is shown.
        counts: keep the spike count of every neuron, not only the rasters of a few.
    """

    def __init__(
        self, network: ChipNetwork, keep: int, *, stacked: bool = True, counts: bool = False
    ) -> None:
        self.network = network
        self._stacked, self._counts = stacked, counts
        self.shown = {
            name: np.unique(np.linspace(0, size - 1, min(size, ROWS)).round().astype(np.int64))
            for name, size in _spiking(network).items()
        }
        self._fans = [
            (link.source, fan_out(link, network.shape_of(link.source))[0])
            for link in network.connections
        ]
        self._recent: deque[Shot] = deque(maxlen=keep)
        self._best: list[Shot] = []
        self._best_reward = 0.0
        self._wait = -1
        self._awaited = 0.0
        self._score, self._number = 0.0, 0

    def __call__(self, moment: Moment) -> None:
        """Keep one decision of the first episode."""
        if moment.episodes[0]:
            return
        trace, activity = moment.decision.trace, moment.decision.activity
        reward = float(moment.rewards[0])
        self._score += reward
        flat = {}
        if trace is not None:
            flat = {
                name: trace.spikes[name][:, 0].reshape(len(trace.spikes[name]), -1)
                for name in self.shown
            }
        sent = {
            name: activity.window[name][0] + activity.drain[name][0] for name in activity.window
        }
        self._recent.append(
            Shot(
                number=self._number,
                observation=moment.frames[0].copy(),
                frame=_picture(moment.frames[0], self.network, self._stacked),
                counts={
                    name: activity.window[name][0].astype(np.int32)
                    for name in (self.shown if self._counts else ())
                },
                synops=sum(int((sent[source] * fan).sum()) for source, fan in self._fans),
                rasters={name: spikes[:, self.shown[name]] for name, spikes in flat.items()},
                spikes={name: spikes.sum(1) for name, spikes in flat.items()},
                values=moment.decision.values[0].copy(),
                action=as_plain(moment.actions[0]),
                reward=reward,
                score=self._score,
            )
        )
        self._number += 1
        full = len(self._recent) == self._recent.maxlen
        if full and reward > max(self._best_reward, self._awaited if self._wait >= 0 else 0.0):
            self._wait, self._awaited = AFTER_A_POINT, reward
        if self._wait == 0:
            self._best, self._best_reward = list(self._recent), self._awaited
        self._wait = max(self._wait - 1, -1)

    @property
    def shots(self) -> list[Shot]:
        """The film around the largest reward, in order."""
        return self._best or self.latest

    @property
    def latest(self) -> list[Shot]:
        """The last decisions, in order."""
        return list(self._recent)


def with_contrast(shots: list[Shot]) -> list[Shot]:
    """Show the smallest value of all pictures black and the largest white."""
    low = min((int(shot.frame.min()) for shot in shots), default=0)
    high = max((int(shot.frame.max()) for shot in shots), default=0)
    if high <= low:
        return shots
    scale = WHITE / (high - low)
    return [
        replace(shot, frame=((shot.frame - float(low)) * scale).round().astype(np.uint8))
        for shot in shots
    ]


def _spiking(network: ChipNetwork) -> dict[str, int]:
    """Populations whose spikes are worth showing: a membrane readout never fires."""
    readout = network.readout
    return {
        population.name: population.size
        for population in network.populations
        if population.name != readout.population or readout.kind is ReadoutKind.SPIKES
    }


def _picture(observation: NDArray[Any], network: ChipNetwork, stacked: bool) -> NDArray[np.uint8]:
    """What people are shown of an observation; a row for what is no picture.

    Of a series it is the mean over its steps, of spikes their rate.
    """
    given = network.input
    if not given.held:
        mean = observation.astype(np.float64).mean(0) * (1 if given.payload_bits else 255)
        observation = mean.round().astype(given.dtype if given.payload_bits else np.uint8)
        if observation.ndim == 3 and observation.shape[1] == 1 and len(observation) > 1:
            # Channels of one row each.
            return _picture_of(observation[:, 0], False)
    return _picture_of(observation, stacked)


def _picture_of(observation: NDArray[Any], stacked: bool) -> NDArray[np.uint8]:
    if observation.dtype == np.int8:
        # Of an environment; it may draw a better one.
        observation = (observation.astype(np.int64) + 128).astype(np.uint8)
    if observation.ndim == 2:
        return observation.astype(np.uint8)
    if observation.ndim == 3:
        chosen = observation[-1] if stacked else observation.mean(0).round().astype(np.uint8)
        return chosen.copy()
    return np.atleast_2d(observation.reshape(-1)).copy()
