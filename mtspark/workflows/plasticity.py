"""Plasticity of a checkpoint, on frames of its own games."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath, check_checkpoint_file
from mtspark.core.progress import ProgressCallback, begin, no_progress

if TYPE_CHECKING:
    from mtspark.train.plasticity import Plasticity


def measure_checkpoint(
    path: AnyPath,
    *,
    decisions: int = 256,
    seed: int = 0,
    threshold: float = 0.001,
    delta: float = 0.01,
    progress: ProgressCallback = no_progress,
) -> Plasticity:
    """Play an agent's games and measure its network's plasticity.

    Args:
        path: of the agent's file.
        decisions: of each task.
        seed: of games and random actions.
        threshold: a neuron is dormant if its score is at most this.
        delta: share of the singular values' sum that the effective rank leaves out.
        progress: called at every decision.

    Raises:
        BadFileError: no agent file.
        BadRequestError: numbers out of range, a task that is no game, or a stateful agent.
    """
    if decisions < 1 or seed < 0:
        raise BadRequestError(
            f"{decisions} decisions, seed {seed}: at least 1 and at least 0 are needed"
        )
    if not 0 <= threshold <= 1 or not 0 <= delta < 1:
        raise BadRequestError(
            f"threshold {threshold:g}, delta {delta:g}: a share from 0 to 1 and one from 0 up to "
            "below 1 are needed"
        )
    check_checkpoint_file(path)
    begin(progress, "reading the checkpoint", "torch")
    from mtspark.train.checkpoint import load_agent
    from mtspark.train.plasticity import measure, play_transitions

    agent = load_agent(path)
    transitions = play_transitions(agent, decisions, seed, progress)
    names = tuple(task.name for task in agent.tasks)
    return measure(agent.network, transitions, names, threshold=threshold, delta=delta)
