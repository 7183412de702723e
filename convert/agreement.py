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


@dataclass(frozen=True)
class ExchangedLayer:
    """A layer that fires before its max pool instead of behind it, beside the module's own.

    Attributes:
        name: of the layer.
        compared: spikes and silences compared, behind the pool (steps x batch x neurons).
        fired: spikes of the module among them.
        fired_exchanged: spikes of the network among them.
        different: spikes and silences that differ.
    """

    name: str
    compared: int
    fired: int
    fired_exchanged: int
    different: int


@dataclass(frozen=True)
class PoolExchange:
    """What `--max-pool or` costs: the network beside the module, on the same inputs.

    Attributes:
        inputs: which, in a few words.
        samples: how many.
        layers: that fire before their max pool.
        same_answer: samples for which the largest value is the module's; None where there is
            one value only.
        values_error: mean difference of the values, over the module's mean value (magnitudes).
        right: answers of the module that are the sample's label; None where it has no labels.
        right_exchanged: likewise of the network.
    """

    inputs: str
    samples: int
    layers: tuple[ExchangedLayer, ...]
    same_answer: int | None
    values_error: float
    right: int | None = None
    right_exchanged: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields by name, as fidelity.json has them."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}

    @property
    def sentences(self) -> list[str]:
        """What a user has to know of it, a sentence for each layer and one for the answers."""
        lines = [
            f"--max-pool or is an approximation: {layer.name!r} fires before its max pool, and "
            f"{layer.different / max(layer.compared, 1):.2%} of its spikes and silences differ "
            f"from the module's own (it fires {layer.fired_exchanged:,} times, in the module "
            f"{layer.fired:,}), on {self.inputs}"
            for layer in self.layers
        ]
        if self.same_answer is None:
            answers = f"values are {self.values_error:.1%} off on average"
        else:
            answers = f"{self.same_answer} of {self.samples} answers are the module's own"
        if self.right is not None and self.right_exchanged is not None:
            answers += (
                f" (accuracy {self.right_exchanged / self.samples:.1%}, of the module "
                f"{self.right / self.samples:.1%})"
            )
        return [*lines, f"with --max-pool or {answers}, on {self.inputs}"]
