"""Options that mean nothing to what is scored are refused in one line, and not ignored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mtspark
from mtspark.cli.show import print_diff, print_evaluation, print_explanation
from mtspark.core.environments import Environment, Task, compared_as, world_task
from mtspark.core.errors import BadRequestError
from mtspark.deploy.bundle import load_bundle
from mtspark.sim.compare import Agreement
from mtspark.train.checkpoint import Agent, save_agent
from mtspark.train.networks import ConvSize, MTSparkNetwork, NetworkConfig
from mtspark.workflows.diff import DiffResult
from mtspark.workflows.evaluate import EvaluationRequest, evaluate_bundle
from mtspark.workflows.evaluate.rows import Evaluation, GameRow, ImageRow
from mtspark.workflows.explain import Explanation
from mtspark.workflows.report import ReportRequest, write_page

Call = Callable[..., int]


@pytest.fixture(scope="module")
def image_agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent of one image set, that has seen none of it."""
    torch.manual_seed(1)
    config = NetworkConfig(
        (1, 28, 28), (ConvSize(2, 8, 8),), hidden=6, actions=10, tasks=1, time_steps=2
    )
    task = Task("mnist", "", ())
    path = tmp_path_factory.mktemp("images") / "images.pt"
    save_agent(Agent(MTSparkNetwork(config).eval(), (task,), None), path)
    return path


@pytest.fixture(scope="module")
def image_bundle(image_agent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "images.deploy"
    mtspark.export(image_agent).save(folder)
    return folder


def refusal(capsys: pytest.CaptureFixture[str], call: Call, *words: object) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    assert call(*words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("option", "value"), [("--max-decisions", 3), ("--episodes", 30), ("--seed", 0)]
)
def test_an_image_agent_s_file_plays_no_game(
    image_agent: Path, call: Call, capsys: pytest.CaptureFixture[str], option: str, value: int
) -> None:
    line = refusal(capsys, call, "eval", image_agent, option, value)
    assert line == f"error: {option}: is of games, and no task is one; leave it out"


def test_an_agent_s_file_that_plays_has_no_images(
    checkpoint: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, value in (("--images", 3), ("--data", "there")):
        line = refusal(capsys, call, "eval", checkpoint, option, value)
        assert line == f"error: {option}: is of image sets, and no task is one; leave it out"


def test_from_python_too(image_agent: Path, image_bundle: Path, played: Path) -> None:
    for agent in (image_agent, image_bundle):
        with pytest.raises(BadRequestError, match="max_decisions: is of games, and no task is one"):
            mtspark.evaluate(agent, max_decisions=3)
    with pytest.raises(BadRequestError, match="images: is of image sets, and no task is one"):
        mtspark.evaluate(played, images=5)
    games = load_bundle(played)
    for most in (0, -1, 10**30):
        with pytest.raises(BadRequestError, match=rf"--max-decisions {most}: must be 1 to 10,000,"):
            evaluate_bundle(games, EvaluationRequest(max_decisions=most))
    with pytest.raises(BadRequestError, match="--episodes 1000000000000: must be 2 to 10,000,000"):
        EvaluationRequest(episodes=10**12).check()


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_decisions", 3), ("episodes", 4), ("seed", 5), ("seconds", 3.0)],
)
def test_a_page_of_images_plays_no_game(
    image_bundle: Path, tmp_path: Path, option: str, value: Any
) -> None:
    request = ReportRequest(**{option: value})
    text = f"--{option.replace('_', '-')}: is of games, and no task is one; leave it out"
    with pytest.raises(BadRequestError, match=text):
        write_page(image_bundle, tmp_path / "page.html", request)
    assert list(tmp_path.iterdir()) == []


def test_a_page_of_games_shows_no_images(played: Path, tmp_path: Path) -> None:
    for request in (ReportRequest(images=5), ReportRequest(data="x.npy", max_decisions=2)):
        with pytest.raises(BadRequestError, match="is of inputs that are no game, and no task is"):
            write_page(played, tmp_path / "page.html", request)


def test_effects_are_played_in_games_alone(
    image_bundle: Path, call: Call, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 1, 28, 28), np.uint8))
    words = ("explain", image_bundle, "--inputs", tmp_path / "x.npy", "--episodes", 2)
    line = refusal(capsys, call, *words)
    assert line == "error: --episodes 2: task 'mnist' is no game; leave it out"


def test_a_loop_is_of_games_alone(
    image_bundle: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, call, "hil", image_bundle, "--max-decisions", 3)
    assert line == "error: images: task 'mnist' is no game; none of its tasks is"


def test_times_are_of_games_and_of_switches(
    image_bundle: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, call, "map", image_bundle, "--times", "pilotnet")
    assert line.startswith("error: --times: is of the steps of a game (--task) and of switches")


def test_watch_shows_games_alone(
    image_bundle: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, call, "watch", image_bundle, "--no-browser")
    assert line.endswith(": plays no game, so there is nothing to watch")


@pytest.mark.parametrize("more", [(), ("--serve", "tcp://127.0.0.1:0")])
def test_a_seed_draws_faults_or_jitter(
    played: Path, call: Call, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    line = refusal(capsys, call, "hil", played, "--fault-seed", 3, *more)
    assert line.startswith("error: --fault-seed: draws faults (--fault, --fault-sweep) and jitter")
    assert line.endswith("none is given; leave it out")


def pendulum() -> Task:
    return world_task(Environment("Pendulum-v1"))


def test_what_is_the_same_is_named_as_what_it_is() -> None:
    numbers = "actions (each number within 5 % of its range)"
    assert compared_as(pendulum()) == numbers
    assert compared_as(Task("pong", "pong", (0, 3))) == "actions"
    assert compared_as(Task("mnist", "", ())) == compared_as(Task("default", "", ())) == "answers"


def test_the_column_agree_says_what_it_is_a_share_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def row(task: str) -> GameRow:
        row = GameRow(task, "engine", "ab", 0.0, 0, 2, 0, (1.0, 2.0), (1.0, 2.0), 90)
        return replace(row, action_agreement=0.5, decisions_compared=90)

    both = (row("pong"), row("Pendulum-v1"))
    for rows, says in (
        (both[:1], "decisions in which float and chip take the same action; 90 in all"),
        (both[1:], "take the same action, each number within 5 % of its range; 90 in all"),
        (both, "take the same action (numbers: each within 5 % of its range); 180 in all"),
    ):
        numbers = frozenset(["Pendulum-v1"])
        print_evaluation(Evaluation("agent", "ab", rows, (), numbers=numbers), details=True)
        assert says in printed(capsys)
    image = ImageRow("mnist", "engine", "ab", "test", 100, 90, 0.97, 100)
    print_evaluation(Evaluation("agent", "ab", (), (image,)), details=True)
    assert "share of images in which float and chip give the same answer; 100 in" in printed(capsys)


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_comparison_with_floats_says_what_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    agreement = Agreement(10, {}, None, actions_compared=10, actions_equal=9)
    for what in ("answers", "actions (each number within 5 % of its range)"):
        result = DiffResult("engine", "torch", "t", 0, agreement, False, compared_as=what)
        print_diff(result)
        assert f"90.0% of the {what} agree;" in printed(capsys)
        same = "give the same answer" if what == "answers" else "choose the same action"
        assert f"engine and torch {same}{what[7:]} in 90" in result.sentences[0]


def test_the_table_of_effects_says_what_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    for answer, numbers, says in (
        ("answer", False, "same answer: share of 7 decisions; columns"),
        ("action", True, "same action: share of 7 decisions, each number within 5 % of its range;"),
    ):
        result = Explanation("f", "a", "b", "t", 7, 0, 0, answer=answer, numbers=numbers)
        print_explanation(result, details=True)
        assert says in printed(capsys)


@pytest.mark.parametrize(
    ("option", "value", "assignment"),
    [
        ("--seed", 5, "seed=3"),
        ("--seeds", "1,2", "seed=3"),
        ("--steps", 1000, "total_steps = 2000"),
        ("--game", "CartPole-v1", "games=Acrobot-v1"),
        ("--variant", "dqn", "network.variant=dsqn"),
        ("--device", "cpu", "device=cuda"),
    ],
)
def test_a_field_is_set_once(
    call: Call, capsys: pytest.CaptureFixture[str], option: str, value: Any, assignment: str
) -> None:
    line = refusal(capsys, call, "train", "cartpole", option, value, "--set", assignment)
    field = assignment.partition("=")[0].strip()
    assert line == f"error: {option}: --set {assignment} sets {field}, too; leave it out"


@pytest.mark.parametrize(
    ("recipe", "option", "value"),
    [
        ("cartpole", "--seeds", "1,2"),
        ("cartpole", "--output", "run"),
        ("cartpole", "--executor", "processes:2"),
        ("images", "--data", "sets"),
    ],
)
def test_showing_a_recipe_trains_nothing(
    call: Call, capsys: pytest.CaptureFixture[str], recipe: str, option: str, value: str
) -> None:
    line = refusal(capsys, call, "train", recipe, "--show", option, value)
    assert line == f"error: {option}: is of training, and --show trains nothing; leave it out"
