"""``mtspark eval`` of an agent file: the float network alone, under the agent's own protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.train.checkpoint.agent import Agent, load_agent, save_agent
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.networks.network import MTSparkNetwork
from mtspark.workflows.evaluate import checkpoint as evaluate_float
from mtspark.workflows.evaluate.rows import GameRow


@pytest.fixture(scope="module")
def short(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent whose games end after 40 decisions and whose protocol has sticky actions."""
    agent = load_agent(checkpoint)
    protocol = GameProtocol(max_frames_per_episode=160, sticky_action_probability=0.1)
    path = tmp_path_factory.mktemp("float") / "short.pt"
    save_agent(Agent(agent.network, agent.tasks, protocol), path)
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    return rows


@pytest.mark.slow
def test_it_plays_as_the_float_network_of_its_bundle(
    short: Path, call: Callable[..., int], tmp_path: Path
) -> None:
    alone, beside = tmp_path / "alone.json", tmp_path / "beside.json"
    options = ("--episodes", 3, "--seed", 4, "--sticky", 0)
    assert call("eval", short, *options, "--json", alone) == 0
    assert call("export", short, "-o", tmp_path / "b.deploy") == 0
    assert call("eval", tmp_path / "b.deploy", *options, "--json", beside) == 0
    rows, pairs = rows_of(alone), rows_of(beside)
    assert [(row["task"], row["sticky_action_probability"]) for row in rows] == [
        *(("pong", 0.1), ("pong", 0.0)),
        *(("breakout", 0.1), ("breakout", 0.0)),
    ]
    floats = [row for row in pairs if row["backend"] == "torch"]
    for row, pair in zip(rows, floats, strict=True):
        assert row["action_agreement"] is None
        same = ("task", "returns", "decisions", "distinct_episodes", "interval_95", "seed")
        assert [row[name] for name in same] == [pair[name] for name in same]
        assert row["decisions"] == 3 * 40


def test_an_agent_that_no_chip_can_run_is_scored(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = NetworkConfig((2, 20, 20), (ConvSize(3, 5, 3),), hidden=8, neuron="relu", tasks=1)
    protocol = GameProtocol(frame_stack=2, screen_size=20, max_frames_per_episode=80)
    task = Task("pong", "pong", (0, 2, 3))
    save_agent(Agent(MTSparkNetwork(size).eval(), (task,), protocol), tmp_path / "relu.pt")
    assert call("export", tmp_path / "relu.pt") == 2
    capsys.readouterr()
    assert call("eval", tmp_path / "relu.pt", "--episodes", 2) == 0
    shown = capsys.readouterr().out
    assert "float" in shown
    assert shown.count("chip") == 1
    assert "ran on no chip" in shown


@pytest.mark.slow
def test_it_goes_on_with_the_rows_that_it_has(
    short: Path, call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "eval.json"
    arguments = ("eval", short, "--episodes", 2, "--sticky", 0, "--json", out)
    assert call(*arguments, "--task", "pong") == 0
    before = rows_of(out)
    played = []
    plain = evaluate_float.float_game_row

    def note(agent: Agent, task: Task, *rest: Any) -> GameRow:
        played.append(task.name)
        return plain(agent, task, *rest)

    monkeypatch.setattr(evaluate_float, "float_game_row", note)
    assert call(*arguments) == 0
    assert played == ["breakout"] * 2
    assert rows_of(out)[:2] == before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--task", "chess"), "unknown task 'chess'"),
        (("--into", "agent.pt"), "--into stores what float and chip scored"),
        (("--sticky", 1), "--sticky 1: 0 up to below 1"),
    ],
)
def test_what_it_refuses(
    options: tuple[Any, ...],
    text: str,
    short: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("eval", short, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_an_agent_of_images_names_them(call: Callable[..., int], tmp_path: Path) -> None:
    size = NetworkConfig((3, 32, 32), (ConvSize(2, 8, 8),), hidden=4, actions=10, tasks=1)
    network = MTSparkNetwork(size).eval()
    network.advantage.weight.data.zero_()
    network.advantage.bias.data[:] = 0
    network.advantage.bias.data[3] = 1
    save_agent(Agent(network, (Task("mnist", "", ()),), None), tmp_path / "three.pt")
    labels = np.array([3, 1, 3, 4])
    images = np.zeros((4, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist_test.npz", images=images, labels=labels)
    out = tmp_path / "out.json"
    assert call("eval", tmp_path / "three.pt", "--data", tmp_path, "--json", out) == 0
    (row,) = rows_of(out)
    assert (row["backend"], row["right"], row["images"]) == ("torch", 2, 4)
