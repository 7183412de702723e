"""The command ``mtspark explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli._console import one_thread_each
from mtspark.cli.explain_effects import Row, explain_rows
from mtspark.cli.explain_inputs import float_side, recorded_frames
from mtspark.cli.show.explain import print_explain
from mtspark.core.files.atomic import check_target, write_json

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle


def explain_command(
    folder: Annotated[Path, typer.Argument(help="A bundle made by mtspark export.")],
    task: Annotated[str | None, typer.Option(help="Which task (default: the first).")] = None,
    decisions: Annotated[int, typer.Option(min=1, help="Recorded decisions to compare.")] = 500,
    episodes: Annotated[
        int,
        typer.Option(min=0, help="Also play so many episodes with every effect (minutes each)."),
    ] = 0,
    weight_bits: Annotated[
        str | None,
        typer.Option(help="Explain these instead of the bundle's, for example 8,6,4."),
    ] = None,
    by_layer: Annotated[
        bool, typer.Option(help="Weight rounding in each layer alone, too.")
    ] = False,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Recorded inputs (.npy, uint8), where the task is no game."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the game whose frames are used.")] = 0,
    json_out: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write the result to this file, row by row; with the same file a stopped run "
            "goes on.",
        ),
    ] = None,
) -> None:
    """Say what the lost agreement (and score) of a chip network is due to.

    The float network answers recorded decisions of the task; then each integer effect is
    switched on alone: weight rounding, threshold rounding, palette, biases, decays, sums that
    lose bits, saturation, the value stream, the input's encoder. Effects do not add up: some
    hide others.
    """
    one_thread_each()
    from mtspark.deploy.bundle import load_bundle

    check_target(json_out)
    bundle = load_bundle(folder)
    chosen = task or bundle.network.tasks[0].name
    bundle.network.task_index(chosen)
    result = explain_bundle(
        bundle,
        chosen,
        decisions=decisions,
        episodes=episodes,
        weight_bits=parse_bits(weight_bits),
        by_layer=by_layer,
        inputs=inputs,
        seed=seed,
        store=json_out,
    )
    print_explain(result)
    if json_out is not None:
        write_json(json_out, result)


def parse_bits(text: str | None) -> list[int] | None:
    """Weight bits from a list like 8,6,4.

    Raises:
        BadRequestError: anything but numbers from 2 to 8.
    """
    from mtspark.core.errors import BadRequestError

    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdigit() and 2 <= int(part) <= 8 for part in parts):
        raise BadRequestError(f"--weight-bits {text!r}: give numbers from 2 to 8, such as 8,6,4")
    return [int(part) for part in parts]


def explain_bundle(
    bundle: Bundle,
    task: str,
    *,
    decisions: int = 500,
    episodes: int = 0,
    weight_bits: list[int] | None = None,
    by_layer: bool = False,
    inputs: Path | None = None,
    seed: int = 0,
    store: Path | None = None,
) -> dict[str, Any]:
    """Switch each effect on alone; returns the result as JSON values.

    Args:
        bundle: made by ``mtspark export``.
        task: by name.
        decisions: recorded ones to compare.
        episodes: to play with every effect.
        weight_bits: explain these instead of the bundle's.
        by_layer: weight rounding in each layer alone, too.
        inputs: recorded ones (.npy), where the task is no game.
        seed: of the game.
        store: a file that gets every row as it is made; rows that it holds of the same question
            are not made again.

    Raises:
        BadFileError: the bundle has no float graph, or the inputs cannot be read.
        BadRequestError: no game and no inputs, or a bundle that quantises to something else.
    """
    from dataclasses import replace
    from hashlib import sha256

    from mtspark.deploy.quantise.network import quantise

    network, options = float_side(bundle)
    chip = bundle.network
    frames = recorded_frames(bundle, task, decisions, inputs, seed)
    result: dict[str, Any] = {
        "format": "mtspark-explain",
        "version": 1,
        "folder": str(bundle.folder),
        "network_sha256": bundle.network_hash,
        "frames_sha256": sha256(frames.tobytes()).hexdigest(),
        "task": task,
        "decisions": len(frames),
        "episodes": episodes,
        "seed": seed,
        "complete": False,
        "tables": [],
    }
    # A pipe or device gets the whole result at the end, once.
    if store is not None and store.exists() and not store.is_file():
        store = None
    stored = {} if store is None else stored_rows(store, result)

    def keep(rows: list[Row]) -> None:
        result["tables"][-1]["rows"] = rows
        if store is not None:
            write_json(store, result)

    for bits in weight_bits or [options.weight_bits]:
        chosen = replace(options, weight_bits=bits)
        made = chip
        if bits != options.weight_bits:
            made = quantise(
                network,
                chip.tasks,
                chip.protocol,
                name=chip.name,
                payload_bits=chip.input.payload_bits,
                held=chip.input.held,
                options=chosen,
            )
        result["tables"].append({"weight_bits": bits, "rows": []})
        rows = explain_rows(
            network,
            made,
            chosen,
            frames,
            task,
            episodes=episodes,
            by_layer=by_layer,
            seed=seed,
            known=stored.get(bits),
            keep=keep,
        )
        result["tables"][-1]["rows"] = rows
    result["complete"] = True
    return result


def stored_rows(path: Path, asked: dict[str, Any]) -> dict[int, dict[str, Row]]:
    """Rows by weight bits and effect that an earlier run wrote of the same question."""
    import json

    from mtspark.core.errors import BadFileError
    from mtspark.core.files.sandbox import read_text_guarded

    same = ("format", "version", "network_sha256", "frames_sha256", "task", "episodes", "seed")
    try:
        found = read_text_guarded(path, json.loads)
        if any(found[key] != asked[key] for key in same):
            return {}
        return {
            int(table["weight_bits"]): {str(row["effect"]): row for row in table["rows"]}
            for table in found["tables"]
        }
    except (BadFileError, ValueError, KeyError, TypeError):
        return {}
