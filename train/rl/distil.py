"""Learning from teachers, on the student's own play (Rusu et al. 2016, arXiv:1511.06295)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mtspark.core.environments import GameProtocol, Task
from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint import load_agent
from mtspark.train.networks import MTSparkNetwork, NetworkConfig, mask_illegal, network_to_json
from mtspark.train.rl.known import known_as

Teacher = tuple[MTSparkNetwork, int]
"""A network and the index of the taught game among its own tasks."""


def load_teachers(
    paths: tuple[str, ...],
    tasks: tuple[Task, ...],
    student: NetworkConfig,
    protocol: GameProtocol,
) -> list[Teacher | None]:
    """Load the teacher of each task; None where its path is empty.

    Raises:
        BadFileError: a teacher's file cannot be read.
        BadRequestError: not one path a task; or a teacher that does not know it, see
            :func:`mtspark.train.rl.known.known_as`, or whose frames, actions or decision delay
            differ from the student's.
    """
    if not paths:
        return [None] * len(tasks)
    if len(paths) != len(tasks):
        raise BadRequestError(
            f"teachers: {len(paths)} for {len(tasks)} games; name one for each, '' for none"
        )
    teachers: list[Teacher | None] = []
    for path, task in zip(paths, tasks, strict=True):
        if not path:
            teachers.append(None)
            continue
        if task.environment is not None and task.environment.found.graded:
            raise BadRequestError(
                f"teachers: {path} sees numbers relative to statistics of its own, which a student "
                f"of {task.name} does not share; learn it from its rewards"
            )
        agent = load_agent(Path(path))
        place = known_as(task, agent.tasks, f"teachers: {path}")
        own = agent.network.config
        if own.observation_shape != student.observation_shape or own.actions != student.actions:
            raise BadRequestError(
                f"teachers: {path} sees frames of {own.observation_shape} and has {own.actions} "
                f"actions, this run's network {student.observation_shape} and {student.actions}; "
                "they must be the same"
            )
        delay = 0 if agent.protocol is None else agent.protocol.decision_delay
        if delay != protocol.decision_delay:
            raise BadRequestError(
                f"teachers: {path} learned with a decision delay of {delay}, this run has "
                f"{protocol.decision_delay}; they must be the same: train a teacher with "
                f"protocol.decision_delay = {protocol.decision_delay}"
            )
        if agent.tasks[place].told != task.told:
            raise BadRequestError(
                f"teachers: {path} and this run see other flags of the task in their frames; use "
                "the task_context and the games of that agent, or leave one of both out"
            )
        teachers.append((agent.network, place))
    return teachers


def fingerprints(teachers: list[Teacher | None]) -> list[str]:
    """SHA-256 of what each teacher is, by which a resumed run knows it again; "" for none."""
    return ["" if teacher is None else _fingerprint(*teacher) for teacher in teachers]


def _fingerprint(network: MTSparkNetwork, task: int) -> str:
    digest = hashlib.sha256(json.dumps(network_to_json(network.config)).encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return f"{digest.hexdigest()} of task {task}"


@torch.no_grad()
def advice(
    teachers: list[Teacher | None], frames: Tensor, tasks: Tensor, mask: Tensor, *, bfloat16: bool
) -> Tensor:
    """The teachers' action values for a batch of frames.

    Args:
        teachers: by task.
        frames: uint8 (batch, stack, height, width).
        tasks: (batch,) task indices.
        mask: (tasks, actions) legal actions.
        bfloat16: products in bfloat16.

    Returns:
        (batch, actions), illegal ones out of reach; zeros where a task has no teacher.
    """
    values = torch.zeros(len(frames), mask.shape[1], device=frames.device)
    for index, teacher in enumerate(teachers):
        if teacher is None:
            continue
        network, own_task = teacher
        for chunk in torch.nonzero(tasks == index).squeeze(1).split(512):
            known_as = torch.full((len(chunk),), own_task, device=frames.device)
            with torch.autocast(frames.device.type, dtype=torch.bfloat16, enabled=bfloat16):
                values[chunk] = mask_illegal(network(frames[chunk], known_as), mask[tasks[chunk]])
    return values


def divergence(values: Tensor, advised: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student's softmax policy from the teacher's.

    Both are softmax(values / temperature), (batch, actions); the result, (batch,), is
    multiplied by the temperature, so that its gradient does not grow as it falls.
    """
    wanted = functional.log_softmax(advised / temperature, dim=1)
    given = functional.log_softmax(values / temperature, dim=1)
    return temperature * (wanted.exp() * (wanted - given)).sum(1)
