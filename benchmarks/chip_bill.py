"""Print the tables of docs/results/chip.md that come from reports, as Markdown.

mtspark report AGENT.deploy -o report.html --neurobench 20
python benchmarks/chip_bill.py report.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ENCODERS = {
    "every-step": "frame at every step",
    "held": "frame held on the chip",
    "changes": "changed pixels only",
}


def number(value: float | None) -> str:
    """Three digits; a dash where nothing is known."""
    if value is None:
        return "not priced"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def micro(joules: float | None) -> str:
    """In microjoules."""
    return number(None if joules is None else joules * 1e6)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n"


def counts(report: dict[str, Any]) -> str:
    """What a mean decision of each task does."""
    rows = []
    for task in report["tasks"]:
        chip = next((one for one in task["chips"] if one["chip"] == "loihi2"), {})
        played = ", ".join(
            f"{one['return']:g}{'' if one['finished'] else ' (cut off)'}"
            for one in task["episodes"]
        )
        rows.append(
            [
                task["task"],
                number(task["decisions"]),
                played,
                number(task["spikes_per_decision"]["mean"]),
                f"{task['mean_rate']:.2%}",
                number(task["synops_per_decision"]["binary"]["mean"]),
                number(task["synops_per_decision"]["graded_mean"]),
                number(sum(layer["neuron_updates"] for layer in task["layers"])),
                number(chip.get("messages_per_decision")),
                " + ".join(
                    number(chip.get(f"hops_{way}_per_decision"))
                    for way in ("east_west", "north_south")
                ),
                ", ".join(
                    f"{sum(layer[name] for layer in task['layers'] if layer['fires']):,}"
                    for name in ("silent_neurons", "unceasing_neurons")
                ),
            ]
        )
    head = ["task", "decisions", "return", "spikes", "rate", "operations of spikes", "of pixels"]
    return table([*head, "updates", "messages", "hops", "silent, in every step"], rows)


def cards(report: dict[str, Any]) -> str:
    """Dynamic energy of a mean decision by card, and static where it is priced."""
    rows = []
    for place, bill in enumerate(report["tasks"][0]["energy"]):
        cells = [bill["card"] + (" (hypothetical)" if bill["hypothetical"] else "")]
        for task in report["tasks"]:
            own = task["energy"][place]
            static = own["static_j_per_decision"]
            text = micro(own["dynamic_j_per_decision"])
            cells.append(text if static is None else f"{text} + {micro(static)} static")
            cells.append(micro(own["baselines"][0]["energy_j_per_decision"]))
        rows.append(cells)
    head = ["card"]
    for task in report["tasks"]:
        head += [f"{task['task']}, uJ", "int8 network"]
    return table(head, rows)


def encoders(report: dict[str, Any]) -> str:
    """The three ways in which frames reach the chip."""
    rows = []
    for task in report["tasks"]:
        main = task["energy"][0]["card_key"]
        for row in task["encoders"]:
            meets = row["break_even_by_card"][main]["activity_factor"]
            rows.append(
                [
                    task["task"],
                    ENCODERS[row["encoder"]],
                    number(row["messages_per_decision"]),
                    number(row["input_synops_per_decision"]),
                    *(micro(joules) for joules in list(row["dynamic_j_by_card"].values())[:3]),
                    micro(row["static_j_by_card"][main]),
                    number(row["step_time_us"].get("loihi2")),
                    "never" if meets is None else f"{meets:.2f}",
                ]
            )
    names = [bill["card"] for bill in report["tasks"][0]["energy"][:3]]
    head = ["task", "encoder", "input messages", "input operations", *names, "static, apart"]
    return table([*head, "step, us", "break-even"], rows)


def chips(report: dict[str, Any]) -> str:
    """Cores and modelled times."""
    rows = [
        [
            task["task"],
            chip["chip_name"] + ("" if chip["fits"] else " (does not fit)"),
            str(chip["cores"]),
            number(chip["step_time_us"]),
            number(chip["decision_time_us"] and chip["decision_time_us"] / 1000),
            number(chip["margin_us"] and chip["margin_us"] / 1000),
        ]
        for task in report["tasks"]
        for chip in task["chips"]
    ]
    return table(["task", "chip", "cores", "step, us", "decision, ms", "left, ms"], rows)


def main() -> None:
    """Print the tables of a report."""
    report = json.loads(Path(sys.argv[1]).read_text())
    for made in (counts, cards, encoders, chips):
        print(made(report))
    for switch in report.get("task_switches", []):
        print(
            f"{switch['chip_name']}: {switch['writes']:,} register writes, {switch['time_us']} us"
        )
    for check in report["made"]["checks"]:
        print(f"{check['name']}: {check['text']}")


if __name__ == "__main__":
    main()
