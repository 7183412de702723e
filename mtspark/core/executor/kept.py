"""Answers that a command which was stopped has had already, in the user's cache.

A file holds plain values and arrays and is named by everything that its answer follows from. They
are removed when the command has its result.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

from mtspark.core.errors import MtsparkError, one_line
from mtspark.core.executor.work import Answer
from mtspark.core.files import write_bytes

log = logging.getLogger(__name__)

OLDEST_S = 14 * 24 * 3600
"""Answers that nobody came back for are removed after this time."""
_SUM_BYTES = hashlib.sha256().digest_size


def kept_folder() -> Path | None:
    """Where answers are kept; None where this user has no home."""
    with contextlib.suppress(RuntimeError):
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mtspark/jobs"
    return None


class KeptAnswers:
    """The answers of a command's jobs on the disk."""

    def __init__(self) -> None:
        self._folder = kept_folder()
        self._complained = False
        self._remove_old()

    def get(self, key: str) -> bytes | None:
        """The answer to a job, by the key of the job; None where there is none that is whole."""
        if self._folder is None:
            return None
        try:
            content = (self._folder / key).read_bytes()
        except OSError:
            return None
        total, answer = content[:_SUM_BYTES], content[_SUM_BYTES:]
        if hashlib.sha256(answer).digest() != total:
            return None
        try:
            return answer if Answer.from_bytes(answer).kind == "done" else None
        except (MtsparkError, TypeError, zlib.error):
            return None

    def put(self, key: str, answer: bytes) -> None:
        """Keep an answer; where that cannot be, the command goes on and says so once."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_bytes(self._folder / key, hashlib.sha256(answer).digest() + answer)
        except (OSError, MtsparkError) as error:
            if not self._complained:
                log.warning("finished jobs are not kept for another try: %s", one_line(error))
            self._complained = True

    def remove(self, keys: Iterable[str]) -> None:
        """Forget answers that have been put together."""
        if self._folder is None:
            return
        for key in keys:
            with contextlib.suppress(OSError):
                (self._folder / key).unlink()

    def _remove_old(self) -> None:
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if time.time() - path.stat().st_mtime > OLDEST_S:
                    path.unlink()
