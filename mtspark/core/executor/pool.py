"""What the three kinds of workers have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol

from mtspark.core.errors import BackendFailedError
from mtspark.core.executor.job import Job

MOST_DEATHS = 3
"""A job whose worker dies so often is given up: it is the job that kills it."""


class Pool(Protocol):
    """Workers of one command; a context, whose end ends them."""

    def __enter__(self) -> Pool: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def answers(self, jobs: Sequence[Job]) -> Iterator[tuple[int, bytes]]:
        """Yield the index of each job and its answer, as they come.

        A job whose worker dies is given to another one.

        Raises:
            BackendFailedError: a job's workers die again and again, or there are none.
        """


class Deaths:
    """Counts how often workers died of a job."""

    def __init__(self) -> None:
        self._count: dict[int, int] = {}

    def add(self, index: int, job: Job, how: str) -> None:
        """A worker died while it did a job.

        Raises:
            BackendFailedError: too often.
        """
        self._count[index] = self._count.get(index, 0) + 1
        if self._count[index] >= MOST_DEATHS:
            raise BackendFailedError(
                f"{job.name}: its worker died {MOST_DEATHS} times ({how}); look at that machine's "
                "memory, or leave --executor out"
            )
