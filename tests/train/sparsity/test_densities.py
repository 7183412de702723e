"""Erdős-Rényi-Kernel densities by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mtspark.train.sparsity.densities import erk_densities


def test_densities_by_hand() -> None:
    """A convolution of 2 x 4 channels of 3 x 3 and a dense layer of 10 from 40; no layer is full.

    Sums of dimensions are 2 + 4 + 3 + 3 = 12 and 50, sizes 72 and 400; with 62 eps = 0.1 * 472
    the layers keep 12 eps and 50 eps synapses.
    """
    found = erk_densities({"conv1": (4, 2, 3, 3), "hidden": (10, 40)}, 0.1)
    eps = 0.1 * 472 / 62
    assert found == pytest.approx({"conv1": 12 * eps / 72, "hidden": 50 * eps / 400})


def test_a_layer_that_would_be_over_full_is_dense_and_the_others_share_the_rest() -> None:
    # Kept: 9 eps of 8, 40 eps of 300 and 110 eps of 2800, in all 932.4: eps = 5.86, so the first
    # is full; then (40 + 110) eps = 924.4, and 40 eps = 246.5 fit into the second.
    shapes = {"conv1": (2, 1, 2, 2), "conv2": (30, 10), "hidden": (70, 40)}
    found = erk_densities(shapes, 0.3)
    eps = (0.3 * 3108 - 8) / 150
    assert found == pytest.approx({"conv1": 1, "conv2": 40 * eps / 300, "hidden": 110 * eps / 2800})


def test_the_layers_together_have_the_density_that_was_asked_for() -> None:
    generator = np.random.default_rng(3)
    for _ in range(50):
        shapes = {
            f"conv{index}": tuple(generator.integers(1, 40, generator.choice([2, 4])).tolist())
            for index in range(4)
        }
        density = float(generator.uniform(0.01, 1))
        found = erk_densities(shapes, density)
        sizes = {name: np.prod(shape) for name, shape in shapes.items()}
        assert all(0 < share <= 1 for share in found.values())
        kept = sum(found[name] * sizes[name] for name in shapes)
        assert kept == pytest.approx(density * sum(sizes.values()))
        # In all layers with room, kept synapses are one multiple of the sum of dimensions.
        ratios = [
            found[name] * sizes[name] / sum(shapes[name]) for name in shapes if found[name] < 1
        ]
        assert np.ptp(ratios) < 1e-9 if ratios else density == 1
