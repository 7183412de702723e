"""A module of the user's own source through the command line, and palettes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mtspark.deploy.bundle import load_bundle
from mtspark.sim.backends.reference import ReferenceChip

SOURCE = """
import snntorch as snn
import torch
from torch import nn

from parts import SIZE


class Net(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2)
        self.lif1 = snn.Leaky(0.875, threshold=0.1)
        self.pool = pool
        self.fc = nn.Linear(4 * 2 * 2, SIZE)
        self.lif2 = snn.Leaky(0.75, threshold=0.1)

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        out = []
        for frame in x:
            spk1, mem1 = self.lif1(self.conv(frame), mem1)
            spk2, mem2 = self.lif2(self.fc(self.pool(spk1).flatten(1)), mem2)
            out.append(spk2)
        return torch.stack(out)


def make():
    torch.manual_seed(0)
    return Net(nn.AvgPool2d(2))


def normed():
    return Net(nn.Sequential(nn.AvgPool2d(2), nn.LayerNorm(2)))


def broken():
    raise ValueError("no data here")


def number():
    return 3


net = make()
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "parts.py").write_text("SIZE = 5\n")
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return path


def test_a_module_and_its_weights_become_a_bundle(
    source: Path, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mtspark.convert.snntorch.source import build_module

    module = build_module(f"{source}:make").module
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_((parameter * 64).round() / 64)
    torch.save(module.state_dict(), tmp_path / "state.pt")
    folder, summary = tmp_path / "net.deploy", tmp_path / "summary.json"
    options = ("--weights", tmp_path / "state.pt", "--input-shape", "2,10,10", "--time-steps", 12)
    assert call("export", f"{source}:make", *options, "-o", folder, "--json", summary) == 0
    fidelity = json.loads(summary.read_text())
    compared = {layer["name"]: layer for layer in fidelity["module_against_network"]}
    assert list(compared) == ["lif1", "lif2"]
    assert all(layer["different"] == 0 and layer["fired"] > 0 for layer in compared.values())
    assert "spikes of the float network differ from the module" in " ".join(
        capsys.readouterr().out.split()
    )
    # The chip on spikes, beside the module itself with those weights.
    network = load_bundle(folder).network
    spikes = (np.random.default_rng(0).random((8, 12, 2, 10, 10)) < 0.5).astype(np.uint8)
    decision = ReferenceChip(network).decide(spikes, 0)
    theirs = module(torch.from_numpy(spikes).float().transpose(0, 1)).sum(0)
    distance = np.abs(decision.values - theirs.detach().numpy()).sum()
    assert theirs.sum() > 20
    assert distance <= 0.05 * float(theirs.sum())


def test_a_module_that_the_file_has_built_needs_no_function(source: Path) -> None:
    from mtspark.convert.snntorch.source import build_module

    built, made = build_module(f"{source}:net"), build_module(f"{source}:make")
    assert built.module is not made.module
    assert not built.module.training
    for ours, theirs in zip(built.module.parameters(), made.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    # Its layers' lines are known, as those of a module that a function has made.
    lines = [made.lines[id(part)] for part in made.module.modules()]
    assert [built.lines[id(part)] for part in built.module.modules()] == lines
    assert any("self.fc = " in line for line in lines)


@pytest.mark.parametrize(
    ("factory", "options", "words"),
    [
        ("normed", (), "nn.LayerNorm(2))) (layer 'pool.1', LayerNorm): layer_norm is not linear"),
        ("broken", (), "broken() fails: ValueError: no data here"),
        ("number", (), "number() returns int, not a torch.nn.Module"),
        (
            "missing",
            (),
            "has no function 'missing'; in it are Net, make, normed, broken, number and net",
        ),
        ("SIZE", (), "SIZE is int, no torch.nn.Module, and no function that makes one; in it"),
        ("make", ("--weights", "nowhere.pt"), "nowhere.pt: no such file"),
        ("make", ("--input-shape", "2,x"), "numbers with commas"),
        ("make", ("--input-shape", "3,10,10"), "check --input-shape"),
    ],
)
def test_what_cannot_go_is_one_line(
    factory: str,
    options: tuple[str, ...],
    words: str,
    source: Path,
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shape = () if "--input-shape" in options else ("--input-shape", "2,10,10")
    folder = tmp_path / "net.deploy"
    arguments = (f"{source}:{factory}", *shape, *options, "--time-steps", 4, "-o", folder)
    assert call("export", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not folder.exists()


def test_weights_that_are_no_state_dict_are_refused(
    source: Path, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content, words in (
        ([1, 2], "no state_dict"),
        ({"conv.weight": torch.zeros(1)}, "does not fit the module"),
    ):
        torch.save(content, tmp_path / "bad.pt")
        weights = ("--weights", tmp_path / "bad.pt", "--input-shape", "2,10,10")
        folder = tmp_path / "net.deploy"
        assert call("export", f"{source}:make", *weights, "--time-steps", 4, "-o", folder) == 2
        assert words in capsys.readouterr().err


def test_a_source_that_is_no_python_is_refused(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text("x = 1\ndef make(:\n")
    options = ("--input-shape", "2", "--time-steps", 4)
    assert call("export", f"{tmp_path / 'bad.py'}:make", *options) == 2
    assert "bad.py:2: cannot be run: SyntaxError" in capsys.readouterr().err
    assert call("export", f"{tmp_path / 'none.py'}:make", *options) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.slow
def test_a_palette_of_an_agent(
    checkpoint: Path, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, summary = tmp_path / "few.deploy", tmp_path / "few.json"
    assert call("export", checkpoint, "-o", folder, "--palette", 1, "--json", summary) == 0
    network = load_bundle(folder).network
    for population in network.populations:
        profiles = np.unique(population.thresholds.reshape(2, -1), axis=1).shape[1]
        assert profiles <= 1
    fidelity = json.loads(summary.read_text())
    costs = {cost["population"]: cost for cost in fidelity["palette"]}
    assert costs["hidden"]["before"] > 1 >= costs["hidden"]["after"]
    assert set(fidelity["palette_tasks"]) == {"pong", "breakout"}
    # What it says is what two chips do: nothing upstream of a palette that changed changes.
    for task in fidelity["palette_tasks"].values():
        assert 0 <= task["same_action"] <= 1
        assert any(share > 0 for share in task["layers"].values())
    assert "distinct thresholds became 1" in capsys.readouterr().out
    assert call("explain", folder, "--decisions", 3, "--json", tmp_path / "why.json") == 0
    rows = json.loads((tmp_path / "why.json").read_text())["tables"][0]["rows"]
    assert "palette" in [row["effect"] for row in rows]


@pytest.mark.slow
def test_calibration_of_an_agent(
    checkpoint: Path, call: Callable[..., int], tmp_path: Path
) -> None:
    folder, summary = tmp_path / "mse.deploy", tmp_path / "mse.json"
    options = ("--weight-bits", 3, "--calibrate", "mse", "--json", summary)
    assert call("export", checkpoint, "-o", folder, *options) == 0
    reports = json.loads(summary.read_text())["calibration"]
    assert reports[0]["connection"] == "input->conv1"
    assert all(report["error"] <= report["error_unclipped"] for report in reports)
    assert any(report["clipped"] > 0 for report in reports)
    # What was chosen stands in the bundle, and explain quantises by it again.
    target = tmp_path / "why.json"
    assert call("explain", folder, "--decisions", 2, "--json", target) == 0
    rows = json.loads(target.read_text())["tables"][0]["rows"]
    assert rows[-1]["effect"] == "all: the chip"


TUTORIAL = """
import snntorch as snn
import torch
from torch import nn


def make():
    torch.manual_seed(1)
    options = {"beta": 0.9, "threshold": 0.3, "init_hidden": True}
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), snn.Leaky(**options),
        nn.Flatten(), nn.Linear(27, 4), snn.Leaky(**options, output=True),
    )
"""


@pytest.mark.parametrize("recorded", [False, True])
def test_a_max_pool_before_neurons_is_refused_by_name_or_exchanged_aloud(
    recorded: bool, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(TUTORIAL)
    folder, summary = tmp_path / "net.deploy", tmp_path / "summary.json"
    options = [f"{tmp_path / 'net.py'}:make", "--input-shape", "1,8,8", "--time-steps", 6]
    inputs = "random spikes, 10% a step"
    if recorded:
        inputs = str(tmp_path / "x.npy")
        np.save(inputs, np.random.default_rng(0).random((9, 6, 1, 8, 8)) < 0.4)
        options += ["--input", inputs]
    assert call("export", *options, "-o", folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.count("--max-pool or") == 1
    assert not folder.exists()
    assert call("export", *options, "-o", folder, "--max-pool", "or", "--json", summary) == 0
    printed = " ".join(capsys.readouterr().out.split())
    content = json.loads(summary.read_text())
    assert content["max_pool"]["inputs"] == inputs
    assert content["max_pool"]["samples"] == (9 if recorded else 2)
    (layer,) = content["max_pool"]["layers"]
    assert layer["name"] == "lif1"
    assert (
        f"'lif1' fires before its max pool, and {layer['different'] / layer['compared']:.2%}"
        in printed
    )
    assert f"{content['max_pool']['same_answer']} of" in printed
    assert f"on {inputs}" in printed
    assert load_bundle(folder).network.provenance["max_pool"] == "or"
