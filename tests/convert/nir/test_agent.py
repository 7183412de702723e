"""What the exported graphs hold: shared weights, thresholds of gains, a folded head."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import nir
import numpy as np
import pytest
import torch

from mtspark.convert.nir.agent import (
    Head,
    agent_to_nir,
    check_shared_weights,
    dendritic_gains,
    fold_head,
    load_graph,
    save_graph,
)
from mtspark.core.backend import greedy_actions
from mtspark.core.errors import BadFileError, BadNetworkError
from mtspark.train.checkpoint.agent import Agent
from mtspark.train.networks.config import ConvSize

MakeAgent = Callable[..., Agent]
NODES = ["input", "conv1", "conv1_lif", "conv2", "conv2_lif", "flatten"]
NODES += ["hidden", "hidden_lif", "head", "output"]


def test_one_graph_a_task_and_each_a_chain(tiny_agent: Agent) -> None:
    graphs = agent_to_nir(tiny_agent)
    assert list(graphs) == ["pong", "breakout"]
    for task, graph in graphs.items():
        assert list(graph.nodes) == NODES
        assert graph.edges == list(itertools.pairwise(NODES))
        settings = graph.metadata["mtspark"]
        assert settings == {
            "task": task,
            "dt": 1e-4,
            "time_steps": 4,
            "input_scale": 1 / 255,
            "head": "dueling",
        }


def test_geometry_keeps_rows_and_columns_apart(make_agent: MakeAgent) -> None:
    agent = make_agent(observation_shape=(3, 17, 12), convolutions=(ConvSize(5, 4, 2),))
    graph = agent_to_nir(agent)["pong"]
    assert tuple(graph.nodes["conv1"].input_shape) == (17, 12)
    assert graph.nodes["conv1"].weight.shape == (5, 3, 4, 4)
    assert graph.nodes["conv1_lif"].v_threshold.shape == (5, 7, 5)
    assert graph.nodes["hidden"].weight.shape == (10, 5 * 7 * 5)


def test_weights_are_the_folded_ones_in_every_task(tiny_agent: Agent) -> None:
    network = tiny_agent.network
    layers = dict(zip(network.layer_names, [*network.convolutions, network.hidden], strict=True))
    for graph in agent_to_nir(tiny_agent).values():
        for name, layer in layers.items():
            folded = layer.folded_weight().detach().numpy()
            np.testing.assert_array_equal(graph.nodes[name].weight, folded)
            bias = layer.synapses.bias.detach().numpy()
            np.testing.assert_array_equal(graph.nodes[name].bias, bias)


def test_tasks_differ_in_the_hidden_thresholds_alone(tiny_agent: Agent) -> None:
    first, second = agent_to_nir(tiny_agent).values()
    differing = [
        (name, key)
        for name in NODES
        for key, value in vars(first.nodes[name]).items()
        if key not in ("metadata", "input_type", "output_type")
        and not np.array_equal(value, vars(second.nodes[name])[key])
    ]
    assert differing == [("hidden_lif", "v_threshold")]


@pytest.mark.parametrize("key", ["weight", "bias"])
@pytest.mark.parametrize("name", ["conv1", "hidden", "head"])
def test_one_changed_weight_is_refused(tiny_agent: Agent, name: str, key: str) -> None:
    graphs = agent_to_nir(tiny_agent)
    check_shared_weights(graphs)
    getattr(graphs["breakout"].nodes[name], key).flat[-1] += 1e-6
    with pytest.raises(BadNetworkError, match=f"{name}.{key} differs between tasks 'pong'"):
        check_shared_weights(graphs)


def test_a_changed_time_constant_or_node_is_refused(tiny_agent: Agent) -> None:
    graphs = agent_to_nir(tiny_agent)
    graphs["breakout"].nodes["conv2_lif"].tau.flat[0] *= 2
    with pytest.raises(BadNetworkError, match=r"conv2_lif\.tau differs"):
        check_shared_weights(graphs)
    graphs = agent_to_nir(tiny_agent)
    graphs["breakout"].nodes["more"] = graphs["breakout"].nodes["flatten"]
    with pytest.raises(BadNetworkError, match="differ in nodes"):
        check_shared_weights(graphs)


def test_thresholds_are_threshold_over_gain_exactly(make_agent: MakeAgent) -> None:
    agent = make_agent(threshold=0.75)
    dendrites = agent.network.dendrites
    assert dendrites is not None
    for task, graph in enumerate(agent_to_nir(agent).values()):
        with torch.no_grad():
            gains = dendrites(torch.eye(2))[task].double().numpy()
        thresholds = graph.nodes["hidden_lif"].v_threshold
        assert thresholds.dtype == np.float64
        np.testing.assert_array_equal(thresholds, 0.75 / gains)
        np.testing.assert_array_equal(dendritic_gains(agent, task, "hidden"), gains)
        assert np.unique(thresholds).size == 10
        for name in ("conv1_lif", "conv2_lif"):
            assert set(graph.nodes[name].v_threshold.flat) == {0.75}


def test_without_dendrites_every_threshold_is_the_networks(make_agent: MakeAgent) -> None:
    graph = agent_to_nir(make_agent(dendrite_segments=0, threshold=0.75))["breakout"]
    assert graph.nodes["hidden_lif"].v_threshold.tolist() == [0.75] * 10


def test_a_gain_of_zero_means_off_and_stays_finite(tiny_agent: Agent) -> None:
    assert tiny_agent.network.dendrites is not None
    with torch.no_grad():
        tiny_agent.network.dendrites.segments[4, :, 1] = -200.0
    thresholds = agent_to_nir(tiny_agent)["breakout"].nodes["hidden_lif"].v_threshold
    assert np.isfinite(thresholds).all()
    assert thresholds[4] == tiny_agent.network.config.threshold / 1e-12
    with torch.no_grad():
        tiny_agent.network.dendrites.segments[4, :, 1] = torch.nan
    with pytest.raises(BadNetworkError, match="dendritic gains are not finite"):
        agent_to_nir(tiny_agent)


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.5, 0.9, 0.97, 4095 / 4096])
def test_time_constants_give_beta_to_one_ulp(make_agent: MakeAgent, beta: float) -> None:
    graph = agent_to_nir(make_agent(beta=beta))["pong"]
    for name in ("conv1_lif", "conv2_lif", "hidden_lif"):
        node = graph.nodes[name]
        assert {value.dtype for value in (node.tau, node.r)} == {np.dtype(np.float64)}
        ulp = np.spacing(1 - beta)
        np.testing.assert_allclose(1e-4 / node.tau, 1 - beta, rtol=0, atol=ulp)
        np.testing.assert_allclose(1 / node.r, 1 - beta, rtol=0, atol=ulp)
        assert not node.v_leak.any()
        assert not node.v_reset.any()


@pytest.mark.parametrize("beta", [1.0, 1.5, -0.5, float("nan")])
def test_a_decay_without_lif_form_is_refused(make_agent: MakeAgent, beta: float) -> None:
    agent = make_agent()
    object.__setattr__(agent.network.config, "beta", beta)
    with pytest.raises(BadNetworkError, match="a leaky neuron needs 0 <= beta < 1"):
        agent_to_nir(agent)


def head_values(agent: Agent, head: Head, rates: np.ndarray) -> np.ndarray:
    weight, bias = fold_head(agent, head)
    return rates.astype(np.float64) @ weight.astype(np.float64).T + bias


def test_the_folded_head_is_value_plus_advantage_minus_its_mean(tiny_agent: Agent) -> None:
    rates = np.random.default_rng(0).integers(0, 5, (50, 10)).astype(np.float32) / 4
    network = tiny_agent.network
    assert network.value is not None
    with torch.no_grad():
        advantage = network.advantage(torch.from_numpy(rates)).double()
        value = network.value(torch.from_numpy(rates)).double()
    expected = (value + advantage - advantage.mean(1, keepdim=True)).numpy()
    dueling = head_values(tiny_agent, Head.DUELING, rates)
    # Float32 products of values around 5.
    np.testing.assert_allclose(dueling, expected, rtol=1e-6, atol=1e-6)


def test_the_advantage_alone_picks_the_same_actions(tiny_agent: Agent) -> None:
    rates = np.random.default_rng(1).normal(size=(200, 10))
    dueling = head_values(tiny_agent, Head.DUELING, rates)
    advantage = head_values(tiny_agent, Head.ADVANTAGE, rates)
    np.testing.assert_allclose(advantage.mean(1), 0, atol=1e-6)
    for task in tiny_agent.tasks:
        picked = greedy_actions(dueling, task.legal_actions)
        np.testing.assert_array_equal(picked, greedy_actions(advantage, task.legal_actions))
        assert np.unique(picked).size > 1
    assert np.abs(dueling - advantage).max() > 0.1


def test_the_advantage_head_is_named_in_the_graph(tiny_agent: Agent) -> None:
    graph = agent_to_nir(tiny_agent, Head.ADVANTAGE)["pong"]
    assert graph.metadata["mtspark"]["head"] == "advantage"
    np.testing.assert_array_equal(
        graph.nodes["head"].weight, fold_head(tiny_agent, Head.ADVANTAGE)[0]
    )


def test_a_head_without_streams_is_exported_as_it_is(make_agent: MakeAgent) -> None:
    agent = make_agent(dueling=False)
    for head in Head:
        weight, bias = fold_head(agent, head)
        np.testing.assert_array_equal(weight, agent.network.advantage.weight.detach().numpy())
        np.testing.assert_array_equal(bias, agent.network.advantage.bias.detach().numpy())


def test_graphs_survive_their_file_exactly(tiny_agent: Agent, tmp_path: Path) -> None:
    graph = agent_to_nir(tiny_agent)["breakout"]
    save_graph(graph, tmp_path / "graph.nir")
    loaded = load_graph(tmp_path / "graph.nir")
    assert set(loaded.nodes) == set(graph.nodes)
    assert set(loaded.edges) == set(graph.edges)
    for name, node in graph.nodes.items():
        read = loaded.nodes[name]
        assert type(read) is type(node)
        for key, value in vars(node).items():
            if isinstance(value, np.ndarray):
                again = vars(read)[key]
                assert again.dtype == value.dtype, (name, key)
                np.testing.assert_array_equal(again, value)
    settings = loaded.metadata["mtspark"]
    assert float(settings["dt"]) == 1e-4
    assert int(settings["time_steps"]) == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["graph.nir"]


def test_a_file_that_is_no_graph_of_ours_is_refused(tiny_agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "graph.nir"
    with pytest.raises(BadFileError, match="no such file"):
        load_graph(path)
    path.write_text("no graph")
    with pytest.raises(BadFileError, match="no HDF5 file"):
        load_graph(path)
    graph = agent_to_nir(tiny_agent)["pong"]
    save_graph(graph, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(BadFileError, match="damaged HDF5 file"):
        load_graph(path)
    graph.metadata.clear()
    nir.write(str(path), graph)
    with pytest.raises(BadFileError, match="without mtspark's metadata"):
        load_graph(path)


def test_a_public_graph_lacks_our_metadata(golden: Path) -> None:
    with pytest.raises(BadFileError, match="without mtspark's metadata"):
        load_graph(golden / "lif" / "lif_norse.nir")


def test_a_graph_is_written_as_nir_writes_it(
    make_agent: Callable[..., Agent], tmp_path: Path
) -> None:
    """Byte for byte, though in memory first."""
    for task, graph in agent_to_nir(make_agent()).items():
        save_graph(graph, tmp_path / f"{task}.ours.nir")
        nir.write(str(tmp_path / f"{task}.nir"), graph)
        ours = (tmp_path / f"{task}.ours.nir").read_bytes()
        assert ours == (tmp_path / f"{task}.nir").read_bytes()
