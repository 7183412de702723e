"""Measure the engine beside everyone else: `python benchmarks/engine.py [--quick]`.

One run, one thread, the same network and input for all; contenders take turns, so that a
busy moment of the machine hits all of them. Prints tables, writes data/benchmarks.json
and benchmarks.png in docs/results, and puts the tables into docs/results/benchmarks.md.
`--peers PYTHON` adds the simulators that peers.py can import with that Python.
"""
# ruff: noqa: E402 (libraries read the number of threads when they are imported)

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import argparse
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import contenders
import numpy as np
import report
from closed_loop import closed_loop
from linearity import BY_MESSAGE, BY_WINDOW, line, paths
from networks import NEVER, calibrated, dense_net, nature_dqn, recorded_frame, sparse_frames
from plot import draw
from turns import Milliseconds, spread, take_turns

from mtspark.core.chip_network.network import ChipNetwork
from mtspark.sim.engine.chip import EngineChip

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
ACTIVITIES, BATCHES, SIDES = (0.01, 0.05, 0.1, 0.2, 0.5), (1, 8, 64), (84, 168, 336)
WAYS = {"by message": "events", "by window": "windows", "engine": "automatic"}
AGENT = ROOT / "examples" / "agents" / "pong-waiting" / "pong-waiting.pt"


class Peers:
    """The program peers.py, running under another Python, which takes a turn when asked to."""

    def __init__(self, python: str, network: ChipNetwork, frames: Any, batch: Any) -> None:
        """Write the networks to a file, start the program, wait until it is ready."""
        self.dense, self.dense_frames = dense_net()
        arrays = _arrays(network, frames) | {"batch": batch != 0, "steps": network.time_steps}
        arrays["batch_activity"] = _arrays(network, batch)["activity"]
        for name, values in _arrays(self.dense, self.dense_frames).items():
            arrays[f"dense_{name}"] = values
        script = Path(__file__).with_name("peers.py")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "network.npz"
            np.savez(file, **arrays)
            self._program = subprocess.Popen(
                [python, str(script), str(file), "turns"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self.about = json.loads(self._answer())
        for name, found in self.about.items():
            if "failed" in found:
                print(f"{name}: left out: {found['failed']}", file=sys.stderr)
        self.names = [name for name, found in self.about.items() if "failed" not in found]

    def _answer(self) -> str:
        assert self._program.stdout
        return self._program.stdout.readline() or "{}"

    def turn(self, name: str) -> Callable[[], Milliseconds]:
        """Ask for one turn of a contender."""

        def ask() -> Milliseconds:
            assert self._program.stdin
            self._program.stdin.write(f"{name}\n")
            self._program.stdin.flush()
            return Milliseconds(self._answer())

        return ask

    def close(self) -> None:
        """End the program, which ends when it is asked for nothing more."""
        assert self._program.stdin
        self._program.stdin.close()
        self._program.wait()


def _arrays(network: ChipNetwork, frames: Any) -> dict[str, Any]:
    """A network and its input as arrays, and what the engine finds to be active."""
    activity = described(network, frames)["activity"]
    arrays: dict[str, Any] = {"frames": frames != 0, "layers": len(network.connections)}
    arrays["activity"] = [activity[population.name] for population in network.populations]
    for i, (link, population) in enumerate(
        zip(network.connections, network.populations, strict=True)
    ):
        arrays |= {f"w{i}": link.weights, f"s{i}": link.stride[0]}
        arrays[f"t{i}"] = population.thresholds.flat[0]
        arrays[f"b{i}"] = population.bias_mantissa / contenders.SCALE
    return arrays


def network_at(activity: float, side: int = 84, steps: int = 64) -> tuple[ChipNetwork, Any]:
    """The benchmark network at an activity, and one frame of that activity."""
    frames = sparse_frames(1, activity, shape=(4, side, side))
    network = calibrated(nature_dqn(side=side, time_steps=16), frames, activity)
    return replace(network, time_steps=steps), frames


def described(network: ChipNetwork, frames: Any) -> dict[str, Any]:
    """What a step of the network does: neurons, activity, operations."""
    chip = EngineChip(network)
    activity = chip.decide(frames, 0).activity
    steps = network.time_steps
    operations = {name: walked / steps for name, walked in chip.synops_walked.items()}
    return {
        "neurons": sum(population.size for population in network.populations),
        "synapses_stored": sum(link.stored_weights for link in network.connections),
        "activity": {name: float(sent.mean()) / steps for name, sent in activity.window.items()},
        "operations_a_step": operations,
        "engine_bytes": chip.bytes_used,
    }


def side_by_side(repeats: int, lava: bool, python: str | None = None) -> dict[str, Any]:
    """The table of the issue: everyone at 5 % activity, batch 1 and (float ones) 32."""
    network, frames = network_at(0.05)
    few = replace(network, time_steps=8)
    batch = sparse_frames(32, 0.05)
    pong_frame = recorded_frame(network)
    pong = calibrated(nature_dqn(payload_bits=8), pong_frame, 0.05)
    pong = replace(pong, time_steps=network.time_steps)
    decides = {
        "engine": contenders.engine(network, frames),
        "engine, conv1 each step": contenders.engine(network, frames, hold_frame=False),
        "engine, Pong": contenders.engine(pong, pong_frame),
        "engine, Pong, conv1 each step": contenders.engine(pong, pong_frame, hold_frame=False),
        "engine, batch 32": contenders.engine(network, batch),
        "reference": contenders.reference(few, frames),
        "NumPy im2col float32": contenders.numpy_im2col(few, frames),
        "snntorch eager": contenders.snntorch_eager(few, frames),
        "snntorch eager, batch 32": contenders.snntorch_eager(few, batch),
        "torch.compile of snntorch": contenders.snntorch_eager(few, frames, compiled="snntorch"),
        "torch.compile, plain torch": contenders.snntorch_eager(few, frames, compiled="plain"),
        "torch.compile, batch 32": contenders.snntorch_eager(few, batch, compiled="plain"),
        "ONNX Runtime": contenders.onnx_runtime(few, frames),
    }
    per = dict.fromkeys(decides, few.time_steps)
    per["torch.compile, batch 32"] = few.time_steps * 32
    per |= {name: network.time_steps for name in decides if name.startswith("engine")}
    per["engine, batch 32"] = network.time_steps * 32
    per["snntorch eager, batch 32"] = few.time_steps * 32
    peers = Peers(python, few, frames, batch) if python else None
    if peers:
        dense = contenders.engine(peers.dense, peers.dense_frames, hold_frame=False)
        decides |= {name: peers.turn(name) for name in peers.names}
        decides["engine, dense net"] = dense
        per["engine, dense net"] = peers.dense.time_steps
    times = take_turns(decides, per, repeats)
    if peers:
        peers.close()
    if lava:
        times["Lava, its own Conv"] = lava_stock(network, frames)
        times["Lava, our Conv"] = lava_ours(few, frames, repeats)
    return {
        "described": described(network, frames),
        "described_pong": described(pong, pong_frame),
        "times": {name: spread(values) for name, values in times.items() if values},
        "peers": peers.about if peers else None,
    }


def silenced(repeats: int) -> dict[str, dict[str, float]]:
    """What a step takes with fewer and fewer layers that fire: the differences are layers."""
    network, frames = network_at(0.05)
    decides, names = {}, [population.name for population in network.populations]
    for count, name in enumerate(names[:-1]):
        populations = tuple(
            replace(p, thresholds=np.full_like(p.thresholds, NEVER)) if i >= count else p
            for i, p in enumerate(network.populations)
        )
        decides[f"silent from {name} on"] = contenders.engine(
            replace(network, populations=populations), frames
        )
    decides["all of it"] = contenders.engine(network, frames)
    times = take_turns(decides, dict.fromkeys(decides, network.time_steps), repeats)
    return {name: spread(values) for name, values in times.items()}


def lava_stock(network: ChipNetwork, frames: Any, steps: int = 4) -> list[float]:
    """Lava's own Conv in a program of its own; empty where it fails or takes too long."""
    arrays: dict[str, Any] = {"frame": frames[0] != 0, "layers": len(network.connections)}
    for i, (link, population) in enumerate(
        zip(network.connections, network.populations, strict=True)
    ):
        arrays |= {f"w{i}": link.weights, f"s{i}": link.stride[0]}
        arrays |= {f"t{i}": population.thresholds.flat[0], f"b{i}": population.bias_mantissa}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.npz"
        np.savez(file, **arrays)
        script = Path(__file__).with_name("lava_contenders.py")
        command = [sys.executable, str(script), "stock", str(file), str(steps)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            try:
                out, _ = process.communicate(timeout=90)
                return [float(value) for value in json.loads(out.decode().splitlines()[-1])]
            except (subprocess.TimeoutExpired, IndexError, ValueError):
                os.killpg(process.pid, signal.SIGKILL)
                print("Lava's own Conv: no result (is Lava installed?)", file=sys.stderr)
                return []


def lava_ours(network: ChipNetwork, frames: Any, repeats: int) -> list[float]:
    """Our Conv model in Lava, through the backend that plays games."""
    from mtspark.core.errors import MtsparkError
    from mtspark.sim.backends.lava.backend import LavaBackend

    try:
        backend = LavaBackend(network)
    except MtsparkError as error:
        print(f"Lava with our Conv: {error}", file=sys.stderr)
        return []
    try:
        per = {"lava": network.steps_per_decision}
        decides = {"lava": lambda: backend.decide(frames, 0)}
        # Lava works in processes of its own, so here only the time that passes can be taken.
        return take_turns(decides, per, repeats, time.perf_counter)["lava"]
    finally:
        backend.close()


def sweeps(repeats: int, quick: bool) -> dict[str, Any]:
    """Activity, batch and size, one at a time; milliseconds a step and sample."""
    found: dict[str, Any] = {"activity": {}, "batch": {}, "size": {}}
    for activity in ACTIVITIES:
        network, frames = network_at(activity, steps=16)
        decides = {
            name: contenders.engine(network, frames, path=path, hold_frame=False)
            for name, path in WAYS.items()
        }
        times = take_turns(decides, dict.fromkeys(decides, network.time_steps), repeats)
        ways = {name: spread(values) for name, values in times.items()}
        found["activity"][str(activity)] = _compare(network, frames, repeats) | ways
    network, _ = network_at(0.05, steps=16)
    for batch in BATCHES:
        frames = sparse_frames(batch, 0.05)
        found["batch"][str(batch)] = _compare(network, frames, max(2, repeats // 3)) | {
            "engine": _engine(network, frames, repeats),
            "engine, 2 threads": _engine(network, frames, repeats, threads=2),
        }
    for side in SIDES[:2] if quick else SIDES:
        network, frames = network_at(0.05, side, steps=16)
        found["size"][str(side)] = _compare(network, frames, max(2, repeats // 3)) | {
            "engine": _engine(network, frames, repeats, hold_frame=False),
        }
    return found


def _engine(network: ChipNetwork, frames: Any, repeats: int, **options: Any) -> dict[str, Any]:
    decide = contenders.engine(network, frames, **options)
    per = {"engine": network.time_steps * len(frames)}
    clock = time.perf_counter if options.get("threads", 1) > 1 else time.process_time
    return spread(take_turns({"engine": decide}, per, repeats, clock)["engine"])


def _compare(network: ChipNetwork, frames: Any, repeats: int) -> dict[str, Any]:
    short = replace(network, time_steps=4)
    decides = {
        "NumPy": contenders.numpy_im2col(short, frames),
        "snntorch": contenders.snntorch_eager(short, frames),
        "ONNX Runtime": contenders.onnx_runtime(short, frames),
    }
    times = take_turns(decides, dict.fromkeys(decides, 4 * len(frames)), repeats)
    described_ = described(network, frames[:1])
    return {name: spread(values) for name, values in times.items()} | {
        "neurons": described_["neurons"],
        "operations": sum(described_["operations_a_step"].values()),
    }


def lines(sweeps_: dict[str, Any], repeats: int) -> dict[str, dict[str, float]]:
    """Straight lines through time against operations: of each path, and of whole networks."""

    def measure(network: ChipNetwork, path: str, frames: Any) -> tuple[float, float]:
        # Milliseconds a step; the drain step of T + 1 is paid by the T others.
        found = _engine(network, frames, repeats, path=path, hold_frame=False)
        chip = EngineChip(network)
        chip.decide(frames, 0)
        return found["median"], sum(chip.synops_walked.values()) / network.time_steps

    found = paths(measure)
    for axis, name, label in (
        ("size", "engine", "neurons, 5 % active"),
        ("activity", "by message", BY_MESSAGE),
        ("activity", "by window", BY_WINDOW),
    ):
        rows = sweeps_[axis].values()
        found[label] = line(
            [row["operations"] for row in rows], [row[name]["median"] * 1e3 for row in rows]
        )
    return found


def machine() -> dict[str, Any]:
    """Where this runs, and beside how much else."""
    model = "an unknown processor"
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            model = text.split(":", 1)[1].strip()
    versions = {"Python": platform.python_version()}
    for name in ("numba", "numpy", "torch", "snntorch", "onnxruntime", "lava-nc"):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    asked = subprocess.run(git, capture_output=True, text=True, check=False)
    return {
        "model": model,
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": versions,
        "commit": asked.stdout.strip() or "unknown",
    }


def show(results: dict[str, Any], parts: dict[str, str]) -> None:
    """Print what the page shows."""
    for name, block in parts.items():
        print(f"\n{name}\n{block}")
    for name, found in (results["side_by_side"]["peers"] or {}).items():
        if "failed" not in found:
            pairs = zip(found["activity"], found["engine_activity"], strict=True)
            active = ["/".join(f"{a:.4f}" for a in pair) for pair in pairs]
            print(f"active in {name} / in the engine, layer by layer: {', '.join(active)}")
    if not results["side_by_side"]["peers"]:
        print("sinabs, SpikingJelly, nengo-loihi, XyloSim: left out; they come with --peers")
        print("PYTHON, a Python that can import them (see docs/results/benchmarks.md)")


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, no largest network")
    parser.add_argument("--no-lava", action="store_true", help="leave Lava out")
    parser.add_argument("--agent", type=Path, default=AGENT, help="an agent for the closed loop")
    parser.add_argument("--peers", metavar="PYTHON", help="a Python that has other simulators")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    repeats = 5 if options.quick else 15
    began = time.perf_counter()
    results: dict[str, Any] = {"machine": machine()}
    results["side_by_side"] = side_by_side(repeats, not options.no_lava, options.peers)
    results["silenced"] = silenced(repeats)
    results["sweeps"] = sweeps(max(3, repeats // 2), options.quick)
    results["linear"] = lines(results["sweeps"], repeats)
    results["closed_loop"] = closed_loop(options.agent, 200 if options.quick else 1000)
    results["seconds"] = round(time.perf_counter() - began)
    parts = report.blocks(results)
    show(results, parts)
    data = options.out / "data"
    data.mkdir(parents=True, exist_ok=True)
    (data / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, options.out / "benchmarks.png")
    page = options.out / "benchmarks.md"
    written = "data/benchmarks.json, benchmarks.png"
    if page.exists():
        report.write(page, parts)
        written += ", the tables of benchmarks.md"
    print(f"\n{results['seconds']} s; written to {options.out}: {written}")


if __name__ == "__main__":
    main()
