"""Image sets of strangers: whatever is wrong with a file, one line, little memory, little time."""

from __future__ import annotations

import gzip
import io
import os
import random
import re
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mtspark.core.errors import BadFileError, MtsparkError
from mtspark.core.files.limits import FileLimits, Policy, set_policy
from mtspark.core.files.sandbox import BUG
from mtspark.train.images import data as image_sets
from mtspark.train.images.data import load_images

IMAGES, LABELS = np.arange(4 * 28 * 28).astype(np.uint8).reshape(4, 28, 28), np.arange(4)


@pytest.fixture
def trusted_files() -> None:
    """Here files are read as a stranger's are: in another process."""
    set_policy(None)


def idx(array: NDArray[np.uint8]) -> bytes:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def npz(compressed: bool = True, **arrays: object) -> bytes:
    file = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(file, **{"images": IMAGES, "labels": LABELS, **arrays})  # type: ignore[arg-type]
    return file.getvalue()


def jpegs() -> bytes:
    image_module = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for label in ("truck", "cat"):
            data = io.BytesIO()
            image_module.new("RGB", (32, 32), (200, 0, 0)).save(data, "JPEG")
            archive.writestr(f"train/{label}/0000.jpg", data.getvalue())
    return file.getvalue()


def write_mnist(folder: Path, images: bytes, labels: bytes | None = None, end: str = "") -> None:
    (folder / f"train-images-idx3-ubyte{end}").write_bytes(images)
    plain = idx(LABELS.astype(np.uint8))
    (folder / f"train-labels-idx1-ubyte{end}").write_bytes(
        labels if labels is not None else gzip.compress(plain) if end else plain
    )


def refused(folder: Path, name: str = "mnist") -> str:
    with pytest.raises(BadFileError) as caught:
        load_images(name, "train", folder)
    text = str(caught.value)
    assert text.isprintable()
    assert BUG not in text
    return text


def test_files_are_read_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose memory, time and rights are limited."""

    def here(*_: object) -> None:
        raise BadFileError(f"process {os.getpid()}")

    monkeypatch.setattr(image_sets, "_from_npz", here)
    text = refused(tmp_path)
    assert re.search(r"process \d+$", text)
    assert not text.endswith(f"process {os.getpid()}")


IDX = {
    "torn": (lambda data: data[:-1], "3,135 bytes of data"),
    "too long": (lambda data: data + b"x", "more bytes of data"),
    "another type": (lambda data: b"\0\0\x0d" + data[3:], "not an IDX file"),
    "no header": (lambda data: b"\0", "not an IDX file"),
    "many axes": (lambda data: data[:3] + b"\xff" + data[4:], "not an IDX file"),
    "huge": (lambda data: data[:4] + b"\xff" * 12 + data[16:], "array bytes"),
    "no axes": (lambda data: data[:3] + b"\0", "not an IDX file"),
}


@pytest.mark.parametrize(("damage", "says"), IDX.values(), ids=IDX)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx(tmp_path: Path, damage: Callable[[bytes], bytes], says: str, end: str) -> None:
    data = damage(idx(IMAGES))
    write_mnist(tmp_path, gzip.compress(data) if end else data, end=end)
    assert says in refused(tmp_path)


def test_gzip_that_is_damaged(tmp_path: Path) -> None:
    whole = gzip.compress(idx(IMAGES))
    for data in (whole[:-9], whole[:20], b"", whole[:30] + b"\xff" * 40 + whole[70:]):
        write_mnist(tmp_path, data, end=".gz")
        refused(tmp_path)


def test_a_gzip_that_swells_takes_no_memory(tmp_path: Path) -> None:
    """Zeros without end behind a header of four images."""
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb", 1) as file:
        file.write(idx(IMAGES))
        for _ in range(48):
            file.write(bytes(2**22))
    write = tmp_path / "train-labels-idx1-ubyte"
    write.write_bytes(idx(LABELS.astype(np.uint8)))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert "more bytes of data, its header says 3,136" in refused(tmp_path)
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert used <= max(before, own + 60_000)


def test_npz(tmp_path: Path) -> None:
    declared = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        declared, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 28, 28)}
    )
    torn = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        torn, {"descr": "|u1", "fortran_order": False, "shape": (9, 28, 28)}
    )

    def packed(member: bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy", member)
            archive.writestr("labels.npy", b"")
        return file.getvalue()

    cases = {
        "array bytes": packed(declared.getvalue()),
        "declares 7,056 bytes, holds 3": packed(torn.getvalue() + b"abc"),
        "no readable header": packed(b"no array"),
        "not hold a plain array of numbers": npz(labels=np.array(["a", "b"])),
        "has no array 'labels'": npz().replace(b"labels.npy", b"labelz.npy"),
        "of shape () with labels": npz(images=np.uint8(3)),
        "labels must be integers from 0 to 9": npz(labels=np.array([0, 1, 2, 2**63], np.uint64)),
        "not uint8 pixels": npz(images=np.zeros((4, 28, 28, 4), np.uint8)),
        "damaged": b"PK\x03\x04 nothing",
    }
    for says, data in cases.items():
        (tmp_path / "mnist_train.npz").write_bytes(data)
        assert says in refused(tmp_path), says


def test_images_of_a_file_have_an_upper_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_sets, "MOST_IMAGES", 3)
    (tmp_path / "mnist_train.npz").write_bytes(npz())
    assert "4 images, 3 is the limit" in refused(tmp_path)
    monkeypatch.setattr(image_sets, "MOST_IMAGES", 1)
    (tmp_path / "cifar10_jpeg.zip").write_bytes(jpegs())
    assert "2 files, 1 is the limit" in refused(tmp_path, "cifar10")


def test_a_header_of_python_that_nests_is_one_line(tmp_path: Path) -> None:
    header = b"(" * 9000
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(tmp_path / "mnist_train.npz", "w") as archive:
        archive.writestr("images.npy", member)
        archive.writestr("labels.npy", b"")
    assert "no readable header" in refused(tmp_path)


def test_jpegs(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")

    def with_image(data: bytes) -> None:
        with zipfile.ZipFile(tmp_path / "cifar10_jpeg.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("train/cat/\x1b[2J.jpg", data)

    large, png = io.BytesIO(), io.BytesIO()
    image_module.new("RGB", (9000, 9000)).save(large, "JPEG", quality=1)
    image_module.new("RGB", (32, 32)).save(png, "PNG")
    for data, says in (
        (large.getvalue()[: 2**20], "(9000, 9000) pixels, (32, 32) is the limit"),
        (bytes(2**21), "1048576 is the limit"),
        (png.getvalue(), "damaged"),
        (b"", "damaged"),
    ):
        with_image(data)
        assert says in refused(tmp_path, "cifar10")


SEEDS = {
    "mnist_train.npz": npz,
    "train-images-idx3-ubyte": lambda: idx(IMAGES),
    "train-images-idx3-ubyte.gz": lambda: gzip.compress(idx(IMAGES)),
    "cifar10_jpeg.zip": jpegs,
}


@pytest.mark.parametrize("name", SEEDS)
def test_mutated_files_are_read_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    """Bytes changed, cut out and doubled, as the fuzzer does it; seeded."""
    generator = random.Random(name)
    set_policy(Policy(FileLimits(seconds=5, memory_bytes=2**28, array_bytes=2**26)))
    seed = SEEDS[name]()
    try:
        for _ in range(8):
            data = bytearray(seed)
            for _ in range(generator.choice((1, 1, 2, 5))):
                at = generator.randrange(len(data) + 1)
                kind = generator.randrange(4)
                if kind == 0:
                    del data[at : at + generator.randrange(1, 40)]
                elif kind == 1:
                    data[at:at] = data[max(0, at - 8) : at]
                elif at < len(data):
                    data[at] = generator.choice((0, 1, 127, 128, 255, data[at] ^ 1))
            write_mnist(tmp_path, idx(IMAGES))
            (tmp_path / "train-images-idx3-ubyte").unlink()
            (tmp_path / name).write_bytes(data)
            text = ""
            try:
                load_images("cifar10" if "cifar" in name else "mnist", "train", tmp_path)
            except MtsparkError as error:
                text = str(error)
            assert text.isprintable()
            assert BUG not in text, bytes(data)
    finally:
        set_policy(None)
