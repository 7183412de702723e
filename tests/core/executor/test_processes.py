"""Workers in processes: they die, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mtspark.core.errors import BackendFailedError, BadFileError
from mtspark.core.executor import Job, Package, finished_jobs
from mtspark.core.executor.processes import ProcessPool
from mtspark.core.executor.work import Answer
from tests.core.executor import work

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(jobs: list[Job], workers: int = 2) -> dict[int, Any]:
    return dict(finished_jobs(f"processes:{workers}", jobs))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Any) -> None:
    """Wait; a test that waits for ever is ended by whoever started it."""
    while not condition():
        time.sleep(0.02)


def test_all_jobs_come_back_once(tmp_path: Path) -> None:
    package = Package({"x": b"abc"})
    jobs = [Job(f"{n}", work.double, {"values": n}) for n in range(7)]
    jobs.append(Job("files", work.listed, {"name": "x"}, package))
    jobs.append(Job("noise", work.print_and_read, {}))
    results = run(jobs)
    assert sorted(results) == list(range(9))
    assert [int(results[n]["twice"]) for n in range(7)] == list(range(0, 14, 2))
    assert results[7] == (["x"], b"abc".hex())
    assert results[8] == ""


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    pids, gate = tmp_path / "pids", tmp_path / "gate"
    pids.mkdir()
    jobs = [
        Job(f"{n}", work.wait_for, {"gate": str(gate), "pids": str(pids), "value": n})
        for n in range(4)
    ]
    killed: list[int] = []

    def kill() -> None:
        until(lambda: len(list(pids.iterdir())) == 2)
        killed.append(int(min(pids.iterdir()).name.split("-")[1]))
        os.kill(killed[0], signal.SIGKILL)
        until(lambda: len(list(pids.iterdir())) == 3)
        gate.touch()

    killer = threading.Thread(target=kill)
    killer.start()
    assert run(jobs) == {n: n for n in range(4)}
    killer.join()
    tries = sorted(int(path.name.split("-")[0]) for path in pids.iterdir())
    assert tries == [0, 0, 1, 2, 3]


def test_a_job_that_kills_its_workers_is_given_up() -> None:
    with pytest.raises(BackendFailedError, match=r"^bad: its worker died 3 times .*SIGKILL"):
        run([Job("bad", work.die, {}), Job("good", work.double, {"values": 1})])


def test_a_mistake_is_told_once_and_not_tried_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(BadFileError, match=r"^wrong: never right$"):
        run([Job("wrong", work.count_and_refuse, {"log": str(log)})])
    assert log.read_text() == "tried\n"


def test_closing_ends_the_workers(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    stuck = {"gate": str(tmp_path / "never"), "pids": str(pids)}
    jobs = [Job("quick", work.double, {"values": 1})]
    jobs += [Job(f"{n}", work.wait_for, {**stuck, "value": n}) for n in range(2)]
    iterator = finished_jobs("processes:3", jobs)
    assert next(iterator)[0] == 0
    until(lambda: len(list(pids.iterdir())) == 2)
    working = [int(path.name.split("-")[1]) for path in pids.iterdir()]
    assert all(map(alive, working))
    iterator.close()  # type: ignore[attr-defined]
    assert not any(map(alive, working))


def test_a_worker_that_is_ended_may_save(tmp_path: Path) -> None:
    names = [(str(tmp_path / f"ready{n}"), str(tmp_path / f"saved{n}")) for n in range(2)]
    jobs = [Job("quick", work.double, {"values": 1})]
    for ready, saved in names:
        jobs.append(Job(ready, work.save_when_told_to_end, {"ready": ready, "saved": saved}))
    iterator = finished_jobs("processes:3", jobs)
    assert next(iterator)[0] == 0
    until(lambda: all(Path(ready).exists() for ready, _ in names))
    iterator.close()  # type: ignore[attr-defined]
    assert all(Path(saved).exists() for _, saved in names)


def test_workers_end_with_a_caller_that_was_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    program = (
        "from mtspark.core.executor import Job, finished_jobs\n"
        "from tests.core.executor import work\n"
        f"job = Job('a', work.wait_for, dict(gate='/never', pids={str(pids)!r}, value=1))\n"
        "list(finished_jobs('processes:1', [job]))\n"
    )
    root = str(Path(__file__).parents[3])
    caller = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": root}
    )
    until(lambda: list(pids.iterdir()) or caller.poll() is not None)
    (name,) = pids.iterdir()
    caller.kill()
    caller.wait()
    until(lambda: not alive(int(name.name.split("-")[1])))


def test_a_worker_is_used_again() -> None:
    jobs = [Job(f"{n}", work.double, {"values": n}) for n in range(6)]
    with ProcessPool(2) as pool:
        seen = set()
        for _, answer in pool.answers(jobs):
            assert Answer.from_bytes(answer).kind == "done"
            seen |= set(pool.pids)
    assert len(seen) == 2
    assert not any(map(alive, seen))


def test_a_computer_that_is_full_works_with_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    started, popen = list[object](), subprocess.Popen

    def start(*given: Any, **options: Any) -> Any:
        if len(started) >= most:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(given)
        return popen(*given, **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    jobs, most = [Job(f"{n}", work.double, {"values": n}) for n in range(4)], 1
    assert sorted(run(jobs, workers=3)) == [0, 1, 2, 3]
    most = 0
    with pytest.raises(BackendFailedError, match=r"no worker can be started \(.*unavailable\)$"):
        run(jobs)


def test_workers_find_modules_in_the_current_folder(tmp_path: Path) -> None:
    """A prompt finds them there, as the empty entry of its path says."""
    (tmp_path / "mine.py").write_text("def six(): return 6")
    program = (
        "import sys; sys.path[0] = ''\nimport mine\n"
        "from mtspark.core.executor import Job, finished_jobs\n"
        "print(dict(finished_jobs('processes:1', [Job('a', mine.six, {})])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout == "{0: 6}\n"
