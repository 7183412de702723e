"""Each measure of plasticity beside NumPy, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtspark.train.plasticity.metrics import (
    activity_scores,
    dormant,
    effective_rank,
    fisher_trace,
    gradient_cosines,
)


def test_scores_and_dormant_neurons_by_hand() -> None:
    activity = torch.tensor([[1.0, 0.0, -2.0, 9.0], [3.0, 0.001, 0.0, 9.0]])
    everyone = torch.ones(4, dtype=torch.bool)
    # Means of sizes: 2, 0.0005, 1, 9; mean of the layer 3.000125.
    wanted = np.array([2, 0.0005, 1, 9]) / 3.000125
    np.testing.assert_allclose(activity_scores(activity, everyone), wanted, rtol=1e-6)
    assert dormant(activity_scores(activity, everyone), everyone, 0.4).tolist() == [
        *(False, True, True, False)
    ]
    # Without the last neuron the mean is 1.00017, and the third is wide awake.
    counted = torch.tensor([True, True, True, False])
    scores = activity_scores(activity, counted)
    np.testing.assert_allclose(scores, [*(np.array([2, 0.0005, 1]) / (3.0005 / 3)), 0], rtol=1e-6)
    assert dormant(scores, counted, 0.4).tolist() == [False, True, False, False]


def test_a_silent_layer_is_dormant_but_for_the_neurons_without_synapses() -> None:
    counted = torch.tensor([True, True, False])
    assert dormant(activity_scores(torch.zeros(5, 3), counted), counted, 0.0).tolist() == [
        *(True, True, False)
    ]


@pytest.mark.parametrize(
    ("delta", "rank"), [(0.0, 4), (0.01, 4), (0.1, 3), (0.3, 2), (0.41, 1), (0.9, 1)]
)
def test_the_effective_rank_by_hand(delta: float, rank: int) -> None:
    # Singular values 12, 5, 2 and 1 of 20: shares 0.6, 0.85, 0.95 and 1.
    generator = np.random.default_rng(1)
    left, _ = np.linalg.qr(generator.normal(size=(9, 4)))
    right, _ = np.linalg.qr(generator.normal(size=(4, 4)))
    features = left @ np.diag([12, 5, 2, 1]) @ right
    assert rank == int(np.argmax(np.array([0.6, 0.85, 0.95, 1.0]) >= 1 - delta)) + 1
    assert effective_rank(torch.from_numpy(features), delta) == rank
    assert effective_rank(torch.zeros(3, 4), delta) == 0


def test_the_fisher_trace_of_a_linear_policy_by_hand() -> None:
    """pi = softmax(W x): grad log pi(a) = (e_a - pi) x', squared |x|^2 |e_a - pi|^2."""
    generator = np.random.default_rng(2)
    weight = generator.normal(size=(3, 2))
    policies, wanted = [], []
    for state in generator.normal(size=(5, 2)):
        chances = np.exp(weight @ state) / np.exp(weight @ state).sum()
        rows = np.eye(3) - chances
        wanted.append(np.sum(chances * (rows**2).sum(1)) * (state**2).sum())
        parameter = torch.tensor(weight, requires_grad=True)
        logarithms = (parameter @ torch.from_numpy(state)).log_softmax(0)
        gradients = [
            torch.autograd.grad(entry, parameter, retain_graph=True)[0].flatten()
            for entry in logarithms
        ]
        policies.append((logarithms.detach().exp(), torch.stack(gradients)))
    assert fisher_trace(policies) == pytest.approx(np.mean(wanted))


def test_cosines_of_three_tasks_by_hand() -> None:
    gradients = np.array([[3.0, 4.0], [-4.0, 3.0], [-3.0, -4.0]])
    assert gradient_cosines(torch.from_numpy(gradients)).tolist() == pytest.approx([0, -1, 0])
    gradients = np.random.default_rng(3).normal(size=(3, 7))
    wanted = [
        gradients[i] @ gradients[j] / np.linalg.norm(gradients[i]) / np.linalg.norm(gradients[j])
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    np.testing.assert_allclose(gradient_cosines(torch.from_numpy(gradients)), wanted)
