from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtspark.core.errors import BadFileError
from mtspark.core.float_network.simulator import run_float
from mtspark.deploy.bundle import load_bundle
from mtspark.workflows.explain.effects import without_value_stream
from mtspark.workflows.explain.explanation import explain
from mtspark.workflows.explain.result import EffectRow, EffectTable, Explanation, stored_rows
from mtspark.workflows.whole import float_side


def test_the_effect_that_costs_most_is_named_first() -> None:
    """The float network's row and the whole chip's are no effects, whatever they lose."""
    shares = {"float network": 1.0, "weights": 0.9, "biases": 0.625, "all: the chip": 0.5}
    rows = tuple(EffectRow(name, share, {}) for name, share in shares.items())
    few = EffectTable(3, rows)
    found = Explanation("", "", "", "pong", 1000, 0, 0, (few,))
    assert found.sentences == (
        "pong: the chip gives the same answer as the float network in 50.0% of 1,000 decisions "
        "(what costs most, switched on alone: biases, 62.5% stay).",
        "What a decision costs was not counted.",
    )
    same = EffectTable(8, tuple(replace(row, action_agreement=1.0) for row in rows))
    assert replace(found, tables=(few, same)).sentences[0] == (
        "pong: the chip gives the same answer as the float network in 50.0% of 1,000 decisions "
        "with 3-bit weights (what costs most, switched on alone: biases, 62.5% stay); in 100.0% of "
        "them with 8-bit weights (no effect, switched on alone, changes an answer)."
    )


@pytest.mark.slow
def test_the_chips_row_is_what_diff_against_torch_says(
    checkpoint: Path, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played = tmp_path / "coarse.deploy"
    assert call("export", checkpoint, "-o", played, "--weight-bits", 3) == 0
    target = tmp_path / "explain.json"
    capsys.readouterr()
    assert (
        call("explain", played, "--decisions", 10, "--json", target, "--by-layer", "--details") == 0
    )
    shown = capsys.readouterr().out
    result = json.loads(target.read_text())
    assert (result["task"], result["decisions"]) == ("pong", 10)
    (table,) = result["tables"]
    rows = {row["effect"]: row for row in table["rows"]}
    assert table["weight_bits"] == 3
    assert rows["float network"]["action_agreement"] == 1.0
    assert set(rows["float network"]["layers"].values()) == {0.0}
    assert {"weights", "thresholds", "biases", "saturation", "weights of head"} <= set(rows)
    assert "weights of head, no value stream" in rows
    for row in rows:
        assert row.split(",")[0] in shown
    told = " ".join(shown.split())
    whole = f"{rows['all: the chip']['action_agreement']:.1%} of 10 decisions"
    assert told.startswith(f"pong: the chip gives the same answer as the float network in {whole}")
    worst = min(table["rows"][1:-1], key=lambda row: row["action_agreement"])
    costs = f"alone: {worst['effect']}, {worst['action_agreement']:.1%} stay)"
    if worst["action_agreement"] == 1:
        costs = "(no effect, switched on alone, changes an answer)"
    assert costs in told
    # The chip as it is, and torch as it is: two other programs on the same frames.
    other = tmp_path / "diff.json"
    assert call("diff", played, "--against", "torch", "--decisions", 10, "--json", other) == 0
    diff = json.loads(other.read_text())
    chip = rows["all: the chip"]
    assert chip["action_agreement"] == diff["action_agreement"]
    for name, layer in diff["layers"].items():
        assert chip["layers"][name] == pytest.approx(layer["different"] / layer["compared"])
    assert any(share > 0 for share in chip["layers"].values())


def test_other_weight_bits_and_a_score(played: Path) -> None:
    bundle = load_bundle(played)
    result = explain(bundle, "breakout", decisions=4, weight_bits=[8, 3], seed=1)
    eight, three = ({row.effect: row for row in table.rows} for table in result.tables)
    worst = ("weights", "all: the chip")
    for effect in worst:
        assert sum(three[effect].layers.values()) > sum(eight[effect].layers.values())
    assert "mean_return" not in eight["weights"].to_json()


def test_games_are_played_row_by_row_and_a_stopped_run_goes_on(
    played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are in the file as soon as they are made; only the others are made again."""
    asked: list[str] = []

    def play(backend: Any, network: Any, task: str, **options: Any) -> Any:
        asked.append(backend.name)
        if len(asked) == 4:
            raise KeyboardInterrupt
        scores = [float(len(asked)), options["seed"]]
        episodes = [SimpleNamespace(score=score) for score in scores[: options["episodes"]]]
        return SimpleNamespace(episodes=episodes, counts=SimpleNamespace(decisions=6))

    monkeypatch.setattr("mtspark.sim.play.play", play)
    bundle, target = load_bundle(played), tmp_path / "rows.json"
    monkeypatch.setattr(
        "mtspark.workflows.explain.explanation.recorded_frames",
        lambda *_, **__: np.zeros((2, *bundle.network.input.shape), np.uint8),
    )
    with pytest.raises(KeyboardInterrupt):
        explain(bundle, "pong", episodes=2, store=target)
    stored = json.loads(target.read_text())
    assert not stored["complete"]
    assert [row["effect"] for row in stored["tables"][0]["rows"]] == [
        "float network",
        "weights",
        "thresholds",
    ]
    result = explain(bundle, "pong", episodes=2, store=target)
    rows = {row.effect: row for row in result.tables[0].rows}
    assert result.complete
    assert json.loads(target.read_text()) == result.to_json()
    assert [row.mean_return for row in rows.values()][:4] == [0.5, 1.0, 1.5, 2.5]
    assert len(asked) == 1 + len(rows)
    assert asked[-1] == "engine"
    assert all(row.played_decisions == 6 for row in rows.values())
    assert set(stored_rows(target, result)[8]) >= {"float network", "weights", "thresholds"}
    assert stored_rows(target, replace(result, seed=1)) == {}
    target.write_text("[" * 200_000)
    assert stored_rows(target, result) == {}


def test_recorded_inputs_take_the_place_of_a_game(
    played: Path, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 84, 84)).astype(np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    result = explain(played, "pong", inputs=tmp_path / "frames.npy")
    assert result.decisions == 3
    np.save(tmp_path / "wrong.npy", frames[:, :2])
    assert call("explain", played, "--inputs", tmp_path / "wrong.npy") == 2
    assert "frames (batch, 4, 84, 84)" in capsys.readouterr().err
    (tmp_path / "none.npy").write_bytes(b"nothing")
    assert call("explain", played, "--inputs", tmp_path / "none.npy") == 2
    assert "no readable .npy file" in capsys.readouterr().err


def test_bad_requests_are_one_line(
    played: Path, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("explain", played, "--weight-bits", "8,9") == 2
    assert "numbers from 2 to 8" in capsys.readouterr().err
    assert call("explain", played, "--task", "chess") == 2
    assert "unknown task 'chess'" in capsys.readouterr().err
    copy = tmp_path / "copy.deploy"
    shutil.copytree(played, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"]["graph.breakout.nir"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert call("explain", copy) == 2
    assert "has no graph.breakout.nir" in capsys.readouterr().err


def test_a_value_stream_is_what_all_actions_share(played: Path) -> None:
    network, _ = float_side(load_bundle(played))
    plain = without_value_stream(network, "head")
    assert plain is not None
    assert without_value_stream(plain, "head") is None
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 256, (4, *network.input.shape)) / 255.0
    series = np.broadcast_to(pixels, (network.time_steps, *pixels.shape))
    with_value, without = (run_float(net, series).values for net in (network, plain))
    # All actions lose the same, so the greedy one stays.
    difference = with_value - without
    np.testing.assert_allclose(difference, difference[:, :1] + 0 * difference, atol=1e-9)
    assert np.ptp(difference[:, 0]) > 1e-6 or abs(difference[0, 0]) > 1e-6


@pytest.mark.parametrize("told", ["many", "99", "", "1"])
def test_weight_bits_that_a_bundle_cannot_have_are_one_line(played: Path, told: str) -> None:
    bundle = load_bundle(played)
    provenance = {**bundle.network.provenance, "weight_bits": told}
    old = replace(bundle, quantiser=None, network=replace(bundle.network, provenance=provenance))
    with pytest.raises(BadFileError, match="bits; export again"):
        float_side(old)
    odd = replace(bundle, quantiser={**(bundle.quantiser or {}), "weight_bits": told})
    with pytest.raises(BadFileError, match="options are damaged; export again"):
        float_side(odd)
