"""Our mapping of PilotNet LIF beside the log of Intel's compiler, and the measured step time."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtspark.sim.validation.mapping import INTEL, PilotNetComparison, compare_pilotnet


@pytest.fixture(scope="module")
def found(golden: Path) -> PilotNetComparison:
    return compare_pilotnet(golden / "pilotnet_lif")


def test_divided_alike_every_layer_takes_the_cores_and_neurons_of_the_log(
    found: PilotNetComparison,
) -> None:
    assert found.intel_cores == 74 == len(found.as_intel.cores)
    for layer in found.layers:
        assert layer.as_intel[:2] == layer.intel[:2] == INTEL[layer.name][:2]


def test_memory_is_that_of_the_log_but_for_two_layers_of_other_weights(
    found: PilotNetComparison,
) -> None:
    """Words a core; conv-1 and conv-2 have other weights than the notebook's network."""
    differ = {layer.name for layer in found.layers if layer.as_intel[2] != layer.intel[2]}
    assert differ == {"pixels", "conv-1", "conv-2"}
    ratios = [layer.as_intel[2] / layer.intel[2] for layer in found.layers if layer.intel[2]]
    assert min(ratios) == 0.75


def test_fewer_cores_would_do(found: PilotNetComparison) -> None:
    assert found.fewest.fits
    assert len(found.fewest.cores) == 52
    assert all(layer.fewest[0] <= layer.intel[0] for layer in found.layers)


def test_the_modelled_step_brackets_the_measured_one(found: PilotNetComparison) -> None:
    """Loihi 1's time of an operation is too slow for Loihi 2, a fifth of it too fast."""
    times = {name: step.total_us for name, step in found.steps.items()}
    assert found.measured_step_us == pytest.approx(152.8, abs=0.1)
    assert times["brief"] is not None
    assert times["scaled"] is not None
    assert times["brief"] < found.measured_step_us < times["scaled"]
    # The set that says it is fitted.
    assert times["pilotnet"] == pytest.approx(found.measured_step_us, rel=0.01)


def test_the_busiest_core_by_hand(found: PilotNetComparison, golden: Path) -> None:
    """conv-4: columns 0..15 hear conv-3's columns 0..17, both rows all 4 of its rows.

    Counted from conv-3's recording: a spike at (row, column) meets 64 filters at as many
    places of the tile as 3 x 3 taps reach.
    """
    import numpy as np

    spikes = np.load(golden / "pilotnet_lif" / "conv-3.npy").T[4:20].astype(int).sum(0)
    met = 0
    for row in range(4):
        for column in range(22):
            ys = sum(0 <= row - tap < 2 for tap in range(3))
            xs = sum(0 <= column - tap < 16 for tap in range(3))
            met += int(spikes[:, row, column].sum()) * 64 * ys * xs
    step = found.steps["scaled"]
    assert step.population == "conv-4"
    count = {term.name: term.count for term in step.terms}["synaptic operations, convolution"]
    assert count == met / 16
