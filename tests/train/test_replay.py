"""Replay gives back exactly the transitions that were played."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torchrl", reason="torchrl is not installed (pip install 'mtspark[dqn]')")

from mtspark.train.replay import Replay

STACK, COPIES, STEPS = 2, 2, 12
# Copy 0: the decision of step 4 ends the game, step 5 restarts it. Copy 1 plays on.
TERMINAL = torch.zeros(STEPS, COPIES, dtype=torch.bool)
TERMINAL[4, 0] = True
VALID = torch.ones(STEPS, COPIES, dtype=torch.bool)
VALID[5, 0] = False


def filled(chunks: int = 2) -> Replay:
    """The frame of decision t of copy c is filled with 100 c + t; its reward and action too."""
    replay = Replay(capacity=500, stack=STACK, batch_size=256)
    for chunk in range(chunks):
        number = torch.arange(STEPS)[:, None] + 100 * torch.arange(COPIES) + STEPS * chunk
        frames = number[:, :, None, None].expand(-1, -1, 3, 3).to(torch.uint8)
        replay.add(frames, number, number.float(), TERMINAL, VALID)
    return replay


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
    drawn = []
    for one in (replay, again):
        torch.manual_seed(5)
        drawn.append(one.sample())
    np.testing.assert_array_equal(drawn[0].frames, drawn[1].frames)


def test_a_full_replay_forgets_the_oldest() -> None:
    replay = Replay(capacity=2 * STEPS, stack=STACK, batch_size=256)
    for chunk in range(3):
        number = torch.arange(STEPS)[:, None] + 100 * torch.arange(COPIES) + STEPS * chunk
        frames = number[:, :, None, None].expand(-1, -1, 3, 3).to(torch.uint8)
        replay.add(frames, number, number.float(), TERMINAL, VALID)
    assert len(replay) == 2 * STEPS
    assert int(replay.sample().actions.remainder(100).min()) >= 2 * STEPS
