"""Layers that are sparse from the start: counts, places, and runs that resume to the bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtspark.core.errors import BadRequestError
from mtspark.train.config.games import TrainConfig
from mtspark.train.config.notices import notes
from mtspark.train.config.pruning import PruningConfig
from mtspark.train.config.recipe import to_config
from mtspark.train.config.stored import config_to_json
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.networks.network import MTSparkNetwork
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.rl.run import train
from mtspark.train.runs.callbacks import RunCallback
from mtspark.train.sparsity.densities import erk_densities
from mtspark.train.sparsity.evolution import draw_synapses, exchange_synapses
from tests.support.scripted import SMALL, script_games

TINY = NetworkConfig((1, 8, 8), (ConvSize(2, 4, 2),), hidden=2, masked_layers=("hidden",))
EVOLVING = replace(
    SMALL,
    pruning=PruningConfig(
        ("conv1", "hidden"), 0.4, start=0.0, end=1.0, every_updates=1, method="evolution"
    ),
    network=replace(SMALL.network, masked_layers=("conv1", "hidden")),
)


def masks(network: MTSparkNetwork, *names: str) -> dict[str, Any]:
    return {name: network.layer(name).mask.clone() for name in names}  # type: ignore[union-attr]


def test_the_smallest_are_dropped_and_as_many_grow_at_other_places() -> None:
    network = MTSparkNetwork(TINY)
    layer = network.hidden
    assert layer.mask is not None
    draw_synapses(network, {"hidden": 10 / 36}, np.random.default_rng(1))
    before = layer.mask.clone()
    assert int(before.sum()) == 10
    # By hand: standardised weights of the synapses that are there, smallest first.
    weight = layer.synapses.weight.detach().numpy().astype(np.float64)
    scaled = (weight - weight.mean(1, keepdims=True)) / weight.std(1, keepdims=True)
    there = np.flatnonzero(before.numpy())
    smallest = there[np.argsort(np.abs(scaled).ravel()[there])[:3]]
    raw = layer.synapses.weight.detach().clone()
    found = exchange_synapses(network, ["hidden"], 0.3, np.random.default_rng(2))
    assert found == {"hidden": 3}
    after = layer.mask.numpy().ravel()
    assert int(after.sum()) == 10
    assert set(np.flatnonzero(before.numpy().ravel() & ~after)) == set(smallest)
    grown = np.flatnonzero(after & ~before.numpy().ravel())
    assert len(grown) == 3
    torch.testing.assert_close(layer.synapses.weight.detach(), raw, rtol=0, atol=0)


def test_growth_has_every_free_place_with_the_same_chance() -> None:
    generator, grown = np.random.default_rng(7), np.zeros(36)
    network = MTSparkNetwork(TINY)
    assert network.hidden.mask is not None
    for _ in range(400):
        network.hidden.mask.fill_(False)
        network.hidden.mask[0] = True
        exchange_synapses(network, ["hidden"], 0.5, generator)
        grown += network.hidden.mask.numpy().ravel()
    # 9 of the 18 free places each time: 200 +- 10.
    assert (np.abs(grown[18:] - 200) < 50).all()


def test_a_layer_with_few_free_places_exchanges_no_more_than_those() -> None:
    network = MTSparkNetwork(TINY)
    assert network.hidden.mask is not None
    assert exchange_synapses(network, ["hidden"], 0.5, np.random.default_rng(0)) == {"hidden": 0}
    network.hidden.mask[1, 3:5] = False
    assert exchange_synapses(network, ["hidden"], 0.5, np.random.default_rng(0)) == {"hidden": 2}
    assert network.hidden.mask[1, 3:5].all()
    assert int(network.hidden.mask.sum()) == 34


def test_a_sparse_start_keeps_the_variance_of_the_currents() -> None:
    config = NetworkConfig((1, 8, 8), (ConvSize(64, 2, 1),), hidden=200, masked_layers=("hidden",))
    network = MTSparkNetwork(config)
    layer = network.hidden
    spikes = torch.rand(64, layer.synapses.weight.shape[1]).round()
    dense = layer.current(spikes).detach().var(0).mean()
    draw_synapses(network, {"hidden": 0.05}, np.random.default_rng(1))
    sparse = layer.current(spikes).detach().var(0).mean()
    assert float(sparse / dense) == pytest.approx(1, abs=0.15)


def test_static_synapses_stay_and_are_shared_out_over_the_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_games(monkeypatch)
    pruning = replace(EVOLVING.pruning, method="static")
    trainer = PqnTrainer(replace(EVOLVING, pruning=pruning))
    shapes = {"conv1": (2, 1, 4, 4), "hidden": (5, 18)}
    before = masks(trainer.network, *shapes)
    wanted = erk_densities(shapes, 0.4)
    assert {name: int(mask.sum()) for name, mask in before.items()} == {
        name: round(wanted[name] * before[name].numel()) for name in shapes
    }
    weights = trainer.network.hidden.folded_weight().detach().clone()
    for _ in range(3):
        trainer.update()
    assert "exchanged" not in trainer.measurements()
    for network in (trainer.network, trainer.target):
        torch.testing.assert_close(masks(network, *shapes), before)
    assert not torch.equal(trainer.network.hidden.folded_weight(), weights)


def test_evolution_keeps_the_counts_and_moves_the_synapses_until_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_games(monkeypatch)
    config = replace(EVOLVING, total_steps=192, pruning=replace(EVOLVING.pruning, end=0.5))
    trainer = PqnTrainer(config)
    before = masks(trainer.network, "conv1", "hidden")
    trainer.update()
    exchanged = trainer.measurements()["exchanged"]
    assert exchanged == {name: int(0.3 * int(mask.sum())) for name, mask in before.items()}
    after = masks(trainer.network, "conv1", "hidden")
    for name, mask in after.items():
        assert int(mask.sum()) == int(before[name].sum())
        assert int((mask & ~before[name]).sum()) == exchanged[name]
    torch.testing.assert_close(masks(trainer.target, "conv1", "hidden"), after)
    while not trainer.finished:
        trainer.update()
    assert "exchanged" in trainer.measurements()
    end = masks(trainer.network, "conv1", "hidden")
    trainer.update()
    assert "exchanged" not in trainer.measurements()
    torch.testing.assert_close(masks(trainer.network, "conv1", "hidden"), end)


def test_a_run_resumes_with_the_random_numbers_of_its_synapses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    config = replace(EVOLVING, total_steps=96, checkpoint_every_steps=24)
    train(config, tmp_path / "whole")

    class StopThere(RunCallback):
        def on_checkpoint(self, run: Any) -> None:
            if run.reached >= 48:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        train(config, tmp_path / "halves", callbacks=(StopThere(),))
    train(config, tmp_path / "halves")
    states = [
        torch.load(tmp_path / name / "resume.pt", weights_only=True)["state"]
        for name in ("whole", "halves")
    ]
    assert states[0]["cuts"] == states[1]["cuts"]
    torch.testing.assert_close(states[0]["network"], states[1]["network"], rtol=0, atol=0)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "halves")]
    assert [json.loads(line).get("exchanged") for line in logs[0].splitlines()] == [
        json.loads(line).get("exchanged") for line in logs[1].splitlines()
    ]


def test_files_of_runs_by_magnitude_do_not_name_the_method() -> None:
    content = config_to_json(SMALL)
    assert set(content["pruning"]) == {"layers", "density", "start", "end", "every_updates"}
    assert config_to_json(EVOLVING)["pruning"]["method"] == "evolution"


def test_layers_of_environments_are_masked_like_those_of_games() -> None:
    config = to_config({"games": "CartPole-v1", "pruning": {"layers": "all"}}, "recipe")
    assert isinstance(config, TrainConfig)
    assert config.pruning.layers == config.network.masked_layers == ("hidden",)


def test_all_names_every_spiking_layer() -> None:
    for network, names in (
        ({}, ("conv1", "conv2", "conv3", "hidden")),
        ({"convolutions": [{"channels": 4, "kernel": 8, "stride": 4}]}, ("conv1", "hidden")),
        ({"convolutions": [], "dense": [8, 6]}, ("dense1", "dense2", "hidden")),
    ):
        config = to_config({"pruning": {"layers": "all"}, "network": network}, "recipe")
        assert isinstance(config, TrainConfig)
        assert config.pruning.layers == config.network.masked_layers == names


@pytest.mark.parametrize(
    ("pruning", "words"),
    [
        ({"method": "set"}, "pruning.method"),
        ({"drop_fraction": 0.0}, "drop_fraction is 0.0"),
        ({"drop_fraction": 1.5}, "drop_fraction is 1.5"),
    ],
)
def test_a_recipe_that_cannot_be(pruning: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        to_config({"pruning": {"layers": "hidden", **pruning}}, "recipe")
    with pytest.raises(ValueError, match=words.removeprefix("pruning.")):
        PruningConfig(("hidden",), **pruning)


@pytest.mark.parametrize(
    ("layers", "shown"),
    [("[hidden,conv1]", "'[hidden,conv1]'"), ("", "''"), (["hidden", "conv9"], "'conv9'")],
)
def test_layers_that_the_network_has_not_are_named_with_those_that_it_has(
    layers: Any, shown: str
) -> None:
    for method in ("magnitude", "pathways"):
        with pytest.raises(BadRequestError) as error:
            to_config({"pruning": {"layers": layers, "method": method}}, "recipe")
        assert f"{error.value}" == (
            f"recipe: pruning.layers has {shown}, must be of conv1, conv2, conv3, hidden, or all; "
            "several are written ['conv1', 'conv2']"
        )
    with pytest.raises(BadRequestError, match=r"has 'a', must be of hidden, or all$"):
        to_config({"pruning": {"layers": "a"}, "network": {"convolutions": []}}, "recipe")


@pytest.mark.parametrize(
    ("pruning", "words"),
    [
        ({"layers": "all", "drop_fraction": 0.5}, "pruning.drop_fraction: no effect, the method"),
        ({"layers": "all", "method": "static", "end": 0.9}, "pruning.end: no effect, static"),
        ({"method": "static"}, "pruning.method: no effect, pruning.layers names none"),
        (
            {"layers": "all", "method": "evolution", "density": 1.0, "start": 0.1},
            "pruning.start: no effect, pruning.density is 1",
        ),
    ],
)
def test_fields_without_effect(pruning: dict[str, Any], words: str) -> None:
    config = to_config({"pruning": pruning}, "recipe")
    assert isinstance(config, TrainConfig)
    assert any(line.startswith(words) for line in notes(config))


def test_settings_of_a_network_that_nothing_uses_are_told() -> None:
    for network, words in (
        ({"masked_layers": ["hidden"]}, "network.masked_layers: no effect, pruning.layers names"),
        ({"pathway_layers": ["hidden"]}, "network.pathway_layers: no effect, pruning.layers"),
        ({"expert_gate": "output"}, "network.expert_gate: no effect, network.experts is 0"),
    ):
        config = to_config({"network": network}, "recipe")
        assert isinstance(config, TrainConfig)
        assert any(line.startswith(words) for line in notes(config))
        # An agent that has cut some goes on without them.
        began = [line for line in notes(replace(config, start_from="agent.pt")) if words in line]
        assert bool(began) == ("expert_gate" in network)
