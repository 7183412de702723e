"""`mtspark diff` between files: checkpoint, NIR, ONNX, bundle, netx."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.convert.onnx import float_decision_model, float_step_model
from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.core.files.onnx.graph import save_onnx
from mtspark.deploy.bundle import load_bundle, write_bundle
from mtspark.deploy.formats.netx import save_netx
from mtspark.deploy.formats.onnx_integer import integer_model
from mtspark.train.checkpoint.agent import load_agent
from tests.support.networks import dense, network, population

Call = Callable[..., int]


@pytest.fixture
def diff(call: Call, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        target = tmp_path / "result.json"
        target.unlink(missing_ok=True)
        code = call("diff", *arguments, "--decisions", 3, "--json", target)
        return code, json.loads(target.read_text()) if target.exists() else {}

    return run


def changed(net: ChipNetwork) -> ChipNetwork:
    """One weight of the second layer moved by one step of its grid."""
    link = net.connections[1]
    weights = link.weights.copy()
    weights.flat[0] += 2 if weights.flat[0] < 200 else -2
    return replace(net, connections=(net.connections[0], replace(link, weights=weights),
                                     *net.connections[2:]))  # fmt: skip


def test_a_bundle_equals_its_own_onnx(diff: Any, played: Path, tmp_path: Path) -> None:
    code, found = diff(played, "--against", "onnx")
    assert code == 0
    assert found["equal"]
    assert found["compared"] > 1000
    net = load_bundle(played).network
    save_onnx(integer_model(net), tmp_path / "same.onnx")
    assert diff(played, "--against", tmp_path / "same.onnx")[1]["compared"] == found["compared"]
    assert diff(tmp_path / "same.onnx", "--against", played)[0] == 0


def test_the_first_difference_is_named(diff: Any, played: Path, tmp_path: Path) -> None:
    net = load_bundle(played).network
    save_onnx(integer_model(changed(net)), tmp_path / "other.onnx")
    code, found = diff(played, "--against", tmp_path / "other.onnx")
    assert code == 1
    first = found["first_divergence"]
    assert first["layer"] == net.populations[1].name
    assert first["quantity"] == "membrane"
    assert first["expected"] != first["got"]
    assert first["neuron"][0] == 0
    assert found["by_layer"][net.populations[0].name]["different"] == 0


def test_floats_in_three_files_agree(
    diff: Any, played: Path, checkpoint: Path, tmp_path: Path
) -> None:
    save_onnx(float_step_model(load_agent(checkpoint)), tmp_path / "step.onnx")
    for other in (tmp_path / "step.onnx", played / "graph.pong.nir"):
        code, found = diff(checkpoint, "--against", other, "--task", "pong")
        assert found["exact"]
        assert found["different"] <= found["compared"] * 1e-4
        assert code == (0 if found["equal"] else 1)
        assert len(found["by_layer"]) == 3


def test_floats_against_integers_end_with_zero(diff: Any, played: Path, checkpoint: Path) -> None:
    code, found = diff(checkpoint, "--against", played)
    assert code == 0
    assert not found["exact"]
    assert set(found["by_layer"]) == {"conv1", "conv2", "hidden"}


def test_a_card_prices_integers_alone(
    call: Call, played: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("diff", checkpoint, "--card", "loihi2_pilotnet", "--decisions", 1, "--against")
    assert call(*words, played / "graph.pong.nir") == 2
    assert "--card: prices a network of a chip, and neither side is one" in capsys.readouterr().err
    assert call(*words, played) == 0


def test_another_task_is_compared_by_name(diff: Any, played: Path) -> None:
    code, found = diff(played, "--against", "onnx", "--task", "breakout")
    assert code == 0
    assert found["task"] == "breakout"


def chain(seed: int = 0) -> ChipNetwork:
    rng = np.random.default_rng(seed)
    net = network(
        (5,),
        [
            population("fc-0", [[40, 50, 60, 70]], bias_exponent=6),
            population("fc-1", [[9] * 3], bias_exponent=6),
        ],
        [
            dense(INPUT, "fc-0", rng.integers(-60, 60, (4, 5)) * 2),
            dense("fc-0", "fc-1", rng.integers(-60, 60, (3, 4)) * 2),
        ],
        time_steps=30,
    )
    return replace(net, input=replace(net.input, held=False), protocol=None,
                   tasks=(replace(net.tasks[0], game="", legal_actions=()),))  # fmt: skip


def test_a_netx_file_equals_the_bundle_that_it_was_written_from(diff: Any, tmp_path: Path) -> None:
    save_netx(chain(), tmp_path / "a.net")
    write_bundle(tmp_path / "a.deploy", chain())
    code, found = diff(tmp_path / "a.net", "--against", tmp_path / "a.deploy")
    assert code == 0
    assert found["compared"] == 3 * 30 * 2 * 7
    save_netx(chain(1), tmp_path / "b.net")
    assert diff(tmp_path / "a.net", "--against", tmp_path / "b.net")[0] == 1
    save_onnx(integer_model(chain()), tmp_path / "a.onnx")
    assert diff(tmp_path / "a.onnx", "--against", tmp_path / "a.net")[0] == 0


@pytest.mark.parametrize("kind", ["decision", "text", "shape", "agent", "task"])
def test_what_cannot_be_compared_is_one_line(
    diff: Any,
    played: Path,
    checkpoint: Path,
    tmp_path: Path,
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_onnx(float_decision_model(load_agent(checkpoint)), tmp_path / "whole.onnx")
    save_netx(chain(), tmp_path / "a.net")
    (tmp_path / "notes.txt").write_text("x")
    arguments: dict[str, tuple[object, ...]] = {
        "decision": (checkpoint, "--against", tmp_path / "whole.onnx"),
        "text": (tmp_path / "notes.txt", "--against", checkpoint),
        "shape": (tmp_path / "a.net", "--against", played),
        "agent": (checkpoint, "--against", "netx"),
        "task": (checkpoint, "--against", played, "--task", "chess"),
    }
    assert diff(*arguments[kind])[0] == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "changed", [{"time_steps": "many"}, {"time_steps": 10**9}, {"tasks": 3}, {"time_steps": None}]
)
def test_a_float_onnx_that_describes_itself_wrongly_is_one_line(
    diff: Any,
    checkpoint: Path,
    tmp_path: Path,
    changed: dict[str, object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = float_step_model(load_agent(checkpoint))
    told = {**json.loads(model.metadata_props[0].value), **changed}
    model.metadata_props[0].value = json.dumps(told)
    save_onnx(model, tmp_path / "step.onnx")
    assert diff(tmp_path / "step.onnx", "--against", checkpoint)[0] == 2
    error = capsys.readouterr().err
    assert "description in it" in error
    assert error.count("\n") == 1
