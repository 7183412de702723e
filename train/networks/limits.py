"""Sizes of a network's weights and layers, and the limits on them that an agent file has."""

from __future__ import annotations

import math

from mtspark.core.files import FileLimits, over
from mtspark.train.networks.config import HIDDEN, NetworkConfig


def check_agent_limits(config: NetworkConfig, where: str, limits: FileLimits) -> None:
    """Check that the agent file of a network could be read again; `where` names it in the error.

    Raises:
        BadFileError: over a limit.
    """
    if config.time_steps > limits.time_steps:
        raise over("time_steps", where, config.time_steps, limits)
    largest = max(map(math.prod, (config.observation_shape, *config.layer_shapes.values())))
    if largest > limits.neurons:
        raise over("neurons", f"{where}: one layer of", largest, limits)
    sizes = {
        name: math.prod(shape) * (1 if name.endswith((".mask", ".paths")) else 4)
        for name, shape in weight_shapes(config).items()
    }
    name, size = max(sizes.items(), key=lambda entry: entry[1])
    if size > limits.array_bytes:
        raise over("array_bytes", f"{where}: {name}", size, limits)
    if sum(sizes.values()) > limits.total_bytes:
        raise over("total_bytes", f"{where}: the weights", sum(sizes.values()), limits)


def weight_shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of a network's weights and masks, most of its memory, by their names in its state."""
    shapes: dict[str, tuple[int, ...]] = {}
    before: tuple[int, ...] = config.observation_shape
    names, layers = config.layer_names, config.layer_shapes
    convolved = len(config.convolutions)
    connected = names[convolved:]
    for index, name in enumerate(names):
        synapses: tuple[int, ...] = (layers[name][0], math.prod(before))
        owner = HIDDEN if name == HIDDEN else f"dense.{index - convolved}"
        if index < convolved:
            kernel = config.convolutions[index].kernel
            synapses, owner = (layers[name][0], before[0], kernel, kernel), f"convolutions.{index}"
        shapes[f"{owner}.synapses.weight"] = synapses
        before = layers[name]
        if name in config.masked_layers:
            shapes[f"{owner}.mask"] = synapses
        if name in config.pathway_layers:
            shapes[f"{owner}.paths"] = (config.tasks, *synapses)
    if config.recurrent:
        shapes["recurrent.weight"] = (config.hidden, config.hidden)
    for layer, segments in config.segment_shapes.items():
        kind = "dense" if layer in connected else "conv"
        owner = "dendrites" if layer == HIDDEN else f"{kind}_dendrites.{layer}"
        shapes[f"{owner}.segments"] = segments
    heads = config.tasks if config.heads == "task" else 1
    shapes["advantage.weight"] = (config.actions * heads, config.head_inputs)
    if config.experts:
        shapes["expert_gate"] = (config.tasks, config.experts)
    return shapes
