"""The two sentences: does it work, what does it cost."""

from __future__ import annotations

import pytest

from mtspark.sim.report import Score
from mtspark.sim.verdict import Cost

PLAIN = Cost("Loihi 2", 12.34e-6)
FITS = Cost(
    "Loihi 2",
    12.34e-6,
    rival="int8 network",
    rival_j=456.7e-6,
    cores=17,
    chips=1,
    cores_per_chip=128,
    decision_us=310.0,
    deadline_us=66_667.0,
)
LATE = Cost(
    "Loihi 1",
    0.0123e-6,
    rival="int8 network",
    rival_j=0.0001e-6,
    hypothetical=("'a': 4 things, the limit is 3; take less", "more"),
    cores=300,
    chips=3,
    decision_us=70_000.0,
    deadline_us=66_667.0,
)


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (PLAIN, "A decision costs 12.3 µJ of dynamic energy on Loihi 2 (estimate)."),
        (
            FITS,
            "A decision costs 12.3 µJ of dynamic energy on Loihi 2 (estimate); the cheapest "
            "network without spikes, int8 network, costs more: 457 µJ. It fits one Loihi 2 (17 of "
            "128 cores), in real time: it takes 0.31 ms of the 66.7 ms until the next decision.",
        ),
        (
            LATE,
            "A decision costs 0.0123 µJ of dynamic energy on Loihi 1 (estimate); the cheapest "
            "network without spikes, int8 network, costs less: 0.0001 µJ. It does not fit 3 chips "
            "of Loihi 1: 'a': 4 things, the limit is 3 (and 1 more), not in real time: it takes "
            "70 ms, and the next decision is due in 66.7 ms.",
        ),
    ],
)
def test_what_a_decision_costs(cost: Cost, words: str) -> None:
    assert cost.sentence() == words
    assert Cost.from_json(cost.to_json()) == cost


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (
            Score("return", "pong", 18.0, 14.4, None, 30),
            "pong: the chip scores 18 over 30 games, the float network 14.4.",
        ),
        (
            Score("return", "pong", -20.5, None, None, 1, cut_off=1),
            "pong: the chip scores -20.5 over 1 game; it was cut off.",
        ),
        (
            Score("return", "pong", 3.0, None, 0.5, 4, cut_off=2),
            "pong: the chip scores 3 over 4 games; 2 of them were cut off.",
        ),
        (
            Score("accuracy", "default", 0.75, 0.8, 0.9, 40, "x.npy", (0.6, 0.85)),
            "The chip names 75.0% of 40 samples of x.npy rightly (95 %: 60.0% to 85.0%), the float "
            "network 80.0%; both give the same answer to 90.0%.",
        ),
    ],
)
def test_how_well_it_works(score: Score, words: str) -> None:
    assert score.sentence == words
