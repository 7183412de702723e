"""Fuzz every reader: ``python -m tests.fuzz.fuzz --files 20000 --folder DIR``.

Files are made and read in batches by a pool of forked workers; a batch's number is its random
seed. Results go to DIR/results.jsonl, a line a batch, and what is in there is not done again.
Exit code 1: something but an error of mtspark came out, or a file took more than its limits.
Time is processor time: on a busy machine the clock says nothing of a file; both are told.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib
import json
import multiprocessing
import shutil
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import mtspark
from mtspark.core.files.limits import Policy, set_policy
from tests.fuzz.mutate import mutate
from tests.fuzz.read import LIMITS, read_file_apart
from tests.fuzz.seeds import KINDS, make_seeds

BATCH = 200
GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
SECONDS, MEGABYTES = 5.0, 1024.0
EXPORT = (
    "mtspark.deploy.quantise.network",
    "mtspark.deploy.quantise.calibration",
    "mtspark.sim.backends.reference",
)
NEEDED = {
    "nir": ("mtspark.convert.nir.reader", *EXPORT),
    "net": ("mtspark.convert.netx", *EXPORT),
    "pt": ("mtspark.train.checkpoint.agent",),
    "onnx": ("onnxruntime", "mtspark.convert.onnx", "mtspark.sim.backends.onnx"),
    "bundle": ("mtspark.deploy.bundle",),
}
"""Loaded by a worker before it starts, so that no file pays for it."""

KEPT = ("escaped", "unforeseen", "limited")


def fuzz_batch(
    number: int, seeds: dict[str, list[Path]], folder: Path, files: int
) -> dict[str, Any]:
    """Make and read the files of one batch; returns counts and what deserves a look."""
    set_policy(Policy(LIMITS))
    kind = KINDS[number % len(KINDS)]
    for name in NEEDED[kind]:
        importlib.import_module(name)
    work = folder / f"batch{number}"
    work.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    slowest = slowest_cpu = largest = 0.0

    def one(data: st.DataObject) -> None:
        nonlocal slowest, slowest_cpu, largest
        sources = seeds[kind]
        source = data.draw(st.sampled_from(sources))
        target = work / f"f.{kind}"
        _remove(target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = mutate(kind, source, target, data.draw)
        _give_memory_back()
        outcome = read_file_apart(kind, target)
        counts[f"{kind} {outcome.result}"] += 1
        slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
        slowest_cpu = max(slowest_cpu, outcome.cpu_seconds)
        if outcome.result in KEPT or outcome.cpu_seconds > SECONDS:
            name = f"{number}-{sum(counts.values())}.{kind}"
            _keep(target, folder / "kept" / name)
            found.append({"file": name, "result": outcome.result, "done": done,
                          "seconds": outcome.seconds, "cpu_seconds": outcome.cpu_seconds,
                          "text": outcome.text[-1500:]})  # fmt: skip

    @seed(number)
    @settings(
        max_examples=files,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        one(data)

    run()
    shutil.rmtree(work, ignore_errors=True)
    return {"batch": number, "counts": dict(counts), "slowest_s": slowest,
            "slowest_cpu_s": slowest_cpu, "largest_mb": largest, "found": found}  # fmt: skip


def code_of(package: Path) -> str:
    """Names the code that files were read with: a digest of every source of mtspark."""
    digest = hashlib.sha256()
    for room in sorted(path for path in package.iterdir() if path.is_dir()):
        for path in sorted(room.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _give_memory_back() -> None:
    """What making a large file took would stay in this process, and be its reader's, too."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _keep(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True)
    elif path.is_file():
        shutil.copyfile(path, target)


def _work(job: tuple[int, dict[str, list[Path]], Path, int]) -> dict[str, Any]:
    return fuzz_batch(*job)


def main() -> int:
    """Do what is left to do of the run, and report on all of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2, help="One a core is sensible.")
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="Holds PilotNet's netx file.")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    fork = multiprocessing.get_context("fork")
    with fork.Pool(1) as pool:
        seeds = pool.apply(make_seeds, (folder / "seeds", options.golden))
    code = code_of(Path(mtspark.__file__).parent)
    results = folder / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    done = [json.loads(line) for line in lines]
    known = {entry["batch"] for entry in done}
    jobs = [
        (number, seeds, folder, BATCH)
        for number in range(-(-options.files // BATCH))
        if number not in known
    ]
    # A fresh worker for every batch, with what its kind needs: the smaller, the faster it forks.
    with fork.Pool(options.workers, maxtasksperchild=1) as pool:
        for entry in pool.imap_unordered(_work, jobs):
            entry["code"] = code
            with results.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            done.append(entry)
            print(f"{len(done) * BATCH:>7} files, batch {entry['batch']}: {entry['counts']}")
    return report(done, code)


def report(done: list[dict[str, Any]], code: str) -> int:
    """Print sums by kind; 1 where something escaped or took too much."""
    for entry in done:
        for what in entry["found"]:
            if what["result"] != "limited":
                print(f"{what['result']}: {what['file']} ({what['done']}): {what['text'][-200:]}")
    total: Counter[str] = Counter()
    for entry in done:
        total.update(entry["counts"])
    slowest = max((entry["slowest_s"] for entry in done), default=0.0)
    slowest_cpu = max((entry["slowest_cpu_s"] for entry in done), default=0.0)
    largest = max((entry["largest_mb"] for entry in done), default=0.0)
    for name in sorted(total):
        print(f"{name:<20} {total[name]:>7}")
    print(
        f"{sum(total.values())} files, slowest {slowest_cpu:.2f} s of processor time and "
        f"{slowest:.2f} s by the clock, largest process {largest:.0f} MB"
    )
    current = sum(sum(entry["counts"].values()) for entry in done if entry["code"] == code)
    print(f"{current} of them were read with the code as it is now ({code})")
    bad = sum(count for name, count in total.items() if name.endswith("escaped"))
    return int(bad > 0 or slowest_cpu > SECONDS or largest > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
