"""Replay gives back exactly the transitions that were played, each as often as any other."""

from __future__ import annotations

import mmap
import resource
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch

from mtspark.core.errors import BadRequestError
from mtspark.core.files.atomic import UnwritableError
from mtspark.train.rl.replay import Replay, Transitions

STACK, COPIES, STEPS = 2, 2, 12
# Copy 0: the decision of step 4 ends the game, step 5 restarts it. Copy 1 plays on.
TERMINAL = torch.zeros(STEPS, COPIES, dtype=torch.bool)
TERMINAL[4, 0] = True
VALID = torch.ones(STEPS, COPIES, dtype=torch.bool)
VALID[5, 0] = False


def add(replay: Replay, number: torch.Tensor, terminal: torch.Tensor, valid: torch.Tensor) -> None:
    """A chunk (steps, copies); frame, action and reward of a decision are its number."""
    frames = number[:, :, None, None].expand(-1, -1, 3, 3).to(torch.uint8)
    replay.add(frames, number, number.float(), terminal, valid)


def add_run(replay: Replay, first: int, steps: int, restarts: tuple[int, ...] = ()) -> None:
    """A chunk of one copy: decisions from `first` on; those of `restarts` restart the game."""
    number = torch.arange(first, first + steps)[:, None]
    valid = torch.ones(steps, 1, dtype=torch.bool)
    valid[list(restarts)] = False
    add(replay, number, ~valid, valid)


def add_chunk(replay: Replay, chunk: int) -> None:
    """Decision t of copy c has the number 100 c + t, t counted over chunks."""
    number = torch.arange(STEPS)[:, None] + 100 * torch.arange(COPIES) + STEPS * chunk
    add(replay, number, TERMINAL, VALID)


def filled(chunks: int = 2) -> Replay:
    replay = Replay(capacity=500, stack=STACK, batch_size=256)
    for chunk in range(chunks):
        add_chunk(replay, chunk)
    return replay


def counts_of(batch: Transitions) -> dict[int, int]:
    """How often each decision was drawn, its stacks checked: frames of consecutive decisions."""
    newest = batch.actions
    stack = batch.frames.shape[1]
    for offset in range(stack):
        expected = (newest - stack + 1 + offset).remainder(256)
        assert torch.equal(batch.frames[:, offset, 0, 0].long(), expected)
        assert torch.equal(batch.next_frames[:, offset, 0, 0].long(), (expected + 1).remainder(256))
    assert torch.equal(batch.rewards, newest.float())
    drawn, counts = newest.unique(return_counts=True)
    return dict(zip(drawn.tolist(), counts.tolist(), strict=True))


def chi_square(counts: dict[int, int], decisions: set[int]) -> float:
    """Of the counts against even ones: sum of (found - expected)^2 / expected."""
    expected = sum(counts.values()) / len(decisions)
    return sum((counts.get(one, 0) - expected) ** 2 / expected for one in decisions)


def test_stacks_are_consecutive_frames_of_one_game_and_end_where_it_ends() -> None:
    torch.manual_seed(0)
    batch = filled().sample()
    newest = batch.frames[:, -1, 0, 0].long()
    assert torch.equal(newest, batch.actions)
    assert torch.equal(newest.float(), batch.rewards)
    assert torch.equal(batch.frames[:, 0, 0, 0].long() + 1, newest)
    assert torch.equal(batch.next_frames[:, 0], batch.frames[:, 1])
    assert torch.equal(batch.next_frames[:, 1, 0, 0].long(), newest + 1)
    played = set(newest.tolist())
    # Copy 0, first chunk: 0 has no frame before it; 4 ends the game and is sampled with its
    # last frame; 5 only restarts; 6 is the first of a game; 11 is the last of its chunk.
    assert played & set(range(12)) == {1, 2, 3, 4, 7, 8, 9, 10}
    assert played & set(range(100, 112)) == set(range(101, 111))
    ended = newest % 100 % STEPS == 4
    assert torch.equal(batch.terminal, ended & (newest < 100))


def test_a_saved_replay_gives_the_same_samples(tmp_path: Path) -> None:
    replay, again = filled(), Replay(capacity=500, stack=STACK, batch_size=256)
    replay.save(tmp_path / "replay")
    again.load(tmp_path / "replay")
    assert len(again) == len(replay) == 2 * STEPS * COPIES
    for chunk in (2, 3):
        drawn = []
        for one in (replay, again):
            torch.manual_seed(5)
            drawn.append(one.sample())
        for first, second in zip(*map(astuple, drawn), strict=True):
            np.testing.assert_array_equal(first, second)
        # Both go on in the same way.
        add_chunk(replay, chunk)
        add_chunk(again, chunk)


def test_a_full_replay_forgets_the_oldest() -> None:
    replay = Replay(capacity=2 * STEPS, stack=STACK, batch_size=256)
    for chunk in range(3):
        add_chunk(replay, chunk)
    assert len(replay) == 2 * STEPS
    assert int(replay.sample().actions.remainder(100).min()) >= 2 * STEPS


def test_decisions_of_a_short_episode_come_as_often_as_any_other() -> None:
    """128 decisions, the game restarted at 121: six of a new one, its 4 frames from 125 on."""
    torch.manual_seed(0)
    replay = Replay(capacity=1000, stack=4, batch_size=24_000)
    add_run(replay, 0, 128, restarts=(121,))
    counts = counts_of(replay.sample())
    valid = {*range(3, 121), 125, 126}
    assert set(counts) == valid
    # 119 degrees of freedom: above 186 once in 10,000 times; an episode drawn first: 25,000.
    assert chi_square(counts, valid) < 186


def test_at_the_seam_of_the_ring_by_hand() -> None:
    """Ten places hold decisions 2 to 11 of three chunks of four; 10 and 11 lie in front."""
    torch.manual_seed(0)
    replay = Replay(capacity=10, stack=2, batch_size=4_000)
    for first in (0, 4, 8):
        add_run(replay, first, 4)
    counts = counts_of(replay.sample())
    # 2 and 3 are too few for a slice of three; none leads from 11 to its neighbour 2; those of
    # 9 (8, 9, 10) and 10 (9, 10, 11) lead from the last place to the first.
    assert set(counts) == {5, 6, 9, 10}
    # 3 degrees of freedom: above 21 once in 10,000 times.
    assert chi_square(counts, set(counts)) < 21


def test_of_a_chunk_above_the_capacity_the_end_is_kept() -> None:
    replay = Replay(capacity=8, stack=2, batch_size=500)
    add_run(replay, 0, 5)
    add_run(replay, 5, 12)
    assert len(replay) == 8
    # 9 to 16 are left; the slices of 10 to 15 lie within them.
    assert set(counts_of(replay.sample())) == set(range(10, 16))


@pytest.mark.parametrize("seed", range(8))
def test_what_is_drawn_is_what_a_plain_list_allows(seed: int) -> None:
    """Random chunks into a small ring, against a list of (decision, episode) of the same."""
    noise = np.random.default_rng(seed)
    capacity, stack, copies = int(noise.integers(9, 60)), int(noise.integers(1, 4)), 2
    replay = Replay(capacity=capacity, stack=stack, batch_size=3_000)
    plain: list[tuple[int, tuple[int, int, int]]] = []
    steps = 0
    for chunk in range(7):
        length = int(noise.integers(1, 14))
        number = torch.arange(steps, steps + length)[:, None] + 1000 * torch.arange(copies)
        steps += length
        valid = torch.from_numpy(noise.random((length, copies)) > 0.12)
        add(replay, number, ~valid, valid)
        for copy in range(copies):
            episode = 0
            for step in range(length):
                plain.append((int(number[step, copy]), (chunk, copy, episode)))
                episode += not valid[step, copy]
        plain = plain[-capacity:]
    allowed = {
        plain[place + stack - 1][0]
        for place in range(len(plain) - stack)
        if len({episode for _, episode in plain[place : place + stack + 1]}) == 1
    }
    assert len(allowed) > 2
    counts = counts_of(replay.sample())
    assert set(counts) == allowed
    # At most 58 degrees of freedom: above 112 less than once in 10,000 times.
    assert chi_square(counts, allowed) < 112


@pytest.mark.parametrize("capacity", [3, 100])
def test_a_replay_without_one_whole_stack_says_so(capacity: int) -> None:
    replay = Replay(capacity=capacity, stack=4, batch_size=2)
    add_run(replay, 0, 8, restarts=(3,))
    with pytest.raises(BadRequestError, match=r"none of . stored decisions has 4 frames"):
        replay.sample()


def test_only_what_is_filled_is_written_and_read(tmp_path: Path) -> None:
    """A memory map of the whole capacity would be 10 GB of frames of 100 x 100."""
    replay = Replay(capacity=1_000_000, stack=1, batch_size=4)
    number = torch.arange(6)[:, None]
    frames = number[:, :, None, None].expand(-1, -1, 100, 100).to(torch.uint8)
    replay.add(frames, number, number.float(), number > 9, number >= 0)
    replay.save(tmp_path / "replay")
    sizes = {path.name: path.stat().st_blocks * 512 for path in (tmp_path / "replay").iterdir()}
    assert sum(sizes.values()) < 200_000
    again = Replay(capacity=1_000_000, stack=1, batch_size=4)
    again.load(tmp_path / "replay")
    assert len(again) == 6
    assert np.array_equal(np.load(tmp_path / "replay" / "action.npy"), np.arange(6))


def test_a_replay_is_written_and_read_without_memory_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk a memory map ends the process, SIGBUS, without a word."""
    monkeypatch.setattr(mmap, "mmap", lambda *_, **__: pytest.fail("a memory map"))
    filled().save(tmp_path / "replay")
    again = Replay(capacity=500, stack=STACK, batch_size=256)
    again.load(tmp_path / "replay")
    assert len(again) == 2 * STEPS * COPIES


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_half(tmp_path: Path) -> None:
    replay = filled()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(UnwritableError, match=r"npy: cannot be written \(file too large\)"):
            replay.save(tmp_path / "replay")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "replay").glob("*.tmp*"))


def test_a_replay_larger_than_memory_is_one_line() -> None:
    """A petabyte, of one pixel a frame: no system promises that."""
    replay = Replay(capacity=2**50, stack=1, batch_size=4)
    with pytest.raises(BadRequestError, match=r"replay\.capacity: .* take .* GiB.* lower it$"):
        replay.add(
            torch.zeros(1, 1, 1, 1, dtype=torch.uint8),
            *[torch.zeros(1, 1)] * 3,
            torch.ones(1, 1) > 0,
        )


def damage_length(folder: Path) -> None:
    (folder / "replay.json").write_text('{"added": 40}')


def damage_dtype(folder: Path) -> None:
    np.save(folder / "action.npy", np.zeros(48, np.float64))


def damage_end(folder: Path) -> None:
    content = (folder / "frame.npy").read_bytes()
    (folder / "frame.npy").write_bytes(content[:-5])


def damage_pickle(folder: Path) -> None:
    np.save(folder / "action.npy", np.array([print] * 48, dtype=object))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_length, "frames of 40 decisions, 40 are kept"),
        (damage_dtype, "action.npy: values of float64"),
        (damage_end, "fewer values than"),
        (damage_pickle, "action.npy: values of object"),
    ],
)
def test_a_damaged_replay_is_refused(
    damage: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    filled().save(tmp_path / "replay")
    damage(tmp_path / "replay")
    with pytest.raises(ValueError, match=words):
        Replay(capacity=500, stack=STACK, batch_size=256).load(tmp_path / "replay")


def test_a_ring_that_was_given_more_room_goes_on_behind_its_last(tmp_path: Path) -> None:
    """A longer run has more places; a shorter one keeps what is stored."""
    first = Replay(capacity=500, stack=1, batch_size=100, most=8)
    add_run(first, 0, 8)
    first.save(tmp_path / "replay")
    longer = Replay(capacity=500, stack=1, batch_size=100, most=12)
    longer.load(tmp_path / "replay")
    add_run(longer, 8, 4)
    assert longer._stored["action"].tolist() == list(range(12))
    shorter = Replay(capacity=500, stack=1, batch_size=100, most=3)
    shorter.load(tmp_path / "replay")
    assert len(shorter) == 8
