"""The commands on a tiny agent: what they write, what they print, how they refuse."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtspark.cli import main as cli
from mtspark.core.environments.protocol import GameProtocol
from mtspark.deploy.bundle import load_bundle, save_network, sha256
from mtspark.train.checkpoint.agent import Agent, save_agent


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    folder = checkpoint.parent / "tiny.deploy"
    assert mtspark("export", str(checkpoint), "-o", str(folder)) == 0
    return folder


def mtspark(*arguments: str) -> int:
    """Run the console script in this process; its exit code."""
    before = sys.argv
    sys.argv = ["mtspark", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_export_writes_graphs_network_and_the_checkpoint(bundle: Path) -> None:
    names = {path.name for path in bundle.iterdir()} - {"runs"}
    assert names == {
        "agent.pt",
        "fidelity.json",
        "graph.breakout.nir",
        "graph.pong.nir",
        "manifest.json",
        "network.json",
        "network.safetensors",
    }
    fidelity = json.loads((bundle / "fidelity.json").read_text())
    for layers in fidelity["graph_against_torch"].values():
        assert [layer["different"] for layer in layers] == [0, 0, 0]
    assert all(room["membrane"] < 1 for room in fidelity["headroom"])


@pytest.mark.slow
def test_mtspark_export_is_the_same_command(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["mtspark-export", str(checkpoint)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.export_main()
    assert not end.value.code
    load_bundle(tmp_path / "tiny.deploy")


def test_run_writes_its_result_in_the_bundle_and_where_asked(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    code = mtspark(
        *("run", str(bundle), "--task", "breakout", "--episodes", "2", "--seed", "4"),
        *("--max-decisions", "5", "--json", str(out)),
    )
    assert code == 0
    result = json.loads(out.read_text())
    assert (result["backend"], result["task"], result["seed"]) == ("engine", "breakout", 4)
    assert [episode["decisions"] for episode in result["episodes"]] == [5, 5]
    assert [layer["name"] for layer in result["layers"]] == ["conv1", "conv2", "hidden", "head"]
    for layer in result["layers"]:
        for key in ("spikes", "synops_structural", "synops_effective", "neuron_updates"):
            assert layer[key] == layer[f"{key}_window"] + layer[f"{key}_drain"]
        # T = 3 and depth 4: seven steps a decision, ten decisions.
        assert layer["neuron_updates"] == layer["neurons"] * 7 * 10
    (bill,) = result["energy"]
    assert bill["card"] == "Loihi 2 (fitted to PilotNet)"
    # The frame's 8-bit values are what Loihi 1 cannot send.
    assert not bill["hypothetical"]
    assert bill["dynamic_j_per_decision"] > 0
    (on_chip,) = (one for one in result["energy_on_chip"] if one["card"] == bill["card"])
    assert result["cost"]["dynamic_j_per_decision"] == on_chip["dynamic_j_per_decision"] > 0
    stored = [json.loads(path.read_text()) for path in (bundle / "runs").glob("*.json")]
    assert result in stored
    load_bundle(bundle)


def test_a_bill_of_a_chip_that_the_network_does_not_fit_is_hypothetical(
    bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run.json"
    code = mtspark(
        *("run", str(bundle), "--task", "pong", "--max-decisions", "1"),
        *("--card", "loihi1_davies2018", "--json", str(out)),
    )
    assert code == 0
    (bill,) = json.loads(out.read_text())["energy"]
    assert bill["card"] == "Loihi 1 (Davies 2018)"
    assert bill["hypothetical"]
    assert bill["dynamic_j_per_decision"] > 0


def test_the_same_seed_plays_the_same_game(bundle: Path, tmp_path: Path) -> None:
    results = []
    for name in ("a.json", "b.json"):
        mtspark(
            *("run", str(bundle), "--task", "pong", "--max-decisions", "30", "--seed", "3"),
            *("--json", str(tmp_path / name)),
        )
        results.append(json.loads((tmp_path / name).read_text()))
    assert results[0]["episodes"] == results[1]["episodes"]
    assert results[0]["layers"] == results[1]["layers"]


def test_torch_plays_too_and_has_no_drain(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    arguments = ("--task", "pong", "--backend", "torch", "--max-decisions", "3")
    assert mtspark("run", str(bundle), *arguments, "--json", str(out)) == 0
    layers = json.loads(out.read_text())["layers"]
    assert sum(layer["spikes"] for layer in layers) > 0
    assert all(layer["neuron_updates_drain"] == 0 for layer in layers)


@pytest.mark.slow
def test_report_shows_the_runs_of_this_network_only(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a.deploy"
    mtspark("export", str(checkpoint), "-o", str(folder))
    capsys.readouterr()
    assert mtspark("report", str(folder)) == 2
    assert "mtspark run" in one_line(capsys)
    mtspark("run", str(folder), "--task", "pong", "--max-decisions", "3")
    mtspark("run", str(folder), "--task", "pong", "--max-decisions", "4")
    out = tmp_path / "report.json"
    assert mtspark("report", str(folder), "--json", str(out)) == 0
    (run,) = json.loads(out.read_text())["runs"]
    assert run["decisions"] == 4
    mtspark("export", str(checkpoint), "-o", str(folder), "--weight-bits", "4", "--force")
    capsys.readouterr()
    assert mtspark("report", str(folder)) == 2
    assert "no runs of this network" in one_line(capsys)


def change_one_weight(bundle: Path, target: Path) -> tuple[str, tuple[int, ...]]:
    """Copy a bundle and raise one weight of the first layer by hand; manifest kept true."""
    shutil.copytree(bundle, target)
    network = load_bundle(target).network
    weights = network.connections[0].weights
    index = np.unravel_index(np.argmin(weights), weights.shape)
    weights[index] = 254
    save_network(network, target)
    manifest = json.loads((target / "manifest.json").read_text())
    for name in ("network.json", "network.safetensors"):
        manifest["files"][name] = sha256(target / name)
    (target / "manifest.json").write_text(json.dumps(manifest))
    return "conv1", (int(index[0]),)


def test_diff_finds_the_weight_that_was_changed(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "diff.json"
    same = ("diff", str(bundle), "--against", str(bundle), "--decisions", "4", "--json", str(out))
    assert mtspark(*same) == 0
    result = json.loads(out.read_text())
    assert result["equal"]
    assert result["first_divergence"] is None
    neurons = sum(p.size for p in load_bundle(bundle).network.populations)
    assert result["compared"] == 4 * 7 * neurons * 2
    layer, channel = change_one_weight(bundle, tmp_path / "changed")
    other = str(tmp_path / "changed")
    diff = ("diff", str(bundle), "--against", other, "--decisions", "4", "--json", str(out))
    assert mtspark(*diff) == 1
    result = json.loads(out.read_text())
    assert not result["equal"]
    first = result["first_divergence"]
    # Pixels sent in step 1 arrive in step 2; only the changed filter's channel can differ.
    assert (first["step"], first["layer"]) == (2, layer)
    assert first["neuron"][0] == channel[0]
    assert first["expected"] != first["got"]


def test_reference_and_engine_agree(bundle: Path, tmp_path: Path) -> None:
    for against in ("reference", "engine"):
        out = tmp_path / "diff.json"
        arguments = ("--against", against, "--task", "breakout", "--decisions", "5")
        assert mtspark("diff", str(bundle), *arguments, "--json", str(out)) == 0
        assert json.loads(out.read_text())["equal"]


@pytest.mark.third_party
def test_lava_finds_the_weight_that_was_changed(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("lava", reason="lava-nc is not installed")
    from mtspark.sim.backends.lava.backend import LavaBackend
    from mtspark.sim.backends.reference import ReferenceChip
    from mtspark.sim.compare.agreement import compare_traces
    from mtspark.workflows.diff.frames import task_frames

    change_one_weight(bundle, tmp_path / "changed")
    whole, changed = load_bundle(bundle), load_bundle(tmp_path / "changed")
    frames = task_frames(whole.network, "pong", 2, 0)
    lava = LavaBackend(changed.network, trace=True)
    try:
        comparison = compare_traces(ReferenceChip(whole.network), lava, frames, 0)
    finally:
        lava.close()
    assert comparison.first is not None
    assert (comparison.first.layer, comparison.first.step) == ("conv1", 2)


@pytest.mark.third_party
def test_reference_and_lava_agree(
    make_agent: Callable[..., Agent], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of frames as changes, the default; stock Lava runs them as it says itself."""
    pytest.importorskip("lava", reason="lava-nc is not installed")
    save_agent(make_agent(), tmp_path / "a.pt")
    changes, plain = tmp_path / "changes.deploy", tmp_path / "plain.deploy"
    assert mtspark("export", str(tmp_path / "a.pt"), "-o", str(changes)) == 0
    assert mtspark("diff", str(changes), "--against", "lava-stock", "--task", "pong") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("export with --encoder every-step")
    words = (str(tmp_path / "a.pt"), "-o", str(plain), "--encoder", "every-step")
    assert mtspark("export", *words) == 0
    for task in ("pong", "breakout"):
        for folder, against in ((changes, "lava"), (plain, "lava-stock"), (changes, "reference")):
            out = tmp_path / "diff.json"
            arguments = ("--against", against, "--task", task, "--decisions", "2")
            assert mtspark("diff", str(folder), *arguments, "--json", str(out)) == 0
            result = json.loads(out.read_text())
            assert result["equal"]
            assert result["compared"] > 0


def test_diff_against_torch_tells_the_agreement_of_actions(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "diff.json"
    diff = ("diff", str(bundle), "--against", "torch", "--decisions", "40", "--json", str(out))
    assert mtspark(*diff) == 0
    result = json.loads(out.read_text())
    assert result["decisions"] == 40
    assert result["action_agreement"] > 0.6
    assert list(result["layers"]) == ["conv1", "conv2", "hidden"]


@pytest.mark.slow
def test_eval_scores_float_and_chip_on_the_same_starts(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtspark.train.checkpoint.agent import load_agent

    agent = load_agent(checkpoint)
    short = GameProtocol(max_frames_per_episode=200)
    save_agent(Agent(agent.network, agent.tasks, short), tmp_path / "short.pt")
    mtspark("export", str(tmp_path / "short.pt"), "-o", str(tmp_path / "short.deploy"))
    out = tmp_path / "eval.json"
    arguments = ("--episodes", "2", "--json", str(out))
    assert mtspark("eval", str(tmp_path / "short.deploy"), *arguments) == 0
    rows = json.loads(out.read_text())["rows"]
    kinds = [(row["task"], row["backend"], row["sticky_action_probability"]) for row in rows]
    assert kinds == [
        (task, backend, sticky)
        for task in ("pong", "breakout")
        for sticky in (0, 0.25)
        for backend in ("torch", "engine")
    ]
    for row in rows:
        low, high = row["interval_95"]
        assert low <= row["mean_return"] <= high
        assert (row["action_agreement"] is None) == (row["backend"] == "torch")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("export", "{tmp}/no.pt"), "no such file"),
        (("export", "{tmp}/text.pt"), "not a PyTorch checkpoint"),
        (("export", "{agent}", "-o", "{tmp}/text.pt/x"), "cannot be written"),
        (("export", "{agent}", "-o", "{tmp}"), "no mtspark bundle"),
        (("export", "{agent}", "--weight-bits", "9"), "2 to 8"),
        (("run", "{tmp}/none.deploy", "--task", "pong"), "no such file"),
        (("run", "{bundle}", "--task", "chess"), "knows pong, breakout"),
        (("run", "{bundle}", "--task", "pong", "--json", "{tmp}/text.pt/x.json"), "cannot be"),
        (("diff", "{bundle}", "--against", "loihi3"), "neither a backend"),
        (("diff", "{bundle}", "--against", "torch", "--task", "chess"), "knows pong, breakout"),
        (("report", "{tmp}"), "no such file"),
        (("demo", "{tmp}/no.pt", "-o", "{tmp}/out"), "no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
    text: str,
    checkpoint: Path,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mtspark.workflows.demo.installed_lava", lambda: "0.10.0")
    (tmp_path / "text.pt").write_text("a poem")
    runs = sorted(bundle.glob("runs/*"))
    places = {"tmp": tmp_path, "agent": checkpoint, "bundle": bundle}
    capsys.readouterr()
    code = mtspark(*(argument.format(**places) for argument in arguments))
    assert text in one_line(capsys)
    assert code == 2
    assert sorted(bundle.glob("runs/*")) == runs


def test_lava_missing_is_one_line_that_says_how_to_get_it(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mtspark.sim.backends.lava.backend as runner

    monkeypatch.setattr(runner, "installed_lava", lambda: None)
    capsys.readouterr()
    code = mtspark("diff", str(bundle), "--against", "lava", "--decisions", "1")
    assert "mtspark install-lava" in one_line(capsys)
    assert code == 2
