"""Every JSON format that mtspark writes, made by its command line from small inputs.

A case is a function of a :class:`Workshop` that returns JSON values; its golden file
``golden/NAME.json`` holds them, stripped and reduced (:mod:`tests.project.canonical`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tests.project.canonical import (
    bundle_files,
    hashed,
    log_of_run,
    reduced,
    stripped,
    text_of,
    torch_content,
)
from tests.project.commands import Commands

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).resolve().with_name("golden")
AGENTS = ROOT / "examples" / "agents"
TINY = GOLDEN / "tiny.pt"
"""The agent of the whole run of RUNS["run"], written by commit 68db3cd."""

SHIPPED = ("pong", "mtspark-3games", "images")
WAITING = ("pong", "mtspark-3games")
"""Agents of a game that waits: the first that shipped, under the names that they had then."""
RECIPES = (
    *("pong-waiting", "pong-dqn", "breakout-teacher", "realtime-teacher"),
    *("three-games-waiting", "three-games-taught", "dendrites", "images", "ablation"),
)
SMALL_NETWORK = (
    *("--set", "network.hidden=12", "--set", "network.time_steps=3", "--set", "bfloat16=false"),
    *("--set", "network.threshold=0.25", "--set", "network.beta=0.75"),
    "--set",
    "network.convolutions=[{channels=3,kernel=5,stride=3},{channels=4,kernel=3,stride=1}]",
)
SMALL_GAMES = (
    *("--set", "games_per_task=2", "--set", "rollout_steps=8", "--set", "minibatches=2"),
    *("--set", "protocol.screen_size=20", "--set", "protocol.frame_stack=2"),
    *("--set", "protocol.max_frames_per_episode=320", *SMALL_NETWORK),
)
RUNS: dict[str, tuple[str, ...]] = {
    "run": (
        *("train", "pong-waiting", "--game", "pong", "--game", "breakout", "--steps", "960"),
        *("--set", "checkpoint_every_steps=480", *SMALL_GAMES),
    ),
    "dqn-run": (
        *("train", "pong-dqn", "--steps", "480", "--set", "checkpoint_every_steps=240"),
        *SMALL_GAMES,
        *("--set", "replay.capacity=200", "--set", "replay.warmup=40"),
        *("--set", "replay.batch_size=32", "--set", "replay.update_every=8"),
        *("--set", "replay.target_every=5"),
    ),
    "images-run": (
        *("train", "images", "--data", "data", "--set", "epochs=2", "--set", "batch=16"),
        *SMALL_NETWORK,
    ),
}
"""Commands of small training runs; ``golden/NAME-before`` holds each as it was when it was stopped
at its first checkpoint, with the code of commit 68db3cd."""
NUMBERS = {
    **{"train-games": "run", "train-dqn": "dqn-run", "train-images": "images-run"},
    **{"train-games-before": "run-before", "train-dqn-before": "dqn-run-before"},
}
"""Cases that train, with their run's folder: their weights and losses are in ``golden/NAME.npz``.

These are compared up to :data:`ROUNDING`, since processors round differently.
"""
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}
"""Two processors ended 3e-11 apart; a run that restarts its games in the middle, 7e-5 or more."""


def agent_file(name: str) -> Path:
    """Where a shipped agent lies today."""
    kept = f"{name.removeprefix('mtspark-')}-waiting" if name in WAITING else name
    return AGENTS / kept / f"{kept}.pt"


class Workshop(Commands):
    """A folder with bundles and recorded inputs, each made once and when it is first needed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._done: set[str] = set()

    def once(self, name: str, make: Callable[[], object]) -> str:
        """Make something on its first use; returns its name."""
        if name not in self._done:
            make()
            self._done.add(name)
        return name

    def bundle(self, name: str) -> str:
        """Folder of a shipped agent's bundle, or of the tiny agent's.

        With the encoder that all bundles had before there was a choice: their hashes are those
        that stored runs and evaluations carry.
        """
        source = TINY if name == "tiny" else self._shipped(name)
        folder = f"{name}.deploy"
        words = ("export", source, "-o", folder, "--encoder", "every-step")
        return self.once(folder, lambda: self.call(*words, "--json", f"{name}.json"))

    def _shipped(self, name: str) -> Path:
        """Under the name that it had when it was stored."""
        return Path(shutil.copyfile(agent_file(name), self.folder / f"{name}.pt"))

    def copy(self, name: str, target: str) -> str:
        """A copy of a bundle that no other case stores runs in."""
        source = self.folder / self.bundle(name)
        ignored = shutil.ignore_patterns("runs")
        return self.once(
            target, lambda: shutil.copytree(source, self.folder / target, ignore=ignored)
        )

    def played(self) -> str:
        """The tiny agent's bundle with two runs in it."""
        folder = self.copy("tiny", "played.deploy")

        def play() -> None:
            for task in ("pong", "breakout"):
                self.call("run", folder, "--task", task, *("--episodes", 2), *CUT)

        self.once("played", play)
        return folder

    def scored(self) -> str:
        """The tiny agent's evaluation."""
        words = ("eval", self.bundle("tiny"), "--episodes", 2)
        return self.once("rows.json", lambda: self.call(*words, "--json", "rows.json"))

    def images(self) -> str:
        """Folder with small image sets."""
        return self.once("data", lambda: write_images(self.folder / "data"))

    def series(self) -> str:
        """Recorded inputs of the example's spiking network, (batch, T, channels, height, width)."""
        events = np.random.default_rng(1).random((2, 6, 2, 34, 34)) < 0.1
        return self.once("events.npy", lambda: self._save("events.npy", events.astype(np.uint8)))

    def spikes(self) -> str:
        """Recorded inputs of :meth:`graph`."""
        spikes = np.random.default_rng(2).random((3, 10, 6)) < 0.4
        return self.once("spikes.npy", lambda: self._save("spikes.npy", spikes.astype(np.uint8)))

    def graph(self) -> str:
        """A NIR graph of two layers of spiking neurons."""
        return self.once("layers.nir", lambda: write_graph(self.folder / "layers.nir"))

    def network(self) -> str:
        """The bundle of :meth:`graph`, with further formats in it."""
        words = ("export", self.graph(), "-o", "layers.deploy", "--formats", "onnx,netx")
        options = ("--input", self.spikes(), "--time-steps", 10, "--dt", 1)
        return self.once(
            "layers.deploy", lambda: self.call(*words, *options, "--json", "layers.json")
        )

    def read(self, name: str) -> Any:
        """A JSON file of the folder."""
        return json.loads((self.folder / name).read_text())

    def _save(self, name: str, array: Any) -> None:
        np.save(self.folder / name, array)


ABSENT = object()
EFFECTS = ("--by-layer", "--weight-bits", "8,5")
CUT = ("--max-decisions", 20)
Case = Callable[[Workshop], Any]
CASES: dict[str, Case] = {}
SLOW: set[str] = set()
OUTSIDE: set[str] = set()
"""Cases that need the golden vectors beside the checkout."""


def case(*, slow: bool = False, outside: bool = False) -> Callable[[Case], Case]:
    """Enter a function into :data:`CASES`."""

    def enter(function: Case) -> Case:
        name = function.__name__.removeprefix("_").replace("_", "-")
        CASES[name] = function
        if slow:
            SLOW.add(name)
        if outside:
            OUTSIDE.add(name)
        return function

    return enter


def golden_text(value: Any) -> str:
    """What a golden file holds of a case's result."""
    return text_of(reduced(stripped(value)))


def vectors() -> Path | None:
    """The folder of lava-dl's PilotNet: below MTSPARK_GOLDEN, else beside the checkout."""
    beside = ROOT.parent / "shared" / "golden"
    folder = Path(os.environ.get("MTSPARK_GOLDEN") or beside) / "pilotnet_lif"
    return folder if folder.is_dir() else None


def write_images(folder: Path) -> None:
    """Two image sets of bright squares: the place of the square tells the class."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    for name, shape in (("mnist", (28, 28)), ("cifar10", (32, 32, 3))):
        for split, count in (("train", 48), ("test", 30)):
            labels = random.integers(0, 10, count)
            images = random.integers(0, 60, (count, *shape)).astype(np.uint8)
            for image, label in zip(images, labels, strict=True):
                row, column = 4 + 12 * (label // 5), 2 + 5 * (label % 5)
                image[row : row + 6, column : column + 5] = 250
            np.savez_compressed(folder / f"{name}_{split}.npz", images=images, labels=labels)


def write_graph(path: Path) -> None:
    """A chain of two dense layers of LIF neurons that reset to zero, in time steps of 1."""
    import nir

    random = np.random.default_rng(4)

    def layer(inputs: int, outputs: int) -> tuple[Any, Any]:
        weight = random.normal(0, 0.6, (outputs, inputs)).astype(np.float32)
        ones = np.ones(outputs, np.float32)
        neurons = nir.LIF(tau=4 * ones, r=4 * ones, v_leak=0 * ones, v_threshold=0.9 * ones)
        return nir.Linear(weight), neurons

    (first, one), (second, two) = layer(6, 8), layer(8, 4)
    nodes = {
        "input": nir.Input({"input": np.array([6])}),
        **{"first": first, "one": one, "second": second, "two": two},
        "output": nir.Output({"output": np.array([4])}),
    }
    names = list(nodes)
    nir.write(path, nir.NIRGraph(nodes, list(pairwise(names))))


def export_of(at: Workshop, name: str) -> dict[str, Any]:
    """A bundle's own files, and the summary that its export wrote."""
    files = bundle_files(at.folder / f"{name}.deploy")
    summary = at.read(f"{name}.json")
    # Stored once: the summary is the manifest's files and the fidelity, below a name.
    fidelity = files.pop("fidelity")
    assert summary == {
        "folder": f"{name}.deploy",
        "files": files["manifest"]["files"],
        **fidelity,
    }
    return {**files, "summary": summary}


# Export


@case(slow=True)
def _export_pong(at: Workshop) -> Any:
    at.bundle("pong")
    return export_of(at, "pong")


@case(slow=True)
def _export_mtspark_3games(at: Workshop) -> Any:
    at.bundle("mtspark-3games")
    return export_of(at, "mtspark-3games")


@case(slow=True)
def _export_images(at: Workshop) -> Any:
    at.bundle("images")
    return export_of(at, "images")


@case(slow=True)
def _export_tiny(at: Workshop) -> Any:
    at.bundle("tiny")
    return export_of(at, "tiny")


@case(slow=True)
def _export_options(at: Workshop) -> Any:
    """All that options of an agent's export add, and the description in an ONNX file."""
    options = ("--weight-bits", 6, "--calibrate", "mse", "--palette", 4, "--palette-chip", "loihi1")
    words = ("export", TINY, "-o", "options.deploy", *options, "--advantage-only")
    more = ("--scale-per-layer", "--encoder", "every-step")
    summary = at.json(*words, *more, "--formats", "nir,onnx")
    for name in list(summary["files"]):
        # The versions of the libraries that write them are in these files.
        if name.endswith((".onnx", ".nir")):
            summary["files"][name] = "(written)"
    assert summary["files"].pop("fidelity.json")
    return {**summary, "onnx": onnx_metadata(at.folder / "options.deploy" / "network.onnx")}


@case(slow=True)
def _export_encoder(at: Workshop) -> Any:
    """What the encoder of a game's frames adds to a bundle, and to the ONNX graph in it."""
    at.call("export", TINY, "-o", "changes.deploy", "--formats", "onnx")
    files = bundle_files(at.folder / "changes.deploy")
    (graph,) = onnx_metadata(at.folder / "changes.deploy" / "network.onnx").values()
    return {"input": files["network"]["input"], "hash": files["network_sha256"], "onnx": graph}


@case()
def _export_nir(at: Workshop) -> Any:
    at.network()
    summary = at.read("layers.json")
    for name in list(summary["files"]):
        if name.endswith((".onnx", ".nir", ".net")):
            summary["files"][name] = "(written)"
    files = bundle_files(at.folder / "layers.deploy")
    return {"network": files["network"], "hash": files["network_sha256"], "summary": summary}


@case()
def _export_netx(at: Workshop) -> Any:
    at.network()
    (net,) = (at.folder / "layers.deploy").glob("*.net")
    summary = at.json("export", net.relative_to(at.folder), "-o", "netx.deploy", "--time-steps", 10)
    files = bundle_files(at.folder / "netx.deploy")
    return {"network": files["network"], "hash": files["network_sha256"], "summary": summary}


@case()
def _export_snntorch(at: Workshop) -> Any:
    source = f"{ROOT / 'examples' / 'snntorch_model.py'}:make_model"
    words = ("--input-shape", "2,34,34", "--time-steps", 6, "--input", at.series())
    summary = at.json("export", source, "-o", "snntorch.deploy", *words)
    summary["files"]["graph.network.nir"] = "(written)"
    return {"summary": summary, "hash": bundle_files(at.folder / "snntorch.deploy")}


def onnx_metadata(path: Path) -> Any:
    """The JSON that describes an integer network in its ONNX file."""
    import onnx

    model = onnx.load(str(path))
    return {entry.key: json.loads(entry.value) for entry in model.metadata_props}


# Play


@case(slow=True)
def _run_pong(at: Workshop) -> Any:
    words = ("--task", "pong", "--episodes", 2, "--max-decisions", 60)
    return at.json("run", at.bundle("pong"), *words)


@case(slow=True)
def _run_breakout(at: Workshop) -> Any:
    words = ("--task", "breakout", "--seed", 3, "--sticky", 0.25, "--max-decisions", 40)
    return at.json("run", at.bundle("mtspark-3games"), *words)


@case(slow=True)
def _run_backends(at: Workshop) -> Any:
    words = ("run", at.bundle("tiny"), "--task", "breakout", *CUT)
    return {name: at.json(*words, "--backend", name) for name in ("reference", "torch")}


@case()
def _run_recorded(at: Workshop) -> Any:
    result = at.json("run", at.network(), "--input", at.spikes(), "-o", "recorded.npz")
    with np.load(at.folder / "recorded.npz") as arrays:
        kinds = {name: f"{entry.dtype} {list(entry.shape)}" for name, entry in arrays.items()}
    return {"result": result, "arrays": kinds}


@case(slow=True)
def _report_stored(at: Workshop) -> Any:
    return at.json("report", at.played())


@case(slow=True)
def _report_page(at: Workshop) -> Any:
    words = ("-o", "tiny.html", *CUT, "--seconds", 1, "--neurobench", 3, "--encoder", "held")
    cards = ("--card", "loihi2_pilotnet", "--card", "lemaire2022_8bit", "--card", "loihi1_sanafe")
    at.call("report", at.played(), *words, *cards)
    return hashed(stripped(at.read("tiny.json")), 4)


@case(slow=True)
def _report_page_pong(at: Workshop) -> Any:
    """With all price cards."""
    words = ("-o", "page-pong.html", "--max-decisions", 20, "--seconds", 1, "--seed", 0)
    at.call("report", at.copy("pong", "page-pong.deploy"), *words)
    return at.read("page-pong.json")


@case(slow=True)
def _report_page_images(at: Workshop) -> Any:
    words = ("-o", "page-images.html", "--data", at.images(), "--images", 10)
    cards = ("--card", "loihi2_pilotnet", "--card", "ops45nm_int8")
    at.call("report", at.bundle("images"), *words, *cards)
    return hashed(stripped(at.read("page-images.json")), 4)


@case(slow=True)
def _report_page_3games(at: Workshop) -> Any:
    words = ("-o", "page-3.html", "--max-decisions", 30, "--seconds", 1, "--neurobench", 3)
    at.call("report", at.copy("mtspark-3games", "page-3.deploy"), *words)
    return hashed(stripped(at.read("page-3.json")), 4)


@case(slow=True, outside=True)
def _report_page_pilotnet(at: Workshop) -> Any:
    words = ("-o", "page-p.html", *CUT, "--seconds", 1, "--pilotnet", vectors())
    at.call("report", at.copy("tiny", "page-p.deploy"), *words, "--card", "loihi2_pilotnet")
    return [check["name"] for check in at.read("page-p.json")["made"]["checks"]]


@case(slow=True)
def _eval_games(at: Workshop) -> Any:
    return at.read(at.scored())


@case(slow=True)
def _eval_checkpoint(at: Workshop) -> Any:
    return at.json("eval", TINY, "--episodes", 2, "--task", "pong", "--sticky", 0.5)


@case(slow=True)
def _eval_images(at: Workshop) -> Any:
    into = at.folder / "images-scored.pt"
    shutil.copyfile(AGENTS / "images" / "images.pt", into)
    words = ("eval", at.bundle("images"), "--data", at.images(), "--images", 20)
    result = at.json(*words, "--into", into.name)
    content = torch_content(into)
    assert content["evaluations"] == result["rows"]
    alone = ("eval", AGENTS / "images" / "images.pt", "--data", at.images())
    return {"result": result, "alone": at.json(*alone, "--task", "cifar10")}


@case(slow=True)
def _hil(at: Workshop) -> Any:
    words = ("hil", at.bundle("tiny"), "--task", "pong")
    return {
        "chip": at.json(*words, *CUT, "--chip", "loihi2", "--jitter-ms", 20, "--overlap"),
        "latency": at.json(*words, "--episodes", 2, *CUT, "--latency-sweep", "0,80"),
    }


@case(slow=True)
def _hil_faults(at: Workshop) -> Any:
    words = ("hil", at.bundle("tiny"), "--task", "breakout", *CUT, "--backend", "reference")
    faults = ("--fault", "chip-death=0.1", "--fault", "lost-messages=0.1", "--away-ms", 200)
    return at.json(*words, *faults, "--fault-sweep", "weight-bits=0,0.01", "--pixel-bits", 4)


@case(slow=True)
def _hil_changes(at: Workshop) -> Any:
    """What an encoder of changes adds: messages, their times, and curves of those that are lost."""
    folder = "hil-changes.deploy"
    at.call("export", TINY, "-o", folder, "--encoder", "changes")
    words = ("hil", folder, "--task", "pong", *CUT)
    lost = ("--backend", "reference", "--fault-sweep", "lost-changes=0,0.01")
    return {
        "chip": at.json(*words, "--chip", "loihi2"),
        "lost": at.json(*words, *lost, "--refresh-every", "5,never"),
    }


# Map


@case()
def _map_pong(at: Workshop) -> Any:
    words = ("--task", "pong", "--decisions", 20, "--chip", "loihi2")
    return at.json("map", at.bundle("pong"), *words)


@case(slow=True)
def _map_3games(at: Workshop) -> Any:
    words = ("--task", "enduro", "--decisions", 20, "--chip", "loihi1", "--division", "intel")
    return at.json("map", at.bundle("mtspark-3games"), *words, code=1)


@case()
def _map_tiny(at: Workshop) -> Any:
    words = ("map", at.bundle("tiny"), "--task", "pong", "--decisions", 20)
    return at.json(*words, "--input", "host", "--spread-thresholds", "--times", "pilotnet")


@case(slow=True, outside=True)
def _map_pilotnet(at: Workshop) -> Any:
    return at.json("map", "--pilotnet", vectors())


@case(slow=True, outside=True)
def _validate(at: Workshop) -> Any:
    return at.json("validate", vectors())


# Compare


@case(slow=True)
def _diff(at: Workshop) -> Any:
    words = ("diff", at.bundle("tiny"), "--task", "breakout", "--decisions", 8)
    at.once("six.deploy", lambda: at.call("export", TINY, "-o", "six.deploy", "--weight-bits", 6))
    return {
        **{name: at.json(*words, "--against", name) for name in ("engine", "torch")},
        **{name: at.json(*words, "--against", name, code=(0, 1)) for name in ("twin", "onnx")},
        "bundle": at.json(*words, "--against", "six.deploy", code=1),
    }


@case(slow=True)
def _diff_files(at: Workshop) -> Any:
    graph = Path(at.bundle("tiny"), "graph.pong.nir")
    (net,) = (at.folder / at.network()).glob("*.net")
    shutil.copyfile(net, at.folder / "layers.net")
    shutil.copyfile(TINY, at.folder / TINY.name)
    return {
        "graph": at.json("diff", TINY.name, "--against", graph, "--decisions", 4, code=(0, 1)),
        "netx": at.json("diff", at.network(), "--against", "layers.net", "--decisions", 4),
    }


@case(slow=True)
def _explain(at: Workshop) -> Any:
    return at.json("explain", at.bundle("tiny"), "--decisions", 6, *EFFECTS)


@case(slow=True)
def _explain_played(at: Workshop) -> Any:
    words = ("--decisions", 6, "--task", "breakout", "--episodes", 1)
    return at.json("explain", at.bundle("tiny"), *words)


# Everything else


@case(slow=True)
def _doctor(at: Workshop) -> Any:
    """Which parts are looked at; what is found depends on the machine."""
    # An essential part may be missing: that is for the doctor's own tests.
    result = json.loads(at.call("doctor", "--json", code=(0, 1)))
    parts = result["parts"]
    return {
        "fields": sorted(result),
        "machine": sorted(result["machine"]),
        "part": sorted(parts[0]),
        "essential": {part["name"]: part["essential"] for part in parts},
    }


@case()
def _train_show(at: Workshop) -> Any:
    """The whole configuration of every shipped recipe."""
    shown = {name: json.loads(at.call("train", name, "--show")) for name in RECIPES}
    first = shown["pong-waiting"]
    differ = {
        name: {key: value for key, value in config.items() if value != first.get(key, ABSENT)}
        for name, config in shown.items()
    }
    return {"pong-waiting": first, "other than pong-waiting": differ}


def trained(at: Workshop, name: str) -> str:
    """A whole run, from its start."""
    at.images()
    return at.once(name, lambda: at.call(*RUNS[name], "-o", name))


def files_of_run(folder: Path) -> dict[str, Any]:
    """Log, state and agent of a run, but for the numbers that processors round differently."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return {
        "log": log_of_run([json.loads(line) for line in lines]),
        "state": torch_content(folder / "resume.pt", computed=True),
        "agent": torch_content(folder / "agent.pt", computed=True),
    }


def resumed_from_before(at: Workshop, name: str) -> dict[str, Any]:
    """Log and agent of a run that a version resumed which kept no running games: they restart."""
    at.images()
    folder = f"{name}-before"
    shutil.copytree(GOLDEN / folder, at.folder / folder, dirs_exist_ok=True)
    at.call(*RUNS[name], "-o", folder)
    files = files_of_run(at.folder / folder)
    del files["state"]
    return files


@case(slow=True)
def _train_games_before(at: Workshop) -> Any:
    return resumed_from_before(at, "run")


@case(slow=True)
def _train_dqn_before(at: Workshop) -> Any:
    return resumed_from_before(at, "dqn-run")


@case(slow=True)
def _train_games(at: Workshop) -> Any:
    return files_of_run(at.folder / trained(at, "run"))


@case(slow=True)
def _train_dqn(at: Workshop) -> Any:
    folder = at.folder / trained(at, "dqn-run")
    names = sorted(str(path.relative_to(folder)) for path in folder.glob("replay.*/**/*"))
    return {**files_of_run(folder), "replay": names}


@case(slow=True)
def _train_images(at: Workshop) -> Any:
    return files_of_run(at.folder / trained(at, "images-run"))


@case(slow=True)
def _ablation(at: Workshop) -> Any:
    budget = ("seeds=1", "images=16", "epochs=1", "test_images=10", "hidden=4")
    settings = [word for entry in budget for word in ("--set", entry)]
    at.call("train", "ablation", "--data", at.images(), "-o", "grid", *settings)
    runs = sorted((at.folder / "grid" / "runs").glob("*.json"))
    result = at.read("grid/ablation.json")
    assert sorted(map(text_of, result["runs"])) == sorted(
        text_of(json.loads(path.read_text())) for path in runs
    )
    return {
        "result": result,
        "files": [path.name for path in runs],
        "settings": at.read("grid/settings.json"),
    }
