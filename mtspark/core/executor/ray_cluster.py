"""Workers of a Ray cluster.

Ray hands over one function by its name and plain bytes: orders, files and answers. Files are put
into its object store once, and each machine fetches them once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from mtspark.core.errors import BackendFailedError, one_line
from mtspark.core.executor.address import missing
from mtspark.core.executor.job import Job
from mtspark.core.executor.pool import Deaths
from mtspark.core.executor.work import perform
from mtspark.core.interrupts import heeded_interrupts

OTHER_VERSION = "Version mismatch"
"""What Ray says first where the cluster's Ray or Python is not ours."""
KNOCK_S = 5.0
"""For a cluster to take a connection."""


class RayPool:
    """The workers of a Ray cluster, one processor each.

    Args:
        cluster: as ``ray.init`` takes it: HOST:PORT on a machine of the cluster, ray://HOST:PORT
            from elsewhere; None: what RAY_ADDRESS names, else the cluster of this machine, else
            one that is started for this command.

    Raises:
        BackendMissingError: Ray is not installed.
        BackendFailedError: there is no such cluster, or one without a processor for us.
    """

    def __init__(self, cluster: str | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise missing("ray", "Ray") from error
        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        self._futures: dict[Any, int] = {}
        if self._ours:
            self._connect(cluster)
        if not self._ray.cluster_resources().get("CPU"):
            self._leave()
            raise BackendFailedError(
                f"--executor ray: {cluster or 'the cluster'} has no processors; add a node with "
                "`ray start --address=HOST:PORT`"
            )

    def _connect(self, cluster: str | None) -> None:
        address = cluster or os.environ.get("RAY_ADDRESS")
        # A cluster that starts for this command reports to nobody, unless the user says so.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:
            if address is not None:
                _knock(address)
            self._ray.init(address=cluster, **options)
        except ImportError as error:
            raise missing("ray", "Ray") from error
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            self._leave()
            where, reason = address or "this computer", one_line(error, 160)
            if OTHER_VERSION in str(error):
                raise BackendFailedError(
                    f"--executor ray: the cluster at {where} has another Ray or Python ({reason}); "
                    "install there what is installed here"
                ) from error
            raise BackendFailedError(
                f"--executor ray: no cluster answers at {where} ({reason}); start one with "
                "`ray start --head`"
            ) from error

    def __enter__(self) -> RayPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for future in self._futures:
            with contextlib.suppress(Exception):
                self._ray.cancel(future, force=True)
        self._futures.clear()
        self._leave()

    def _leave(self) -> None:
        if self._ours:
            with contextlib.suppress(Exception):
                self._ray.shutdown()

    def answers(self, jobs: Sequence[Job]) -> Iterator[tuple[int, bytes]]:
        """Yield index and answer of each job, as they come; see :class:`Pool`."""
        ray, deaths = self._ray, Deaths()
        # Ray counts its own retries by another rule, and not for every way to die.
        work = ray.remote(num_cpus=1, max_retries=0)(perform)
        packages: dict[str, Any] = {}

        def submit(index: int) -> None:
            job, stored = jobs[index], None
            if job.package is not None:
                digest = job.package.digest
                if digest not in packages:
                    packages[digest] = ray.put(job.package.to_bytes())
                stored = packages[digest]
            self._futures[work.remote(job.order(), stored)] = index

        for index in range(len(jobs)):
            submit(index)
        while self._futures:
            # Ray waits in C, where a callback may swallow Ctrl-C.
            with heeded_interrupts():
                done, _ = ray.wait(list(self._futures), num_returns=1, timeout=0.5)
            for future in done:
                index = self._futures.pop(future)
                answer = self._answer(future, index, jobs[index], deaths)
                if answer is None:
                    submit(index)
                else:
                    yield index, answer

    def _answer(self, future: Any, index: int, job: Job, deaths: Deaths) -> bytes | None:
        """The answer; None where the worker or its machine is gone.

        Raises:
            BackendFailedError: the workers die of the job, or lack mtspark.
        """
        from ray.exceptions import RayError, RayTaskError

        try:
            answer: bytes = self._ray.get(future)
        except RayTaskError as error:
            reason = one_line(str(error).strip().rpartition("\n")[2], 120)
            raise BackendFailedError(
                f"--executor ray: a worker cannot run mtspark ({reason}); install there what is "
                "installed here"
            ) from error
        except RayError as error:
            deaths.add(index, job, one_line(str(error).partition("\n")[0], 100))
            return None
        return answer


def _knock(address: str) -> None:
    """Ask whether anybody listens; Ray itself would try for more than a minute.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), KNOCK_S):
            return
