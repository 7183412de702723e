"""Workers of Ray on two node managers, and of submitit, where their packages are installed.

They come with the extras ray and slurm. No Slurm is asked: submitit starts processes in its place.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import mtspark
from mtspark.core.errors import BackendFailedError, BadFileError
from mtspark.core.executor import Job, Package, finished_jobs
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.sim.hil import FaultKind
from mtspark.workflows.evaluate import EvaluationRequest, evaluate_bundle
from mtspark.workflows.hil import HilRequest, hil
from mtspark.workflows.hil.request import FaultSweep
from mtspark.workflows.run import run_games
from tests.core.executor import work

pytestmark = [pytest.mark.slow, pytest.mark.third_party]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason='pip install "mtspark[ray]"')
needs_submitit = pytest.mark.skipif(
    find_spec("submitit") is None, reason='pip install "mtspark[slurm]"'
)
ROOT = Path(__file__).parents[2]
AGENT = ROOT / "examples" / "agents" / "cartpole" / "cartpole.pt"
TIMES = ("date", "host_time", "chip_host_ms")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("agent") / "cartpole.deploy"
    mtspark.export(AGENT).save(folder)
    return load_bundle(folder)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of this computer: two node managers, each with one processor."""
    yield from started(monkeypatch)


class SlowClock:
    """Ray gives a node half a minute to start, which a busy machine takes longer for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def monotonic(self) -> float:
        return time.monotonic() / 20


def started(monkeypatch: pytest.MonkeyPatch, **head: Any) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("ray._private.node.time", SlowClock())
    # A node that is gone is given up within a second instead of half a minute.
    quick = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 300,
        "health_check_failure_threshold": 2,
    }
    given = {"num_cpus": 1, "_system_config": quick, **head}
    made = Cluster(initialize_head=True, head_node_args=given)
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def timeless(value: Any) -> Any:
    def strip(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: strip(one) for key, one in part.items() if key not in TIMES}
        return [strip(one) for one in part] if isinstance(part, list) else part

    return json.dumps(strip(value))


def until(condition: Any) -> None:
    while not condition():
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def waiting(folder: Path, count: int) -> list[Job]:
    """Jobs that say who does them, and wait for a file."""
    (folder / "pids").mkdir()
    stated = {"gate": str(folder / "gate"), "pids": str(folder / "pids")}
    return [Job(f"{n}", work.wait_for, {**stated, "value": n}) for n in range(count)]


def tries(folder: Path) -> list[tuple[int, int]]:
    """Jobs that have begun, with the process of each try."""
    names = [path.name.split("-") for path in (folder / "pids").iterdir()]
    return sorted((int(job), int(pid)) for job, pid in names)


@needs_ray
def test_ray_plays_what_one_process_plays(cartpole: Bundle, cluster: Any) -> None:
    task, executor = cartpole.network.tasks[0].name, f"ray:{cluster.address}"
    here = run_games(cartpole, task, episodes=10)
    there = run_games(cartpole, task, episodes=10, executor=executor)
    assert timeless(there.to_json()) == timeless(here.to_json())
    asked = {"episodes": 34, "max_decisions": 20}
    rows = evaluate_bundle(cartpole, EvaluationRequest(**asked, executor=executor))
    alone = evaluate_bundle(cartpole, EvaluationRequest(**asked))
    assert (rows, rows.costs) == (alone, alone.costs)
    sweep = HilRequest(task, episodes=2, sweep=FaultSweep(FaultKind.WEIGHT_BITS, (0.0, 0.01)))
    curve = hil(cartpole, sweep, executor=executor)
    assert timeless(curve.to_json()) == timeless(hil(cartpole, sweep).to_json())


@needs_ray
def test_both_node_managers_work_and_files_reach_them(cluster: Any, tmp_path: Path) -> None:
    jobs = waiting(tmp_path, 2)
    package = Package({"x": b"abc"})
    jobs += [Job(f"files {n}", work.listed, {"name": "x"}, package) for n in range(2)]

    def open_gate() -> None:
        # Each node has one processor: two wait at once only where both nodes work.
        until(lambda: len(tries(tmp_path)) == 2)
        (tmp_path / "gate").touch()

    threading.Thread(target=open_gate).start()
    results = dict(finished_jobs(f"ray:{cluster.address}", jobs))
    assert results == {0: 0, 1: 1, 2: (["x"], "616263"), 3: (["x"], "616263")}


@needs_ray
@pytest.mark.parametrize("victim", ["worker", "node manager"])
def test_what_dies_on_ray_loses_nothing(cluster: Any, tmp_path: Path, victim: str) -> None:
    jobs = waiting(tmp_path, 3)

    def kill() -> None:
        until(lambda: len(tries(tmp_path)) == 2)
        if victim == "worker":
            os.kill(tries(tmp_path)[0][1], signal.SIGKILL)
        else:
            cluster.list_all_nodes()[1].kill_raylet()
        # Its job has not answered, whoever does it again.
        until(lambda: not all(alive(pid) for _, pid in tries(tmp_path)[:2]))
        (tmp_path / "gate").touch()

    threading.Thread(target=kill).start()
    assert dict(finished_jobs(f"ray:{cluster.address}", jobs)) == {n: n for n in range(3)}
    begun = [job for job, _ in tries(tmp_path)]
    assert set(begun) == {0, 1, 2}
    assert len(begun) == 4


@needs_ray
def test_a_run_whose_node_manager_is_killed_is_the_run(cartpole: Bundle, cluster: Any) -> None:
    task = cartpole.network.tasks[0].name
    killed: list[bool] = []

    def kill(report: Any) -> None:
        if report.done >= 4 and not killed:
            killed.append(True)
            cluster.list_all_nodes()[1].kill_raylet()

    here = run_games(cartpole, task, episodes=20)
    there = run_games(cartpole, task, episodes=20, executor=f"ray:{cluster.address}", progress=kill)
    assert killed
    assert timeless(there.to_json()) == timeless(here.to_json())


@needs_ray
def test_mistakes_on_ray_are_one_line(cluster: Any, tmp_path: Path) -> None:
    executor, log = f"ray:{cluster.address}", tmp_path / "log"
    with pytest.raises(BadFileError, match=r"^wrong: never right$"):
        list(finished_jobs(executor, [Job("wrong", work.count_and_refuse, {"log": str(log)})]))
    assert log.read_text() == "tried\n"
    with pytest.raises(BackendFailedError, match=r"^bad: its worker died 3 times"):
        list(finished_jobs(executor, [Job("bad", work.die, {})]))


@needs_ray
def test_a_client_from_elsewhere_gets_the_same(
    cartpole: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for _ in started(monkeypatch, ray_client_server_port=port):
        task, executor, log = cartpole.network.tasks[0].name, f"ray://127.0.0.1:{port}", "log"
        here = run_games(cartpole, task, episodes=6)
        there = run_games(cartpole, task, episodes=6, executor=executor)
        assert timeless(there.to_json()) == timeless(here.to_json())
        wrong = Job("wrong", work.count_and_refuse, {"log": str(tmp_path / log)})
        with pytest.raises(BadFileError, match=r"^wrong: never right$"):
            list(finished_jobs(executor, [wrong]))
        with pytest.raises(BackendFailedError, match=r"^bad: its worker died 3 times"):
            list(finished_jobs(executor, [Job("bad", work.die, {})]))


@needs_ray
def test_no_cluster_is_one_line() -> None:
    with pytest.raises(BackendFailedError, match=r"no cluster answers at 127\.0\.0\.1:1 ") as line:
        list(finished_jobs("ray:127.0.0.1:1", [Job("a", work.double, {"values": 1})]))
    assert "\n" not in str(line.value)


@needs_submitit
def test_submitit_plays_what_one_process_plays(
    cartpole: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    task = cartpole.network.tasks[0].name
    executor = f"slurm:cluster=local,jobs=2,folder={tmp_path}"
    here = run_games(cartpole, task, episodes=10)
    there = run_games(cartpole, task, episodes=10, executor=executor)
    assert timeless(there.to_json()) == timeless(here.to_json())
    assert not list(tmp_path.glob(".mtspark-jobs-*"))


@needs_submitit
def test_what_dies_in_the_queue_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # submitit waits for the file of a dead job's result, which a cluster's disk may show late.
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 1)
    jobs = waiting(tmp_path, 2)

    def kill() -> None:
        until(lambda: len(tries(tmp_path)) == 2)
        os.kill(tries(tmp_path)[0][1], signal.SIGKILL)
        until(lambda: len(tries(tmp_path)) == 3)
        (tmp_path / "gate").touch()

    threading.Thread(target=kill).start()
    executor = f"slurm:cluster=local,folder={tmp_path}"
    assert dict(finished_jobs(executor, jobs)) == {0: 0, 1: 1}
    assert [job for job, _ in tries(tmp_path)] == [0, 0, 1]
    log = tmp_path / "log"
    with pytest.raises(BadFileError, match=r"^wrong: never right$"):
        list(finished_jobs(executor, [Job("wrong", work.count_and_refuse, {"log": str(log)})]))
    assert log.read_text() == "tried\n"
    with pytest.raises(BackendFailedError, match=r"^bad: its worker died 3 times"):
        list(finished_jobs(executor, [Job("bad", work.die, {})]))
