"""Settings of soft actor-critic."""

from __future__ import annotations

from dataclasses import dataclass

from mtspark.core.environments import Task, box_of
from mtspark.train.config.checks import check_above_zero, check_at_most

LARGEST = {"critic_layers": 8192, "temperature": 10**6, "deviation": 100}
MOST_LAYERS = 8


@dataclass(frozen=True)
class SacConfig:
    """Of the algorithm sac (Haarnoja et al. 2018, arXiv:1812.05905).

    Attributes:
        critic_layers: widths of the hidden layers of the two critics, which do not spike.
        critic_layer_norm: each hidden layer of the critics is normalised before its ReLU (Ba et al.
            2016, arXiv:1607.06450); they stay on the host, so the chip does not care.
        target_rate: share of the critics mixed into their targets after each gradient step.
        temperature: weight of the entropy at the start; it is learned.
        target_entropy: that it is learned for, in nats; None: -1 for each number of a decision.
        deviation: of a value before the tanh, at the start; it is learned, the same in all states.

    Raises:
        ValueError: a number out of range.
    """

    critic_layers: tuple[int, ...] = (256, 256)
    critic_layer_norm: bool = False
    target_rate: float = 0.005
    temperature: float = 0.2
    target_entropy: float | None = None
    deviation: float = 0.6

    def __post_init__(self) -> None:
        """Check the numbers."""
        if len(self.critic_layers) > MOST_LAYERS or min(self.critic_layers, default=1) < 1:
            raise ValueError(
                f"critic_layers is {list(self.critic_layers)[:10]}, must be at most {MOST_LAYERS} "
                "widths of 1 or more"
            )
        check_above_zero(self, ("temperature", "deviation", "target_rate"))
        check_at_most(self, LARGEST)
        if self.target_rate > 1:
            raise ValueError(f"target_rate is {self.target_rate}, must be at most 1")


def why_not_learned(task: Task, algorithm: str) -> str | None:
    """Say why an algorithm cannot learn a task; None where it can."""
    if box_of(task) is not None and algorithm not in ("sac", "ppo", "iql"):
        # What learns from recorded data goes on to do so.
        remedy = "iql" if algorithm == "bcq" else "sac"
        return (
            f"{task.name}: takes numbers (a Box of actions), algorithm {algorithm} learns one of a "
            f'list; set algorithm = "{remedy}"'
        )
    if box_of(task) is None and algorithm == "sac":
        return (
            f"{task.name}: takes one of a list of actions, algorithm sac learns numbers (a Box); "
            'set algorithm = "pqn"'
        )
    return None
