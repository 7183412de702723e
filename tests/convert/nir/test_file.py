from __future__ import annotations

from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from mtspark.convert.nir.file import read_nir
from mtspark.core.errors import BadFileError

TEXT = h5py.string_dtype()


def two_layers() -> nir.NIRGraph:
    ones = np.ones(2)
    return nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type={"input": np.array([3])}),
            "fc": nir.Affine(weight=np.arange(6.0).reshape(2, 3), bias=ones),
            "lif": nir.LIF(ones, ones, 0 * ones, ones, 0 * ones),
            "output": nir.Output(output_type={"output": np.array([2])}),
        },
        edges=[("input", "fc"), ("fc", "lif"), ("lif", "output")],
        metadata={"by": {"tool": "a tool", "steps": 4}},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    nir.write(str(tmp_path / "graph.nir"), two_layers())
    return tmp_path / "graph.nir"


def test_a_graph_is_read_as_nir_reads_it(path: Path) -> None:
    ours, theirs = read_nir(path), nir.read(str(path))
    assert ours.edges == theirs.edges
    assert ours.metadata["by"]["tool"] == "a tool"
    for name, node in theirs.nodes.items():
        assert type(ours.nodes[name]) is type(node)
        for key, value in vars(node).items():
            if isinstance(value, np.ndarray):
                assert np.array_equal(value, vars(ours.nodes[name])[key])
                assert value.dtype == vars(ours.nodes[name])[key].dtype


def test_nested_graphs_are_read(tmp_path: Path) -> None:
    inner = two_layers()
    outer = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type={"input": np.array([3])}),
            "inner": inner,
            "output": nir.Output(output_type={"output": np.array([2])}),
        },
        edges=[("input", "inner"), ("inner", "output")],
    )
    nir.write(str(tmp_path / "n.nir"), outer)
    again = read_nir(tmp_path / "n.nir").nodes["inner"]
    assert isinstance(again, nir.NIRGraph)
    assert np.array_equal(again.nodes["fc"].weight, inner.nodes["fc"].weight)


@pytest.mark.parametrize("name", ["lif/lif_norse.nir", "cnn/cnn_sinabs.nir"])
def test_public_graphs_are_read(golden: Path, name: str) -> None:
    ours, theirs = read_nir(golden / name), nir.read(str(golden / name))
    assert list(ours.nodes) == list(theirs.nodes)
    assert ours.edges == theirs.edges


def test_the_bytes_of_another_file_never_become_weights(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"top secret " * 10)
    with h5py.File(path, "r+") as file:
        del file["node/nodes/fc/weight"]
        file.create_dataset(
            "node/nodes/fc/weight", (2, 3), np.float64, external=[(str(secret), 0, 48)]
        )
    leaked = nir.read(str(path)).nodes["fc"].weight.tobytes()
    assert leaked.startswith(b"top secret")
    with pytest.raises(BadFileError, match="/node/nodes/fc/weight keeps its values in another"):
        read_nir(path)


def change(path: Path, name: str, value: object, dtype: object = None) -> None:
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        if value is not None:
            file.create_dataset(name, data=value, dtype=dtype)


@pytest.mark.parametrize(
    ("name", "value", "dtype", "says"),
    [
        ("node/type", "LIF", TEXT, "no NIR graph"),
        ("node/type", np.ones(4), None, "no NIR graph"),
        ("node", None, None, "no NIR graph"),
        ("node/nodes/fc/type", "Sigmoid", TEXT, "not a readable NIR graph"),
        ("node/nodes/fc/type", "MaxPool2d", TEXT, "SumPool2d, then a Threshold of 0.5"),
        ("node/nodes/fc/type", "__builtins__", TEXT, "not a readable NIR graph"),
        ("node/nodes/fc/more", 3, None, "node 'fc' .Affine. has a field 'more', which NIR"),
        ("node/nodes/fc/weight", None, None, "node 'fc' .Affine. has no weight"),
        ("node/nodes/lif/v_leak", None, None, "node 'lif' .LIF. has no v_leak"),
        ("node/nodes/fc/weight", np.ones((5, 7)), None, "not a readable NIR graph"),
        ("node/nodes/fc/weight", np.ones(3), None, "weight has shape .3,.; Affine weights have 2"),
        ("node/nodes/fc/weight", "text", TEXT, "node 'fc' .Affine.: weight is a text"),
        ("node/nodes/lif/tau", np.ones(3), None, "different shapes .r .2,., tau .3,."),
        ("node/nodes/input/shape", np.array([np.inf]), None, "'input' .Input.: shape is .inf."),
        ("node/nodes/input/shape", np.array([-1]), None, "sizes begin at 1"),
        ("node/edges", [["input", "gone"]], TEXT, "not a readable NIR graph"),
        ("node/edges", np.ones(3), None, "are no pairs of names"),
        ("node/type_check", 0, None, "no part of a NIR graph"),
    ],
)
def test_malformed_graphs_are_refused(
    path: Path, name: str, value: object, dtype: object, says: str
) -> None:
    change(path, name, value, dtype)
    with pytest.raises(BadFileError, match=says) as caught:
        read_nir(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["node/nodes/input/shape", "node/nodes/lif/tau", "node/edges"])
def test_a_group_in_place_of_an_array_is_refused(path: Path, name: str) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_group(name)
    with pytest.raises(BadFileError, match="is a group where an array belongs"):
        read_nir(path, type_check=False)


def test_loose_shapes_are_read_where_the_caller_says_so(path: Path) -> None:
    change(path, "node/nodes/lif/tau", np.ones(2))
    change(path, "node/nodes/output/shape", np.array([5]))
    with pytest.raises(BadFileError, match="not a readable NIR graph"):
        read_nir(path)
    assert "lif" in read_nir(path, type_check=False).nodes
