"""A study of one task: episodes played once more with everything recorded."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import AgentBackend, Moment, greedy_actions
from mtspark.core.chip_network import ChipNetwork, Encoder, check_forgets
from mtspark.core.environments import Task, seconds_per_decision, sticky_of
from mtspark.core.errors import BadRequestError
from mtspark.sim.counts import (
    ActivityRecorder,
    Counter,
    DeepCounts,
    EncoderCounter,
    EncoderCounts,
)
from mtspark.sim.play import MAX_GAMES_AT_ONCE, Episode, Run, play
from mtspark.sim.recording.film import FilmRecorder, Shot, with_contrast
from mtspark.sim.recording.scenery import with_scenery


@dataclass(frozen=True)
class Study:
    """What was recorded of one task.

    Attributes:
        task: its name.
        seed: of the first episode.
        sticky: probability of sticky actions that was played with; None for images.
        interval_ms: time until the next decision is due; None for images.
        run: episodes and total counts.
        deep: counts by step, decision and episode.
        encoders: what each encoder would have sent.
        shots: some seconds of the first episode.
        shown: by population, indices of the neurons in the shots' rasters.
        host_s: seconds that this computer took.
        plain: the inputs are samples of the user's own, no game and no known image set.
    """

    task: str
    seed: int
    sticky: float | None
    interval_ms: float | None
    run: Run
    deep: DeepCounts
    encoders: dict[Encoder, EncoderCounts]
    shots: list[Shot]
    shown: dict[str, list[int]]
    host_s: float
    plain: bool = False


def decision_interval_ms(network: ChipNetwork, task: Task) -> float | None:
    """How long a game or an environment waits for a decision; None for a task that is neither."""
    seconds = seconds_per_decision(task, network.protocol)
    return None if seconds is None else 1000 * seconds


def study_task(
    backend: AgentBackend,
    network: ChipNetwork,
    task: str,
    *,
    seed: int,
    episodes: int = 1,
    max_decisions: int | None = None,
    sticky: float | None = None,
    film_decisions: int = 150,
    observe: Callable[[Moment], None] | None = None,
) -> Study:
    """Play with every spike recorded.

    Args:
        backend: a simulated chip (torch has no chip steps).
        network: that it runs.
        task: name of the task.
        seed: of the first episode.
        episodes: at most as many as run side by side.
        max_decisions: cut every episode off after this many.
        sticky: another probability of sticky actions than the protocol's.
        film_decisions: how many decisions of the first game are kept to look at.
        observe: called after every decision.

    Raises:
        BadRequestError: the network plays no games, or too many episodes.
    """
    known = network.tasks[network.task_index(task)]
    if not known.game:
        raise BadRequestError(f"task {task!r}: is not a game, so there is nothing to play")
    if episodes > MAX_GAMES_AT_ONCE:
        raise BadRequestError(
            f"episodes {episodes}: must be at most {MAX_GAMES_AT_ONCE} for a report"
        )
    activity, encoders = ActivityRecorder(network), EncoderCounter(network)
    film = FilmRecorder(network, film_decisions)

    def watch(moment: Moment) -> None:
        activity(moment)
        encoders(moment)
        film(moment)
        if observe is not None:
            observe(moment)

    started = time.perf_counter()
    run = play(
        backend,
        network,
        task,
        episodes=episodes,
        seed=seed,
        max_decisions=max_decisions,
        sticky=sticky,
        trace=True,
        observe=watch,
    )
    shots = film.shots
    if known.environment is not None:
        shots = with_scenery(shots, known.environment, run.episodes[0])
    return Study(
        task=task,
        seed=seed,
        sticky=sticky_of(network.protocol) if sticky is None else sticky,
        interval_ms=decision_interval_ms(network, known),
        run=run,
        deep=activity.result(),
        encoders={encoder: encoders.result(encoder) for encoder in encoders.encoders},
        shots=shots,
        shown={name: rows.tolist() for name, rows in film.shown.items()},
        host_s=time.perf_counter() - started,
    )


def study_images(
    backend: AgentBackend,
    network: ChipNetwork,
    task: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    film_decisions: int = 150,
    plain: bool = False,
    observe: Callable[[Moment], None] | None = None,
) -> Study:
    """Classify images with every spike recorded: one episode, a point for each right answer.

    Args:
        backend: a simulated chip.
        network: that it runs.
        task: name of the task.
        images: messages (count, *input shape), or (count, T, *input shape) of series.
        labels: (count,) the right answers, as actions.
        film_decisions: how many of the first images are kept to look at.
        plain: each is sent whole, as samples that have nothing to do with each other.
        observe: called after every decision.

    Raises:
        BadRequestError: no image, or images of another shape.
    """
    row = network.task_index(task)
    check_forgets(network, "recorded inputs are no course of an episode")
    given = network.input
    wanted = given.shape if given.held else (network.time_steps, *given.shape)
    if not len(images) or images.shape[1:] != wanted:
        raise BadRequestError(f"{task}: inputs of {images.shape[1:]}, the network takes {wanted}")
    legal = network.tasks[row].legal_actions or tuple(range(network.readout.scale.size))
    activity, encoders, counter = (
        ActivityRecorder(network, apart=plain),
        EncoderCounter(network, apart=plain),
        Counter(network),
    )
    film = FilmRecorder(network, min(film_decisions, len(images)), stacked=False)
    whole, score = np.array([0]), 0.0
    answers: list[int] = []
    started = time.perf_counter()
    for image, label in zip(images, labels, strict=True):
        if not answers or plain:
            # Samples are no course of a game: each is sent whole.
            backend.start(1)
        decision = backend.decide(image[None], row, trace=True)
        actions = greedy_actions(decision.values, legal)
        points = (actions == label).astype(np.float64)
        moment = Moment(image[None], whole, actions, points, decision)
        answers.append(int(actions[0]))
        score += float(points[0])
        counter.add(decision.activity)
        activity(moment)
        encoders(moment)
        if len(answers) <= film_decisions:
            film(moment)
        if observe is not None:
            observe(moment)
    digest = hashlib.sha256(np.array(answers).tobytes()).hexdigest()[:16]
    episode = Episode(0, score, len(answers), True, digest, tuple(answers))
    return Study(
        task=task,
        seed=0,
        sticky=None,
        interval_ms=None,
        run=Run((episode,), counter.result(), counter.sent),
        deep=activity.result(),
        encoders={encoder: encoders.result(encoder) for encoder in encoders.encoders},
        shots=with_contrast(film.shots) if plain else film.shots,
        shown={name: rows.tolist() for name, rows in film.shown.items()},
        host_s=time.perf_counter() - started,
        plain=plain,
    )
