"""The explanation of a bundle: the entry of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from mtspark.core.chip_network import ChipNetwork, check_forgets
from mtspark.core.environments import box_of
from mtspark.core.files import AnyPath, write_json
from mtspark.core.float_network import FloatNetwork
from mtspark.core.progress import ProgressCallback, begin, no_progress
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.deploy.prune import check_whole
from mtspark.deploy.quantise import QuantiseOptions, quantise
from mtspark.sim.energy import DEFAULT_CARD, load_card
from mtspark.sim.verdict import Costing
from mtspark.workflows.diff import count_frames, recorded_frames
from mtspark.workflows.explain.differences import first_differences
from mtspark.workflows.explain.effects import explain_rows
from mtspark.workflows.explain.inputs import float_side
from mtspark.workflows.explain.result import EffectRow, EffectTable, Explanation, stored_rows


def explain(
    bundle: Bundle | AnyPath,
    task: str | None = None,
    *,
    decisions: int = 500,
    episodes: int = 0,
    weight_bits: Sequence[int] | None = None,
    by_layer: bool = False,
    inputs: AnyPath | None = None,
    seed: int = 0,
    card: AnyPath = DEFAULT_CARD,
    store: AnyPath | None = None,
    progress: ProgressCallback = no_progress,
) -> Explanation:
    """Switch each effect of the integers on alone, and compare with the float network.

    Args:
        bundle: made by ``mtspark export``, or its folder.
        task: by name; the first one where None.
        decisions: recorded ones to compare.
        episodes: to play with every effect.
        weight_bits: explain these instead of the bundle's.
        by_layer: weight rounding in each layer alone, too.
        inputs: recorded ones (.npy), where the task is no game.
        seed: of the game.
        card: prices of the mean decision, a name or a file.
        store: a file that gets every row as soon as it is known, and the whole result at the end;
            rows of the same question that it holds already are taken from it.
        progress: receives the effects, or the episodes played so far.

    Raises:
        BadFileError: the bundle has no float graph, there is no such card, or a file cannot be
            read or written.
        BadRequestError: an unknown task, no game and no inputs, or a bundle that quantises to
            something else.
    """
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(Path(bundle))
    chip, prices = bundle.network, load_card(card)
    check_whole(chip, "the float network that it is explained by")
    check_forgets(chip, "effects are compared on decisions alone")
    task = chip.tasks[0].name if task is None else chip.task_name(task)
    begin(progress, f"{chip.name}: reading the float network", "nir")
    network, options = float_side(bundle)
    costing = Costing(chip)
    frames = recorded_frames(
        chip, task, decisions, inputs, seed, observe=costing.observe, progress=progress
    )
    if inputs is not None:
        count_frames(costing, chip, frames, chip.task_index(task))
    result = Explanation(
        folder=str(bundle.folder),
        network_sha256=bundle.network_hash,
        frames_sha256=sha256(frames.tobytes()).hexdigest(),
        task=task,
        decisions=len(frames),
        episodes=episodes,
        seed=seed,
        cost=costing.cost(prices),
        numbers=box_of(chip.tasks[chip.task_index(task)]) is not None,
    )
    # A pipe or device gets the whole result once, from the caller.
    file = None if store is None or _is_special(Path(store)) else Path(store)
    known = {} if file is None else stored_rows(file, result)
    tables: list[EffectTable] = []
    for bits in weight_bits or [options.weight_bits]:
        chosen = replace(options, weight_bits=bits)
        same = bits == options.weight_bits
        quantised = chip if same else _quantised_again(network, chip, chosen)
        rows: list[EffectRow] = []
        tables.append(EffectTable(bits))
        for row in explain_rows(
            network,
            quantised,
            chosen,
            frames,
            task,
            episodes=episodes,
            by_layer=by_layer,
            seed=seed,
            known=known.get(bits),
            progress=progress,
        ):
            rows.append(row)
            tables[-1] = EffectTable(bits, tuple(rows))
            result = replace(result, tables=tuple(tables))
            if file is not None:
                write_json(file, result.to_json())
    differences = first_differences(network, chip, frames, chip.task_index(task))
    result = replace(result, differences=differences, complete=True)
    if file is not None:
        write_json(file, result.to_json())
    return result


def _quantised_again(
    network: FloatNetwork, chip: ChipNetwork, options: QuantiseOptions
) -> ChipNetwork:
    """Quantise the float network of a chip network with other options."""
    return quantise(
        network,
        chip.tasks,
        chip.protocol,
        name=chip.name,
        payload_bits=chip.input.payload_bits,
        held=chip.input.held,
        options=options,
    )


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
