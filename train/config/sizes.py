"""Memory and disk that a run on games needs, worked out before anything begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mtspark.core.errors import BadRequestError
from mtspark.core.memory import available_memory, free_disk, size_text
from mtspark.train.config.games import TrainConfig
from mtspark.train.networks import weight_shapes

BYTES_BESIDE_FRAME = 8 + 4 + 1 + 8
"""Of a stored decision: action, reward, end, order."""
BYTES_OF_A_NUMBER = 4
STATE_COPIES = 4
"""Of the weights, in a checkpoint: both networks, and two moments of the optimizer."""


CRITICS = 2
"""Of sac; iql has two, as many targets and one of states."""


@dataclass(frozen=True)
class RunSizes:
    """Bytes that a run takes.

    Attributes:
        replay: of all replays, when they are as full as they get.
        rollout: of the frames of one update.
        state: of a checkpoint without its replays, and an agent file.
    """

    replay: int
    rollout: int
    state: int

    @property
    def memory(self) -> int:
        """At least what the process needs."""
        return self.replay + self.rollout + self.state

    @property
    def disk(self) -> int:
        """A new checkpoint is written before the old one goes."""
        return 2 * (self.replay + self.state)


def replay_places(config: TrainConfig) -> tuple[int, ...]:
    """Decisions that the replay of each game holds when it is as full as it gets in this run."""
    copies = config.copies
    if config.schedule == "interleaved":
        together = sum(copies)
        planned = config.total_steps + together * config.rollout_steps
        shares = [planned * own // together for own in copies]
    else:
        shares = [config.total_steps + own * config.rollout_steps for own in copies]
    return tuple(min(config.replay.capacity, share) for share in shares)


def run_sizes(config: TrainConfig) -> RunSizes:
    """What a run takes; what PyTorch needs within an update comes on top."""
    stack, *picture = config.network.observation_shape
    frame = math.prod(picture)
    replay = 0
    if config.algorithm == "dqn":
        replay = sum(replay_places(config)) * (frame + BYTES_BESIDE_FRAME)
    if config.algorithm == "sac":
        numbers = 2 * (frame + config.network.tasks) + config.network.actions + 2
        replay = sum(replay_places(config)) * numbers * BYTES_OF_A_NUMBER
    playing = sum(config.copies) if config.schedule == "interleaved" else max(config.copies)
    # PQN keeps the frames before and after every decision.
    stacks = 2 if config.algorithm == "pqn" else 1
    rollout = stacks * config.rollout_steps * playing * stack * frame
    weights = 4 * sum(math.prod(shape) for shape in weight_shapes(config.network).values())
    if config.algorithm == "sac":
        weights += CRITICS * 4 * _weights_of_critic(config)
    if config.learns_offline:
        # Three or four learn or follow; behind convolutions they see less than this.
        weights += 2 * CRITICS * 4 * _weights_of_critic(config)
    if config.algorithm == "ppo":
        # Behind convolutions it sees less than this.
        weights += 4 * _weights_of_critic(config)
    return RunSizes(replay, rollout, (STATE_COPIES + 1) * weights)


def _weights_of_critic(config: TrainConfig) -> int:
    """Weights and biases of one of the networks that values a decision."""
    seen = math.prod(config.network.observation_shape) + config.network.tasks
    widths = (seen + config.network.actions, *config.sac.critic_layers, 1)
    if config.algorithm == "ppo":
        widths = (seen, *config.ppo.critic_layers, config.network.tasks)
    if config.learns_offline:
        outputs = config.network.tasks * config.network.actions
        widths = (seen + config.network.actions, *config.offline.critic_layers, outputs)
    return sum((own + 1) * following for own, following in pairwise(widths))


def check_sizes(config: TrainConfig, folder: Path) -> None:
    """Check that a run fits into memory and onto the disk, before it begins.

    What the folder holds of an earlier start is replaced, so it counts as free.

    Raises:
        BadRequestError: it does not fit; the message says what takes most and what there is.
    """
    sizes, free = run_sizes(config), available_memory()
    if sizes.memory > free:
        raise BadRequestError(
            f"this run needs {size_text(sizes.memory)} of memory, {size_text(free)} are free; "
            f"{_largest(config, sizes)}"
        )
    there = [path for path in folder.glob("replay.*/**/*") if path.is_file()]
    held = sum(path.stat().st_size for path in (*there, *folder.glob("resume.pt")))
    free = free_disk(folder)
    if sizes.disk - held > free:
        raise BadRequestError(
            f"{folder}: this run's checkpoints take {size_text(sizes.disk)} while one replaces "
            f"another, {size_text(free)} are free there; {_largest(config, sizes, disk=True)} or "
            "choose another folder"
        )


def _largest(config: TrainConfig, sizes: RunSizes, *, disk: bool = False) -> str:
    """What takes most, and which field makes it smaller."""
    shapes = weight_shapes(config.network)
    largest = max(shapes, key=lambda name: math.prod(shapes[name]))
    width = "network.dense" if largest.startswith("dense.") else "network.hidden"
    network = (sizes.state, "the weights of the network, with the optimizer's", width)
    replay = (
        sizes.replay,
        f"{sum(replay_places(config)):,} decisions in the replays",
        "replay.capacity",
    )
    rollout = (sizes.rollout, "the frames of one update", "games_per_task or rollout_steps")
    size, what, field = max((network, replay) if disk else (network, replay, rollout))
    return f"{what} take {size_text(size)}, lower {field}"
