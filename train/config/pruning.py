"""When and how far synapses are cut during a run."""

from __future__ import annotations

from dataclasses import dataclass

from mtspark.train.config.checks import MOST_STEPS, check_at_most


@dataclass(frozen=True)
class PruningConfig:
    """Gradual magnitude pruning (Zhu and Gupta 2017, arXiv:1710.01878).

    Attributes:
        layers: whose synapses are cut: hidden, conv1, conv2, ...; empty: none.
        density: share of each layer's synapses that is left in the end.
        start: share of the run's decisions before the first cut.
        end: share of the run's decisions after which no more are cut.
        every_updates: updates between two cuts.

    Raises:
        ValueError: a number out of its range.
    """

    layers: tuple[str, ...] = ()
    density: float = 0.05
    start: float = 0.05
    end: float = 0.5
    every_updates: int = 10

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 < self.density <= 1:
            raise ValueError(f"density is {self.density}, must be above 0 and at most 1")
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(
                f"start {self.start} and end {self.end}: 0 <= start < end <= 1 is needed"
            )
        if self.every_updates < 1:
            raise ValueError(f"every_updates is {self.every_updates}, must be at least 1")
        check_at_most(self, {"every_updates": MOST_STEPS})

    def density_at(self, share: float) -> float:
        """Density of the layers after a share of the run: falls by a cubic from 1.

        d(s) = d_end + (1 - d_end) (1 - (s - start) / (end - start))^3 between start and end.
        """
        passed = min(max((share - self.start) / (self.end - self.start), 0.0), 1.0)
        return self.density + (1.0 - self.density) * (1.0 - passed) ** 3
