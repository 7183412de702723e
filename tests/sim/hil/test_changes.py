"""Frames that travel as signed changes: the same spikes and membranes as whole frames."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtspark.core.chip_network import Encoder
from mtspark.core.chip_network.network import INPUT, ChipNetwork, FrameInput, SignMode
from mtspark.core.errors import BadRequestError
from mtspark.deploy.lava import installed_lava
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.hil import host as hosts
from mtspark.sim.hil.chip import Chip
from mtspark.sim.hil.faults import FaultKind, Faults
from mtspark.sim.hil.host import HostedChip
from mtspark.sim.hil.loop import FrameMoment, HilEpisode, Loop, play_hil
from mtspark.sim.hil.options import ChipBackend, Hold
from mtspark.sim.hil.order import ChipOrder
from mtspark.sim.hil.protocol import Change, Decide, Decided, Unknown
from mtspark.sim.hil.sender import Sender
from mtspark.sim.hil.timing import (
    FaultSchedule,
    Question,
    Reply,
    Sent,
    SimulatedTransport,
    Tally,
    Timing,
)
from mtspark.sim.hil.told import Told
from mtspark.sim.play import play
from tests.support.hil_agent import changes_network
from tests.support.hil_threads import ThreadedChip, WatchedChip
from tests.support.networks import (
    BREAKOUT,
    PONG,
    conv,
    dense,
    network,
    population,
    three_neurons,
)


def agent(encoder: Encoder = Encoder.CHANGES) -> ChipNetwork:
    """Two games, a deep pipeline, and a first layer whose sums lose six bits to the exponent."""
    generator = np.random.default_rng(3)
    net = network(
        (4, 84, 84),
        [
            population(
                "conv",
                [np.full((3, 6, 6), 4000), np.full((3, 6, 6), 2500)],
                membrane_decay=1024,
            ),
            population("hidden", [np.full(20, 200), np.full(20, 120)], membrane_decay=2048),
            population("out", np.full((2, 18), 131_071), membrane_decay=0),
        ],
        [
            conv(
                *(INPUT, "conv", 2 * generator.integers(-40, 41, (3, 4, 14, 14))),
                **{"stride": (14, 14), "exponent": -6},
            ),
            dense("conv", "hidden", 2 * generator.integers(-60, 61, (20, 108))),
            dense("hidden", "out", 2 * generator.integers(-128, 128, (18, 20))),
        ],
        payload_bits=8,
        time_steps=3,
        tasks=(PONG, BREAKOUT),
    )
    return replace(net, input=replace(net.input, encoder=encoder))


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a host whose chips live in threads, and the list of what they hear."""

    def make(net: ChipNetwork, backend: ChipBackend) -> tuple[HostedChip, list[Any]]:
        heard: list[Any] = []

        def start(order: ChipOrder) -> ThreadedChip:
            chip = WatchedChip(heard, net, "hash", backend, order.faults)
            # As a process does; here the compiled code stays, and nothing else.
            before = len(heard)
            chip.warm_up(order.task)
            chip.close()
            del heard[before:]
            return ThreadedChip(chip)

        monkeypatch.setattr(hosts, "ChipProcess", start)
        order = ChipOrder(bundle="", network="hash", task="pong", backend=backend)
        return HostedChip("hash", order=order), heard

    return make


DEADLY = Faults({FaultKind.CHIP_DEATH: 0.04, FaultKind.LOST_MESSAGES: 0.05}, seed=2)
COURSES = [
    Loop(),
    Loop(refresh_every=7),
    Loop(timing=Timing(chip_ms=100)),
    Loop(timing=Timing(chip_ms=100, overlap=True)),
    Loop(faults=DEADLY, away_ms=150),
    Loop(faults=DEADLY, away_ms=150, timing=Timing(chip_ms=90, overlap=True), pixel_bits=4),
]


def check_games(make: Any, backend: ChipBackend, decisions: int, together: int) -> Counter[str]:
    """Play games of so many decisions on a chip until it has decided so often.

    Every spike and membrane of every step must be those of the reference that gets whole frames.
    """
    net = agent()
    assert net.protocol is not None
    net = replace(net, protocol=replace(net.protocol, max_frames_per_episode=4 * decisions))
    plain = ReferenceChip(replace(net, input=replace(net.input, encoder=Encoder.EVERY_STEP)))
    kinds: Counter[str] = Counter()
    chip, heard = make(net, backend)
    with chip:
        number = 0
        while kinds.total() < together or number < len(COURSES):
            task, loop = ("pong", "breakout")[number // 2 % 2], COURSES[number % len(COURSES)]
            frames: list[np.ndarray] = []

            def keep(moment: FrameMoment, into: list[np.ndarray] = frames) -> None:
                into.append(moment.frame)

            (episode,) = play_hil(chip, net, task, loop, episodes=1, seed=number, observe=keep)
            assert episode.finished
            assert episode.tally.sent is not None
            cut = np.uint8(256 - 2 ** (8 - loop.pixel_bits))
            for entry in heard:
                if entry is None:
                    plain.start(1)
                    continue
                question, trace = entry
                assert (question.task, question.episode) == (task, number)
                frame = frames[question.decision] & cut
                wanted = plain.decide(frame[None], net.task_index(task), trace=True).trace
                assert wanted is not None
                for name, membranes in wanted.membranes.items():
                    np.testing.assert_array_equal(membranes, trace.membranes[name])
                    np.testing.assert_array_equal(wanted.spikes[name], trace.spikes[name])
            if loop.faults is not DEADLY:
                # A whole frame is sent where it must be, and no more often.
                wholes = -(-len(frames) // (loop.refresh_every or len(frames)))
                assert episode.tally.sent.whole_frames == wholes
            kinds.update(entry[0].kind for entry in heard if entry is not None)
            kinds["died"] += episode.tally.deaths
            kinds["skipped"] += episode.tally.skipped
            kinds["ended"] += not episode.truncated
            heard.clear()
            number += 1
    return kinds


@pytest.mark.parametrize(
    "backend", [ChipBackend.ENGINE, pytest.param(ChipBackend.REFERENCE, marks=pytest.mark.slow)]
)
def test_changes_over_the_wire_give_the_spikes_and_membranes_of_whole_frames(
    hosted: Any, backend: ChipBackend
) -> None:
    kinds = check_games(hosted, backend, decisions=16, together=0)
    assert kinds["change"] > 3 * kinds["decide"] > 0
    assert min(kinds["died"], kinds["skipped"]) > 0


@pytest.mark.slow
def test_over_2000_decisions_too(hosted: Any) -> None:
    kinds = check_games(hosted, ChipBackend.ENGINE, decisions=900, together=2000)
    assert kinds["change"] > 1900
    assert min(kinds["died"], kinds["skipped"], kinds["ended"]) > 0


# By hand: two values, weights 64 and -64 of the first, 128 of the second


def two_values(encoder: Encoder = Encoder.CHANGES) -> ChipNetwork:
    return replace(three_neurons(), input=FrameInput((2,), 8, encoder=encoder))


def chip_of(net: ChipNetwork, backend: ChipBackend = ChipBackend.ENGINE) -> Chip:
    return Chip(net, "hash", backend, Faults())


def shown(sender: Sender, decision: int, *values: int) -> Any:
    """The question for a frame of two values."""
    sending = sender.send(decision, np.array(values, np.uint8))
    return sending.question(decision, "pong", sender.episode)


def test_messages_by_hand() -> None:
    sender = Sender(Encoder.CHANGES)
    first = sender.send(0, np.array([7, 0], np.uint8))
    assert (first.changes, first.messages) == (None, 1)
    # Decision 1 was observed and never sent: differences are to what was.
    second = sender.send(2, np.array([0, 255], np.uint8))
    assert second.changes is not None
    assert (second.changes.since, second.messages, second.lost) == (0, 2, 0)
    assert second.changes.places.tolist() == [0, 1]
    assert second.changes.values.tolist() == [-7, 255]
    question = second.question(5, "pong", 9)
    assert question == Change(
        *(5, "pong", 9, 2, 0),
        *(b"\0\0\0\0\1\0\0\0", b"\xf9\xff\xff\x00"),
    )
    third = sender.send(3, np.array([0, 255], np.uint8))
    assert third.changes is not None
    assert (third.messages, third.changes.since) == (0, 2)
    sender.forget()
    assert sender.send(4, np.array([0, 255], np.uint8)).changes is None


@pytest.mark.parametrize(
    ("encoder", "counts"),
    # Written into the neurons that send them in every step; nonzero values; changes.
    [(Encoder.EVERY_STEP, [2, 2, 2]), (Encoder.HELD, [1, 2, 0]), (Encoder.CHANGES, [1, 2, 2])],
)
def test_what_the_host_writes_follows_the_encoder(encoder: Encoder, counts: list[int]) -> None:
    sender = Sender(encoder)
    frames = np.array([[7, 0], [5, 3], [0, 0]], np.uint8)
    sent = [sender.send(number, frame) for number, frame in enumerate(frames)]
    assert [one.messages for one in sent] == counts
    wanted = [True, encoder is not Encoder.CHANGES, encoder is not Encoder.CHANGES]
    assert [one.changes is None for one in sent] == wanted


def test_a_whole_frame_comes_at_least_so_often_also_where_decisions_are_skipped() -> None:
    sender = Sender(Encoder.CHANGES, refresh_every=3)
    frame = np.zeros(2, np.uint8)
    decisions = [0, 1, 2, 3, 4, 7, 8, 10, 11]
    whole = [number for number in decisions if sender.send(number, frame).changes is None]
    assert whole == [0, 3, 7, 10]


def test_each_host_has_a_sum_of_its_own_on_one_chip() -> None:
    """Two games of the same number, and a third that switches tasks, in turns."""
    chip = chip_of(agent())
    plain = ReferenceChip(agent(Encoder.EVERY_STEP))
    generator = np.random.default_rng(1)
    hosts_ = [(Sender(Encoder.CHANGES, episode=number), Told()) for number in (4, 4, 5)]
    frames = generator.integers(0, 256, (3, 4, 84, 84)).astype(np.uint8)
    for decision in range(4):
        for number, (sender, told) in enumerate(hosts_):
            moved = generator.random(frames[number].shape) < 0.1
            frames[number][moved] = 255 - frames[number][moved]
            task = ("pong", "breakout")[number == 2 and decision % 2]
            sending = sender.send(decision, frames[number].copy())
            assert (sending.changes is None) == (decision == 0)
            question = sending.question(decision, task, sender.episode)
            answer = chip.decide(question, told)
            assert isinstance(answer, Decided)
            row = agent().task_index(task)
            wanted = plain.decide(frames[number][None], row).values[0]
            np.testing.assert_array_equal(answer.values, wanted)


@pytest.mark.third_party
def test_two_hosts_and_their_games_on_lava() -> None:
    if installed_lava() is None:
        pytest.skip("lava-nc is missing: run `mtspark install-lava`")
    net = readout_of_a_value()
    plain = ReferenceChip(replace(net, input=replace(net.input, encoder=Encoder.EVERY_STEP)))
    generator = np.random.default_rng(0)
    hosts_ = [(Sender(Encoder.CHANGES, episode=number), Told()) for number in (3, 4)]
    with closing(chip_of(net, ChipBackend.LAVA)) as chip:
        for decision in range(4):
            for sender, told in hosts_:
                frame = generator.integers(0, 256, 1).astype(np.uint8)
                question = sender.send(decision, frame).question(1, "pong", sender.episode)
                answer = chip.decide(question, told)
                assert isinstance(answer, Decided)
                assert answer.values == plain.decide(frame[None], 0).values[0].tolist()
        words = np.array([0], "<u4").tobytes(), np.array([255], "<i2").tobytes()
        for number in (4, 5):
            question = Change(1, "pong", 4, number, number - 1, *words)
            told.hear(question, net.input)
        with pytest.raises(BadRequestError, match="the backend lava cannot hold them"):
            chip.decide(Change(1, "pong", 4, 6, 5, *words), told)


@pytest.mark.parametrize("backend", [ChipBackend.ENGINE, ChipBackend.REFERENCE])
def test_changes_from_a_frame_that_the_chip_has_not_are_unknown(backend: ChipBackend) -> None:
    chip, told, sender = chip_of(two_values(), backend), Told(), Sender(Encoder.CHANGES, episode=3)
    whole = shown(sender, 0, 1, 1)
    changes = shown(sender, 1, 1, 0)
    # Before any frame; after another game; after another decision of this one.
    assert chip.decide(changes, told) == Unknown(1)
    chip.decide(replace(whole, episode=2), told)
    assert chip.decide(changes, told) == Unknown(1)
    chip.decide(replace(whole, decision=5), told)
    assert chip.decide(changes, told) == Unknown(1)
    # And what was unknown has changed nothing.
    chip.decide(whole, told)
    answer = chip.decide(changes, told)
    assert isinstance(answer, Decided)
    wanted = ReferenceChip(two_values(Encoder.EVERY_STEP)).decide(np.array([[1, 0]], np.uint8), 0)
    assert answer.values == wanted.values[0].tolist()


def test_a_host_sends_the_whole_frame_to_a_chip_that_asks_for_it(hosted: Any) -> None:
    chip, heard = hosted(two_values(), ChipBackend.REFERENCE)
    with chip:
        sender = Sender(Encoder.CHANGES)
        sender.send(0, np.array([9, 0], np.uint8))
        reply = chip.ask("pong", 0, sender.send(1, np.array([9, 4], np.uint8)))
        assert reply is not None
        # A change, then both values.
        assert (reply.messages, reply.repeated) == (3, True)
        again = chip.ask("pong", 0, sender.send(2, np.array([0, 4], np.uint8)))
        assert again is not None
        assert (again.messages, again.repeated) == (1, False)
    kinds = [entry[0].kind for entry in heard if entry is not None]
    assert kinds == ["decide", "change"]


@pytest.mark.parametrize(
    ("places", "changes", "says"),
    [
        ([0], [], "changes of 0 bytes for places of 4"),
        ([0, 1], [1], "changes of 2 bytes for places of 8"),
        ([2], [1], "do not ascend from 0 to 1"),
        ([2**32 - 1], [1], "do not ascend from 0 to 1"),
        ([1, 0], [1, 1], "do not ascend"),
        ([1, 1], [1, 1], "do not ascend"),
        ([0], [0], "a change that is 0"),
        ([0], [256], "beyond 255"),
        ([0], [-(2**15)], "beyond 255"),
    ],
)
def test_changes_that_cannot_be_are_refused_and_change_nothing(
    places: list[int], changes: list[int], says: str
) -> None:
    chip, told = chip_of(two_values()), Told()
    chip.decide(Decide(0, "pong", 0, 0, b"\x05\x07"), told)
    words = np.array(places, "<u4").tobytes(), np.array(changes, "<i2").tobytes()
    with pytest.raises(BadRequestError, match=says):
        chip.decide(Change(1, "pong", 0, 1, 0, *words), told)
    assert (told.episode, told.decision) == (0, 0)
    assert told.values((2,)).tolist() == [[5, 7]]
    with pytest.raises(BadRequestError, match="a frame of 3 bytes"):
        chip.decide(Decide(0, "pong", 0, 0, b"\x05\x07\x01"), told)


def test_changes_of_signed_numbers() -> None:
    """-128 becomes 127 by one message of 255; what is lost leaves a number that int8 has not."""
    net = two_values()
    net = replace(net, input=replace(net.input, signed=True))
    every = replace(net, input=replace(net.input, encoder=Encoder.EVERY_STEP))
    chip, told, sender = chip_of(net), Told(), Sender(Encoder.CHANGES)
    for decision, values in enumerate([(-128, 5), (127, 5), (127, -7)]):
        frame = np.array(values, np.int8)
        sending = sender.send(decision, frame)
        answer = chip.decide(sending.question(decision, "pong", 0), told)
        assert isinstance(answer, Decided)
        assert answer.values == ReferenceChip(every).decide(frame[None], 0).values[0].tolist()
        if sending.changes is not None:
            assert sending.changes.values.tolist() == [[], [255], [-12]][decision]
    words = np.array([0], "<u4").tobytes(), np.array([255], "<i2").tobytes()
    chip.decide(Change(9, "pong", 0, 3, 2, *words), told)
    assert told.values((2,)).tolist() == [[382, -7]]


@given(
    places=st.binary(max_size=12) | st.just(bytes(4)),
    changes=st.binary(max_size=6) | st.sampled_from([b"\1\0", b"\xff\0"]),
    numbers=st.tuples(*(st.integers(0, 2) for _ in range(3))),
)
def test_whatever_a_host_sends_is_decided_refused_or_unknown(
    places: bytes, changes: bytes, numbers: tuple[int, int, int]
) -> None:
    chip, told = chip_of(two_values(), ChipBackend.REFERENCE), Told()
    chip.decide(Decide(0, "pong", 0, 0, b"\x05\x07"), told)
    before = told.values((2,)).copy()
    episode, decision, since = numbers
    question = Change(1, "pong", episode, decision, since, places, changes)
    try:
        answer = chip.decide(question, told)
    except BadRequestError:
        answer = None
    if isinstance(answer, Decided):
        assert (episode, since) == (0, 0)
        assert (told.episode, told.decision) == (episode, decision)
        assert np.abs(told.values((2,)) - before).max() <= 255
    else:
        assert answer is None or answer == Unknown(1)
        assert (told.values((2,)) == before).all()


@pytest.mark.parametrize("encoder", [Encoder.EVERY_STEP, Encoder.HELD])
def test_only_an_encoder_of_changes_takes_changes(encoder: Encoder) -> None:
    chip, told = chip_of(two_values(encoder)), Told()
    with pytest.raises(BadRequestError, match=f"encoder of this network is {encoder.value}"):
        chip.decide(Change(1, "pong", 0, 1, 0, b"\0\0\0\0", b"\1\0"), told)


@pytest.mark.parametrize("backend", [ChipBackend.ENGINE, ChipBackend.REFERENCE])
def test_a_sum_of_lost_messages_leaves_the_range_of_a_frame(backend: ChipBackend) -> None:
    """200 arrives thrice, and what takes it away never does: 600, which no frame has."""
    chip, told = chip_of(readout_of_a_value(), backend), Told()
    chip.decide(Decide(0, "pong", 0, 0, b"\0"), told)
    up = np.array([200], "<i2").tobytes()
    answers = [
        chip.decide(Change(n, "pong", 0, n, n - 1, b"\0\0\0\0", up), told) for n in (1, 2, 3)
    ]
    down = np.array([-255], "<i2").tobytes()
    for n in range(4, 8):
        answers.append(chip.decide(Change(n, "pong", 0, n, n - 1, b"\0\0\0\0", down), told))
    values = [answer.values[0] for answer in answers if isinstance(answer, Decided)]
    # Weight 2, shifted by one bit, in each of two steps, and membranes have six more bits.
    assert values == [2 * 64 * told for told in (200, 400, 600, 345, 90, -165, -420)]


def readout_of_a_value(exponent: int = -1) -> ChipNetwork:
    net = network(
        (1,),
        [population("out", [[131_071]], membrane_decay=0)],
        [dense(INPUT, "out", [[2]], exponent=exponent)],
        payload_bits=8,
        time_steps=2,
    )
    return replace(net, input=replace(net.input, encoder=Encoder.CHANGES))


def test_a_sum_wraps_at_24_bits() -> None:
    chip = ReferenceChip(readout_of_a_value(exponent=-8))
    # 2 * (2^22 + 3) is 6 beyond 2^23; two steps, and six more bits in a membrane.
    for told, wrapped in ((2**22 + 3, -(2**23) + 6), (-(2**22) - 3, 2**23 - 6), (7, 14)):
        values = chip.decide_on_sum(np.array([[told]]), 0).values
        assert values.tolist() == [[2 * 64 * (wrapped // 256)]]
    held = replace(chip.network, input=replace(chip.network.input, encoder=Encoder.HELD))
    with pytest.raises(BadRequestError, match="encoder held keeps no sum of changes"):
        ReferenceChip(held).decide_on_sum(np.array([[7]]), 0)


@pytest.mark.parametrize("backend", [ChipBackend.ENGINE, ChipBackend.REFERENCE])
def test_flipped_weights_may_make_a_sum_that_wraps(backend: ChipBackend) -> None:
    """All bits of 140 weights of 3 make 252 of each: 8,996,400 of at most 8,388,607."""
    net = network(
        (140,),
        [population("out", [[131_071]], membrane_decay=0)],
        [
            dense(
                *(INPUT, "out", np.full((1, 140), 3)),
                **{"exponent": -8, "sign_mode": SignMode.EXCITATORY},
            )
        ],
        payload_bits=8,
        time_steps=2,
    )
    for encoder in (Encoder.CHANGES, Encoder.HELD):
        kept = replace(net, input=replace(net.input, encoder=encoder))
        chip = Chip(kept, "hash", backend, Faults({FaultKind.WEIGHT_BITS: 1.0}))
        answer = chip.decide(Decide(0, "pong", 0, 0, b"\xff" * 140), Told())
        assert isinstance(answer, Decided)
        assert answer.values == [2 * 64 * ((8_996_400 - 2**24) // 256)]


@pytest.mark.parametrize("make", [EngineChip, ReferenceChip])
@pytest.mark.parametrize(
    "decisions", [40, pytest.param(2000, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_sums_of_a_batch_over_ends_of_games_and_switches(make: Any, decisions: int) -> None:
    """Three games side by side: one ends, others begin, tasks switch, the state is restored."""
    generator = np.random.default_rng(5)
    net, plain = agent(), ReferenceChip(agent(Encoder.EVERY_STEP))
    chip, at = make(net), 3
    for one in (chip, plain):
        one.start(at)
    frames = generator.integers(0, 256, (at, 4, 84, 84)).astype(np.uint8)
    for number in range(decisions):
        happens = number % 10
        if happens == 4:
            members = np.array([2, 0]) if at == 3 else np.array([1])
            for one in (chip, plain):
                one.keep(members)
            frames, at = frames[members], len(members)
        if happens == 6 and make is EngineChip:
            saved = chip.state()
            chip = make(net)
            chip.restore(saved)
        if happens == 8:
            at = 3
            for one in (chip, plain):
                one.start(at)
            frames = generator.integers(0, 256, (at, 4, 84, 84)).astype(np.uint8)
        moved = generator.random(frames.shape) < 0.02
        frames[moved] = generator.integers(0, 256, int(moved.sum()))
        got, wanted = (one.decide(frames, number % 2, trace=True) for one in (chip, plain))
        for name, membranes in wanted.trace.membranes.items():
            np.testing.assert_array_equal(membranes, got.trace.membranes[name])
            np.testing.assert_array_equal(wanted.trace.spikes[name], got.trace.spikes[name])


# Lost on the way


def lost(rate: float, seed: int = 0) -> Faults:
    return Faults({FaultKind.LOST_CHANGES: rate}, seed)


def arriving(faults: Faults, episode: int = 0, decision: int = 1) -> set[int]:
    """Places of the changes that arrive, of 4000."""
    sender = Sender(Encoder.CHANGES, faults=faults, episode=episode)
    sender.send(0, np.zeros(4000, np.uint8))
    sending = sender.send(decision, np.full(4000, 9, np.uint8))
    assert sending.changes is not None
    assert sending.messages == 4000 == len(sending.changes.places) + sending.lost
    return set(sending.changes.places.tolist())


def test_the_ordered_share_of_changes_is_lost_by_seed_game_and_decision() -> None:
    everything = set(range(4000))
    assert arriving(lost(0)) == everything
    assert arriving(lost(1)) == set()
    few, many = everything - arriving(lost(0.01)), everything - arriving(lost(0.1))
    assert len(many) / 4000 == pytest.approx(0.1, abs=5 * (0.09 / 4000) ** 0.5)
    assert few
    assert few < many
    assert arriving(lost(0.1)) == everything - many
    others = [arriving(lost(0.1, seed=1)), arriving(lost(0.1), 1), arriving(lost(0.1), 0, 2)]
    assert all(other != everything - many for other in others)


def test_what_was_lost_stays_wrong_until_the_next_whole_frame() -> None:
    """Changes of a value are never sent again; all frames arrive whole."""
    sender, told = Sender(Encoder.CHANGES, refresh_every=3, faults=lost(1)), Told()
    frames = np.array([[7, 0], [7, 5], [0, 5], [1, 2], [3, 2]], np.uint8)
    heard = []
    for number, frame in enumerate(frames):
        told.hear(sender.send(number, frame).question(number, "pong", 0), two_values().input)
        heard.append(told.values((2,))[0].tolist())
    assert heard == [[7, 0], [7, 0], [7, 0], [1, 2], [1, 2]]


def test_lost_changes_are_counted_as_other_actions_until_a_refresh(hosted: Any) -> None:
    net = changes_network()
    shares = {}
    chip, _ = hosted(net, ChipBackend.REFERENCE)
    with chip:
        for rate, refresh in ((0.0, None), (0.05, None), (0.05, 4), (0.05, 1)):
            loop = Loop(faults=lost(rate), refresh_every=refresh, max_decisions=40)
            words: dict[str, Any] = {"episodes": 1, "seed": 6, "judge": ReferenceChip(net)}
            (game,) = play_hil(chip, net, "pong", loop, **words)
            shares[rate, refresh] = game.tally.differing
            assert game.tally.sent is not None
            assert (game.tally.sent.lost > 0) == (rate > 0 and refresh != 1)
    assert shares[0.0, None] == shares[0.05, 1] == 0
    assert shares[0.05, None] > shares[0.05, 4]
    (game,) = play_hil(chip, net, "pong", Loop(max_decisions=2), episodes=1, seed=6)
    assert game.tally.differing is None


# In time


def test_after_a_missing_answer_the_next_frame_is_whole() -> None:
    """Lost on either way, or met by a dead chip: then, and only then."""
    faults = Faults({FaultKind.LOST_MESSAGES: 0.1, FaultKind.CHIP_DEATH: 0.03}, seed=2)
    sender, tally, sent = Sender(Encoder.CHANGES), Tally(), {}

    def ask(question: Question) -> Reply:
        sending = sender.send(question.decision, question.frame)
        sent[question.decision] = sending.changes
        return Reply(np.zeros(1), 0.0, sending.messages)

    transport = SimulatedTransport(
        *(Timing(chip_ms=5), FaultSchedule(faults, away_s=0.15), ask, lambda: None, tally),
        sender.forget,
    )
    answered = set()
    for number in range(200):
        transport.send(number, number / 10, np.full((1, 1), number, np.uint8))
        answered |= {answer.decision for answer in transport.collect(number / 10 + 0.09)}
    assert tally.missing == 200 - len(answered) > 20
    assert tally.deaths > 0
    for number, changes in sent.items():
        assert (changes is None) == (number - 1 not in answered)
        assert changes is None or changes.since == number - 1


@pytest.mark.slow
def test_in_real_time_changes_are_those_of_whole_frames_too(
    hosted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are lost, chips die, and twice a chip forgets what it was told."""
    net, changes = agent(), 0
    plain = ReferenceChip(agent(Encoder.EVERY_STEP))
    hear = Told.hear

    def forget(told: Told, question: Decide | Change, entry: FrameInput) -> bool:
        nonlocal changes
        changes += isinstance(question, Change)
        if isinstance(question, Change) and changes in (2, 4):
            told.decision = -1
        return hear(told, question, entry)

    monkeypatch.setattr(Told, "hear", forget)
    chip, heard = hosted(net, ChipBackend.REFERENCE)
    frames: list[np.ndarray] = []
    with chip:
        loop = Loop(faults=DEADLY, away_ms=50, realtime=True, max_decisions=45)
        words: dict[str, Any] = {"episodes": 1, "seed": 3}
        (game,) = play_hil(
            chip, net, "pong", loop, observe=lambda one: frames.append(one.frame), **words
        )
    # A busy computer skips some.
    assert game.decisions == len(frames) == 45
    assert changes >= 4
    kinds = Counter(entry[0].kind for entry in heard if entry is not None)
    assert kinds["change"] == changes - 2 > 0
    assert game.tally.sent is not None
    assert game.tally.sent.whole_frames >= kinds["decide"] >= 3
    for entry in heard:
        if entry is None:
            plain.start(1)
            continue
        question, trace = entry
        wanted = plain.decide(frames[question.decision][None], 0, trace=True).trace
        assert wanted is not None
        for name, membranes in wanted.membranes.items():
            np.testing.assert_array_equal(membranes, trace.membranes[name])


@pytest.mark.parametrize(
    ("message_us", "latencies_ms", "hold"),
    # The whole frame of the start takes up to 14 ms to write, changes next to nothing.
    [
        (0.0, (0.0, 20.0, 50.0, 66.0, 66.6), Hold.LAST),
        pytest.param(0.5, (0.0, 20.0, 50.0, 52.0), Hold.NOOP, marks=pytest.mark.slow),
    ],
)
def test_with_a_decision_delay_every_latency_below_it_gives_one_game(
    hosted: Any, message_us: float, latencies_ms: tuple[float, ...], hold: Hold
) -> None:
    net = agent()
    assert net.protocol is not None
    protocol = replace(net.protocol, decision_delay=1, sticky_action_probability=0.25)
    net = replace(net, protocol=protocol)
    games: list[HilEpisode] = []
    chip, _ = hosted(net, ChipBackend.ENGINE)
    with chip:
        for latency_ms in latencies_ms:
            timing = Timing(chip_ms=latency_ms, message_us=message_us)
            loop = Loop(timing=timing, hold=hold, max_decisions=30)
            games += play_hil(chip, net, "pong", loop, episodes=1, seed=6)
    plain = ReferenceChip(replace(net, input=replace(net.input, encoder=Encoder.EVERY_STEP)))
    run = play(plain, net, "pong", episodes=1, seed=6, max_decisions=30)
    assert len({game.trajectory for game in games}) == 1
    assert len(set(run.episodes[0].actions)) > 1
    for game in games:
        assert game.score == run.episodes[0].score
        assert (game.tally.late, game.tally.skipped, game.stale_frames) == (0, 0, 0)
        assert game.tally.sent is not None
        assert game.tally.sent.whole_frames == 1


def test_a_response_takes_as_long_as_the_messages_that_are_really_sent() -> None:
    """By hand, 10 ms a message and 5 ms of chip: two values, then one change, none, and two."""
    sender, tally = Sender(Encoder.CHANGES), Tally(sent=Sent())
    timing = Timing(chip_ms=5, message_us=10_000)

    def ask(question: Question) -> Reply:
        sending = sender.send(question.decision, question.frame)
        reply = Reply(np.zeros(1), 0.0, sending.messages)
        assert tally.sent is not None
        tally.sent.add(sending, reply, timing)
        return reply

    transport = SimulatedTransport(timing, FaultSchedule(), ask, lambda: None, tally)
    frames = np.array([[7, 1], [7, 2], [7, 2], [0, 0]], np.uint8)
    for number, frame in enumerate(frames):
        transport.send(number, number / 10, frame)
        for answer in transport.collect(number / 10 + 0.09):
            tally.answered(answer, 1 / 15)
    assert tally.response_ms == pytest.approx([25, 15, 5, 25])
    assert tally.sent is not None
    assert (tally.sent.messages, tally.sent.whole_frames) == (5, 1)
    assert tally.sent.write_ms == pytest.approx([20, 10, 0, 20])


def test_what_a_busy_chip_skips_is_never_written() -> None:
    """One message a decision; the chip takes every other one, and is told two changes at once."""
    sender, written = Sender(Encoder.CHANGES), []
    timing = Timing(chip_ms=160)

    def ask(question: Question) -> Reply:
        sending = sender.send(question.decision, question.frame)
        changes = sending.changes
        written.append((question.decision, changes and changes.since, sending.messages))
        return Reply(np.zeros(1), 0.0, sending.messages)

    transport = SimulatedTransport(timing, FaultSchedule(), ask, lambda: None, Tally())
    for number in range(5):
        transport.send(number, number / 10, np.full((1, 1), 10 + number, np.uint8))
        transport.collect(number / 10)
    assert written == [(0, None, 1), (1, 0, 1), (3, 1, 1)]
