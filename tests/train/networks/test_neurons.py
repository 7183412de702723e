"""The neuron is snntorch's, the dendritic gate is what its text says."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import snntorch as snn
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtspark.train.networks.config import NeuronConstants
from mtspark.train.networks.dendrites import ActiveDendrites
from mtspark.train.networks.neurons import (
    DeployableLeaky,
    run_layer,
    spike_with_surrogate,
)

ROOT = Path(__file__).parents[3]


def stock(beta: float, threshold: float) -> snn.Leaky:
    return snn.Leaky(beta=beta, threshold=threshold, reset_mechanism="zero", reset_delay=False)


def random_currents(seed: int, steps: int) -> torch.Tensor:
    """Two samples of unequal strength, both signs, around the threshold."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(steps, 2, 17, generator=generator)
    return drawn * torch.tensor([0.6, 2.0])[:, None]


@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.25, 0.5, 0.9, 4095 / 4096]),
    st.sampled_from([0.3, 1.0, 1.7]),
)
def test_steps_equal_snntorchs_leaky_bit_for_bit(seed: int, beta: float, threshold: float) -> None:
    ours, theirs = DeployableLeaky(NeuronConstants(beta, threshold)), stock(beta, threshold)
    currents = random_currents(seed, 12)
    our_mem: torch.Tensor | None = None
    their_mem = theirs.reset_mem()
    for current in currents:
        our_spike, our_mem = ours(current, our_mem)
        their_spike, their_mem = theirs(current, their_mem)
        assert torch.equal(our_spike, their_spike)
        assert torch.equal(our_mem, their_mem)


@given(st.integers(0, 10**6), st.sampled_from([0.25, 0.5, 0.9]), st.booleans())
def test_a_layer_equals_snntorchs_leaky_bit_for_bit(seed: int, beta: float, constant: bool) -> None:
    theirs = stock(beta, 1.0)
    currents = random_currents(seed, 1 if constant else 6)
    spikes = run_layer(DeployableLeaky(NeuronConstants(beta)), currents, 6, compiled=False)
    mem = theirs.reset_mem()
    for step in range(6):
        expected, mem = theirs(currents[0 if constant else step], mem)
        assert torch.equal(spikes[step], expected)


def test_random_currents_make_some_neurons_fire_and_some_not() -> None:
    spikes = run_layer(DeployableLeaky(NeuronConstants()), random_currents(0, 6), 6)
    assert 0.05 < spikes.mean().item() < 0.6


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.skipif(
    " " in torch.__file__, reason="torch.compile fails under a path with a space (torch 2.13)"
)
def test_compiled_steps_fire_the_same_spikes() -> None:
    currents = random_currents(1, 6)
    neuron = DeployableLeaky(NeuronConstants())
    fused = run_layer(neuron, currents, 6, compiled=True)
    assert torch.equal(fused, run_layer(neuron, currents, 6, compiled=False))


@pytest.mark.slow
def test_the_compiler_is_imported_by_those_who_compile_alone() -> None:
    """It takes longer to import than torch, and every command would."""
    code = (
        "import sys, mtspark.train.rl.run, mtspark.workflows.export.pipeline\n"
        "import mtspark.train.quantised.twin\n"
        "print('torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["True", "False"]


def test_one_neuron_by_hand() -> None:
    """beta 0.5: membranes .75, 1.125 (fires, to 0), .75; exactly at threshold is no spike."""
    neuron = DeployableLeaky(NeuronConstants())
    spikes = run_layer(neuron, torch.tensor([[[0.75]]]), 4)
    assert spikes.flatten().tolist() == [0, 1, 0, 1]
    at_threshold = run_layer(neuron, torch.tensor([[[1.0]], [[0.5]], [[0.5]], [[0.5]]]), 4)
    assert at_threshold.flatten().tolist() == [0, 0, 0, 0]


def test_gradient_is_the_surrogate_and_stops_at_the_reset() -> None:
    overshoot = torch.tensor([-1.0, 0.0, 0.5], requires_grad=True)
    spike_with_surrogate(overshoot).sum().backward()
    assert overshoot.grad is not None
    assert overshoot.grad.tolist() == pytest.approx([1 / 5, 1.0, 1 / 2])
    current = torch.tensor([2.0], requires_grad=True)
    _, mem = DeployableLeaky(NeuronConstants())(current)
    (gradient,) = torch.autograd.grad(mem.sum(), current)
    assert gradient.item() == 0.0  # the neuron fired: mem = current * (1 - 1), reset detached


def test_dendrites_take_the_strongest_segment_with_its_sign() -> None:
    dendrites = ActiveDendrites(neurons=2, segments=3, context_size=2)
    with torch.no_grad():
        dendrites.segments.copy_(
            torch.tensor(
                [
                    # segment -> (response under task 0, response under task 1)
                    [[0.5, 3.0], [-2.0, 1.0], [1.9, -3.5]],
                    [[1.0, 0.1], [0.2, 0.2], [-0.9, -0.1]],
                ]
            )
        )
        gains = dendrites(torch.eye(2))
    strongest = [[-2.0, 1.0], [-3.5, 0.2]]  # by task, then neuron
    expected = [[1 / (1 + math.exp(-value)) for value in row] for row in strongest]
    torch.testing.assert_close(gains, torch.tensor(expected))


def test_gains_differ_by_neuron_and_by_task_and_lie_between_0_and_1() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        gains = ActiveDendrites(neurons=9, segments=2, context_size=3)(torch.eye(3))
    assert gains.shape == (3, 9)
    assert gains.unique().numel() == 27
    assert 0 < gains.min() < gains.max() < 1
