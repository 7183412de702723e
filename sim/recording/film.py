"""Some seconds of play to look at: frames, the spikes of every chip step, actions, values."""

from __future__ import annotations

import base64
import io
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import Moment
from mtspark.core.chip_network.network import ChipNetwork, ReadoutKind

AFTER_A_POINT = 12
"""Decisions that are still shown after a scored point."""

ROWS = 96
"""Neurons of a population that a raster shows at most, evenly spaced."""


@dataclass(frozen=True)
class Shot:
    """One decision of the first game.

    Attributes:
        number: of the decision in its episode, from 0.
        observation: uint8 of the input's shape, what the chip was shown.
        frame: uint8 (height, width), of it what people are shown.
        rasters: by population, bool (steps, shown neurons).
        spikes: by population, all spikes of each step, (steps,).
        values: of all actions.
        action, reward, score: chosen, received, and the score so far.
    """

    number: int
    observation: NDArray[np.uint8]
    frame: NDArray[np.uint8]
    rasters: dict[str, NDArray[np.bool_]]
    spikes: dict[str, NDArray[np.int64]]
    values: NDArray[np.float64]
    action: int
    reward: float
    score: float


class FilmRecorder:
    """An observer of the agent loop that keeps some seconds of the first game.

    It keeps those around the largest reward, the first of equals that has enough before it;
    without any, the last ones. Decisions need a trace.

    Args:
        network: that plays.
        keep: decisions.
        stacked: the channels of an observation are frames, the newest one last; otherwise they
            are the colours of one picture, of which the mean is shown.
    """

    def __init__(self, network: ChipNetwork, keep: int, *, stacked: bool = True) -> None:
        self.network = network
        self._stacked = stacked
        self.shown = {
            name: np.unique(np.linspace(0, size - 1, min(size, ROWS)).round().astype(np.int64))
            for name, size in _spiking(network).items()
        }
        self._recent: deque[Shot] = deque(maxlen=keep)
        self._best: list[Shot] = []
        self._best_reward = 0.0
        self._wait = -1
        self._awaited = 0.0
        self._score, self._number = 0.0, 0

    def __call__(self, moment: Moment) -> None:
        """Keep one decision of the first episode."""
        trace = moment.decision.trace
        if moment.episodes[0] or trace is None:
            return
        reward = float(moment.rewards[0])
        self._score += reward
        flat = {
            name: trace.spikes[name][:, 0].reshape(len(trace.spikes[name]), -1)
            for name in self.shown
        }
        self._recent.append(
            Shot(
                number=self._number,
                observation=moment.frames[0].copy(),
                frame=_picture(moment.frames[0], self._stacked),
                rasters={name: flat[name][:, rows] for name, rows in self.shown.items()},
                spikes={name: spikes.sum(1) for name, spikes in flat.items()},
                values=moment.decision.values[0].copy(),
                action=int(moment.actions[0]),
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
        """What was kept, in order."""
        return self._best or list(self._recent)


def _spiking(network: ChipNetwork) -> dict[str, int]:
    """Populations whose spikes are worth showing: a membrane readout never fires."""
    readout = network.readout
    return {
        population.name: population.size
        for population in network.populations
        if population.name != readout.population or readout.kind is ReadoutKind.SPIKES
    }


def _picture(observation: NDArray[np.uint8], stacked: bool) -> NDArray[np.uint8]:
    """What people are shown of an observation; a row for what is no picture."""
    if observation.ndim == 3:
        chosen = observation[-1] if stacked else observation.mean(0).round().astype(np.uint8)
        return chosen.copy()
    return np.atleast_2d(observation.reshape(-1)).copy()


def sprite_sheet(shots: list[Shot], columns: int) -> str:
    """All frames side by side in one lossless picture, as a data URI."""
    height, width = shots[0].frame.shape
    rows = -(-len(shots) // columns)
    sheet = np.zeros((rows * height, columns * width), np.uint8)
    for index, shot in enumerate(shots):
        row, column = divmod(index, columns)
        place = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
        sheet[place] = shot.frame
    return _png(sheet, "L")


def video(shots: list[Shot], frames_per_second: float, scale: int = 3) -> str:
    """An animated WebP of the frames, as a data URI."""
    from PIL import Image

    frames = [
        Image.fromarray(np.kron(shot.frame, np.ones((scale, scale), np.uint8)), "L").convert("RGB")
        for shot in shots
    ]
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 / frames_per_second),
        loop=0,
        quality=45,
        method=4,
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def raster(shots: list[Shot], population: str, colour: str) -> str:
    """Spikes of a population as a picture: a column a chip step, a row a shown neuron."""
    spikes = np.concatenate([shot.rasters[population] for shot in shots]).T
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    # Wider than a step, so that a spike is still seen where the page shrinks the picture.
    once = spikes.copy()
    for further in (1, 2):
        spikes[:, further:] |= once[:, :-further]
    picture = np.zeros((*spikes.shape, 4), np.uint8)
    picture[spikes] = (red, green, blue, 255)
    return _png(picture, "RGBA")


def _png(pixels: NDArray[Any], mode: str) -> str:
    from PIL import Image

    picture = Image.fromarray(pixels, mode)
    if mode == "RGBA":
        # Two colours: nothing and a spike.
        picture = picture.quantize(2)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
