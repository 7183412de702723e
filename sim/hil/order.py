"""What a host tells the process of its own chip to be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from mtspark.sim.hil.faults import FaultKind, Faults
from mtspark.sim.hil.options import ChipBackend


@dataclass(frozen=True)
class ChipOrder:
    """A chip of our own.

    Attributes:
        bundle: folder of its network.
        network: sha256 that the network must have.
        task: that it is warmed up with, and the only one of the backends that hold one.
        backend: what stands for it.
        faults: what breaks on it.
    """

    bundle: str
    network: str
    task: str
    backend: ChipBackend = ChipBackend.ENGINE
    faults: Faults = field(default_factory=Faults)

    def to_text(self) -> str:
        """Write the order as one argument of a command."""
        return json.dumps(
            {
                "bundle": self.bundle,
                "network": self.network,
                "task": self.task,
                "backend": self.backend.value,
                "rates": {kind.value: rate for kind, rate in self.faults.rates.items()},
                "seed": self.faults.seed,
            }
        )

    @classmethod
    def from_text(cls, text: str) -> ChipOrder:
        """Read what :meth:`to_text` has written."""
        words = json.loads(text)
        rates = {FaultKind(name): rate for name, rate in words["rates"].items()}
        return cls(
            bundle=words["bundle"],
            network=words["network"],
            task=words["task"],
            backend=ChipBackend(words["backend"]),
            faults=Faults(rates, words["seed"]),
        )
