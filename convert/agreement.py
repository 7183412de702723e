"""Agreement of a converted network with the torch network that it was made from, by layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerAgreement:
    """Agreement of one layer of a NIR graph with torch's.

    Attributes:
        name: of the layer.
        compared: spikes compared (steps x batch x neurons).
        ties: membranes within 1e-5 of threshold, relatively, where a difference is excused.
        different: spikes that differ where it is not a tie.
        different_ties: spikes that differ at ties.
    """

    name: str
    compared: int
    ties: int
    different: int
    different_ties: int

    def to_json(self) -> dict[str, Any]:
        """The fields by name, as fidelity.json has them."""
        return asdict(self)


@dataclass(frozen=True)
class TraceAgreement:
    """How one layer of the float network agrees with the module's own run.

    Attributes:
        name: of the layer.
        compared: spikes compared (steps x batch x neurons), and as many membranes.
        fired: spikes of the module among them.
        ties: membranes within 1e-5 of threshold, relatively, where a difference is excused.
        different: spikes that differ where there is no tie; always 0 in a network returned.
        different_ties: spikes that differ at ties.
        membrane_error: largest difference of a membrane, over the largest membrane.
        different_alone: spikes that differ when the network runs on its own from rest.
    """

    name: str
    compared: int
    fired: int
    ties: int
    different: int
    different_ties: int
    membrane_error: float
    different_alone: int

    def to_json(self) -> dict[str, Any]:
        """The fields by name, as fidelity.json has them."""
        return asdict(self)
