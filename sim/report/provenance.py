"""How a report came about, and what speaks for or against it: the types, which a workflow fills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Fact:
    """A name and a text that the page shows side by side: a check, or a line of "to repeat it"."""

    name: str
    text: str

    def to_json(self) -> dict[str, str]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Provenance:
    """How, where and when a page was written.

    Attributes:
        mtspark: version of this package.
        git_commit: of the checkout that the code lies in, with a + where it was changed; or None.
        date: ISO 8601 with time zone.
        network_sha256: of the bundle's network.
        files: digests of the bundle's files.
        machine, processor: of this computer.
        versions: of the packages that numbers and pictures depend on.
        seconds: of play that the page shows.
        checks: what the numbers were compared with.
        repeat: everything that is needed to write the page again.
    """

    mtspark: str
    git_commit: str | None
    date: str
    network_sha256: str
    files: Mapping[str, str]
    machine: str
    processor: str
    versions: Mapping[str, str]
    seconds: float
    checks: tuple[Fact, ...]
    repeat: tuple[Fact, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``made`` of the report's data."""
        return {
            "mtspark": self.mtspark,
            "git_commit": self.git_commit,
            "date": self.date,
            "network_sha256": self.network_sha256,
            "files": dict(self.files),
            "host": {"machine": self.machine, "processor": self.processor},
            "versions": dict(self.versions),
            "seconds": self.seconds,
            "checks": [fact.to_json() for fact in self.checks],
            "repeat": [fact.to_json() for fact in self.repeat],
        }
