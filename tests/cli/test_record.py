"""`mtspark record` from its arguments to its files and lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import gymnasium
import pytest

from mtspark.core.datasets import read_dataset
from mtspark.core.datasets.write import TOO_OLD

AGENT = Path(__file__).parents[2] / "examples" / "agents" / "cartpole" / "cartpole.pt"


def test_it_writes_a_dataset_and_its_json(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("minari")
    words = ("--episodes", 2, "--max-decisions", 5, "--epsilon", 0.5, "--json", tmp_path / "r.json")
    assert call("record", AGENT, "-o", tmp_path / "d", *words) == 0
    assert f"wrote {tmp_path / 'd' / 'CartPole-v1-v0'}" in capsys.readouterr().out
    (told,) = json.loads((tmp_path / "r.json").read_text())["tasks"]
    assert (told["episodes"], told["decisions"], told["is_new"]) == (2, 10, True)
    data = read_dataset(tmp_path / "d" / "CartPole-v1-v0" / "data")
    assert data.decisions == 10
    assert call("record", AGENT, "-o", tmp_path / "d", *words) == 0
    assert "recorded before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--epsilon", 0.5, "--sample", 1), "leave one out"),
        (("--epsilon", 0.5, "--temperature", 3), "replaces best ones; leave one out"),
        (("--epsilon", 2), "epsilon 2: must be above 0 and at most 1"),
        (("--temperature", 2), "give sample, too"),
        (("--sticky", 0.25), "is of ALE's games"),
        (("--backend", "engine"), "export it first"),
        (("--task", "pong"), "unknown task 'pong'"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: tuple[object, ...],
    reason: str,
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("minari")
    assert call("record", AGENT, "-o", tmp_path / "d", *words) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("error:") == 1
    assert not (tmp_path / "d").exists()


def test_without_minari_one_line_names_the_command(
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    assert call("record", AGENT, "-o", tmp_path / "d") == 2
    said = capsys.readouterr().err
    remedy = 'record: needs minari; pip install "mtspark[offline]"'
    assert said == f"error: {remedy if sys.version_info >= (3, 11) else TOO_OLD}\n"


def test_a_missing_package_of_the_environment_leaves_no_folder(
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("minari", reason="recording needs minari, which Python 3.10 lacks")

    def make(*_: object, **__: object) -> None:
        raise gymnasium.error.DependencyNotInstalled("no physics here")

    monkeypatch.setattr(gymnasium, "make", make)
    assert call("record", AGENT, "-o", tmp_path / "new" / "d", "--episodes", 2) == 2
    assert "a package is missing (no physics here)" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
