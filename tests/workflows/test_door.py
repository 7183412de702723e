"""``import mtspark``: what it offers, and that it does what the command line does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

import mtspark
from mtspark.cli import main as cli
from mtspark.core.backend import greedy_actions
from mtspark.core.environments import Sampling
from mtspark.core.progress import Progress

ACCOUNT = """
import time
before = time.process_time()
import mtspark
after = time.process_time()
import sys
print(after - before, *sorted({"numpy", "torch", "numba", "nir", "rich"} & set(sys.modules)))
"""


def test_the_import_is_quick_and_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ACCOUNT], capture_output=True, text=True, check=True
    )
    seconds, *loaded = done.stdout.split()
    assert loaded == []
    assert float(seconds) < 0.3


def test_every_name_is_there() -> None:
    for name in mtspark.__all__:
        assert getattr(mtspark, name) is not None
    assert set(mtspark.__all__) <= set(dir(mtspark))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mtspark.nonsense  # type: ignore[attr-defined]


def test_no_name_is_that_of_a_package() -> None:
    import pkgutil

    packages = {module.name for module in pkgutil.iter_modules(mtspark.__path__)}
    assert packages.isdisjoint(mtspark.__all__)


class Three(nn.Module):
    """Two inputs into two neurons, those into one: weights that the chip holds exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2, bias=False)
        self.lif_a = snn.Leaky(beta=0.0, threshold=0.5, reset_mechanism="zero")
        self.b = nn.Linear(2, 1, bias=False)
        self.lif_b = snn.Leaky(beta=0.0, threshold=1.5, reset_mechanism="zero")
        with torch.no_grad():
            self.a.weight[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
            self.b.weight[:] = torch.tensor([[1.0, 1.0]])

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        first, second = self.lif_a.init_leaky(), self.lif_b.init_leaky()
        spikes = []
        for step in series:
            one, first = self.lif_a(self.a(step), first)
            two, second = self.lif_b(self.b(one), second)
            spikes.append(two)
        return torch.stack(spikes)


@pytest.fixture(scope="module")
def three() -> Any:
    return mtspark.export(Three(), input_shape=(2,), time_steps=4)


SERIES = np.array([[[1, 0], [1, 1], [0, 0], [1, 1]], [[0, 0], [0, 1], [0, 0], [0, 0]]])
"""Two samples of four steps: 5 values and 1 value sent."""


def test_counts_of_three_neurons_by_hand(three: Any) -> None:
    """lif_a repeats its input; lif_b fires in the two steps in which both neurons do."""
    result = three.run(SERIES, record=True, backend="reference")
    assert result.spike_counts["lif_a"].tolist() == [[3, 2], [0, 1]]
    assert result.spike_counts["lif_b"].tolist() == [[2], [0]]
    assert result.spikes["lif_a"].astype(int).swapaxes(0, 1).tolist() == SERIES.tolist()
    assert result.values.tolist() == [[2.0], [0.0]]
    counts = result.counts
    assert counts.decisions == 2
    assert counts.input_events.total == 6
    by_name = {layer.name: layer for layer in counts.layers}
    # Every value meets two synapses (one is zero), every spike of lif_a meets one.
    assert by_name["lif_a"].synops_structural.total == 12
    assert by_name["lif_a"].synops_effective.total == 6
    assert by_name["lif_b"].synops_structural.total == 6
    # Two samples, T + L = 6 steps.
    assert by_name["lif_a"].neuron_updates.total == 2 * 2 * 6
    bill = result.energy("loihi2_pilotnet")
    terms = {term.term: term.count_per_decision for term in bill.terms}
    assert terms["neuron_update"] == 3 * 6
    assert three.energy(card="loihi2_pilotnet") == bill


def test_the_engine_and_batches_change_nothing(three: Any) -> None:
    whole = three.run(SERIES, backend="reference")
    reports: list[Progress] = []
    parts = three.run(SERIES.astype(np.float32), batch_size=1, progress=reports.append)
    assert parts.values.tolist() == whole.values.tolist()
    assert parts.counts == whole.counts
    assert [report.done for report in reports] == [0, 1, 2]
    time_first = three.run(torch.tensor(SERIES).transpose(0, 1), time_first=True)
    assert time_first.values.tolist() == whole.values.tolist()
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.tensor(SERIES), torch.tensor([0, 0])), batch_size=1
    )
    assert three.run(loader).counts == whole.counts


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (
            np.full((1, 4, 2), 0.5),
            ValueError,
            "has the value 0.5, its values are 0.5 to 0.5",
        ),
        (np.full((1, 4, 2), np.nan), ValueError, "not finite"),
        (np.zeros((1, 4, 3)), ValueError, r"shape \(1, 4, 3\), Three takes frames \(batch, 2\)"),
        (np.zeros((0, 4, 2)), ValueError, "at least one sample"),
        (np.zeros((1, 4, 2)) * 1j, TypeError, "has dtype complex128"),
        (torch.zeros(1, 4, 2).bfloat16(), TypeError, "a tensor that is no array"),
        (torch.zeros(1, 4, 2, device="meta"), TypeError, "a tensor that is no array"),
        ("text", TypeError, "is str, not numbers; give a numpy array, a torch tensor"),
        ([[1], [1, 2]], TypeError, "unequal length"),
        (None, TypeError, "NoneType"),
    ],
)
def test_inputs_that_do_not_fit(three: Any, x: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        three.run(x)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([0], "one label for each of 2 inputs"),
        ([0, 1], "label 1; the network has 1 outputs"),
        ([0, 0.5], "no whole numbers"),
        (None, "no labels"),
    ],
)
def test_labels_that_do_not_fit(three: Any, y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        three.evaluate(SERIES, y)


def test_accuracy_is_that_of_both_sides() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 3), snn.Leaky(beta=0.5, threshold=0.2, init_hidden=True))
    x = np.random.default_rng(0).integers(0, 2, (40, 6)).astype(np.float32)
    chip = mtspark.export(module, sample=x, time_steps=5)
    assert chip.network.input.held
    in_float = mtspark_float_classes(chip, x)
    on_chip = chip.run(x).classes
    y = np.where(np.arange(40) % 2, in_float, on_chip)
    result = chip.evaluate(x, y)
    assert result.accuracy == (on_chip == y).mean()
    assert result.float_accuracy == (in_float == y).mean()
    assert result.agreement == (in_float == on_chip).mean()
    assert result.samples == result.counts.decisions == 40


def mtspark_float_classes(chip: Any, x: np.ndarray) -> np.ndarray:
    from mtspark.core.float_network.simulator import run_float

    series = np.broadcast_to(x.astype(np.float64), (5, *x.shape))
    return run_float(chip.float_network, series).values.argmax(1)


def test_the_module_keeps_its_mode() -> None:
    module = Three().train()
    module.lif_a.eval()
    mtspark.export(module, input_shape=(2,), time_steps=4)
    assert module.training
    assert not module.lif_a.training


def test_the_module_keeps_the_state_of_its_neurons() -> None:
    """Those with init_hidden have one, fresh or of what the caller ran before."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 3), snn.Leaky(beta=0.5, threshold=5.0, init_hidden=True))
    x = torch.rand(4, 6)
    fresh = module[1].mem
    mtspark.export(module, sample=x, time_steps=5)
    assert module[1].mem is fresh
    module(x)
    before = module[1].mem
    assert before.shape == (4, 3)
    mtspark.export(module, sample=x, time_steps=5)
    assert module[1].mem is before


def test_a_mean_is_that_of_the_steps_of_the_export(caplog: pytest.LogCaptureFixture) -> None:
    class Mean(Three):
        def forward(self, series: torch.Tensor) -> torch.Tensor:
            return super().forward(series).mean(0)

    chip = mtspark.export(Mean(), input_shape=(2,), time_steps=4)
    chip.run(np.ones((3, 4, 2)))
    assert "factor" not in caplog.text
    chip.run(np.ones((3, 8, 2)))
    assert "inputs have 8 steps, and the factor of the answers, 0.25, is that of" in caplog.text


class Shaped(nn.Module):
    """Makes images of two channels of flat numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(3 * 2 * 3, 4)
        self.lif, self.out = snn.Leaky(beta=0.5), snn.Leaky(beta=0.5)
        with torch.no_grad():
            self.fc.weight.mul_(6)

    def forward(self, flat: torch.Tensor) -> torch.Tensor:
        image = flat.reshape(-1, 2, 4, 5)
        one, other, count = self.lif.init_leaky(), self.out.init_leaky(), 0
        for _ in range(4):
            spikes, one = self.lif(self.conv(image), one)
            spikes, other = self.out(self.fc(spikes.flatten(1)), other)
            count = count + spikes
        return count


def test_what_a_module_shapes_itself_is_given_flat() -> None:
    x = np.random.default_rng(0).integers(0, 2, (12, 40)).astype(np.float32)
    chip = mtspark.export(Shaped(), sample=x)
    assert chip.network.input.shape == (2, 4, 5)
    flat = chip.run(x).values
    assert flat.std() > 0
    np.testing.assert_array_equal(chip.run(x.reshape(12, 2, 4, 5)).values, flat)
    assert chip.evaluate(x, flat.argmax(1)).accuracy == 1
    with pytest.raises(ValueError, match=r"frames \(batch, 2, 4, 5\), or flat ones, of 40 values$"):
        chip.run(x[:, 1:])
    # One that takes images knows nothing of the order of flat ones.
    images = nn.Sequential(nn.Conv2d(2, 1, (4, 5)), nn.Flatten(), snn.Leaky(0.5, init_hidden=True))
    chip = mtspark.export(images, sample=x.reshape(12, 2, 4, 5), time_steps=3)
    with pytest.raises(ValueError, match=r"has shape \(12, 40\), Sequential takes frames"):
        chip.run(x)


STEP = nn.Sequential(nn.Linear(2, 2), snn.Leaky(beta=0.5, init_hidden=True))
SHAPE: dict[str, Any] = {"input_shape": (2,), "time_steps": 4}
FRAMES: dict[str, Any] = {"sample": np.eye(2), "time_steps": 4}
CHANGING = np.repeat(np.eye(2)[[0, 1, 0, 1]][:, None], 3, axis=1)
"""(4 steps, 3 samples, 2)."""


class SamplesFirst(Three):
    """Takes (batch, T, ...)."""

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return super().forward(series.transpose(0, 1))


def test_which_axis_of_a_sample_is_time() -> None:
    """What the module says, or the number of steps; a guess would take the batch for time."""
    shape = SERIES.shape
    steps_first = np.swapaxes(SERIES, 0, 1)
    assert shape[0] != shape[1]
    for module, sample in ((Three(), steps_first), (SamplesFirst(), SERIES)):
        chip = mtspark.export(module, sample=sample)
        assert chip.network.time_steps == shape[1]
        assert f"series of {shape[1]} steps" in str(chip.fidelity.import_notes)
    for steps, first in ((3, "samples"), (4, "steps")):
        chip = mtspark.export(STEP, sample=np.ones((4, 3, 2)), time_steps=steps)
        assert f"series of {steps} steps, {first} first" in str(chip.fidelity.import_notes)
    equal = mtspark.export(STEP, sample=np.ones((4, 4, 2)))
    assert "series of 4 steps, samples first" in str(equal.fidelity.import_notes)
    with pytest.raises(ValueError, match=r"give time_steps=3 where samples come first, or"):
        mtspark.export(STEP, sample=np.ones((4, 3, 2)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: mtspark.export(Three()), ValueError, "give sample="),
        (lambda: mtspark.export(3), TypeError, "source is int; give a path"),
        (lambda: mtspark.export("a.nir", nonsense=1), TypeError, "no option 'nonsense'"),
        (lambda: mtspark.export("a.nir", reset="late"), ValueError, "reset 'late': zero,"),
        (lambda: mtspark.export(Three(), dt=1.0), ValueError, "^dt is for a NIR graph"),
        (lambda: mtspark.export("none.nir"), mtspark.BadFileError, "no such file"),
        (lambda: mtspark.export("a.nir", formats="tflite"), ValueError, "nir, onnx, netx, lava"),
        (
            lambda: mtspark.export(Three(), sample=np.zeros((2, 4, 5)), time_steps=4),
            ValueError,
            "cannot be run on input of shape",
        ),
        (
            lambda: mtspark.export(STEP, sample=np.zeros((2, 2))),
            ValueError,
            "its forward is one time step; say how many",
        ),
        (
            lambda: mtspark.export(nn.Sequential(nn.ReLU(), *STEP), **FRAMES),
            mtspark.BadNetworkError,
            r"^Sequential \(layer '0', ReLU\)",
        ),
        (lambda: mtspark.export(STEP, input_shape=2), TypeError, "2 is int; give a tuple of"),
        (lambda: mtspark.export(STEP, input_shape="2"), TypeError, "'2' is str; give a tuple of"),
        (lambda: mtspark.export(STEP, time_steps="9"), TypeError, "'9' is str; give a whole"),
        (lambda: mtspark.export(STEP, time_steps=0), ValueError, "^time_steps 0: must be at"),
        (lambda: mtspark.export(STEP, input_scale="1"), TypeError, "'1' is str; give a number"),
        (lambda: mtspark.export(STEP, one_frame="yes"), TypeError, "'yes' is str; give True or"),
        (
            lambda: mtspark.export(STEP, held=True),
            TypeError,
            "no option 'held' any more; it is one_frame",
        ),
        (lambda: mtspark.export(STEP, name="a\nb"), ValueError, "cannot be printed"),
        (lambda: mtspark.export(STEP, name=3), TypeError, "name: 3 is int; give a str"),
        (lambda: mtspark.export(STEP, sample=np.zeros((0, 2))), ValueError, "at least one input"),
        (
            lambda: mtspark.export(STEP, sample=CHANGING, time_steps=4, one_frame=True),
            ValueError,
            "^sample: changes from step to step, but this network holds one frame",
        ),
        (
            lambda: mtspark.export(
                STEP, sample=CHANGING.swapaxes(0, 1), one_frame=True, time_steps=4
            ),
            ValueError,
            "^sample: changes from step to step, but this network holds one frame",
        ),
        (lambda: mtspark.load_bundle("nothing"), mtspark.BadFileError, "no such file"),
        (
            lambda: mtspark.export(Three(), prune=True, **SHAPE),
            ValueError,
            "^prune is for a checkpoint",
        ),
        (
            lambda: mtspark.export(Three(), prune=False, **SHAPE).run(SERIES, task=0),
            ValueError,
            "^task: 0 is int; give one of the names default",
        ),
        (lambda: mtspark.compare_runs("runs"), ValueError, "folders: one path, runs; give a list"),
        (lambda: mtspark.mean_agent("ab"), ValueError, "agents: str given; give agents, as of"),
        (lambda: mtspark.save_agent("a.pt", "b"), ValueError, "agent: is str; give an agent, and"),
    ],
)
def test_what_is_wrong_with_a_call(
    call: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_backend_that_does_not_exist_and_energy_of_nothing(tmp_path: Path) -> None:
    chip = mtspark.export(Three(), input_shape=(2,), time_steps=4)
    with pytest.raises(ValueError, match="nothing has run yet"):
        chip.energy()
    with pytest.raises(ValueError, match="backend 'gpu': engine, reference"):
        chip.run(SERIES, backend="gpu")
    with pytest.raises(ValueError, match="torch: runs agents, and Three is none"):
        chip.run(SERIES, backend="torch")
    with pytest.raises(ValueError, match="plays no game"):
        chip.play("default")
    with pytest.raises(ValueError, match="was not evaluated yet; call evaluate"):
        chip.report(tmp_path / "page.html")
    assert "in memory" in repr(chip)
    assert chip.folder is None


@pytest.mark.slow
def test_a_network_that_was_evaluated_has_a_page(tmp_path: Path) -> None:
    chip = mtspark.export(Three(), sample=SERIES, time_steps=4, name="three")
    labels = np.zeros(len(SERIES), np.int64)
    result = chip.evaluate(SERIES, labels)
    page = chip.report(tmp_path / "page.html")
    score = page.to_json()["tasks"][0]["score"]
    assert score["chip"] == result.accuracy
    assert score["count"] == len(labels)
    saved = chip.save(tmp_path / "three.deploy")
    again = mtspark.load_bundle(saved)
    again.evaluate(SERIES, labels)
    again.report(tmp_path / "again.html")
    assert mtspark.load_bundle(saved).report(tmp_path / "kept.html").page.is_file()


def test_a_saved_bundle_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = mtspark.export(Three(), sample=SERIES, time_steps=4, name="three")
    folder = chip.save(str(tmp_path / "three.deploy"))
    assert chip.folder == folder
    loaded = mtspark.load_bundle(tmp_path / "three.deploy")
    assert loaded.bundle.network_hash == chip.bundle.network_hash
    assert loaded.fidelity == chip.fidelity
    stored = json.loads((folder / "fidelity.json").read_text())
    assert chip.fidelity.to_json() == stored
    assert stored["layers"][0]["spike_distance"] == chip.fidelity.layers[0].spike_distance
    assert loaded.run(SERIES).counts == chip.run(SERIES).counts
    assert loaded.evaluate(SERIES, [0, 0]).float_accuracy == 1.0
    other = loaded.save(tmp_path / "copy.deploy")
    assert mtspark.load_bundle(other).bundle.files == chip.bundle.files
    with pytest.raises(ValueError, match="exists already"):
        chip.save(folder)
    assert chip.diff("reference", decisions=2).equal
    with pytest.raises(ValueError, match="decisions 0: must be at least 1"):
        chip.diff("reference", decisions=0)
    recording = tmp_path / "x.npy"
    np.save(recording, SERIES.astype(np.uint8))
    effects = chip.explain(inputs=recording).tables[0].rows
    assert effects[0].effect == "float network"
    assert effects[-1].action_agreement == 1.0
    with pytest.raises(ValueError, match=r"is no game; give some of its inputs \(inputs\)$"):
        chip.explain()
    monkeypatch.chdir(tmp_path)
    near = mtspark.load_bundle("three.deploy")
    monkeypatch.chdir("copy.deploy")
    assert near.fidelity == loaded.fidelity
    assert len(chip.map("loihi2").mapping.cores) >= 2


@pytest.fixture
def call() -> Callable[..., int]:
    def run(*arguments: object) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["mtspark", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                cli.main()
        return int(end.value.code or 0)

    return run


@pytest.mark.slow
def test_the_door_makes_the_network_of_the_command_line(
    call: Callable[..., int], tmp_path: Path, make_agent: Callable[..., Any]
) -> None:
    from mtspark.train.checkpoint.agent import save_agent

    agent, path = make_agent(), tmp_path / "tiny.pt"
    save_agent(agent, path)
    assert call("export", path, "-o", tmp_path / "cli.deploy", "--weight-bits", 6) == 0
    on_disk = mtspark.load_bundle(tmp_path / "cli.deploy")
    by_path = mtspark.export(path, weight_bits=6)
    in_memory = mtspark.export(mtspark.load_agent(str(path)), weight_bits=6, name="tiny")
    hashes = {chip.bundle.network_hash for chip in (on_disk, by_path, in_memory)}
    assert len(hashes) == 1
    assert by_path.fidelity == in_memory.fidelity == on_disk.fidelity
    assert by_path.bundle.files == on_disk.bundle.files

    out = tmp_path / "run.json"
    arguments = ("--task", "pong", "--max-decisions", 3, "--seed", 2, "--json", out)
    assert call("run", tmp_path / "cli.deploy", *arguments) == 0
    wanted = json.loads(out.read_text())
    result = in_memory.play("pong", max_decisions=3, seed=2)
    for key in ("episodes", "layers", "connections", "energy", "network_sha256"):
        assert result.to_json()[key] == wanted[key]
    bill = in_memory.energy()
    on_chip = {one["card_key"]: one for one in wanted["energy_on_chip"]}
    assert bill.to_json() == on_chip["loihi2_pilotnet"]
    with pytest.raises(ValueError, match="episodes and max-decisions must be at least 1"):
        in_memory.play("pong", episodes=0)
    page = in_memory.report(tmp_path / "page.html", tasks="pong", max_decisions=3, seed=2)
    assert page.page.read_text().startswith("<!doctype html>")
    frames = np.random.default_rng(0).integers(0, 256, (3, 2, 20, 20), dtype=np.uint8)
    answers = in_memory.run(frames, task="pong")
    legal = in_memory.network.tasks[0].legal_actions
    with_torch = in_memory.run(frames, task="pong", backend="torch")
    assert greedy_actions(answers.values, legal).shape == (3,)
    np.testing.assert_allclose(answers.values, with_torch.values, atol=5)


def test_a_recording_gives_the_same_values(call: Callable[..., int], tmp_path: Path) -> None:
    chip = mtspark.export(Three(), sample=SERIES, time_steps=4)
    chip.save(tmp_path / "three.deploy")
    np.save(tmp_path / "x.npy", SERIES)
    out = tmp_path / "out.json"
    assert call("run", chip.folder, "--input", tmp_path / "x.npy", "--json", out) == 0
    wanted, result = json.loads(out.read_text()), chip.run(SERIES).to_json()
    assert {key: wanted[key] for key in result} == result


@pytest.mark.slow
def test_an_agent_is_scored_as_by_the_command_line(
    call: Callable[..., int], tmp_path: Path, make_agent: Callable[..., Any]
) -> None:
    from dataclasses import replace

    from mtspark.train.checkpoint.agent import Agent, save_agent

    agent = make_agent()
    short = replace(agent.protocol, max_frames_per_episode=80)
    path, out = tmp_path / "short.pt", tmp_path / "rows.json"
    save_agent(Agent(agent.network, agent.tasks, short), path)
    assert call("eval", path, "--episodes", 2, "--sticky", 0, "--json", out) == 0
    result = mtspark.evaluate(path, episodes=2, sticky=0.0)
    assert json.loads(json.dumps(result.to_json())) == json.loads(out.read_text())
    in_memory = mtspark.evaluate(mtspark.load_agent(path), tasks="pong", episodes=2, sticky=0.0)
    assert [row.returns for row in in_memory.games] == [result.games[0].returns]
    drawn = mtspark.evaluate(path, tasks="pong", episodes=2, sticky=0.0, sample=3, temperature=9.0)
    assert drawn.games[0].sampling == Sampling(3, 9.0)
    with pytest.raises(ValueError, match="must be 2 to"):
        mtspark.evaluate(path, episodes=1)
    with pytest.raises(mtspark.BadFileError, match="cannot be written"):
        mtspark.evaluate(path, store=path / "rows.json")
    with pytest.raises(TypeError, match="agent is int"):
        mtspark.evaluate(3)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_options() -> None:
    options = {"time_steps": np.int64(3), "input_scale": np.float32(1), "one_frame": np.True_}
    chip = mtspark.export(STEP, sample=np.eye(2), **options)
    assert chip.network.time_steps == 3
    assert chip.network.input.held
