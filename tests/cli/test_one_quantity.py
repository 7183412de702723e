"""Of a network that is no agent, too: one quantity has one value in every output."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from numpy.typing import NDArray

import mtspark
from mtspark.core.errors import BadRequestError

pytestmark = pytest.mark.slow

STEPS, SAMPLES, SCALE = 5, 12, 1 / 256
DRAW = np.random.default_rng(11)
HIDDEN, OUT = (DRAW.integers(-8, 12, shape) / 16 for shape in ((6, 4), (3, 6)))
X = DRAW.integers(0, 256, (SAMPLES, 4)) * SCALE
THRESHOLD = 1.25


def integrate(currents: NDArray[Any]) -> NDArray[np.bool_]:
    """Spikes of IF neurons that reset to zero, (T, samples, neurons), by the equation."""
    membrane, spikes = np.zeros(currents.shape[1:]), []
    for current in currents:
        membrane = membrane + current
        spikes.append(membrane > THRESHOLD)
        membrane = np.where(spikes[-1], 0.0, membrane)
    return np.array(spikes)


HIDDEN_SPIKES = integrate(np.tile(X @ HIDDEN.T, (STEPS, 1, 1)))
OUT_SPIKES = integrate(HIDDEN_SPIKES @ OUT.T)
Y = (OUT_SPIKES.sum(0).argmax(1) + (np.arange(SAMPLES) == 0)) % 3
"""The first label is wrong: 11 of 12 are right."""
SPIKES = {"a": HIDDEN_SPIKES, "b": OUT_SPIKES}


class Outputs:
    """What each command writes about the same samples of the same bundle."""

    def __init__(self, folder: Path, call: Callable[..., int]) -> None:
        self.place, self._call = folder, call
        ones, zeros = {n: np.ones(n) for n in (3, 6)}, {n: np.zeros(n) for n in (3, 6)}
        nodes = {
            "input": nir.Input({"input": np.array([4])}),
            "one": nir.Linear(HIDDEN),
            "a": nir.IF(r=ones[6], v_threshold=THRESHOLD * ones[6], v_reset=zeros[6]),
            "two": nir.Linear(OUT),
            "b": nir.IF(r=ones[3], v_threshold=THRESHOLD * ones[3], v_reset=zeros[3]),
            "output": nir.Output({"output": np.array([3])}),
        }
        names = list(nodes)
        edges = list(pairwise(names))
        nir.write(folder / "net.nir", nir.NIRGraph(nodes=nodes, edges=edges))
        np.save(folder / "x.npy", X)
        np.save(folder / "series.npy", X[:, None])
        np.save(folder / "y.npy", Y)
        np.save(folder / "raw.npy", np.round(X / SCALE).astype(np.uint8))
        self.folder = folder / "net.deploy"
        self.export = self.json(
            *("export", folder / "net.nir", "-o", self.folder, "--time-steps", STEPS),
            *("--input-bits", 8, "--input-scale", SCALE, "--one-frame"),
            *("--input", folder / "series.npy"),
        )
        assert all(one["exact"] == one["neurons"] for one in self.export["exact"])
        self.run = self.json("run", self.folder, "--input", folder / "series.npy")
        self.eval = self.json(*self.eval_words("x.npy"))
        self.map = self.json("map", self.folder)
        self.explain = self.json("explain", self.folder, "--inputs", folder / "x.npy")

    def eval_words(self, name: str) -> tuple[object, ...]:
        return ("eval", self.folder, "--data", self.place / name, "--labels", self.place / "y.npy")

    def json(self, *words: object) -> dict[str, Any]:
        out = self.place / "out.json"
        out.unlink(missing_ok=True)
        assert self._call(*words, "--json", out) == 0
        written: dict[str, Any] = json.loads(out.read_text())
        return written


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, call: Callable[..., int]) -> Outputs:
    return Outputs(tmp_path_factory.mktemp("quantities"), call)


def test_counts_are_those_of_the_equation_everywhere(outputs: Outputs) -> None:
    chip = mtspark.load_bundle(outputs.folder)
    ran, scored = chip.run(X), chip.evaluate(X, Y)
    sources = [
        outputs.run["layers"],
        outputs.eval["layers"],
        ran.to_json()["layers"],
        scored.to_json()["layers"],
    ]
    assert all(layers == sources[0] for layers in sources)
    inputs = int(np.count_nonzero(X)) * STEPS
    for one in (outputs.run, outputs.eval, ran.to_json()):
        assert one["input_events"] == {"total": inputs, "window": inputs, "drain": 0}
        assert one["samples"] == SAMPLES
    fans = {"a": (inputs, HIDDEN), "b": (int(HIDDEN_SPIKES.sum()), OUT)}
    for layer in sources[0]:
        spikes = SPIKES[layer["name"]]
        assert layer["neurons"] == spikes.shape[-1]
        assert layer["spikes_window"] == int(spikes.sum()) > 0
        assert layer["spikes"] == layer["spikes_window"] + layer["spikes_drain"]
        assert layer["silent_neurons"] == int((spikes.sum((0, 1)) == 0).sum())
        sent, weights = fans[layer["name"]]
        assert layer["synops_structural_window"] == sent * len(weights)
        assert layer["neuron_updates_window"] == STEPS * SAMPLES * len(weights)
        # Two layers deep: each is updated in the two steps of the pipeline, too.
        assert layer["neuron_updates"] == (STEPS + 2) * SAMPLES * len(weights)
    window = {name: int(spikes.sum()) for name, spikes in SPIKES.items()}
    assert outputs.run["spikes"] == ran.to_json()["spikes"] == window
    rates = {layer["layer"]: layer["chip_rate"] for layer in outputs.export["layers"]}
    assert rates == {name: pytest.approx(spikes.mean()) for name, spikes in SPIKES.items()}


def test_answers_accuracy_and_agreement_are_one(outputs: Outputs) -> None:
    chip = mtspark.load_bundle(outputs.folder)
    ran, scored = chip.run(X), chip.evaluate(X, Y)
    assert outputs.run["values"] == ran.values.tolist() == OUT_SPIKES.sum(0).tolist()
    for one in (outputs.eval, scored.to_json()):
        assert one["accuracy"] == one["float_accuracy"] == 11 / 12
    table = {row["effect"]: row for row in outputs.explain["tables"][0]["rows"]}
    assert outputs.eval["agreement"] == scored.agreement == 1.0
    assert table["all: the chip"]["action_agreement"] == 1.0
    assert outputs.explain["decisions"] == SAMPLES
    messages = outputs.json("explain", outputs.folder, "--inputs", outputs.place / "raw.npy")
    series = outputs.json("explain", outputs.folder, "--inputs", outputs.place / "series.npy")
    assert messages == series == outputs.explain


def test_the_bill_and_the_network_are_one(outputs: Outputs) -> None:
    chip = mtspark.load_bundle(outputs.folder)
    (bill,) = outputs.eval["energy"]
    assert json.loads(json.dumps(chip.energy(X).to_json())) == bill
    assert json.loads(json.dumps(chip.evaluate(X, Y).energy().to_json())) == bill
    terms = {term["term"]: term["count_per_decision"] for term in bill["terms"]}
    layers = outputs.run["layers"]
    for term, name in (("neuron_update", "neuron_updates"), ("spike_out", "spikes")):
        assert terms[term] * SAMPLES == pytest.approx(sum(layer[name] for layer in layers))
    operations = terms["synaptic_operation"] + terms["graded_synaptic_operation"]
    structural = sum(layer["synops_structural"] for layer in layers)
    assert operations * SAMPLES == pytest.approx(structural)
    mapped: dict[str, int] = {}
    for core in outputs.map["cores"]:
        mapped[core["population"]] = mapped.get(core["population"], 0) + core["use"]["neurons"]
    del mapped["input"]
    assert mapped == {layer["name"]: layer["neurons"] for layer in layers}
    assert mapped == {one["population"]: one["neurons"] for one in outputs.export["exact"]}
    assert len(chip.map().to_json()["cores"]) == len(outputs.map["cores"])
    for one in (outputs.run, outputs.eval, outputs.map, outputs.explain, chip.run(X).to_json()):
        assert one["network_sha256"] == chip.bundle.network_hash


def test_messages_and_values_are_one_input(
    outputs: Outputs, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes are messages; values in between are rounded, and it is said how far."""
    chip = mtspark.load_bundle(outputs.folder)
    raw = np.load(outputs.place / "raw.npy")
    assert chip.evaluate(raw, Y).to_json() == chip.evaluate(X, Y).to_json()
    between = X + SCALE / 3 * (X < 0.9)
    assert chip.run(between).values.tolist() == chip.run(X).values.tolist()
    assert chip.evaluate(between, Y).rounding == pytest.approx(SCALE / 3)
    with pytest.raises(BadRequestError, match=r"export again with some of these inputs \(sample\)"):
        chip.run(X + 300.5)
    np.save(outputs.place / "large.npy", X + 300.5)
    capsys.readouterr()
    assert call(*outputs.eval_words("large.npy")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {outputs.place / 'large.npy'}: has the value")
    low, high = X.min() + 300.5, X.max() + 300.5
    assert f"its values are {low:g} to {high:g}; this network's input takes 0 to 0.9" in error
    np.save(outputs.place / "many.npy", Y[:3])
    words = [outputs.place / "many.npy" if word == outputs.place / "y.npy" else word
             for word in outputs.eval_words("x.npy")]  # fmt: skip
    assert call(*words) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(f"error: {outputs.place / 'many.npy'}: has shape (3,)")
    )


def test_frames_that_change_are_refused_in_export_as_in_run(
    outputs: Outputs, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The float network and the chip were compared on the first frame alone, without a word."""
    changing = outputs.place / "changing.npy"
    np.save(changing, np.stack([X, X[::-1]], 1))
    for options in ((), ("--calibrate", "mse")):
        words = ("export", outputs.place / "net.nir", "-o", outputs.place / "other.deploy")
        held = ("--input-bits", 8, "--input-scale", SCALE, "--one-frame", "--time-steps", STEPS)
        assert call(*words, *held, "--input", changing, *options) == 2
        exported = capsys.readouterr().err.splitlines()[-1]
        assert "changes from step to step" in exported
    assert not (outputs.place / "other.deploy").exists()
    assert call("run", outputs.folder, "--input", changing) == 2
    assert capsys.readouterr().err.splitlines()[-1] == exported
    # Frames need no axis of time: run and export take those that eval takes.
    frames = outputs.json("run", outputs.folder, "--input", outputs.place / "x.npy")
    assert {**frames, "recording": ""} == {**outputs.run, "recording": ""}


def test_nobody_is_sent_to_a_game_that_is_not_there(
    outputs: Outputs, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for words, reason in (
        (("hil", outputs.folder), "task 'default' is no game; none of its tasks is"),
        (("map", outputs.folder, "--task", "default"), "leave --task out"),
    ):
        capsys.readouterr()
        assert call(*words) == 2
        assert reason in capsys.readouterr().err
    assert call("map", outputs.folder) == 0
