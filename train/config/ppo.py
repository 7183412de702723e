"""Settings of proximal policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass

from mtspark.core.environments import Task, box_of
from mtspark.train.config.checks import check_above_zero, check_at_most

LARGEST = {
    **{"critic_layers": 8192, "clip": 100, "value_weight": 10**6, "entropy": 10**6},
    **{"deviation": 100, "largest_change": 10**6},
}
MOST_LAYERS = 8


@dataclass(frozen=True)
class PpoConfig:
    """Of the algorithm ppo (Schulman et al. 2017, arXiv:1707.06347).

    Attributes:
        critic_layers: widths of the critic's hidden layers, which do not spike; in front of them,
            it has the convolutions of the network.
        critic_layer_norm: each of these hidden layers is normalised before its tanh (Ba et al.
            2016, arXiv:1607.06450); the critic stays on the host, so the chip does not care.
        clip: the ratio of an action's new chance to its old one counts from 1 - clip to 1 + clip.
        entropy: weight of the entropy of actions in the loss, which keeps them random.
        value_weight: weight of the critic's squared error in the loss.
        largest_change: passes over a rollout end where the policy's divergence from the one that
            played is above 1.5 times this, in nats; 0: never.
        deviation: where actions are numbers, of a value before the tanh, at the start; it is
            learned, the same in all states; where tasks take different numbers, in each task.

    Raises:
        ValueError: a number out of range.
    """

    critic_layers: tuple[int, ...] = (128, 128)
    critic_layer_norm: bool = False
    clip: float = 0.2
    entropy: float = 0.01
    value_weight: float = 0.5
    largest_change: float = 0.0
    deviation: float = 0.6

    def __post_init__(self) -> None:
        """Check the numbers."""
        if len(self.critic_layers) > MOST_LAYERS or min(self.critic_layers, default=1) < 1:
            raise ValueError(
                f"critic_layers is {list(self.critic_layers)[:10]}, must be at most {MOST_LAYERS} "
                "widths of 1 or more"
            )
        check_above_zero(self, ("clip", "deviation"))
        for name in ("entropy", "value_weight", "largest_change"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0")
        check_at_most(self, LARGEST)


def why_not_together(tasks: tuple[Task, ...], algorithm: str) -> str | None:
    """Say why no network of one policy acts in all tasks; None where one does.

    Args:
        tasks: of a run.
        algorithm: whose others than ppo and iql learn no policy of either kind.
    """
    if algorithm not in ("ppo", "iql"):
        return None
    boxes = {task.name: box_of(task) for task in tasks}
    sizes = {name: box.size for name, box in boxes.items() if box is not None}
    if sizes and len(sizes) < len(boxes):
        others = ", ".join(name for name in boxes if name not in sizes)
        return (
            f"{', '.join(sizes)} takes numbers, {others} one of a list of actions; train an agent "
            "for each"
        )
    return None
