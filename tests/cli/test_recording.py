from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtspark.core.errors import BadFileError
from mtspark.sim.recording.inputs import load_array


def test_an_array_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", values)
    found = load_array(tmp_path / "a.npy")
    assert not isinstance(found, np.memmap)
    assert found.dtype == np.int16
    assert np.array_equal(found, values)


def test_an_array_that_declares_more_than_the_file_holds_takes_no_memory(tmp_path: Path) -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**36,)}
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(64))
    with pytest.raises(BadFileError, match=r"a\.npy: no readable \.npy file") as caught:
        load_array(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "kind", ["objects", "texts", "archive", "damaged", "nothing", "noise", "none"]
)
def test_what_is_no_array_of_numbers_is_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npy"
    if kind == "objects":
        np.save(path, np.array([None]), allow_pickle=True)
    elif kind == "texts":
        np.save(path, np.array(["a"]))
    elif kind == "archive":
        np.savez(tmp_path / "a.npz", a=np.ones(2))
        (tmp_path / "a.npz").rename(path)
    elif kind == "damaged":
        path.write_bytes(b"PK\x03\x04")
    elif kind != "none":
        path.write_bytes(b"" if kind == "nothing" else b"\x93NUMPY\x01\x00" + b"\xff" * 80)
    with pytest.raises(BadFileError, match=r"a\.npy: ") as caught:
        load_array(path)
    assert "\n" not in str(caught.value)
