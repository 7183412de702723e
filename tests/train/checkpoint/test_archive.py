"""Checkpoints made to do harm: each is refused in one line, before it costs anything."""

from __future__ import annotations

import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from mtspark.core.errors import BackendMissingError, BadFileError
from mtspark.core.files.limits import FileLimits
from mtspark.train.checkpoint.agent import Agent, load_agent, load_plain, save_agent, save_whole
from mtspark.train.checkpoint.archive import check_torch


@pytest.fixture
def saved(tiny_agent: Agent, tmp_path: Path) -> Path:
    path = tmp_path / "agent.pt"
    save_agent(tiny_agent, path)
    return path


def refused(path: Path, limits: FileLimits | None = None, trust: bool = False) -> str:
    began = time.process_time()
    with pytest.raises(BadFileError) as caught:
        load_agent(path, limits, trust)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert time.process_time() - began < 5
    return text


def rewrite(path: Path, **changes: Any) -> None:
    content = torch.load(path, weights_only=True)
    for key, change in changes.items():
        content[key] = change(content[key]) if callable(change) else change
    torch.save(content, path)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden": 10**9},
        {"hidden": 2**20, "observation_shape": (2, 4000, 4000)},
        {"actions": 10**10},
        {"dendrite_segments": 10**9},
        {"convolutions": ({"channels": 10**9, "kernel": 1, "stride": 1},)},
        {"convolutions": ({"channels": 3, "kernel": 1, "stride": 1},) * 2000},
        {"time_steps": 10**12},
    ],
)
@pytest.mark.slow
def test_declared_sizes_are_never_built(saved: Path, sizes: dict[str, Any], trust: bool) -> None:
    rewrite(saved, network=lambda old: {**old, **sizes})
    text = refused(saved, trust=trust)
    assert "weights do not fit" in text or "is the limit" in text


@pytest.mark.parametrize("trust", [False, True])
def test_a_tensor_that_declares_more_than_it_stores_is_refused(saved: Path, trust: bool) -> None:
    rewrite(saved, training={"seen": torch.zeros(1).expand(10_000_000)})
    assert "stores fewer" in refused(saved, trust=trust)
    rewrite(saved, training={"seen": torch.zeros(1).expand(10**6, 10**6)})
    assert "array_bytes" in refused(saved, trust=trust)


def test_tensors_that_share_their_storage_count_each(saved: Path) -> None:
    base = torch.zeros(2**16)
    rewrite(saved, training={str(index): base.view(-1) for index in range(50)})
    assert "total_bytes" in refused(saved, FileLimits(total_bytes=2**22))


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(3, device="meta"),
        torch.zeros(3, dtype=torch.complex64),
        {torch.zeros(1)},
        {(1, 2): 3},
    ],
    ids=["sparse", "meta", "complex", "set", "key"],
)
def test_special_tensors_and_values_are_refused(saved: Path, value: Any) -> None:
    rewrite(saved, training={"more": value})
    refused(saved)


def test_deep_nesting_is_refused(saved: Path) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    rewrite(saved, training={"more": deep})
    assert "depth" in refused(saved)


def again(path: Path, compression: int = zipfile.ZIP_STORED, **renamed: str) -> None:
    """The same archive, its members compressed or renamed."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            end = name.rpartition("/")[2]
            archive.writestr(renamed.get(end, name), data)


def test_a_compressed_archive_is_refused(saved: Path) -> None:
    again(saved)
    load_agent(saved)
    again(saved, zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(saved)


@pytest.mark.parametrize("name", ["/etc/passwd", "agent/../../x", "agent\\..\\x", "a\x1bb"])
def test_a_member_that_leads_out_is_refused(saved: Path, name: str) -> None:
    again(saved, version=name)
    assert "a member of its archive" in refused(saved)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(saved: Path) -> None:
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr(archive.namelist()[0], b"other")
    assert "one name" in refused(saved)


def test_limits_of_the_archive_hold(saved: Path) -> None:
    assert "objects" in refused(saved, FileLimits(objects=5))
    assert "total_bytes" in refused(saved, FileLimits(total_bytes=1000))
    assert "file_bytes" in refused(saved, FileLimits(file_bytes=1000))
    load_agent(saved)


def test_an_agent_is_the_same_read_with_trust_or_without(saved: Path) -> None:
    guarded, trusted = load_agent(saved), load_agent(saved, trust=True)
    one, other = guarded.network.state_dict(), trusted.network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert guarded.tasks == trusted.tasks


def test_a_state_of_training_comes_back_as_it_went(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "network": network.state_dict()}
    values = {"returns": [[1.5, float("inf")], []], "rng": torch.get_rng_state(), "big": 2**100}
    save_whole({"format": "mtspark-training", **state, **values}, tmp_path / "resume.pt")
    back = load_plain(tmp_path / "resume.pt", "mtspark-training")
    assert back["returns"] == values["returns"]
    assert back["big"] == 2**100
    assert torch.equal(back["rng"], values["rng"])
    optimizer.load_state_dict(back["optimizer"])
    again = optimizer.state_dict()["state"][0]
    assert torch.equal(again["exp_avg"], state["optimizer"]["state"][0]["exp_avg"])
    assert isinstance(back["network"], (dict, OrderedDict))


def test_saving_over_a_link_keeps_the_link(saved: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "latest.pt"
    link.parent.mkdir()
    link.symlink_to(saved)
    save_whole({"format": "x"}, link)
    assert link.is_symlink()
    assert torch.load(saved, weights_only=True) == {"format": "x"}


def test_old_torch_is_refused() -> None:
    check_torch("2.10.0+cpu")
    check_torch("3.0")
    with pytest.raises(BackendMissingError, match=r"torch 2\.9\.1 is not safe"):
        check_torch("2.9.1")
