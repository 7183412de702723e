"""Games that workers play equal those of this process, in everything but times."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mtspark
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import Sampling
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.executor import Job, Package
from mtspark.core.executor.work import Answer, perform
from mtspark.core.files import Policy, current_policy, set_policy
from mtspark.core.progress import Progress
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.sim.hil import Faults, Hold, Jitter, Loop, Setting, Timing, new_key
from mtspark.sim.hil.faults import FaultKind
from mtspark.train.checkpoint import load_agent, save_agent
from mtspark.workflows.backends import BackendName
from mtspark.workflows.evaluate import EvaluationRequest, evaluate_bundle, evaluate_checkpoint
from mtspark.workflows.hil import HilRequest, elsewhere, hil
from mtspark.workflows.hil.request import FaultSweep, LatencySweep
from mtspark.workflows.run import run_games
from mtspark.workflows.workers import GameQuestion, PlayedParts, game_jobs, package_of

AGENTS = Path(__file__).parents[2] / "examples" / "agents"
TIMES = ("date", "host_time", "chip_host_ms")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mtspark" / "jobs"


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("agent") / "cartpole.deploy"
    mtspark.export(AGENTS / "cartpole" / "cartpole.pt").save(folder)
    return load_bundle(folder)


def timeless(value: Any) -> Any:
    """JSON values without what a clock says, as text: order and digits count."""

    def strip(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: strip(one) for key, one in part.items() if key not in TIMES}
        return [strip(one) for one in part] if isinstance(part, list) else part

    return json.dumps(strip(value))


def work_here(jobs: list[Job], order: list[int]) -> list[tuple[int, Any]]:
    """Answers to jobs through everything that a worker does, but in this process."""
    answers = []
    for index in order:
        job = jobs[index]
        package = None if job.package is None else job.package.to_bytes()
        answers.append((index, Answer.from_bytes(perform(job.order(), package)).result(job.name)))
    return answers


@pytest.mark.slow
def test_parts_in_any_order_are_the_run(cartpole: Bundle) -> None:
    network: ChipNetwork = cartpole.network
    task = network.tasks[0].name
    sampling = Sampling(7, 0.5)
    question = GameQuestion(task, BackendName.ENGINE, 10, 5, 12, sampling=sampling)
    jobs = game_jobs(question, package_of(cartpole), task)
    assert [job.name for job in jobs] == [
        f"{task}, seeds 5 to 8",
        f"{task}, seeds 9 to 12",
        f"{task}, seeds 13 to 14",
    ]
    parts = PlayedParts(network, question)
    for _, part in work_here(jobs, [2, 0, 1]):
        assert not parts.complete
        parts.add(part)
    here = run_games(cartpole, task, episodes=10, seed=5, max_decisions=12, sampling=sampling)
    there = parts.run()
    assert there.episodes == here.run.episodes
    assert there.counts == here.run.counts
    assert there.clipped == here.run.clipped
    assert there.sent.keys() == here.run.sent.keys()
    assert all(np.array_equal(there.sent[name], here.run.sent[name]) for name in there.sent)


@pytest.mark.slow
def test_a_float_network_plays_in_the_groups_of_one_process(cartpole: Bundle) -> None:
    """Their rounding depends on how many frames are multiplied together."""
    task = cartpole.network.tasks[0].name
    asked = {
        "float": GameQuestion(task, BackendName.TORCH, 40, 0),
        "judged": GameQuestion(task, BackendName.ENGINE, 40, 0, judged=True),
        "integers": GameQuestion(task, BackendName.REFERENCE, 40, 0),
        "alone": GameQuestion(task, BackendName.LAVA, 3, 0),
    }
    package = Package({})
    weights = {
        name: [job.weight for job in game_jobs(question, package, name)]
        for name, question in asked.items()
    }
    assert weights["float"] == weights["judged"] == [32, 8]
    assert weights["integers"] == [4] * 10
    assert weights["alone"] == [1] * 3


def test_settings_of_a_loop_travel_whole() -> None:
    loop = Loop(
        timing=Timing(1.5, 2.25, 3.0, 4.0, Jitter.NORMAL, 0.1, False, True, 9, 0.3),
        faults=Faults({FaultKind.STUCK_0: 0.1, FaultKind.CHIP_DEATH: 1 / 3}, 77),
        away_ms=12.0,
        hold=Hold.NOOP,
        pixel_bits=3,
        max_decisions=8,
        sticky=0.25,
        refresh_every=4,
    )
    job = elsewhere.point_job(
        HilRequest("pong", loop, episodes=3, seed=2), Setting(0.1, loop), Package({})
    )
    stated = json.loads(json.dumps(dict(job.arguments)))["loop"]
    assert elsewhere._loop_of(stated) == loop


@pytest.mark.slow
def test_what_workers_cannot_do_is_refused(cartpole: Bundle) -> None:
    task = cartpole.network.tasks[0].name
    with pytest.raises(BadRequestError, match="no observer"):
        run_games(cartpole, task, executor="processes", observe=print)
    for loop in (Loop(realtime=True), Loop(timing=Timing(measured=True))):
        with pytest.raises(BadRequestError, match="depends on where and when"):
            hil(cartpole, HilRequest(task, loop), executor="processes")
    served = HilRequest(task, connect="tcp://127.0.0.1:5", key=new_key())
    with pytest.raises(BadRequestError, match="--connect"):
        hil(cartpole, served, executor="processes")
    for executor in ("nowhere", "processes:0"):
        with pytest.raises(BadRequestError, match="--executor"):
            EvaluationRequest(executor=executor).check()


@pytest.mark.slow
def test_a_changed_bundle_is_not_sent(cartpole: Bundle, tmp_path: Path) -> None:
    package = package_of(cartpole)
    package.write(tmp_path)
    other = load_bundle(tmp_path)
    assert package_of(other).digest == package.digest
    name = next(name for name in other.files if name.endswith(".json"))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
    with pytest.raises(BadFileError, match="changed since the bundle was read"):
        package_of(other)


@pytest.mark.slow
@pytest.mark.parametrize("backend", [BackendName.ENGINE, BackendName.REFERENCE, BackendName.TORCH])
def test_a_run_of_processes_is_the_run(cartpole: Bundle, backend: BackendName) -> None:
    task = cartpole.network.tasks[0].name
    asked: dict[str, Any] = {"backend": backend, "episodes": 9, "seed": 4, "max_decisions": 60}
    here = run_games(cartpole, task, **asked)
    there = run_games(cartpole, task, **asked, executor="processes:2")
    assert timeless(there.to_json()) == timeless(here.to_json())
    assert "by --executor processes:2" in there.to_json()["host_time"]["includes"]
    assert there.run.episodes == here.run.episodes


@pytest.mark.slow
def test_an_evaluation_of_processes_is_the_evaluation(cartpole: Bundle, tmp_path: Path) -> None:
    request = EvaluationRequest(episodes=34, max_decisions=20, seed=1, store=tmp_path / "here")
    here = evaluate_bundle(cartpole, request)
    there = evaluate_bundle(
        cartpole, replace(request, store=tmp_path / "there", executor="processes:2")
    )
    assert there == here
    assert there.costs == here.costs
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()
    reports: list[Progress] = []
    again = evaluate_bundle(
        cartpole,
        replace(request, store=tmp_path / "there", executor="processes:2"),
        progress=reports.append,
    )
    assert again.rows() == here.rows()
    assert not any(report.total for report in reports)
    alone = replace(request, store=None)
    floats = AGENTS / "cartpole" / "cartpole.pt"
    assert evaluate_checkpoint(floats, replace(alone, executor="processes:2")) == (
        evaluate_checkpoint(floats, alone)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sweep", "loop"),
    [
        (LatencySweep((0.0, 25.0, 45.0)), Loop(timing=Timing(jitter_ms=4))),
        (FaultSweep(FaultKind.WEIGHT_BITS, (0.0, 0.01)), Loop(max_decisions=50)),
        (None, Loop(faults=Faults({FaultKind.CHIP_DEATH: 0.02}, 3), max_decisions=60)),
    ],
)
def test_a_curve_of_processes_is_the_curve(
    cartpole: Bundle, tmp_path: Path, sweep: Any, loop: Loop
) -> None:
    task = cartpole.network.tasks[0].name
    request = HilRequest(task, loop, episodes=6, sweep=sweep)
    here = hil(cartpole, request)
    stored = tmp_path / "curve.json"
    there = hil(cartpole, request, into=stored, executor="processes:2")
    assert timeless(there.to_json()) == timeless(here.to_json())
    assert there.losses == here.losses
    assert timeless(json.loads(stored.read_text())) == timeless(there.to_json())
    again = hil(cartpole, request, into=stored, executor="processes:2")
    assert again.resumed == len(again.points)


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_is_the_run(cartpole: Bundle, own_cache: Path) -> None:
    task = cartpole.network.tasks[0].name
    killed: list[int] = []

    def kill() -> None:
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        while not killed:
            for pid in map(int, children.read_text().split()):
                try:
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                if b"mtspark.core.executor.worker" in command:
                    # By then it has begun to load what it plays with, or plays.
                    time.sleep(0.3)
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    break

    here = run_games(cartpole, task, episodes=16)
    killer = threading.Thread(target=kill)
    killer.start()
    there = run_games(cartpole, task, episodes=16, executor="processes:2")
    killer.join()
    assert timeless(there.to_json()) == timeless(here.to_json())
    assert list(own_cache.iterdir()) == []


@pytest.mark.slow
def test_workers_play_an_environment_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "own_poles.py"
    entry = "gymnasium.envs.classic_control:CartPoleEnv"
    module.write_text(
        "import gymnasium\n"
        f"gymnasium.register('OwnPole-v0', entry_point={entry!r}, max_episode_steps=40)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    before = current_policy()
    set_policy(Policy(before.limits, trust=True))
    try:
        agent = load_agent(AGENTS / "cartpole" / "cartpole.pt")
        (task,) = agent.tasks
        assert task.environment is not None
        own = replace(task.environment, id="own_poles:OwnPole-v0", max_steps=0)
        save_agent(
            replace(agent, tasks=(replace(task, game=own.id, environment=own),)),
            tmp_path / "own.pt",
        )
        mtspark.export(tmp_path / "own.pt").save(tmp_path / "own.deploy")
        bundle = load_bundle(tmp_path / "own.deploy")
        assert package_of(bundle).modules == ("own_poles",)
        here = run_games(bundle, task.name, episodes=6)
        there = run_games(bundle, task.name, episodes=6, executor="processes:2")
        assert [one.decisions for one in there.run.episodes] == [40] * 6
        assert timeless(there.to_json()) == timeless(here.to_json())
        set_policy(Policy(before.limits, trust=False))
        assert package_of(bundle).modules == ()
        with pytest.raises(BadRequestError, match="add --trust"):
            run_games(bundle, task.name, episodes=6, executor="processes:2")
    finally:
        set_policy(before)


@pytest.mark.slow
def test_a_stopped_run_does_not_play_its_games_again(cartpole: Bundle, own_cache: Path) -> None:
    task = cartpole.network.tasks[0].name

    def stop(report: Progress) -> None:
        if report.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_games(cartpole, task, episodes=12, executor="processes:1", progress=stop)
    assert len(list(own_cache.iterdir())) == 1
    reports: list[Progress] = []
    there = run_games(cartpole, task, episodes=12, executor="processes:2", progress=reports.append)
    assert timeless(there.to_json()) == timeless(run_games(cartpole, task, episodes=12).to_json())
    assert "1 from a command that was stopped" in reports[-1].detail
    assert list(own_cache.iterdir()) == []


@pytest.mark.slow
def test_a_mistake_is_told_with_its_job(cartpole: Bundle) -> None:
    task = cartpole.network.tasks[0].name
    question = GameQuestion(task, BackendName.ENGINE, 2, 0, sticky=0.5)
    with pytest.raises(BadRequestError, match=f"^{task}, seeds 0 to 1: "):
        work_here(game_jobs(question, package_of(cartpole), task), [0])
