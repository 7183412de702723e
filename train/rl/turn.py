"""One decision of all active games."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtspark.train.rl.collect import Step


@dataclass(frozen=True)
class Turn:
    """One decision of all active games, as tensors and arrays over all their copies.

    Attributes:
        frames: uint8 (copies, stack, height, width), before the decision.
        greedy: (copies,) best actions.
        actions: (copies,) played actions.
        rewards: (copies,) as they are learned.
        steps: the outcome for each active game.
        allowed: (copies, actions) which of them were allowed; None: all legal ones.
    """

    frames: Tensor
    greedy: Tensor
    actions: Tensor
    rewards: Tensor
    steps: tuple[Step, ...]
    allowed: Tensor | None = None

    def joined(self, name: str) -> Tensor:
        """A field of all steps, concatenated over games."""
        return torch.from_numpy(np.concatenate([getattr(step, name) for step in self.steps]))
