"""Agent files: weights, sizes, tasks, protocol and measured returns in one .pt file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mtspark.core.environments import (
    GameProtocol,
    Task,
    protocol_from_json,
    protocol_to_json,
    tasks_from_json,
    tasks_to_json,
)
from mtspark.core.errors import BadFileError, BadNetworkError, BadRequestError, one_line
from mtspark.core.files import AnyPath, FileLimits, chosen_policy, read_guarded, write_bytes
from mtspark.core.version import is_version
from mtspark.train.checkpoint.archive import (
    REBUILD,
    read_tensors,
    weights_in,
    with_tensors,
)
from mtspark.train.networks import (
    FIRST_FIELDS,
    ConvSize,
    MTSparkNetwork,
    NetworkConfig,
    check_agent_limits,
    check_network_config,
    network_to_json,
    weight_shapes,
)

FORMAT = "mtspark-agent"
VERSION = 1


@dataclass
class Agent:
    """A trained network with everything that is needed to evaluate it.

    Attributes:
        network: the network, on the CPU, in eval mode.
        tasks: the games it knows, in the order of its context.
        protocol: how those games are played; None where no task is a game.
        training: how it was trained (configuration, steps, returns), plain values.
        evaluations: measured returns, each with backend, seed, episodes and protocol.
    """

    network: MTSparkNetwork
    tasks: tuple[Task, ...]
    protocol: GameProtocol | None
    training: dict[str, Any] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)


def save_agent(agent: Agent, path: AnyPath) -> None:
    """Write an agent file; it replaces an older one only when it is complete.

    Raises:
        BadFileError: it cannot be written.
        BadRequestError: the first argument is no agent, or one that no file can hold.
    """
    if not isinstance(agent, Agent):
        raise BadRequestError(f"agent: is {type(agent).__name__}; give an agent, and then its path")
    write_bytes(path, agent_bytes(agent))


def agent_bytes(agent: Agent) -> bytes:
    """Make the content of an agent's file.

    Raises:
        BadRequestError: nobody could read it: its network is wrapped, has parametrisations, or
            weights that are not finite.
    """
    _check_network(agent)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "network": network_to_json(agent.network.config),
        "tasks": tasks_to_json(agent.tasks),
        "protocol": None if agent.protocol is None else protocol_to_json(agent.protocol),
        "training": agent.training,
        "evaluations": agent.evaluations,
        "state": {name: value.cpu() for name, value in agent.network.state_dict().items()},
    }
    return _saved(content)


def _check_network(agent: Agent) -> None:
    network: nn.Module = agent.network
    if not isinstance(network, MTSparkNetwork):
        wrapped = isinstance(getattr(network, "_orig_mod", None), MTSparkNetwork)
        remedy = "; give what torch.compile was given, agent.network._orig_mod" if wrapped else ""
        raise BadRequestError(
            f"agent: its network is {type(network).__name__}, must be one of mtspark{remedy}"
        )
    masked = [name for name, one in network.named_modules() if parametrize.is_parametrized(one)]
    if masked:
        raise BadRequestError(
            f"agent: its network has parametrisations in {', '.join(masked)}, which no agent file "
            "holds; take them away first, as by fold() of a SparseModule"
        )
    if names := not_finite(network.state_dict()):
        raise BadRequestError(
            f"agent: {names[0]} has values that are not finite; give the weights of before the "
            "training diverged"
        )


def not_finite(values: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold a value that is not finite."""
    return [
        name
        for name, value in values.items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]


def save_whole(content: dict[str, Any], path: AnyPath) -> None:
    """Write tensors and plain values with torch.save, whole or not at all.

    Raises:
        BadFileError: it cannot be written.
    """
    write_bytes(path, _saved(content))


def _saved(content: dict[str, Any]) -> bytes:
    # In memory: of a full disk torch.save says no more than that it failed.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load_agent(
    path: AnyPath,
    limits: FileLimits | None = None,
    trust: bool | None = None,
    *,
    content: bytes | None = None,
) -> Agent:
    """Read an agent file, tensors and plain values only: no code in it is ever run.

    Args:
        path: the file.
        limits, trust: see :func:`mtspark.core.files.sandbox.read_guarded`.
        content: the file's bytes where they have been read; then `path` only names them.

    Raises:
        BadFileError: the file is missing, is no checkpoint, is over a limit, or does not fit
            its own sizes.
    """
    path = Path(path)

    def read(bounds: FileLimits) -> dict[str, Any]:
        values = _read_plain(path, FORMAT, bounds, content)
        _agent(path, with_tensors(values), bounds)
        return values

    values = with_tensors(read_guarded(str(path), read, limits, trust))
    return _agent(path, values, chosen_policy(limits, trust).limits)


def _agent(path: Path, content: dict[str, Any], limits: FileLimits) -> Agent:
    version = content.get("version")
    if not is_version(version, VERSION):
        raise BadFileError(
            f"{path}: agent format version {one_line(repr(version), 40)}, this mtspark reads "
            f"{VERSION}; export it with the mtspark that wrote it"
        )
    config = _network_config(content.get("network"), path, limits)
    tasks = tasks_from_json(content.get("tasks"), str(path))
    if len(tasks) != config.tasks:
        raise BadFileError(f"{path}: {len(tasks)} tasks listed, network built for {config.tasks}")
    training, evaluations = content.get("training", {}), content.get("evaluations", [])
    if not isinstance(training, dict) or not isinstance(evaluations, list):
        raise BadFileError(f"{path}: 'training' must be an object and 'evaluations' a list")
    network = _built(path, config, content.get("state"))
    if names := not_finite(network.state_dict()):
        raise BadFileError(f"{path}: {names[0]} has values that are not finite")
    protocol = None
    if any(task.is_ale for task in tasks) or content.get("protocol") is not None:
        protocol = protocol_from_json(content.get("protocol"), str(path))
    if protocol is not None and protocol.observation_shape != config.observation_shape:
        raise BadFileError(
            f"{path}: protocol gives frames of {protocol.observation_shape}, the network takes "
            f"{config.observation_shape}"
        )
    for task in tasks:
        seen = None if task.environment is None else task.environment.found
        kind = "pixels" if seen is None else "values" if seen.graded else "spikes"
        fits = seen is None or seen.shape == config.observation_shape
        if (kind != config.input and task.game) or not fits:
            raise BadFileError(
                f"{path}: task {task.name} shows {kind}, the network takes {config.input} of shape "
                f"{config.observation_shape}"
            )
    legal = [action for task in tasks for action in task.legal_actions]
    if max(legal, default=0) >= config.actions:
        raise BadFileError(f"{path}: a legal action lies outside the {config.actions} outputs")
    return Agent(
        network=network.eval(),
        tasks=tasks,
        protocol=protocol,
        training=training,
        evaluations=evaluations,
    )


def load_plain(
    path: AnyPath,
    expected_format: str,
    limits: FileLimits | None = None,
    trust: bool | None = None,
) -> dict[str, Any]:
    """Read one of mtspark's PyTorch files as tensors and plain values.

    Args:
        path: the file.
        expected_format: its format name.
        limits, trust: see :func:`mtspark.core.files.sandbox.read_guarded`.

    Raises:
        BadFileError: missing, unreadable, over a limit, or another format.
    """
    path = Path(path)

    def read(bounds: FileLimits) -> dict[str, Any]:
        return _read_plain(path, expected_format, bounds)

    content: dict[str, Any] = with_tensors(read_guarded(str(path), read, limits, trust))
    return content


def _read_plain(
    path: Path, expected_format: str, limits: FileLimits, content: bytes | None = None
) -> dict[str, Any]:
    values = read_tensors(path, limits, content)
    if not isinstance(values, dict) or values.get("format") != expected_format:
        if expected_format == FORMAT and weights_in(values) and not _ours(values):
            raise BadFileError(
                f"{path}: holds the weights of a network, not the network; "
                + REBUILD.format(path=path)
            )
        raise BadFileError(
            f"{path}: a PyTorch file, but no {expected_format} checkpoint; "
            "train one with `mtspark train`"
        )
    return values


def _ours(content: Any) -> bool:
    """Whether a file is another one of mtspark's formats."""
    return isinstance(content, dict) and str(content.get("format", "")).startswith("mtspark")


def _network_config(data: Any, path: Path, limits: FileLimits) -> NetworkConfig:
    names = {entry.name for entry in fields(NetworkConfig)}
    if not isinstance(data, dict) or not set(FIRST_FIELDS) <= set(data) <= names:
        raise BadFileError(f"{path}: network sizes must be exactly the fields {sorted(names)}")
    try:
        lists = {"dendrite_layers", "masked_layers", "pathway_layers", "dense"} & set(data)
        data = {**data, **{name: tuple(data[name]) for name in lists}}
        convolutions = tuple(ConvSize(**size) for size in data["convolutions"])
        channels, height, width = (int(length) for length in data["observation_shape"])
        shape = (channels, height, width)
        config = NetworkConfig(**{**data, "convolutions": convolutions, "observation_shape": shape})
        check_network_config(config)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, BadNetworkError) as error:
        raise BadFileError(f"{path}: network sizes cannot be built: {one_line(error)}") from error
    check_agent_limits(config, str(path), limits)
    return config


def _built(path: Path, config: NetworkConfig, state: Any) -> MTSparkNetwork:
    """The network with its weights; it is built only if the weights have its sizes."""
    weights = {} if not isinstance(state, dict) else state
    for name, shape in weight_shapes(config).items():
        value = weights.get(name)
        if not isinstance(value, torch.Tensor) or value.shape != shape:
            have = tuple(value.shape) if isinstance(value, torch.Tensor) else "missing"
            raise BadFileError(
                f"{path}: weights do not fit the network sizes: {name} is {have}, {shape} needed"
            )
    try:
        network = MTSparkNetwork(config)
        network.load_state_dict(weights)
    except (
        KeyError,
        RuntimeError,
        AttributeError,
        TypeError,
        ValueError,
        ArithmeticError,
    ) as error:
        reason = one_line(error, 200)
        raise BadFileError(f"{path}: weights do not fit the network sizes: {reason}") from error
    return network
