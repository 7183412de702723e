"""Play an agent's tasks in turn for long, its page open, and draw what memory the process takes.

    mtspark export examples/agents/mtspark-3games/mtspark-3games.pt -o three.deploy
    python benchmarks/soak.py three.deploy --minutes 60 --json soak.json --picture soak.png

Each turn makes a session as `mtspark watch` does: an engine, a game, a page with a reader that
acknowledges each message. Needs the extra `watch`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import threading
import time
from itertools import cycle
from pathlib import Path
from typing import Any

from mtspark.core.files import write_json
from mtspark.deploy.bundle import load_bundle
from mtspark.workflows.watch import Session, WatchRequest, served_page

SAMPLE_S = 5.0


def resident_mib() -> float:
    """Memory of this process that is in RAM, as Linux counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def read(address: str, until_s: float, samples: list[tuple[float, float]], begin_s: float) -> int:
    """Read a page's messages until a time; return how many decisions came."""
    from websockets.sync.client import connect

    host, _, token = address.removeprefix("http://").partition("/?")
    decisions, last = 0, 0.0
    with connect(f"ws://{host}/messages?{token}", max_size=None) as channel:
        while (now := time.monotonic()) < until_s:
            if now - last >= SAMPLE_S:
                last = now
                samples.append((now - begin_s, resident_mib()))
            try:
                message = json.loads(channel.recv(timeout=SAMPLE_S))
            except TimeoutError:
                continue
            channel.send(json.dumps({"type": "shown"}))
            decisions += message["type"] == "decision"
    return decisions


def soak(folder: Path, minutes: float, turn_s: float, speed: float) -> dict[str, Any]:
    """Watch the tasks of a bundle in turn."""
    network = load_bundle(folder).network
    samples: list[tuple[float, float]] = []
    turns: list[dict[str, Any]] = []
    begin_s = time.monotonic()
    for task in cycle(one.name for one in network.tasks):
        if time.monotonic() - begin_s >= 60 * minutes:
            break
        session = Session(network, WatchRequest(task, seed=len(turns), speed=speed))
        with served_page(session) as served:
            until_s = time.monotonic() + turn_s
            decisions = read(served.address, until_s, samples, begin_s)
        del session
        gc.collect()
        turns.append(
            {
                "task": task,
                "decisions": decisions,
                "threads": threading.active_count(),
                "files": len(list(Path("/proc/self/fd").iterdir())),
                "resident_mib": resident_mib(),
            }
        )
        print(f"{(time.monotonic() - begin_s) / 60:5.1f} min {turns[-1]}", flush=True)
    return {"bundle": folder.name, "turn_s": turn_s, "turns": turns, "samples": samples}


def draw(result: dict[str, Any], path: Path) -> None:
    """Memory over time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.plot(
        [seconds / 60 for seconds, _ in result["samples"]],
        [memory for _, memory in result["samples"]],
        color="#c8553d",
        linewidth=1.2,
    )
    axis.set_ylim(bottom=0)
    axis.set_xlabel("minutes")
    axis.set_ylabel("resident memory, MiB")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(path, dpi=140)


def main() -> None:
    """Parse, soak, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--turn-s", type=float, default=60.0, help="seconds of each turn")
    parser.add_argument("--speed", type=float, default=20.0, help="times the game's own, at most")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    result = soak(given.bundle, given.minutes, given.turn_s, given.speed)
    write_json(given.json, result)
    if given.picture is not None:
        draw(result, given.picture)
    middle = [mib for seconds, mib in result["samples"] if seconds > 60 * given.minutes / 6]
    print(f"after a sixth: {middle[0]:.0f} MiB; at the end: {middle[-1]:.0f} MiB")


if __name__ == "__main__":
    main()
