"""What jobs of --executor cost: bytes, processor time, jobs a second, decisions by workers.

    python benchmarks/jobs.py pong.deploy pong --executor processes:1 --executor processes:2

Nothing is kept from one measurement to the next.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from dataclasses import replace

from mtspark.core.executor import Job, finished_jobs
from mtspark.core.executor.work import Answer, perform
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.workflows.backends import BackendName
from mtspark.workflows.workers import GameQuestion, PlayedParts, game_jobs, package_of


def used_s() -> float:
    """Processor time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def print_sizes(bundle: Bundle, question: GameQuestion) -> None:
    """Print bytes and processor time of one job, done in this process."""
    package = package_of(bundle)
    (job,) = game_jobs(replace(question, episodes=4), package, question.task)
    files, order = package.to_bytes(), job.order()
    print(f"files {len(files):,} bytes, order {len(order):,}")
    for name in ("first job", "again"):
        began = used_s()
        answer = perform(order, files)
        print(f"{name}: {used_s() - began:.2f} s, answer {len(answer):,} bytes", flush=True)
    parts, began = PlayedParts(bundle.network, question), used_s()
    for _ in range(20):
        parts.add(Answer.from_bytes(answer).result(job.name))
    print(f"adding an answer up: {50 * (used_s() - began):.2f} ms")


def print_rates(bundle: Bundle, question: GameQuestion, executor: str, empty: int) -> None:
    """Print empty jobs a second, and decisions a second, from the first answer on."""
    jobs = [Job(str(number), dict, {"number": number}) for number in range(empty)]
    began, seen = time.perf_counter(), []
    for _ in finished_jobs(executor, jobs):
        seen.append((time.perf_counter() - began, used_s()))
    (first, used), (last, used_last) = seen[0], seen[-1]
    print(
        f"{executor}: first empty job after {first:.2f} s, then {(empty - 1) / (last - first):.0f} "
        f"a second, {1000 * (used_last - used) / (empty - 1):.2f} ms of this process each"
    )
    jobs, began = game_jobs(question, package_of(bundle), question.task), time.perf_counter()
    decisions = sum(part["decisions"] for _, part in finished_jobs(executor, jobs))
    took = time.perf_counter() - began
    print(
        f"{executor}: {len(jobs)} jobs in {took:.1f} s, {decisions / took:.0f} decisions a second "
        f"with the start of the workers; load {os.getloadavg()[0]:.0f}",
        flush=True,
    )


def main() -> None:
    """Measure one bundle with any number of executors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("task")
    parser.add_argument("--executor", action="append", default=[])
    parser.add_argument("--games", type=int, default=32)
    parser.add_argument("--max-decisions", type=int, default=300)
    parser.add_argument("--empty", type=int, default=200, help="empty jobs")
    given = parser.parse_args()
    bundle = load_bundle(given.bundle)
    question = GameQuestion(given.task, BackendName.ENGINE, given.games, 0, given.max_decisions)
    print_sizes(bundle, question)
    with tempfile.TemporaryDirectory() as cache:
        # The engine's compiled code stays where it is; answers are kept here.
        os.environ["XDG_CACHE_HOME"] = cache
        for executor in given.executor:
            print_rates(bundle, question, executor, given.empty)


if __name__ == "__main__":
    main()
