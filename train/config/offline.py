"""Settings of learning from recorded data alone."""

from __future__ import annotations

from dataclasses import dataclass

from mtspark.train.config.checks import check_above_zero, check_at_most

OFFLINE = ("iql", "bcq")
"""Algorithms that play nothing."""
LARGEST = {
    **{"critic_layers": 8192, "sharpness": 10**6, "largest_weight": 10**9},
    "deviation": 100,
}
MOST_LAYERS = 8


@dataclass(frozen=True)
class OfflineConfig:
    """Of the algorithms iql and bcq, which learn from datasets of `mtspark record`.

    * ``iql``: implicit Q-learning (Kostrikov et al. 2021, arXiv:2110.06169): values of states by
      expectile regression on the actions of the data, and the actor by regression on these
      actions, weighted by exp(sharpness * advantage). No value of another action is asked for.
    * ``bcq``: discrete batch-constrained Q-learning (Fujimoto et al. 2019, arXiv:1910.01708): the
      best action is one that a model of the data gives at least `threshold` times the chance of its
      likeliest. The actor learns to choose it, so that a chip needs neither critic nor model.

    Attributes:
        data: folders of datasets, one for all games or one for each.
        critic_layers: widths of the hidden layers of the critics, which do not spike; in front of
            them they have the convolutions of the network.
        critic_layer_norm: each hidden layer of the critics, and of the model of bcq, is normalised
            before its ReLU (Ba et al. 2016, arXiv:1607.06450); all of them stay on the host.
        target_rate: share of the critics mixed into their targets after each gradient step.
        expectile: of the values that a state's value is (iql): 0.5 their mean, near 1 the largest.
        sharpness: by which advantages are multiplied in the weights of actions (iql); 0 weighs all
            alike, which is behaviour cloning. It counts in learned rewards (`reward_scales`).
        largest_weight: of an action (iql).
        deviation: where actions are numbers, from -1 to 1, theirs around the actor's at the start;
            it is learned, for each task (iql).
        threshold: least chance of an action, as a share of the likeliest one's (bcq).

    Raises:
        ValueError: a number out of range.
    """

    data: tuple[str, ...] = ()
    critic_layers: tuple[int, ...] = (256, 256)
    critic_layer_norm: bool = False
    target_rate: float = 0.005
    expectile: float = 0.7
    sharpness: float = 3.0
    largest_weight: float = 100.0
    deviation: float = 0.6
    threshold: float = 0.3

    def __post_init__(self) -> None:
        """Check the numbers."""
        if len(self.critic_layers) > MOST_LAYERS or min(self.critic_layers, default=1) < 1:
            raise ValueError(
                f"critic_layers is {list(self.critic_layers)[:10]}, must be at most {MOST_LAYERS} "
                "widths of 1 or more"
            )
        check_above_zero(self, ("target_rate", "largest_weight", "deviation"))
        check_at_most(self, LARGEST)
        if self.target_rate > 1:
            raise ValueError(f"target_rate is {self.target_rate}, must be at most 1")
        if not 0 < self.expectile < 1:
            raise ValueError(f"expectile is {self.expectile}, must be above 0 and below 1")
        if self.sharpness < 0:
            raise ValueError(f"sharpness is {self.sharpness}, must be at least 0")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}, must be from 0 to 1")
        if not all(self.data):
            raise ValueError("data has an empty name of a folder; leave it out or name one")
