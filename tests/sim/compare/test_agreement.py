from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mtspark.core.backend import Activity, ChipTrace
from mtspark.core.progress import Progress
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.compare.agreement import (
    Comparison,
    LayerAgreement,
    compare_activity,
    compare_traces,
)
from mtspark.sim.compare.divergence import Divergence
from mtspark.sim.compare.places import Places, SharedPlaces
from mtspark.sim.engine.chip import EngineChip
from tests.support.networks import three_neurons

FRAMES = np.array([[0, 0], [1, 1], [1, 0]], np.uint8)


def trace(spikes: NDArray[np.bool_], membranes: NDArray[np.int64] | None = None) -> ChipTrace:
    return ChipTrace({"a": spikes}, {} if membranes is None else {"a": membranes})


def test_the_engine_agrees_with_the_reference_and_progress_is_reported() -> None:
    network, reports = three_neurons(), list[Progress]()
    agreement = compare_traces(
        ReferenceChip(network), EngineChip(network), FRAMES, 0, progress=reports.append
    )
    assert agreement.equal
    assert agreement.decisions == 3
    # Three decisions, four steps, spikes and membranes of two hidden neurons and one output.
    assert agreement.layers["hidden"] == LayerAgreement(3 * 4 * 2 * 2, 0)
    assert agreement.layers["out"] == LayerAgreement(3 * 4 * 1 * 2, 0)
    assert agreement.to_json() == {
        "equal": True,
        "decisions": 3,
        "compared": 72,
        "different": 0,
        "first_divergence": None,
    }
    assert agreement.action_agreement is None
    assert [report.done for report in reports] == [0, 1, 2, 3]
    assert {(report.stage, report.total) for report in reports} == {("reference against engine", 3)}


def test_a_batch_is_searched_by_decision_before_step_and_layer() -> None:
    """Decision 1 differs in step 1, decision 0 only in step 3: decision 0 is first."""
    one = np.zeros((3, 2, 4), bool)
    other = one.copy()
    other[0, 1, 2] = other[2, 0, 3] = True
    comparison = Comparison()
    comparison.add_trace(trace(one[:, :1]), trace(one[:, :1]))
    comparison.add_trace(trace(one), trace(other))
    assert comparison.first == Divergence(1, 3, "a", (3,), "spike", 0, 1)
    assert comparison.first.to_json()["neuron"] == [3]
    assert comparison.result().layers["a"] == LayerAgreement(3 * 3 * 4, 2)


def test_a_membrane_comes_before_a_spike_and_only_where_both_have_one() -> None:
    spikes, membranes = np.zeros((1, 1, 1), bool), np.zeros((1, 1, 1), np.int64)
    comparison = Comparison()
    comparison.add_trace(trace(spikes, membranes), trace(~spikes, membranes + 7))
    assert comparison.first == Divergence(0, 1, "a", (0,), "membrane", 0, 7)
    assert comparison.compared == 2
    alone = Comparison()
    alone.add_trace(trace(spikes, membranes), trace(~spikes))
    assert alone.first == Divergence(0, 1, "a", (0,), "spike", 0, 1)
    assert alone.compared == 1


def test_layers_of_other_names_and_shapes_are_compared_in_order_of_their_neurons() -> None:
    one = np.zeros((2, 1, 2, 3), bool)
    other = one.reshape(2, 1, 6).copy()
    other[1, 0, 5] = True
    comparison = Comparison()
    comparison.add_trace(
        ChipTrace({"a": one}, {}), ChipTrace({"b": other}, {}), {"a": "b"}, first_steps={"a": 10}
    )
    assert comparison.first == Divergence(0, 12, "a", (1, 2), "spike", 0, 1)
    with pytest.raises(ValueError, match="a: shapes"):
        comparison.add_trace(ChipTrace({"a": one}, {}), ChipTrace({"a": other[:1]}, {}))


def test_neurons_of_a_pruned_side_are_compared_at_the_places_that_they_had() -> None:
    generator = np.random.default_rng(3)
    kept = np.array([False, True, False, True, True, False])
    places = Places({"a": (2, 3), "off": (2,)}, {"a": kept, "off": np.zeros(2, bool)})
    spikes = generator.random((4, 2, 2, 3)) < 0.5
    membranes = generator.integers(-9, 9, spikes.shape)
    rest = np.zeros((4, 2, 1))
    small = ChipTrace(
        {"a": spikes.reshape(4, 2, 6)[:, :, kept], "off": rest > 0},
        {"a": membranes.reshape(4, 2, 6)[:, :, kept], "off": rest.astype(np.int64)},
    )
    off = generator.random((4, 2, 2)) < 0.5
    whole = ChipTrace({"a": spikes, "off": off}, {"a": membranes, "off": off.astype(np.int64)})
    spread = places.spread(small)
    assert (spread.spikes["a"] == spikes * kept.reshape(2, 3)).all()
    assert not spread.membranes["off"].any()
    only = SharedPlaces(places, None).only
    assert SharedPlaces(None, places).removed == {"a": 3, "off": 2}
    equal = Comparison()
    equal.add_trace(spread, whole, only=only)
    assert equal.result().layers == {
        "a": LayerAgreement(4 * 2 * 3 * 2, 0),
        "off": LayerAgreement(0, 0),
    }
    # Place 4 of six is row 1, column 1.
    membranes[2, 1, 1, 1] += 5
    other = Comparison()
    other.add_trace(spread, whole, only=only)
    right = int(membranes[2, 1, 1, 1])
    assert other.first == Divergence(1, 3, "a", (1, 1), "membrane", right - 5, right)
    counts = Activity({"a": spikes.sum(0)}, {"a": 0 * spikes.sum(0)})
    fewer = Activity({"a": spikes.sum(0).reshape(2, 6)[:, kept]}, {})
    shapes = {"a": (int(kept.sum()),), "off": (1,)}
    every = Activity({"a": spikes.sum(0), "input": spikes.sum(0)}, {"off": off.sum(0)})
    left = places.left_activity(every, shapes)
    assert (left.window["a"] == fewer.window["a"]).all()
    assert left.window["input"] is every.window["input"]
    # What stands for a population of which nothing is left is off.
    assert left.drain["off"].tolist() == [[0], [0]]
    of_counts = Comparison()
    of_counts.add_activity(places.spread_activity(fewer), counts, only=only)
    assert of_counts.result().layers["a"] == LayerAgreement(2 * 3, 0, 0)


def test_activity_gives_counts_distances_and_actions() -> None:
    network = three_neurons()
    hidden = network.populations[0]
    other = replace(
        network,
        populations=(replace(hidden, thresholds=np.array([[64, 1000]])), network.populations[1]),
    )
    agreement = compare_activity(ReferenceChip(network), EngineChip(other), FRAMES, 0, (), batch=2)
    one = ReferenceChip(network).decide(FRAMES, 0).activity.window["hidden"]
    two = ReferenceChip(other).decide(FRAMES, 0).activity.window["hidden"]
    assert (one != two).any()
    layer = agreement.layers["hidden"]
    assert layer.compared == one.size
    assert layer.different == int((one != two).sum())
    assert layer.spike_distance == int(np.abs(one - two).sum())
    assert agreement.decisions == agreement.actions_compared == 3
    assert agreement.action_agreement == 1.0, "a network of one action"
    assert agreement.layers_to_json()["hidden"] == {
        "compared": layer.compared,
        "different": layer.different,
        "spike_distance": layer.spike_distance,
    }
    first = agreement.first
    assert first is not None
    assert (first.step, first.layer, first.quantity) == (None, "hidden", "spikes in the decision")


def test_values_and_actions_are_counted_apart() -> None:
    values = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    other = np.array([[1.0, 2.0, 3.0], [3.0, 2.5, 1.0]])
    comparison = Comparison()
    comparison.add_values(values, other, (0, 1))
    comparison.add_values(values, values[:, ::-1], (0, 2))
    agreement = comparison.result()
    assert (agreement.values_compared, agreement.values_different) == (12, 5)
    assert (agreement.actions_compared, agreement.actions_equal) == (4, 2)
    assert agreement.action_agreement == 0.5
    assert agreement.decisions == 4
    assert not agreement.equal, "no spike was compared"


def test_activity_of_other_decisions_is_refused() -> None:
    one, two = ({"a": np.zeros((count, 2), np.int64)} for count in (1, 2))
    with pytest.raises(ValueError, match="shapes"):
        Comparison().add_activity(Activity(one), Activity(two))
