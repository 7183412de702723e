"""Modules of the user's own whose state survives decisions: N of them are one forward of T = N."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import mtspark
from mtspark.cli import main as cli
from mtspark.convert.nir import ImportOptions, import_graph
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import MESSAGES_PER_DEVIATION, Task
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.deploy.lava import installed_lava
from mtspark.deploy.quantise import quantise
from mtspark.sim.backends import LavaBackend, ReferenceChip, episode_decisions, episode_trace
from mtspark.sim.engine import EngineChip

DECISIONS, BATCH, NUMBERS = 12, 3, 4
AGENT = Path(__file__).parents[2] / "examples" / "agents" / "cartpole" / "cartpole.pt"


def coarse(module: nn.Module) -> nn.Module:
    """Weights that 8 bits hold, so that the chip's integers are torch's numbers."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.endswith(("weight", "V")):
                value.copy_(torch.randint(-10, 15, value.shape, generator=generator) / 8)
            elif name.endswith("bias"):
                value.copy_(torch.randint(-1, 3, value.shape, generator=generator) / 8)
    return module


class Stepping(nn.Module):
    """A step a call, states in and out; the membrane of a leaky layer answers."""

    def __init__(self, neuron: Any) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(NUMBERS, 9), nn.Linear(9, 2)
        self.lif1 = neuron()
        self.lif2 = snn.Leaky(beta=0.5, reset_mechanism="none")

    def forward(self, seen: Tensor, states: Any = None) -> Any:
        kind = type(self.lif1).__name__
        if states is None:
            first = getattr(self.lif1, f"init_{kind.lower()}")()
            states = (first if isinstance(first, tuple) else (first,), self.lif2.init_leaky())
        spikes, *first = self.lif1(self.fc1(seen), *states[0])
        if kind.startswith("R"):
            first = [spikes, *first]
        _, answer = self.lif2(self.fc2(spikes), states[1])
        return answer, (tuple(first), answer)


class Looping(nn.Module):
    """A series with a loop of its own, custom recurrence, and a linear layer that answers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.back, self.fc2 = nn.Linear(NUMBERS, 9), nn.Linear(9, 9), nn.Linear(9, 2)
        self.lif1 = snn.Leaky(beta=0.5, reset_mechanism="zero")

    def forward(self, series: Tensor) -> Tensor:
        membrane, spikes = self.lif1.init_leaky(), torch.zeros(series.shape[1], 9)
        answers = []
        for seen in series:
            spikes, membrane = self.lif1(self.fc1(seen) + self.back(spikes), membrane)
            answers.append(self.fc2(spikes))
        return torch.stack(answers)


def spiking_head() -> nn.Module:
    return nn.Sequential(
        nn.Linear(NUMBERS, 9),
        snn.Synaptic(alpha=0.5, beta=0.5, reset_delay=False, init_hidden=True),
        nn.Linear(9, 2),
        snn.Leaky(beta=0.25, init_hidden=True),
    )


NEURONS: dict[str, Any] = {
    "subtract late": lambda: snn.Leaky(beta=0.5),
    "subtract guarded": lambda: snn.Leaky(beta=0.5, reset_delay=False),
    "zero": lambda: snn.Leaky(beta=0.5, reset_mechanism="zero", reset_delay=False),
    "none": lambda: snn.Leaky(beta=0.5, reset_mechanism="none"),
    "synaptic": lambda: snn.Synaptic(alpha=0.5, beta=0.25, reset_delay=False),
    "recurrent": lambda: snn.RLeaky(beta=0.5, linear_features=9),
    "own spikes": lambda: snn.RLeaky(beta=0.5, all_to_all=False, V=-0.5),
}
MODULES: dict[str, Any] = {
    **{name: lambda neuron=neuron: Stepping(neuron) for name, neuron in NEURONS.items()},
    "looping": Looping,
    "spiking head": spiking_head,
}


def series_of(seed: int = 0) -> NDArray[np.float64]:
    """Values of 1/8, (decisions, batch, numbers), as torch and the messages have them."""
    return np.random.default_rng(seed).integers(-8, 9, (DECISIONS, BATCH, NUMBERS)) / 8


def in_torch(module: nn.Module, series: NDArray[np.float64]) -> tuple[Any, Any]:
    """What the module itself answers and fires, by the tool of origin: (T, batch, ...) each."""
    fired: list[Tensor] = []
    first = next(part for part in module.modules() if isinstance(part, snn.SpikingNeuron))
    hook = first.register_forward_hook(
        lambda _part, _given, out: fired.append(out[0] if isinstance(out, tuple) else out)
    )
    given = torch.tensor(series).float()
    with torch.no_grad():
        if isinstance(module, Looping):
            answers = module(given)
        elif isinstance(module, Stepping):
            state, steps = None, []
            for frame in given:
                answer, state = module(frame, state)
                steps.append(answer)
            answers = torch.stack(steps)
        else:
            for part in module.modules():
                if isinstance(part, snn.SpikingNeuron):
                    part.reset_mem()
            answers = torch.stack([module(frame) for frame in given])
    hook.remove()
    return answers.numpy(), torch.stack(fired).numpy()


def compared(module: nn.Module, network: ChipNetwork, backend: Any, batch: int = BATCH) -> None:
    """Episodes side by side, twice: decisions one by one are one forward of T = N."""
    assert (network.stateful, network.time_steps, network.input.held) == (True, 1, True)
    hidden = network.populations[-2].name
    for seed in (0, 1):
        series = series_of(seed)[:, :batch]
        answers, fired = in_torch(module, series)
        assert 0.02 < fired.mean() < 0.98
        frames = np.rint(series / network.input.scale).astype(network.input.dtype)
        frames = frames.reshape(DECISIONS, batch, *network.input.shape)
        decisions = list(episode_decisions(backend, frames, 0, trace=True))
        trace = episode_trace(network, decisions)
        assert np.array_equal(trace.spikes[hidden].reshape(fired.shape), fired > 0)
        values = np.stack([one.values for one in decisions]).reshape(answers.shape)
        assert np.allclose(values, answers, atol=2e-3)


def exported(name: str) -> tuple[nn.Module, mtspark.Deployment]:
    module = coarse(MODULES[name]())
    return module, mtspark.export(module, stateful=True, sample=series_of(), time_steps=None)


def test_decisions_one_by_one_are_one_forward() -> None:
    module, chip = exported("looping")
    compared(module, chip.network, ReferenceChip(chip.network))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_all_neurons_keep_their_state(name: str, tmp_path: Path) -> None:
    module, chip = exported(name)
    for backend in (ReferenceChip, EngineChip):
        compared(module, chip.network, backend(chip.network))
    # The graph that lies in the bundle says so, too, and gives the same integers.
    chip.save(tmp_path / "own.deploy")
    (graph,) = (tmp_path / "own.deploy").glob("graph.*.nir")
    again = mtspark.export(graph, input_bits=8).network
    compared(module, again, ReferenceChip(again))


@pytest.mark.third_party
@pytest.mark.slow
@pytest.mark.skipif(
    installed_lava() is None, reason="lava-nc is missing: run `mtspark install-lava`"
)
@pytest.mark.parametrize("name", ["recurrent", "looping"])
def test_our_lava_processes_keep_it(name: str) -> None:
    module, chip = exported(name)
    with LavaBackend(chip.network, trace=True) as backend:
        # Lava's processes are one chip.
        compared(module, chip.network, backend, batch=1)


@pytest.mark.slow
def test_episodes_run_by_the_python_door() -> None:
    """In batches of two, in either order of axes; frames alone are refused."""
    module, chip = exported("recurrent")
    series = series_of(1)
    answers, fired = in_torch(module, series)
    for x, options in (
        (series.swapaxes(0, 1), {"batch_size": 2}),
        (series, {"time_first": True, "backend": "reference"}),
    ):
        result = chip.run(x, record=True, **options)
        assert np.allclose(result.values, answers[-1], atol=2e-3)
        assert np.array_equal(result.spikes["lif1"], fired > 0)
        assert np.array_equal(result.spike_counts["lif1"], (fired > 0).sum(0))
        assert result.counts.decisions == DECISIONS * BATCH
        assert result.membranes["lif2"].shape[:2] == (DECISIONS, BATCH)
    assert np.allclose(
        np.stack(chip.run(series, time_first=True).decision_values, 1), answers, atol=2e-3
    )
    with pytest.raises(BadRequestError, match=r"survives decisions, and .* give episodes \(batch"):
        chip.run(series[0])


@pytest.mark.slow
def test_episodes_run_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several, and one of shape (T, ...): each begins at rest, and every decision is torch's."""
    module, chip = exported("recurrent")
    chip.save(tmp_path / "own.deploy")
    series = series_of(1)
    answers, _ = in_torch(module, series)
    for name, given, wanted in (
        ("many", series.swapaxes(0, 1), answers.swapaxes(0, 1)),
        ("one", series[:, 1], answers[None, :, 1]),
    ):
        np.save(tmp_path / f"{name}.npy", given)
        files = ["--input", tmp_path / f"{name}.npy", "-o", tmp_path / f"{name}.npz"]
        monkeypatch.setattr(
            sys, "argv", ["mtspark", "run", *map(str, [tmp_path / "own.deploy", *files])]
        )
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        with np.load(tmp_path / f"{name}.npz") as archive:
            assert np.allclose(archive["decision_values"], wanted, atol=2e-3)
        said = " ".join(capsys.readouterr().out.split())
        assert f"episode{'s' * (name == 'many')} of {DECISIONS} decisions of {name}.npy" in said
        assert "from rest and its state carried from decision to decision" in said
        assert "as the float network to 100.0% of the decisions" in said


class Images(nn.Module):
    """Convolution, a maximum of spikes, a branch around a layer, and spikes that answer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 2)
        self.lif1, self.lif2 = snn.Leaky(beta=0.5), snn.Leaky(beta=0.25)
        self.lif3 = snn.Leaky(beta=0.5, threshold=4.0)

    def forward(self, series: Tensor) -> Tensor:
        one, two, three = (part.init_leaky() for part in (self.lif1, self.lif2, self.lif3))
        answers = []
        for seen in series:
            first, one = self.lif1(self.conv(seen), one)
            pooled = self.pool(first).flatten(1)
            second, two = self.lif2(self.fc1(pooled), two)
            third, three = self.lif3(self.fc2(second + pooled), three)
            answers.append(third)
        return torch.stack(answers)


@pytest.mark.slow
def test_images_pools_and_branches_keep_it() -> None:
    module = coarse(Images())
    chip = mtspark.export(module, stateful=True, input_shape=(1, 6, 6))
    series = (np.random.default_rng(0).random((DECISIONS, BATCH, 1, 6, 6)) < 0.4).astype(np.uint8)
    with torch.no_grad():
        wanted = module(torch.tensor(series).float()).numpy()
    for backend in (ReferenceChip(chip.network), EngineChip(chip.network)):
        found = np.stack([one.values for one in episode_decisions(backend, series, 0)])
        assert np.array_equal(found, wanted)
    assert 0.05 < wanted.mean() < 0.95


class Held(nn.Module):
    """Holds a frame over steps of its own, from rest."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.fc, self.lif, self.steps = nn.Linear(NUMBERS, 2), snn.Leaky(beta=0.5), steps

    def forward(self, seen: Tensor) -> Tensor:
        membrane, total = self.lif.init_leaky(), torch.zeros(())
        for _ in range(self.steps):
            spikes, membrane = self.lif(self.fc(seen), membrane)
            total = total + spikes
        return total


class Summed(Looping):
    def forward(self, series: Tensor) -> Tensor:
        return super().forward(series).sum(0)


class Late(Looping):
    """Hears the frame of the decision before, too."""

    def forward(self, series: Tensor) -> Tensor:
        membrane, before, answers = self.lif1.init_leaky(), torch.zeros_like(series[0]), []
        for seen in series:
            spikes, membrane = self.lif1(self.fc1(seen) + self.fc1(before), membrane)
            before = seen
            answers.append(self.fc2(spikes))
        return torch.stack(answers)


@pytest.mark.parametrize(
    ("module", "options", "text"),
    [
        (lambda: Held(8), {}, r"called \[8\] times in one forward of a frame, from rest; state"),
        (lambda: Held(6), {}, r"called \[6\] times in one forward of a frame"),
        (lambda: Held(1), {}, "the states of its neurons start anew in every call"),
        (Summed, {}, "answer is summed over the steps of a series.*return that of every step"),
        (Late, {}, "brings inputs of earlier decisions"),
        (Looping, {"time_steps": 5}, "time_steps 5: with stateful a decision is one step"),
        (lambda: Stepping(lambda: snn.Leaky(beta=1.0)), {}, "keep 1 of themselves.*give them a"),
        (Looping, {"formats": ["netx"]}, "its state survives decisions, and "),
    ],
)
def test_what_cannot_keep_state_is_refused_in_one_line(
    module: Any, options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises((BadNetworkError, BadRequestError), match=text) as problem:
        mtspark.export(module(), stateful=True, input_shape=(NUMBERS,), **options).save(
            tmp_path / "bundle"
        )
    assert "\n" not in str(problem.value)
    assert not (tmp_path / "bundle").exists()


def test_an_agent_that_learned_from_rest_is_refused() -> None:
    with pytest.raises(BadRequestError, match=r"learned to decide from rest.*leave stateful out"):
        mtspark.export(AGENT, stateful=True)


@pytest.mark.slow
def test_the_command_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module and its weights; and a graph that does not say so, whose last layer is linear."""
    source = tmp_path / "net.py"
    source.write_text(
        "import snntorch as snn\nfrom torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Linear(4, 5), snn.Leaky(beta=0.5, init_hidden=True),\n"
        "                         nn.Linear(5, 2))\n"
    )
    module = coarse(nn.Sequential(nn.Linear(4, 5), snn.Leaky(beta=0.5), nn.Linear(5, 2)))
    torch.save(module.state_dict(), tmp_path / "own.pt")
    for output, given in (
        ("own", [f"{source}:make", "--weights", tmp_path / "own.pt", "--input-shape", "4"]),
        ("graph", [tmp_path / "own" / "graph.default.nir"]),
    ):
        arguments = ["export", *given, "--stateful", "-o", tmp_path / output]
        monkeypatch.setattr(sys, "argv", ["mtspark", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
    own, graph = (mtspark.load_bundle(tmp_path / name).network for name in ("own", "graph"))
    assert own.stateful
    assert graph.stateful
    frames = (np.random.default_rng(0).random((DECISIONS, BATCH, 4)) < 0.4).astype(np.uint8)
    found = [
        np.stack([one.values for one in episode_decisions(ReferenceChip(network), frames, 0)])
        for network in (own, graph)
    ]
    assert np.array_equal(*found)


def test_a_graph_of_a_linear_layer_answers_for_each_decision() -> None:
    """Of which NIR's own sum over a run would never stop growing."""
    like = np.ones(5)
    weight = np.random.default_rng(0).integers(-8, 9, (5, 4)) / 8
    graph = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type={"input": np.array([4])}),
            "in": nir.Linear(weight=weight),
            "lif": nir.LIF(
                tau=2e-4 * like, r=2 * like, v_leak=0 * like, v_threshold=like, v_reset=0 * like
            ),
            "head": nir.Affine(weight=weight.T, bias=np.array([0.5, 0, 0, -0.5])),
            "output": nir.Output(output_type={"output": np.array([4])}),
        },
        edges=[("input", "in"), ("in", "lif"), ("lif", "head"), ("head", "output")],
    )
    network = import_graph(graph, ImportOptions(stateful=True))
    series = (np.random.default_rng(1).random((DECISIONS, BATCH, 4)) < 0.5).astype(np.uint8)
    chip = quantise(network, payload_bits=0)
    decided = episode_decisions(ReferenceChip(chip), series, 0)
    membranes = np.zeros((BATCH, 5))
    for frame, decision in zip(series, decided, strict=True):
        membranes = membranes / 2 + frame @ weight.T
        spikes = membranes > 1
        membranes[spikes] = 0
        wanted = spikes @ weight + [0.5, 0, 0, -0.5]
        assert np.allclose(decision.values, wanted, atol=1e-6)


MEAN, DEVIATION = (0.01, -0.02, 0.0, 0.1), (0.5, 1.0, 0.1, 1.0)


def played_in_torch(actor: nn.Module, task: Task, seed: int) -> tuple[int, ...]:
    """Actions of an episode from rest, without mtspark but for the resolution of its messages."""
    own: Any = gymnasium.make(task.game)
    shown, _ = own.reset(seed=seed)
    actions, state, over = [], None, False
    while not over:
        seen = (np.asarray(shown, np.float64) - MEAN) / DEVIATION
        seen = np.clip(np.rint(seen * MESSAGES_PER_DEVIATION), -127, 127) / MESSAGES_PER_DEVIATION
        with torch.no_grad():
            answer, state = actor(torch.tensor(seen[None]).float(), state)
        actions.append(int(answer.argmax()))
        shown, _, ended, cut, _ = own.step(actions[-1])
        over = ended or cut
    return tuple(actions)


@pytest.mark.slow
def test_episodes_begin_at_rest_in_the_loop(tmp_path: Path) -> None:
    """Side by side, one after another, and saved: the actions are torch's in every episode."""
    task = mtspark.environment_task("CartPole-v1", mean=MEAN, deviation=DEVIATION, max_steps=25)
    actor = coarse(Stepping(NEURONS["recurrent"]))
    chip = mtspark.export(actor, environment=task, stateful=True)
    chip.save(tmp_path / "own.deploy")
    saved = mtspark.load_bundle(tmp_path / "own.deploy")
    assert saved.network.stateful
    played = saved.play("CartPole-v1", episodes=3, seed=7)
    for episode in played.run.episodes:
        assert episode.actions == played_in_torch(actor, task, episode.seed)
    assert len({action for one in played.run.episodes for action in one.actions}) == 2
    (row,) = mtspark.evaluate(saved, episodes=3, seed=7).games
    assert list(row.returns) == [one.score for one in played.run.episodes]
