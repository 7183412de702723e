"""An agent that a run starts from, or is taught by, knows the run's tasks by name and sight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mtspark.core.environments import Task
from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint import Agent, save_agent
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.rl.known import known_as
from mtspark.train.rl.run import make_trainer

LAKES = {"dry": {"is_slippery": False}, "wet": {"is_slippery": True}}


def config(environments: list[dict[str, Any]], **changes: Any) -> TrainConfig:
    made = to_config(
        {
            "games": [one["name"] for one in environments],
            "environments": environments,
            "games_per_task": [2] * len(environments),
            "rollout_steps": 8,
            "minibatches": 2,
            "total_steps": 64,
            "network": {"hidden": 8, "heads": "task", "time_steps": 2},
            **changes,
        },
        "recipe",
    )
    assert isinstance(made, TrainConfig)
    return made


def lakes(*names: str, **changes: Any) -> TrainConfig:
    rows = [{"name": n, "id": "FrozenLake-v1", "arguments": LAKES.get(n, {})} for n in names]
    return config(rows, **changes)


def poles(hidden: list[int], **changes: Any) -> TrainConfig:
    wrapper = {"name": "HideEntries", "arguments": {"hidden": hidden}}
    row = {"name": "pole", "id": "CartPole-v1", "wrappers": [wrapper]}
    return config([row], **changes)


def agent_of(made: TrainConfig, path: Path) -> Agent:
    agent = make_trainer(made).agent()
    save_agent(agent, path)
    return agent


def test_tasks_go_by_name_and_else_by_a_game_that_is_there_once() -> None:
    def task(name: str, game: str) -> Task:
        return Task(name, game, (0, 1))

    known = (task("near", "Lake-v0"), task("far", "Lake-v0"), task("pong", "pong"))
    assert [known_as(one, known, "it") for one in reversed(known)] == [2, 1, 0]
    assert known_as(task("ping", "pong"), known, "it") == 2
    with pytest.raises(BadRequestError, match=r"it has 2 tasks in Lake-v0, near, far, and none "):
        known_as(task("deep", "Lake-v0"), known, "it")
    with pytest.raises(BadRequestError, match=r"plays Lake-v0, Lake-v0, pong, it does not know "):
        known_as(task("near", "enduro"), known, "it")


def test_a_run_starts_from_an_agent_whose_tasks_are_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "agent.pt"
    agent = agent_of(lakes("dry", "wet"), path)
    again = make_trainer(lakes("dry", "wet", start_from=str(path)))
    for name, value in agent.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])
    swapped = r"has its tasks in the order dry, wet, this run wet, dry; write games"
    with pytest.raises(BadRequestError, match=swapped):
        make_trainer(lakes("wet", "dry", start_from=str(path)))
    with pytest.raises(BadRequestError, match=r"dry, wet, and none called moist; give this run's"):
        make_trainer(lakes("dry", "moist", start_from=str(path)))
    with pytest.raises(BadRequestError, match="plays FrozenLake-v1, FrozenLake-v1, this run Froz"):
        make_trainer(lakes("dry", start_from=str(path)))


def test_an_agent_knows_the_numbers_that_it_was_shown(tmp_path: Path) -> None:
    path = tmp_path / "agent.pt"
    agent_of(poles([1, 3]), path)
    make_trainer(poles([1, 3], start_from=str(path)))
    with pytest.raises(BadRequestError, match=r"pole with wrappers .*\[1, 3\].*has .*\[0, 2\]"):
        make_trainer(poles([0, 2], start_from=str(path)))


def test_each_task_is_taught_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    agent_of(lakes("dry", "wet"), path)
    for names in (("dry", "wet"), ("wet", "dry")):
        trainer = make_trainer(lakes(*names, teachers=[str(path)] * 2))
        rows = [teacher[1] for teacher in trainer.teachers if teacher is not None]
        assert rows == [("dry", "wet").index(name) for name in names]
    with pytest.raises(BadRequestError, match=r"teachers: .* and none called moist"):
        make_trainer(lakes("moist", "wet", teachers=[str(path), ""]))


def test_a_run_goes_on_with_the_teachers_that_it_had(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher = agent_of(lakes("dry", "wet"), path)
    taught = lakes("dry", "wet", teachers=[str(path), ""])
    state = make_trainer(taught).state()
    make_trainer(taught, resumed=True).restore(state)
    with torch.no_grad():
        teacher.network.advantage.weight.add_(0.5)
    save_agent(teacher, path)
    other = make_trainer(taught, resumed=True)
    with pytest.raises(BadRequestError, match=r"teacher\.pt is another agent than this run has"):
        other.restore(state)
    # A checkpoint of before does not say which teachers it had.
    other.restore({name: value for name, value in state.items() if name != "teachers"})
