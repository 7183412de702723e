"""Cut synapses that come back for another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint.agent import save_agent
from mtspark.train.config.games import TrainConfig
from mtspark.train.config.pruning import PruningConfig
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.networks.network import MTSparkNetwork
from mtspark.train.networks.refit import act_as
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.sparsity.magnitude import density, prune
from mtspark.train.sparsity.reopening import reopen
from tests.support.scripted import SMALL, script_games

PRUNED = replace(
    SMALL,
    pruning=PruningConfig(("hidden",), density=0.25, start=0.0, end=0.1, every_updates=1),
    network=replace(SMALL.network, masked_layers=("hidden",)),
)


def test_weights_stay_but_for_the_mean_of_their_row() -> None:
    network = MTSparkNetwork(
        NetworkConfig((1, 8, 8), (ConvSize(2, 4, 2),), hidden=3, masked_layers=("hidden",))
    )
    layer = network.hidden
    assert layer.mask is not None
    with torch.no_grad():
        layer.mask.fill_(False)
        # A row of two weights that act, one whose mean is not 0, and one without a synapse.
        layer.mask[0, :2] = layer.mask[1, 2:6] = True
    acting = layer.folded_weight().detach().clone()
    stored = layer.synapses.weight.detach().clone()
    reopen(network, ["hidden"])
    assert bool(layer.mask.all())
    got = layer.folded_weight().detach()
    for row in (0, 1):
        centred = acting[row] - acting[row].mean()
        torch.testing.assert_close(got[row], centred)
        torch.testing.assert_close(layer.synapses.weight[row].std(), stored[row].std())
    assert not got[2].any()
    assert torch.equal(layer.synapses.weight[2], stored[2])
    # The row without a synapse can learn: its gain has a gradient, and nothing is NaN.
    (layer.folded_weight() * torch.randn(18)).sum().backward()
    assert layer.synapses.weight.grad is not None
    assert layer.standardise.gain.grad is not None
    assert torch.isfinite(layer.synapses.weight.grad).all()
    assert layer.standardise.gain.grad[2] != 0


def test_without_standardised_means_nothing_changes_but_the_mask() -> None:
    network = MTSparkNetwork(
        NetworkConfig((1, 8, 8), (ConvSize(2, 4, 2),), hidden=3, masked_layers=("hidden",))
    )
    layer = network.hidden
    layer.standardise.centred = False
    prune(network, ["hidden"], 0.5)
    before = layer.folded_weight().detach().clone()
    reopen(network, ["hidden"])
    torch.testing.assert_close(layer.folded_weight().detach(), before)
    assert density(network, "hidden") == 1.0


def test_neurons_that_hear_one_number_keep_their_weights() -> None:
    network = MTSparkNetwork(
        NetworkConfig((1, 1, 1), (), hidden=6, input="values", masked_layers=("hidden",))
    )
    prune(network, ["hidden"], 0.5)
    before = network.hidden.folded_weight().detach().clone()
    assert int((before != 0).sum()) == 3
    reopen(network, ["hidden"])
    torch.testing.assert_close(network.hidden.folded_weight().detach(), before)


def test_a_row_of_equal_weights_is_taken_off_as_a_whole_and_nothing_grows() -> None:
    """Rounding leaves a spread that nothing may be divided by."""
    network = MTSparkNetwork(
        NetworkConfig((1, 8, 8), (ConvSize(2, 4, 2),), hidden=3, masked_layers=("hidden",))
    )
    stored = network.hidden.synapses.weight.detach().clone()
    act_as(network.hidden, torch.full_like(stored, 0.1))
    assert torch.equal(network.hidden.synapses.weight, stored)
    assert not network.hidden.standardise.gain.any()


def test_a_layer_without_cuts_stays_as_it_is() -> None:
    network = MTSparkNetwork(
        NetworkConfig((1, 8, 8), (ConvSize(2, 4, 2),), hidden=3, masked_layers=("hidden",))
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    reopen(network, ["hidden"])
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def begun_sparse(monkeypatch: pytest.MonkeyPatch, folder: Path) -> TrainConfig:
    """A run that starts from an agent with a quarter of the synapses, `sparse.pt`."""
    script_games(monkeypatch)
    first = PqnTrainer(PRUNED)
    prune(first.network, ["hidden"], 0.25)
    save_agent(first.agent(), folder / "sparse.pt")
    return replace(PRUNED, start_from=str(folder / "sparse.pt"))


def test_a_run_opens_what_its_start_has_cut_and_resumes_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    again = begun_sparse(monkeypatch, tmp_path)
    assert density(PqnTrainer(again).network, "hidden") == pytest.approx(0.25, abs=0.01)
    pruning = replace(PRUNED.pruning, reopen=True)
    opened = replace(again, pruning=pruning)
    assert density(PqnTrainer(opened).network, "hidden") == 1.0

    # Weights of a resumed run come from its checkpoint, also when the start is gone.
    (tmp_path / "sparse.pt").unlink()
    assert PqnTrainer(opened, resumed=True).config == opened


def test_a_density_that_magnitude_cannot_reach_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It only cuts: an agent that has fewer synapses would stay as it is."""
    again = begun_sparse(monkeypatch, tmp_path)
    denser = replace(PRUNED.pruning, density=0.9)
    with pytest.raises(BadRequestError, match=r"density is 0\.9: .* 0\.244 in hidden, and"):
        PqnTrainer(replace(again, pruning=denser))
    assert PqnTrainer(replace(again, pruning=replace(denser, reopen=True)))
    assert PqnTrainer(replace(again, pruning=replace(denser, density=0.1)))


def test_cut_weights_do_not_act_in_a_whole_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    first = PqnTrainer(PRUNED)
    save_agent(first.agent(), tmp_path / "whole.pt")
    prune(first.network, ["hidden"], 0.25)
    save_agent(first.agent(), tmp_path / "sparse.pt")
    actor = replace(PRUNED.pruning, scope="actor")
    again = replace(PRUNED, pruning=actor, start_from=str(tmp_path / "sparse.pt"))
    with pytest.raises(BadRequestError, match=r"has cut some in hidden; set scope = 'all', or"):
        PqnTrainer(again)
    opened = PqnTrainer(replace(again, pruning=replace(actor, reopen=True)))
    assert density(opened.target, "hidden") == 1
    assert PqnTrainer(replace(again, start_from=str(tmp_path / "whole.pt"))).config.start_from


def test_nothing_to_open_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pruning\.reopen: a new network has all its synapses"):
        replace(PRUNED, pruning=replace(PRUNED.pruning, reopen=True))
    with pytest.raises(ValueError, match=r"reopen, method 'evolution', layers \['hidden'\]"):
        PruningConfig(("hidden",), method="evolution", reopen=True)
    with pytest.raises(ValueError, match=r"layers \[\]"):
        PruningConfig(reopen=True)
