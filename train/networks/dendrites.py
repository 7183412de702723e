"""Active dendrites: a gain per neuron that the task's context vector sets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ActiveDendrites(nn.Module):
    """A gain per neuron and task: sigmoid of the strongest dendritic segment.

    Each neuron has K segments over a context vector. The segment with the largest absolute
    response (`absolute_max`), or with the largest one (`max`), is chosen and its signed value
    gates the neuron's input current, bias included (Iyer et al. 2022,
    doi:10.3389/fnbot.2022.846219, with the gate on the current).
    """

    def __init__(
        self, neurons: int, segments: int, context_size: int, selection: str = "absolute_max"
    ) -> None:
        super().__init__()
        self.segments = nn.Parameter(0.5 * torch.randn(neurons, segments, context_size))
        self.selection = selection

    def forward(self, context: Tensor) -> Tensor:
        """Gains in (0, 1) of shape (batch, neurons) for contexts (batch, context_size)."""
        responses = torch.einsum("nkc,bc->bnk", self.segments, context)
        strength = responses.abs() if self.selection == "absolute_max" else responses
        strongest = strength.argmax(dim=-1, keepdim=True)
        return torch.sigmoid(responses.gather(-1, strongest).squeeze(-1))


class TaskContext(nn.Module):
    """The context vector of every task.

    one_hot: the task's unit vector. embedding: a learned vector. prototype: a fixed vector of
    unit length that stands for the task's inputs, see :func:`prototype`; from an unlabelled
    input, :meth:`nearest` infers the task (as Iyer et al. 2022 do).
    """

    vectors: Tensor

    def __init__(self, kind: str, tasks: int, size: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "one_hot":
            self.register_buffer("vectors", torch.eye(tasks), persistent=False)
        elif kind == "embedding":
            self.vectors = nn.Parameter(torch.randn(tasks, size))
        else:
            self.register_buffer("vectors", torch.zeros(tasks, size))

    @property
    def size(self) -> int:
        """Length of a context vector."""
        return self.vectors.shape[1]

    def forward(self) -> Tensor:
        """All context vectors, (tasks, size)."""
        return self.vectors

    @torch.no_grad()
    def set_prototypes(self, frames: list[Tensor]) -> None:
        """Set each task's prototype from some of its frames, uint8 (count, ...) each."""
        self.vectors.copy_(torch.stack([prototype(part, self.size).mean(0) for part in frames]))
        self.vectors.copy_(functional.normalize(self.vectors, dim=1))

    @torch.no_grad()
    def nearest(self, frames: Tensor) -> Tensor:
        """Index of the task whose prototype is closest to each frame, (batch,)."""
        distances = torch.cdist(prototype(frames, self.size), self.vectors)
        return distances.argmin(1)


def prototype(frames: Tensor, size: int) -> Tensor:
    """Describe frames by `size` mean intensities, of unit length: (batch, size) float32."""
    flat = frames.flatten(1).float() / 255.0
    pooled = functional.adaptive_avg_pool1d(flat[:, None], size)[:, 0]
    return functional.normalize(pooled, dim=1)
