"""Agent files: weights, sizes, tasks, protocol and measured returns in one .pt file."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from mtspark.core.errors import BadFileError
from mtspark.core.protocol import (
    GameProtocol,
    Task,
    protocol_from_json,
    protocol_to_json,
    tasks_from_json,
    tasks_to_json,
)
from mtspark.train.network import ConvSize, MTSparkNetwork, NetworkConfig

FORMAT = "mtspark-agent"
VERSION = 1


@dataclass
class Agent:
    """A trained network with everything needed to evaluate it as it was trained.

    Attributes:
        network: the network, on the CPU, in eval mode.
        tasks: the games it knows, in the order of its context.
        protocol: how those games are played.
        training: how it was trained (configuration, steps, returns), plain values.
        evaluations: measured returns, each with backend, seed, episodes and protocol.
    """

    network: MTSparkNetwork
    tasks: tuple[Task, ...]
    protocol: GameProtocol
    training: dict[str, Any] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)


def save_agent(agent: Agent, path: Path) -> None:
    """Write an agent file; the old file stays whole until the new one is complete."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "network": asdict(agent.network.config),
        "tasks": tasks_to_json(agent.tasks),
        "protocol": protocol_to_json(agent.protocol),
        "training": agent.training,
        "evaluations": agent.evaluations,
        "state": {name: value.cpu() for name, value in agent.network.state_dict().items()},
    }
    save_whole(content, path)


def save_whole(content: dict[str, Any], path: Path) -> None:
    """torch.save to a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_agent(path: Path) -> Agent:
    """Read an agent file, tensors and plain values only: no code in it is ever run.

    Raises:
        BadFileError: the file is missing, is no checkpoint, or does not fit its own sizes.
    """
    content = load_plain(path, FORMAT)
    if content.get("version") != VERSION:
        raise BadFileError(
            f"{path}: agent format version {content.get('version')!r}, this mtspark reads "
            f"{VERSION}; export it with the mtspark that wrote it"
        )
    config = _network_config(content.get("network"), path)
    tasks = tasks_from_json(content.get("tasks"), str(path))
    if len(tasks) != config.tasks:
        raise BadFileError(f"{path}: {len(tasks)} tasks listed, network built for {config.tasks}")
    training, evaluations = content.get("training", {}), content.get("evaluations", [])
    if not isinstance(training, dict) or not isinstance(evaluations, list):
        raise BadFileError(f"{path}: 'training' must be an object and 'evaluations' a list")
    network = MTSparkNetwork(config)
    try:
        network.load_state_dict(content["state"])
    except (KeyError, RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadFileError(f"{path}: weights do not fit the network sizes: {reason}") from error
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise BadFileError(f"{path}: {name} has values that are not finite")
    protocol = protocol_from_json(content.get("protocol"), str(path))
    if protocol.observation_shape != config.observation_shape:
        raise BadFileError(
            f"{path}: protocol gives frames of {protocol.observation_shape}, the network takes "
            f"{config.observation_shape}"
        )
    if max(action for task in tasks for action in task.legal_actions) >= config.actions:
        raise BadFileError(f"{path}: a legal action lies outside the {config.actions} outputs")
    return Agent(
        network=network.eval(),
        tasks=tasks,
        protocol=protocol,
        training=training,
        evaluations=evaluations,
    )


def load_plain(path: Path, expected_format: str) -> dict[str, Any]:
    """torch.load restricted to tensors and plain values, with its format name checked.

    Raises:
        BadFileError: missing, unreadable, or another format.
    """
    if not path.is_file():
        raise BadFileError(f"{path}: no such file; give the path of a checkpoint (.pt)")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load raises whatever its unpickler and zip reader meet in a malformed file.
        reason = " ".join(str(error).split())[:120]
        raise BadFileError(
            f"{path}: not a PyTorch checkpoint that is safe to load: {reason}"
        ) from error
    if not isinstance(content, dict) or content.get("format") != expected_format:
        raise BadFileError(
            f"{path}: a PyTorch file, but no {expected_format} checkpoint; "
            "train one with `python -m mtspark.train`"
        )
    return content


def _network_config(data: Any, path: Path) -> NetworkConfig:
    names = {entry.name for entry in fields(NetworkConfig)}
    if not isinstance(data, dict) or set(data) != names:
        raise BadFileError(f"{path}: network sizes must be exactly the fields {sorted(names)}")
    try:
        convolutions = tuple(ConvSize(**size) for size in data["convolutions"])
        shape = tuple(int(length) for length in data["observation_shape"])
        config = NetworkConfig(**{**data, "convolutions": convolutions, "observation_shape": shape})
        if type(config.time_steps) is not int or config.time_steps < 1:
            raise ValueError(f"{config.time_steps!r} time steps, at least 1 is needed")
        if not (math.isfinite(config.beta) and math.isfinite(config.threshold)):
            raise ValueError(f"beta {config.beta} and threshold {config.threshold} must be finite")
        MTSparkNetwork(config)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadFileError(f"{path}: network sizes cannot be built: {reason}") from error
    return config
