"""Runs of several seeds: each equals the run of its seed alone, whoever trains it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mtspark.core.errors import BackendMissingError, BadFileError, BadRequestError
from mtspark.core.executor import Job
from mtspark.core.executor import run as handing_out
from mtspark.core.executor.work import perform
from mtspark.core.progress import Progress
from mtspark.train import seeds as module
from mtspark.train.checkpoint import load_agent
from mtspark.train.config import TrainConfig, config_of, parse_seeds
from mtspark.train.config.ablation import AblationSettings
from mtspark.train.config.recipe import shipped_recipes, to_config
from mtspark.train.runs import reached_of
from mtspark.train.seeds import RECIPE, TOKEN, SeedRun, train_seed, train_seeds
from mtspark.train.training import train_agent

FIELDS: dict[str, Any] = {
    "games": "CartPole-v1",
    "total_steps": 16,
    "games_per_task": 2,
    "rollout_steps": 4,
    "minibatches": 2,
    "checkpoint_every_steps": 8,
    "bfloat16": False,
    "network": {"hidden": 8},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mtspark" / "jobs"


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_agent(path).network.state_dict())


def is_run_alone(run: SeedRun, config: TrainConfig, folder: Path) -> bool:
    """Whether a run's results, weights and log are those of a run of its seed alone."""
    alone = train_agent(replace(config, seed=run.seed), folder)
    mine, theirs = weights(run.result.path), weights(alone.path)
    logs = [
        [json.loads(line) for line in (path.parent / "log.jsonl").read_text().splitlines()]
        for path in (run.result.path, alone.path)
    ]
    for line in (line for log in logs for line in log):
        line.pop("steps_per_s", None)
    return (
        replace(run.result, path=alone.path) == alone
        and logs[0] == logs[1]
        and mine.keys() == theirs.keys()
        and all(torch.equal(mine[name], theirs[name]) for name in mine)
    )


class PoolHere:
    """Workers that are this process."""

    def __enter__(self) -> PoolHere:
        return self

    def __exit__(self, *_: object) -> None: ...

    def answers(self, jobs: Sequence[Job]) -> Iterator[tuple[int, bytes]]:
        for index in reversed(range(len(jobs))):
            package = jobs[index].package
            assert package is not None
            yield index, perform(jobs[index].order(), package.to_bytes())


def test_workers_train_the_runs_of_their_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr(handing_out, "_open", lambda _: PoolHere())
    config, reports = config_of(FIELDS), list[Progress]()
    assert isinstance(config, TrainConfig)
    runs = train_seeds(
        config, tmp_path / "runs", (7, 3), executor="processes:1", progress=reports.append
    )
    assert [run.seed for run in runs] == [7, 3]
    assert [run.result.path.parent.name for run in runs] == ["seed-7", "seed-3"]
    assert is_run_alone(runs[0], config, tmp_path / "alone")
    assert not torch.equal(*(next(iter(weights(run.result.path).values())) for run in runs))
    assert reports[0].done == 0
    assert (reports[-1].done, reports[-1].total) == (32, 32)
    assert reports[-1].detail == "2 of 2 seeds finished"
    # The folder of a run that somebody removes is trained anew: no answer is kept elsewhere.
    assert not own_cache.exists() or not list(own_cache.iterdir())
    assert not list((tmp_path / "runs").glob(f"*/{TOKEN}"))


@pytest.mark.slow
def test_this_process_trains_one_seed_after_the_other(tmp_path: Path) -> None:
    config, stages = config_of(FIELDS), dict[str, None]()
    assert isinstance(config, TrainConfig)
    runs = train_seeds(
        config,
        tmp_path / "runs",
        (0, 5),
        progress=lambda report: stages.update({report.stage: None}),
    )
    assert all(is_run_alone(run, config, tmp_path / f"alone-{run.seed}") for run in runs)
    assert [stage for stage in stages if stage.endswith("training")] == [
        "seed 0 (1 of 2): training",
        "seed 5 (2 of 2): training",
    ]


@pytest.mark.slow
def test_a_killed_worker_resumes_its_run(tmp_path: Path) -> None:
    config = replace(config_of({**FIELDS, "total_steps": 800}), checkpoint_every_steps=64)
    assert isinstance(config, TrainConfig)
    folder = tmp_path / "runs"
    killed: list[int] = []

    def workers() -> list[int]:
        tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
        children = [int(pid) for task in tasks for pid in task.read_text().split()]
        return [
            pid
            for pid in children
            if b"mtspark.core.executor.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def kill() -> None:
        while not any(reached_of(run) > 100 for run in folder.glob("seed-*")):
            time.sleep(0.01)
        killed.extend(workers())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    runs = train_seeds(config, folder, (1, 2), executor="processes:2")
    killer.join()
    assert killed
    assert any(0 < run.result.started_at < 800 for run in runs)
    assert all(is_run_alone(run, config, tmp_path / f"alone-{run.seed}") for run in runs)


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_recipes())
def test_a_recipe_travels_whole(name: str) -> None:
    try:
        config = config_of(name)
    except BackendMissingError as error:
        pytest.skip(str(error))
    if isinstance(config, AblationSettings):
        pytest.skip("a grid of runs")
    content = module._package(config).files[RECIPE]
    assert to_config(json.loads(content), "recipe") == config


def test_a_worker_that_does_not_see_the_folder_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A worker goes to the folder of the command; the process that runs the tests comes back.
    monkeypatch.chdir(Path.cwd())
    where = {"folder": str(tmp_path / "run"), "directory": str(tmp_path), "data": None}
    (tmp_path / "run").mkdir()
    for token in (None, "another"):
        if token is not None:
            (tmp_path / "run" / TOKEN).write_text(token)
        with pytest.raises(BadFileError, match="run: its worker does not see this folder; choose"):
            train_seed(tmp_path, token="mine", **where)
    with pytest.raises(BadFileError, match="does not see"):
        train_seed(tmp_path, token="mine", **{**where, "directory": "/no/such"})
    assert [path.name for path in (tmp_path / "run").iterdir()] == [TOKEN]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", (3,)),
        ("1,2,5-8", (1, 2, 5, 6, 7, 8)),
        (" 0 - 1 , 9", (0, 1, 9)),
        ("9223372036854775807", (2**63 - 1,)),
    ],
)
def test_seeds_are_read(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "seeds '': write numbers"),
        ("1,,2", "write numbers with commas between, as 1,2,5-8"),
        ("1-", "write numbers"),
        ("-1", "write numbers"),
        ("1,x", "write numbers"),
        ("٣", "write numbers"),
        ("5-1", "seeds 5-1: the first must not be above the last"),
        ("1,2,1", "seeds: 1 stands 2 times; name each seed once"),
        ("3,1-4", "seeds: 3 stands 2 times"),
        ("0-99999999999", "seeds: 1,001 or more; must be 1 to 1,000"),
        ("9223372036854775808", "must be 0 to 9223372036854775807"),
    ],
)
def test_other_seeds_are_refused(text: str, says: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        parse_seeds(text)
    assert says in str(caught.value)


def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    with pytest.raises(BadRequestError, match="a grid of runs; set its field seeds"):
        train_seeds("ablation", folder, (1, 2))
    with pytest.raises(BadRequestError, match="data: is of image sets"):
        train_seeds(FIELDS, folder, (1, 2), data=tmp_path)
    with pytest.raises(BadRequestError, match="--executor 'moon'"):
        train_seeds(FIELDS, folder, (1, 2), executor="moon")
    with pytest.raises(BadRequestError, match="stands 2 times"):
        train_seeds(FIELDS, folder, (1, 1))
    assert not folder.exists()


def test_a_log_tells_what_its_run_has_reached(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert reached_of(tmp_path) == 0
    log.write_text("")
    assert reached_of(tmp_path) == 0
    log.write_text('{"steps": 8}\n{"steps": 16}\n{"steps": 2')
    assert reached_of(tmp_path) == 16
    log.write_text('{"epoch": 2}\nnoise\n')
    assert reached_of(tmp_path) == 2
    log.write_text('{"steps": 8, "x": "' + "y" * 2**21 + '"}\n{"steps": 9}\n')
    assert reached_of(tmp_path) == 9
