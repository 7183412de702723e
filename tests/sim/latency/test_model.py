from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtspark.core.chip_network.network import INPUT
from mtspark.core.environments import Environment, Observation, Task
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.deploy.chips.model import ChipModel, load_chip
from mtspark.deploy.mapping.mapper import ChipMapping, InputPlace, map_network
from mtspark.sim.energy import load_card
from mtspark.sim.engine import EngineChip
from mtspark.sim.latency.model import DecisionTime, TimeTerm, decision_time, step_time
from mtspark.sim.latency.serialise import decision_to_json, step_to_json
from mtspark.sim.verdict import Costing
from tests.support.chips import timed
from tests.support.networks import (
    conv,
    dense,
    network,
    population,
    sparse,
    sparse_conv,
    three_neurons,
)

NET = three_neurons()
# Over 2 steps: the frame speaks 3 and 1 times, hidden's neurons 2 and 5 times.
SENT = {INPUT: np.array([3, 1]), "hidden": np.array([2, 5]), "out": np.array([0])}
ALL = {
    "neuron_update_ns": 10.0,
    "spike_out_ns": 100.0,
    "synaptic_operation_ns": 7.0,
    "message_in_ns": 3.0,
    "message_out_ns": 5.0,
    "within_tile_ns": 1.0,
    "hop_east_west_ns": 40.0,
    "hop_north_south_ns": 60.0,
    "barrier_ns": ((1, 200.0), (5, 400.0)),
}


def mapped(model: ChipModel) -> ChipMapping:
    """Frame at (0, 0), hidden at (1, 2), out at hidden's router."""
    mapping = map_network(NET, model)
    places = [(0, 0, 0), (1, 2, 0), (1, 2, 1)]
    cores = [
        replace(core, column=column, row=row, place=place)
        for core, (column, row, place) in zip(mapping.cores, places, strict=True)
    ]
    return replace(mapping, cores=tuple(cores))


def terms(found: tuple[TimeTerm, ...]) -> dict[str, float | None]:
    return {term.name: None if term.time_us is None else 1000 * term.time_us for term in found}


def test_a_step_by_hand() -> None:
    """In a mean step of 2: hidden gets 4 / 2 messages, which meet 2 neurons each, and sends 7 / 2.

    Its time is 2 * 10 (updates) + 3.5 * 100 (spikes) + 4 * 7 (operations) + 2 * 3 + 3.5 * 5
    = 421.5 ns. The frame: 2 * 10 + 2 * 100 + 2 * 5 = 230. out: 10 + 3.5 * 7 + 3.5 * 3 = 45.
    The longest way is 1 column and 2 rows, 160 ns; two routers in use: 250 ns at the barrier.
    """
    model = timed(load_chip("loihi1"), **ALL)
    found = step_time(NET, mapped(model), model, SENT, 2)
    assert (found.times, found.busiest, found.population) == ("ours", 1, "hidden")
    assert (1000 * found.core_us).tolist() == pytest.approx([230, 421.5, 45])
    assert terms(found.terms) == pytest.approx(
        {
            "neuron updates": 20,
            "spikes generated": 350,
            "synaptic operations, dense": 28,
            "synaptic operations, sparse": 0,
            "synaptic operations, convolution": 0,
            "messages received": 6,
            "messages sent": 17.5,
            "longest way of a message": 160,
            "barrier": 250,
        }
    )
    assert found.total_us == pytest.approx((421.5 + 160 + 250) / 1000)
    assert found.missing == ()


@pytest.mark.parametrize("lacking", sorted(ALL))
def test_a_time_that_a_chip_lacks_is_not_modelled_and_not_zero(lacking: str) -> None:
    times = {name: value for name, value in ALL.items() if name != lacking}
    model = timed(load_chip("loihi1"), **times)
    full = timed(load_chip("loihi1"), **ALL)
    found = step_time(NET, mapped(model), model, SENT, 2)
    names = {
        "neuron_update_ns": ["neuron updates"],
        "spike_out_ns": ["spikes generated"],
        "synaptic_operation_ns": ["synaptic operations, dense"],
        "message_in_ns": ["messages received"],
        "message_out_ns": ["messages sent"],
        "within_tile_ns": [],
        "hop_east_west_ns": ["longest way of a message"],
        "hop_north_south_ns": ["longest way of a message"],
        "barrier_ns": ["barrier"],
    }[lacking]
    assert list(found.missing) == names
    by_name = {term.name: term for term in found.terms}
    for name in names:
        assert by_name[name].time_us is None
        assert by_name[name].text == "not modelled"
    whole = step_time(NET, mapped(full), full, SENT, 2).total_us
    assert found.total_us is not None
    assert whole is not None
    assert found.total_us < whole or not names


def test_a_chip_without_times_models_nothing() -> None:
    model = replace(load_chip("loihi1"), times=())
    found = step_time(NET, mapped(model), model, SENT, 2)
    assert found.total_us is None
    assert found.times == ""
    decision = decision_time(NET, mapped(model), model, SENT, 1)
    assert (decision.total_us, decision.margin_us) == (None, None)


def test_a_message_at_home_is_faster_than_a_hop() -> None:
    model = timed(load_chip("loihi1"), **ALL)
    near = map_network(NET, model, place=False)
    found = step_time(NET, near, model, SENT, 2)
    assert {core.router for core in near.cores} == {(0, 0, 0)}
    assert terms(found.terms)["longest way of a message"] == 1
    assert terms(found.terms)["barrier"] == 200


def test_kinds_of_operations_have_their_own_times_or_that_of_the_dense() -> None:
    links = [
        conv(INPUT, "p", np.full((1, 1, 1, 1), 2)),
        sparse("p", "q", np.eye(4, dtype=int) * 2),
        dense("q", "r", np.full((1, 4), 2)),
    ]
    parts = [population("p", np.ones((1, 1, 2, 2))), population("q", [[1] * 4])]
    net = network((1, 2, 2), [*parts, population("r", [[1]])], links)
    sent = {INPUT: np.ones((1, 2, 2), int), "p": np.ones((1, 2, 2), int)}
    sent |= {"q": np.ones(4, int), "r": np.zeros(1, int)}
    own = {"synaptic_operation_ns": 1.0, "synaptic_operation_sparse_ns": 10.0}
    model = timed(load_chip("loihi1"), **own, synaptic_operation_conv_ns=100.0)
    mapping = map_network(net, model, input_place=InputPlace.HOST)
    assert (1000 * step_time(net, mapping, model, sent, 1).core_us).tolist() == [400, 40, 4]
    model = timed(load_chip("loihi1"), synaptic_operation_ns=1.0)
    assert (1000 * step_time(net, mapping, model, sent, 1).core_us).tolist() == [4, 4, 4]


def test_operations_of_a_sparse_kernel_take_the_time_of_sparse_ones() -> None:
    """Of two filters, one has a weight: each of four pixels meets it once."""
    link = sparse_conv(INPUT, "p", np.array([2, 0]).reshape(2, 1, 1, 1))
    net = network((1, 2, 2), [population("p", np.ones((1, 2, 2, 2)))], [link])
    sent = {INPUT: np.ones((1, 2, 2), int), "p": np.zeros((2, 2, 2), int)}
    own = {"synaptic_operation_ns": 1.0, "synaptic_operation_sparse_ns": 10.0}
    model = timed(load_chip("loihi1"), **own, synaptic_operation_conv_ns=100.0)
    mapping = map_network(net, model, input_place=InputPlace.HOST)
    assert (1000 * step_time(net, mapping, model, sent, 1).core_us).tolist() == [40]


# Decisions


def decided(measured: float | None = None, **times: float) -> DecisionTime:
    model = timed(load_chip("loihi1"), neuron_update_ns=1000.0, **times)
    return decision_time(NET, mapped(model), model, SENT, 2, measured_host_us=measured)


def test_a_decision_takes_t_plus_depth_steps_and_the_host() -> None:
    """2 steps and depth 2: 4 steps of 2 us (2 neurons); the host writes 2 values, reads 1."""
    found = decided(host_input_value_ns=500.0, host_output_value_ns=300.0, host_call_ns=7000.0)
    assert (found.steps, found.chip_us) == (4, pytest.approx(8))
    assert [term.time_us for term in found.terms] == pytest.approx([8, 2 * 0.5, 0.3, 7])
    assert found.total_us == pytest.approx(16.3)
    # Four frames of a console at 60 a second.
    assert found.deadline_us == pytest.approx(66_666.667)
    assert found.margin_us == pytest.approx(66_666.667 - 16.3)


def test_the_busiest_core_changes_along_the_pipeline() -> None:
    """T = 2 and depth 2: the frame sends in steps 0 and 1, hidden works in 1 and 2, out in 2 and 3.

    One decision. In a step of its window the frame takes 20 + (4 * 100 + 4 * 5) / 2 = 230 ns,
    hidden 20 + (7 * 100 + 8 * 7 + 4 * 3 + 7 * 5) / 2 = 421.5, out 10 + (7 * 7 + 7 * 3) / 2 = 45;
    outside of it their updates alone, 20 at most. 160 + 250 are added for way and barrier.
    """
    model = timed(load_chip("loihi1"), **ALL)
    found = decision_time(NET, mapped(model), model, SENT, 1)
    busiest = [230, 421.5, 421.5, 45]
    assert [1000 * t for t in found.by_step_us] == pytest.approx([t + 410 for t in busiest])
    assert found.chip_us == pytest.approx(sum(found.by_step_us))
    assert found.step.total_us is not None
    assert found.chip_us is not None
    assert found.chip_us > 4 * found.step.total_us


def test_a_late_decision_has_a_negative_margin() -> None:
    found = decided(host_call_ns=70_000_000.0)
    assert found.margin_us is not None
    assert found.margin_us < 0


def test_the_host_writes_a_held_frame_once_and_sends_every_message_itself() -> None:
    """With the host sending, 4 messages over 2 decisions; a series of 2 slices is written whole."""
    model = timed(load_chip("loihi2"), host_input_value_ns=1000.0)
    host = map_network(NET, model, input_place=InputPlace.HOST)
    assert decision_time(NET, host, model, SENT, 2).terms[1].time_us == pytest.approx(2)
    series = replace(NET, input=replace(NET.input, held=False))
    cores = map_network(series, model, input_place=InputPlace.CORES)
    assert decision_time(series, cores, model, SENT, 2).terms[1].time_us == pytest.approx(4)


def test_what_the_host_needs_is_not_modelled_without_its_times() -> None:
    found = decided()
    assert found.total_us == found.chip_us
    assert set(found.missing) >= {"host input values", "host output values", "host call"}


def test_time_of_this_computer_is_kept_apart() -> None:
    assert decided().total_us == decided(5000.0).total_us
    assert decided(5000.0).measured_host_us == 5000.0


def test_a_network_that_plays_no_game_has_no_deadline() -> None:
    model = timed(load_chip("loihi1"), **ALL)
    net = replace(NET, protocol=None)
    found = decision_time(net, mapped(model), model, SENT, 1)
    assert (found.deadline_us, found.margin_us) == (None, None)


def test_a_decision_has_the_time_that_its_own_task_gives_it() -> None:
    """Four frames of a console, or half a second of a world that is asked twice a second."""
    model = timed(load_chip("loihi1"), **ALL)
    slow = Environment("Slow-v0", decisions_per_s=2.0, observation=Observation("multibinary", 2))
    fast = replace(slow, decisions_per_s=10.0)
    world = Task("slow", "Slow-v0", (0,), slow)
    hidden, out = (replace(one, thresholds=one.thresholds.repeat(2, 0)) for one in NET.populations)
    net = replace(NET, tasks=(*NET.tasks, world), populations=(hidden, out))
    found = {
        task: decision_time(net, mapped(model), model, SENT, 1, task=task).deadline_us
        for task in (NET.tasks[0].name, "slow", None)
    }
    assert list(found.values()) == pytest.approx([66_666.667, 500_000, 66_666.667])
    net = replace(net, tasks=(world, replace(world, name="fast", environment=fast)))
    net = replace(net, protocol=None, input=replace(net.input, shape=(1, 2, 1)))
    costing, frames = Costing(net), np.ones((1, 1, 2, 1), np.uint8)
    costing.add(EngineChip(net).decide(frames, 1), frames, None)
    card = load_card("loihi2_pilotnet")
    assert costing.cost(card, "slow").deadline_us == 500_000
    assert costing.cost(card).deadline_us == 100_000


def test_nothing_counted_has_no_mean() -> None:
    model = timed(load_chip("loihi1"), **ALL)
    with pytest.raises(BadRequestError, match="0 steps"):
        step_time(NET, mapped(model), model, SENT, 0)
    with pytest.raises(BadRequestError, match="no decision"):
        decision_time(NET, mapped(model), model, SENT, 0)
    with pytest.raises(BadFileError, match="no times 'x'"):
        step_time(NET, mapped(model), model, SENT, 1, times="x")


def test_the_json_has_every_term_and_says_estimate() -> None:
    found = decided()
    data = decision_to_json(found)
    assert data["note"].startswith("ESTIMATE")
    assert data["total_us"] == found.total_us
    assert data["terms"][3]["time_us"] is None
    assert len(step_to_json(found.step)["terms"]) == 9
