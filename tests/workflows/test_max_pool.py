"""Max pools through the whole product: every backend, counts, cores, prices, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn
from torch.nn import functional

import mtspark
from mtspark.core.errors import BadRequestError

STEPS = 5


class Net(nn.Module):
    """Convolution, neurons, an overlapping padded pool, a linear layer, neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(3 * 3 * 3, 4)
        self.lif1 = snn.Leaky(0.875, threshold=0.5, reset_mechanism="zero")
        self.lif2 = snn.Leaky(0.5, threshold=0.25, reset_mechanism="zero")

    def forward(self, x: Any) -> Any:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        out = []
        for frame in x:
            spk1, mem1 = self.lif1(self.conv(frame), mem1)
            spk2, mem2 = self.lif2(self.fc(self.pool(spk1).flatten(1)), mem2)
            out.append(spk2)
        return torch.stack(out)

    @staticmethod
    def pool(spikes: Any) -> Any:
        return functional.max_pool2d(spikes, 3, 2, 1)


@pytest.fixture(scope="module")
def sample() -> torch.Tensor:
    return (torch.rand(STEPS, 3, 2, 7, 7, generator=torch.Generator().manual_seed(0)) < 0.2).float()


@pytest.fixture(scope="module")
def chip(sample: torch.Tensor) -> Any:
    torch.manual_seed(0)
    return mtspark.export(Net(), sample=sample)


def test_spikes_and_counts_of_a_pool_are_torchs(chip: Any, sample: torch.Tensor) -> None:
    result = chip.run(sample.numpy().swapaxes(0, 1), record=True, backend="reference")
    spikes = torch.from_numpy(result.spikes["lif1"].astype(np.float32))
    pooled = Net.pool(spikes.flatten(0, 1)).numpy().reshape(STEPS, 3, 3, 3, 3)
    assert 0 < pooled.mean() < 1
    # In the module's own step, though each layer is a step later on the chip.
    assert np.array_equal(result.spikes["lif1_pool"], pooled)
    assert chip.network.depths == {"input": 0, "lif1": 1, "lif1_pool": 2, "lif2": 3}
    counts = {layer.name: layer for layer in result.counts.layers}
    # A spike meets as many synapses as windows hold it: torch's own, on one spike after another.
    windows = Net.pool(torch.eye(25).reshape(25, 1, 5, 5)).flatten(1).sum(1).reshape(5, 5)
    assert counts["lif1_pool"].synops_structural.window == (spikes * windows).sum()
    assert counts["lif1_pool"].synops_effective == counts["lif1_pool"].synops_structural
    assert counts["lif1_pool"].neuron_updates.total == 27 * 3 * chip.network.steps_per_decision
    assert counts["lif2"].synops_effective.window == pooled.sum() * 4
    terms = {term.term: term.count_per_decision for term in result.energy().terms}
    operations = sum(one.synops_effective.total for one in counts.values())
    assert terms["synaptic_operation"] == pytest.approx(operations / 3)


@pytest.mark.parametrize("against", ["engine", "onnx"])
def test_every_simulation_runs_pools(chip: Any, against: str) -> None:
    result = chip.diff(against, decisions=10)
    assert result.exact
    layer = result.agreement.layers["lif1_pool"]
    assert layer.compared >= 10 * STEPS * 27
    assert layer.different == 0


@pytest.mark.parametrize("model", ["loihi1", "loihi2"])
def test_pools_fit_where_neurons_do(chip: Any, model: str) -> None:
    mapping = chip.map(model).mapping
    assert not mapping.violations
    assert {core.population for core in mapping.cores} == {"lif1", "lif1_pool", "lif2"}


def test_the_nir_graph_of_pools_reads_back_the_same(chip: Any, tmp_path: Path) -> None:
    folder = chip.save(tmp_path / "net.deploy")
    again = mtspark.export(folder / "graph.default.nir")
    for one, two in zip(chip.network.populations, again.network.populations, strict=True):
        assert (one.name, one.membrane_decay, one.reset) == (
            two.name,
            two.membrane_decay,
            two.reset,
        )
        assert np.array_equal(one.thresholds, two.thresholds)
    for link, other in zip(chip.network.connections, again.network.connections, strict=True):
        assert np.array_equal(link.weights, other.weights)
    assert "'lif1_pool'" in mtspark.load_bundle(folder).network.provenance["notes"]


@pytest.mark.third_party
@pytest.mark.parametrize("against", ["lava", "lava-stock"])
def test_lava_runs_pools(chip: Any, against: str) -> None:
    from mtspark.deploy.lava.shim import installed_lava

    if installed_lava() is None:
        pytest.skip("lava-nc is missing: run `mtspark install-lava`")
    result = chip.diff(against, decisions=2)
    assert result.exact
    assert result.agreement.layers["lif1_pool"].different == 0


class Tutorial(nn.Module):
    """The order of snntorch's tutorial: the pool before the neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 3, 3), nn.Linear(3 * 3 * 3, 4)
        self.lif1, self.lif2 = snn.Leaky(0.9, threshold=0.4), snn.Leaky(0.9, threshold=0.4)

    def forward(self, x: Any) -> Any:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        out = []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(functional.max_pool2d(self.conv(x), 2), mem1)
            spk2, mem2 = self.lif2(self.fc(spk1.flatten(1)), mem2)
            out.append(spk2)
        return torch.stack(out)


def make_tutorial() -> nn.Module:
    # Weights with which some answers change.
    torch.manual_seed(5)
    return Tutorial()


def test_the_approximation_is_measured_on_the_sample_and_never_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = make_tutorial()
    images = (torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 255).round()
    images /= 255
    with pytest.raises(mtspark.BadNetworkError, match="with max_pool='or', an approximation"):
        mtspark.export(module, sample=images)
    with pytest.raises(mtspark.BadRequestError, match="max_pool"):
        mtspark.export(module, sample=images, max_pool="average")
    chip = mtspark.export(module, sample=images, max_pool="or")
    cost = chip.fidelity.max_pool
    assert (cost.inputs, cost.samples) == ("the sample", 40)
    assert [layer.name for layer in cost.layers] == ["lif1"]
    # The network's own answers beside the module's.
    theirs = module(images).sum(0).detach().numpy().argmax(1)
    ours = chip.evaluate(images.numpy(), theirs).float_accuracy
    assert cost.same_answer == round(ours * 40) < 40
    assert 0 < cost.layers[0].different < cost.layers[0].compared
    for sentence in cost.sentences:
        assert sentence.replace("--max-pool or", "max_pool='or'") in caplog.text
    assert set(cost.sentences) <= set(chip.warnings)
    stored = mtspark.load_bundle(chip.save(tmp_path / "net.deploy"))
    assert stored.network.provenance["max_pool"] == "or"
    assert "--max-pool or, an approximation: 'lif1' fires" in stored.network.provenance["notes"]
    assert stored.fidelity.max_pool == cost
    assert stored.fidelity.to_json()["max_pool"]["same_answer"] == cost.same_answer
    assert chip.diff("engine", decisions=2).exact


def test_labels_of_a_loader_give_the_accuracy_of_both() -> None:
    module = make_tutorial()
    images = (torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    labels = module(images).sum(0).argmax(1)
    pairs = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(pairs, batch_size=12)
    chip = mtspark.export(module, sample=loader, max_pool="or")
    cost = chip.fidelity.max_pool
    assert cost.right == 12
    assert cost.right_exchanged == round(chip.evaluate(images, labels).float_accuracy * 12) < 12
    accuracies = f"(accuracy {cost.right_exchanged / 12:.1%}, of the module {cost.right / 12:.1%})"
    assert accuracies in cost.sentences[-1]


def test_an_exact_network_says_nothing_of_the_approximation(chip: Any) -> None:
    assert chip.fidelity.max_pool is None
    assert "max_pool" not in chip.fidelity.to_json()
    assert "max_pool" not in chip.network.provenance


def test_the_option_that_changes_nothing_is_refused(sample: torch.Tensor) -> None:
    with pytest.raises(BadRequestError, match=r"max_pool: is of max pools before neurons, and Net"):
        mtspark.export(Net(), sample=sample, max_pool="or")
