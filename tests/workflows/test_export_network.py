"""Export and run of networks that are no agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from mtspark.cli.show.export import print_export
from mtspark.convert.nir.reader import import_nir
from mtspark.core.errors import BadFileError, BadRequestError, MtsparkError
from mtspark.core.float_network.simulator import run_float
from mtspark.deploy.bundle import load_bundle
from mtspark.sim.recording.inputs import as_messages, load_inputs
from mtspark.workflows.backends import BackendName
from mtspark.workflows.export import comparing
from mtspark.workflows.export.pipeline import ExportResult, export_to
from mtspark.workflows.export.request import ExportRequest
from mtspark.workflows.run.inputs import run_recording, save_archive


def write_graph(path: Path, seed: int = 0) -> Path:
    """4 inputs, 6 LIF neurons with a tau of 5 steps, 2 integrators that are read."""
    generator = np.random.default_rng(seed)
    six, two = np.ones(6), np.ones(2)
    graph = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type={"input": np.array([4])}),
            "fc": nir.Affine(weight=generator.normal(0, 1, (6, 4)), bias=0.05 * six),
            "lif": nir.LIF(tau=5 * six, r=2 * six, v_leak=0 * six, v_threshold=0.3 * six),
            "out": nir.Linear(weight=generator.normal(0, 1, (2, 6))),
            "li": nir.LI(tau=9 * two, r=two, v_leak=0 * two),
            "output": nir.Output(output_type={"output": np.array([2])}),
        },
        edges=[("input", "fc"), ("fc", "lif"), ("lif", "out"), ("out", "li"), ("li", "output")],
    )
    nir.write(str(path), graph)
    return path


def export(folder: Path, **changes: Any) -> ExportResult:
    fields: dict[str, Any] = {"dt": 1.0, "time_steps": 30, **changes}
    source = write_graph(folder / "net.nir")
    return export_to(ExportRequest(source=source, **fields), folder / "net.deploy")


@pytest.mark.parametrize("shape", [(7, 4), (3, 7, 4)])
def test_a_run_is_as_long_as_the_recording(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """One series, or a batch of them; what was exported with it is explained with it."""
    recording = tmp_path / "x.npy"
    np.save(recording, np.ones(shape, np.uint8))
    exported = export(tmp_path, time_steps=None, recording=recording)
    assert exported.bundle.network.time_steps == 7
    again = import_nir(exported.bundle.folder / "graph.default.nir")
    assert again.time_steps == 7


def test_a_graph_goes_in_and_the_same_values_come_out(tmp_path: Path) -> None:
    """Exported, reloaded and run; the bundle's own graph says how it was read."""
    exported = export(tmp_path, reset="subtract")
    bundle, fidelity = exported.bundle, exported.to_json()
    assert bundle.network.protocol is None
    assert [layer["layer"] for layer in fidelity["layers"]] == ["lif"]
    assert fidelity["layers"][0]["spike_distance"] < 0.02
    assert "reset subtract" in fidelity["import_notes"][0]
    assert "reset subtract" in bundle.network.provenance["notes"]
    again = import_nir(bundle.folder / "graph.default.nir")
    assert (again.dt, again.time_steps) == (1.0, 30)
    assert again.population("lif").reset.value == "subtract"

    series = (np.random.default_rng(3).random((5, 30, 4)) < 0.4).astype(np.uint8)
    np.save(tmp_path / "x.npy", series)
    recorded = run_recording(
        load_bundle(bundle.folder), tmp_path / "x.npy", backend=BackendName.REFERENCE
    )
    save_archive(recorded.result, tmp_path / "y.npz")
    result = recorded.to_json()
    wanted = run_float(again, series.swapaxes(0, 1).astype(float))
    np.testing.assert_allclose(np.array(result["values"]), wanted.values, atol=0.05)
    stored = np.load(tmp_path / "y.npz")
    assert stored["spikes/lif"].shape == (30, 5, 6)
    assert (stored["spikes/lif"] != wanted.spikes["lif"].astype(bool)).mean() < 0.02
    assert result["spikes"]["lif"] == stored["spikes/lif"].sum() > 0


def test_a_recording_may_be_shorter_or_one_sample(tmp_path: Path) -> None:
    bundle = export(tmp_path).bundle
    np.save(tmp_path / "x.npy", np.ones((7, 4)))
    recorded = run_recording(bundle, tmp_path / "x.npy", backend=BackendName.REFERENCE)
    result = recorded.to_json()
    assert (result["samples"], result["time_steps"]) == (1, 7)


def test_what_the_input_does_not_take_is_refused(tmp_path: Path) -> None:
    bundle = export(tmp_path).bundle
    file = tmp_path / "x.npy"
    with pytest.raises(BadFileError, match="no such file"):
        load_inputs(file, bundle.network)
    np.save(file, np.ones((3, 5)))
    with pytest.raises(BadRequestError, match=r"\(3, 5\); frames \(batch, 4\) or series"):
        load_inputs(file, bundle.network)
    np.save(file, np.array([[0, 1, 0.5, 1]]))
    with pytest.raises(BadRequestError, match=r"are 0 to 1; this network's input takes 0 or 1"):
        as_messages(load_inputs(file, bundle.network)[0], bundle.network, file)
    np.save(file, np.array([[0, 1, np.nan, 1]]))
    with pytest.raises(BadFileError, match="not finite"):
        load_inputs(file, bundle.network)
    np.save(file, np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadFileError, match="no readable"):
        load_inputs(file, bundle.network)
    file.write_bytes(b"nothing")
    with pytest.raises(BadFileError, match="no readable"):
        load_inputs(file, bundle.network)


def test_a_network_that_holds_one_frame_takes_frames(tmp_path: Path) -> None:
    bundle = export(tmp_path, one_frame=True).bundle
    file, frames = tmp_path / "x.npy", np.eye(4)
    np.save(file, frames)
    run = run_recording(bundle, file, backend=BackendName.REFERENCE)
    assert run.to_json()["samples"] == 4
    np.save(file, frames[:, None])
    again = run_recording(bundle, file, backend=BackendName.REFERENCE)
    assert again.to_json()["values"] == run.to_json()["values"]
    np.save(file, np.stack([frames, frames]))
    with pytest.raises(BadRequestError, match=r"give one frame a sample, \(batch, 4\)"):
        run_recording(bundle, file, backend=BackendName.REFERENCE)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dt": 20.0}, "shorter than dt"),
        ({"output_node": "x"}, "no output 'x'"),
        ({"calibrate": "mse"}, "needs recorded inputs"),
        ({"weight_bits": 9}, "2 to 8 exist"),
    ],
)
def test_a_refusal_leaves_nothing_behind(
    tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(MtsparkError, match=text):
        export(tmp_path, **changes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.nir"]


def test_the_published_convolutional_network_exports_and_runs(golden: Path, tmp_path: Path) -> None:
    source = golden / "cnn" / "cnn_sinabs.nir"
    exported = export_to(ExportRequest(source=source, time_steps=20), tmp_path / "cnn.deploy")
    bundle, fidelity = exported.bundle, exported.to_json()
    assert len(bundle.network.populations) == 5
    distances = {layer["layer"]: layer["spike_distance"] for layer in fidelity["layers"]}
    assert max(distances.values()) < 0.1
    assert all(layer["chip_rate"] > 0 for layer in fidelity["layers"])
    stored = json.loads((bundle.folder / "fidelity.json").read_text())
    assert stored["layers"] == fidelity["layers"]


def test_pilotnet_exports(golden: Path, tmp_path: Path) -> None:
    source = golden / "pilotnet_lif" / "network.net"
    bundle = export_to(ExportRequest(source=source), tmp_path / "pilot.deploy").bundle
    assert (bundle.folder / "network.net").read_bytes() == source.read_bytes()
    assert load_bundle(bundle.folder).network.population("fc-0").size == 100


@pytest.mark.parametrize(
    ("large", "options", "advice"),
    [
        # 1 of 10 is lost with 2 bits and held with 8.
        (10.0, {"weight_bits": 2}, "; 8 weight bits mend it (tried on the same inputs)"),
        # 1 of 300 is lost with 8 bits, and held where the recording shows that 300 is not needed.
        (300.0, {}, "; --calibrate mse mends it (tried on the same inputs)"),
        # 1 of 1000 is lost with 8 bits, and nothing that is tried mends it.
        (1000.0, {}, ""),
        # Half of all neurons never fire with the other half's threshold.
        (1.5, {"palette": 1}, "; without --palette it is gone (tried on the same inputs)"),
    ],
)
def test_advice_is_what_was_tried_and_helps(
    tmp_path: Path, large: float, options: dict[str, Any], advice: str
) -> None:
    two = np.ones(2)
    thresholds = np.array([0.5, 0.5]) if large != 1.5 else np.array([0.9, 5.0])
    nodes = {
        "input": nir.Input(input_type={"input": np.array([2])}),
        "w": nir.Linear(np.array([[large, 1.0], [large, 1.0]])),
        "n": nir.LIF(tau=two, r=two, v_leak=0 * two, v_threshold=thresholds, v_reset=0 * two),
        "output": nir.Output(output_type={"output": np.array([2])}),
    }
    edges = [("input", "w"), ("w", "n"), ("n", "output")]
    nir.write(str(tmp_path / "net.nir"), nir.NIRGraph(nodes=nodes, edges=edges))
    series = np.zeros((2, 10, 2), np.uint8)
    series[..., 1] = 1
    np.save(tmp_path / "x.npy", series)
    request = ExportRequest(
        source=tmp_path / "net.nir", dt=1.0, time_steps=10, recording=tmp_path / "x.npy", **options
    )
    (warning,) = export_to(request, tmp_path / "net.deploy").to_json()["warnings"]
    assert warning.startswith("layer 'n'")
    assert warning.endswith("on the chip" + advice)


def test_currents_bounded_by_a_recording_are_named_where_membranes_then_saturate(
    tmp_path: Path,
) -> None:
    """One of 1000 inputs inhibits for 200 steps; exponents for one current alone are too large."""
    one = np.ones(1)
    weights = np.ones((1, 1000))
    weights[0, 0] = -1
    nodes = {
        "input": nir.Input(input_type={"input": np.array([1000])}),
        "w": nir.Linear(weights),
        "n": nir.IF(r=one, v_threshold=one / 2, v_reset=0 * one),
        "output": nir.Output(output_type={"output": np.array([1])}),
    }
    edges = [("input", "w"), ("w", "n"), ("n", "output")]
    nir.write(str(tmp_path / "net.nir"), nir.NIRGraph(nodes=nodes, edges=edges))
    series = np.zeros((1, 220, 1000), np.uint8)
    series[0, :200, 0] = series[0, 200:, 1] = 1
    np.save(tmp_path / "x.npy", series)
    request = ExportRequest(
        source=tmp_path / "net.nir",
        time_steps=220,
        recording=tmp_path / "x.npy",
        bound_currents=True,
        calibrate="percentile",
    )
    warnings = export_to(request, tmp_path / "net.deploy").to_json()["warnings"]
    (said,) = [text for text in warnings if "end of their range" in text]
    assert said.endswith("; without --bound-currents it is gone (tried on the same inputs)")


def test_what_was_not_given_or_needs_a_recording_is_not_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is tried seems to help here: 1 of 300 is lost, and nothing was recorded."""
    monkeypatch.setattr(comparing, "mends", lambda *_: True)
    one = np.ones(1)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([2])}),
        "w": nir.Linear(np.array([[-300.0, 1.0]])),
        "n": nir.LIF(tau=one, r=one, v_leak=0 * one, v_threshold=one / 2, v_reset=0 * one),
        "output": nir.Output(output_type={"output": np.array([1])}),
    }
    edges = [("input", "w"), ("w", "n"), ("n", "output")]
    nir.write(str(tmp_path / "net.nir"), nir.NIRGraph(nodes=nodes, edges=edges))
    request = ExportRequest(source=tmp_path / "net.nir", dt=1.0, time_steps=20)
    (warning,) = export_to(request, tmp_path / "net.deploy").to_json()["warnings"]
    assert warning.startswith("layer 'n' has gone silent")
    assert warning.endswith("on the chip")


def test_an_export_says_how_many_neurons_are_exact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = np.ones(2)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([2])}),
        "w": nir.Linear(np.array([[0.5, 1.0], [np.pi, 1.0]])),
        "n": nir.IF(r=two, v_threshold=two, v_reset=0 * two),
        "output": nir.Output(output_type={"output": np.array([2])}),
    }
    edges = [("input", "w"), ("w", "n"), ("n", "output")]
    nir.write(str(tmp_path / "net.nir"), nir.NIRGraph(nodes=nodes, edges=edges))
    request = ExportRequest(source=tmp_path / "net.nir", time_steps=10)
    exported = export_to(request, tmp_path / "net.deploy")
    counted = [{"population": "n", "neurons": 2, "exact": 1}]
    assert exported.to_json()["exact"] == counted
    assert json.loads((exported.bundle.folder / "fidelity.json").read_text())["exact"] == counted
    print_export(exported)
    assert "exact in integers: 1 of 2 neurons" in capsys.readouterr().out


def test_neurons_that_never_forget_or_never_fire_are_deployed(tmp_path: Path) -> None:
    """tau = inf and v_threshold = inf, which stand in files of real tools; in plain NumPy."""
    weights = np.array([[0.5, 0.25], [0.5, 0.25], [0.25, 0.5], [0.5, 0.5]])
    four, tau = np.ones(4), np.array([2.0, np.inf, 2.0, 4.0])
    threshold = np.array([0.25, 0.25, np.inf, 0.5])
    graph = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type={"input": np.array([2])}),
            "w": nir.Linear(weight=weights),
            "n": nir.LIF(tau=tau, r=four, v_leak=0 * four, v_threshold=threshold),
            "output": nir.Output(output_type={"output": np.array([4])}),
        },
        edges=[("input", "w"), ("w", "n"), ("n", "output")],
    )
    nir.write(str(tmp_path / "net.nir"), graph)
    request = ExportRequest(source=tmp_path / "net.nir", dt=1.0, time_steps=40)
    bundle = export_to(request, tmp_path / "net.deploy").bundle
    series = (np.random.default_rng(3).random((40, 2)) < 0.5).astype(np.uint8)
    np.save(tmp_path / "x.npy", series)
    recorded = run_recording(bundle, tmp_path / "x.npy", backend=BackendName.REFERENCE)
    save_archive(recorded.result, tmp_path / "y.npz")
    membrane, wanted = np.zeros(4), []
    for slice_ in series:
        membrane = membrane + (weights @ slice_ - membrane) / tau
        wanted.append(membrane > threshold)
        membrane = np.where(wanted[-1], 0, membrane)
    counts = np.sum(wanted, 0)
    assert counts.tolist()[1:3] == [0, 0]
    assert counts[0] > 0 < counts[3]
    spikes = np.load(tmp_path / "y.npz")["spikes/n"]
    np.testing.assert_array_equal(spikes.reshape(40, 4), wanted)
