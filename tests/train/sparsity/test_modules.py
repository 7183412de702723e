"""Masks on modules that are not ours: by hand, in learning, in files and on the chip."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import snntorch
import snntorch.utils
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

import mtspark
from mtspark.core.errors import BadRequestError
from mtspark.train.sparsity import SparseModule, erk_densities, mean_scores


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


@pytest.mark.parametrize(
    "neuron",
    [
        lambda: snntorch.RLeaky(beta=0.5, linear_features=9, init_hidden=True),
        lambda: snntorch.RSynaptic(alpha=0.8, beta=0.5, linear_features=9, init_hidden=True),
    ],
)
def test_a_masked_recurrence_is_exported_as_the_folded_one(neuron: Callable[[], Any]) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(6, 9), neuron(), nn.Linear(9, 3), snntorch.Leaky(beta=0.5, init_hidden=True)
    )
    sparse = SparseModule(net)
    sparse.prune(0.3)
    options: dict[str, Any] = {"input_shape": (6,), "time_steps": 4}
    masked = mtspark.export(net, **options)
    sparse.fold()
    folded = mtspark.export(net, **options)
    pairs = zip(masked.network.connections, folded.network.connections, strict=True)
    assert all(np.array_equal(one.weights, other.weights) for one, other in pairs)
    within = [one for one in masked.network.connections if one.source == one.target]
    assert [np.count_nonzero(one.weights) for one in within] == [round(0.3 * 81)]


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


@pytest.mark.parametrize("layers", [(), [], set(), iter(()), {}])
def test_no_layers_are_refused_however_they_are_given(layers: Any) -> None:
    net = Net()
    with pytest.raises(BadRequestError, match=r"^layers none: .* are first, last$"):
        SparseModule(net, layers)
    assert not hasattr(net.first, "parametrizations")


def test_any_sequence_of_names_will_do() -> None:
    for layers in (["first"], iter(["first"]), np.array(["first"]), {"first": 1}):
        given: Any = layers
        assert list(SparseModule(Net(), given).layers) == ["first"]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            ["first", "last", "first"],
            r"layers first, first: one layer, named 2 times; name it once",
        ),
        ("first", r"layers 'first': one string; give a sequence, \['first'\]"),
        ([0], r"layers 0: names are strings, as named_modules\(\) has them: 'first', 'last'"),
        ([""], r"layers '': the linear layers and convolutions are first, last"),
    ],
)
def test_names_that_cannot_be_are_refused(layers: Any, words: str) -> None:
    net = Net()
    with pytest.raises(BadRequestError, match=f"^{words}$"):
        SparseModule(net, layers)
    assert not hasattr(net.first, "parametrizations")


class Tied(nn.Module):
    """The head has the weight of the embedding; its first layer is also the one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.head = nn.Linear(4, 6)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.again(self.first(self.embedding(x)).relu()))
        return out


def test_layers_that_share_a_weight_are_refused() -> None:
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = one.weight
    net = nn.Sequential(one, nn.ReLU(), other)
    # Also where one of them would have a mask: fold() would cut the weight of both.
    for layers, first, second in ((None, "0", "2"), (["2"], "2", "0"), (["0", "2"], "0", "2")):
        with pytest.raises(BadRequestError, match=rf"^layer {first}: .* is also {second}\.weight;"):
            SparseModule(net, layers)
        assert not parametrize.is_parametrized(one)
    with pytest.raises(BadRequestError, match=r"^layer head: .* is also embedding\.weight; "):
        SparseModule(Tied())
    alone = nn.Linear(4, 4)
    alone.register_parameter("other", alone.weight)
    with pytest.raises(BadRequestError, match=r"^layer '': its weight is also other; "):
        SparseModule(alone)


@pytest.mark.parametrize("layers", [["first"], ["again"]])
def test_a_layer_that_is_registered_twice_has_one_mask(layers: list[str]) -> None:
    net = Tied()
    sparse = SparseModule(net, layers)
    sparse.draw(0.5, np.random.default_rng(0))
    assert sparse.densities == {layers[0]: 0.5}
    assert int((net.first.weight != 0).sum()) == int((net.again.weight != 0).sum()) == 8
    x = torch.arange(6)
    before = net(x)
    scores = sparse.scores(lambda: net(x).square().mean())
    assert scores[layers[0]].sum().item() == pytest.approx(1)
    sparse.fold()
    assert torch.equal(net(x), before)
    assert net.first.weight is net.again.weight
    assert int((net.first.weight != 0).sum()) == 8
    with pytest.raises(BadRequestError, match=r"^layers first, again: one layer, named 2 "):
        SparseModule(net, ["first", "again"])
    net.head = nn.Linear(4, 6)
    assert list(SparseModule(net).layers) == ["first", "head"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.LazyLinear(3), "is not made yet, .*; call the module once with a sample first"),
        (lambda: nn.LazyConv2d(3, 3), "is not made yet, "),
        (
            lambda: nn.utils.weight_norm(nn.Linear(3, 3)),
            "is no parameter, a hook computes it, .*; remove the hook first",
        ),
        (lambda: nn.utils.spectral_norm(nn.Linear(3, 3)), "is no parameter, a hook computes it, "),
        (lambda: prune.l1_unstructured(nn.Linear(3, 3), "weight", 0.5), "is no parameter, "),
        (
            lambda: parametrizations.weight_norm(nn.Linear(3, 3)),
            "has a parametrisation already; remove it first",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_are_not_plain_parameters_are_refused(
    make: Callable[[], nn.Module], words: str
) -> None:
    net = nn.Sequential(nn.Linear(3, 3), make())
    with pytest.raises(BadRequestError, match=f"^layer 1: its weight {words}"):
        SparseModule(net)
    # The layers beside it are as they were, and can have masks.
    assert not parametrize.is_parametrized(net[0])
    assert SparseModule(net, ["0"]).densities == {"0": 1.0}


def test_a_lazy_layer_has_a_mask_once_its_weight_is_made() -> None:
    net = nn.Sequential(nn.LazyLinear(3))
    net(torch.rand(1, 5))
    assert SparseModule(net).masks["0"].shape == (3, 5)


def test_frozen_weights_have_masks_but_no_scores() -> None:
    net = Net()
    net.first.requires_grad_(False)
    sparse = SparseModule(net)
    sparse.prune(0.5)
    x = torch.rand(3, 5, 4)
    with pytest.raises(BadRequestError, match=r"^layers first: requires_grad .*; set it to True"):
        sparse.scores(lambda: net(x).sum())
    assert sparse.densities == {"first": 0.5, "last": 0.5}
    net.requires_grad_(True)
    assert set(sparse.scores(lambda: net(x).sum())) == {"first", "last"}


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda values: values.sum().detach(), "loss: it has no gradient; .* nor detached"),
        (lambda values: values, r"loss: shape \(2, 2\); must be one number"),
        (lambda values: values.sum().item(), "loss: float; must return a tensor of one number"),
        (lambda values: values.sum() * math.nan, "loss: nan; must be finite"),
        (lambda values: (values.sum() * 0).sqrt(), "loss: its gradient by layer 0 is not finite"),
    ],
)
def test_a_loss_without_a_slope_is_refused_and_masks_stay(
    loss: Callable[[Tensor], Any], words: str
) -> None:
    layer, sparse = plain([[1.0, -2.0, 3.0], [4.0, 0.5, -1.0]])
    sparse.prune(0.5)
    with pytest.raises(BadRequestError, match=f"^{words}"):
        sparse.scores(lambda: loss(layer(torch.ones(2, 3))))
    assert sparse.densities == {"0": 0.5}


@pytest.mark.parametrize(
    ("name", "mask", "words"),
    [
        ("9", torch.ones(2, 3).bool(), "mask of layer 9: the layers with masks are 0"),
        ("0", torch.ones(3).bool(), r"mask of layer 0: shape \(3,\); must be .* shape \(2, 3\)"),
        ("0", torch.tensor(True), r"mask of layer 0: shape \(\); must be .* shape \(2, 3\)"),
        ("0", np.ones((2, 3), bool), r"mask of layer 0: ndarray; must be .* shape \(2, 3\)"),
        ("0", torch.rand(2, 3), "mask of layer 0: dtype torch.float32; must be torch.bool"),
    ],
)
def test_masks_that_do_not_fit_are_refused_and_none_changes(
    name: str, mask: Any, words: str
) -> None:
    sparse = SparseModule(nn.Sequential(nn.Linear(3, 2)))
    sparse.prune(0.5)
    with pytest.raises(BadRequestError, match=f"^{words}"):
        sparse.follow({name: mask})
    both = SparseModule(nn.Sequential(nn.Linear(3, 2), nn.Linear(3, 2)))
    with pytest.raises(BadRequestError):
        both.follow({"1": torch.zeros(2, 3).bool(), name: mask})
    assert both.densities == {"0": 1.0, "1": 1.0}
    assert sparse.densities == {"0": 0.5}


def test_scores_that_do_not_fit_are_refused() -> None:
    _, sparse = plain([[1.0, -2.0, 3.0], [4.0, 0.5, -1.0]])
    for scores, words in (
        ({}, "scores: none; give those of at least one layer"),
        ({"9": torch.ones(2, 3)}, "scores of layer 9: the layers with masks are 0"),
        ({"0": torch.ones(3, 2)}, r"scores of layer 0: shape \(3, 2\); must be"),
        ({"0": torch.tensor([[1, 1, math.nan], [1, 1, 1]])}, "scores of layer 0: must be finite"),
        ({"0": torch.tensor([[1, 1, -1.0], [1, 1, 1]])}, "scores of layer 0: must be finite and"),
    ):
        with pytest.raises(BadRequestError, match=f"^{words}"):
            sparse.path(scores, 0.5)


def test_nothing_is_masked_after_folding() -> None:
    layer, sparse = plain([[1.0, -2.0, 3.0], [4.0, 0.5, -1.0]])
    sparse.fold()
    sparse.fold()
    calls: tuple[Callable[[], object], ...] = (
        lambda: sparse.prune(0.5),
        lambda: sparse.draw(0.5, np.random.default_rng(0)),
        lambda: sparse.exchange(0.5, np.random.default_rng(0)),
        lambda: sparse.scores(lambda: layer(torch.ones(1, 3)).sum()),
        lambda: sparse.path({"0": torch.ones(2, 3)}, 0.5),
        lambda: sparse.follow({"0": torch.ones(2, 3).bool()}),
        lambda: sparse.densities,
    )
    for call in calls:
        with pytest.raises(BadRequestError, match=r"^masks: none, fold\(\) took them away; "):
            call()


@pytest.mark.parametrize(
    "change",
    [
        lambda sparse: sparse.prune(0.5),
        lambda sparse: sparse.draw(0.5, np.random.default_rng(1)),
        lambda sparse: sparse.exchange(0.5, np.random.default_rng(1)),
        lambda sparse: sparse.follow({"0": torch.zeros(2, 3, dtype=torch.bool)}),
        lambda sparse: sparse.scores(lambda: sparse.layers["0"].weight.sum()),
    ],
)
def test_masks_do_not_change_behind_weights_that_pytorch_keeps(
    change: Callable[[SparseModule], Any],
) -> None:
    layer, sparse = plain([[0.1, -0.9, 0.5], [-0.2, 0.3, 0.4]])
    with parametrize.cached():
        layer(torch.ones(1, 3))
        with pytest.raises(BadRequestError, match=r"inside of .*cached\(\)"):
            change(sparse)
    assert sparse.densities == {"0": 1.0}
    change(sparse)


def test_scores_of_a_module_that_keeps_its_state_are_taken_twice() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(8, 20), snntorch.Leaky(beta=0.5, init_hidden=True), nn.Linear(20, 3)
    )
    sparse = SparseModule(net)
    x, y = torch.rand(4, 8), torch.randint(3, (4,))

    def loss() -> Tensor:
        snntorch.utils.reset(net)
        return functional.cross_entropy(net(x), y)

    first, second = sparse.scores(loss), sparse.scores(loss)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert float(first["2"].sum()) > 0


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(5), nn.InstanceNorm1d(5, track_running_stats=True), nn.SyncBatchNorm(5)]
)
def test_scores_leave_running_statistics_alone(norm: nn.Module) -> None:
    net = nn.Sequential(nn.Conv1d(2, 5, 1), copy.deepcopy(norm), nn.Flatten(), nn.Linear(15, 2))
    sparse = SparseModule(net)
    sparse.prune(0.3)
    x = torch.rand(6, 2, 3)
    net(x)
    before = {name: value.clone() for name, value in net.named_buffers()}
    sparse.scores(lambda: net(x).square().sum())
    after = dict(net.named_buffers())
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    # What remembers nothing yet is no hindrance.
    lazy = nn.Sequential(nn.Linear(3, 4), nn.LazyBatchNorm1d())
    assert SparseModule(lazy).scores(lambda: lazy(x[:, 0]).square()[0].sum())["0"].any()
    # What the module does by itself moves them.
    net(x + 1)
    assert not torch.equal(before["1.running_mean"], after["1.running_mean"])


@pytest.mark.parametrize("layers", [None, ["hidden.synapses"], ["convolutions.1.synapses"]])
def test_standardised_weights_of_our_own_networks_are_refused(
    make_agent: Callable[..., Any], layers: list[str] | None
) -> None:
    agent = make_agent()
    with pytest.raises(BadRequestError, match=r"synapses: belongs to a network of mtspark train"):
        SparseModule(agent.network, layers)
    assert not any(parametrize.is_parametrized(one) for one in agent.network.modules())


TRAINED: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "Adam": lambda weights: torch.optim.Adam(weights, 1e-2),
    "AdamW": lambda weights: torch.optim.AdamW(weights, 1e-2, weight_decay=0.1),
    "L2": lambda weights: torch.optim.Adam(weights, 1e-2, weight_decay=0.1, amsgrad=True),
    "momentum": lambda weights: torch.optim.SGD(weights, 1e-2, momentum=0.9),
    "SGD": lambda weights: torch.optim.SGD(weights, 1e-2),
}


@pytest.mark.parametrize("name", list(TRAINED))
@pytest.mark.parametrize("guarded", [True, False])
def test_what_a_task_learns_leaves_the_path_of_another_alone(name: str, guarded: bool) -> None:
    torch.manual_seed(2)
    layer = nn.Linear(8, 4, bias=False)
    sparse, optimizer = SparseModule(layer), TRAINED[name](layer.parameters())
    if guarded:
        sparse.guard(optimizer)
    one = torch.zeros(4, 8, dtype=torch.bool)
    one[:, :4] = True
    x, y = torch.rand(16, 8), torch.rand(16, 4)

    def play(path: Tensor, steps: int) -> Tensor:
        sparse.follow({"": path})
        for _ in range(steps):
            optimizer.zero_grad()
            functional.mse_loss(layer(x), y).backward()
            optimizer.step()
        return layer(x).detach()

    before = play(~one, 5)
    waiting = {key: value.clone() for key, value in _tensors(optimizer).items()}
    assert not torch.equal(play(one, 5), before)
    # Moments wait, too.
    for key, value in _tensors(optimizer).items():
        assert torch.equal(value[~one], waiting[key][~one]) == guarded
    assert torch.equal(play(~one, 0), before) == (guarded or name == "SGD")
    sparse.fold()
    play_on = layer.weight.detach().clone()
    functional.mse_loss(layer(x), y).backward()
    optimizer.step()
    assert not torch.equal(layer.weight, play_on)


def test_the_steps_of_rprop_wait_as_they_began() -> None:
    torch.manual_seed(3)
    layer = nn.Linear(4, 2, bias=False)
    sparse, optimizer = SparseModule(layer), torch.optim.Rprop(layer.parameters(), 0.01)
    sparse.guard(optimizer)
    left = torch.zeros(2, 4, dtype=torch.bool)
    left[:, :2] = True
    x, y = torch.rand(8, 4), torch.rand(8, 2)
    before = layer.weight.detach().clone()

    def steps(path: Tensor) -> Tensor:
        sparse.follow({"": path})
        for _ in range(3):
            optimizer.zero_grad()
            functional.mse_loss(layer(x), y).backward()
            optimizer.step()
        weight = layer.parametrizations["weight"].original
        assert isinstance(weight, Tensor)
        return weight.detach().clone()

    after = steps(left)
    assert torch.equal(after[~left], before[~left])
    assert torch.equal(_tensors(optimizer)["step_size"][~left], torch.full((4,), 0.01))
    # Its first step is 0.01 long.
    assert (steps(~left) - after)[~left].abs().min() > 0.009


def _tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    (state,) = optimizer.state.values() or ({},)
    return {key: value for key, value in state.items() if value is not None and value.dim() == 2}


def test_an_optimizer_of_other_weights_is_no_guard() -> None:
    _, sparse = plain([[1.0, 2.0]])
    with pytest.raises(BadRequestError, match="optimizer: it has none of the weights"):
        sparse.guard(torch.optim.SGD(nn.Linear(2, 1).parameters(), 1.0))


def test_what_is_no_number_or_generator_is_refused() -> None:
    _, sparse = plain([[1.0, 2.0]])
    wrong: list[tuple[Callable[[Any], object], Any, str]] = [
        (sparse.prune, "0.5", "density of type str: must be a number"),
        (sparse.prune, torch.tensor(0.5), "density of type Tensor: must be a number"),
        (sparse.prune, True, "density of type bool"),
        (lambda one: sparse.draw(0.5, one), 1, r"generator of type int: give numpy\.random"),
        (lambda one: sparse.exchange(0.5, one), torch.Generator(), "generator of type Generator"),
        (mean_scores, [], "scores: none; give those of at least one look"),
        (mean_scores, [{"0": torch.ones(1)}, {"1": torch.ones(1)}], "scores: the looks are of dif"),
    ]
    for call, given, words in wrong:
        with pytest.raises(BadRequestError, match=f"^{words}"):
            call(given)
    sparse.prune(np.float32(0.5))
    assert sparse.densities == {"0": 0.5}


def test_transposed_convolutions_have_masks_and_empty_layers_none() -> None:
    sparse = SparseModule(nn.Sequential(nn.ConvTranspose2d(2, 3, 3), nn.Conv1d(3, 2, 1)))
    sparse.prune(0.5)
    assert sparse.densities == {"0": 0.5, "1": 0.5}
    empty = nn.Sequential(nn.Linear(0, 4), nn.Linear(4, 2))
    with pytest.raises(BadRequestError, match=r"layer 0: its weight has no synapse \(shape \(4, 0"):
        SparseModule(empty)
    assert set(SparseModule(empty, ["1"]).masks) == {"1"}
