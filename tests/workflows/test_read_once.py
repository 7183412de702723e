"""What is hashed is what is parsed: a file is swapped while, or after, a bundle is read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files.hdf5 import read_hdf5
from mtspark.deploy.bundle import Bundle, load_bundle, write_bundle
from mtspark.deploy.formats import save_netx
from mtspark.deploy.quantise import options_of
from mtspark.train.checkpoint import Agent, load_agent, save_agent
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.deployment import Deployment
from mtspark.workflows.diff.twin import twin_of
from mtspark.workflows.evaluate.bundle import EvaluationRequest, evaluate_bundle
from mtspark.workflows.evaluate.checkpoint import evaluate_checkpoint
from mtspark.workflows.export.fidelity import fidelity_of
from mtspark.workflows.export.pipeline import export_to
from mtspark.workflows.export.request import ExportRequest
from mtspark.workflows.whole import float_side
from tests.support.networks import dense, network, population, three_neurons


def test_a_bundle_swapped_between_hashing_and_parsing_is_not_accepted_under_the_old_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "a", three_neurons())
    other = write_bundle(tmp_path / "b", replace(three_neurons(), time_steps=5))
    plain = hashlib.sha256

    class Swapping:
        """Lets the swap win every race: it happens as soon as a digest is known."""

        def __init__(self, data: bytes = b"") -> None:
            self._digest = plain(data)
            self.update = self._digest.update

        def hexdigest(self) -> str:
            digest = self._digest.hexdigest()
            for name in other.files:
                shutil.copyfile(other.folder / name, bundle.folder / name)
            return digest

    monkeypatch.setattr(hashlib, "sha256", Swapping)
    # The process that usually reads could not swap a file itself.
    read = load_bundle(bundle.folder, trust=True)
    assert read.network.time_steps == bundle.network.time_steps
    assert read.network_hash == bundle.network_hash


@pytest.fixture(scope="module")
def exported(make_agent: Callable[..., Agent], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two agents of different weights and their bundles."""
    folder = tmp_path_factory.mktemp("exported")
    for seed in range(2):
        save_agent(make_agent(seed), folder / f"{seed}.pt")
        export_to(ExportRequest(source=folder / f"{seed}.pt"), folder / f"{seed}.deploy")
    return folder


@pytest.fixture
def pair(exported: Path, tmp_path: Path) -> tuple[Bundle, Path]:
    """A bundle, and the folder of one of other weights."""
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    return load_bundle(tmp_path / "0.deploy"), tmp_path / "1.deploy"


def start_torch(bundle: Bundle) -> None:
    with open_backend(BackendName.TORCH, bundle, bundle.network.tasks[0].name):
        pass


def options_of_an_old_bundle(bundle: Bundle) -> None:
    options_of(replace(bundle, quantiser=None))


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("agent.pt", start_torch),
        ("agent.pt", twin_of),
        ("graph.pong.nir", float_side),
        ("graph.breakout.nir", float_side),
        ("fidelity.json", fidelity_of),
        ("fidelity.json", options_of_an_old_bundle),
        ("network.json", lambda bundle: Deployment(bundle=bundle).save(bundle.folder / "copy")),
    ],
)
def test_a_file_swapped_after_the_bundle_was_read_is_refused(
    pair: tuple[Bundle, Path], name: str, look: Callable[[Bundle], object]
) -> None:
    bundle, other = pair
    look(replace(bundle, folder=bundle.folder))
    shutil.rmtree(bundle.folder / "copy", ignore_errors=True)
    (bundle.folder / name).unlink()
    shutil.copyfile(other / name, bundle.folder / name)
    with pytest.raises(BadFileError, match="changed since the bundle was read; read it again"):
        look(bundle)
    (bundle.folder / name).rename(other / "original")
    (bundle.folder / name).symlink_to(other / "original")
    with pytest.raises(BadFileError, match="not a file of the bundle"):
        look(bundle)


def swapped_after(
    monkeypatch: pytest.MonkeyPatch, place: str, target: Path, content: bytes
) -> None:
    """Put another content into a file as soon as a function of ours has read it."""
    import mtspark.convert.netx
    import mtspark.convert.nir
    import mtspark.train.checkpoint

    module, name = place.rsplit(".", 1)
    face = {"netx": mtspark.convert.netx, "nir": mtspark.convert.nir}.get(
        module, mtspark.train.checkpoint
    )
    plain = getattr(face, name)

    def read(*arguments: Any, **options: Any) -> Any:
        result = plain(*arguments, **options)
        target.write_bytes(content)
        return result

    monkeypatch.setattr(face, name, read)


def test_an_export_keeps_and_names_the_checkpoint_that_it_read(
    make_agent: Callable[..., Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(2):
        save_agent(make_agent(seed), tmp_path / f"{seed}.pt")
    first = (tmp_path / "0.pt").read_bytes()
    swapped_after(
        monkeypatch, "agent.load_agent", tmp_path / "0.pt", (tmp_path / "1.pt").read_bytes()
    )
    result = export_to(ExportRequest(source=tmp_path / "0.pt"), tmp_path / "a")
    monkeypatch.undo()
    assert (result.bundle.folder / "agent.pt").read_bytes() == first
    named = result.bundle.network.provenance["checkpoint_sha256"]
    assert named == hashlib.sha256(first).hexdigest()


def graph(path: Path, weight: float) -> bytes:
    one = np.ones(1)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([1])}),
        "fc": nir.Linear(weight=np.array([[weight]])),
        "lif": nir.LIF(tau=4 * one, r=one, v_leak=0 * one, v_threshold=one),
        "output": nir.Output(output_type={"output": np.array([1])}),
    }
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "output")]
    nir.write(str(path), nir.NIRGraph(nodes, edges))
    return path.read_bytes()


def test_an_export_keeps_and_names_the_nir_graph_that_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.nir"
    other, first = graph(path, 0.25), graph(path, 0.75)
    swapped_after(monkeypatch, "nir.import_nir", path, other)
    result = export_to(ExportRequest(source=path, dt=1.0, time_steps=4), tmp_path / "a")
    monkeypatch.undo()
    kept = nir.read(str(result.bundle.folder / "graph.default.nir"))
    assert kept.nodes["fc"].weight.item() == 0.75
    named = result.bundle.network.provenance["source_sha256"]
    assert named == hashlib.sha256(first).hexdigest()


def test_an_export_keeps_and_names_the_netx_file_that_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, contents = tmp_path / "net.net", []
    for weight in (2, 4):
        net = network((2,), [population("a", np.ones((1, 2)))], [
            dense("input", "a", np.full((2, 2), weight))
        ])  # fmt: skip
        save_netx(net, path)
        contents.append(path.read_bytes())
    swapped_after(monkeypatch, "netx.import_netx", path, contents[0])
    result = export_to(ExportRequest(source=path), tmp_path / "a")
    monkeypatch.undo()
    assert (result.bundle.folder / "network.net").read_bytes() == contents[1]
    named = result.bundle.network.provenance["source_sha256"]
    assert named == hashlib.sha256(contents[1]).hexdigest()
    assert result.bundle.network.connections[0].weights.max() == 4


def test_scores_name_the_checkpoint_that_played(
    make_agent: Callable[..., Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(2):
        save_agent(make_agent(seed), tmp_path / f"{seed}.pt")
    first = hashlib.sha256((tmp_path / "0.pt").read_bytes()).hexdigest()
    other = (tmp_path / "1.pt").read_bytes()
    swapped_after(monkeypatch, "agent.load_agent", tmp_path / "0.pt", other)
    monkeypatch.setattr(
        "mtspark.workflows.evaluate.checkpoint.float_game_row", lambda *_: pytest.fail("played")
    )
    evaluated: list[str] = []
    monkeypatch.setattr(
        "mtspark.workflows.evaluate.checkpoint.stored_games",
        lambda path, digest: evaluated.append(digest) or [],
    )
    with pytest.raises(pytest.fail.Exception):
        evaluate_checkpoint(tmp_path / "0.pt", EvaluationRequest(episodes=2))
    assert evaluated == [first]


def test_scores_are_not_stored_in_a_checkpoint_that_was_swapped_meanwhile(
    pair: tuple[Bundle, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, _ = pair
    into, other = tmp_path / "0.pt", (tmp_path / "1.pt").read_bytes()

    def played(*_: Any, **__: Any) -> tuple[list[Any], None]:
        into.write_bytes(other)
        return [], None

    monkeypatch.setattr("mtspark.workflows.evaluate.bundle.pair_of_rows", played)
    monkeypatch.setattr("mtspark.workflows.evaluate.bundle.store", lambda *_: None)
    with pytest.raises(BadRequestError, match="other weights"):
        evaluate_bundle(bundle, EvaluationRequest(episodes=2), into=into)
    assert into.read_bytes() == other


def test_given_bytes_are_read_as_the_file_would_be(tmp_path: Path, tiny_agent: Agent) -> None:
    path = tmp_path / "net.nir"
    content = graph(path, 0.5)
    from_file = read_hdf5(path)
    assert json.dumps(from_file, default=np.ndarray.tolist) == json.dumps(
        read_hdf5(tmp_path / "none.nir", content=content), default=np.ndarray.tolist
    )
    for damaged in (b"", content[:100], content[:-1000], b"x" + content):
        path.write_bytes(damaged)
        with pytest.raises(BadFileError) as file:
            read_hdf5(path)
        with pytest.raises(BadFileError) as given:
            read_hdf5(path, content=damaged)
        assert str(given.value).split(":")[1] == str(file.value).split(":")[1]
    save_agent(tiny_agent, tmp_path / "agent.pt")
    given_agent = load_agent("named.pt", content=(tmp_path / "agent.pt").read_bytes())
    for name, value in tiny_agent.network.state_dict().items():
        assert torch.equal(given_agent.network.state_dict()[name], value)
