from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mtspark.core.errors import BadFileError
from mtspark.core.files.hdf5 import read_hdf5
from mtspark.core.files.limits import FileLimits

TEXT = h5py.string_dtype()
REFERENCE = h5py.ref_dtype
Make = Callable[[h5py.File], None]


def made(folder: Path, make: Make) -> Path:
    path = folder / "graph.nir"
    with h5py.File(path, "w") as file:
        file.create_dataset("version", data="1.0", dtype=TEXT)
        file.create_dataset("node/weight", data=np.ones((2, 3), np.float32), compression="gzip")
        make(file)
    return path


def refusal(folder: Path, make: Make, limits: FileLimits | None = None) -> str:
    with pytest.raises(BadFileError) as caught:
        read_hdf5(made(folder, make), limits)
    text = str(caught.value)
    assert "graph.nir" in text
    assert "\n" not in text
    return text


def test_what_belongs_into_such_a_file_is_read(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        node = file["node"]
        node.create_dataset("type", data="NIRGraph", dtype=TEXT)
        node.create_dataset("edges", data=[["a", "b"], ["b", "ü"]], dtype=TEXT)
        node.create_dataset("stride", data=np.int64(2))
        node.create_dataset("padding", data="same", dtype=TEXT)
        node.create_dataset("empty", data=np.zeros((0, 3)))
        node.create_dataset("half", data=np.ones(3, np.float16), chunks=(2,), shuffle=True)
        node.create_dataset("flag", data=np.array([True, False]))
        node.create_dataset("fixed", data=np.array([b"dense"], "S10"))
        node.create_dataset("metadata/by/whom", data="me\nand you", dtype=TEXT)
        node.create_dataset("big", data=np.array([1, 2], ">i4"), fletcher32=True, chunks=(2,))

    content = read_hdf5(made(tmp_path, make))
    assert content["version"] == "1.0"
    node = content["node"]
    assert node["weight"].tolist() == [[1] * 3] * 2
    assert node["weight"].dtype == np.float32
    assert node["edges"] == [["a", "b"], ["b", "ü"]]
    assert type(node["stride"]) is np.int64
    assert node["padding"] == "same"
    assert node["empty"].shape == (0, 3)
    assert node["half"].dtype == np.float16
    assert node["flag"].tolist() == [True, False]
    assert node["fixed"] == ["dense"]
    assert node["metadata"] == {"by": {"whom": "me\nand you"}}
    assert node["big"].tolist() == [1, 2]


def test_values_in_another_file_are_refused(tmp_path: Path) -> None:
    """Read by nir alone, the weights of this file are the bytes of another one."""
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(6, dtype=np.float64).tobytes())

    def make(file: h5py.File) -> None:
        outside = [(str(secret), 0, 48)]
        file.create_dataset("node/leak", (2, 3), np.float64, external=outside)

    path = made(tmp_path, make)
    with h5py.File(path) as file:
        assert file["node/leak"][1, 2] == 5
    assert "in another file" in refusal(tmp_path, make)
    with pytest.raises(BadFileError, match="in another file"):
        read_hdf5(path, trust=True)


def test_links_to_elsewhere_are_refused(tmp_path: Path) -> None:
    def external(file: h5py.File) -> None:
        file["node/other"] = h5py.ExternalLink("other.h5", "/")

    def soft(file: h5py.File) -> None:
        file["node/again"] = h5py.SoftLink("/node")

    assert "ExternalLink" in refusal(tmp_path, external)
    assert "SoftLink" in refusal(tmp_path, soft)


def test_a_circle_is_refused(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file["node/self"] = file["node"]

    assert "two names" in refusal(tmp_path, make)


def test_a_second_name_of_an_array_is_refused(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file["node/copy"] = file["node/weight"]

    assert "two names" in refusal(tmp_path, make)


def test_a_virtual_dataset_is_refused(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4,), np.float64)
        layout[:] = h5py.VirtualSource("other.h5", "data", (4,))
        file.create_virtual_dataset("node/v", layout)

    assert "virtual" in refusal(tmp_path, make)


def test_a_huge_array_is_refused_before_it_is_read(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file.create_dataset("node/w", (40_000, 40_000), np.float64, chunks=(100, 100))

    assert "--limit array_bytes" in refusal(tmp_path, make)


def test_many_arrays_together_are_limited(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        for index in range(20):
            file.create_dataset(f"node/{index}", data=np.zeros(1000), compression="gzip")

    assert "total_bytes" in refusal(tmp_path, make, FileLimits(total_bytes=100_000))


def test_a_huge_chunk_is_refused(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        space = h5py.h5s.create_simple((4,), (2**40,))
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((2**28,))
        h5py.h5d.create(file["node"].id, b"c", h5py.h5t.NATIVE_DOUBLE, space, made)

    assert "a chunk" in refusal(tmp_path, make)


def test_values_that_are_not_there_are_refused(tmp_path: Path) -> None:
    def contiguous(file: h5py.File) -> None:
        file.create_dataset("node/w", (1000, 1000), np.float64)

    def chunked(file: h5py.File) -> None:
        data = file.create_dataset("node/w", (100, 100), np.float64, chunks=(10, 10))
        data[:10, :10] = 1

    assert "lacks some" in refusal(tmp_path, contiguous)
    assert "lacks some" in refusal(tmp_path, chunked)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (REFERENCE, None),
        (h5py.vlen_dtype(np.float64), None),
        (np.dtype([("a", np.int32), ("b", np.float64)]), None),
        (np.complex64, 1j),
        (np.dtype("V8"), None),
        (np.dtype((np.float64, (3,))), None),
        (np.longdouble, 1.0),
    ],
    ids=str,
)
def test_other_types_of_values_are_refused(tmp_path: Path, dtype: object, value: object) -> None:
    def make(file: h5py.File) -> None:
        data = file.create_dataset("node/bias", (2,), dtype)
        if value is not None:
            data[...] = value

    assert "/node/bias holds" in refusal(tmp_path, make)


def test_what_is_no_danger_is_left_to_the_importer(tmp_path: Path) -> None:
    """Texts, infinite numbers and arrays without a shape: only their reader knows what for."""

    def make(file: h5py.File) -> None:
        node = file["node"]
        node.create_dataset("activation", data="relu", dtype=TEXT)
        node.create_dataset("author", data=[b"me\r\nand you", b"\xe9"], dtype=TEXT)
        node.create_dataset("fixed", data=np.array([b"caf\xe9"]))
        node.create_dataset("tau", data=np.array([np.inf, -np.inf, np.nan]))
        node.create_dataset("nothing", data=h5py.Empty(np.float64))

    node = read_hdf5(made(tmp_path, make))["node"]
    assert node["activation"] == "relu"
    assert node["author"] == ["me\nand you", "\ufffd"]
    assert node["fixed"] == ["caf\ufffd"]
    np.testing.assert_array_equal(node["tau"], [np.inf, -np.inf, np.nan])
    assert node["nothing"] is None


def test_an_unknown_filter_is_refused(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((4,))
        made.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file["node"].id, b"z", h5py.h5t.NATIVE_DOUBLE, space, made)

    assert "filters" in refusal(tmp_path, make)


def test_a_named_type_is_refused(tmp_path: Path) -> None:
    def named(file: h5py.File) -> None:
        file["node/t"] = np.dtype(np.float64)

    assert "neither a group nor an array" in refusal(tmp_path, named)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "z" * 201, "\u202e"])
def test_names_that_cannot_be_shown_are_refused(tmp_path: Path, name: str) -> None:
    assert "name" in refusal(tmp_path, lambda file: file["node"].create_group(name))


def test_depth_and_number_are_limited(tmp_path: Path) -> None:
    assert "depth" in refusal(tmp_path, lambda file: file.create_group("/".join("a" * 40)))

    def many(file: h5py.File) -> None:
        for index in range(120):
            file.create_group(f"node/{index}")

    assert "objects" in refusal(tmp_path, many, FileLimits(objects=100))


def test_text_that_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file.create_dataset("node/type", data="\x1b]0;owned", dtype=TEXT)

    assert "cannot be printed" in refusal(tmp_path, make)


@pytest.mark.parametrize("content", [b"", b"\x89HDF", b"no", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_what_is_no_hdf5_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "graph.nir"
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=r"graph\.nir"):
        read_hdf5(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path, lambda file: None)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadFileError, match="damaged"):
        read_hdf5(path)
