"""The explanation of a bundle: the entry of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from mtspark.core.backend import Moment
from mtspark.core.chip_network import check_forgets
from mtspark.core.environments import box_of
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath, write_json
from mtspark.core.progress import ProgressCallback, begin, no_progress
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.sim.energy import DEFAULT_CARD, load_card
from mtspark.sim.verdict import Costing
from mtspark.workflows.diff import EpisodeLog, count_frames, recorded_frames
from mtspark.workflows.explain.differences import first_differences
from mtspark.workflows.explain.effects import explain_rows
from mtspark.workflows.explain.result import EffectRow, EffectTable, Explanation, stored_rows
from mtspark.workflows.whole import float_side, is_pruned, quantised_again, whole_network


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

    A pruned bundle is explained by its network before ``--prune``, of which no spike that stays and
    no answer is another one; what a decision costs is that of the bundle.

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
    check_forgets(chip, "effects are compared on decisions alone")
    task = chip.tasks[0].name if task is None else chip.task_name(task)
    known_task = chip.tasks[chip.task_index(task)]
    if episodes and not known_task.game:
        raise BadRequestError(f"--episodes {episodes}: task {task!r} is no game; leave it out")
    begin(progress, f"{chip.name}: reading the float network", "nir")
    network, options = float_side(bundle)
    whole, removed = chip, dict[str, int]()
    if is_pruned(bundle):
        whole, places = whole_network(bundle)
        removed = places.removed
    costing, log = Costing(chip), EpisodeLog()

    def observe(moment: Moment) -> None:
        costing.observe(moment)
        log.observe(moment)

    frames = recorded_frames(
        chip, task, decisions, inputs, seed, observe=observe, progress=progress
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
        cost=costing.cost(prices, task),
        numbers=box_of(known_task) is not None,
        answer="action" if known_task.game else "answer",
        removed=removed,
    )
    # A pipe or device gets the whole result once, from the caller.
    file = None if store is None or _is_special(Path(store)) else Path(store)
    known = {} if file is None else stored_rows(file, result)
    tables: list[EffectTable] = []
    for bits in weight_bits or [options.weight_bits]:
        chosen = replace(options, weight_bits=bits)
        same = bits == options.weight_bits
        quantised = whole if same else quantised_again(network, whole, chosen)
        rows: list[EffectRow] = []
        tables.append(EffectTable(bits))
        for row in explain_rows(
            network,
            quantised,
            chosen,
            frames,
            task,
            masks=log.masks,
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
    differences = first_differences(network, whole, frames, chip.task_index(task))
    result = replace(result, differences=differences, complete=True)
    if file is not None:
        write_json(file, result.to_json())
    return result


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
