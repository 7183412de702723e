"""Worlds that say when a task is solved: the share of such episodes, from training to the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import mtspark
from mtspark.cli.show import print_evaluation
from mtspark.core.environments import World, make_games, successes_of, world_task
from mtspark.core.environments.environment import Environment
from mtspark.core.environments.protocol import GameProtocol
from mtspark.train.rl.collect import TaskGames
from mtspark.workflows.deployment import Deployment
from mtspark.workflows.workers.games import episode_of, episode_values
from tests.support.worlds import cartpole, register_locks

RECIPE = {
    "games": ["Lock-v0"],
    "total_steps": 96,
    "games_per_task": [4],
    "rollout_steps": 8,
    "minibatches": 2,
    "bfloat16": False,
    "network": {"hidden": 8, "dendrite_segments": 0},
}


@pytest.fixture(autouse=True, scope="module")
def named() -> Iterator[None]:
    before = set(gymnasium.registry)
    register_locks()
    yield
    for name in set(gymnasium.registry) - before:
        del gymnasium.registry[name]


def key_of(seed: int) -> int:
    """What opens the lock of a seed, by the environment's own generator."""
    env = gymnasium.make("Lock-v0")
    env.reset(seed=seed)
    return int(env.unwrapped.key)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["Lock-v0", "LaterLock-v0"])
def test_an_episode_that_succeeded_once_is_a_success(name: str) -> None:
    task = world_task(Environment(name))
    assert task.environment is not None
    seen = task.environment.found.with_statistics((0.0,) * 3, (1.0,) * 3)
    games = make_games(world_task(Environment(name)), None, 4)
    games.observation = seen  # type: ignore[attr-defined]
    games.reset(seed=10)
    assert successes_of(games) == (None,) * 4
    for _ in range(6):
        games.step(np.ones(4, np.int64))
    assert successes_of(games) == tuple(key_of(10 + copy) == 1 for copy in range(4))
    games.step(np.ones(4, np.int64))
    # The next episodes have begun, and said nothing.
    assert successes_of(games) == (None,) * 4
    world = World(task.environment)
    world.reset(11)
    for _ in range(6):
        world.act(1)
    assert world.success == (key_of(11) == 1)


def test_training_counts_the_last_episodes() -> None:
    games = TaskGames(world_task(Environment("Lock-v0")), GameProtocol(), 5, 1, seed=0)
    games.start(np.arange(5))
    for _ in range(6):
        games.send(np.zeros(5, np.int64))
        games.receive(life_loss_is_terminal=False)
    right = [key_of(seed) == 0 for seed in range(5)]
    assert list(games.successes) == right
    assert games.success_rate() == round(sum(right) / 5, 4)
    silent = TaskGames(cartpole(), GameProtocol(), 1, 1, seed=0)
    silent.start(np.arange(1))
    assert silent.success_rate() is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lock") / "run"
    mtspark.train_agent(RECIPE, folder)
    return folder


@pytest.fixture(scope="module")
def deployed(trained: Path) -> Deployment:
    return mtspark.export(trained / "agent.pt")


def test_the_log_and_the_agent_have_it(trained: Path) -> None:
    last = json.loads((trained / "log.jsonl").read_text().splitlines()[-1])
    rate = last["success"]["Lock-v0"]
    assert 0 <= rate <= 1
    agent = mtspark.load_agent(trained / "agent.pt")
    assert agent.training["training_success"] == {"Lock-v0": rate}


def test_run_eval_hil_and_report_have_it(
    deployed: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = deployed.play(episodes=4, seed=20)
    actions = [episode.actions for episode in run.run.episodes]
    wanted = [one[2] == key_of(20 + index) for index, one in enumerate(actions)]
    values = run.to_json()
    assert [episode_of(episode_values(one)) for one in run.run.episodes] == list(run.run.episodes)
    assert [episode["success"] for episode in values["episodes"]] == wanted
    assert values["success_rate"] == run.run.success_rate == sum(wanted) / 4
    loop = deployed.hil(episodes=4, seed=20).to_json()["points"][0]
    assert [episode["success"] for episode in loop["episodes"]] == wanted
    assert loop["success_rate"] == sum(wanted) / 4
    evaluation = mtspark.evaluate(deployed, episodes=4, seed=20)
    assert evaluation.games[-1].success_rate == sum(wanted) / 4
    assert f"success rate {sum(wanted) / 4:.1%}" in evaluation.sentences[0]
    print_evaluation(evaluation, details=True)
    assert "success" in capsys.readouterr().out
    page = tmp_path / "page.html"
    deployed.report(page, episodes=4, seed=20)
    assert "share of episodes whose task was solved" in page.read_text()


def test_worlds_that_do_not_say_have_no_such_field() -> None:
    agents = Path(__file__).parents[2] / "examples" / "agents"
    run = mtspark.export(agents / "cartpole" / "cartpole.pt").play(max_decisions=3)
    assert "success" not in json.dumps(run.to_json())
