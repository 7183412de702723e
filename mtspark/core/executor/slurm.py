"""Workers that Slurm starts, one a job, by submitit: orders and answers lie in a shared folder.

submitit pickles a function by its name and plain bytes. What it unpickles here lies in a folder
that this command has made, for this user alone.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mtspark.core.errors import BackendFailedError, BackendMissingError, BadFileError, one_line
from mtspark.core.executor.address import missing
from mtspark.core.executor.job import Job
from mtspark.core.executor.pool import Deaths
from mtspark.core.executor.work import perform

AT_ONCE = 100
"""Jobs in the queue at a time; `jobs=N` changes it."""
LOOK_S = 0.25
MINUTES, MEMORY_GB, CPUS = 60, 4, 1
FOLDER_OF = "--executor slurm:folder=PATH names one that all machines share"


class SlurmPool:
    """Jobs in Slurm's queue.

    Args:
        options: minutes, memory_gb and cpus of a job; partition, account, qos and constraint, as
            Slurm knows them; jobs, that are in the queue at a time; folder, that all machines
            share, the current one without; cluster, ``local`` for processes of this computer in
            Slurm's place.

    Raises:
        BackendMissingError: submitit or Slurm is not installed.
        BadFileError: the folder cannot be written.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        try:
            import submitit
        except ImportError as error:
            raise missing("slurm", "submitit") from error
        cluster = options.get("cluster", "slurm")
        if cluster not in ("slurm", "local"):
            raise BackendFailedError(f"--executor slurm: cluster={cluster}: slurm or local exist")
        if cluster == "slurm" and not submitit.SlurmExecutor.affinity() > 0:
            raise BackendMissingError("--executor slurm: this computer has no sbatch")
        self._submitit: Any = submitit
        self._at_once = int(options.get("jobs", AT_ONCE))
        try:
            where = Path(options.get("folder", ".")).resolve()
            self._folder = tempfile.TemporaryDirectory(prefix=".mtspark-jobs-", dir=where)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise BadFileError(f"{where}: cannot be written ({reason}); {FOLDER_OF}") from error
        self._executor = submitit.AutoExecutor(
            folder=Path(self._folder.name) / "jobs", cluster=cluster
        )
        self._executor.update_parameters(
            name="mtspark",
            timeout_min=int(options.get("minutes", MINUTES)),
            mem_gb=int(options.get("memory_gb", MEMORY_GB)),
            cpus_per_task=int(options.get("cpus", CPUS)),
            **{
                f"slurm_{name}": options[name]
                for name in ("partition", "account", "qos", "constraint")
                if name in options
            },
        )
        self._queued: dict[int, Any] = {}

    def __enter__(self) -> SlurmPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for job in self._queued.values():
            with contextlib.suppress(Exception):
                job.cancel(check=False)
        self._queued.clear()
        with contextlib.suppress(OSError):
            self._folder.cleanup()

    def answers(self, jobs: Sequence[Job]) -> Iterator[tuple[int, bytes]]:
        """Yield index and answer of each job, as they come; see :class:`Pool`."""
        waiting, deaths = deque(range(len(jobs))), Deaths()
        packages: dict[str, Path] = {}
        while waiting or self._queued:
            while waiting and len(self._queued) < self._at_once:
                index = waiting.popleft()
                folder = self._package_folder(jobs[index], packages)
                self._queued[index] = self._submit(jobs[index], folder)
            done = [index for index, job in self._queued.items() if job.done()]
            for index in done:
                answer = self._answer(self._queued.pop(index), index, jobs[index], deaths)
                if answer is None:
                    waiting.appendleft(index)
                else:
                    yield index, answer
            if not done:
                time.sleep(LOOK_S)

    def _submit(self, job: Job, folder: str | None) -> Any:
        try:
            return self._executor.submit(perform, job.order(), None, folder)
        except Exception as error:
            raise BackendFailedError(
                f"--executor slurm: the job was refused: {one_line(error)}"
            ) from error

    def _package_folder(self, job: Job, packages: dict[str, Path]) -> str | None:
        if job.package is None:
            return None
        digest = job.package.digest
        if digest not in packages:
            packages[digest] = Path(self._folder.name) / digest
            job.package.write(packages[digest], FOLDER_OF)
        return str(packages[digest])

    def _answer(self, queued: Any, index: int, job: Job, deaths: Deaths) -> bytes | None:
        """The answer; None where the worker is gone.

        Raises:
            BackendFailedError: the workers die of the job, or lack mtspark.
        """
        try:
            answer: bytes = queued.result()
        except self._submitit.core.utils.UncompletedJobError as error:
            deaths.add(index, job, one_line(str(error).partition("\n")[0], 100))
            return None
        except self._submitit.core.utils.FailedJobError as error:
            reason = one_line(str(error).strip().rpartition("\n")[2], 120)
            raise BackendFailedError(
                f"--executor slurm: a worker cannot run mtspark ({reason}); install there what is "
                "installed here"
            ) from error
        return answer
