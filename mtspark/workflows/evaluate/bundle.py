"""Scores of a deployed agent: float network and chip on the same starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mtspark.core.backend import Moment
from mtspark.core.environments import (
    GameProtocol,
    Sampling,
    Task,
    box_of,
    check_sampling,
    same_choices,
    sticky_of,
)
from mtspark.core.errors import BadRequestError, one_line
from mtspark.core.executor import Job, check_executor, finished_jobs
from mtspark.core.files import AnyPath, check_checkpoint_file, check_json_target, writable_folder
from mtspark.core.progress import ProgressCallback, begin, no_progress
from mtspark.deploy.bundle import AGENT, Bundle
from mtspark.sim.counts import ShareCounter
from mtspark.sim.energy import DEFAULT_CARD, PriceCard, load_card
from mtspark.sim.play import MOST_PLAYED, Run, play
from mtspark.sim.verdict import Cost, mean_cost
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.evaluate.images import image_rows
from mtspark.workflows.evaluate.rows import (
    QUANTISATION,
    Evaluation,
    GameRow,
    ImageRow,
    Question,
    game_row,
    store,
    stored_games,
)
from mtspark.workflows.run import episode_reports
from mtspark.workflows.workers import GameQuestion, PlayedParts, game_jobs, package_of

if TYPE_CHECKING:
    from mtspark.train.checkpoint import Agent

Observers = tuple[Callable[[Moment], None], ...]

PLAYERS = (BackendName.TORCH, BackendName.ENGINE)
"""Who plays, in the order of the rows."""
SEEDS = 2**30
"""Games can be seeded with 0 to one less."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What an evaluation is asked.

    Attributes:
        tasks: names; empty: all.
        episodes: full games of each row, at least 2.
        seed: of the first game of every row.
        sticky: sticky actions of the second pair of rows, which environments do not have.
        data: folder with test images, for image tasks; None downloads them.
        images: test images of each task; 0: all.
        store: file that gets the rows as they come; a run that was stopped goes on with it.
        max_decisions: cut every game off after this many; None for whole games.
        executor: workers that play, as of :func:`mtspark.core.executor.parse_executor`; None:
            this process. The rows are the same.
        card: prices of the mean decision, a name or a file.
        sampling: draw actions, as an agent that learned a policy (PPO) does; None takes the best.
    """

    tasks: tuple[str, ...] = ()
    episodes: int = 30
    seed: int = 0
    sticky: float = 0.25
    data: AnyPath | None = None
    images: int = 0
    store: AnyPath | None = None
    max_decisions: int | None = None
    executor: str | None = None
    card: AnyPath = DEFAULT_CARD
    sampling: Sampling | None = None

    def check(self) -> None:
        """Refuse numbers that cannot be, and a file that cannot be written.

        Raises:
            BadRequestError: there is one.
            BadFileError: the rows could not be stored, or there is no such card.
            BackendMissingError: the executor's package is not installed.
        """
        check_json_target(self.store)
        check_executor(self.executor)
        load_card(self.card)
        if not 0 <= self.sticky < 1:
            raise BadRequestError(
                f"--sticky {self.sticky:g}: 0 up to below 1 is a probability; change it"
            )
        for name, value, least in (
            ("--max-decisions", self.max_decisions, 1),
            ("--episodes", self.episodes, 2),
        ):
            if value is not None and not least <= value <= MOST_PLAYED:
                shown = one_line(str(value), 40)
                raise BadRequestError(f"{name} {shown}: must be {least} to {MOST_PLAYED:,}")
        if not 0 <= self.seed <= SEEDS - self.episodes:
            raise BadRequestError(
                f"--seed {self.seed}: 0 to {SEEDS - self.episodes} can be used with "
                f"{self.episodes} episodes"
            )

    def check_used(self, tasks: Sequence[Task]) -> None:
        """Refuse what means nothing to the tasks that are scored.

        Args:
            tasks: those of an agent or a network.

        Raises:
            BadRequestError: a limit of games where none is played, or a choice of images where
                none is shown; drawn actions of a task that has none to draw.
        """
        chosen = [task for task in tasks if not self.tasks or task.name in self.tasks]
        images = {"--data": self.data is not None, "--images": bool(self.images)}
        games = {
            "--max-decisions": self.max_decisions is not None,
            "--sample": self.sampling is not None,
        }
        for given, kind, used in (
            (games, "games", any),
            (images, "image sets", lambda games: not all(games)),
        ):
            if used(bool(task.game) for task in chosen):
                continue
            for name in [name for name, is_given in given.items() if is_given]:
                raise BadRequestError(f"{name}: is of {kind}, and no task is one; leave it out")
        for task in chosen:
            if task.game:
                check_sampling(task, self.sampling)


def evaluate_bundle(
    bundle: Bundle,
    request: EvaluationRequest,
    *,
    into: AnyPath | None = None,
    progress: ProgressCallback = no_progress,
) -> Evaluation:
    """Score float network and chip of a deployed agent, without and with sticky actions.

    Args:
        bundle: of the agent.
        request: tasks, episodes, seeds.
        into: store the rows in this checkpoint, too; it has the weights of the bundle's.
        progress: called at every decision.

    Raises:
        BadRequestError: unknown task, numbers that cannot be, or another agent's checkpoint.
        BadFileError: a file that cannot be read or written.
    """
    request.check()
    names = tuple(bundle.network.task_name(name) for name in request.tasks)
    request = replace(request, tasks=names)
    request.check_used(bundle.network.tasks)
    if into is not None:
        check_checkpoint_file(into)
    begin(progress, f"{bundle.network.name}: reading float network and chip", "torch")
    target = None if into is None else _checked_checkpoint(bundle, into, request)
    network, sha256 = bundle.network, bundle.network_hash
    card = load_card(request.card)
    numbers = frozenset(task.name for task in network.tasks if box_of(task) is not None)
    images: list[ImageRow] = []
    chosen = [task for task in network.tasks if not request.tasks or task.name in request.tasks]
    questions = [
        question for task in chosen for question in questions_of(task, network.protocol, request)
    ]
    pairs = _stored_pairs(bundle, questions, request.store)
    costs: dict[Question, Cost] = {}
    costs_of_images: dict[str, Cost] = {}

    def evaluation() -> Evaluation:
        games = [row for question in questions for row in pairs.get(question, ())]
        by_task = dict(costs_of_images)
        for task in chosen:
            # Of the games as they are played usually, which come first.
            usual = questions_of(task, network.protocol, request)[:1]
            if not usual or usual[0] not in pairs:
                continue
            cost = costs.get(usual[0])
            if cost is not None:
                by_task[task.name] = cost
        return Evaluation(network.name, sha256, tuple(games), tuple(images), by_task, numbers)

    if request.executor is not None:
        if not questions:
            raise BadRequestError("--executor: plays games; leave it out for image sets")
        left = [question for question in questions if question not in pairs]
        for question, rows, cost in pairs_elsewhere(bundle, left, request.executor, card, progress):
            pairs[question], costs[question] = rows, cost
            store(request.store, evaluation())
    for task in chosen:
        if not task.game:
            notes = {key: network.provenance.get(key) for key in QUANTISATION}
            rows_of_images, costs_of_images[task.name] = image_rows(
                bundle, task.name, request.data, request.images, notes, card, progress
            )
            images += rows_of_images
        for question in questions_of(task, network.protocol, request):
            if question not in pairs:
                rows, cost = pair_of_rows(bundle, question, card=card, progress=progress)
                pairs[question], costs[question] = rows, cost
            store(request.store, replace(evaluation(), images=()))
    store(request.store, evaluation())
    if target is not None:
        from mtspark.train.checkpoint import load_agent, save_agent

        # It may be another file than the one that was compared before the games.
        agent = load_agent(target)
        _check_same_agent(bundle, agent, target)
        agent.evaluations = evaluation().rows()
        save_agent(agent, target)
    return evaluation()


def _stored_pairs(
    bundle: Bundle, questions: Sequence[Question], path: AnyPath | None
) -> dict[Question, list[GameRow]]:
    """Rows of the questions whose players an earlier run has all asked."""
    known = stored_games(path, bundle.network_hash)
    players = [player.value for player in _players(bundle)]
    pairs = {}
    for question in questions:
        stored = {row.backend: row for row in known if row.question == question}
        if all(name in stored for name in players):
            pairs[question] = [stored[name] for name in players]
    return pairs


def _checked_checkpoint(bundle: Bundle, into: AnyPath, request: EvaluationRequest) -> Path:
    if request.tasks:
        raise BadRequestError("--into stores the rows of all tasks; leave --task out")
    if request.max_decisions is not None:
        raise BadRequestError("--into stores the scores of whole games; leave --max-decisions out")
    if request.sampling is not None:
        raise BadRequestError("--into stores the scores of the best actions; leave --sample out")
    from mtspark.train.checkpoint import load_agent

    _check_same_agent(bundle, load_agent(into), into)
    # A link to a checkpoint stays a link.
    target = Path(into).resolve()
    writable_folder(target.parent)
    return target


def _check_same_agent(bundle: Bundle, agent: Agent, checkpoint: AnyPath) -> None:
    """Refuse to store the scores of one agent in the file of another.

    Raises:
        BadRequestError: the bundle was made of other weights.
    """
    import torch

    from mtspark.train.checkpoint import load_agent

    kept = load_agent(bundle.folder / AGENT, content=bundle.content(AGENT))
    own, other = kept.network.state_dict(), agent.network.state_dict()
    same = own.keys() == other.keys() and all(torch.equal(own[key], other[key]) for key in own)
    if not same:
        raise BadRequestError(f"{checkpoint}: other weights than those of {bundle.folder}")


def pair_of_rows(
    bundle: Bundle,
    question: Question,
    *,
    card: PriceCard | None = None,
    progress: ProgressCallback = no_progress,
) -> tuple[list[GameRow], Cost]:
    """Play float network and chip on the same starts; the chip alone where there is no agent.

    Args:
        bundle: of the agent.
        question: the games.
        card: prices; the main one where None.
        progress: called at every decision.

    Returns:
        Rows of both, the chip's with their agreement; and what a decision costs on the card.
    """
    network = bundle.network
    task = question.task
    index = network.task_index(task)
    known = network.tasks[index]
    same, asked = 0, 0
    runs: dict[BackendName, Run] = {}
    shares = ShareCounter(network)
    players = _players(bundle)
    floats = BackendName.TORCH in players
    followed: list[int] = []
    judge = open_backend(BackendName.TORCH, bundle, task, all_neurons=True)
    with judge if floats else nullcontext() as torch_agent:

        def ask_torch(moment: Moment) -> None:
            nonlocal same, asked
            shares.add(moment.decision.activity.window, moment.frames, moment.episodes)
            if torch_agent is None:
                return
            playing = moment.episodes.tolist()
            if not set(playing) <= set(followed):
                torch_agent.start(len(playing))
            elif playing != followed:
                torch_agent.keep(np.array([followed.index(one) for one in playing]))
            followed[:] = playing
            answer = torch_agent.decide(moment.frames, index)
            # Of drawn actions, too, those are compared that both think best.
            agree = same_choices(answer.values, moment.decision.values, known, moment.masks)
            same += int(agree.sum())
            asked += len(agree)

        for name in players:
            with open_backend(name, bundle, task) as player:
                stage = f"{question.text}, {name.value}"
                observers = [episode_reports(progress, stage, question.episodes)]
                if name is BackendName.ENGINE:
                    observers.append(ask_torch)

                def observe(moment: Moment, observers: Observers = tuple(observers)) -> None:
                    for one in observers:
                        one(moment)

                runs[name] = play(
                    player,
                    network,
                    task,
                    episodes=question.episodes,
                    seed=question.seed,
                    max_decisions=question.max_decisions,
                    sticky=question.sticky,
                    observe=observe,
                    sampling=question.sampling,
                )
    prices = load_card(DEFAULT_CARD) if card is None else card
    return _rows(bundle, question, runs, shares, prices, same, asked)


def pairs_elsewhere(
    bundle: Bundle,
    questions: Sequence[Question],
    executor: str,
    card: PriceCard,
    progress: ProgressCallback,
) -> Iterator[tuple[Question, list[GameRow], Cost]]:
    """Let workers play what :func:`pair_of_rows` plays; yield each pair when it is complete."""
    package, players = package_of(bundle), _players(bundle)
    jobs: list[Job] = []
    owners: list[tuple[Question, BackendName]] = []
    parts: dict[Question, dict[BackendName, PlayedParts]] = {}
    for question in questions:
        parts[question] = {}
        for name in players:
            judged = name is BackendName.ENGINE and len(players) > 1
            asked = GameQuestion(
                question.task,
                name,
                question.episodes,
                question.seed,
                question.max_decisions,
                question.sticky,
                question.sampling,
                judged,
            )
            parts[question][name] = PlayedParts(bundle.network, asked)
            made = game_jobs(asked, package, f"{question.text}, {name.value}")
            jobs += made
            owners += [(question, name)] * len(made)
    stage = f"{bundle.network.name}: games"
    for index, part in finished_jobs(
        executor, jobs, stage=stage, unit="episodes", progress=progress
    ):
        question, name = owners[index]
        mine = parts[question]
        mine[name].add(part)
        if all(one.complete for one in mine.values()):
            chip = mine[BackendName.ENGINE]
            assert chip.shares is not None
            runs = {player: mine[player].run() for player in players}
            yield question, *_rows(bundle, question, runs, chip.shares, card, chip.same, chip.asked)


def _rows(
    bundle: Bundle,
    question: Question,
    runs: Mapping[BackendName, Run],
    shares: ShareCounter,
    card: PriceCard,
    same: int,
    asked: int,
) -> tuple[list[GameRow], Cost]:
    """Rows of the players of a question, the chip last, and what a decision costs."""
    network = bundle.network
    notes = {key: network.provenance.get(key) for key in QUANTISATION}
    *on_torch, on_chip = (
        replace(
            game_row(run.episodes, name.value, question, bundle.network_hash), quantisation=notes
        )
        for name, run in runs.items()
    )
    played = runs[BackendName.ENGINE]
    _, cost = mean_cost(played.counts, network, card, played.sent, shares, question.task)
    if on_torch:
        on_chip = replace(on_chip, action_agreement=same / asked, decisions_compared=asked)
    return [*on_torch, on_chip], cost


def questions_of(
    task: Task, protocol: GameProtocol | None, request: EvaluationRequest
) -> list[Question]:
    """What is asked of a task: without sticky actions and with them; nothing of an image set."""
    if not task.game:
        return []
    usual = sticky_of(protocol)
    return [
        Question(
            task.name,
            sticky,
            request.seed,
            request.episodes,
            request.max_decisions,
            request.sampling,
        )
        for sticky in dict.fromkeys((usual, request.sticky if task.is_ale else usual))
    ]


def _players(bundle: Bundle) -> tuple[BackendName, ...]:
    """Who plays: the chip alone where the bundle has no agent, as of a module of the user's own."""
    return PLAYERS if AGENT in bundle.files else PLAYERS[1:]
