"""Published networks and neuron constants by name, and which networks a chip can run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mtspark.core.errors import BadRequestError
from mtspark.train.networks.config import NetworkConfig

VARIANTS: dict[str, dict[str, Any]] = {
    "dqn": {"neuron": "relu", "dendrite_segments": 0, "dueling": False},
    "dueling-dqn": {"neuron": "relu", "dendrite_segments": 0, "dueling": True},
    "dsqn": {"neuron": "lif", "dendrite_segments": 0, "dueling": False},
    "mtspark-ad": {"neuron": "lif", "dendrite_segments": 1, "dueling": False},
    "mtspark-add": {"neuron": "lif", "dendrite_segments": 1, "dueling": True},
}
"""Fields of every published variant: DQN and dueling DQN do not spike; DSQN is the plain spiking
network; AD adds active dendrites, ADD a dueling head as well (arXiv:2412.04847)."""

NEURONS: dict[str, dict[str, Any]] = {
    # The default: it learns best here and deploys unchanged.
    "mtspark": {
        **{"beta": 0.5, "drive": 1.0, "surrogate": "inverse_square", "surrogate_slope": 2.0},
        **{"reset": "zero", "detach_reset": True},
    },
    # SwitchMT's public code: SpikingJelly LIF, tau 2, sigmoid surrogate (arXiv:2504.13541).
    "switchmt": {
        **{"beta": 0.5, "drive": 0.5, "surrogate": "sigmoid", "surrogate_slope": 4.0},
        **{"reset": "zero", "detach_reset": False},
    },
    # Liu et al. 2022 (arXiv:2201.07211): LIF tau 2, arc tangent, 64 steps.
    "liu2022": {
        **{"beta": 0.5, "drive": 0.5, "surrogate": "atan", "surrogate_slope": 2.0},
        **{"reset": "zero", "detach_reset": False, "time_steps": 64},
    },
    # Chen et al. 2022 (arXiv:2201.09754): LIF, arc tangent, detached reset, 8 steps.
    "chen2022": {
        **{"beta": 0.5, "drive": 0.5, "surrogate": "atan", "surrogate_slope": 2.0},
        **{"reset": "zero", "detach_reset": True, "time_steps": 8},
    },
}
"""Neuron constants by source, as fields of the configuration."""


def with_variant(
    config: NetworkConfig, variant: str | None, neuron: str | None = None
) -> NetworkConfig:
    """Change a network to another variant, to the neuron constants of a source, or both.

    A configuration that already has more than one segment a neuron keeps its number.

    Raises:
        BadRequestError: no such variant or source.
    """
    if variant is not None and variant not in VARIANTS:
        raise BadRequestError(f"network variant {variant!r}: choose {', '.join(VARIANTS)}")
    if neuron is not None and neuron not in NEURONS:
        raise BadRequestError(f"neuron constants {neuron!r}: choose {', '.join(NEURONS)}")
    fields = decided_fields(variant, neuron)
    if fields.get("dendrite_segments"):
        fields["dendrite_segments"] = max(1, config.dendrite_segments)
    return replace(config, **fields)


def decided_fields(variant: str | None, neuron: str | None) -> dict[str, Any]:
    """The fields of a configuration that a variant and a source of constants decide."""
    return {**NEURONS.get(neuron or "", {}), **VARIANTS.get(variant or "", {})}


ONE_TASK = "export one task at a time: mtspark export AGENT --task NAME"
ALL_TASKS = "or all with neurons of their own: --side-by-side"
"""What helps where tasks differ in more than thresholds; the second, where they share a head."""


def why_not_deployable(config: NetworkConfig) -> str | None:
    """Why a chip cannot run such a network, with what helps; None where it can.

    Any dendrites can be deployed: for a given task their gain is one number a neuron, and a gain
    is a threshold.
    """
    if config.neuron != "lif":
        return (
            f"its neurons are {config.neuron}: they send numbers where a chip's neurons send "
            "spikes; train a spiking variant (dsqn, mtspark-ad, mtspark-add)"
        )
    if config.k_winners:
        return (
            f"k_winners {config.k_winners:g} compares the membranes of a whole layer in every "
            "step, and a chip's neuron sees only its own; train with k_winners = 0"
        )
    if config.reset != "zero":
        return (
            f"reset {config.reset!r}: the exported LIF sets its membrane to zero; train with "
            "reset = 'zero'"
        )
    if not 0 <= config.beta < 1:
        return f"beta {config.beta:g}: a leaky neuron needs 0 <= beta < 1; change beta"
    if config.experts and config.expert_gate == "orthogonal":
        return (
            "its experts are made orthonormal for every sample, by products and a division of "
            "spike rates that no neuron of a chip computes; train experts with expert_gate "
            "'current' or 'output', or pathways"
        )
    if config.layer_norm:
        return (
            "layer_norm divides by how the currents of a whole layer spread in every step, and a "
            "chip's neuron sees only its own; train without it: the weights are standardised anyway"
        )
    if config.by_task:
        together = "" if config.heads == "task" else f"; {ALL_TASKS}"
        return (
            f"its {config.tasks} tasks have {config.by_task}, and a chip changes task by "
            f"thresholds alone; {ONE_TASK}{together}"
        )
    if not config.threshold > 0:
        return f"threshold {config.threshold:g}: a neuron at rest would fire; use one above 0"
    return None
