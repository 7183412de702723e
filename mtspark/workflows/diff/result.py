"""The result of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtspark.sim.compare import Agreement


@dataclass(frozen=True)
class DiffResult:
    """How far two sides agree.

    Attributes:
        expected, against: names of the two sides, as the user knows them.
        task: whose frames and thresholds were used; None where neither side has tasks.
        seed: of the frames.
        agreement: what was compared and where the first difference is.
        exact: whether the two sides ought to be equal; floats and integers never are.
        read_as: how an ambiguous file was read, by name of the side; None where the sides are
            backends of bundles and not files.
    """

    expected: str
    against: str
    task: str | None
    seed: int
    agreement: Agreement
    exact: bool = True
    read_as: dict[str, str] | None = None

    @property
    def equal(self) -> bool:
        """Whether something was compared and nothing differed."""
        return self.agreement.equal

    @property
    def fault(self) -> bool:
        """Whether the sides differ although they ought to be equal."""
        return self.exact and not self.equal

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``mtspark diff --json``."""
        names = {
            "expected": self.expected,
            "against": self.against,
            "task": self.task,
            "seed": self.seed,
        }
        data = {**names, **self.agreement.to_json()}
        if self.read_as is not None:
            data["exact"] = self.exact
            data["by_layer"] = self.agreement.layers_to_json()
            data["read_as"] = self.read_as
        elif self.agreement.action_agreement is not None:
            data["action_agreement"] = self.agreement.action_agreement
            data["layers"] = self.agreement.layers_to_json()
        return data
