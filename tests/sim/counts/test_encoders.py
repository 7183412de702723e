from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtspark.core.chip_network import INPUT, Encoder
from mtspark.core.errors import BadRequestError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.counts.encoders import EncoderCounter, with_encoder
from mtspark.sim.counts.shares import ShareCounter
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
    """It is sent step by step: each nonzero value of each step is a message."""
    net = three_neurons()
    series = replace(net, input=replace(net.input, held=False))
    encoders = EncoderCounter(series)
    assert encoders.encoders == (Encoder.EVERY_STEP,)
    frames = np.zeros((2, net.time_steps, *net.input.shape), np.uint8)
    frames[0, 0], frames[1, :, 0] = 3, 1
    encoders.add(frames, BOTH)
    sent = encoders.result(Encoder.EVERY_STEP)
    assert (sent.messages, sent.decisions) == (int((frames != 0).sum()), 2)


def test_samples_are_each_sent_whole() -> None:
    net = three_neurons()
    frames = np.array([[1, 2], [1, 2], [0, 2]], np.uint8)
    apart, course = (EncoderCounter(net, apart=apart) for apart in (True, False))
    for one in (apart, course):
        one.add(frames, np.zeros(3, np.int64))
    assert apart.result(Encoder.CHANGES).messages == 5
    assert course.result(Encoder.CHANGES).messages == 3
    shares = ShareCounter(net)
    window = {name.name: np.zeros((3, name.size), np.int64) for name in net.populations}
    shares.add(window, frames, None)
    assert shares.changed_shares[INPUT].tolist() == [2 / 3, 1.0] == shares.shares[INPUT].tolist()
