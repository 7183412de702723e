"""The results of a benchmark run as the tables of docs/results/benchmarks.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

# name in the results, name in the table, ratio that is wanted
AT_BATCH_1 = (
    ("Lava, its own Conv", "Lava, its own Conv", 2500),
    ("Lava, our Conv", "Lava, our Conv", 90),
    ("nengo-loihi emulator", "nengo-loihi, its emulator", None),
    ("snntorch eager", "snntorch, eager", 25),
    ("torch.compile of snntorch", "snntorch, torch.compile", None),
    ("torch.compile, plain torch", "the same in plain torch, torch.compile", None),
    ("NumPy im2col float32", "NumPy, im2col float32", 30),
    ("sinabs", "sinabs", None),
    ("SpikingJelly", "SpikingJelly", None),
    ("ONNX Runtime", "ONNX Runtime", None),
    ("reference", "reference", None),
)
AT_BATCH_32 = (
    ("snntorch eager, batch 32", "snntorch, eager, batch 32", 8),
    ("torch.compile, batch 32", "plain torch, torch.compile, batch 32", None),
    ("sinabs, batch 32", "sinabs, batch 32", None),
    ("SpikingJelly, batch 32", "SpikingJelly, batch 32", None),
)
DENSE = (("XyloSim, dense net", "XyloSim (Rockpool), the same net", None),)
WANTED_LOOP = 0.6
Row = tuple[str, str, float | None]


def number(value: float) -> str:
    """Three digits or so."""
    digits = 1 if value >= 10 else 2 if value >= 2 else 3 if value >= 0.2 else 4
    return f"{value:,.{digits}f}"


def ratio(value: float) -> str:
    """A ratio, whole from 10 on."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def _contenders(times: dict[str, Any]) -> str:
    rows: list[list[str]] = []

    def add(name: str, label: str, base: str, wanted: float | None, walked: bool) -> None:
        if name not in times:
            return
        found, cells = times[name], []
        for key in ("median", "min", "max"):
            cells.append(number(found[key]))
        times_faster = ratio(found["median"] / times[base]["median"])
        cells.append(f"**{times_faster}**" if wanted else times_faster)
        second = times["engine, conv1 each step"]["median"]
        cells.append(ratio(found["median"] / second) if walked else "")
        rows.append([label, *cells, f"{wanted:,}" if wanted else ""])

    add("engine", "**engine**", "engine", None, False)
    add(
        "engine, conv1 each step",
        "engine, conv1 computed in each step",
        "engine",
        None,
        True,
    )
    for name, label, wanted in AT_BATCH_1:
        add(name, label, "engine", wanted, True)
    add("engine, Pong", "engine, a frame of Pong", "engine, Pong", None, False)
    add(
        "engine, Pong, conv1 each step",
        "engine, a frame of Pong, conv1 computed in each step",
        "engine, Pong",
        None,
        False,
    )
    for base, label, others in (
        ("engine, batch 32", "engine, batch 32", AT_BATCH_32),
        ("engine, dense net", "engine, dense net of Xylo's size", DENSE),
    ):
        add(base, label, base, None, False)
        for name, label_, wanted in others:
            add(name, label_, base, wanted, False)
    head = ["", "median", "min", "max", "engine is faster by", "with conv1 computed each step"]
    return table([*head, "goal"], rows)


def _short(results: dict[str, Any]) -> str:
    """List the missed goals, found by comparison."""
    times, missed, left_out = results["side_by_side"]["times"], [], []
    for rows, base in ((AT_BATCH_1, "engine"), (AT_BATCH_32, "engine, batch 32")):
        for name, label, wanted in rows:
            if wanted and name not in times:
                left_out.append(f"- {label}: not measured in this run.")
            elif wanted:
                found = times[name]["median"] / times[base]["median"]
                walked = times[name]["median"] / times["engine, conv1 each step"]["median"]
                if found < wanted:
                    missed.append(f"- {label}: {ratio(found)} times; the goal is {wanted:,}.")
                elif base == "engine" and walked < wanted:
                    missed.append(
                        f"- {label}: {ratio(found)} times, above the goal of {wanted:,}, but only "
                        f"{ratio(walked)} with conv1 computed in each step."
                    )
    one = results.get("closed_loop", {}).get("1", {})
    for name in ("engine", "run"):
        part = one[name]["of_the_bare_game"] if one else WANTED_LOOP
        if part < WANTED_LOOP:
            missed.append(f"- One game, {name}: {part:.2f} of the bare game; goal: {WANTED_LOOP}.")
    return "\n".join([*missed, *left_out]) or "None: every goal is reached."


def _sweep(rows: dict[str, Any], label: str, names: list[str], key: Callable[..., str]) -> str:
    body = [
        [key(at, row), *(number(row[name]["median"]) for name in names)] for at, row in rows.items()
    ]
    return table([label, *names], body)


def _lines(results: dict[str, Any]) -> str:
    rows = [
        [
            name,
            number(fit["microseconds_fixed"]),
            f"{fit['nanoseconds_an_operation']:.4f}",
            f"{fit['r2']:.4f}",
        ]
        for name, fit in results["linear"].items()
    ]
    head = ["operations vary with", "fixed microseconds", "nanoseconds per operation", "R²"]
    return table(head, rows)


def _loop(found: dict[str, Any]) -> str:
    rows = []
    for games in (1, 32):
        of, threads = f"{games} game{'s' * (games > 1)}", " on two threads" * (games > 1)
        for name, label in (
            ("random", "random actions, no network"),
            ("engine", f"engine{threads}, the same loop"),
            ("run", f"engine{threads}, `mtspark run`: everything counted, progress bar"),
        ):
            contender = found[str(games)][name]
            rates = contender["rates"]
            cells = [f"{rate:,.0f}" for rate in (median(rates), min(rates), max(rates))]
            part = f"{contender['of_the_bare_game']:.2f}"
            wanted = f"{WANTED_LOOP:.2f}" if games == 1 and name != "random" else ""
            each = f"{1e6 / median(rates):,.0f}"
            rows.append([f"{of}, {label}", *cells, each, part, wanted])
    head = ["", "decisions a second", "min", "max", "µs each", "of the bare game", "goal"]
    recorded = found["recorded"]
    return (
        table(head, rows)
        + f"\n\nOn recorded frames ({recorded['nonzero_pixels']:.1%} of the pixels are not zero): "
        f"**{recorded['microseconds_a_decision']:.0f} µs a decision**, "
        f"{recorded['microseconds_a_step']:.0f} µs a step, "
        f"{recorded['operations_a_decision'] / 1e6:.1f} M operations a decision counted."
    )


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """Each part of the page that a run writes, by name."""
    described = results["side_by_side"]["described"]
    pong = results["side_by_side"]["described_pong"]
    operations = sum(described["operations_a_step"].values())
    first = next(iter(described["operations_a_step"].values()))
    machine = results["machine"]
    sweeps = results["sweeps"]
    found = {
        "machine": (
            f"One run of commit {machine['commit']} took {results['seconds']} s on "
            f"{machine['processors']} processors ({machine['model']}) with a load of "
            f"{machine['load']:.1f} before it began.\nVersions: "
            + ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
            + "."
        ),
        "step": (
            f"A step has {operations:,.0f} synaptic operations with exact borders, {first:,.0f} of "
            f"them in conv1, and {described['neurons']:,} neuron updates.\n"
            "The table lists milliseconds per step and sample.\n\n"
            + _contenders(results["side_by_side"]["times"])
            + "\n\nOf the frame of Pong "
            f"{pong['activity']['input']:.0%} of the bytes are not zero, which makes "
            f"{sum(pong['operations_a_step'].values()) / 1e6:.1f} M synaptic operations "
            "a step; the hidden layers also fire at 5 %."
        ),
        "short": _short(results),
        "layers": table(
            ["", "median", "min", "max"],
            [
                [name, *(number(found[key]) for key in ("median", "min", "max"))]
                for name, found in results["silenced"].items()
            ],
        ),
        "activity": _sweep(
            sweeps["activity"],
            "activity, operations a step",
            ["NumPy", "snntorch", "ONNX Runtime", "by message", "by window", "engine"],
            lambda at, row: f"{float(at):.0%}, {row['operations']:,.0f}",
        ),
        "lines": _lines(results),
        "batch": _sweep(
            sweeps["batch"],
            "samples at once",
            ["NumPy", "snntorch", "ONNX Runtime", "engine", "engine, 2 threads"],
            lambda at, row: str(at),
        ),
        "size": _sweep(
            sweeps["size"],
            "image side, neurons, operations a step",
            ["NumPy", "snntorch", "ONNX Runtime", "engine"],
            lambda at, row: f"{at}, {row['neurons']:,}, {row['operations']:,.0f}",
        ),
    }
    if "closed_loop" in results:
        found["loop"] = _loop(results["closed_loop"])
    return found


def write(page: Path, found: dict[str, str]) -> None:
    """Put each block between its two marks; a page without marks is left alone.

    Raises:
        ValueError: a mark of the page belongs to no block that could be written.
    """
    text = page.read_text()
    for name, block in found.items():
        marks = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{page}: no marks for the part {name!r}")
        whole = f"{marks[0]}\n{block}\n{marks[1]}"
        text = pattern.sub(lambda _, whole=whole: whole, text)
    page.write_text(text)
