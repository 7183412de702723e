"""Recordings and image sets with changed bytes: read, or refused in one line."""

from __future__ import annotations

import gzip
import io
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtspark.core.errors import MtsparkError
from mtspark.core.files.limits import FileLimits, Policy, set_policy
from mtspark.core.files.sandbox import BUG
from mtspark.sim.recording import as_messages, load_inputs
from mtspark.train.images import load_images
from tests.support.networks import three_neurons

FILES = 60
TOKENS = (
    *(b"\0", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"(", b"{", b"'|O'"),
    *(
        b"9" * 30,
        b"-1",
        b"None",
        b"'<f8'",
        b"'>u2'",
        b"True",
        b"lambda:0",
        b"1,)",
        b"\n",
        b"\x1b[2J",
    ),
)


@pytest.fixture(autouse=True)
def in_this_process() -> Iterator[None]:
    """Without a child for each file, so that more of them can be read."""
    set_policy(Policy(FileLimits(), trust=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    set_policy(None)


def npy(values: Any) -> bytes:
    with io.BytesIO() as file:
        np.save(file, values)
        return file.getvalue()


def npz(**arrays: Any) -> bytes:
    with io.BytesIO() as file:
        np.savez_compressed(file, **arrays)
        return file.getvalue()


def jpegs() -> bytes:
    with io.BytesIO() as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, kind in enumerate(("cat", "dog", "truck")):
            with io.BytesIO() as image:
                pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(image, "JPEG")
                archive.writestr(f"test/{kind}/{number}.jpg", image.getvalue())
        archive.close()
        return file.getvalue()


def idx(values: Any) -> bytes:
    head = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(
        f">{values.ndim}I", *values.shape
    )
    return head + values.tobytes()


PIXELS, LABELS = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8), np.arange(3)
IMAGES, NAMES = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SERIES = (np.arange(40).reshape(20, 2) % 2).astype(np.float32)


def play(path: Path) -> None:
    network = three_neurons()
    as_messages(load_inputs(path, network)[0], network, path)


def images(name: str) -> Callable[[Path], Any]:
    return lambda path: load_images(name, "test", path.parent)


CASES: dict[str, tuple[str, bytes, dict[str, bytes], Callable[[Path], Any]]] = {
    "recording": ("a.npy", npy(SERIES), {}, play),
    "columns": ("a.npy", npy(np.asfortranarray(SERIES.astype(">i2"))), {}, play),
    "npz": ("mnist_test.npz", npz(images=PIXELS, labels=LABELS), {}, images("mnist")),
    "idx": (IMAGES, idx(PIXELS), {NAMES: idx(LABELS.astype(np.uint8))}, images("mnist")),
    "labels": (NAMES, idx(LABELS.astype(np.uint8)), {IMAGES: idx(PIXELS)}, images("mnist")),
    "idx.gz": (
        f"{IMAGES}.gz",
        gzip.compress(idx(PIXELS), mtime=0),
        {NAMES: idx(LABELS.astype(np.uint8))},
        images("mnist"),
    ),
    "jpeg": ("cifar10_jpeg.zip", jpegs(), {}, images("cifar10")),
}


def changed(seed: bytes, generator: random.Random) -> bytes:
    data = bytearray(seed)
    # Most of what is to be got wrong stands in headers, at the start or, of archives, at the end.
    ends = (len(data), min(len(data), 160))
    for _ in range(generator.choice((1, 1, 2, 5))):
        at = generator.randrange(generator.choice(ends))
        at = generator.choice((at, len(data) - 1 - at)) % len(data)
        what = generator.randrange(4)
        if what == 0:
            data[at] ^= 1 << generator.randrange(8)
        elif what == 1:
            data[at : at + generator.choice((0, 1, 5, 30))] = generator.choice(TOKENS)
        elif what == 2:
            token = generator.choice(TOKENS)
            data[at : at + len(token)] = token
        elif generator.random() < 0.2:
            del data[at:]
        data = data or bytearray(b"\0")
    return bytes(data)


@pytest.mark.parametrize("name", CASES)
def test_changed_files_are_read_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    file, seed, beside, read = CASES[name]
    for other, content in beside.items():
        (tmp_path / other).write_bytes(content)
    path, generator, refused = tmp_path / file, random.Random(name), 0
    path.write_bytes(seed)
    read(path)
    for _ in range(FILES):
        content = changed(seed, generator)
        path.write_bytes(content)
        text = ""
        try:
            read(path)
        except MtsparkError as error:
            text = str(error)
            refused += 1
        assert text.isprintable(), text
        assert BUG not in text, (text, content)
    assert refused > FILES / 5
