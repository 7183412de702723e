"""What is no source of an export says how its network is exported, and that works."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

SOURCE = """
import snntorch as snn
from torch import nn


def make_model():
    return nn.Sequential(nn.Linear(3, 4), snn.Leaky(0.5, init_hidden=True))
"""


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return Path.touch, (Path("unpickled"),)  # type: ignore[return-value]


def write(folder: Path, kind: str) -> Path:
    import snntorch as snn

    net = nn.Sequential(nn.Linear(3, 4), snn.Leaky(0.5, init_hidden=True))
    path = folder / {"safetensors": "w.safetensors", "pickle": "w.pkl"}.get(kind, "w.pth")
    if kind == "state_dict":
        torch.save(net.state_dict(), path)
    elif kind == "checkpoint":
        torch.save({"net": net.state_dict(), "epoch": 4}, path)
    elif kind == "safetensors":
        safetensors.torch.save_file(net.state_dict(), path)
    elif kind == "module":
        torch.save({"net": Evil()}, path)
    elif kind == "old module":
        torch.save({"net": Evil()}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(Evil()))
    return path


@pytest.mark.parametrize("kind", ["state_dict", "checkpoint", "safetensors"])
def test_weights_alone_say_how_their_network_is_exported(
    kind: str, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = write(tmp_path, kind), tmp_path / "net.deploy"
    assert call("export", path, "-o", folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    advice = f"mtspark export FILE.py:make_model --weights {path} --input-shape ..."
    assert "holds the weights of a network, not the network" in line
    assert advice in line
    assert "mtspark train" not in line
    # The line, followed.
    (tmp_path / "model.py").write_text(SOURCE)
    words = advice.replace("FILE.py", str(tmp_path / "model.py")).replace("...", "3").split()[1:]
    assert call(*words, "--time-steps", 4, "-o", folder) == 0


@pytest.mark.parametrize("kind", ["module", "old module", "pickle"])
def test_a_pickled_network_is_refused_and_never_loaded(
    kind: str,
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("export", write(tmp_path, kind), "-o", tmp_path / "net.deploy") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"would run its author's code; save the weights alone", line)
    assert "mtspark export FILE.py:make_model --weights weights.pt --input-shape ..." in line
    assert not (tmp_path / "unpickled").exists()


def test_a_network_of_another_kind_in_a_file_without_its_suffix(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "graph.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert call("export", tmp_path / "graph.h5") == 2
    assert "NIR graphs are named .nir, netx networks .net" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.nir", "a.net", "a.pt", "a.safetensors"])
def test_a_pointer_of_git_lfs_is_named(
    name: str, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a clone without git-lfs holds in the place of a large file."""
    lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{'0a' * 32}", "size 12345")
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    assert call("export", tmp_path / name) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}: a Git LFS pointer" in line
    assert "git lfs pull" in line
