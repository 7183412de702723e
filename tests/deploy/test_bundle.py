from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.core.chip_network import INPUT
from mtspark.core.errors import BadFileError, BadRequestError, MtsparkError
from mtspark.deploy.bundle import load_bundle, sha256, write_bundle
from tests.support.networks import BREAKOUT, PONG, dense, network, population, three_neurons


def test_a_bundle_comes_back_as_it_went(tmp_path: Path) -> None:
    net = three_neurons()
    written = write_bundle(tmp_path / "a.deploy", net)
    read = load_bundle(tmp_path / "a.deploy")
    assert read.network_hash == written.network_hash
    for one, other in zip(net.connections, read.network.connections, strict=True):
        assert np.array_equal(one.weights, other.weights)
        assert (one.exponent, one.sign_mode) == (other.exponent, other.sign_mode)
    for one, other in zip(net.populations, read.network.populations, strict=True):
        assert np.array_equal(one.thresholds, other.thresholds)
    assert read.network.tasks == net.tasks
    assert read.network.protocol == net.protocol


@pytest.mark.parametrize(
    "laid_out",
    [np.asfortranarray, lambda values: np.repeat(values, 2, -1)[..., ::2], lambda values: values],
)
def test_arrays_come_back_however_their_memory_lies(tmp_path: Path, laid_out: Any) -> None:
    two = np.array([[3, 1, 4], [1, 5, 9]])
    weights = 2 * np.array([[2, 7], [1, 8], [2, 8]])
    net = network(
        (2,),
        [
            replace(population("hidden", two), thresholds=laid_out(two)),
            population("out", [[1, 2, 3], [4, 5, 6]]),
        ],
        [dense(INPUT, "hidden", laid_out(weights)), dense("hidden", "out", np.eye(3) * 2)],
        tasks=(PONG, BREAKOUT),
    )
    write_bundle(tmp_path / "a", net)
    read = load_bundle(tmp_path / "a").network
    assert read.population("hidden").thresholds.tolist() == [[3, 1, 4], [1, 5, 9]]
    assert read.connections[0].weights.tolist() == [[4, 14], [2, 16], [4, 16]]


def test_a_folder_may_be_a_text(tmp_path: Path) -> None:
    folder = str(tmp_path / "a.deploy")
    written = write_bundle(folder, three_neurons())
    assert load_bundle(folder).network_hash == written.network_hash
    assert sha256(f"{folder}/network.json") == written.files["network.json"]


def test_the_same_network_gives_the_same_hash(tmp_path: Path) -> None:
    first = write_bundle(tmp_path / "a", three_neurons())
    assert first.network_hash == write_bundle(tmp_path / "b", three_neurons()).network_hash
    elsewhere = replace(three_neurons(), provenance={"checkpoint": "other.pt"})
    assert first.network_hash == write_bundle(tmp_path / "c", elsewhere).network_hash
    slower = replace(three_neurons(), time_steps=5)
    assert first.network_hash != write_bundle(tmp_path / "d", slower).network_hash


@pytest.mark.parametrize("name", ["network.json", "network.safetensors", "more.txt"])
def test_an_altered_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a"
    write_bundle(folder, three_neurons(), lambda target: _write(target / "more.txt"))
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(BadFileError, match=name):
        load_bundle(folder)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", three_neurons())
    (tmp_path / "a" / "network.safetensors").unlink()
    with pytest.raises(BadFileError, match=r"network\.safetensors"):
        load_bundle(tmp_path / "a")


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write_bundle(folder, three_neurons())
    secret = tmp_path / "secret"
    secret.write_text("x")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../secret"] = sha256(secret)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadFileError, match="not a file of the bundle"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "\x00", '{"format": "mtspark-bundle", "files": 3}', "[" * 100_000]
)
def test_a_malformed_manifest_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(MtsparkError) as caught:
        load_bundle(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_existing_folder_is_kept_unless_it_is_a_bundle_and_replaced(tmp_path: Path) -> None:
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1").write_text("years of work")
    for force in (False, True):
        with pytest.raises(BadRequestError):
            write_bundle(other, three_neurons(), replace=force)
    assert (other / "chapter1").read_text() == "years of work"
    bundle = write_bundle(tmp_path / "a", three_neurons())
    with pytest.raises(BadRequestError, match="--force"):
        write_bundle(tmp_path / "a", three_neurons())
    bundle.runs.mkdir()
    (bundle.runs / "run.json").write_text("{}")
    write_bundle(tmp_path / "a", three_neurons(), replace=True)
    assert (tmp_path / "a" / "runs" / "run.json").exists()


def test_a_failure_half_way_leaves_nothing_and_the_old_bundle_whole(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", three_neurons())

    def fail(target: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(BadFileError, match="no space left on device"):
        write_bundle(tmp_path / "a", three_neurons(), fail, replace=True)
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208
    load_bundle(tmp_path / "a")


def _write(path: Path) -> None:
    path.write_text("more")


def test_a_link_to_a_bundle_is_followed(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "real", three_neurons())
    bundle.runs.mkdir()
    (bundle.runs / "run.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_bundle(tmp_path / "link", three_neurons(), replace=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "runs" / "run.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
