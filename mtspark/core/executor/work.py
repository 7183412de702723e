"""What every worker does with an order, wherever it runs: check, unpack, work, answer."""

from __future__ import annotations

import atexit
import platform
import shutil
import tempfile
import traceback
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtspark.core import errors
from mtspark.core.errors import BackendFailedError, BadFileError, MtsparkError, one_line
from mtspark.core.executor.job import MEMORY_BYTES, TEMPORARY, Order, Package
from mtspark.core.executor.versions import differences
from mtspark.core.files import decode, encode

_unpacked: dict[str, Path] = {}
"""Folders of the packages that this process has got, by digest."""


@dataclass(frozen=True)
class Answer:
    """What a worker says of a job.

    Attributes:
        kind: done, refused (by the worker), error (of mtspark), or bug.
        value: of a job that is done.
        text: of an error, or a traceback.
        error: class of an error.
    """

    kind: str
    value: Any = None
    text: str = ""
    error: str = ""

    def to_bytes(self) -> bytes:
        """As one message; counts are mostly zeros, which take no room."""
        return zlib.compress(b"".join(encode([self.kind, self.value, self.text, self.error])), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Answer:
        """Read what :meth:`to_bytes` has written."""
        return cls(*decode(zlib.decompress(data), MEMORY_BYTES))

    def result(self, job: str) -> Any:
        """The value of a job that is done.

        Args:
            job: its name.

        Raises:
            MtsparkError: of the class and with the text that it raised there.
            BackendFailedError: the worker refused it.
            RuntimeError: a bug, with the traceback of the worker.
        """
        if self.kind == "done":
            return self.value
        if self.kind == "refused":
            raise BackendFailedError(self.text)
        if self.kind == "error":
            kind = getattr(errors, self.error, BackendFailedError)
            raise kind(f"{job}: {self.text}")
        raise RuntimeError(f"{job}: failed on its worker\n{self.text}")


def perform(order: bytes, package: bytes | None = None, folder: str | None = None) -> bytes:
    """Carry out an order; never raises for what the job does.

    Args:
        order: of :meth:`Job.order`.
        package: its files, where no folder has them.
        folder: where its files lie already.

    Returns:
        An :class:`Answer`.
    """
    try:
        read = Order.from_bytes(order)
        others = differences(read.versions)
        if others:
            where = platform.node() or "another computer"
            return Answer(
                "refused",
                text=f"the worker on {where} has {', '.join(others)}; install there what is "
                "installed here, so that its results are equal",
            ).to_bytes()
        return Answer("done", read.carry_out(_folder(read.digest, package, folder))).to_bytes()
    except MtsparkError as error:
        known = next(kind for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
        return Answer("error", text=str(error), error=known.__name__).to_bytes()
    except Exception:
        # The command raises it, with this traceback: a worker must not die of it, or the job would
        # be done again, and fail again.
        return Answer("bug", text=traceback.format_exc()).to_bytes()


def _folder(digest: str | None, package: bytes | None, folder: str | None) -> Path | None:
    if digest is None:
        return None
    if folder is not None:
        return Path(folder)
    assert package is not None
    if digest not in _unpacked:
        files = Package.from_bytes(package, digest)
        try:
            made = Path(tempfile.mkdtemp(prefix="mtspark-job-"))
        except OSError as error:
            raise BadFileError(f"--executor: {one_line(error)}; {TEMPORARY}") from error
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        files.write(made)
        _unpacked[digest] = made
    return _unpacked[digest]
