"""How a frame reaches the chip, and what each way costs.

All three put the same current into the first layer, so the network answers the same; they
differ in messages and in the operations of the connections that start at the input.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import Moment
from mtspark.core.chip_network import INPUT, ChipNetwork, Encoder, fan_out
from mtspark.core.errors import BadRequestError
from mtspark.sim.counts.totals import RunCounts, Split


@dataclass(frozen=True)
class EncoderCounts:
    """What one encoder sent over a run.

    Attributes:
        encoder: which.
        decisions: of the run.
        messages: values sent.
        structural, effective: synaptic operations by connection that starts at the input.
        sent: by value, of the input's shape.
    """

    encoder: Encoder
    decisions: int
    messages: int
    structural: dict[str, int]
    effective: dict[str, int]
    sent: NDArray[np.int64] = field(repr=False, compare=False)


class EncoderCounter:
    """An observer of the agent loop that counts all encoders at once.

    A series has one: it is sent step by step, as it holds no frame.

    Args:
        network: that decides.
        apart: decisions have nothing to do with each other, so that each is sent whole.

    Attributes:
        encoders: that are counted.
    """

    def __init__(self, network: ChipNetwork, *, apart: bool = False) -> None:
        self.network, self._apart = network, apart
        self.encoders = tuple(Encoder) if network.input.held else (Encoder.EVERY_STEP,)
        self._fans = {
            link.name: fan_out(link, network.input.shape)
            for link in network.connections
            if link.source == INPUT
        }
        self._decisions = 0
        self._sent = {encoder: np.zeros(network.input.shape, np.int64) for encoder in Encoder}
        self._last: dict[int, NDArray[np.uint8]] = {}

    def __call__(self, moment: Moment) -> None:
        """Count one decision; the first one of a game is sent whole."""
        self.add(moment.frames, moment.episodes)

    def add(self, frames: NDArray[np.uint8], episodes: NDArray[np.int64]) -> None:
        """Count one decision of each member of a batch.

        Args:
            frames: (batch, *input shape), or (batch, T, *input shape) of a series.
            episodes: (batch,) whose frames they are; differences are to its last frame.
        """
        self._decisions += len(frames)
        if not self.network.input.held:
            self._sent[Encoder.EVERY_STEP] += (frames != 0).sum((0, 1))
            return
        nonzero = (frames != 0).sum(0)
        self._sent[Encoder.EVERY_STEP] += nonzero * self.network.time_steps
        self._sent[Encoder.HELD] += nonzero
        if self._apart:
            self._sent[Encoder.CHANGES] += nonzero
            return
        for frame, episode in zip(frames, episodes.tolist(), strict=True):
            self._sent[Encoder.CHANGES] += frame != self._last.get(episode, 0)
            self._last[episode] = frame.copy()

    def result(self, encoder: Encoder) -> EncoderCounts:
        """What an encoder sent so far."""
        sent = self._sent[encoder]
        return EncoderCounts(
            encoder=encoder,
            decisions=self._decisions,
            messages=int(sent.sum()),
            structural={name: int((sent * fan).sum()) for name, (fan, _) in self._fans.items()},
            effective={name: int((sent * fan).sum()) for name, (_, fan) in self._fans.items()},
            sent=sent.copy(),
        )


def with_encoder(counts: RunCounts, sent: EncoderCounts) -> RunCounts:
    """The counts of a run as if its frames had been sent in another way.

    Raises:
        BadRequestError: the encoder was counted over another number of decisions.
    """
    if counts.decisions != sent.decisions:
        raise BadRequestError(
            f"a run of {counts.decisions} decisions and an encoder of {sent.decisions}"
        )
    connections = tuple(
        replace(
            link,
            synops_structural=Split(sent.structural[link.name], 0),
            synops_effective=Split(sent.effective[link.name], 0),
        )
        if link.name in sent.structural
        else link
        for link in counts.connections
    )
    layers = tuple(
        replace(
            layer,
            synops_structural=_sum(
                [link.synops_structural for link in connections if link.target == layer.name]
            ),
            synops_effective=_sum(
                [link.synops_effective for link in connections if link.target == layer.name]
            ),
        )
        for layer in counts.layers
    )
    return RunCounts(counts.decisions, Split(sent.messages, 0), layers, connections)


def _sum(splits: list[Split]) -> Split:
    return Split(sum(split.window for split in splits), sum(split.drain for split in splits))
