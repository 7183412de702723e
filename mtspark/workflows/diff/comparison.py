"""What is compared with what: the entry of this package."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import Decider
from mtspark.core.chip_network import ChipNetwork, check_forgets
from mtspark.core.environments import box_of, compared_as
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath
from mtspark.core.progress import ProgressCallback, no_progress
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.compare import InPlaces, Places, compare_activity, compare_traces
from mtspark.sim.energy import PriceCard, load_card
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.diff.costs import EpisodeLog, costs_of
from mtspark.workflows.diff.files import RUNNERS, TWIN, diff_files
from mtspark.workflows.diff.frames import task_frames
from mtspark.workflows.diff.result import DiffResult
from mtspark.workflows.diff.sides import SUFFIXES
from mtspark.workflows.whole import places_of, shared_places

DEFAULT_DECISIONS = {
    BackendName.ENGINE.value: 1000,
    BackendName.REFERENCE.value: 1000,
    BackendName.LAVA.value: 50,
    BackendName.LAVA_STOCK.value: 3,
    BackendName.TORCH.value: 1000,
    TWIN: 1000,
}
DEFAULT_BUNDLE_DECISIONS = 50


def diff(
    first: Bundle | AnyPath,
    against: str | AnyPath,
    task: str | None = None,
    *,
    decisions: int | None = None,
    seed: int = 0,
    card: AnyPath | None = None,
    progress: ProgressCallback = no_progress,
) -> DiffResult:
    """Find the first spike or membrane in which two simulations of a network differ.

    Both sides get the same frames: of the game that the task is, played by the engine, otherwise
    random ones.

    Args:
        first: a bundle, or a file: checkpoint (.pt), NIR (.nir), ONNX (.onnx), netx (.net).
        against: a backend (:class:`BackendName`), ``twin``, ``netx`` or ``onnx``, which run the
            first side too; or another bundle or file. A backend is compared with the reference,
            the reference itself and torch with the engine.
        task: by name; the first one where None.
        decisions: how many; where None, as many as take seconds to minutes.
        seed: of the frames.
        card: prices of a mean decision, a name or a file; None for no costs.
        progress: receives the decisions compared so far.

    Raises:
        BadRequestError: `against` is nothing that can be compared, the two are different networks,
            or the task is unknown.
        BadFileError: a file cannot be read, or there is no such card.
        BackendMissingError: Lava or lava-dl is not installed.
    """
    if decisions is not None and decisions < 1:
        raise BadRequestError(f"decisions {decisions}: must be at least 1")
    prices = None if card is None else load_card(card)
    other = against.value if isinstance(against, BackendName) else os.fspath(against)
    if compares_files(first, other):
        source = first if isinstance(first, Bundle) else os.fspath(first)
        return diff_files(
            source, other, task, decisions=decisions, seed=seed, card=prices, progress=progress
        )
    bundle = first if isinstance(first, Bundle) else load_bundle(Path(first))
    network = bundle.network
    chosen = network.tasks[0].name if task is None else network.task_name(task)
    if other not in DEFAULT_DECISIONS:
        count = decisions or DEFAULT_BUNDLE_DECISIONS
        return _with_bundle(bundle, other, chosen, count, seed, prices, progress)
    count = decisions or DEFAULT_DECISIONS[other]
    if other == TWIN:
        return _with_twin(bundle, chosen, count, seed, prices, progress)
    return _with_backend(bundle, BackendName(other), chosen, count, seed, prices, progress)


OTHER_SIDES = "use --against engine, reference or lava, or eval, which follows whole episodes"


def compares_files(first: Bundle | AnyPath, against: str) -> bool:
    """Whether one of the two is a file, or a tool that runs files of its own."""
    names = [against] if isinstance(first, Bundle) else [os.fspath(first), against]
    return against in RUNNERS or any(Path(name).suffix in SUFFIXES for name in names)


def _with_twin(
    bundle: Bundle,
    task: str,
    decisions: int,
    seed: int,
    card: PriceCard | None,
    progress: ProgressCallback,
) -> DiffResult:
    """Compare the network that learned quantised with the reference."""
    from mtspark.workflows.diff.twin import compare_with_twin, twin_of

    network = bundle.network
    check_forgets(network, "the twin answers decisions alone", OTHER_SIDES)
    places, log = places_of(bundle), EpisodeLog()
    twin = twin_of(bundle, places)
    frames = task_frames(network, task, decisions, seed, observe=log.observe, progress=progress)
    row = network.task_index(task)
    agreement = compare_with_twin(twin, network, frames, row, places=places, progress=progress)
    removed = {} if places is None else places.removed
    result = DiffResult(BackendName.REFERENCE.value, TWIN, task, seed, agreement, removed=removed)
    return _priced(
        result, {BackendName.REFERENCE.value: network}, task, frames, log, card, progress
    )


def _with_backend(
    bundle: Bundle,
    backend: BackendName,
    task: str,
    decisions: int,
    seed: int,
    card: PriceCard | None,
    progress: ProgressCallback,
) -> DiffResult:
    """Compare a backend with the reference; the reference and torch with the engine.

    Spikes and membranes are compared, of torch spike counts and actions.
    """
    network, log = bundle.network, EpisodeLog()
    row = network.task_index(task)
    floats = backend is BackendName.TORCH
    if floats:
        check_forgets(network, "torch is compared on decisions alone", OTHER_SIDES)
    removed: dict[str, int] = {}
    by_engine = floats or backend is BackendName.REFERENCE
    expected = BackendName.ENGINE if by_engine else BackendName.REFERENCE
    with (
        open_backend(expected, bundle, task, trace=True) as one,
        open_backend(backend, bundle, task, trace=True, all_neurons=True) as two,
    ):
        # After the backends: one that is missing is an error before a long game.
        frames = task_frames(network, task, decisions, seed, observe=log.observe, progress=progress)
        if floats:
            known = network.tasks[row]
            places = places_of(bundle)
            agreement = compare_activity(
                _in_places(one, places),
                two,
                frames,
                row,
                known.legal_actions,
                box=box_of(known),
                masks=log.masks,
                only=None if places is None else places.kept,
                progress=progress,
            )
            removed = {} if places is None else places.removed
        else:
            agreement = compare_traces(one, two, frames, row, progress=progress)
    result = DiffResult(
        expected.value,
        backend.value,
        task,
        seed,
        agreement,
        exact=not floats,
        compared_as=compared_as(network.tasks[row]),
        removed=removed,
    )
    return _priced(result, {expected.value: network}, task, frames, log, card, progress)


def _with_bundle(
    bundle: Bundle,
    against: str,
    task: str,
    decisions: int,
    seed: int,
    card: PriceCard | None,
    progress: ProgressCallback,
) -> DiffResult:
    """Compare two bundles whose layers are the same but for what was pruned, in the reference.

    Raises:
        BadRequestError: no such bundle, or one with other layers.
    """
    if not Path(against).exists():
        names = ", ".join(DEFAULT_DECISIONS)
        raise BadRequestError(f"--against {against}: neither a backend ({names}) nor a bundle")
    other = load_bundle(Path(against))
    places = shared_places(places_of(bundle), places_of(other))
    layers = [
        {population.name: population.shape for population in network.populations}
        if side is None
        else side.shapes
        for network, side in ((bundle.network, places.one), (other.network, places.other))
    ]
    takes = [
        (network.input.shape, network.steps_per_decision)
        for network in (bundle.network, other.network)
    ]
    if layers[0] != layers[1] or takes[0] != takes[1]:
        raise BadRequestError(f"{against}: another network than {bundle.folder}, layers differ")
    theirs = [one.name for one in other.network.tasks]
    if task not in theirs:
        raise BadRequestError(
            f"{against}: its tasks are {', '.join(theirs)}, and {bundle.folder} is compared in "
            f"{task}; name a task of both (--task), or another bundle"
        )
    network, log = bundle.network, EpisodeLog()
    frames = task_frames(network, task, decisions, seed, observe=log.observe, progress=progress)
    agreement = compare_traces(
        _in_places(ReferenceChip(network), places.one),
        _in_places(ReferenceChip(other.network), places.other),
        frames,
        network.task_index(task),
        other.network.task_index(task),
        only=places.only,
        progress=progress,
    )
    result = DiffResult(str(bundle.folder), against, task, seed, agreement, removed=places.removed)
    networks = {result.expected: network, against: other.network}
    return _priced(result, networks, task, frames, log, card, progress)


def _in_places(backend: Decider, places: Places | None) -> Decider:
    """A backend of a pruned network whose records have the shapes of the whole one."""
    return backend if places is None else InPlaces(backend, places)


def _priced(
    result: DiffResult,
    networks: dict[str, ChipNetwork],
    task: str,
    frames: NDArray[np.uint8],
    log: EpisodeLog,
    card: PriceCard | None,
    progress: ProgressCallback,
) -> DiffResult:
    """Return a result with what its networks cost on the frames that were compared."""
    sides = {name: (one, frames, one.task_index(task)) for name, one in networks.items()}
    unit = "decision" if log.numbers else "random input"
    costs = costs_of(sides, log.numbers, card, progress=progress)
    return replace(result, costs=costs, unit=unit)
