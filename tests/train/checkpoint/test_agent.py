"""Agent files: an exact round trip, and one line for every malformed one."""

from __future__ import annotations

import copy
import math
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.train.checkpoint.agent import Agent, load_agent, load_plain, save_agent, save_whole


class Trap:
    """Its unpickling makes a folder: a sign that code from the file ran."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.sign),)


@pytest.fixture
def saved(tiny_agent: Agent, tmp_path: Path) -> Path:
    path = tmp_path / "agent.pt"
    save_agent(tiny_agent, path)
    return path


def refused(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(BadFileError) as caught:
        load_agent(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def rewrite(path: Path, **changes: Any) -> None:
    """Replace entries of an agent file; a function is given the old value."""
    content = torch.load(path, weights_only=True)
    for key, change in changes.items():
        content[key] = change(content[key]) if callable(change) else change
    torch.save(content, path)


def test_round_trip_keeps_everything(tiny_agent: Agent, tmp_path: Path) -> None:
    tiny_agent.training = {"steps": 12, "returns": {"pong": [1.5, -21.0], "breakout": None}}
    tiny_agent.evaluations = [{"backend": "torch", "seed": 3, "returns": [20.0]}]
    path = tmp_path / "new" / "folder" / "agent.pt"
    save_agent(tiny_agent, path)
    loaded = load_agent(path)
    assert loaded.network.config == tiny_agent.network.config
    assert not loaded.network.training
    first, second = tiny_agent.network.state_dict(), loaded.network.state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("tasks", "protocol", "training", "evaluations"):
        assert getattr(loaded, name) == getattr(tiny_agent, name)
    assert [entry.name for entry in path.parent.iterdir()] == ["agent.pt"]


def test_what_no_file_can_hold_replaces_none(tiny_agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "agent.pt"
    save_agent(tiny_agent, path)
    before = path.read_bytes()

    def masked(network: nn.Module) -> Any:
        parametrize.register_parametrization(
            network.get_submodule("advantage"), "weight", nn.Tanh()
        )

        return network

    def spoilt(network: nn.Module) -> Any:
        network.get_parameter("hidden.synapses.weight").data[0, 0] = float("nan")
        return network

    for change, text in (
        (masked, r"network has parametrisations in advantage, .* by fold\(\) of a SparseModule"),
        (spoilt, "hidden.synapses.weight has values that are not finite"),
        (torch.compile, r"is OptimizedModule, .* agent.network._orig_mod"),
    ):
        agent = replace(tiny_agent, network=change(copy.deepcopy(tiny_agent.network)))
        with pytest.raises(BadRequestError, match=text):
            save_agent(agent, path)
        assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["agent.pt"]


def test_a_loaded_agent_answers_as_the_saved_one(tiny_agent: Agent, saved: Path) -> None:
    frames = torch.randint(0, 256, (2, 2, 20, 20), dtype=torch.uint8)
    tasks = torch.tensor([1, 0])
    with torch.no_grad():
        expected = tiny_agent.network(frames, tasks)
        assert torch.equal(load_agent(saved).network(frames, tasks), expected)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        save_whole({"format": "x", "bad": lambda: None}, saved)
    assert saved.read_bytes() == before
    assert [entry.name for entry in saved.parent.iterdir()] == ["agent.pt"]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.pt")
    assert "a folder, no file" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello\nworld\n", b"PK\x03\x04 and then\nno zip"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.pt"
    path.write_bytes(content)
    assert "not a PyTorch checkpoint that is safe to load" in refused(path)


def test_a_cut_off_file_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-500])
    assert "not a PyTorch checkpoint" in refused(saved)


@pytest.mark.parametrize("form", ["zip", "bare pickle", "old torch"])
def test_code_in_a_file_is_never_run(tmp_path: Path, form: str) -> None:
    path, sign = tmp_path / "trap.pt", tmp_path / "sign"
    content = {"format": "mtspark-agent", "version": 1, "network": Trap(sign)}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    assert "would run its author's code; save the weights alone" in refused(path)
    assert not sign.exists()
    pickle.loads(pickle.dumps(content))
    assert sign.exists()  # the trap works


@pytest.mark.parametrize("content", [[1], {"a": 1}, {"format": "mtspark-training"}, 3, None])
def test_another_format_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    assert "no mtspark-agent checkpoint" in refused(path)


def test_another_version_is_refused(saved: Path) -> None:
    rewrite(saved, version=2)
    assert "agent format version 2, this mtspark reads 1" in refused(saved)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hidden": 11}, "weights do not fit the network sizes"),
        ({"actions": 4}, "weights do not fit the network sizes"),
        ({"dueling": False}, "weights do not fit the network sizes"),
        ({"hidden": -1}, "network sizes cannot be built"),
        ({"hidden": "10"}, "network sizes cannot be built"),
        ({"convolutions": ({"channels": 3, "kernel": 5, "stride": 0},)}, "cannot be built"),
        ({"convolutions": ({"channels": 3, "kernel": 5},)}, "cannot be built"),
        ({"convolutions": 5}, "cannot be built"),
        ({"observation_shape": (2, 20)}, "cannot be built"),
        ({"observation_shape": (math.inf, 20, 20)}, "cannot be built"),
        ({"observation_shape": (2, 3, 3)}, "network sizes"),
        ({"time_steps": 0}, "0 time steps, 2 tasks"),
        ({"time_steps": "4"}, "network.time_steps is '4', must be a whole number"),
        ({"beta": math.nan}, "network.beta is nan, must be a finite number"),
        ({"threshold": math.inf}, "network.threshold is inf, must be a finite number"),
        ({"threshold": None}, "network.threshold is None, must be a finite number"),
        ({"drive": math.nan}, "network.drive is nan, must be a finite number"),
        ({"context_size": -1}, "context_size -1"),
        ({"tasks": 2.0}, "network.tasks is 2.0, must be a whole number"),
        ({"convolutions": ({"channels": 3, "kernel": 5.0, "stride": 3},)}, "whole numbers are nee"),
        ({"hidden": 5_000_000}, "5,000,000 neurons, 4,194,304 is the limit"),
        ({"more": 1}, "must be exactly the fields"),
    ],
)
def test_wrong_sizes_are_refused(saved: Path, change: dict[str, Any], text: str) -> None:
    rewrite(saved, network=lambda old: {**old, **change})
    assert text in refused(saved)


def test_a_missing_size_is_refused(saved: Path) -> None:
    rewrite(saved, network=lambda old: {key: old[key] for key in old if key != "beta"})
    assert "must be exactly the fields" in refused(saved)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["hidden.synapses.weight", "dendrites.segments", "value.bias"])
def test_weights_that_are_not_finite_are_refused(saved: Path, name: str, value: float) -> None:
    def poison(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        state[name].view(-1)[-1] = value
        return state

    rewrite(saved, state=poison)
    assert f"{name} has values that are not finite" in refused(saved)


@pytest.mark.parametrize("state", [None, 3, [], {}, {"advantage.weight": 3}])
def test_a_state_that_is_no_state_is_refused(saved: Path, state: Any) -> None:
    rewrite(saved, state=state)
    assert "weights do not fit the network sizes" in refused(saved)


def test_a_weight_too_many_or_too_few_is_refused(saved: Path) -> None:
    rewrite(saved, state=lambda old: {**old, "extra": torch.zeros(2)})
    assert "extra" in refused(saved)
    rewrite(saved, state=lambda old: dict(list(old.items())[1:-1]))
    assert "weights do not fit" in refused(saved)


def test_tasks_and_protocol_are_checked(saved: Path) -> None:
    rewrite(saved, tasks=lambda old: old[:1])
    assert "1 tasks listed, network built for 2" in refused(saved)
    rewrite(saved, tasks=[])
    assert "at least one task" in refused(saved)


def test_a_wrong_protocol_is_refused(saved: Path) -> None:
    rewrite(saved, protocol=lambda old: {**old, "frame_skip": "four"})
    assert "GameProtocol.frame_skip is 'four'" in refused(saved)
    rewrite(saved, protocol=lambda old: {**old, "frame_skip": 0})
    assert "GameProtocol.frame_skip is 0, 1 to 1000 can be played" in refused(saved)


def test_another_kind_of_our_own_files_is_told_apart(saved: Path) -> None:
    with pytest.raises(BadFileError, match="no mtspark-training checkpoint"):
        load_plain(saved, "mtspark-training")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.slow
def test_changed_bytes_load_or_are_refused_in_one_line(saved: Path, data: st.DataObject) -> None:
    content = bytearray(saved.read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=8))
    content[start : start + len(junk)] = junk
    changed = saved.with_name("changed.pt")
    changed.write_bytes(content)
    refusal = ""
    try:
        load_agent(changed)
    except BadFileError as error:
        refusal = str(error)
    assert "\n" not in refusal
