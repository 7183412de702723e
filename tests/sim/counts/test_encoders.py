from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtspark.core.chip_network import Encoder
from mtspark.core.errors import BadRequestError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.counts.encoders import EncoderCounter, with_encoder
from mtspark.sim.counts.totals import Counter, Split
from tests.support.networks import three_neurons

BOTH = np.array([0, 1])


def counter() -> EncoderCounter:
    """Two games, two decisions. A: (7, 1) then (7, 2); B: (0, 255) then (3, 0)."""
    found = EncoderCounter(three_neurons())
    found.add(np.array([[7, 1], [0, 255]], np.uint8), BOTH)
    found.add(np.array([[7, 2], [3, 0]], np.uint8), BOTH)
    return found


@pytest.mark.parametrize(
    ("encoder", "messages", "structural", "effective"),
    [
        # Nonzero values: A 2 + 2, B 1 + 1, each in both steps; input 0 three times, input 1 three.
        (Encoder.EVERY_STEP, 12, 24, 2 * (3 * 2 + 3 * 1)),
        (Encoder.HELD, 6, 12, 3 * 2 + 3 * 1),
        # First both whole (3 values: input 0 once), then A changes input 1, B both.
        (Encoder.CHANGES, 6, 12, 1 * 2 + 2 * 1 + 1 * 2 + 2 * 1),
    ],
)
def test_three_neurons_by_hand(
    encoder: Encoder, messages: int, structural: int, effective: int
) -> None:
    found = counter().result(encoder)
    assert (found.decisions, found.messages) == (4, messages)
    assert found.structural == {"input->hidden": structural}
    assert found.effective == {"input->hidden": effective}


def test_differences_are_to_the_last_frame_of_the_same_episode() -> None:
    """Episode 0 ends after one decision, so that 1 takes its place in the batch; 2 begins."""
    found = EncoderCounter(three_neurons())
    found.add(np.array([[7, 1], [0, 255]], np.uint8), BOTH)
    found.add(np.array([[0, 255]], np.uint8), np.array([1]))
    assert found.result(Encoder.CHANGES).messages == 3
    found.add(np.array([[0, 254], [0, 255]], np.uint8), np.array([1, 2]))
    assert found.result(Encoder.CHANGES).messages == 5
    assert found.result(Encoder.HELD).messages == 6
    assert found.result(Encoder.CHANGES).decisions == 5


def test_the_frame_encoder_is_what_the_chip_was_given() -> None:
    net = three_neurons()
    frames = np.array([[7, 1], [0, 255]], np.uint8)
    totals, encoders = Counter(net), EncoderCounter(net)
    totals.add(ReferenceChip(net).decide(frames, 0).activity)
    encoders.add(frames, BOTH)
    counts = totals.result()
    assert with_encoder(counts, encoders.result(Encoder.EVERY_STEP)) == counts
    held = with_encoder(counts, encoders.result(Encoder.HELD))
    assert held.input_events == Split(3, 0)
    assert held.layers[0].synops_structural == Split(6, 0)
    assert held.layers[1] == counts.layers[1]
    encoders.add(frames, BOTH)
    with pytest.raises(BadRequestError, match="2 decisions and an encoder of 4"):
        with_encoder(counts, encoders.result(Encoder.HELD))


def test_a_series_has_no_frame_to_hold() -> None:
    net = three_neurons()
    series = replace(net, input=replace(net.input, held=False))
    with pytest.raises(BadRequestError, match="series"):
        EncoderCounter(series)
