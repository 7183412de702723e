"""Pathways: scores, paths, shared gradients and overlap by hand, on nets of three tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.train.checkpoint.agent import save_agent
from mtspark.train.config.games import TrainConfig
from mtspark.train.config.notices import notes
from mtspark.train.config.pruning import PruningConfig, PruningMethod
from mtspark.train.config.recipe import to_config
from mtspark.train.config.stored import config_to_json
from mtspark.train.networks.config import (
    ConvSize,
    NetworkConfig,
    PathRanking,
    check_network_config,
)
from mtspark.train.networks.network import MTSparkNetwork, NetworkTrace
from mtspark.train.networks.paths import combined_gradient, weights_of_tasks
from mtspark.train.rl import collect, pathways
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.rl.run import train
from mtspark.train.runs.callbacks import RunCallback
from mtspark.train.sparsity.magnitude import prune
from mtspark.train.sparsity.pathways import (
    choose_path,
    follow_path,
    mean_scores,
    path_overlap,
    path_scores,
    raise_gains,
)
from tests.support.scripted import SMALL, script_games

# Three tasks, five weights; the last one is nobody's.
PATHS = torch.tensor([[1, 1, 0, 1, 0], [1, 0, 1, 1, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
SLOPES = torch.tensor(
    [[3.0, 5.0, 9.0, 1.0, 9.0], [-1.0, 9.0, 2.0, -3.0, 9.0], [4.0, 9.0, 9.0, 9.0, 9.0]]
)
ALL = torch.tensor([0, 1, 2])
THREE = NetworkConfig(
    (1, 8, 8),
    (ConvSize(3, 4, 2),),
    hidden=5,
    actions=3,
    tasks=3,
    pathway_layers=("conv1", "hidden"),
)


@pytest.mark.parametrize(
    ("rule", "by_hand"),
    [
        # By hand: 3 - 1 + 4 = 6 over three users; 5 and 2 over one; 1 - 3 = -2 over two.
        ("participants", [2.0, 5.0, 2.0, -1.0, 0.0]),
        ("sum", [6.0, 5.0, 2.0, -2.0, 0.0]),
        ("mean", [2.0, 5 / 3, 2 / 3, -2 / 3, 0.0]),
        ("euclidean", [26**0.5, 5.0, 2.0, -(10**0.5), 0.0]),
    ],
)
def test_shared_gradients_by_hand(rule: str, by_hand: list[float]) -> None:
    found = combined_gradient(SLOPES, PATHS, ALL, rule)
    torch.testing.assert_close(found, torch.tensor(by_hand))


def test_a_task_that_does_not_play_counts_in_the_divisor() -> None:
    # Tasks 1 and 2 play; the first weight is used by all three, the fourth by tasks 0 and 1.
    found = combined_gradient(SLOPES[1:], PATHS, ALL[1:], "participants")
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 2.0, -1.5, 0.0]))


def test_a_drawn_gradient_is_that_of_one_user_with_equal_chances() -> None:
    torch.manual_seed(0)
    drawn = torch.stack([combined_gradient(SLOPES, PATHS, ALL, "stochastic") for _ in range(3000)])
    assert set(drawn[:, 0].tolist()) == {3.0, -1.0, 4.0}
    assert set(drawn[:, 3].tolist()) == {1.0, -3.0}
    assert (drawn[:, 4] == 0).all()
    torch.testing.assert_close(drawn.mean(0)[[0, 3]], torch.tensor([2.0, -1.0]), atol=0.15, rtol=0)


def test_backward_of_the_masked_weights_combines_by_the_rule() -> None:
    weight = torch.arange(1.0, 6.0, requires_grad=True)
    weights = weights_of_tasks(weight, PATHS, ALL, "participants")
    torch.testing.assert_close(weights, weight.detach() * PATHS)
    (weights * SLOPES).sum().backward()
    torch.testing.assert_close(weight.grad, torch.tensor([2.0, 5.0, 2.0, -1.0, 0.0]))


def path(*kept: int, size: int) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[list(kept)] = True
    return mask


def random_paths(network: MTSparkNetwork, share: float = 0.5, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name in network.config.pathway_layers:
        paths = network.layer(name).paths
        assert paths is not None
        paths.copy_(torch.rand(paths.shape, generator=generator) < share)


def test_each_sample_sees_the_synapses_of_its_task() -> None:
    network = MTSparkNetwork(THREE)
    random_paths(network)
    frames = torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)
    task = torch.tensor([2, 0, 1, 0, 2, 2, 1])
    trace = NetworkTrace()
    values = network(frames, task, trace)
    alone = MTSparkNetwork(replace(THREE, pathway_layers=(), masked_layers=("conv1", "hidden")))
    for index in range(3):
        state = dict(network.state_dict())
        for name in ("convolutions.0", "hidden"):
            state[f"{name}.mask"] = state.pop(f"{name}.paths")[index]
        alone.load_state_dict(state)
        own = task == index
        beside = NetworkTrace()
        torch.testing.assert_close(values[own], alone(frames[own], task[own], beside))
        for name, layer in beside.layers.items():
            torch.testing.assert_close(trace.layers[name].spikes[:, own], layer.spikes)
            torch.testing.assert_close(trace.layers[name].current[:, own], layer.current)


def test_a_layers_gradient_is_the_published_mean_of_its_tasks() -> None:
    network = MTSparkNetwork(replace(THREE, neuron="relu"))
    random_paths(network)
    frames = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    task = torch.tensor([0, 0, 1, 1, 2, 2])
    layer = network.hidden
    assert layer.paths is not None
    with network.weights_kept():
        # The acting weights as leaves: what arrives there is what the rule has combined.
        layer.kept = layer.shared_weight().clone().requires_grad_()
        network(frames, task).square().sum().backward()
        together = layer.kept.grad
        alone = []
        for index in range(3):
            layer.kept = layer.kept.detach().requires_grad_()
            network(frames[task == index], task[task == index]).square().sum().backward()
            # One user at a time, its gradient is divided by how many there are.
            alone.append(layer.kept.grad)
    assert together is not None
    torch.testing.assert_close(together, torch.stack(alone).sum(0))
    assert (together[~layer.paths.any(0)] == 0).all()


def test_scores_are_weight_times_gradient_over_their_sum() -> None:
    """By finite differences of the loss in every mask, independent of autograd."""
    network = MTSparkNetwork(
        replace(
            THREE,
            neuron="relu",
            convolutions=(),
            observation_shape=(1, 2, 3),
            pathway_layers=("hidden",),
        )
    )
    random_paths(network)
    frames = torch.randint(0, 256, (4, 1, 2, 3), dtype=torch.uint8)
    task = torch.tensor([1, 1, 1, 1])
    layer = network.hidden

    def loss() -> torch.Tensor:
        return network(frames, task).square().mean()

    base = layer.shared_weight().detach() * 0.5
    slopes = torch.zeros_like(base)
    for place in range(base.numel()):
        ends = []
        for step in (1e-2, -1e-2):
            mask = torch.ones_like(base).flatten()
            mask[place] += step
            layer.trial = base * mask.view_as(base)
            ends.append(float(loss()))
        slopes.view(-1)[place] = (ends[0] - ends[1]) / 2e-2
    layer.trial = None
    scores = path_scores(network, loss, {"hidden": 0.5})
    wanted = slopes.abs() / slopes.abs().sum()
    torch.testing.assert_close(scores["hidden"], wanted, atol=2e-3, rtol=2e-2)
    assert float(scores["hidden"].sum()) == pytest.approx(1)
    assert layer.trial is None
    assert all(parameter.grad is None for parameter in network.parameters())


def test_scores_are_normalised_over_all_layers_together() -> None:
    network = MTSparkNetwork(THREE)
    frames = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    task = torch.zeros(4, dtype=torch.long)
    scores = path_scores(
        network, lambda: network(frames, task).square().sum(), {"conv1": 1.0, "hidden": 1.0}
    )
    assert sum(float(part.sum()) for part in scores.values()) == pytest.approx(1)
    nothing = path_scores(network, lambda: network.advantage.bias.sum(), {"conv1": 1.0})
    assert (nothing["conv1"] == 0).all()


def test_the_mean_of_looks_decides_not_the_last_one() -> None:
    looks = [
        {"hidden": torch.tensor([0.5, 0.3, 0.2, 0.0])},
        {"hidden": torch.tensor([0.1, 0.2, 0.3, 0.4])},
    ]
    mean = mean_scores(looks)
    torch.testing.assert_close(mean["hidden"], torch.tensor([0.3, 0.25, 0.25, 0.2]))
    chosen = choose_path(mean, 0.25)
    assert chosen is not None
    assert chosen["hidden"].tolist() == [True, False, False, False]


def test_the_highest_scores_of_all_layers_are_kept() -> None:
    scores = {
        "conv1": torch.tensor([[0.9, 0.01], [0.8, 0.02]]),
        "hidden": torch.tensor([0.7, 0.6, 0.03, 0.5, 0.04, 0.05]),
    }
    chosen = choose_path(scores, 0.5)
    assert chosen is not None
    # Five of ten: 0.9, 0.8, 0.7, 0.6 and 0.5.
    assert chosen["conv1"].tolist() == [[True, False], [True, False]]
    assert chosen["hidden"].tolist() == [True, True, False, True, False, False]


def test_no_layer_collapses() -> None:
    scores = {"conv1": torch.full((50,), 1e-9), "hidden": torch.linspace(1, 2, 150)}
    chosen = choose_path(scores, 0.2)
    assert chosen is not None
    # 40 in all; a tenth of the density of conv1 is one synapse, its first.
    assert chosen["conv1"].nonzero().flatten().tolist() == [0]
    assert chosen["hidden"].nonzero().flatten().tolist() == list(range(111, 150))


def test_each_layer_keeps_its_best_where_layers_are_ranked_apart() -> None:
    scores = {
        "conv1": torch.tensor([[9.0, 8.0], [7.0, 6.0]]),
        "hidden": torch.tensor([0.1, 0.4, 0.2, 0.4, 0.3, 0.0]),
    }
    chosen = choose_path(scores, 0.5, "layer")
    assert chosen is not None
    assert chosen["conv1"].tolist() == [[True, True], [False, False]]
    assert chosen["hidden"].tolist() == [False, True, False, True, True, False]
    together = choose_path(scores, 0.5, "network")
    assert together is not None
    assert together["conv1"].all()
    # A layer keeps a synapse, however low the density.
    few = choose_path(scores, 0.01, "layer")
    assert few is not None
    assert [int(few[name].sum()) for name in scores] == [1, 1]
    nothing = {**scores, "hidden": torch.zeros(6)}
    assert choose_path(nothing, 0.5, "layer") is None


def test_a_path_narrows_within_itself_and_loses_what_has_no_score_first() -> None:
    within = {"hidden": torch.tensor([True, True, False, True, True])}
    scores = {"hidden": torch.tensor([0.0, 0.2, 9.0, 0.3, 0.0])}
    for density, kept in ((0.8, [0, 1, 3, 4]), (0.6, [0, 1, 3]), (0.4, [1, 3]), (0.2, [3])):
        for ranking in ("network", "layer"):
            chosen = choose_path(scores, density, ranking, within)
            assert chosen is not None
            assert chosen["hidden"].nonzero().flatten().tolist() == kept
    assert choose_path(scores, 1.0, "network", within) is None
    # A layer that has fewer than its share takes none from outside.
    within = {"conv1": torch.ones(10, dtype=torch.bool), "hidden": path(3, 7, size=20)}
    scores = {"conv1": torch.linspace(0.1, 1, 10), "hidden": torch.linspace(2, 3, 20)}
    apart = choose_path(scores, 0.3, "layer", within)
    together = choose_path(scores, 0.3, "network", within)
    assert apart is not None
    assert together is not None
    for chosen, of_conv1 in ((apart, 3), (together, 7)):
        assert chosen["hidden"].nonzero().flatten().tolist() == [3, 7]
        assert int(chosen["conv1"].sum()) == of_conv1
    few = choose_path(scores, 0.4, "network", {**within, "conv1": path(1, size=10)})
    assert few is None


@pytest.mark.parametrize("ranking", ["network", "layer"])
def test_synapses_without_a_score_are_in_no_path(ranking: PathRanking) -> None:
    few = {
        "conv1": torch.tensor([0.1, 0.2, 0.3, 0.4]),
        "hidden": torch.tensor([0.5, 0.6, *[0.0] * 6]),
    }
    chosen = choose_path(few, 0.75, ranking)
    assert chosen is not None
    # Nine are asked for of both together, or three and six, and two of hidden have a score.
    conv1 = [True] * 4 if ranking == "network" else [False, True, True, True]
    assert chosen["conv1"].tolist() == conv1
    assert chosen["hidden"].tolist() == [True, True, *[False] * 6]
    # Without any, the layer would be cut off: the old path stays.
    assert choose_path({**few, "hidden": torch.zeros(8)}, 0.25, ranking) is None


def test_overlap_by_hand() -> None:
    network = MTSparkNetwork(replace(THREE, pathway_layers=("hidden",)))
    size = network.hidden.synapses.weight.numel()
    shape = network.hidden.synapses.weight.shape
    for task, kept in enumerate([(0, 1, 2, 3), (2, 3), (3, 4, 5)]):
        follow_path(network, task, {"hidden": path(*kept, size=size).view(shape)})
    found = path_overlap(network, ("a", "b", "c"))
    assert found == pytest.approx({"union": 6 / size, "a/b": 1.0, "a/c": 1 / 3, "b/c": 1 / 2})


def test_first_paths_keep_the_variance_of_the_currents() -> None:
    config = NetworkConfig(
        (1, 8, 8), (ConvSize(64, 2, 1),), hidden=200, tasks=2, pathway_layers=("hidden",)
    )
    network = MTSparkNetwork(config)
    layer = network.hidden
    spikes = torch.rand(64, layer.synapses.weight.shape[1]).round()
    dense = layer.current(spikes).detach().var(0).mean()
    random_paths(network, 0.05)
    raise_gains(network, ["hidden"])
    weight = layer.folded_weight(1)
    sparse = (spikes @ weight.T).detach().var(0).mean()
    assert float(sparse / dense) == pytest.approx(1, abs=0.15)


WALKING = replace(
    SMALL,
    pruning=PruningConfig(
        ("conv1", "hidden"), 0.2, start=0.0, end=0.9, every_updates=1, method="pathways"
    ),
    network=replace(SMALL.network, pathway_layers=("conv1", "hidden")),
)


def test_first_paths_wait_until_every_task_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)
    trainer = PqnTrainer(WALKING)
    raised: list[str] = []
    monkeypatch.setattr(pathways, "raise_gains", lambda *_: raised.append("gains"))
    answers = iter([True, False])

    def choose(*given: Any) -> Any:
        return choose_path(*given) if next(answers, True) else None

    monkeypatch.setattr(pathways, "choose_path", choose)
    trainer.update()
    # The second task's scores were too few: both play on with all synapses and their gains.
    assert paths_of(trainer.network).all()
    assert not raised
    trainer.update()
    assert (
        paths_of(trainer.network).sum(1).tolist()
        == [round(0.2 * paths_of(trainer.network).shape[1])] * 2
    )
    assert len(raised) == 2


def test_an_agent_that_has_learned_keeps_its_gains_and_gets_its_synapses_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    dense = replace(SMALL, network=replace(SMALL.network, masked_layers=("hidden",)))
    first = PqnTrainer(dense)
    prune(first.network, ["hidden"], 0.5)
    save_agent(first.agent(), tmp_path / "half.pt")
    with pytest.raises(BadRequestError, match=r"cut synapses in hidden; .* pruning.reopen = true"):
        PqnTrainer(replace(WALKING, start_from=str(tmp_path / "half.pt")))
    reopened = replace(WALKING.pruning, reopen=True)
    config = replace(WALKING, start_from=str(tmp_path / "half.pt"), pruning=reopened)
    trainer = PqnTrainer(config)
    assert trainer.network.hidden.mask is None
    assert paths_of(trainer.network).all()
    acting = first.network.hidden.folded_weight().detach()
    centred = acting - acting.mean(1, keepdim=True)
    torch.testing.assert_close(trainer.network.hidden.shared_weight().detach(), centred)
    raised: list[str] = []
    monkeypatch.setattr(pathways, "raise_gains", lambda *_: raised.append("gains"))
    trainer.update()
    assert not paths_of(trainer.network).all()
    assert not raised
    # Its own paths are where the next run goes on.
    save_agent(trainer.agent(), tmp_path / "paths.pt")
    later = PqnTrainer(replace(WALKING, start_from=str(tmp_path / "paths.pt")))
    assert torch.equal(paths_of(later.network), paths_of(trainer.network))
    scales = [later.pathways._scale(later.network, "hidden", 0, alone=False)]
    later.update()
    assert not raised
    # While it is scored, currents vary as they do with its path: by hand, of two norms.
    weight = trainer.network.hidden.shared_weight().detach()
    paths = trainer.network.hidden.paths
    assert paths is not None
    assert scales == pytest.approx([float((weight * paths[0]).norm() / weight.norm())])
    with pytest.raises(BadRequestError, match=r"pruning.reopen: .* has cut nothing for all tasks"):
        PqnTrainer(replace(WALKING, start_from=str(tmp_path / "paths.pt"), pruning=config.pruning))


def test_paths_are_not_cut_for_all_tasks_alike(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    save_agent(PqnTrainer(WALKING).agent(), tmp_path / "paths.pt")
    masked = replace(
        WALKING,
        pruning=PruningConfig(("hidden",), 0.1),
        network=replace(SMALL.network, masked_layers=("hidden",)),
        start_from=str(tmp_path / "paths.pt"),
    )
    with pytest.raises(BadRequestError, match=r"path for each task in hidden, and magnitude cuts"):
        PqnTrainer(masked)
    # As it says.
    narrowed = replace(WALKING.pruning, gradual=True)
    PqnTrainer(replace(WALKING, pruning=narrowed, start_from=str(tmp_path / "paths.pt")))


def test_layers_that_are_not_reopened_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    masked = replace(SMALL.network, masked_layers=("conv1", "hidden"))
    first = PqnTrainer(replace(SMALL, network=masked))
    prune(first.network, ["conv1", "hidden"], 0.5)
    save_agent(first.agent(), tmp_path / "half.pt")
    asked = replace(
        SMALL,
        network=replace(SMALL.network, masked_layers=("hidden",)),
        pruning=PruningConfig(("hidden",), 0.2, reopen=True),
        start_from=str(tmp_path / "half.pt"),
    )
    with pytest.raises(BadRequestError, match=r"in conv1; .* name them in pruning.layers, too"):
        PqnTrainer(asked)
    both = replace(asked.pruning, layers=("conv1", "hidden"))
    PqnTrainer(replace(asked, network=masked, pruning=both))
    PqnTrainer(replace(asked, network=masked))


def test_a_density_that_cannot_change_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    masked = replace(SMALL.network, masked_layers=("hidden",))
    first = PqnTrainer(replace(SMALL, network=masked))
    prune(first.network, ["hidden"], 0.5)
    save_agent(first.agent(), tmp_path / "half.pt")
    for method in ("static", "evolution"):
        pruning = PruningConfig(("hidden",), density=0.1, method=method)
        asked = replace(
            SMALL, network=masked, pruning=pruning, start_from=str(tmp_path / "half.pt")
        )
        with pytest.raises(BadRequestError, match=rf"density is 0.1: .* has 0.5 .* {method} keeps"):
            PqnTrainer(asked)
        PqnTrainer(replace(asked, pruning=replace(pruning, density=0.5)))


@pytest.mark.parametrize("method", ["static", "evolution"])
def test_a_layer_that_an_agent_has_no_mask_of_counts_as_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: PruningMethod
) -> None:
    script_games(monkeypatch)
    first = PqnTrainer(replace(SMALL, network=replace(SMALL.network, masked_layers=("conv1",))))
    prune(first.network, ["conv1"], 0.5)
    save_agent(first.agent(), tmp_path / "half.pt")
    both = replace(SMALL.network, masked_layers=("conv1", "hidden"))
    asked = replace(
        SMALL,
        network=both,
        pruning=PruningConfig(both.masked_layers, density=0.5, method=method),
        start_from=str(tmp_path / "half.pt"),
    )
    # Of 32 and 90 synapses, 16 are cut.
    with pytest.raises(BadRequestError, match=r"density is 0.5: .* has 0.869 of these synapses"):
        PqnTrainer(asked)


@pytest.mark.parametrize("method", ["static", "evolution"])
def test_the_synapses_of_an_agent_that_has_cut_one_layer_of_two_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: PruningMethod
) -> None:
    script_games(monkeypatch)
    masked = replace(SMALL.network, masked_layers=("conv1", "hidden"))
    first = PqnTrainer(replace(SMALL, network=masked))
    prune(first.network, ["hidden"], 0.5)
    save_agent(first.agent(), tmp_path / "half.pt")
    masks = [first.network.layer(name).mask for name in ("conv1", "hidden")]
    kept = torch.cat([mask.flatten() for mask in masks if mask is not None])
    pruning = PruningConfig(masked.masked_layers, float(kept.float().mean()), method=method)
    begun = PqnTrainer(
        replace(SMALL, network=masked, pruning=pruning, start_from=str(tmp_path / "half.pt"))
    )
    # Drawn at that density, conv1 would have fewer, and both together less than was asked for.
    for name, mask in zip(("conv1", "hidden"), masks, strict=True):
        found = begun.network.layer(name).mask
        assert found is not None
        assert mask is not None
        assert torch.equal(found, mask)


def paths_of(network: MTSparkNetwork) -> torch.Tensor:
    parts = [network.layer(name).paths for name in network.config.pathway_layers]
    return torch.cat([part.flatten(1) for part in parts if part is not None], 1)


def test_paths_are_chosen_where_an_episode_ended_and_stay_once_frozen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_games(monkeypatch)
    monkeypatch.setattr(collect, "SEED_LASTS", 0)
    trainer = PqnTrainer(replace(WALKING, total_steps=24 * 10))
    assert paths_of(trainer.network).all()
    gain = trainer.network.hidden.standardise.gain.detach().clone()
    trainer.update()
    first = paths_of(trainer.network).clone()
    counts = first.sum(1).tolist()
    assert counts == [round(0.2 * first.shape[1])] * 2
    assert torch.equal(paths_of(trainer.target), first)
    assert (trainer.network.hidden.standardise.gain / gain > 1.1).all()
    measured = trainer.measurements()
    assert measured["path_frozen"] == {"pong": 0, "breakout": 0}
    assert 0 < (measured["path_overlap"]["union"] or 0) <= 0.41
    # The scripted games end once only: no path is chosen again.
    for _ in range(4):
        trainer.update()
    assert torch.equal(paths_of(trainer.network), first)
    # Now one ends again in every update.
    for step in range(5):
        trainer.games[0].episodes += 1
        trainer.update()
        later = paths_of(trainer.network)
        assert torch.equal(later[1], first[1])
        if step == 1:
            assert not torch.equal(later[0], first[0])
    assert trainer.measurements()["path_frozen"] == {"pong": 1, "breakout": 1}
    trainer.games[0].episodes += 1
    trainer.update()
    assert torch.equal(paths_of(trainer.network), later)


def test_gradual_paths_narrow_by_the_cubic_schedule_and_never_widen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_games(monkeypatch)
    pruning = replace(WALKING.pruning, gradual=True, end=0.5, ranking="layer", score_window=2)
    trainer = PqnTrainer(replace(WALKING, total_steps=240, pruning=pruning))
    gain = trainer.network.hidden.standardise.gain.detach().clone()
    before, sizes = paths_of(trainer.network).clone(), trainer.network.layer
    for update in range(1, 8):
        trainer.update()
        now = paths_of(trainer.network)
        assert not (now & ~before).any()
        # By hand: 24 of 240 decisions an update, all synapses at 0, a fifth from a half on.
        wanted = 0.2 + 0.8 * (1 - min(1.0, update / 10 / 0.5)) ** 3
        for name in ("conv1", "hidden"):
            paths = sizes(name).paths
            assert paths is not None
            for own in paths:
                assert int(own.sum()) == round(wanted * own.numel())
        before = now.clone()
    assert trainer.measurements()["path_frozen"] == {"pong": 1, "breakout": 1}
    assert torch.equal(paths_of(trainer.target), before)
    # No jump of the gains: they are what was learned.
    assert (trainer.network.hidden.standardise.gain / gain < 1.1).all()


@pytest.mark.parametrize(
    ("every", "end", "updates"), [(7, 0.5, 5), (7, 1.0, 10), (1000, 0.5, 5), (4, 0.85, 9)]
)
def test_gradual_paths_have_their_density_after_the_first_update_behind_their_end(
    monkeypatch: pytest.MonkeyPatch, every: int, end: float, updates: int
) -> None:
    script_games(monkeypatch)
    pruning = replace(WALKING.pruning, gradual=True, end=end, ranking="layer", every_updates=every)
    trainer = PqnTrainer(replace(WALKING, total_steps=240, pruning=pruning))
    for _ in range(updates - 1):
        trainer.update()
    frozen = trainer.measurements()["path_frozen"]
    assert frozen == {"pong": 0, "breakout": 0}
    # 24 of 240 decisions an update.
    trainer.update()
    for name in ("conv1", "hidden"):
        paths = trainer.network.layer(name).paths
        assert paths is not None
        assert [int(own.sum()) for own in paths] == [round(0.2 * paths[0].numel())] * 2
        assert torch.equal(paths, trainer.target.layer(name).paths)


def test_paths_of_another_density_than_was_asked_for_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    config = replace(WALKING, total_steps=24)
    assert not [note for note in train(config, tmp_path / "as").notes if "the path of" in note]
    # 32 synapses of a 4x4 kernel twice, and 2 * 3 * 3 * 5.
    monkeypatch.setattr(pathways, "choose_path", lambda *_: None)
    said = [note for note in train(config, tmp_path / "all").notes if "the path of" in note]
    assert said == [
        f"the path of {name} has 122 of 122 synapses, 1 of them where pruning.density is 0.2"
        for name in ("pong", "breakout")
    ]

    def one_of_each(scores: Any, *_: Any) -> Any:
        return {name: score >= score.max() for name, score in scores.items()}

    monkeypatch.setattr(pathways, "choose_path", one_of_each)
    said = [note for note in train(config, tmp_path / "two").notes if "the path of" in note]
    assert said[1] == (
        "the path of breakout has 2 of 122 synapses, 0.0164 of them where pruning.density is 0.2"
    )


def test_a_task_without_a_chain_of_synapses_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each layer keeps a synapse, of a channel that the next one does not hear."""
    script_games(monkeypatch)

    def apart(scores: Any, *_: Any) -> Any:
        masks = {name: torch.zeros_like(score, dtype=torch.bool) for name, score in scores.items()}
        masks["conv1"][0] = True
        masks["hidden"][0, -1] = True
        return masks

    config = replace(WALKING, total_steps=24)
    assert not [n for n in train(config, tmp_path / "as").notes if "connect no input" in n]
    monkeypatch.setattr(pathways, "choose_path", apart)
    said = [n for n in train(config, tmp_path / "apart").notes if "connect no input" in n]
    assert [line.partition(":")[0] for line in said] == ["pong", "breakout"]


def test_gradual_scores_are_those_of_the_synapses_that_are_left() -> None:
    torch.manual_seed(0)
    network = MTSparkNetwork(THREE)
    for name in THREE.pathway_layers:
        network.layer(name).standardise.gain.data.mul_(4)
    masks = {
        name: torch.rand(network.layer(name).synapses.weight.shape) < 0.5
        for name in THREE.pathway_layers
    }
    frames = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    task = torch.zeros(6, dtype=torch.long)

    def loss() -> torch.Tensor:
        return network(frames, task).square().sum()

    found = path_scores(network, loss, {name: mask.float() for name, mask in masks.items()})
    for name, mask in masks.items():
        assert not found[name][~mask].any()
    # The oracle: the gradient of a mask on a network that has lost the others for good.
    follow_path(network, 0, masks)
    weights = {name: network.layer(name).shared_weight().detach() for name in masks}
    ones = {name: torch.ones_like(weight, requires_grad=True) for name, weight in weights.items()}
    for name, one in ones.items():
        network.layer(name).trial = weights[name] * masks[name] * one
    slopes = torch.autograd.grad(loss(), list(ones.values()))
    total = sum(float(slope.abs().sum()) for slope in slopes)
    assert total > 0
    for name, slope in zip(ones, slopes, strict=True):
        torch.testing.assert_close(found[name], slope.abs() / total)


def test_a_task_that_reaches_its_return_keeps_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)
    config = replace(
        WALKING, pruning=replace(WALKING.pruning, freeze_returns=(-100.0, 1e6), end=1.0)
    )
    trainer = PqnTrainer(config)
    for _ in range(3):
        for game in trainer.games.of_tasks:
            game.episodes += 1
        trainer.update()
    assert trainer.measurements()["path_frozen"] == {"pong": 1, "breakout": 0}


@pytest.mark.parametrize(
    ("asked", "solved", "frozen"),
    [
        ({"freeze_success": 0.5}, ([True, False], [True, False, False]), [1, 0]),
        ({"freeze_success": 0.5}, ([], [True]), [0, 1]),
        ({"freeze_success": 0.5, "freeze_returns": (-100.0, 1e6)}, ([True], [True]), [1, 0]),
        ({"freeze_success": 0.5, "freeze_returns": (-100.0, 1e6)}, ([False], [True]), [0, 0]),
    ],
)
def test_a_task_that_is_solved_often_keeps_its_path(
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    solved: tuple[list[bool], list[bool]],
    frozen: list[int],
) -> None:
    """Of a task that says nothing, nothing is known; where returns are asked for, too, both."""
    script_games(monkeypatch)
    trainer = PqnTrainer(replace(WALKING, pruning=replace(WALKING.pruning, end=1.0, **asked)))
    for _ in range(3):
        for game, own in zip(trainer.games.of_tasks, solved, strict=True):
            game.episodes += 1
            game.successes.clear()
            game.successes.extend(own)
        trainer.update()
    assert list(trainer.measurements()["path_frozen"].values()) == frozen


def test_paths_of_a_resumed_run_are_those_of_one_that_never_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    config = replace(
        WALKING,
        total_steps=24 * 6,
        checkpoint_every_steps=24,
        pruning=replace(WALKING.pruning, overlap="stochastic"),
    )

    class Stop(RunCallback):
        def on_checkpoint(self, run: Any) -> None:
            if run.reached >= 72:
                raise InterruptedError

    train(config, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(config, tmp_path / "parts", callbacks=(Stop(),))
    train(config, tmp_path / "parts")
    whole, parts = (
        torch.load(tmp_path / name / "resume.pt", weights_only=True)["state"]
        for name in ("whole", "parts")
    )
    assert whole["network"]["hidden.paths"].float().mean() < 0.5
    torch.testing.assert_close(whole["network"], parts["network"], rtol=0, atol=0)
    assert whole["pathways"]["episodes"] == parts["pathways"]["episodes"]


def test_what_cannot_be_is_refused_in_one_line() -> None:
    recipe: dict[str, Any] = {
        "games": ["pong", "breakout"],
        "pruning": {"layers": ["all"], "method": "pathways"},
        "network": {},
    }
    config = to_config(recipe, "recipe")
    assert isinstance(config, TrainConfig)
    assert config.network.pathway_layers == ("conv1", "conv2", "conv3", "hidden")
    assert config.network.masked_layers == ()
    assert any("--task" in note for note in notes(config))
    for changes, text in (
        ({"schedule": "sequential"}, "interleaved"),
        ({"quantisation_aware": True}, "quantisation_aware"),
        ({"rollout_steps": 1, "games_per_task": 64}, "rollout_steps is 1"),
    ):
        with pytest.raises(BadRequestError, match=text):
            to_config({**recipe, **changes}, "recipe")
    for field, value in (
        ("overlap", "max"),
        ("ranking", "all"),
        ("score_window", 0),
        ("freeze_returns", [1.0]),
        ("freeze_success", 1.5),
    ):
        with pytest.raises(BadRequestError, match=field):
            to_config({**recipe, "pruning": {**recipe["pruning"], field: value}}, "recipe")
    with pytest.raises(BadNetworkError, match="name it once"):
        check_network_config(replace(THREE, masked_layers=("hidden",)))
    # Gains would rise twice, and twice as many synapses be exchanged.
    with pytest.raises(BadNetworkError, match="name each layer once"):
        check_network_config(replace(THREE, pathway_layers=("hidden", "hidden")))
    for method in ("pathways", "evolution"):
        twice = {"layers": ["hidden", "hidden"], "method": method}
        with pytest.raises(BadRequestError, match="layers has hidden more than once"):
            to_config({**recipe, "pruning": twice}, "recipe")
    with pytest.raises(BadRequestError, match="give task indices"):
        MTSparkNetwork(THREE)(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.zeros(1, 3))


def test_fields_of_pathways_are_written_only_where_they_are_used() -> None:
    plain = config_to_json(SMALL)
    assert not {"overlap", "score_window", "freeze_returns"} & set(plain["pruning"])
    assert "pathway_layers" not in plain["network"]
    used = json.loads(json.dumps(config_to_json(WALKING)))
    assert used["pruning"]["method"] == "pathways"
    assert used["network"]["pathway_layers"] == ["conv1", "hidden"]
