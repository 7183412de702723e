"""Plays an agent in its own games and writes what happened as datasets of minari."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.arrays import AnyArray, Booleans
from mtspark.core.backend import AgentBackend, Moment
from mtspark.core.datasets import (
    DatasetWriter,
    Origin,
    RecordedData,
    RecordedEpisode,
    check_minari,
    dataset_name,
    read_dataset,
    read_origin,
)
from mtspark.core.environments import (
    GameProtocol,
    Task,
    check_sampling,
    make_games,
    named_task,
    protocol_with_sticky,
)
from mtspark.core.errors import BadFileError, BadRequestError, MtsparkError
from mtspark.core.files import (
    AnyPath,
    check_checkpoint_file,
    current_policy,
    is_full,
    read_whole,
    reason_of,
    replacing_folder,
    unchanged,
)
from mtspark.core.progress import ProgressCallback, begin, no_progress
from mtspark.core.version import __version__
from mtspark.deploy.bundle import load_bundle
from mtspark.sim.play import Episode, play_task
from mtspark.workflows.backends import BackendName, one_at_a_time, open_backend
from mtspark.workflows.record.request import RecordedTask, Recording, RecordRequest
from mtspark.workflows.run import episode_reports


def record_play(
    path: AnyPath,
    folder: AnyPath,
    request: RecordRequest,
    *,
    progress: ProgressCallback = no_progress,
) -> Recording:
    """Play an agent and write a dataset of each task.

    A dataset appears under its name when it is whole, or not at all. One that the same call wrote
    before stays, so a recording of several tasks that was stopped goes on.

    Args:
        path: of an agent's file, whose float network plays, or of a bundle.
        folder: gets a folder for each task, named by
            :func:`mtspark.core.datasets.dataset_name`.
        request: tasks, episodes, seeds, exploration.
        progress: called at every decision.

    Raises:
        BackendMissingError: minari, or a package of an environment, is not installed.
        BadFileError: no such agent, or the folder cannot be written.
        BadRequestError: an unknown task, one that is no game, numbers that cannot be, or a
            dataset of another recording.
    """
    request.check()
    check_minari()
    player, folder = _player(Path(path), request, progress), Path(folder)
    names = [named_task(player.tasks, name) for name in request.tasks]
    chosen = [task for task in player.tasks if not names or task.name in names]
    for task in chosen:
        if not task.game:
            games = ", ".join(one.name for one in player.tasks if one.game)
            remedy = f"; name others by --task: {games}" if games else ", and only play is recorded"
            raise BadRequestError(f"{path}: {task.name} is no game{remedy}")
        check_sampling(task, request.exploring)
    protocol = protocol_with_sticky(player.protocol, request.sticky)
    places = [folder / dataset_name(task.name) for task in chosen]
    if len(set(places)) < len(places):
        raise BadRequestError(
            f"{path}: two tasks have the same dataset, {places[0].name}; record one a folder"
        )
    played = {
        "agent": player.name,
        "sha256": player.sha256,
        "backend": player.backend.value,
        "mtspark": __version__,
        **request.to_json(),
    }
    for task, place in zip(chosen, places, strict=True):
        # Before anything is played or written: a package may be missing.
        if not place.exists():
            make_games(task, protocol, 1).close()
    done = []
    for task, place in zip(chosen, places, strict=True):
        origin = Origin(task, protocol if task.is_ale else None, played)
        done.append(_recorded(player, origin, place, request, progress))
    return Recording(player.name, player.sha256, player.backend.value, tuple(done))


@dataclass(frozen=True)
class _Player:
    """An agent that can play: of a file, or of a bundle.

    Attributes:
        name, sha256: of the agent.
        backend: who decides.
        tasks, protocol: its own.
        open: starts it for a task.
    """

    name: str
    sha256: str
    backend: BackendName
    tasks: tuple[Task, ...]
    protocol: GameProtocol | None
    open: Callable[[str], Any]


def _player(path: Path, request: RecordRequest, progress: ProgressCallback) -> _Player:
    if path.is_file() or (path.suffix == ".pt" and not path.exists()):
        return _of_file(path, request, progress)
    bundle, backend = load_bundle(path), request.backend or BackendName.ENGINE
    network = bundle.network
    if not network.plays:
        raise BadRequestError(f"{path}: plays no game, so there is nothing to record")
    begin(progress, "starting", "torch" if backend is BackendName.TORCH else "numba")

    def opened(task: str) -> Any:
        return open_backend(backend, bundle, task)

    return _Player(
        network.name,
        bundle.network_hash,
        backend,
        network.tasks,
        network.protocol_with(),
        opened,
    )


def _of_file(path: Path, request: RecordRequest, progress: ProgressCallback) -> _Player:
    if request.backend not in (None, BackendName.TORCH):
        raise BadRequestError(
            f"--backend {request.backend.value if request.backend else ''}: runs bundles, and "
            f"{path} is an agent file; export it first, or leave the option out"
        )
    check_checkpoint_file(path)
    # Read once: the digest is that of the weights that play.
    content = read_whole(path, current_policy().limits)
    begin(progress, f"reading {path.name}", "torch")
    from mtspark.train.backend import TorchBackend
    from mtspark.train.checkpoint import load_agent

    agent = load_agent(path, content=content)

    @contextmanager
    def opened(_: str) -> Iterator[AgentBackend]:
        backend = TorchBackend(agent)
        try:
            yield backend
        finally:
            backend.close()

    digest = hashlib.sha256(content).hexdigest()
    return _Player(path.stem, digest, BackendName.TORCH, agent.tasks, agent.protocol, opened)


def _recorded(
    player: _Player,
    origin: Origin,
    place: Path,
    request: RecordRequest,
    progress: ProgressCallback,
) -> RecordedTask:
    """Record one task, or find what the same call recorded before."""
    task = origin.task
    if place.exists():
        return _found(origin, place)
    with _room_for(place), replacing_folder(place, lambda _: None) as new:
        collector = Collector(DatasetWriter(new.path, origin), request.seed)
        reports = episode_reports(progress, f"recording {task.name}", request.episodes)

        def observe(moment: Moment) -> None:
            collector(moment)
            reports(moment)

        with player.open(task.name) as backend:
            episodes = play_task(
                backend,
                task,
                player.tasks.index(task),
                player.protocol,
                episodes=request.episodes,
                seed=request.seed,
                max_decisions=request.max_decisions,
                sticky=request.sticky,
                # Frame stacks of 32 games side by side would fill the memory.
                one_at_a_time=task.is_ale or one_at_a_time(player.backend),
                observe=observe,
                sampling=request.exploring,
            )
        # Nobody else wrote here meanwhile: the folder is locked.
        if place.exists():
            raise BadRequestError(f"{place}: is there already; choose another folder")
    return _told(task, place, episodes)


@contextmanager
def _room_for(place: Path) -> Iterator[None]:
    """Say of a full disk which folder it is: what the HDF5 library raises names none.

    Raises:
        BadFileError: there is no room.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise BadFileError(
            f"{place}: cannot be written ({reason_of(error, place)}); {unchanged(place)}; record "
            "elsewhere, or free some space"
        ) from error


def _told(task: Task, place: Path, episodes: tuple[Episode, ...]) -> RecordedTask:
    return RecordedTask(
        task.name,
        place.name,
        place,
        len(episodes),
        sum(episode.decisions for episode in episodes),
        sum(episode.score for episode in episodes) / len(episodes),
    )


def _found(origin: Origin, place: Path) -> RecordedTask:
    """A dataset that is there, if it is the one that would be recorded now.

    Raises:
        BadRequestError: it is another one, or no dataset.
    """
    try:
        before = read_origin(place / "data")
        same = before is not None and before.to_json() == origin.to_json()
        data: RecordedData | None = read_dataset(place / "data") if same else None
    except (MtsparkError, OSError):
        data = None
    if data is None:
        raise BadRequestError(
            f"{place}: is there already, from another recording; choose another folder or remove it"
        )
    total = sum(float(one.rewards.sum()) for one in data.episodes)
    count = len(data.episodes)
    return RecordedTask(
        origin.task.name, place.name, place, count, data.decisions, total / count, is_new=False
    )


@dataclass
class _Open:
    """An episode that is being played: what each decision adds to it."""

    shown: list[AnyArray] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    masks: list[Booleans] = field(default_factory=list)


class Collector:
    """Observes the agent loop and writes the episodes of a group of games when all are over.

    Args:
        writer: of the dataset.
        seed: of the first episode.
    """

    def __init__(self, writer: DatasetWriter, seed: int) -> None:
        self._writer, self._seed = writer, seed
        self._open: dict[int, _Open] = {}
        self._over: dict[int, RecordedEpisode] = {}

    def __call__(self, moment: Moment) -> None:
        """Take a decision of the games that run."""
        outcome = moment.outcome
        assert outcome is not None
        last = iter(outcome.last)
        last_masks = None if outcome.last_masks is None else iter(outcome.last_masks)
        for row, index in enumerate(moment.episodes.tolist()):
            one = self._open.setdefault(index, _Open())
            one.shown.append(outcome.shown[row])
            one.actions.append(moment.actions[row])
            one.rewards.append(float(moment.rewards[row]))
            if moment.masks is not None:
                one.masks.append(moment.masks[row])
            if outcome.over[row]:
                ended = bool(outcome.ended[row])
                if last_masks is not None:
                    one.masks.append(next(last_masks))
                self._over[index] = _closed(one, next(last), ended, self._seed + index)
                del self._open[index]
        if not self._open:
            self._writer.add([self._over[index] for index in sorted(self._over)])
            self._over.clear()


def _closed(one: _Open, last: AnyArray, ended: bool, seed: int) -> RecordedEpisode:
    masks = np.stack(one.masks) if one.masks else None
    return RecordedEpisode(
        np.stack([*one.shown, last]),
        np.stack(one.actions),
        np.array(one.rewards),
        ended,
        masks,
        seed,
    )
