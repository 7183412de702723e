"""Graphs of strangers are read, understood and built in a limited process, not in this one."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from mtspark.convert import netx as netx_import
from mtspark.convert.netx import import_netx
from mtspark.convert.nir import reader as nir_import
from mtspark.convert.nir.annotate import copy_with_choices
from mtspark.convert.nir.neurons import ImportOptions, Integrator
from mtspark.convert.nir.reader import import_graph, import_nir, import_nir_tasks
from mtspark.core.errors import BadFileError, BadNetworkError
from mtspark.core.files.handover import decode, encode
from mtspark.core.files.limits import FileLimits
from mtspark.core.float_network.handover import float_network_from_plain, float_network_to_plain
from mtspark.core.float_network.network import FloatNetwork
from tests.support.random_graphs import random_graph

LIMITS = FileLimits(seconds=60, memory_bytes=64 * 2**20)


def assert_same(one: FloatNetwork, other: FloatNetwork) -> None:
    for key, value in vars(one).items():
        if key not in ("populations", "connections"):
            assert value == vars(other)[key], key
    for part in ("populations", "connections"):
        ones, others = getattr(one, part), getattr(other, part)
        assert [p.name for p in ones] == [p.name for p in others]
        for first, second in zip(ones, others, strict=True):
            assert type(first) is type(second)
            for key, value in vars(first).items():
                found = vars(second)[key]
                assert type(found) is type(value), key
                if isinstance(value, np.ndarray):
                    assert found.dtype == value.dtype
                    assert np.array_equal(found, value)
                else:
                    assert found == value


def neurons(count: int, path: Path, **metadata: Any) -> Path:
    """Neurons without weights: the file is small whatever `count` is."""
    one = np.ones(1)
    nir.write(
        str(path),
        nir.NIRGraph(
            nodes={
                "input": nir.Input(input_type={"input": np.array([count])}),
                "if": nir.IF(r=one, v_threshold=one, v_reset=0 * one),
                "output": nir.Output(output_type={"output": np.array([count])}),
            },
            edges=[("input", "if"), ("if", "output")],
            metadata={"mtspark": metadata} if metadata else {},
            type_check=False,
        ),
    )
    return path


@pytest.mark.parametrize("seed", range(3))
def test_a_network_is_handed_over_whole(tmp_path: Path, seed: int) -> None:
    graph = random_graph(seed).graph
    made = import_graph(graph, name="g")
    again = decode(bytearray().join(encode(float_network_to_plain(made))))
    assert_same(made, float_network_from_plain(again, "g"))


def test_a_nir_file_is_understood_in_another_process(
    golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = golden / "lif" / "lif_norse.nir"
    plain = import_nir(path)
    assert_same(plain, import_nir(path, trust=True))

    def here(*given: Any, **named: Any) -> FloatNetwork:
        raise BadNetworkError(f"process {os.getpid()};")

    monkeypatch.setattr(nir_import, "import_graph", here)
    with pytest.raises(BadNetworkError, match=r"process \d+;") as caught:
        import_nir(path)
    assert f"process {os.getpid()};" not in str(caught.value)
    with pytest.raises(BadNetworkError, match=f"process {os.getpid()};"):
        import_nir(path, trust=True)


def test_a_netx_file_is_understood_in_another_process(
    golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = golden / "pilotnet_lif" / "network.net"

    def here(*given: Any) -> None:
        raise BadNetworkError(f"process {os.getpid()};")

    monkeypatch.setattr(netx_import, "_add_layer", here)
    with pytest.raises(BadNetworkError, match=r"layer 0: process \d+;") as caught:
        import_netx(path)
    assert f"process {os.getpid()};" not in str(caught.value)
    with pytest.raises(BadNetworkError, match=f"process {os.getpid()};"):
        import_netx(path, trust=True)


def test_a_small_file_that_makes_a_huge_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="needs more than 67,108,864 bytes of memory"):
        import_nir(neurons(2**23, tmp_path / "huge.nir"), limits=LIMITS)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (FileLimits(neurons=99), "100 neurons, 99 is the limit"),
        (FileLimits(time_steps=6), "7 time steps, 6 is the limit"),
    ],
)
@pytest.mark.parametrize("trust", [False, True])
def test_sizes_that_a_file_declares_are_limited(
    tmp_path: Path, limits: FileLimits, says: str, trust: bool
) -> None:
    path = neurons(100, tmp_path / "n.nir", time_steps=7)
    with pytest.raises(BadFileError, match=says):
        import_nir(path, limits=limits, trust=trust)
    assert import_nir(path).time_steps == 7


def test_a_padding_or_a_delay_over_the_limit(tmp_path: Path) -> None:
    nodes = {
        "input": nir.Input(input_type={"input": np.array([1, 2, 2])}),
        "conv": nir.Conv2d((2, 2), np.ones((1, 1, 1, 1)), 300, 300, 1, 1, np.zeros(1)),
        "delay": nir.Delay(np.full((1, 3, 3), 5.0)),
        "if": nir.IF(*[np.ones((1, 3, 3))] * 2, v_reset=np.zeros((1, 3, 3))),
        "output": nir.Output(output_type={"output": np.array([1, 3, 3])}),
    }
    names = list(nodes)
    graph = nir.NIRGraph(nodes, list(pairwise(names)), type_check=False)
    nir.write(str(tmp_path / "g.nir"), graph)
    options = ImportOptions(dt=1.0)
    with pytest.raises(BadFileError, match="with its padding: 362,404 neurons, 1,000 is"):
        import_nir(tmp_path / "g.nir", options, limits=FileLimits(neurons=1000))
    with pytest.raises(BadFileError, match="5 time steps, 4 is the limit"):
        import_nir(tmp_path / "g.nir", options, limits=FileLimits(time_steps=4))


def test_tasks_are_read_one_by_one_and_joined(tmp_path: Path) -> None:
    paths = {name: neurons(3, tmp_path / f"{name}.nir") for name in ("a", "b")}
    with h5py.File(paths["b"], "r+") as file:
        file["node/nodes/if/v_threshold"][...] = 2.5
    network = import_nir_tasks(paths, name="both")
    assert (network.name, network.tasks) == ("both", ("a", "b"))
    thresholds = network.populations[0].thresholds
    assert thresholds is not None
    assert thresholds.tolist() == [[1.0] * 3, [2.5] * 3]


def test_a_copy_keeps_everything_and_is_written_anew(golden: Path, tmp_path: Path) -> None:
    source, target = golden / "lif" / "lif_norse.nir", tmp_path / "copy.nir"
    options = ImportOptions(dt=1e-4, integrator=Integrator.EXPONENTIAL)
    network = import_nir(source, options)
    target.write_bytes(copy_with_choices(source, options, network))
    assert_same(FloatNetwork(**{**vars(network), "name": "copy"}), import_nir(target))
    theirs, ours = nir.read(str(source)), nir.read(str(target))
    assert ours.edges == theirs.edges
    for name, node in theirs.nodes.items():
        for key, value in vars(node).items():
            if isinstance(value, np.ndarray):
                assert value.dtype == vars(ours.nodes[name])[key].dtype
                assert np.array_equal(value, vars(ours.nodes[name])[key])
