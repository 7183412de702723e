from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtspark.core.errors import BadRequestError
from mtspark.sim.hil.faults import FaultKind, Faults
from mtspark.sim.hil.options import Jitter
from mtspark.sim.hil.timing import (
    Answer,
    FaultSchedule,
    Question,
    Reply,
    SimulatedTransport,
    Tally,
    Timing,
)

FRAME = np.zeros((1, 1, 1), np.uint8)
PERIOD = 4 / 60


class Chip:
    def __init__(self) -> None:
        self.asked: list[int] = []
        self.deaths: list[int] = []

    def ask(self, question: Question) -> Reply:
        self.asked.append(question.decision)
        return Reply(np.array([float(question.decision)]), 0.05)

    def kill(self) -> None:
        self.deaths.append(len(self.asked))


def run(
    timing: Timing, decisions: int, faults: Faults | None = None, away_s: float = 0.2
) -> tuple[dict[int, tuple[float, int]], Tally, Chip]:
    """Arrival and first frame of each answer; what became of the others."""
    chip, tally = Chip(), Tally()
    schedule = FaultSchedule(faults or Faults(), 5, away_s)
    transport = SimulatedTransport(timing, schedule, chip.ask, chip.kill, tally)
    arrived: dict[int, tuple[float, int]] = {}

    def note(answers: list[Answer], frame: int) -> None:
        for answer in answers:
            tally.answered(answer, PERIOD)
            arrived[answer.decision] = (answer.arrived_s, frame)

    for frame in range(4 * decisions):
        if frame % 4 == 0:
            transport.send(frame // 4, frame / 60, FRAME)
        note(transport.collect(frame / 60), frame)
    tally.pending = transport.unfinished()
    return arrived, tally, chip


def test_without_latency_every_answer_is_there_at_once() -> None:
    arrived, tally, _ = run(Timing(), 5)
    assert [frame for _, frame in arrived.values()] == [0, 4, 8, 12, 16]
    assert (tally.in_time, tally.late, tally.skipped, tally.pending) == (5, 0, 0, 0)


@pytest.mark.parametrize(
    ("timing", "frames_later"),
    [
        (Timing(chip_ms=1.377), 1),
        (Timing(chip_ms=16.6), 1),
        (Timing(chip_ms=17), 2),
        (Timing(chip_ms=50), 3),
        (Timing(input_ms=10, chip_ms=20, output_ms=20), 3),
        (Timing(chip_ms=10, io_step_ms=100 / 3), 2),
    ],
)
def test_an_action_counts_from_the_frame_that_begins_after_it_came(
    timing: Timing, frames_later: int
) -> None:
    arrived, tally, _ = run(timing, 6)
    assert all(frame - 4 * decision == frames_later for decision, (_, frame) in arrived.items())
    assert (tally.late, tally.skipped) == (0, 0)


def test_a_busy_chip_takes_the_newest_observation_when_it_is_free() -> None:
    # By hand, in periods of 66.7 ms: works on 0 in 0..1.5, on 1 in 1.5..3, where 3 arrives but
    # 2 was first to wait, on 2 in 3..4.5, on 4 in 4.5..6 (3 was replaced), then on 5.
    arrived, tally, chip = run(Timing(chip_ms=100), 9)
    assert chip.asked[:5] == [0, 1, 2, 4, 5]
    assert arrived[1][0] == pytest.approx(3 * PERIOD)
    assert arrived[4][0] == pytest.approx(6 * PERIOD)
    assert tally.skipped == 2
    assert tally.in_time == 0


def test_a_pipeline_takes_all_of_them() -> None:
    arrived, tally, chip = run(Timing(chip_ms=100, overlap=True), 9)
    assert chip.asked == list(range(9))
    assert all(time == pytest.approx(d * PERIOD + 0.1) for d, (time, _) in arrived.items())
    assert (tally.skipped, tally.late, tally.pending) == (0, 8, 1)


def test_a_measured_latency_is_what_the_simulation_took() -> None:
    arrived, _, _ = run(Timing(chip_ms=0, measured=True), 3)
    assert [frame for _, frame in arrived.values()] == [3, 7, 11]


def test_lost_messages_are_missing() -> None:
    lost = Faults({FaultKind.LOST_MESSAGES: 0.3}, seed=1)
    arrived, tally, chip = run(Timing(), 400, lost)
    # Two messages a decision: 51 % lose one; frames that are lost never reach the chip.
    assert tally.missing == 400 - len(arrived)
    assert 0.4 < tally.missing / 400 < 0.62
    assert 0.6 < len(chip.asked) / 400 < 0.8
    again, _, _ = run(Timing(), 400, lost)
    assert again == arrived
    other, _, _ = run(Timing(), 400, Faults({FaultKind.LOST_MESSAGES: 0.3}, seed=2))
    assert set(other) != set(arrived)
    fewer, _, _ = run(Timing(), 400, Faults({FaultKind.LOST_MESSAGES: 0.1}, seed=1))
    assert set(arrived) < set(fewer)


def test_a_dead_chip_misses_what_comes_until_it_is_back() -> None:
    faults = Faults({FaultKind.CHIP_DEATH: 0.05}, seed=4)
    schedule = FaultSchedule(faults, 5)
    first = next(d for d in range(1000) if schedule.chip_dies(d))
    arrived, tally, chip = run(Timing(chip_ms=10), first + 6, faults, away_s=0.2)
    # Gone for three periods: the decision that it died in, and the next two.
    assert [d for d in range(first + 6) if d not in arrived] == [first, first + 1, first + 2]
    assert (tally.missing, tally.deaths, chip.deaths) == (3, 1, [first])


def test_a_death_empties_the_pipeline() -> None:
    faults = Faults({FaultKind.CHIP_DEATH: 0.05}, seed=4)
    first = next(d for d in range(1000) if FaultSchedule(faults, 5).chip_dies(d))
    arrived, _, _ = run(Timing(chip_ms=150, overlap=True), first + 8, faults, away_s=0.0)
    # 150 ms are 2.25 periods: the two before it were still being worked on.
    assert [d for d in range(first + 5) if d not in arrived] == [first - 2, first - 1, first]


@pytest.mark.parametrize("kind", list(Jitter))
def test_jitter_repeats_and_is_never_negative(kind: Jitter) -> None:
    timing = Timing(jitter_ms=10, jitter=kind, seed=3)
    drawn = [timing.jitter_s(0, decision) for decision in range(2000)]
    assert drawn == [timing.jitter_s(0, decision) for decision in range(2000)]
    assert drawn != [timing.jitter_s(1, decision) for decision in range(2000)]
    assert min(drawn) >= 0
    mean = {Jitter.UNIFORM: 5, Jitter.EXPONENTIAL: 10, Jitter.NORMAL: 10 * (2 / np.pi) ** 0.5}
    assert 1000 * np.mean(drawn) == pytest.approx(mean[kind], rel=0.08)
    if kind is Jitter.UNIFORM:
        assert max(drawn) <= 0.01


@given(
    timing=st.builds(
        Timing,
        input_ms=st.floats(0, 150),
        chip_ms=st.floats(0, 400),
        output_ms=st.floats(0, 150),
        jitter_ms=st.floats(0, 200),
        jitter=st.sampled_from(list(Jitter)),
        io_step_ms=st.sampled_from([0.0, 1.0, 8.0, 100.0]),
        overlap=st.booleans(),
    ),
    lost=st.sampled_from([0.0, 0.2, 1.0]),
    death=st.sampled_from([0.0, 0.1]),
)
def test_every_observation_has_one_fate(timing: Timing, lost: float, death: float) -> None:
    faults = Faults({FaultKind.LOST_MESSAGES: lost, FaultKind.CHIP_DEATH: death})
    arrived, tally, chip = run(timing, 60, faults)
    fates = tally.in_time + tally.late + tally.skipped + tally.missing + tally.pending
    assert fates == 60
    assert tally.in_time + tally.late == len(arrived)
    least = (timing.input_ms + timing.chip_ms + timing.output_ms) / 1000
    for decision, (time, frame) in arrived.items():
        assert time >= decision * PERIOD + least - 1e-6
        # Taken at the first frame that begins after it came.
        assert frame / 60 >= time - 1e-6 > (frame - 1) / 60 - 2e-6
    assert chip.asked == sorted(chip.asked)
    assert len(set(chip.asked)) == len(chip.asked)


@pytest.mark.parametrize(
    "changes", [{"chip_ms": -1}, {"input_ms": float("nan")}, {"jitter_ms": 1e9}]
)
def test_times_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match="can be simulated"):
        Timing(**changes)
