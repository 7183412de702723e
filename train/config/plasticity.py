"""What a run measures of its plasticity, and what it does for it."""

from __future__ import annotations

from dataclasses import dataclass

from mtspark.train.config.checks import LARGEST_BATCH, MOST_STEPS, check_at_most


@dataclass(frozen=True)
class PlasticityConfig:
    """Measures of plasticity in the log, and interventions.

    Attributes:
        measure_every: updates between two measurements; 0: none.
        samples: transitions of an update on which is measured and judged.
        dormant_threshold: a neuron is dormant if it is at most this share as active as the mean of
            its layer.
        rank_delta: share of the singular values' sum that the effective rank leaves out.
        redo_every: updates between two renewals of dormant neurons (ReDo: Sokar et al. 2023,
            arXiv:2302.12902); 0: none.
        reset_every: updates between two resets of the head, whose weights are drawn anew (Nikishin
            et al. 2022, arXiv:2205.07802); 0: none.
        reset_most: resets in a run.
        weight_decay: share of the learning rate by which all parameters of the network that plays,
            and of sac's critics, shrink at a step (Loshchilov and Hutter 2019, arXiv:1711.05101).

    Raises:
        ValueError: a number out of its range.
    """

    measure_every: int = 0
    samples: int = 256
    dormant_threshold: float = 0.001
    rank_delta: float = 0.01
    redo_every: int = 0
    weight_decay: float = 0.0
    reset_every: int = 0
    reset_most: int = 2

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("measure_every", "redo_every", "reset_every", "reset_most"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0")
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}, must be at least 1")
        check_at_most(
            self,
            {
                **dict.fromkeys(("measure_every", "redo_every", "reset_every"), MOST_STEPS),
                **{"reset_most": MOST_STEPS, "samples": LARGEST_BATCH},
            },
        )
        if not 0 <= self.rank_delta < 1:
            raise ValueError(f"rank_delta is {self.rank_delta}, must be from 0 up to below 1")
        for name in ("dormant_threshold", "weight_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be from 0 to 1")
