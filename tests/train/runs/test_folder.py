"""Whether a folder holds this run, also one that an older mtspark began."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mtspark.core.environments.protocol import GameProtocol
from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint.agent import save_whole
from mtspark.train.config.ablation import AblationSettings
from mtspark.train.config.games import TrainConfig
from mtspark.train.config.images import ImageConfig
from mtspark.train.runs.same import check_same_run

CONFIGS = (TrainConfig(), ImageConfig(), AblationSettings())


def stored(config: Any) -> dict[str, Any]:
    """A configuration as resume.pt holds it."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return content


def paths(content: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all fields, tables included."""
    found = []
    for name, value in content.items():
        found.append((*above, name))
        if isinstance(value, dict):
            found += paths(value, (*above, name))
    return found


def without(content: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The content without one field."""
    name, *inner = path
    if not inner:
        return {key: value for key, value in content.items() if key != name}
    return {**content, name: without(content[name], tuple(inner))}


@pytest.mark.parametrize("config", CONFIGS, ids=["games", "images", "ablation"])
def test_any_field_may_be_younger_than_the_run(config: Any, tmp_path: Path) -> None:
    whole = stored(config)
    check_same_run(whole, config, tmp_path)
    for path in paths(whole):
        check_same_run(without(whole, path), config, tmp_path)
    check_same_run({}, config, tmp_path)


@pytest.mark.parametrize(
    ("path", "changed", "text"),
    [
        (
            ("protocol", "decision_delay"),
            TrainConfig(protocol=GameProtocol(decision_delay=1)),
            "protocol.decision_delay was 0, is 1",
        ),
        (("protocol",), TrainConfig(protocol=GameProtocol(noop_max=7)), "noop_max was 30, is 7"),
        (("seed",), TrainConfig(seed=4), "seed was 1, is 4"),
        (("images",), AblationSettings(images=5), "images was 10000, is 5"),
        (
            ("network", "dueling"),
            replace(ImageConfig(), network=replace(ImageConfig().network, dueling=True)),
            "network.dueling was False, is True",
        ),
    ],
)
def test_a_field_that_was_not_there_had_its_default(
    path: tuple[str, ...], changed: Any, text: str, tmp_path: Path
) -> None:
    older = without(stored(type(changed)()), path)
    with pytest.raises(BadRequestError, match=text):
        check_same_run(older, changed, tmp_path)


def test_a_field_that_is_gone_is_another_configuration(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match=r"momentum was 0\.9, is None"):
        check_same_run({**stored(TrainConfig()), "momentum": 0.9}, TrainConfig(), tmp_path)


@dataclass(frozen=True)
class Layer:
    """A class that has got a second field."""

    width: int
    groups: int = 1


@dataclass(frozen=True)
class Layers:
    layers: tuple[Layer, ...] = field(default_factory=lambda: (Layer(3),))


def test_entries_of_a_list_may_lack_fields_too(tmp_path: Path) -> None:
    def check(saved: dict[str, Any], *layers: Layer) -> None:
        check_same_run(saved, Layers(layers), tmp_path)  # type: ignore[arg-type]

    older = {"layers": [{"width": 5}, {"width": 6}]}
    check(older, Layer(5), Layer(6))
    for layers in ((Layer(5), Layer(6, 2)), (Layer(5),), (Layer(5), Layer(7))):
        with pytest.raises(BadRequestError, match="layers was"):
            check(older, *layers)


REFUSE = """
import sys
from pathlib import Path
from mtspark.train.config import config_of
from mtspark.train.runs import check_request
try:
    check_request(config_of({"kind": sys.argv[2], **eval(sys.argv[3])}), Path(sys.argv[1]))
except Exception as error:
    print(f"{type(error).__name__}: {error}")
print("torch" in sys.modules)
"""


def told(folder: Path, kind: str, fields: dict[str, Any]) -> list[str]:
    command = [sys.executable, "-c", REFUSE, str(folder), kind, repr(fields)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_another_run_is_refused_without_pytorch(tmp_path: Path) -> None:
    state = {"network": {"weight": torch.zeros(3)}, "steps": 8}
    content = {"format": "mtspark-training", "config": stored(TrainConfig()), "state": state}
    save_whole(content, tmp_path / "resume.pt")
    assert told(tmp_path, "games", {}) == ["False"]
    assert told(tmp_path, "games", {"total_steps": 9_000_000, "threads": 2}) == ["False"]
    refused, torch_loaded = told(tmp_path, "games", {"seed": 7})
    assert refused.startswith("BadRequestError")
    assert "seed was 1, is 7" in refused
    assert torch_loaded == "False"
    assert "a run of another kind (mtspark-training)" in told(tmp_path, "images", {})[0]


def test_nothing_that_a_run_names_is_called_without_pytorch(tmp_path: Path) -> None:
    """And what cannot be read that way is left to the whole check."""
    called = tmp_path / "called"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(called),)

    for content in ({"format": "mtspark-training", "config": Evil()}, Evil(), 5):
        with zipfile.ZipFile(tmp_path / "resume.pt", "w") as archive:
            archive.writestr("resume/data.pkl", pickle.dumps(content, protocol=2))
        assert told(tmp_path, "games", {})[-1] == "False"
        assert not called.exists()
