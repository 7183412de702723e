"""Versions in files: the whole number that this mtspark reads, and nothing that equals it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import onnx
import pytest
import torch

from mtspark.convert.nir import import_nir
from mtspark.convert.onnx import float_step_model
from mtspark.core.errors import BadFileError
from mtspark.core.files import save_onnx
from mtspark.deploy.bundle import load_bundle, load_network, write_bundle
from mtspark.deploy.chips.model import load_chip
from mtspark.deploy.formats import integer_model
from mtspark.deploy.mapping.mapper import map_network
from mtspark.deploy.mapping.serialise import load_mapping
from mtspark.sim.backends import OnnxChip
from mtspark.train.checkpoint import Agent, load_agent, save_agent
from mtspark.workflows.diff.sides import open_side
from tests.support.networks import three_neurons

NONE = [True, 1.0, 2.0, "1", None, 0, 99, [1], {"a": "\x1b[2J" * 100}]


def manifest(folder: Path, _: Agent) -> Callable[[Any], object]:
    write_bundle(folder / "a", three_neurons())
    return _edited(folder / "a" / "manifest.json", lambda: load_bundle(folder / "a"))


def chip_network(folder: Path, _: Agent) -> Callable[[Any], object]:
    write_bundle(folder / "a", three_neurons())
    return _edited(folder / "a" / "network.json", lambda: load_network(folder / "a"))


def mapping(folder: Path, _: Agent) -> Callable[[Any], object]:
    path = folder / "map.json"
    path.write_text(json.dumps(map_network(three_neurons(), load_chip("loihi1")).to_json()))
    return _edited(path, lambda: load_mapping(path))


def _edited(path: Path, look: Callable[[], object]) -> Callable[[Any], object]:
    def attempt(version: Any) -> object:
        if version is not ...:
            path.write_text(json.dumps({**json.loads(path.read_text()), "version": version}))
        return look()

    return attempt


def checkpoint(folder: Path, agent: Agent) -> Callable[[Any], object]:
    path = folder / "agent.pt"
    save_agent(agent, path)
    content = torch.load(path)

    def attempt(version: Any) -> object:
        if version is not ...:
            torch.save({**content, "version": version}, path)
        return load_agent(path)

    return attempt


def integer_step(folder: Path, _: Agent) -> Callable[[Any], object]:
    return _described(integer_model(three_neurons()), folder / "a.onnx", OnnxChip)


def float_step(folder: Path, agent: Agent) -> Callable[[Any], object]:
    return _described(float_step_model(agent), folder / "a.onnx", lambda path: open_side(str(path)))


def _described(
    model: onnx.ModelProto, path: Path, look: Callable[[Path], object]
) -> Callable[[Any], object]:
    def attempt(version: Any) -> object:
        (entry,) = [entry for entry in model.metadata_props if "mtspark" in entry.key]
        if version is not ...:
            entry.value = json.dumps({**json.loads(entry.value), "version": version})
        save_onnx(model, path)
        return look(path)

    return attempt


@pytest.mark.parametrize(
    "make", [manifest, chip_network, mapping, checkpoint, integer_step, float_step]
)
@pytest.mark.slow
def test_a_version_that_is_none_is_refused_in_one_line(
    tmp_path: Path, tiny_agent: Agent, make: Callable[..., Callable[[Any], object]]
) -> None:
    attempt = make(tmp_path, tiny_agent)
    attempt(...)
    for version in NONE:
        with pytest.raises(BadFileError) as caught:
            attempt(version)
        line = str(caught.value)
        assert line.isprintable()
        assert len(line) < 400
        assert "version" in line or "no integer network of this mtspark" in line


def graph(path: Path) -> Path:
    one = np.ones(1)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([1])}),
        "fc": nir.Linear(weight=np.ones((1, 1))),
        "lif": nir.LIF(tau=4 * one, r=one, v_leak=0 * one, v_threshold=one),
        "output": nir.Output(output_type={"output": np.array([1])}),
    }
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "output")]
    nir.write(str(path), nir.NIRGraph(nodes, edges))
    return path


@pytest.mark.parametrize(
    "version", ["999", "999.0.0", "2.0.0", 999, 1, 1.0, True, "banana", "", b"2.1", "9" * 500]
)
def test_a_graph_of_a_nir_that_is_not_known_is_refused_in_one_line(
    tmp_path: Path, version: Any
) -> None:
    path = graph(tmp_path / "a.nir")
    with h5py.File(path, "r+") as file:
        del file["version"]
        file["version"] = version
    with pytest.raises(BadFileError, match=r"NIR version .*; mtspark reads 0\.x to 1\.x") as caught:
        import_nir(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("version", [None, "0.1.1", b"0.2.0", "1.0.8", "1.0.5.dev3+gabc", "1"])
def test_graphs_of_known_versions_are_read(tmp_path: Path, version: Any) -> None:
    path = graph(tmp_path / "a.nir")
    with h5py.File(path, "r+") as file:
        del file["version"]
        if version is not None:
            file["version"] = version
    assert [population.name for population in import_nir(path).populations] == ["lif"]
