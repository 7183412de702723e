"""`mtspark explain` tells a lost tie and a lost sign from rounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import mtspark
from mtspark.cli.show.explain import print_explanation
from mtspark.workflows.explain import explain

STEPS = 6


def single(value: float) -> float:
    return float(np.float32(value))


def explained(folder: Path, weights: Any, threshold: float, spikes: Any, **options: Any) -> Any:
    """Export one layer of IF neurons and explain it on the same spikes in every step."""
    weights = np.asarray(weights, float)
    rows, columns = weights.shape
    ones = np.ones(rows)
    nodes = {
        "input": nir.Input({"input": np.array([columns])}),
        "w": nir.Linear(weights),
        "n": nir.LIF(tau=ones, r=ones, v_leak=0 * ones, v_threshold=threshold * ones,
                     v_reset=0 * ones),
        "output": nir.Output({"output": np.array([rows])}),
    }  # fmt: skip
    edges = [("input", "w"), ("w", "n"), ("n", "output")]
    nir.write(folder / "net.nir", nir.NIRGraph(nodes=nodes, edges=edges))
    chip = mtspark.export(folder / "net.nir", dt=1.0, time_steps=STEPS, **options)
    np.save(folder / "x.npy", np.tile(np.array(spikes, np.uint8), (1, STEPS, 1)))
    return explain(chip.save(folder / "net.deploy"), inputs=folder / "x.npy", decisions=1)


@pytest.mark.parametrize(
    ("weights", "threshold", "spikes", "options", "cause"),
    [
        # 0.5 + 0.5 = 1, but pi has no common step with them and the sum becomes a little less.
        ([[0.5, 0.5, np.pi]], 1.0, [1, 1, 0], {"fires_at_threshold": True}, "ties"),
        # In float32 three times 0.1 is not quite 0.3; on the chip, in whole steps of 0.1, it is.
        ([[single(0.1)] * 3], single(0.3), [1, 1, 1], {"fires_at_threshold": True}, "ties"),
        # 0.4 + 0.4 - 0.6 > 0.1, and in whole steps of 1: 0 + 0 - 1 < 0.
        ([[127.0, 0.4, 0.4, -0.6]], 0.1, [0, 1, 1, 1], {"round_nearest": True}, "signs"),
        # 0.4 > 0.1, and in whole steps of 1: 0.
        ([[127.0, 0.4, 0.4, -0.6]], 0.1, [0, 1, 0, 0], {"round_nearest": True}, "rounding"),
    ],
)
def test_a_first_difference_is_told_by_its_cause(
    tmp_path: Path,
    weights: Any,
    threshold: float,
    spikes: list[int],
    options: dict[str, Any],
    cause: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = explained(tmp_path, weights, threshold, spikes, **options)
    counts = dict.fromkeys(("ties", "signs", "followed", "rounding"), 0) | {cause: 1}
    stored = json.loads(json.dumps(result.to_json()))["first_differences"]
    assert stored == [{"layer": "n", **counts}]
    text = {"ties": "at a lost tie", "signs": "by a lost sign", "rounding": "by rounding"}[cause]
    print_explanation(result, details=True)
    sentence = f"n: in 1 case a neuron's spikes differ from the float network's, at first 1 {text}"
    assert sentence in " ".join(capsys.readouterr().out.split())


def test_what_is_exact_has_no_difference_to_tell(tmp_path: Path) -> None:
    result = explained(tmp_path, [[0.5, 0.5, 2.0]], 1.0, [1, 1, 0], fires_at_threshold=True)
    assert result.differences == ()
    assert "first_differences" not in result.to_json()
