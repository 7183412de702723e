"""The command ``mtspark map``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli._console import console, one_thread_each
from mtspark.cli._progress import progress_bar
from mtspark.core.files.atomic import check_target, writable_folder, write_json
from mtspark.workflows.backends import BackendName, open_backend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtspark.deploy.bundle import Bundle


class DivisionName(str, Enum):
    """How layers are divided over cores."""

    FEWEST = "fewest"
    INTEL = "intel"


class InputName(str, Enum):
    """Who sends the frame."""

    CORES = "cores"
    HOST = "host"


PICTURES = (".png", ".svg", ".pdf")


def map_command(
    folder: Annotated[Path | None, typer.Argument(help="A bundle made by mtspark export.")] = None,
    chip: Annotated[
        str, typer.Option(help="loihi1, loihi2, or the path of a chip description (.toml).")
    ] = "loihi2",
    picture: Annotated[
        Path | None, typer.Option("-o", "--output", help="Draw the chip: .png, .svg or .pdf.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the mapping to this file.")
    ] = None,
    division: Annotated[
        DivisionName, typer.Option(help="As few cores as fit, or as Intel's compiler divides.")
    ] = DivisionName.FEWEST,
    input_from: Annotated[
        InputName | None,
        typer.Option(
            "--input", help="Cores that hold the frame, or the host in every step sends it."
        ),
    ] = None,
    spread_thresholds: Annotated[
        bool,
        typer.Option(
            "--spread-thresholds",
            help="Take more cores where neurons have more thresholds than a core has registers.",
        ),
    ] = False,
    task: Annotated[
        str | None, typer.Option(help="Play this game first: counts messages, models the time.")
    ] = None,
    decisions: Annotated[int, typer.Option(min=1, help="Of that game.")] = 60,
    seed: Annotated[int, typer.Option(help="Of that game.")] = 0,
    times: Annotated[
        str | None, typer.Option(help="Which of the chip's sets of times (default: its first).")
    ] = None,
    pilotnet: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a bundle: lava-dl's folder of PilotNet LIF, beside Intel's figures."
        ),
    ] = None,
) -> None:
    """Map an agent to the cores of a chip: what fits, what does not, and what to do about it.

    Exit code 1 when it does not fit; picture and file are written all the same.
    """
    one_thread_each()
    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.bundle import load_bundle
    from mtspark.deploy.chips.model import load_chip

    if (folder is None) == (pilotnet is None):
        raise BadRequestError("name either a bundle or --pilotnet FOLDER")
    check_target(json_out)
    _check_picture(picture)
    if pilotnet is not None:
        _pilotnet(pilotnet, picture, json_out)
        return
    assert folder is not None, "checked above"
    model = load_chip(chip)
    model.time_set(times)
    bundle = load_bundle(folder)
    sent = None
    if task is not None:
        sent, decisions = _played(bundle, task, decisions, seed)
    result = _map(
        bundle,
        model,
        picture,
        division=division,
        input_from=input_from,
        spread_thresholds=spread_thresholds,
        sent=sent,
        decisions=decisions,
        times=times,
    )
    if json_out is not None:
        write_json(json_out, result)
    if result["hypothetical"]:
        raise typer.Exit(1)


def _map(
    bundle: Bundle,
    chip: Any,
    picture: Path | None,
    *,
    division: DivisionName,
    input_from: InputName | None,
    spread_thresholds: bool,
    sent: dict[str, NDArray[np.int64]] | None,
    decisions: int,
    times: str | None,
) -> dict[str, Any]:
    from mtspark.cli.show.mapping import print_mapping, print_switches, print_time, print_traffic
    from mtspark.deploy.mapping.mapper import Division, InputPlace, map_network
    from mtspark.deploy.mapping.task_switch import task_switches
    from mtspark.sim.latency.model import decision_time
    from mtspark.sim.latency.serialise import decision_to_json, traffic_to_json
    from mtspark.sim.latency.traffic import traffic_of

    network = bundle.network
    mapping = map_network(
        network,
        chip,
        division=Division(division.value),
        input_place=None if input_from is None else InputPlace(input_from.value),
        spread_thresholds=spread_thresholds,
        rates=None if sent is None else {name: each / decisions for name, each in sent.items()},
    )
    print_mapping(mapping, chip)
    result = {**mapping.to_json(), "network_sha256": bundle.network_hash}
    switches = task_switches(network, mapping, chip, times)
    if switches:
        print_switches(switches, mapping)
        result["task_switches"] = [switch.to_json() for switch in switches]
    traffic = None
    if sent is not None:
        traffic = traffic_of(network, mapping, chip, sent)
        time = decision_time(network, mapping, chip, sent, decisions, times=times, traffic=traffic)
        print_traffic(traffic, decisions)
        print_time(time, chip)
        result["traffic"] = traffic_to_json(traffic, decisions)
        result["decision_time"] = decision_to_json(time)
    _save(mapping, chip, picture, traffic)
    return result


def _played(
    bundle: Bundle, task: str, decisions: int, seed: int
) -> tuple[dict[str, NDArray[np.int64]], int]:
    """What every neuron sent over some decisions of a game, and how many there were."""
    from mtspark.core.backend import Moment
    from mtspark.sim.counts.totals import Counter
    from mtspark.sim.play import play
    from mtspark.workflows.run.progress import episode_reports

    counter = Counter(bundle.network)
    with (
        open_backend(BackendName.ENGINE, bundle, task) as player,
        progress_bar() as progress,
    ):
        report = episode_reports(progress, f"{task}, {decisions} decisions", 1)

        def observe(moment: Moment) -> None:
            report(moment)
            counter.add(moment.decision.activity)

        play(
            player,
            bundle.network,
            task,
            episodes=1,
            seed=seed,
            max_decisions=decisions,
            observe=observe,
        )
    sent = {name: counter.window[name] + counter.drain[name] for name in counter.window}
    return sent, counter.decisions


def _pilotnet(folder: Path, picture: Path | None, json_out: Path | None) -> None:
    from mtspark.cli.show.mapping import print_pilotnet
    from mtspark.deploy.chips.model import load_chip
    from mtspark.sim.latency.serialise import step_to_json
    from mtspark.sim.validation.mapping import compare_pilotnet

    found = compare_pilotnet(folder)
    print_pilotnet(found)
    _save(found.as_intel, load_chip("loihi2"), picture, found.traffic)
    if json_out is not None:
        write_json(
            json_out,
            {
                **found.as_intel.to_json(),
                "layers": [vars(layer) for layer in found.layers],
                "intel_cores": found.intel_cores,
                "fewest_cores": len(found.fewest.cores),
                "measured_step_us": found.measured_step_us,
                "modelled_step": {name: step_to_json(step) for name, step in found.steps.items()},
            },
        )


def _check_picture(path: Path | None) -> None:
    from mtspark.core.errors import BadRequestError

    if path is None:
        return
    if path.suffix.lower() not in PICTURES:
        raise BadRequestError(f"{path}: pictures end in {', '.join(PICTURES)}")
    if path.is_dir():
        raise BadRequestError(f"{path}: is a folder; give the name of a file")
    writable_folder(path.parent)


def _save(mapping: Any, chip: Any, picture: Path | None, traffic: Any) -> None:
    if picture is None:
        return
    from mtspark.sim.report.figures.mapping import save_mapping

    save_mapping(mapping, chip, picture, traffic)
    console.print(f"wrote {picture}", soft_wrap=True)
