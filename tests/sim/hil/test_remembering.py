"""Agents whose state survives decisions, with the chip in the loop: whose state it is, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import msgpack
import numpy as np
import pytest

from mtspark.core.backend import Moment
from mtspark.core.chip_network import INPUT, ChipNetwork, Encoder
from mtspark.core.environments import Environment, Task, world_task
from mtspark.core.errors import BadRequestError
from mtspark.deploy.bundle import Bundle, write_bundle
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.hil import host as hosts
from mtspark.sim.hil import loop as hil
from mtspark.sim.hil.chip import Chip, check_state
from mtspark.sim.hil.faults import FaultKind, Faults, FaultyChip, break_network
from mtspark.sim.hil.host import HostedChip
from mtspark.sim.hil.loop import FrameMoment, HilEpisode, Loop, play_hil
from mtspark.sim.hil.options import ChipBackend
from mtspark.sim.hil.order import ChipOrder
from mtspark.sim.hil.protocol import (
    ASKED,
    BadPeerError,
    Change,
    Decide,
    Decided,
    Forgotten,
    Hello,
    Step,
    Unknown,
    decode,
    encode,
)
from mtspark.sim.hil.sender import Sender
from mtspark.sim.hil.timing import Reply, Timing
from mtspark.sim.hil.told import Told
from mtspark.sim.play import play
from tests.sim.hil.test_process import KEY, reserved, served, soon
from tests.support.hil_threads import ThreadedChip, WatchedChip
from tests.support.networks import dense, network, population
from tests.support.worlds import HIDDEN, register_hidden


@pytest.fixture(autouse=True)
def hidden() -> Iterator[None]:
    register_hidden()
    yield
    gymnasium.registry.pop(HIDDEN)


def task_of(delay: int) -> Task:
    task = world_task(Environment(HIDDEN, decision_delay=delay))
    assert task.environment is not None
    size = task.environment.found.size
    seen = replace(
        task.environment.found,
        mean=(0.0,) * size,
        deviation=(0.05, 0.05, *(1.0,) * (size - 2)),
    )
    return replace(task, environment=replace(task.environment, observation=seen))


def agent(delay: int = 0, encoder: Encoder = Encoder.EVERY_STEP) -> ChipNetwork:
    """Random weights and a loop; what it answers depends on what it saw some decisions ago."""
    task = task_of(delay)
    assert task.environment is not None
    size, generator = task.environment.found.size, np.random.default_rng(6)
    net = network(
        (1, size, 1),
        [
            population("hidden", np.full((1, 12), 900), membrane_decay=700),
            population("out", np.full((1, 2), 131_071), membrane_decay=900),
        ],
        [
            dense(INPUT, "hidden", 2 * generator.integers(-20, 21, (12, size))),
            dense("hidden", "out", 2 * generator.integers(-60, 61, (2, 12))),
        ],
        payload_bits=8,
        signed=True,
        time_steps=1,
        tasks=(task,),
    )
    net = replace(net, stateful=True, protocol=None)
    # Brings what they sent one decision ago, see docs/design.md.
    loop = dense(
        "hidden",
        "hidden",
        2 * generator.integers(-60, 61, (12, 12)),
        recurrent=True,
        delay=net.depth,
    )
    return replace(
        net,
        connections=(*net.connections, loop),
        input=replace(net.input, held=True, encoder=encoder),
    )


DEATH = FaultKind.CHIP_DEATH
Host = Callable[..., tuple[HostedChip, list[Any]]]


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> Host:
    """Make a host whose chips live in threads, and the list of what they decide."""

    def make(net: ChipNetwork, faults: Faults | None = None) -> tuple[HostedChip, list[Any]]:
        heard: list[Any] = []

        def start(order: ChipOrder) -> ThreadedChip:
            chip = WatchedChip(heard, net, "hash", ChipBackend.REFERENCE, order.faults)
            before = len(heard)
            chip.warm_up(order.task)
            del heard[before:]
            return ThreadedChip(chip)

        monkeypatch.setattr(hosts, "ChipProcess", start)
        order = ChipOrder("", "hash", HIDDEN, ChipBackend.REFERENCE, faults or Faults())
        return HostedChip("hash", order=order), heard

    return make


def looped(
    chip: Any, net: ChipNetwork, loop: Loop, *, seed: int = 0, **more: Any
) -> tuple[HilEpisode, list[FrameMoment]]:
    moments: list[FrameMoment] = []
    (episode,) = play_hil(
        chip, net, HIDDEN, loop, episodes=1, seed=seed, observe=moments.append, **more
    )
    return episode, moments


@pytest.mark.parametrize(
    ("delay", "latency_ms", "encoder"),
    [
        (0, 0.0, Encoder.EVERY_STEP),
        (0, 0.0, Encoder.CHANGES),
        (1, 0.0, Encoder.EVERY_STEP),
        (1, 13.0, Encoder.CHANGES),
        (1, 20.0, Encoder.EVERY_STEP),
    ],
)
def test_below_the_border_it_is_the_game_of_the_agent_loop(
    hosted: Host, delay: int, latency_ms: float, encoder: Encoder
) -> None:
    """Two games on one chip, decision for decision, with every spike and membrane."""
    net, decisions = agent(delay, encoder), 12
    chip, heard = hosted(net)
    with chip:
        for seed in (3, 4):
            seen: list[Moment] = []
            options: dict[str, Any] = {"episodes": 1, "seed": seed, "max_decisions": decisions}
            run = play(
                *(ReferenceChip(net), net, HIDDEN), **options, observe=seen.append, trace=True
            )
            heard.clear()
            loop = Loop(timing=Timing(chip_ms=latency_ms), max_decisions=decisions)
            episode, moments = looped(chip, net, loop, seed=seed)
            asked = [one for one in heard if one is not None]
            for ours, (question, trace), theirs in zip(moments, asked, seen, strict=False):
                np.testing.assert_array_equal(ours.frame, theirs.frames[0])
                assert question.decision == ours.decision
                assert theirs.decision.trace is not None
                for name, membranes in theirs.decision.trace.membranes.items():
                    np.testing.assert_array_equal(trace.membranes[name], membranes)
            assert len(asked) >= run.episodes[0].decisions - delay
            pressed = [moment.action for moment in moments]
            wanted = run.episodes[0].actions
            assert tuple(pressed[delay:]) == wanted[: len(wanted) - delay]
            assert episode.score == run.episodes[0].score
            assert episode.to_json()["states_lost"] == 0
    # It does remember: without its state it plays another game.
    forgets = replace(net, stateful=False, input=replace(net.input, encoder=Encoder.EVERY_STEP))
    forgets = replace(forgets, connections=forgets.connections[:2])
    assert play(ReferenceChip(forgets), net, HIDDEN, **options).episodes[0].actions != wanted


def expected_course(
    net: ChipNetwork, heard: list[Any], rests: set[int], frames: list[np.ndarray]
) -> None:
    """What a reference decides on the same observations, at rest where `rests` says."""
    reference = ReferenceChip(net)
    for question, trace in [one for one in heard if one is not None]:
        if question.decision in rests:
            reference.start(1)
        wanted = reference.decide(frames[question.decision][None], 0, trace=True).trace
        assert wanted is not None
        for name, membranes in wanted.membranes.items():
            np.testing.assert_array_equal(trace.membranes[name], membranes)


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pole that never falls, since nothing that is done moves it."""
    act = hil.WorldGame.act

    def step(game: Any, action: Any) -> tuple[float, bool]:
        reward, _ = act(game, action)
        return reward, False

    monkeypatch.setattr(hil.WorldGame, "act", step)


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("encoder", [Encoder.EVERY_STEP, Encoder.CHANGES])
def test_a_busy_chip_remembers_what_it_decided_on_alone(hosted: Host, encoder: Encoder) -> None:
    net = agent(1, encoder)
    chip, heard = hosted(net)
    with chip:
        loop = Loop(timing=Timing(chip_ms=50.0), max_decisions=20)
        episode, moments = looped(chip, net, loop)
    asked = [question.decision for question, _ in filter(None, heard)]
    assert episode.tally.skipped > 5
    assert (episode.tally.late, episode.tally.forgotten) == (len(asked) - 1, 0)
    expected_course(net, heard, {0}, [moment.frame for moment in moments])


@pytest.mark.usefixtures("endless")
def test_a_chip_that_died_begins_again_at_rest_and_that_is_counted(hosted: Host) -> None:
    net = agent(0, Encoder.CHANGES)
    faults = Faults({FaultKind.CHIP_DEATH: 0.1, FaultKind.LOST_MESSAGES: 0.1}, seed=8)
    chip, heard = hosted(net)
    with chip:
        loop = Loop(faults=faults, away_ms=50, max_decisions=20)
        episode, moments = looped(chip, net, loop)
        again, _ = looped(chip, net, loop)
    tally = episode.tally
    assert tally.missing > tally.deaths >= 1
    # By hand: what reaches a chip that is there, and where one decides that knows nothing.
    asked, rests, back_ms, new = [], set(), 0, True
    for number in range(20):
        if faults.happens(FaultKind.LOST_MESSAGES, 0, number, 0) or 20 * number < back_ms:
            continue
        if faults.happens(FaultKind.CHIP_DEATH, 0, number):
            back_ms, new = 20 * number + 50, True
            continue
        if new:
            rests.add(number)
        asked.append(number)
        new = False
    told = [one for one in heard if one is not None][: len(asked)]
    assert [question.decision for question, _ in told] == asked
    assert tally.forgotten == len(rests - {asked[0]}) >= 1
    expected_course(net, told, rests, [moment.frame for moment in moments])
    assert again.to_json()["states_lost"] == tally.forgotten
    assert again.trajectory == episode.trajectory


def test_a_question_that_was_lost_leaves_nothing_and_a_lost_answer_does(hosted: Host) -> None:
    net = agent(0)
    faults = Faults({FaultKind.LOST_MESSAGES: 0.3}, seed=10)
    chip, heard = hosted(net)
    with chip:
        episode, moments = looped(chip, net, Loop(faults=faults, max_decisions=9), seed=2)
    asked = [question.decision for question, _ in filter(None, heard)]
    lost = [n for n in range(9) if faults.happens(FaultKind.LOST_MESSAGES, 2, n, 0)]
    unheard = [n for n in range(9) if faults.happens(FaultKind.LOST_MESSAGES, 2, n, 1)]
    assert lost
    assert set(unheard) - set(lost)
    assert asked == [n for n in range(episode.decisions) if n not in lost]
    assert episode.tally.forgotten == 0
    expected_course(net, heard, {asked[0]}, [moment.frame for moment in moments])


def frames_of(net: ChipNetwork, seed: int, count: int) -> np.ndarray:
    shape = (count, *net.input.shape)
    return np.random.default_rng(seed).integers(-60, 61, shape).astype(np.int8)


def asked(chip: Chip, told: Told, sender: Sender, number: int, frame: np.ndarray) -> Any:
    """Put one question, and again what the chip lacks, as a host does."""
    sending = sender.send(number, frame)
    answers = []
    while True:
        question = sending.question(1, HIDDEN, sender.episode)
        answer = chip.answer(decode(encode(question), ASKED), told)
        answers.append(answer)
        more = sending.again(answer)  # type: ignore[arg-type]
        if more is None:
            break
        sending = more
    sender.heard()
    return answers


@pytest.mark.parametrize("encoder", [Encoder.EVERY_STEP, Encoder.CHANGES])
@pytest.mark.parametrize(
    "backend",
    [ChipBackend.REFERENCE, pytest.param(ChipBackend.ENGINE, marks=pytest.mark.slow)],
)
def test_each_host_of_a_served_chip_has_a_state_of_its_own(
    encoder: Encoder, backend: ChipBackend
) -> None:
    """Three hosts by turns, in games of one number, of which one begins anew in between."""
    net = agent(0, encoder)
    chip = Chip(net, "hash", backend, Faults())
    chip.warm_up(HIDDEN)
    told = [Told() for _ in range(3)]
    senders = [Sender(encoder, stateful=True) for _ in told]
    references = [ReferenceChip(net) for _ in told]
    numbers = [0, 0, 0]
    for turn in range(24):
        host = (turn * turn + turn // 5) % 3
        if turn == 13:
            senders[host], numbers[host] = Sender(encoder, stateful=True), 0
            references[host].start(1)
        frame = frames_of(net, 10 * host + numbers[host] // 2, 1)[0]
        (answer,) = asked(chip, told[host], senders[host], numbers[host], frame)
        wanted = references[host].decide(frame[None], 0).values[0]
        np.testing.assert_array_equal(answer.values, wanted)
        numbers[host] += 1
    assert min(numbers) > 2
    # A connection that ends takes its state along; the others keep theirs.
    told[0].close()
    frame = frames_of(net, 99, 1)[0]
    answers = asked(chip, told[0], senders[0], numbers[0], frame)
    assert [type(one) for one in answers] == [Forgotten, Decided]
    references[0].start(1)
    for host, last in ((0, answers[-1]), (1, None)):
        if last is None:
            (last,) = asked(chip, told[host], senders[host], numbers[host], frame)
        np.testing.assert_array_equal(
            last.values, references[host].decide(frame[None], 0).values[0]
        )
    chip.close()
    for one in told:
        one.close()


def test_a_state_is_of_one_episode_and_goes_forward_only() -> None:
    net = agent(0)
    chip = Chip(net, "hash", ChipBackend.REFERENCE, Faults())
    chip.warm_up(HIDDEN)
    told, frame = Told(), bytes(2)

    def kind(episode: int, decision: int, begins: bool) -> type:
        return type(chip.answer(Step(1, HIDDEN, episode, decision, frame, begins), told))

    # What it decided on while it was warmed up belongs to no game, not even to game 0.
    assert kind(0, 1, False) is Forgotten
    assert kind(0, 0, True) is Decided
    assert kind(0, 3, False) is Decided
    assert kind(0, 3, False) is Forgotten
    assert kind(1, 4, False) is Forgotten
    assert kind(0, 4, False) is Decided
    assert kind(1, 0, True) is Decided
    assert kind(0, 5, False) is Forgotten


def test_changes_go_on_from_a_state_or_are_answered_by_name() -> None:
    net = agent(0, Encoder.CHANGES)
    chip = Chip(net, "hash", ChipBackend.REFERENCE, Faults())
    told, nothing = Told(), Change(1, HIDDEN, 0, 1, 0, b"", b"")
    assert isinstance(chip.answer(nothing, told), Forgotten)
    assert isinstance(chip.answer(Step(1, HIDDEN, 0, 0, bytes(2), True), told), Decided)
    assert isinstance(chip.answer(replace(nothing, decision=2, since=1), told), Unknown)
    # An answer that asks for the whole frame has changed no state.
    assert isinstance(chip.answer(nothing, told), Decided)


def test_faults_of_a_chip_that_remembers_are_those_of_one_chip_an_episode(hosted: Host) -> None:
    net = agent(0)
    faults = Faults({FaultKind.WEIGHT_BITS: 0.01, FaultKind.SPURIOUS_SPIKES: 0.1}, seed=4)
    chip = Chip(net, "hash", ChipBackend.REFERENCE, faults)
    chip.warm_up(HIDDEN)
    told, frames = Told(), frames_of(net, 1, 4)
    for episode in (2, 5, 2):
        broken = FaultyChip(break_network(net, faults, episode), faults, episode)
        for number, frame in enumerate(frames):
            step = Step(1, HIDDEN, episode, number, frame.tobytes(), number == 0)
            answer = chip.answer(step, told)
            broken.begin(number)
            assert isinstance(answer, Decided)
            wanted = broken.decide(frame[None], 0).values[0]
            np.testing.assert_array_equal(answer.values, wanted)


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("rate", [0.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_lost_changes_are_compared_with_a_chip_that_saw_the_same_frames_whole(
    monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    """Also where the chip was busy, so that it saw some of the observations only."""
    net = agent(1, Encoder.CHANGES)
    shown = iter(frames_of(net, 5, 41))
    monkeypatch.setattr(hil.WorldGame, "observe", lambda game, pressed=None: next(shown))
    faults = Faults({FaultKind.LOST_CHANGES: rate}, seed=3)
    backend = ChipBackend.ENGINE if rate else ChipBackend.REFERENCE
    chip, told = Chip(net, "hash", backend, faults), Told()

    class Local:
        forgotten = 0

        def ask(self, task: str, episode: int, sending: Any) -> Any:
            answer = chip.answer(sending.question(1, task, episode), told)
            assert isinstance(answer, Decided)
            return Reply(np.array(answer.values), 0.0, sending.messages)

        def die(self) -> None: ...

    judge: Any = ReferenceChip(net)
    loop = Loop(timing=Timing(chip_ms=50.0), faults=faults, max_decisions=40)
    episode, _ = looped(Local(), net, loop, judge=judge)
    assert episode.tally.skipped > 5
    assert episode.tally.differing is not None
    assert (episode.tally.differing > 0) == (rate > 0)
    told.close()


@pytest.mark.slow
def test_a_chip_that_cannot_hold_what_lost_changes_leave_says_what_can() -> None:
    net = agent(0, Encoder.CHANGES)
    chip, told = Chip(net, "hash", ChipBackend.ENGINE, Faults()), Told()
    chip.answer(Step(1, HIDDEN, 0, 0, bytes(2), True), told)
    places, changes = np.array([0], "<u4").tobytes(), np.array([200], "<i2").tobytes()
    with pytest.raises(BadRequestError, match="engine cannot hold them, use reference"):
        chip.answer(Change(1, HIDDEN, 0, 1, 0, places, changes), told)
    told.close()


def test_messages_of_state_alone_are_of_version_3() -> None:
    """So hosts and chips of version 2 go on together wherever nothing is remembered."""
    step = Step(4, HIDDEN, 0, 0, b"xy", True)
    versions = {
        type(message): msgpack.unpackb(encode(message))["version"]
        for message in (
            Hello(1),
            Decide(1, HIDDEN, 0, 0, b""),
            Change(1, HIDDEN, 0, 1, 0, b"", b""),
            Decided(1, [0.0], 0.0),
            Unknown(1),
            step,
            Forgotten(1),
        )
    }
    assert {kind for kind, version in versions.items() if version == 3} == {Step, Forgotten}
    assert set(versions.values()) == {2, 3}
    assert decode(encode(step), ASKED) == step
    for version, says in ((2, "kind 'step'; hello, decide, change may"), (4, "this side 2 and 3")):
        with pytest.raises(BadPeerError, match=says):
            decode(encode(step, version), ASKED)
    with pytest.raises(BadPeerError, match="begins is 1, not true or false"):
        decode(encode(replace(step, begins=1)), ASKED)  # type: ignore[arg-type]


def test_a_question_for_another_kind_of_network_is_refused() -> None:
    net = agent(0)
    plain = replace(net, stateful=False, connections=net.connections[:2])
    frame = bytes(2)
    for one, question, says in (
        (net, Decide(1, HIDDEN, 0, 0, frame), "a host says where an episode begins"),
        (plain, Step(1, HIDDEN, 0, 0, frame, True), "keeps no state and takes 'decide'"),
    ):
        chip = Chip(one, "hash", ChipBackend.REFERENCE, Faults())
        with pytest.raises(BadRequestError, match=says):
            chip.answer(question, Told())


def test_what_cannot_hold_a_state_is_refused() -> None:
    net = agent(0)
    for backend in (ChipBackend.LAVA_STOCK, ChipBackend.LOIHI2):
        with pytest.raises(BadRequestError, match=f"{backend.value} runs, does not hold it"):
            check_state(net, backend=backend)
        with pytest.raises(BadRequestError, match="use the backend engine, reference or lava"):
            Chip(net, "hash", backend, Faults())
        check_state(replace(net, stateful=False), backend=backend, overlap=True)
    chip: Any = None
    with pytest.raises(BadRequestError, match="leave overlap out"):
        looped(chip, net, Loop(timing=Timing(overlap=True)))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "remembers.deploy", agent(1))


@pytest.mark.slow
@pytest.mark.usefixtures("endless")
def test_in_real_time_a_chip_that_died_is_at_rest_too(bundle: Bundle) -> None:
    seed = next(
        n for n in range(100) if Faults({FaultKind.CHIP_DEATH: 0.05}, n).happens(DEATH, 0, 5)
    )
    faults = Faults({DEATH: 0.05}, seed)
    quiet = Loop(realtime=True, max_decisions=20)
    order = ChipOrder(
        str(bundle.folder), bundle.network_hash, HIDDEN, ChipBackend.REFERENCE, faults
    )
    with HostedChip(bundle.network_hash, order=order) as chip:
        (whole, _) = looped(chip, bundle.network, quiet)
        broken = replace(quiet, faults=faults, away_ms=10, max_decisions=200)
        (died, _) = looped(chip, bundle.network, broken)
        (after, _) = looped(chip, bundle.network, quiet)
    assert (whole.tally.forgotten, after.tally.forgotten) == (0, 0)
    assert died.tally.deaths > 0
    # A chip that is not back when the game ends is asked nothing more.
    assert died.tally.forgotten in (died.tally.deaths - 1, died.tally.deaths)


@pytest.mark.slow
def test_a_served_chip_that_was_started_again_says_that_it_has_forgotten(bundle: Bundle) -> None:
    net, frames = bundle.network, frames_of(bundle.network, 3, 6)
    senders = [Sender(stateful=True) for _ in range(2)]
    references = [ReferenceChip(net) for _ in senders]

    def ask(host: int, number: int) -> None:
        sending = senders[host].send(number, frames[(number + host) % 6])
        reply = chips[host].ask(HIDDEN, 0, sending)
        assert reply is not None
        senders[host].heard()
        wanted = references[host].decide(sending.frame[None], 0).values[0]
        np.testing.assert_array_equal(reply.values, wanted)

    with served(bundle, "tcp://127.0.0.1:*") as (server, address, _):
        chips = [HostedChip(bundle.network_hash, address=address, key=KEY) for _ in senders]
        for number in range(3):
            for host in (0, 1):
                ask(host, number)
        server.kill()
        server.wait()
        taken = reserved(address)
        for chip, sender in zip(chips, senders, strict=True):
            assert chip.ask(HIDDEN, 0, sender.send(3, frames[3])) is None
    with taken, served(bundle, address):
        for host, chip in enumerate(chips):
            assert soon(lambda chip=chip: chip.finish_start(0.2) is not None)  # type: ignore[misc]
            assert chip.forgotten == 0
            references[host].start(1)
            for number in (4, 5):
                ask(host, number)
            assert chip.forgotten == 1
            chip.close()
