"""Measure the engine beside everyone else: `python benchmarks/engine.py [--quick]`.

One run, one thread, the same network and input for all; contenders take turns, so that a
busy moment of the machine hits all of them. Prints tables, writes docs/benchmarks.json and
draws docs/benchmarks.png. `--bundle DIR` adds recorded frames and the closed loop; `--peers
PYTHON` adds the simulators that peers.py can import with that Python.
"""
# ruff: noqa: E402 (libraries read the number of threads when they are imported)

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import contenders
import numpy as np
from closed_loop import closed_loop
from networks import calibrated, dense_net, nature_dqn, sparse_frames
from plot import draw

from mtspark.core.chip_network import INPUT, ChipNetwork
from mtspark.sim.engine import EngineChip

ROOT = Path(__file__).parents[1]
ACTIVITIES, BATCHES, SIDES = (0.01, 0.05, 0.1, 0.2, 0.5), (1, 8, 64), (84, 168, 336)
TARGETS = {
    "Lava, its own Conv": 2500,
    "Lava, our Conv": 90,
    "snntorch eager": 25,
    "NumPy im2col float32": 30,
}
Times = dict[str, list[float]]


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


class Milliseconds(float):
    """What a contender in another program took for a step and sample, by its own clock."""


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


def spread(times: list[float]) -> dict[str, float]:
    """Median, least and most, of milliseconds a step and sample."""
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def take_turns(
    decides: dict[str, Callable[[], Any]],
    per: dict[str, int],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> Times:
    """Milliseconds a step of each contender, `repeats` times, in turns; the first are dropped.

    The clock counts this process's own time on the processor, which on an idle machine is the
    time that passes, and on a busy one leaves out what other programs took.
    """
    times: Times = {name: [] for name in decides}
    for turn in range(repeats + 1):
        for name, decide in decides.items():
            began = clock()
            took = decide()
            if turn and isinstance(took, Milliseconds):
                times[name].append(float(took))
            elif turn:
                times[name].append((clock() - began) / per[name] * 1e3)
    return times


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
        "synapses_stored": sum(link.weights.size for link in network.connections),
        "activity": {name: float(sent.mean()) / steps for name, sent in activity.window.items()},
        "operations_a_step": operations,
        "engine_bytes": chip.bytes_used,
    }


def side_by_side(repeats: int, lava: bool, python: str | None = None) -> dict[str, Any]:
    """The table of the issue: everyone at 5 % activity, batch 1 and (float ones) 32."""
    network, frames = network_at(0.05)
    few = replace(network, time_steps=8)
    batch = sparse_frames(32, 0.05)
    decides = {
        "engine": contenders.engine(network, frames),
        "engine, conv1 each step": contenders.engine(network, frames, hold_frame=False),
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
    per["engine"] = per["engine, conv1 each step"] = network.time_steps
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
        "times": {name: spread(values) for name, values in times.items() if values},
        "peers": peers.about if peers else None,
    }


def lava_stock(network: ChipNetwork, frames: Any, steps: int = 4) -> list[float]:
    """Lava's own Conv in a program of its own; empty where it fails or takes too long."""
    arrays: dict[str, Any] = {"frame": frames[0] != 0, "layers": len(network.connections)}
    for i, (link, population) in enumerate(
        zip(network.connections, network.populations, strict=True)
    ):
        arrays |= {f"w{i}": link.weights, f"s{i}": link.stride[0]}
        arrays[f"t{i}"] = population.thresholds.flat[0]
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
    from mtspark.sim.lava_runner import LavaBackend

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
        options = {"hold_frame": False}
        found["activity"][str(activity)] = _compare(network, frames, repeats) | {
            "walking": _engine(network, frames, repeats, path="events", **options),
            "engine": _engine(network, frames, repeats, **options),
        }
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


def show(results: dict[str, Any]) -> None:
    """Print the tables."""
    table = results["side_by_side"]
    print("A step of the Nature DQN topology, one thread; ms a step and sample")
    operations = table["described"]["operations_a_step"]
    first = sum(walked for name, walked in operations.items() if name.startswith(INPUT))
    print(f"  {sum(operations.values()):,.0f} operations a step, {first:,.0f} of them in conv1")
    mine = table["times"]["engine"]["median"]
    walked = table["times"]["engine, conv1 each step"]["median"]
    print(f"  {'':26} {'median':>9} {'min':>9} {'max':>9} {'ratio':>8} {'conv1 each step':>16}")
    for name, times in table["times"].items():
        base = mine
        for other in ("batch 32", "dense net"):
            base = table["times"][f"engine, {other}"]["median"] if other in name else base
        goal = f"   wanted {TARGETS[name]}" if name in TARGETS else ""
        if name == "snntorch eager, batch 32":
            goal = "   wanted 8"
        cells = [times[key] for key in ("median", "min", "max")]
        each = f"{cells[0] / walked:16.1f}" if base == mine else " " * 16
        ratios = f"{cells[0] / base:8.1f} {each}"
        print(f"  {name:26} {cells[0]:9.4f} {cells[1]:9.4f} {cells[2]:9.4f} {ratios}{goal}")
    for name, found in (table["peers"] or {}).items():
        if "failed" not in found:
            active = ["/".join(f"{a:.4f}" for a in pair) for pair in _pairs(found)]
            print(f"  active in {name} / in the engine, layer by layer: {', '.join(active)}")
    if not table["peers"]:
        print("  sinabs, SpikingJelly, nengo-loihi, XyloSim: left out; they come with --peers")
        print("  PYTHON, a Python that can import them (see docs/benchmarks.md)")
    for axis, rows in results.get("sweeps", {}).items():
        print(f"\n{axis}: median ms a step and sample")
        for key, row in rows.items():
            cells = [f"{n} {t['median']:.4f}" for n, t in row.items() if isinstance(t, dict)]
            print(f"  {key:>5} {row['operations']:12,.0f} operations: " + ", ".join(cells))
    if "linear" in results:
        fit = results["linear"]
        print(
            f"\nwalking: {fit['microseconds_fixed']:.1f} us + "
            f"{fit['nanoseconds_an_operation']:.4f} ns an operation, R^2 = {fit['r2']:.4f}"
        )
    for name, value in results.get("closed_loop", {}).items():
        print(f"{name}: {value:.4g}")


def _pairs(found: dict[str, Any]) -> list[tuple[float, float]]:
    return list(zip(found["activity"], found["engine_activity"], strict=True))


def linear(activity: dict[str, Any]) -> dict[str, float]:
    """Least squares line through time against operations, on the walking path."""
    x = np.array([row["operations"] for row in activity.values()])
    y = np.array([row["walking"]["median"] * 1e3 for row in activity.values()])
    slope, fixed = np.polyfit(x, y, 1)
    residual = ((y - fixed - slope * x) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    return {
        "microseconds_fixed": float(fixed),
        "nanoseconds_an_operation": float(slope * 1e3),
        "r2": float(1 - residual),
    }


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, no largest network")
    parser.add_argument("--no-lava", action="store_true", help="leave Lava out")
    parser.add_argument("--bundle", type=Path, help="a .deploy folder for the closed loop")
    parser.add_argument("--peers", metavar="PYTHON", help="a Python that has other simulators")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of JSON and plot")
    options = parser.parse_args()
    repeats = 5 if options.quick else 15
    began = time.perf_counter()
    table = side_by_side(repeats, not options.no_lava, options.peers)
    results: dict[str, Any] = {"side_by_side": table}
    results["sweeps"] = sweeps(max(3, repeats // 2), options.quick)
    results["linear"] = linear(results["sweeps"]["activity"])
    if options.bundle:
        results["closed_loop"] = closed_loop(options.bundle, 200 if options.quick else 1000)
    results["seconds"] = round(time.perf_counter() - began)
    show(results)
    options.out.mkdir(exist_ok=True)
    (options.out / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, options.out / "benchmarks.png")
    print(f"\n{results['seconds']} s; written to {options.out}/benchmarks.json and .png")


if __name__ == "__main__":
    main()
