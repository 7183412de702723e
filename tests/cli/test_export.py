"""Export and demo: what is compared is what was written, and a failure leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mtspark.convert.nir as nir_export
import mtspark.sim.engine.chip as engine
from mtspark.deploy.bundle import load_bundle
from mtspark.train.checkpoint.agent import Agent, load_agent, save_agent


@pytest.mark.parametrize("task", ["pong", "breakout"])
@pytest.mark.slow
def test_a_graph_that_differs_once_written_is_not_exported(
    task: str,
    checkpoint: Path,
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = nir_export.graph_bytes

    def lossy(graph: Any) -> bytes:
        if graph.metadata["mtspark"]["task"] == task:
            graph.nodes["conv2_lif"].v_threshold = 0.5 * graph.nodes["conv2_lif"].v_threshold
        return plain(graph)

    monkeypatch.setattr(nir_export, "graph_bytes", lossy)
    assert call("export", checkpoint, "-o", tmp_path / "deep" / "a.deploy") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: task '{task}', layer 'conv2': ")
    assert "spikes of the NIR graph differ from torch" in line
    assert not list(tmp_path.iterdir())


def test_sixteen_different_frames_of_every_task_are_compared(
    played: Path, checkpoint: Path
) -> None:
    fidelity = json.loads((played / "fidelity.json").read_text())["graph_against_torch"]
    assert list(fidelity) == ["pong", "breakout"]
    graph = nir_export.load_graph(played / "graph.pong.nir")
    steps = graph.metadata["mtspark"]["time_steps"]
    for layers in fidelity.values():
        for layer in layers:
            neurons = graph.nodes[f"{layer['name']}_lif"].v_threshold.size
            assert layer["compared"] == 16 * steps * neurons


def test_the_graphs_in_the_bundle_are_those_that_were_compared(
    checkpoint: Path,
    call: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, compared = nir_export.load_graph, {}

    def load(path: str, *, content: bytes) -> object:
        compared[path] = content
        return plain(path, content=content)

    monkeypatch.setattr(nir_export, "load_graph", load)
    assert call("export", checkpoint, "-o", tmp_path / "a.deploy") == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "a.deploy").glob("*.nir")}
    assert written == compared
    assert set(written) == {"graph.pong.nir", "graph.breakout.nir"}


@pytest.mark.parametrize("content", [None, "a poem"])
def test_a_demo_without_an_agent_leaves_no_folder(
    content: str | None,
    call: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mtspark.workflows.demo.installed_lava", lambda: "0.10.0")
    if content is not None:
        (tmp_path / "agent.pt").write_text(content)
    assert call("demo", tmp_path / "agent.pt", "-o", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


def test_the_clock_of_a_run_starts_after_the_first_decision_on_the_engine(
    played: Path, call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mtspark.workflows.run.games as run

    events: list[str] = []
    plain = engine.EngineChip.decide

    def decide(
        self: engine.EngineChip, frames: np.ndarray, *rest: object, **more: object
    ) -> object:
        events.append(f"{len(frames)} {'black' if not frames.any() else 'real'}")
        return plain(self, frames, *rest, **more)  # type: ignore[arg-type]

    class Clock:
        @staticmethod
        def perf_counter() -> float:
            events.append("clock")
            return float(len(events))

    monkeypatch.setattr(engine.EngineChip, "decide", decide)
    monkeypatch.setattr(run, "time", Clock)
    out = tmp_path / "run.json"
    arguments = ("--task", "pong", "--episodes", 2, "--max-decisions", 3, "--json", out)
    assert call("run", played, *arguments) == 0
    assert events == ["2 black", "clock", "2 real", "2 real", "2 real", "clock"]
    result = json.loads(out.read_text())
    assert result["decisions"] == 6
    assert "without the engine's first decision" in result["host_time"]["includes"]
    assert call("run", played, *arguments, "--backend", "reference") == 0
    assert "first decision" not in json.loads(out.read_text())["host_time"]["includes"]


@pytest.mark.parametrize(
    ("config", "options", "bits"),
    [
        ({}, (), "8"),
        ({"quantisation_aware": False, "weight_bits": 4}, (), "8"),
        ({"quantisation_aware": True, "weight_bits": 4}, (), "4"),
        ({"quantisation_aware": True, "weight_bits": 4}, ("--weight-bits", 6), "6"),
        ({"quantisation_aware": True, "weight_bits": "many"}, (), "8"),
    ],
)
@pytest.mark.slow
def test_weights_have_the_bits_that_an_agent_learned_on(
    config: dict[str, object],
    options: tuple[object, ...],
    bits: str,
    checkpoint: Path,
    call: Callable[..., int],
    tmp_path: Path,
) -> None:
    agent = load_agent(checkpoint)
    learned = Agent(agent.network, agent.tasks, agent.protocol, {"config": config})
    save_agent(learned, tmp_path / "a.pt")
    assert call("export", tmp_path / "a.pt", "-o", tmp_path / "a.deploy", *options) == 0
    network = load_bundle(tmp_path / "a.deploy").network
    assert network.provenance["weight_bits"] == bits
    assert {link.weight_bits for link in network.connections} == {int(bits)}
