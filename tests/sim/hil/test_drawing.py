"""Actions that are drawn, with the chip in the loop: those that the agent loop draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

from mtspark.core.backend import Activity, Decision, Moment
from mtspark.core.chip_network import INPUT, ChipNetwork
from mtspark.core.environments import Environment, Sampling, Task, world_task
from mtspark.core.errors import BadRequestError
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.hil import loop as hil
from mtspark.sim.hil.faults import FaultKind, Faults
from mtspark.sim.hil.loop import FrameMoment, HilEpisode, Loop, play_hil
from mtspark.sim.hil.results import Point, Setting, StoredPoint
from mtspark.sim.hil.timing import Timing
from mtspark.sim.play import play
from mtspark.workflows.hil.elsewhere import _loop_of, point_job
from mtspark.workflows.hil.request import HilRequest
from mtspark.workflows.hil.verdict import verdict
from tests.support.hil_agent import LocalChip, changes_network, favour, pong_network
from tests.support.networks import dense, network, population
from tests.support.worlds import cartpole, register_door

SAMPLING = Sampling(11, 3.0)


def agent_of(task: Task, outputs: int) -> ChipNetwork:
    """Random weights, and values of which those of a decision differ by about 1."""
    assert task.environment is not None
    size, generator = task.environment.found.size, np.random.default_rng(2)
    net = network(
        (1, size, 1),
        [
            population("hidden", np.full((1, 9), 4000), membrane_decay=1024),
            population("out", np.full((1, outputs), 131_071), membrane_decay=0),
        ],
        [
            dense(INPUT, "hidden", 2 * generator.integers(-60, 61, (9, size))),
            dense("hidden", "out", 2 * generator.integers(-9, 10, (outputs, 9))),
        ],
        payload_bits=8,
        signed=task.environment.found.kind == "box",
        time_steps=3,
        tasks=(task,),
    )
    return replace(of_values(net), protocol=None)


def of_values(net: ChipNetwork) -> ChipNetwork:
    """Scale the readout, so that values of different frames differ by about 1."""
    frames = np.random.default_rng(3).integers(0, 100, (20, *net.input.shape))
    values = ReferenceChip(net).decide(frames.astype(net.input.dtype), 0).values
    scale = np.full(values.shape[1:], 1 / values.std())
    return replace(net, readout=replace(net.readout, scale=scale))


def pendulum(delay: int) -> Task:
    """Takes numbers, drawn with a deviation of 0.4."""
    task = world_task(Environment("Pendulum-v1", decision_delay=delay, decisions_per_s=20.0))
    environment = task.environment
    assert environment is not None
    assert environment.box is not None
    size = environment.found.size
    seen = replace(environment.found, mean=(0.0,) * size, deviation=(1.0,) * size)
    box = replace(environment.box, deviation=(0.4,))
    return replace(task, environment=replace(environment, observation=seen, box=box))


@pytest.fixture
def door() -> Iterator[Task]:
    register_door()
    yield world_task(Environment("Door-v0"))
    gymnasium.registry.pop("Door-v0")


def looped(
    net: ChipNetwork, loop: Loop, *, seed: int = 4, **more: Any
) -> tuple[HilEpisode, list[FrameMoment]]:
    """Play one game with the reference as the chip."""
    moments: list[FrameMoment] = []
    reference = ReferenceChip(net)
    chip: Any = LocalChip(lambda frame, _: reference.decide(frame[None], 0).values[0].reshape(-1))
    task = net.tasks[0].name
    (episode,) = play_hil(
        chip, net, task, loop, episodes=1, seed=seed, observe=moments.append, **more
    )
    return episode, moments


def same_as_run(net: ChipNetwork, latency_ms: float, decisions: int, seed: int = 4) -> None:
    """The game is that of the agent loop, with the same draws; and it is another one without."""
    task = net.tasks[0]
    delay = 0 if task.environment is None else task.environment.decision_delay
    timing = Timing(chip_ms=latency_ms)
    loop = Loop(timing=timing, max_decisions=decisions, sampling=SAMPLING)
    seen: list[Moment] = []
    options: dict[str, Any] = {"episodes": 1, "seed": seed, "max_decisions": decisions}
    run = play(
        *(ReferenceChip(net), net, task.name),
        **options,
        sampling=SAMPLING,
        observe=seen.append,
    )
    episode, moments = looped(net, loop, seed=seed)
    pressed = [np.asarray(moment.action) for moment in moments]
    chosen = [moment.actions[0] for moment in seen]
    np.testing.assert_array_equal(pressed[delay:], chosen[: len(chosen) - delay])
    for ours, theirs in zip(moments, seen, strict=True):
        np.testing.assert_array_equal(ours.frame, theirs.frames[0])
    assert episode.score == pytest.approx(run.episodes[0].score, abs=1e-9)
    best = play(ReferenceChip(net), net, task.name, **options).episodes[0].actions
    assert best != run.episodes[0].actions


def test_without_latency_actions_of_a_list_are_those_of_the_agent_loop() -> None:
    same_as_run(agent_of(cartpole(), 2), 0.0, 30)


@pytest.mark.parametrize("latency_ms", [0.0, 20.0, 50.0])
def test_with_a_decision_delay_numbers_are_those_of_the_agent_loop(latency_ms: float) -> None:
    same_as_run(agent_of(pendulum(1), 1), latency_ms, 15)


def test_numbers_are_drawn_without_a_decision_delay_too() -> None:
    same_as_run(agent_of(pendulum(0), 1), 0.0, 15)


def test_of_actions_that_an_environment_allows_the_same_is_drawn(door: Task) -> None:
    """The environment fails at any other."""
    same_as_run(agent_of(door, 3), 0.0, 12, seed=7)


@pytest.mark.slow
def test_a_game_of_ale_draws_the_same_too() -> None:
    same_as_run(of_values(pong_network()), 0.0, 12)


def test_each_observation_has_its_draw_whenever_its_answer_comes() -> None:
    """By plain NumPy; two answers in three are lost or skipped, and draws stay in their places."""
    net, values = agent_of(cartpole(), 2), np.array([0.3, 0.0])
    drawing = Sampling(5, 0.7)
    moments: list[FrameMoment] = []
    chip: Any = LocalChip(lambda frame, _: values)
    loop = Loop(timing=Timing(chip_ms=50.0), max_decisions=30, sampling=drawing)
    answered: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        press = hil._Button.press

        def note(button: Any, answers: list[Any], frame: int) -> None:
            answered.extend((frame, answer.decision) for answer in answers)
            press(button, answers, frame)

        patch.setattr(hil._Button, "press", note)
        patch.setattr(hil.WorldGame, "act", lambda game, action: (0.0, False))
        list(play_hil(chip, net, "CartPole-v1", loop, episodes=1, seed=8, observe=moments.append))
    assert [decision for _, decision in answered][:4] == [0, 2, 4, 7]
    noise = np.random.default_rng([5, 8]).gumbel(size=(30, 2))
    drawn = (values / 0.7 + noise).argmax(1)
    wanted = [0] * 30
    for frame, decision in answered:
        wanted[frame:] = [int(drawn[decision])] * (30 - frame)
    assert [moment.action for moment in moments] == wanted
    assert len(set(wanted)) == 2


def test_a_lost_answer_leaves_the_draws_of_the_others_alone() -> None:
    net, values = agent_of(cartpole(), 2), np.array([0.3, 0.0])
    faults = Faults({FaultKind.LOST_MESSAGES: 0.3}, seed=2)
    pressed = []
    for broken in (Faults(), faults):
        moments: list[FrameMoment] = []
        chip: Any = LocalChip(lambda frame, _: values)
        loop = Loop(faults=broken, max_decisions=12, sampling=Sampling(5, 0.7))
        (episode,) = play_hil(
            chip, net, "CartPole-v1", loop, episodes=1, seed=8, observe=moments.append
        )
        pressed.append([moment.action for moment in moments])
    assert 0 < episode.tally.missing < len(pressed[1])
    # Where an answer came it is the one that comes without losses; else what was pressed stays.
    for number, action in enumerate(pressed[1]):
        before = pressed[1][number - 1] if number else 0
        assert action in (pressed[0][number], before)
    different = sum(a != b for a, b in zip(*pressed, strict=False))
    assert 0 < different < episode.tally.missing


class Same:
    """A judge that answers like the chip."""

    name = "same"

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def start(self, batch: int) -> None: ...

    def decide(self, frames: np.ndarray, task: int, *, trace: bool = False) -> Any:
        return Decision(self.values[None], Activity())


@pytest.mark.slow
def test_what_is_compared_is_the_best_action_and_not_the_draw() -> None:
    """A chip that answers right never differs, one that is wrong always does."""
    net = changes_network()
    lost = Faults({FaultKind.LOST_CHANGES: 0.01})
    for favoured, differing in ((3, 0), (4, 10)):
        chip: Any = LocalChip(lambda frame, _: favour(3))
        judge: Any = Same(favour(favoured))
        loop = Loop(faults=lost, max_decisions=10, sampling=Sampling(1, 1000.0))
        moments: list[FrameMoment] = []
        (episode,) = play_hil(
            *(chip, net, "pong", loop),
            episodes=1,
            seed=0,
            observe=moments.append,
            judge=judge,
        )
        assert episode.tally.differing == differing
        assert len({moment.action for moment in moments}) > 2


def test_numbers_without_a_deviation_cannot_be_drawn() -> None:
    task = pendulum(0)
    assert task.environment is not None
    assert task.environment.box is not None
    box = replace(task.environment.box, deviation=())
    net = agent_of(replace(task, environment=replace(task.environment, box=box)), 1)
    with pytest.raises(BadRequestError, match="does not say by which deviation"):
        looped(net, Loop(max_decisions=2, sampling=Sampling(1)))


def test_a_point_says_how_its_actions_were_drawn_and_goes_on_only_so() -> None:
    plain, drawn = Setting(None, Loop()), Setting(None, Loop(sampling=Sampling(3, 2.0)))
    assert "sampling" not in plain.to_json()
    assert drawn.to_json()["sampling"] == {"seed": 3, "temperature": 2.0}
    for here in (plain, drawn):
        stored = StoredPoint(here.to_json())
        for there in (plain, drawn, Setting(None, Loop(sampling=Sampling(4, 2.0)))):
            assert stored.has_setting(there) == (here is there)


def test_a_worker_plays_with_the_same_draws() -> None:
    setting = Setting(None, Loop(sampling=Sampling(3, 2.0)))
    request = HilRequest("pong", setting.loop)
    package: Any = object()
    job = point_job(request, setting, package)
    assert _loop_of(job.arguments["loop"]) == setting.loop


def test_the_verdict_names_the_command_that_plays_the_same_games() -> None:
    net = agent_of(cartpole(), 2)
    for sampling, words in (
        (None, "`mtspark run`"),
        (Sampling(3), "`mtspark run --sample 3`"),
        (Sampling(3, 2.5), "`mtspark run --sample 3 --temperature 2.5`"),
    ):
        loop = Loop(max_decisions=3, sampling=sampling)
        episode, _ = looped(net, loop)
        point = Point(Setting(None, loop), "reference", (episode,), None)
        text = verdict([point.to_json()], decision_delay=None, deadline_ms=20.0, varied=None)
        assert f"the games are those of {words}, which waits" in text
