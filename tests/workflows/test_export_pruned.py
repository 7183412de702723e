"""One task's network and pruned bundles: chip, engine, graph and torch give the same spikes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtspark.convert.nir.agent import agent_to_nir
from mtspark.core.chip_network import ConnectionKind
from mtspark.core.environments import Environment, Observation, Task, world_task
from mtspark.core.environments import side_by_side as placed
from mtspark.core.errors import (
    BackendMissingError,
    BadFileError,
    BadNetworkError,
    BadRequestError,
)
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.deploy.lava.shim import installed_lava
from mtspark.sim.backends.lava.backend import LavaBackend
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.engine.chip import EngineChip
from mtspark.train.checkpoint.agent import Agent, load_agent, save_agent
from mtspark.train.checkpoint.single import single_task
from mtspark.train.checkpoint.union import side_by_side
from mtspark.train.networks.network import NetworkTrace
from mtspark.train.networks.variants import why_not_deployable
from mtspark.train.sparsity.reach import deaf_tasks
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.diff import diff
from mtspark.workflows.diff.files import diff_files
from mtspark.workflows.diff.twin import compare_with_twin, twin_of
from mtspark.workflows.evaluate.bundle import EvaluationRequest, evaluate_bundle
from mtspark.workflows.explain import explain
from mtspark.workflows.export import quantising
from mtspark.workflows.export.comparing import compare_graphs
from mtspark.workflows.export.fidelity import fidelity_of
from mtspark.workflows.export.pipeline import STEPS, export_to, run_steps, write_export
from mtspark.workflows.export.request import ExportRequest, Source, check_options
from mtspark.workflows.run.games import run_games
from mtspark.workflows.whole import whole_network

MakeAgent = Callable[..., Agent]


@pytest.fixture
def pathways(make_agent: MakeAgent) -> Agent:
    """Two tasks with a fifth of the synapses of two layers each, and few neurons that fire."""
    agent = make_agent(pathway_layers=("conv2", "hidden"), hidden=24)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name in ("conv2", "hidden"):
            layer = agent.network.layer(name)
            assert layer.paths is not None
            layer.paths.copy_(torch.rand(layer.paths.shape, generator=generator) < 0.2)
            layer.synapses.bias.mul_(0.4)
        paths = agent.network.hidden.paths
        assert paths is not None
        # In the first task, nothing arrives at neuron 3, and conv2's channel 1 reaches nobody.
        paths[0, 3] = False
        per_channel = paths.shape[2] // 4
        paths[0, :, per_channel : 2 * per_channel] = False
    return agent


def with_random_paths(agent: Agent, share: float = 0.3) -> Agent:
    """The agent with other paths for each task, and currents that make all its layers fire."""
    generator = torch.Generator().manual_seed(7)
    network = agent.network
    with torch.no_grad():
        for name in network.config.pathway_layers:
            paths = network.layer(name).paths
            assert paths is not None
            paths.copy_(torch.rand(paths.shape, generator=generator) < share)
        for name in network.layer_names:
            network.layer(name).standardise.gain.mul_(4)
    return agent


def exported(folder: Path, **options: Any) -> Bundle:
    """A bundle by all steps of an export but the comparison with torch, which plays games."""
    request = ExportRequest(**options)
    steps = [one for one in STEPS[Source.AGENT] if one.work is not compare_graphs]
    return write_export(run_steps(request, steps=steps), folder)


def frames_of(agent: Agent, count: int = 12) -> np.ndarray:
    generator = np.random.default_rng(5)
    shape = (count, *agent.network.config.observation_shape)
    return generator.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    "changes",
    [
        {"pathway_layers": ("conv1", "hidden")},
        {"context": "embedding", "context_size": 4, "dendrite_layers": ("conv1", "hidden")},
        {"context": "prototype", "context_size": 4, "masked_layers": ("hidden",)},
        {"dendrite_segments": 0, "dueling": False, "pathway_layers": ("conv2",)},
        {"dense": (12, 9), "pathway_layers": ("dense1", "dense2", "hidden")}
        | {"dendrite_layers": ("dense2",)},
    ],
)
def test_one_task_alone_computes_what_it_computed_among_others(
    make_agent: MakeAgent, changes: dict[str, Any], tmp_path: Path
) -> None:
    agent = with_random_paths(make_agent(**changes))
    with torch.no_grad():
        if agent.network.config.context == "prototype":
            agent.network.context.vectors.copy_(torch.rand(2, 4))
    frames = torch.from_numpy(frames_of(agent))
    for index, task in enumerate(agent.tasks):
        one = single_task(agent, task.name)
        assert one.tasks == (task,)
        save_agent(one, tmp_path / f"{index}.pt")
        one = load_agent(tmp_path / f"{index}.pt")
        before, after = NetworkTrace(), NetworkTrace()
        own = torch.full((len(frames),), index)
        values = agent.network(frames, own, before)
        torch.testing.assert_close(one.network(frames, own * 0, after), values)
        for name, layer in before.layers.items():
            assert torch.equal(after.layers[name].spikes, layer.spikes)
            assert layer.spikes.any()


@pytest.mark.slow
def test_a_pathway_goes_to_the_chip_pruned_and_no_spike_changes(
    pathways: Agent, tmp_path: Path, read_here: None
) -> None:
    save_agent(pathways, tmp_path / "agent.pt")
    source, task = tmp_path / "agent.pt", pathways.tasks[0].name
    whole = export_to(ExportRequest(source=source, task=task), tmp_path / "whole").bundle
    request = ExportRequest(source=source, task=task, prune=True)
    result = export_to(request, tmp_path / "pruned")
    small = load_bundle(tmp_path / "pruned")
    assert [one.name for one in small.network.tasks] == [task]
    sizes = {one.name: one.size for one in whole.network.populations}
    fewer = {one.name: one.size for one in small.network.populations}
    assert fewer["hidden"] < sizes["hidden"] == 24
    assert small.network.population("conv2").shape[0] == 3
    links = {link.target: link for link in small.network.connections}
    assert links["hidden"].kind is ConnectionKind.SPARSE
    assert links["conv2"].kind is ConnectionKind.SPARSE_CONV
    # Reference and engine of both bundles, beside the float masks.
    frames = frames_of(pathways, 40)
    chips = [ReferenceChip(whole.network), ReferenceChip(small.network), EngineChip(small.network)]
    answers = [chip.decide(frames, 0, trace=True) for chip in chips]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answers[0].values, answer.values)
    assert answers[0].activity.window["hidden"].sum() == answers[1].activity.window["hidden"].sum()
    assert answers[0].activity.window["hidden"].any()
    values = pathways.network(torch.from_numpy(frames), torch.zeros(40, dtype=torch.long))
    same = answers[1].values.argmax(1) == values.detach().numpy().argmax(1)
    assert same.mean() > 0.8
    # What was removed and what a switch writes stands in fidelity.json.
    stored = json.loads((tmp_path / "pruned" / "fidelity.json").read_text())
    report = {one["population"]: one for one in stored["pruned"]["populations"]}
    assert report["hidden"]["kept"] == fewer["hidden"]
    assert report["hidden"]["never_fire"] > 0
    assert stored["pruned"]["spikes_compared"] > 0
    assert stored["graph_against_torch"].keys() == {task}
    layers = [pathways.network.layer(name) for name in ("conv2", "hidden")]
    mine, other = (torch.cat([layer.paths[row].flatten() for layer in layers]) for row in (0, 1))
    assert stored["pathway"]["own"] == int(mine.sum())
    assert stored["pathway"]["union"] == int((mine | other).sum())
    # Of the integers: the other task's own export scales shared synapses by themselves.
    name = pathways.tasks[1].name
    old = export_to(ExportRequest(source=source, task=name), tmp_path / "other").bundle.network
    pairs = np.concatenate(
        [
            np.stack([left.weights.ravel(), right.weights.ravel()])
            for left, right in zip(old.connections, whole.network.connections, strict=True)
        ],
        axis=1,
    )
    written = [(was, now) for was, now in pairs.T.tolist() if now not in (0, was)]
    neurons = list(zip(old.populations, whole.network.populations, strict=True))
    thresholds = sum(int((left.thresholds != right.thresholds).sum()) for left, right in neurons)
    biases = sum(int((one.bias_mantissa != two.bias_mantissa).sum()) for one, two in neurons)
    registers = zip(old.connections, whole.network.connections, strict=True)
    assert stored["pathway"]["switches"] == {
        name: {
            "written": len(written),
            "rescaled": sum(was != 0 for was, _ in written),
            "removed": sum(now == 0 != was for was, now in pairs.T.tolist()),
            "thresholds": thresholds,
            "biases": biases,
            "exponents": sum(one.exponent != two.exponent for one, two in registers)
            + sum(one.bias_exponent != two.bias_exponent for one, two in neurons),
        }
    }
    assert any(was != 0 for was, _ in written)
    assert fidelity_of(small).pruned == result.export.pruning


@pytest.mark.parametrize(
    "changes",
    [
        {"pathway_layers": ("conv1", "hidden")},
        {"pathway_layers": ("hidden",), "dendrite_layers": ("conv2", "hidden")},
        {"pathway_layers": ("conv2", "hidden"), "context": "embedding", "context_size": 4},
        {"experts": 2, "expert_gate": "output", "dendrite_segments": 0},
        {"pathway_layers": ("hidden",), "experts": 5, "dueling": False},
        {"pathway_layers": ("dense2", "hidden"), "dense": (12, 9)}
        | {"dendrite_layers": ("dense1", "hidden")},
    ],
)
def test_tasks_side_by_side_compute_what_they_computed_and_switch_by_thresholds(
    make_agent: MakeAgent, changes: dict[str, Any]
) -> None:
    agent = with_random_paths(make_agent(**changes))
    union = side_by_side(agent)
    assert why_not_deployable(union.network.config) is None
    frames = torch.from_numpy(frames_of(agent))
    for index in range(2):
        own = torch.full((len(frames),), index)
        before, after = NetworkTrace(), NetworkTrace()
        values = agent.network(frames, own, before)
        torch.testing.assert_close(union.network(frames, own, after), values, atol=1e-4, rtol=1e-4)
        for name, layer in before.layers.items():
            spikes = after.layers[name].spikes
            if spikes.shape == layer.spikes.shape:
                assert torch.equal(spikes, layer.spikes)
                continue
            # (T, batch, tasks * channels, ...): this task's, and none of the other's.
            parts = spikes.unflatten(2, (2, -1))
            assert torch.equal(parts[:, :, index], layer.spikes)
            assert layer.spikes.any()
            assert not parts[:, :, 1 - index].any()
    # The export checks that nothing but thresholds differs between the tasks.
    assert agent_to_nir(union).keys() == {task.name for task in agent.tasks}


def test_side_by_side_is_refused_where_it_cannot_help(make_agent: MakeAgent) -> None:
    with pytest.raises(BadRequestError, match="thresholds alone"):
        side_by_side(make_agent())
    heads = make_agent(heads="task")
    with pytest.raises(BadRequestError, match="--task NAME"):
        side_by_side(heads)
    assert "--side-by-side" not in str(why_not_deployable(heads.network.config))
    orthogonal = make_agent(experts=2, expert_gate="orthogonal", dueling=False)
    with pytest.raises(BadRequestError, match="--side-by-side: its experts are made orthonormal"):
        side_by_side(orthogonal)
    both = ExportRequest(source=heads, task="pong", side_by_side=True)
    with pytest.raises(BadRequestError, match="leave it or --task out"):
        check_options(both)


@pytest.mark.slow
def test_a_union_goes_to_the_chip_pruned_and_each_task_gives_the_values_of_its_own_bundle(
    pathways: Agent, tmp_path: Path, read_here: None
) -> None:
    request = ExportRequest(source=pathways, side_by_side=True, prune=True)
    union = export_to(request, tmp_path / "union").bundle.network
    assert union.population("hidden").size < 48
    links = {link.target: link for link in union.connections}
    assert links["hidden"].kind is ConnectionKind.SPARSE
    frames = frames_of(pathways, 40)
    for row, task in enumerate(pathways.tasks):
        values = pathways.network(torch.from_numpy(frames), torch.full((40,), row)).detach().numpy()
        chip = ReferenceChip(union).decide(frames, row)
        np.testing.assert_array_equal(EngineChip(union).decide(frames, row).values, chip.values)
        legal = list(task.legal_actions)
        same = chip.values[:, legal].argmax(1) == values[:, legal].argmax(1)
        assert same.mean() > 0.8


def test_the_float_network_of_a_pruned_bundle_plays_and_counts_the_neurons_that_are_left(
    pathways: Agent, tmp_path: Path, read_here: None
) -> None:
    task = pathways.tasks[0].name
    bundle = exported(tmp_path / "pruned", source=pathways, prune=True, task=task)
    frames, places = frames_of(pathways), whole_network(bundle)[1]
    assert places.removed["hidden"] > 0
    assert places.removed["conv2"] > 0
    with (
        open_backend(BackendName.TORCH, bundle, task) as left,
        open_backend(BackendName.TORCH, bundle, task, all_neurons=True) as whole,
    ):
        few, every = left.decide(frames, 0), whole.decide(frames, 0)
    np.testing.assert_array_equal(few.values, every.values)
    firing = ("conv1", "conv2", "hidden")
    for name, kept in ((name, places.kept[name]) for name in firing):
        for counts, of_all in (
            (few.activity.window, every.activity.window),
            (few.activity.drain, every.activity.drain),
        ):
            assert counts[name].shape == (len(frames), *bundle.network.shape_of(name))
            flat = counts[name].reshape(len(frames), -1)
            np.testing.assert_array_equal(flat, of_all[name].reshape(len(frames), -1)[:, kept])
    played = run_games(bundle, task, backend=BackendName.TORCH, max_decisions=3)
    assert played.decisions == 3
    scored = evaluate_bundle(bundle, EvaluationRequest(episodes=2, max_decisions=3))
    assert {row.backend for row in scored.games} == {"torch", "engine"}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"side_by_side": True}, {"task": "breakout", "palette": 3}])
def test_what_has_all_neurons_is_compared_with_those_that_are_left(
    pathways: Agent, tmp_path: Path, read_here: None, options: dict[str, Any]
) -> None:
    whole = exported(tmp_path / "whole", source=pathways, **options)
    formats = ("onnx",)
    bundle = exported(tmp_path / "pruned", source=pathways, prune=True, formats=formats, **options)
    removed = {
        one.name: whole.network.population(one.name).size - one.size
        for one in bundle.network.populations
    }
    removed = {name: count for name, count in removed.items() if count}
    assert removed["hidden"] > 0
    task, steps = bundle.network.tasks[-1].name, bundle.network.time_steps
    left = sum(one.size for one in bundle.network.populations)
    twin = diff(bundle, "twin", task, decisions=4)
    assert twin.removed == removed
    # Spikes and membranes of every neuron that is left; a palette is no part of the twin.
    assert twin.agreement.compared == 4 * steps * left * 2
    assert twin.equal or "palette" in options
    beside = diff(bundle, whole.folder, task, decisions=4)
    assert beside.equal
    assert beside.removed == diff(whole, bundle.folder, task, decisions=4).removed == removed
    torch_side = diff(bundle, "torch", task, decisions=4)
    firing = left - bundle.network.population("head").size
    assert torch_side.agreement.compared == 4 * firing
    assert torch_side.agreement.action_agreement == 1.0 or "palette" in options
    for name in (f"graph.{task}.nir", "agent.pt", "agent.step.onnx"):
        file = diff(bundle, bundle.folder / name, task, decisions=4)
        assert file.agreement.compared == 4 * steps * firing
        assert file.removed == removed
    assert diff(bundle, bundle.folder / "network.onnx", task, decisions=4).equal
    assert not diff(bundle, "engine", task, decisions=4).removed


@pytest.mark.slow
def test_a_neuron_that_differs_has_the_number_that_it_had(
    pathways: Agent, tmp_path: Path, read_here: None
) -> None:
    bundle = exported(tmp_path / "pruned", source=pathways, task="pong", prune=True)
    _, places = whole_network(bundle)
    kept = np.flatnonzero(places.kept["hidden"])
    assert not places.kept["hidden"][3]
    hidden = bundle.network.population("hidden")
    # The last neuron that is left has another threshold, so it is the only one that may differ.
    thresholds = hidden.thresholds.copy()
    thresholds[0, -1] = 0
    populations = tuple(
        replace(one, thresholds=thresholds) if one.name == "hidden" else one
        for one in bundle.network.populations
    )
    changed = replace(bundle.network, populations=populations)
    frames = frames_of(pathways, 10)
    twin = twin_of(bundle, places)
    assert compare_with_twin(twin, bundle.network, frames, 0, places=places).equal
    first = compare_with_twin(twin, changed, frames, 0, places=places).first
    assert first is not None
    assert (first.layer, first.neuron) == ("hidden", (int(kept[-1]),))
    assert kept[-1] > len(kept) - 1
    with pytest.raises(BadFileError, match="another network than the pruned one"):
        whole_network(replace(bundle, network=changed))


def test_bundles_of_different_tasks_are_not_compared(
    pathways: Agent, tmp_path: Path, read_here: None
) -> None:
    names = [task.name for task in pathways.tasks]
    pair = [exported(tmp_path / name, source=pathways, task=name) for name in names]
    words = f"{pair[1].folder}: its tasks are {names[1]}, and {pair[0].folder} is compared in"
    with pytest.raises(BadRequestError, match=words):
        diff(pair[0], str(pair[1].folder))


@pytest.mark.parametrize("prune", [False, True])
def test_tasks_side_by_side_are_compared_with_the_agent_that_they_came_from(
    pathways: Agent, tmp_path: Path, read_here: None, prune: bool
) -> None:
    save_agent(pathways, tmp_path / "agent.pt")
    bundle = exported(tmp_path / "union", source=pathways, side_by_side=True, prune=prune)
    for task in pathways.tasks:
        agent = str(tmp_path / "agent.pt")
        found = diff(bundle, agent, task.name, decisions=6)
        twin = diff(bundle, str(bundle.folder / "agent.pt"), task.name, decisions=6)
        turned = diff_files(agent, str(bundle.folder), task.name, decisions=6)
        assert found.agreement.layers == twin.agreement.layers == turned.agreement.layers
        assert found.agreement.compared > 1000
        assert found.agreement.different < 0.02 * found.agreement.compared


def test_tasks_side_by_side_are_not_compared_with_an_agent_of_another_kind(
    pathways: Agent, make_agent: MakeAgent, tmp_path: Path, read_here: None
) -> None:
    bundle = exported(tmp_path / "union", source=pathways, side_by_side=True)
    other = tmp_path / "heads.pt"
    save_agent(make_agent(heads="task", hidden=24), other)
    with pytest.raises(BadRequestError, match=r"heads\.pt and .*union: two different networks"):
        diff(bundle, str(other))


@pytest.mark.slow
def test_a_pruned_bundle_is_explained_as_the_network_before(
    pathways: Agent, tmp_path: Path, read_here: None
) -> None:
    tables = []
    for prune in (False, True):
        folder = tmp_path / str(prune)
        bundle = exported(folder, source=pathways, side_by_side=True, prune=prune)
        result = explain(bundle, decisions=6, weight_bits=[8, 3], by_layer=True)
        assert result.network_sha256 == bundle.network_hash
        tables.append((result.tables, result.differences))
    assert tables[0] == tables[1]
    assert result.removed == result.to_json()["removed"] == diff(bundle, "twin").removed


def test_tasks_with_synapses_of_their_own_are_refused_with_what_helps(
    pathways: Agent, tmp_path: Path
) -> None:
    with pytest.raises(BadNetworkError, match=r"2 tasks have synapses .*of their own.*--task NAME"):
        export_to(ExportRequest(source=pathways), tmp_path / "all")
    assert not (tmp_path / "all").exists()
    with pytest.raises(BadRequestError, match="tennis"):
        export_to(ExportRequest(source=pathways, task="tennis"), tmp_path / "one")


@pytest.mark.slow
def test_a_dense_agent_may_be_pruned_for_all_its_tasks(
    make_agent: MakeAgent, tmp_path: Path
) -> None:
    agent = make_agent(hidden=24)
    with torch.no_grad():
        # Two neurons whose membranes cannot reach their thresholds.
        agent.network.hidden.standardise.gain[[2, 7]] = 0.0
        agent.network.hidden.synapses.bias[[2, 7]] = 0.1
        agent.network.advantage.weight[:, 5] = 0.0
        agent.network.value.weight[:, 5] = 0.0
    export = export_to(ExportRequest(source=agent, prune=True), tmp_path / "pruned").export
    assert export.network is not None
    assert export.plain_network is not None
    assert export.network.population("hidden").size == 21
    frames = frames_of(agent)
    for row in range(2):
        one, other = (
            ReferenceChip(net).decide(frames, row) for net in (export.plain_network, export.network)
        )
        np.testing.assert_array_equal(one.values, other.values)


def test_a_task_without_integers_does_not_keep_another_from_the_chip(
    pathways: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (task.name for task in pathways.tasks)

    def frames(agent: Agent, task: Task, moments: int) -> np.ndarray:
        if task.name == second:
            raise BackendMissingError(f"{second}: its console is not installed")
        return frames_of(agent, moments)

    monkeypatch.setattr(quantising, "frames_of", frames)
    request = ExportRequest(source=pathways, task=first, calibrate="largest")
    export = export_to(request, tmp_path / "one").export
    assert export.fidelity().pathway["switches"] == {
        second: f"{second}: its console is not installed"
    }
    with pytest.raises(BackendMissingError, match="not installed"):
        export_to(replace(request, task=second), tmp_path / "two")


@pytest.mark.parametrize("layer", ["conv2", "hidden"])
def test_an_agent_of_which_a_whole_layer_is_silent_is_pruned(
    make_agent: MakeAgent, tmp_path: Path, layer: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent = make_agent(dendrite_segments=0)
    with torch.no_grad():
        agent.network.layer(layer).standardise.gain.zero_()
        agent.network.layer(layer).synapses.bias.fill_(-1.0)
    result = export_to(ExportRequest(source=agent, prune=True), tmp_path / "pruned")
    left, whole = result.export.network, result.export.plain_network
    assert left is not None
    assert whole is not None
    # One neuron or channel, which is off, stands for the layer.
    assert left.population(layer).shape[0] == 1
    assert "nothing that it sees reaches its answer" in caplog.text
    frames = frames_of(agent)
    answers = [chip.decide(frames, 0) for chip in (ReferenceChip(whole), EngineChip(left))]
    np.testing.assert_array_equal(answers[0].values, answers[1].values)
    assert not answers[1].activity.window[layer].any()


@pytest.mark.parametrize("prune", [False, True])
def test_a_task_whose_input_reaches_no_answer_is_told(
    pathways: Agent, prune: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In pong, the dense layer hears one channel alone, of which no synapse is left."""
    hidden, conv = (pathways.network.layer(name).paths for name in ("hidden", "conv2"))
    assert hidden is not None
    assert conv is not None
    width = hidden.shape[2] // conv.shape[1]
    hidden[0] = False
    hidden[0, :, width : 2 * width] = True
    conv[0, 1] = False
    assert deaf_tasks(pathways.network, pathways.tasks) == [0]
    said = "nothing that it sees reaches its answer"
    for task, told in (("pong", True), (pathways.tasks[1].name, False)):
        caplog.clear()
        exported(tmp_path / task, source=pathways, task=task, prune=prune)
        assert any(line.startswith(f"{task}: {said}") for line in caplog.messages) == told
        assert any(said in line for line in caplog.messages) == told


@pytest.mark.parametrize("prune", [False, True])
def test_a_task_that_hears_the_places_of_another_alone_is_told(
    make_agent: MakeAgent, prune: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """CartPole's four numbers come first in the frame, and no synapse is left of them."""
    worlds = (world_task(Environment(name)) for name in ("CartPole-v1", "Acrobot-v1"))
    tasks = tuple(
        replace(task, environment=replace(task.environment, observation=measured(task)))
        for task in placed(tuple(worlds))
        if task.environment is not None
    )
    assert [task.place for task in tasks] == [slice(0, 4), slice(4, 10)]
    made = make_agent(
        **{"observation_shape": (1, 10, 1), "convolutions": (), "actions": 3, "input": "values"},
        masked_layers=("hidden",),
    )
    agent = replace(made, tasks=tasks, protocol=None)
    mask = agent.network.hidden.mask
    assert mask is not None
    assert deaf_tasks(agent.network, tasks) == []
    mask[:, :4] = False
    assert deaf_tasks(agent.network, tasks) == [0]
    said = "nothing that it sees reaches its answer"
    for task, told in (("CartPole-v1", True), ("Acrobot-v1", False)):
        caplog.clear()
        exported(tmp_path / task, source=agent, task=task, prune=prune)
        assert any(line.startswith(f"{task}: {said}") for line in caplog.messages) == told
        assert any(said in line for line in caplog.messages) == told
    caplog.clear()
    exported(tmp_path / "all", source=agent, prune=prune)
    # Of all tasks the one that is deaf.
    (line,) = {line for line in caplog.messages if said in line}
    assert line.startswith(f"CartPole-v1: {said}")


def measured(task: Task) -> Observation:
    """What a task shows, with statistics as of training."""
    assert task.environment is not None
    seen = task.environment.found
    return seen.with_statistics((0.0,) * seen.size, (1.0,) * seen.size)


@pytest.mark.third_party
@pytest.mark.skipif(
    installed_lava() is None, reason="lava-nc is missing: run `mtspark install-lava`"
)
@pytest.mark.parametrize(
    ("options", "stock"),
    [
        ({"task": "pong"}, False),
        ({"side_by_side": True}, False),
        ({}, False),
        ({}, True),
        ({"layers": 3}, False),
    ],
)
def test_lava_gives_every_spike_and_membrane_of_the_masked_network(
    pathways: Agent,
    make_agent: MakeAgent,
    tmp_path: Path,
    read_here: None,
    options: dict[str, Any],
    stock: bool,
) -> None:
    agent = pathways
    if "layers" in options:
        # One fully connected layer after another, all with paths.
        names = ("dense1", "dense2", "hidden")
        agent = with_random_paths(make_agent(dense=(20, 16), hidden=24, pathway_layers=names))
        options = {"task": "breakout"}
    elif not options:
        # Dense, two tasks by thresholds; a channel and neurons that no input makes fire.
        agent = make_agent(hidden=24)
        with torch.no_grad():
            for layer, dead in ((agent.network.layer("conv1"), 1), (agent.network.hidden, [2, 7])):
                layer.standardise.gain[dead] = 0.0
                layer.synapses.bias[dead] = 0.1
    options = {**options, "encoder": "every-step" if stock else "changes"}
    masked = exported(tmp_path / "masked", source=agent, **options).network
    bundle = exported(tmp_path / "pruned", source=agent, prune=True, **options)
    kept = whole_network(bundle)[1].kept
    assert sum(int((~flags).sum()) for flags in kept.values()) > 0
    rows = [0] * 3 if len(masked.tasks) == 1 else [0, 0, 1, 0, 1]
    spikes = 0
    for own in [[0] * 3, [1] * 3] if stock and len(masked.tasks) > 1 else [rows]:
        frames, reference = frames_of(agent, len(own)), ReferenceChip(masked)
        with LavaBackend(bundle.network, stock=stock, task=own[0], trace=True) as lava:
            for frame, row in zip(frames, own, strict=True):
                before = reference.decide(frame[None], row, trace=True)
                after = lava.decide(frame[None], row, trace=True)
                np.testing.assert_array_equal(before.values, after.values)
                assert before.trace is not None
                assert after.trace is not None
                for name, flags in kept.items():
                    for log, small in (
                        (before.trace.spikes[name], after.trace.spikes[name]),
                        (before.trace.membranes[name], after.trace.membranes[name]),
                    ):
                        flat = log.reshape(*log.shape[:2], -1)[:, :, flags]
                        np.testing.assert_array_equal(flat, small.reshape(flat.shape))
                    spikes += int(after.trace.spikes[name].sum())
    assert spikes > 100
