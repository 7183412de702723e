"""Bundles made to do harm; their manifests are right, so only the content is at fault."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from mtspark.core.errors import BadFileError, MtsparkError
from mtspark.core.files.limits import FileLimits
from mtspark.deploy.bundle import load_bundle, load_network, sha256, write_bundle
from tests.support.networks import conv, network, population, three_neurons

HUGE = 10**30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    net = network(
        (1, 4, 5),
        [population("c", np.ones((1, 2, 4, 5)))],
        [conv("input", "c", np.ones((2, 1, 3, 3)) * 2, padding=(1, 1))],
    )
    return write_bundle(tmp_path / "a.deploy", net).folder


def signed(folder: Path) -> None:
    """Give the manifest the sums of the files as they are now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: sha256(folder / name) for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def change(folder: Path, edit: Callable[[Any], None]) -> None:
    data = json.loads((folder / "network.json").read_text())
    edit(data)
    (folder / "network.json").write_text(json.dumps(data))
    signed(folder)


def refused(folder: Path, limits: FileLimits | None = None) -> str:
    for trust in (False, True):
        began = time.process_time()
        with pytest.raises(MtsparkError) as caught:
            load_bundle(folder, limits, trust)
        assert "\n" not in str(caught.value)
        assert time.process_time() - began < 5
    return str(caught.value)


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("input", "shape", [1, 2**32, 2**32]),
        ("input", "shape", [1, HUGE, 5]),
        ("connections", "padding", [10**9, 10**9]),
        ("connections", "padding", [HUGE, 1]),
        ("connections", "stride", [HUGE, HUGE]),
        ("connections", "dilation", [HUGE, 1]),
        ("connections", "groups", HUGE),
        ("connections", "delay", HUGE),
        ("connections", "exponent", HUGE),
        ("populations", "shape", [2**32, 2**32, 1]),
        ("populations", "membrane_decay", HUGE),
        ("populations", "bias_exponent", -HUGE),
        ("populations", "name", "n" * 10_000),
        ("populations", "name", "\x1b[2J"),
        (None, "time_steps", HUGE),
        (None, "name", "a\nb"),
        (None, "tasks", [{}] * 100_000),
    ],
)
def test_declared_sizes_and_names_are_limited(
    folder: Path, where: str | None, key: str, value: Any
) -> None:
    def edit(data: Any) -> None:
        entry = data if where is None else data[where]
        (entry[0] if isinstance(entry, list) else entry)[key] = value

    change(folder, edit)
    refused(folder)


def test_many_populations_are_limited(folder: Path) -> None:
    change(folder, lambda data: data.update(populations=data["populations"] * 30_000))
    refused(folder)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "9" * 5000, "[" * 100_000])
def test_json_that_is_none_is_refused(folder: Path, text: str) -> None:
    whole = (folder / "network.json").read_text()
    (folder / "network.json").write_text(whole.replace('"scale": 1.0', f'"scale": {text}'))
    signed(folder)
    refused(folder)


def header(folder: Path, length: int, text: bytes, rest: bytes = b"") -> None:
    (folder / "network.safetensors").write_bytes(struct.pack("<Q", length) + text + rest)
    signed(folder)


def test_a_false_safetensors_header_is_refused(folder: Path) -> None:
    header(folder, 2**62, b"{}")
    assert "text_bytes" in refused(folder)
    header(folder, 2**20, b"{}")
    refused(folder)
    entry = {"w": {"dtype": "I16", "shape": [10**9], "data_offsets": [0, 2 * 10**9]}}
    text = json.dumps(entry).encode()
    header(folder, len(text), text, bytes(8))
    refused(folder)
    entry["w"]["shape"] = [2**40, 2**40]
    text = json.dumps(entry).encode()
    header(folder, len(text), text, bytes(8))
    refused(folder)
    header(folder, 0, b"")
    refused(folder)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.bool_, np.float16])
def test_arrays_of_other_types_are_refused_or_equal(folder: Path, dtype: Any) -> None:
    arrays = load_file(folder / "network.safetensors")
    arrays["input->c.weights"] = arrays["input->c.weights"].astype(dtype)
    (folder / "network.safetensors").write_bytes(save(arrays))
    signed(folder)
    if dtype is np.uint8:
        assert load_bundle(folder).network.connections[0].weights.max() == 2
    else:
        assert "integers are needed" in refused(folder)


@pytest.mark.parametrize(
    "limits",
    [
        FileLimits(file_bytes=100),
        FileLimits(text_bytes=100),
        FileLimits(objects=1),
        FileLimits(neurons=10),
        FileLimits(time_steps=1),
    ],
)
def test_limits_hold(folder: Path, limits: FileLimits) -> None:
    assert "is the limit" in refused(folder, limits)
    load_bundle(folder)


@pytest.mark.parametrize("name", ["network.json", "network.safetensors", "manifest.json"])
def test_a_link_in_place_of_a_file_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "other")
    (folder / name).symlink_to(tmp_path / "other")
    refused(folder)


@pytest.mark.parametrize("name", ["/etc/hostname", "..", ".", "", "a/b", "a\0b", "\x1b[2J"])
def test_a_manifest_that_leads_out_is_refused(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    refused(folder)


@pytest.mark.parametrize("value", [None, 3, [], {}, "0" * 63])
def test_a_sum_that_is_none_is_refused(folder: Path, value: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["network.json"] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    refused(folder)


def test_a_network_without_manifest_is_guarded_too(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", three_neurons()).folder
    assert load_network(folder).name == load_network(folder, trust=True).name
    (folder / "network.json").write_bytes(b"[" * 2**20)
    with pytest.raises(BadFileError):
        load_network(folder)
