"""The game of a chip in the loop: frame by frame, at a console's rate."""

from __future__ import annotations

from mtspark.core.environments import AreaResize, FrameGame

__all__ = ["FRAME_RATE_HZ", "AreaResize", "FrameGame"]

FRAME_RATE_HZ = 60.0
"""Emulator frames in a second of a console's time, as the Atari literature counts them."""
