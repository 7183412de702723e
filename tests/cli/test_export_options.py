"""Wrong calls of `mtspark export`: one line, exit code 2, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nir
import numpy as np
import pytest

from mtspark.core.errors import BadRequestError
from mtspark.workflows.export.request import Source, source_of

MODULE = """
import sys
import snntorch as snn
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.lif = nn.Linear(3, 4), snn.Leaky(beta=0.9)

    def forward(self, x):
        sys.exit("over")

def leaves():
    sys.exit("enough")

def late():
    return Net()
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "files"
    (folder / "taken").mkdir(parents=True)
    (folder / "taken" / "mine.txt").write_text("keep")
    (folder / "m.py").write_text(MODULE)
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    ones = np.ones(4)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([3])}),
        "fc": nir.Linear(weight=np.ones((4, 3))),
        "lif": nir.LIF(4 * ones, ones, 0 * ones, ones, 0 * ones),
        "output": nir.Output(output_type={"output": np.array([4])}),
    }
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "output")]
    nir.write(str(folder / "ok.nir"), nir.NIRGraph(nodes, edges))
    told = {"mtspark": {"dt": "soon"}}
    nir.write(str(folder / "told.nir"), nir.NIRGraph(nodes, edges, metadata=told))
    huge = {**nodes, "fc": nir.Linear(weight=np.full((4, 3), 1e300))}
    nir.write(str(folder / "huge.nir"), nir.NIRGraph(huge, edges))
    never = {**nodes, "lif": nir.LIF(4 * ones, ones, 0 * ones, 1e39 * ones, 0 * ones)}
    nir.write(str(folder / "never.nir"), nir.NIRGraph(never, edges))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("none.nir", "none.nir: no such file"),
        ("m.py", "the module, m.py:FUNCTION, or the module itself; in it "),
        ("no.py", "name the function that makes the module, no.py:FUNCTION, or the module itself"),
        ("m.py:", "name the function that makes the module, m.py:FUNCTION"),
        ("some.onnx", "give what it was made of"),
        ("taken", "give what it was made of"),
        ("none.pt -o taken", "exists and is no mtspark bundle"),
        ("none.pt -o taken --force", "exists and is no mtspark bundle"),
        ("none.pt -o m.py/a.deploy", "no folder can be made in"),
        ("ok.nir --weight-bits 9", "--weight-bits"),
        ("ok.nir --palette 0", "--palette"),
        ("ok.nir --palette-chip loihi1", "add --palette N"),
        ("ok.nir --palette 9 --palette-chip loihi1", "a core holds 8"),
        ("ok.nir --advantage-only", "--advantage-only is for a checkpoint of mtspark; this is a"),
        ("ok.nir --input-shape 3,3", "has shape"),
        ("ok.nir --readout fc", "--readout is for an snntorch module; this is a NIR graph"),
        ("n.net --palette 2", "NIR graph or an snntorch module; this is a netx network"),
        ("n.net --fires-at-threshold", "--fires-at-threshold is for a NIR graph; this is a netx"),
        ("a.pt --one-frame", "--one-frame is for a NIR graph or an snntorch module; this is a"),
        ("ok.nir --held", "--held: is now called --one-frame; give that instead"),
        ("m.py:late --input-shape 3 --held", "--held: is now called --one-frame"),
        ("m.py:late --dt 1", "--dt is for a NIR graph; this is an snntorch module"),
        ("ok.nir --dt nan", "dt nan: must be above 0"),
        ("ok.nir --input-bits 3", "--input-bits 3: 0 (spikes) or 8 (bytes) exist"),
        ("ok.nir --input-scale nan", "--input-scale nan: must be above 0"),
        ("ok.nir --time-steps 1000000000", "100,000 is the limit"),
        ("ok.nir --calibrate mse", "--calibrate needs recorded inputs: --input FILE"),
        ("ok.nir --bound-currents", "--bound-currents needs recorded inputs: --input FILE"),
        ("ok.nir --palette 1 --calibrate mse --input none.npy", "none.npy: no such file"),
        ("told.nir", "told.nir: the file's metadata: dt 'soon' is unknown"),
        ("huge.nir", "connection 'input->lif' has weights beyond 3.4e+38"),
        ("never.nir", "population 'lif': thresholds beyond 3.4e+38"),
        ("m.py:late --input-shape 0,3", "sizes from 1"),
        ("m.py:late --input-shape 99999,99999", "at most 4,194,304 values"),
        ("m.py:late --input-shape 3 --time-steps 4", "cannot be run on input of shape (2, 3)"),
        ("m.py:leaves --input-shape 3", "leaves() fails: SystemExit: enough"),
        ("leaves.py:f --input-shape 3", "leaves.py: cannot be run: SystemExit: 3"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(
    files: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    words: str,
) -> None:
    before = sorted(files.iterdir())
    assert call("export", *arguments.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    made = [path for path in sorted(files.iterdir()) if path not in before]
    assert [path.name for path in made] in ([], ["__pycache__"])
    assert [path.name for path in (files / "taken").iterdir()] == ["mine.txt"]


def test_a_bundle_is_replaced_only_where_the_user_says_so(
    files: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("export", "ok.nir") == 0
    manifest = (files / "ok.deploy" / "manifest.json").read_bytes()
    assert call("export", "ok.nir", "--weight-bits", 4) == 2
    assert "add --force" in capsys.readouterr().err
    assert (files / "ok.deploy" / "manifest.json").read_bytes() == manifest
    assert call("export", "ok.nir", "--weight-bits", 4, "--force") == 0
    assert (files / "ok.deploy" / "manifest.json").read_bytes() != manifest


def test_force_keeps_a_file_of_the_users_own_and_says_what_to_do(
    files: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The very advice is followed: first it destroyed the bundle, then repeated itself."""
    assert call("export", "ok.nir") == 0
    bundle = files / "ok.deploy"
    (bundle / "network.onnx").write_text("mine")
    capsys.readouterr()
    assert call("export", "ok.nir", "--force", "--formats", "onnx") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "network.onnx: is not the bundle's own" in line
    (bundle / "network.onnx").rename(bundle / "mine.onnx")
    assert call("export", "ok.nir", "--force", "--formats", "onnx") == 0
    (bundle / "network.onnx").write_text("altered")
    capsys.readouterr()
    assert call("map", "ok.deploy") == 2
    assert "export again with --force" in capsys.readouterr().err
    assert call("export", "ok.nir", "--force", "--formats", "onnx") == 0
    out = capsys.readouterr().out
    assert "kept network-2.onnx: the new bundle needed the name that this file of yours had" in out
    assert (bundle / "network-2.onnx").read_text() == "altered"
    assert (bundle / "mine.onnx").read_text() == "mine"
    assert call("map", "ok.deploy") in (0, 1)


def test_sources_by_name() -> None:
    assert source_of(Path("a/b.pt")) is Source.AGENT
    assert source_of(Path("a/b.nir")) is Source.NIR
    assert source_of(Path("a/b.net")) is Source.NETX
    assert source_of(Path("a/b.py:make")) is Source.MODULE
    with pytest.raises(BadRequestError):
        source_of(Path("b.py:not a name"))
