"""PilotNet's recorded activity, counted and priced; its folder's README says how it is laid out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mtspark.core.errors import BadFileError
from mtspark.sim.energy.cards import load_card
from mtspark.sim.energy.pricing import price
from mtspark.sim.validation.pilotnet import Measurement, pilotnet
from tests.support.scalar_chip import synapses


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "pilotnet_lif"


def test_spikes_and_operations_of_one_sample(folder: Path) -> None:
    """Spikes from the recordings by slicing; operations of two layers synapse by synapse."""
    network, counts = pilotnet(folder)
    assert [layer.name for layer in counts.layers][:3] == ["pixels", "conv-0", "conv-1"]
    assert (counts.decisions, network.depth) == (1, 10)
    layers = {layer.name: layer for layer in counts.layers}
    for depth, name in enumerate(["input", "conv-0", "conv-1", "conv-2", "conv-3", "conv-4"]):
        recorded = np.load(folder / f"{name}.npy")[..., depth : depth + 16]
        assert layers["pixels" if name == "input" else name].spikes.total == recorded.sum()
    for name, before in (("conv-4", "conv-3"), ("fc-1", "fc-0")):
        link = next(link for link in network.connections if link.target == name)
        start = {"conv-3": 4, "fc-0": 6}[before]
        sent = np.load(folder / f"{before}.npy").T[start : start + 16].sum(0)
        met = synapses(link, network.shape_of(before), network.shape_of(name))
        assert layers[name].synops_structural.total == sum(
            int(sent[origin]) for origin, _, _ in met
        )
    assert layers["conv-0"].neuron_updates.total == 99 * 32 * 24 * 16


def test_the_fitted_card_gives_what_was_measured_and_the_others_do_not(folder: Path) -> None:
    network, counts = pilotnet(folder)
    measured = Measurement()
    fitted = price(counts, network, load_card("loihi2_pilotnet")).dynamic_j_per_decision
    assert fitted == pytest.approx(measured.dynamic_j, rel=1e-3)
    loihi1 = price(counts, network, load_card("loihi1_davies2018")).dynamic_j_per_decision
    assert 1.1 < loihi1 / measured.dynamic_j < 1.4
    assert measured.step_time_us == pytest.approx(152.9, abs=0.1)


def test_a_folder_without_pilotnet_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"network\.net: no such file"):
        pilotnet(tmp_path)
    shutil.copy(folder / "network.net", tmp_path / "network.net")
    with pytest.raises(BadFileError, match=r"input\.npy: no readable recording"):
        pilotnet(tmp_path)
    np.save(tmp_path / "input.npy", np.zeros((2, 2, 2, 24), bool))
    with pytest.raises(BadFileError, match=r"recorded shape \(2, 2, 2\), its layer is"):
        pilotnet(tmp_path)
    (tmp_path / "network.net").write_bytes(b"nothing")
    with pytest.raises(BadFileError, match=r"network\.net"):
        pilotnet(tmp_path)
