"""The two sentences: does it work, what does it cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mtspark.sim.report import Score, scores_sentence
from mtspark.sim.verdict import Cost, costs_sentence

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
    late_because="42 ms of it host input values",
)
PRICED = Cost("45 nm", 3.02e-12, "int8 network", 4.0e-8)
PLACED = replace(FITS, chip="45 nm", place="Loihi 2", rival="", rival_j=None, deadline_us=None)


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (PLAIN, "A decision costs 12.3 µJ of dynamic energy on Loihi 2 (estimate)."),
        (
            FITS,
            "A decision costs 12.3 µJ of dynamic energy on Loihi 2 (estimate); the cheapest "
            "network without spikes, int8 network, costs more: 457 µJ; the spiking one fits one "
            "Loihi 2 (17 of 128 cores), in real time: it takes 0.31 ms of the 66.7 ms until "
            "the next decision.",
        ),
        (
            LATE,
            "A decision costs 0.0123 µJ of dynamic energy on Loihi 1 (estimate); the cheapest "
            "network without spikes, int8 network, costs less: 0.0001 µJ; the spiking one does not "
            "fit 3 chips of Loihi 1: 'a': 4 things, the limit is 3 (and 1 more), not in real time: "
            "it takes 70 ms (42 ms of it host input values), and the next decision is due in "
            "66.7 ms.",
        ),
        (
            PRICED,
            "A decision costs 0.00000302 µJ of dynamic energy on 45 nm (estimate); the cheapest "
            "network without spikes, int8 network, costs more: 0.04 µJ; its card is of no chip "
            "that it could fit.",
        ),
        (
            PLACED,
            "A decision costs 12.3 µJ of dynamic energy on 45 nm (estimate); its card prices no "
            "network without spikes; the spiking one fits one Loihi 2 (17 of 128 cores), and it "
            "would take 0.31 ms.",
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


def test_several_tasks_are_one_sentence_each() -> None:
    pong = Score("return", "pong", 18.0, 14.4, 0.97, 30, sticky=0.0)
    sticky = Score("return", "pong", 12.0, 11.0, 0.95, 30, sticky=0.25)
    digits = Score("accuracy", "mnist", 0.981, None, 0.9997, 30, cut_off=2)
    assert scores_sentence([pong, sticky]) == (
        "pong: the chip scores 18 over 30 games, the float network 14.4; both give the same action "
        "to 97.0%; with sticky actions 0.25 it scores 12, the float network 11; both give the same "
        "action to 95.0%."
    )
    assert scores_sentence([pong, sticky, digits]) == (
        "The chip scores 18 (14.4) in pong, 12 (11) with sticky actions 0.25 and 98.1% in mnist; "
        "over 30 games or samples each; in brackets the float network's; both answer the same to "
        "95.0% at least; 2 of them were cut off."
    )
    single = [replace(score, count=1) for score in (pong, digits)]
    assert "; over one game or sample each; " in scores_sentence(single)
    late = replace(LATE, dynamic_j=2e-6)
    assert costs_sentence({"a": FITS, "b": late}) == (
        "A decision costs 12.3 µJ in a and 2 µJ in b of dynamic energy on Loihi 1 (estimate); the "
        "cheapest networks without spikes cost 457 µJ and 0.0001 µJ; the spiking one does not fit "
        "3 chips of Loihi 1: 'a': 4 things, the limit is 3 (and 1 more), not in real time: it "
        "takes 70 ms (42 ms of it host input values), and the next decision is due in 66.7 ms."
    )


def test_numbers_are_the_same_within_a_part_of_their_range() -> None:
    score = Score("return", "pendulum", -150.0, -149.0, 0.9999, 5, numbers=True)
    assert score.sentence == (
        "pendulum: the chip scores -150 over 5 games, the float network -149; both give the same "
        "action (within 5 % of its range) to 99.99%."
    )
    assert "numbers" not in replace(score, numbers=False).to_json()
