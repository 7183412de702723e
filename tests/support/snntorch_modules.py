"""What the tests of the tracer share: inputs, the checks of an export, spikes that differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from mtspark.convert.snntorch.trace import trace_module
from mtspark.convert.snntorch.verify import compare_with_recording
from mtspark.core.float_network.simulator import run_float

STEPS, BATCH = 50, 2


def drive(shape: tuple[int, ...], seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.rand(STEPS, BATCH, *shape, generator=generator) - 0.5


def trace(
    module: nn.Module, shape: tuple[int, ...], steps: int | None = STEPS, **options: Any
) -> Any:
    """Trace, and check what the export would check; every layer must have been compared."""
    traced = trace_module(module, name="net", input_shape=shape, time_steps=steps, **options)
    agreement = compare_with_recording(traced)
    assert [layer.name for layer in agreement] == list(traced.layers)
    assert all(layer.different == 0 for layer in agreement)
    return traced


def float_spikes(traced: Any, series: torch.Tensor) -> dict[str, np.ndarray]:
    network = traced.network
    values = series.double().numpy().reshape(*series.shape[:2], *network.input.shape)
    return run_float(network, values).spikes


def differing(ours: np.ndarray, theirs: torch.Tensor) -> int:
    """Spikes that differ on an input that the tracer has never seen."""
    return int((ours.reshape(theirs.shape) != (theirs.double().numpy() != 0)).sum())


def positive(module: nn.Module) -> nn.Module:
    """Weights without inhibition, so that neurons fire."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.abs_()
    return module
