"""Jobs done by workers: the entry of this package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mtspark.core.executor.address import ExecutorAddress, parse_executor
from mtspark.core.executor.job import Job
from mtspark.core.executor.kept import KeptAnswers
from mtspark.core.executor.pool import Pool
from mtspark.core.executor.processes import ProcessPool
from mtspark.core.executor.ray_cluster import RayPool
from mtspark.core.executor.slurm import SlurmPool
from mtspark.core.executor.work import Answer
from mtspark.core.progress import Progress, ProgressCallback, no_progress


def finished_jobs(
    executor: str,
    jobs: Sequence[Job],
    *,
    stage: str = "jobs",
    unit: str = "jobs",
    keep: bool = True,
    progress: ProgressCallback = no_progress,
) -> Iterator[tuple[int, Any]]:
    """Do jobs elsewhere; yield the index and the result of each, as they come.

    A job whose worker dies is done again by another one. Answers are kept on the disk as they
    come, so that the same command does not repeat them after it was stopped; they are removed when
    all have come. Closing the iterator, as Ctrl-C does, ends the workers.

    Args:
        executor: where, as of :func:`parse_executor`.
        jobs: any number; their order is that in which they are begun.
        stage: of the reports of progress.
        unit: of the jobs' weights.
        keep: answers on the disk; False of jobs that keep their own state, as trainings do.
        progress: called at once, and when a job is done.

    Raises:
        BadRequestError: no such executor.
        BackendMissingError: its package is not installed.
        BackendFailedError: its workers cannot be had, have another mtspark, or die of a job.
        MtsparkError: what the first job raised that failed, with the name of that job; the others
            are given up.
        RuntimeError: a bug in a job, with its traceback.
    """
    address = parse_executor(executor)
    done, total = 0, sum(job.weight for job in jobs)
    progress(Progress(stage, 0, total, unit, f"starting {address.text}"))
    kept, keys = KeptAnswers(), [job.key for job in jobs]
    left, again = [], 0
    for index, job in enumerate(jobs):
        answer = kept.get(keys[index]) if keep else None
        if answer is None:
            left.append(index)
            continue
        done, again = done + job.weight, again + 1
        yield index, Answer.from_bytes(answer).result(job.name)
    note = f", {again} from a command that was stopped" if again else ""

    def report() -> None:
        ready = f"{len(jobs) - waiting} of {len(jobs)} jobs{note}"
        progress(Progress(stage, done, total, unit, ready))

    waiting = len(left)
    if left:
        with _open(address) as pool:
            report()
            for at, answer in pool.answers([jobs[index] for index in left]):
                index = left[at]
                result = Answer.from_bytes(answer).result(jobs[index].name)
                if keep:
                    kept.put(keys[index], answer)
                done, waiting = done + jobs[index].weight, waiting - 1
                report()
                yield index, result
    if keep:
        kept.remove(keys)


def _open(address: ExecutorAddress) -> Pool:
    if address.kind == "ray":
        return RayPool(address.cluster)
    if address.kind == "slurm":
        return SlurmPool(address.options)
    return ProcessPool(address.workers)
