"""The command ``mtspark report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli.common import check_json_target, console, one_thread_each, write_json

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle


def report_command(
    folder: Annotated[Path, typer.Argument(help="A bundle with runs in it.")],
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the report to this file.")
    ] = None,
) -> None:
    """Show spikes, synaptic operations and energy of the latest run of every task and backend."""
    one_thread_each()
    from mtspark.cli.tables import print_run
    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.bundle import load_bundle

    check_json_target(json_out)
    bundle = load_bundle(folder)
    runs, others = latest_runs(bundle)
    if not runs:
        task = bundle.network.tasks[0].name
        raise BadRequestError(
            f"{folder}: no runs of this network yet; play with `mtspark run {folder} --task {task}`"
        )
    for result in runs:
        console.rule(f"{result['task']}, {result['backend']}, {result['date']}")
        print_run(result, bundle.network)
    if others:
        console.print(f"{others} runs of an earlier network in {bundle.runs} are left out")
    if json_out is not None:
        write_json(
            json_out,
            {
                "format": "mtspark-report",
                "version": 1,
                "note": "ESTIMATE: no neuromorphic hardware was measured",
                "agent": bundle.network.name,
                "network_sha256": bundle.network_hash,
                "runs": runs,
            },
        )


def latest_runs(bundle: Bundle) -> tuple[list[dict[str, Any]], int]:
    """The latest run of each task, backend and stickiness; and how many are of other networks.

    Raises:
        BadFileError: a file in the folder of runs is no run.
    """
    from mtspark.cli.run_file import read_run

    latest: dict[tuple[str, str, float], dict[str, Any]] = {}
    others = 0
    for path in sorted(bundle.runs.glob("*.json")):
        result = read_run(path)
        sticky = float(result["protocol"]["sticky_action_probability"])
        key = (result["task"], result["backend"], sticky)
        if result["network_sha256"] != bundle.network_hash:
            others += 1
        elif key not in latest or result["date"] >= latest[key]["date"]:
            latest[key] = result
    return [latest[key] for key in sorted(latest)], others
