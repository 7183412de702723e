"""`mtspark diff` and `report` for networks that play no game, and pairs that make no sense."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch

from mtspark.deploy.bundle import load_bundle
from mtspark.workflows.diff.frames import task_frames
from tests.support.image_agent import image_agent

Call = Callable[..., int]
Diff = Callable[..., tuple[int, dict[str, Any]]]

MODULE = """
import snntorch as snn
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(6, 5)
        self.lif = snn.Leaky(0.75, threshold=0.2, reset_mechanism="zero", reset_delay=False)

    def forward(self, x):
        mem, out = self.lif.init_leaky(), []
        for frame in x:
            spk, mem = self.lif(self.fc(frame), mem)
            out.append(spk)
        return torch.stack(out)


def make():
    return Net()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, call: Call) -> Path:
    """A NIR graph, a module and an agent for images, each with its bundle."""
    folder = tmp_path_factory.mktemp("pairs")
    generator = np.random.default_rng(0)
    six = np.ones(6)
    lif = nir.LIF(tau=5 * six, r=5 * six, v_leak=0 * six, v_threshold=0.8 * six)
    graph = nir.NIRGraph.from_list(nir.Affine(generator.normal(0, 1, (6, 4)), 0.05 * six), lif)
    nir.write(str(folder / "net.nir"), graph)
    made = ("--dt", 1, "--time-steps", 8, "--formats", "onnx")
    assert call("export", folder / "net.nir", "-o", folder / "nir.deploy", *made) == 0
    (folder / "net.py").write_text(MODULE)
    shape = ("--input-shape", 6, "--time-steps", 7)
    assert call("export", f"{folder / 'net.py'}:make", "-o", folder / "module.deploy", *shape) == 0
    torch.manual_seed(2)
    assert call("export", image_agent(folder), "-o", folder / "images.deploy") == 0
    return folder


@pytest.fixture
def diff(call: Call, tmp_path: Path) -> Diff:
    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        target = tmp_path / "result.json"
        target.unlink(missing_ok=True)
        code = call("diff", *arguments, "--decisions", 3, "--json", target)
        return code, json.loads(target.read_text()) if target.exists() else {}

    return run


@pytest.mark.parametrize("name", ["nir.deploy", "module.deploy", "images.deploy"])
@pytest.mark.parametrize("against", ["engine", "reference", "onnx"])
@pytest.mark.slow
def test_a_network_without_a_game_is_compared_on_random_inputs(
    folder: Path, diff: Diff, name: str, against: str
) -> None:
    code, found = diff(folder / name, "--against", against)
    network = load_bundle(folder / name).network
    neurons = sum(population.size for population in network.populations)
    assert code == 0
    assert found["equal"]
    # Backends compare the pipeline's steps too, files each layer's own.
    steps = network.time_steps if against == "onnx" else network.steps_per_decision
    assert found["compared"] == 3 * 2 * neurons * steps


def test_random_inputs_are_what_the_network_takes(folder: Path) -> None:
    series = task_frames(load_bundle(folder / "nir.deploy").network, "default", 40, 0)
    assert series.shape == (40, 8, 4)
    assert set(np.unique(series)) == {0, 1}
    assert 0.05 < series.mean() < 0.15
    pixels = task_frames(load_bundle(folder / "images.deploy").network, "mnist", 5, 0)
    assert pixels.shape == (5, 3, 12, 12)
    assert pixels.max() > 200


def test_an_agent_for_images_has_a_float_side_and_a_twin(folder: Path, diff: Diff) -> None:
    bundle = folder / "images.deploy"
    code, found = diff(bundle, "--against", "twin")
    assert (code, found["equal"]) == (0, True)
    code, found = diff(bundle, "--against", "torch")
    assert code == 0
    assert 0 <= found["action_agreement"] <= 1
    code, found = diff(folder / "images.pt", "--against", bundle / "graph.mnist.nir")
    assert found["exact"]
    assert found["different"] <= found["compared"] * 1e-3


def test_pixels_reach_a_float_graph_in_its_own_scale(played: Path, diff: Diff) -> None:
    """The chip takes bytes for what they are, the graph divides them by 255."""
    shares = [
        diff(first, "--against", played)[1]["different"]
        for first in (played / "agent.pt", played / "graph.pong.nir")
    ]
    assert shares[0] == shares[1]


def test_a_graph_that_is_read_otherwise_says_how(
    folder: Path, diff: Diff, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that does not say its time step is not what was exported of it."""
    bundle = folder / "nir.deploy"
    assert diff(bundle / "graph.default.nir", "--against", bundle)[1]["different"] < 10
    capsys.readouterr()
    code, found = diff(folder / "net.nir", "--against", bundle / "graph.default.nir")
    assert code == 1
    shown = capsys.readouterr().out
    assert [text.split(";")[0] for text in found["read_as"].values()] == ["dt 0.0001", "dt 1"]
    for text in found["read_as"].values():
        assert text in shown


def test_files_that_say_little_of_their_input_are_compared_too(folder: Path, diff: Diff) -> None:
    integers, floats = folder / "nir.deploy" / "network.onnx", folder / "net.nir"
    code, found = diff(integers, "--against", integers)
    assert (code, found["equal"]) == (0, True)
    assert found["compared"] == 3 * 2 * 6 * 8
    code, found = diff(floats, "--against", integers)
    assert (code, found["exact"]) == (0, False)
    assert found["compared"] == 3 * 6 * 8


def test_a_graph_goes_out_as_a_netx_file_to_the_bit(
    folder: Path, call: Call, diff: Diff, tmp_path: Path
) -> None:
    """Quantised to what such a file can say; explain quantises the same again."""
    bundle = tmp_path / "chain.deploy"
    made = ("--dt", 1, "--time-steps", 8, "--formats", "netx")
    assert call("export", folder / "net.nir", "-o", bundle, *made) == 0
    told = json.loads((bundle / "fidelity.json").read_text())
    assert any("netx" in note for note in told["import_notes"])
    assert told["layers"][0]["spike_distance"] < 0.02
    network = load_bundle(bundle).network
    assert {link.exponent for link in network.connections} == {0}
    assert {population.bias_exponent for population in network.populations} == {6}
    assert any(population.bias_mantissa.any() for population in network.populations)
    code, found = diff(bundle / "default.net", "--against", bundle)
    assert (code, found["equal"]) == (0, True)
    np.save(tmp_path / "x.npy", (np.random.default_rng(0).random((3, 8, 4)) < 0.4).astype(np.uint8))
    assert call("explain", bundle, "--inputs", tmp_path / "x.npy") == 0


UNSUPPORTED = {
    ("net.nir", "engine"): "is for bundles",
    ("net.nir", "twin"): "is for bundles",
    ("images.pt", "torch"): "is for bundles",
    ("net.nir", "onnx"): "is no chip network",
    ("images.pt", "netx"): "is no chip network",
    ("nir.deploy", "torch"): "agent.pt",
    ("nir.deploy", "twin"): "has no twin",
    ("module.deploy", "twin"): "has no twin",
    ("nir.deploy", "module.deploy"): "layers differ",
    ("nir.deploy", "nonsense"): "neither a backend",
    ("images.deploy", "netx"): "graded messages",
    ("net.nir", "images.pt"): "two different networks",
    ("images.pt", "net.nir"): "two different networks",
    ("net.nir", "module.deploy"): "two different networks",
    ("net.nir", "module.deploy/graph.default.nir"): "two different networks",
    ("nir.deploy/network.onnx", "images.pt"): "two different networks",
    ("nir.deploy/network.onnx", "net.py"): "no file that ends in",
    ("nir.deploy", "missing.nir"): "no such file",
    ("net.nir", "net.py"): "no file that ends in",
}


@pytest.mark.parametrize("pair", UNSUPPORTED, ids=" ".join)
def test_a_pair_that_cannot_be_compared_is_one_line(
    folder: Path,
    diff: Diff,
    pair: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MTSPARK_NETX_PYTHON", __file__)
    monkeypatch.chdir(folder)
    assert diff(pair[0], "--against", pair[1])[0] == 2
    error = capsys.readouterr().err
    assert UNSUPPORTED[pair] in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["nir.deploy", "module.deploy"])
def test_a_report_without_a_game_is_one_line(
    folder: Path, call: Call, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report", folder / name) == 2
    error = capsys.readouterr().err
    assert f"`mtspark eval {folder / name} --data x.npy --labels y.npy`" in error
    assert error.count("\n") == 1
    assert call("report", folder / name, "-o", tmp_path / "page.html") == 2
    error = capsys.readouterr().err
    assert "neither a game nor an image set" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
