"""What is sent to a worker and what comes back: plain values and arrays, never pickled objects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.errors import BadFileError
from mtspark.core.executor.versions import versions_with
from mtspark.core.files import (
    FileLimits,
    Policy,
    current_policy,
    decode,
    encode,
    reason_of,
    set_policy,
)

MEMORY_BYTES = 2**32
"""That the values of one message may take: they come from our own other half."""
TEMPORARY = "name a folder with room for temporary files in TMPDIR"
"""What helps where the files of a job cannot be written."""


@dataclass(frozen=True)
class Package:
    """Files that a job needs, which travel by their content.

    Attributes:
        files: content by name; a name has no folder.
        modules: the user's own, whose code they name: a worker needs the same.
    """

    files: Mapping[str, bytes] = field(repr=False)
    modules: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Sha256 over names and contents: the same files are sent to a worker once."""
        listed = [(name, hashlib.sha256(data).hexdigest()) for name, data in self.files.items()]
        return hashlib.sha256(json.dumps(sorted(listed)).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """All files as one message."""
        return b"".join(
            encode({name: np.frombuffer(data, np.uint8) for name, data in self.files.items()})
        )

    @classmethod
    def from_bytes(cls, data: bytes, digest: str) -> Package:
        """The files of a message.

        Raises:
            BadFileError: they are others than those that were promised.
        """
        package = cls({name: bytes(file) for name, file in decode(data, MEMORY_BYTES).items()})
        if package.digest != digest:
            raise BadFileError("the files of a job changed on their way; start the command again")
        return package

    def write(self, folder: Path, remedy: str = TEMPORARY) -> None:
        """Write all files into a folder, which is made.

        Args:
            folder: for them alone.
            remedy: what its user can do where it cannot be written.

        Raises:
            BadFileError: a name leads out of it, or it cannot be written.
        """
        try:
            folder.mkdir(exist_ok=True)
            for name, data in self.files.items():
                if Path(name).name != name:
                    raise BadFileError(f"{name}: no file of a job has such a name")
                (folder / name).write_bytes(data)
        except OSError as error:
            reason = reason_of(error, folder)
            raise BadFileError(
                f"--executor: {folder}: cannot be written ({reason}); {remedy}"
            ) from error


@dataclass(frozen=True)
class Job:
    """Work that any worker can do, with the same result.

    Attributes:
        name: says in errors which job it is: ``pong, seeds 0 to 3``.
        work: a function of a module, which imports nothing that the worker lacks. Called with the
            folder of the package first, if there is one; its result is made of plain values and
            numeric arrays.
        arguments: by name; plain values.
        package: files that it needs.
        weight: units of progress, as games.
    """

    name: str
    work: Callable[..., Any]
    arguments: Mapping[str, Any]
    package: Package | None = None
    weight: int = 1

    @property
    def key(self) -> str:
        """Names the question: function, arguments, files and versions; sha256."""
        return hashlib.sha256(json.dumps(self._order(), sort_keys=True).encode()).hexdigest()

    def order(self) -> bytes:
        """What a worker is told."""
        policy = current_policy()
        stated = {"limits": asdict(policy.limits), "trust": policy.trust}
        return b"".join(encode({**self._order(), "policy": stated}))

    def _order(self) -> dict[str, Any]:
        return {
            "function": f"{self.work.__module__}:{self.work.__qualname__}",
            "arguments": dict(self.arguments),
            "digest": None if self.package is None else self.package.digest,
            "versions": versions_with(() if self.package is None else self.package.modules),
        }


@dataclass(frozen=True)
class Order:
    """A job as its worker reads it.

    Attributes:
        function: ``module:name``.
        arguments: of it.
        digest: of its package; None without.
        versions: of whoever asks.
        policy: how the worker reads files, a stranger's bundle for one.
    """

    function: str
    arguments: dict[str, Any]
    digest: str | None
    versions: dict[str, str]
    policy: Policy

    @classmethod
    def from_bytes(cls, data: bytes) -> Order:
        """Read what :meth:`Job.order` has written."""
        fields = decode(data, MEMORY_BYTES)
        policy = Policy(FileLimits(**fields["policy"]["limits"]), fields["policy"]["trust"])
        return cls(**{**fields, "policy": policy})

    def carry_out(self, folder: Path | None) -> Any:
        """Do the work.

        Args:
            folder: where the files of its package lie.
        """
        set_policy(self.policy)
        module, _, name = self.function.partition(":")
        work = getattr(import_module(module), name)
        return work(*([] if folder is None else [folder]), **self.arguments)
