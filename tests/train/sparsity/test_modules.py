"""Masks on modules that are not ours: by hand, in learning, in files and on the chip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import snntorch
import torch
from torch import Tensor, nn
from torch.nn import functional

import mtspark
from mtspark.core.errors import BadRequestError
from mtspark.train.sparsity import SparseModule, erk_densities


class Net(nn.Module):
    """Two layers of snntorch's neurons; answers with the spikes of the last one."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(4, hidden)
        self.lif = snntorch.Leaky(beta=0.5, reset_mechanism="zero")
        self.last = nn.Linear(hidden, 2)
        self.out = snntorch.Leaky(beta=0.5, reset_mechanism="zero")

    def forward(self, x: Tensor) -> Tensor:
        one, other, spikes = self.lif.init_leaky(), self.out.init_leaky(), []
        for step in range(x.shape[0]):
            hidden, one = self.lif(self.first(x[step]), one)
            spike, other = self.out(self.last(hidden), other)
            spikes.append(spike)
        return torch.stack(spikes).sum(0)


def plain(weights: list[list[float]]) -> tuple[nn.Linear, SparseModule]:
    layer = nn.Linear(len(weights[0]), len(weights), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights))
    return layer, SparseModule(nn.Sequential(layer))


def test_the_smallest_weights_are_cut_by_hand_and_stay_cut() -> None:
    layer, sparse = plain([[0.1, -0.9, 0.5], [-0.2, 0.3, 0.4]])
    sparse.prune(0.5)
    assert layer.weight.tolist() == [
        pytest.approx([0, -0.9, 0.5]),
        pytest.approx([0, 0, 0.4]),
    ]
    layer(torch.ones(1, 3)).sum().backward()
    torch.optim.SGD(layer.parameters(), 1.0).step()
    assert (layer.weight == 0).tolist() == [[True, False, False], [True, True, False]]
    sparse.prune(0.9)
    assert sparse.densities == {"0": 0.5}


def test_masks_are_those_of_the_module_wherever_it_was_moved() -> None:
    layer, sparse = plain([[0.1, -0.9, 0.5], [-0.2, 0.3, 0.4]])
    for move in (
        # As .to(device) does: every buffer is another tensor afterwards.
        lambda: layer._apply(lambda tensor: tensor.clone()),
        lambda: layer.load_state_dict(
            {name: one.clone() for name, one in layer.state_dict().items()}, assign=True
        ),
    ):
        move()
        sparse.follow({"0": torch.ones(2, 3, dtype=torch.bool)})
        assert sparse.densities == {"0": 1.0}
        assert layer.weight.all()
        sparse.prune(0.5)
        assert int((layer.weight != 0).sum()) == 3


def test_sets_counts_and_places_by_hand() -> None:
    layer, sparse = plain([[0.1, -0.9, 0.5, 0.7], [-0.2, 0.3, 0.4, 0.8]])
    sparse.prune(0.5)
    # 0.9 0.8 0.7 0.5 are left; half of the four go, the smallest, and two others come.
    assert sparse.exchange(0.5, np.random.default_rng(0)) == {"0": 2}
    kept = sparse.masks["0"]
    assert kept[0, 1]
    assert kept[1, 3]
    assert not kept[0, 2]
    assert not kept[0, 3]
    assert int(kept.sum()) == 4
    # What grows has the weight that lay behind its cut.
    assert set(layer.weight[kept].abs().tolist()) <= {
        float(torch.tensor(one)) for one in (0.9, 0.8, 0.1, 0.2, 0.3, 0.4)
    }


def test_a_sparse_start_has_the_densities_of_erdos_renyi() -> None:
    sparse = SparseModule(nn.Sequential(nn.Conv2d(2, 8, 3), nn.Flatten(), nn.Linear(72, 10)))
    sparse.draw(0.2, np.random.default_rng(0))
    wanted = erk_densities({"0": (8, 2, 3, 3), "2": (10, 72)}, 0.2)
    counts = {name: int(mask.sum()) for name, mask in sparse.masks.items()}
    assert counts == {"0": round(wanted["0"] * 144), "2": round(wanted["2"] * 720)}


def test_a_path_is_that_of_the_highest_products_of_weight_and_slope() -> None:
    layer, sparse = plain([[1.0, -2.0, 3.0], [4.0, 0.5, -1.0]])
    sparse.prune(0.2)
    x, cut = torch.tensor([[1.0, 10.0, 2.0]]), sparse.masks["0"].clone()
    # dL/dw is the input in both rows: |w x| is 1 20 6 and 4 5 2, of 38.
    scores = sparse.scores(lambda: layer(x).sum())
    expected = torch.tensor([[1.0, 20, 6], [4, 5, 2]]) / 38
    torch.testing.assert_close(scores["0"], expected)
    assert torch.equal(sparse.masks["0"], cut)
    path = sparse.path(scores, 0.5)
    assert path is not None
    assert path["0"].tolist() == [[False, True, True], [False, True, False]]
    sparse.follow(path)
    assert layer(x).tolist() == [[-14.0, 5.0]]


@pytest.mark.slow
def test_a_sparse_module_learns_and_its_file_brings_the_masks_back() -> None:
    torch.manual_seed(3)
    net = Net(32)
    sparse = SparseModule(net)
    sparse.draw(0.5, np.random.default_rng(1))
    x = torch.rand(10, 64, 4).round()
    y = (x.sum(0)[:, 0] > x.sum(0)[:, 1]).long()
    optimizer = torch.optim.Adam(net.parameters(), 2e-2)
    for _ in range(40):
        loss = functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sparse.exchange(0.1, np.random.default_rng(2))
    assert float((net(x).argmax(1) == y).float().mean()) > 0.8
    assert sum(int(mask.sum()) for mask in sparse.masks.values()) == round(0.5 * 192)
    other = Net(32)
    SparseModule(other)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))
    sparse.fold()
    assert torch.equal(other(x), net(x))
    assert set(dict(net.named_parameters())) == {
        *("first.weight", "first.bias", "last.weight", "last.bias")
    }


@pytest.mark.slow
def test_cut_synapses_are_none_of_the_chips() -> None:
    net = Net(32)
    sparse = SparseModule(net, ("first",))
    sparse.prune(0.1)
    sample = torch.rand(16, 10, 4).round()

    class Batched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Any:
            return self.net(x.transpose(0, 1))

    chip = mtspark.export(Batched(), sample=sample, time_steps=10)
    first = chip.network.connections[0]
    assert np.count_nonzero(first.weights) <= int(sparse.masks["first"].sum()) == 13


def test_what_cannot_be_is_refused() -> None:
    net = Net()
    with pytest.raises(BadRequestError, match=r"layers head: the linear layers .* first, last"):
        SparseModule(net, ("head",))
    with pytest.raises(BadRequestError, match=r"layers none: .* are none"):
        SparseModule(nn.ReLU())
    sparse = SparseModule(net, ("first",))
    with pytest.raises(BadRequestError, match="first: its weight has a parametrisation already"):
        SparseModule(net)
    assert not hasattr(net.last, "parametrizations")
    for density in (0.0, 1.5):
        with pytest.raises(BadRequestError, match="must be above 0 and at most 1"):
            sparse.prune(density)
