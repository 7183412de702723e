"""Our estimates of PilotNet LIF beside what Intel measured of it on Loihi 2."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mtspark.core.files import AnyPath
from mtspark.deploy.chips import load_chip
from mtspark.sim.energy import Device, known_cards, load_card, price
from mtspark.sim.validation.mapping import compare_pilotnet
from mtspark.sim.validation.pilotnet import STEPS_PER_SAMPLE, Measurement, pilotnet

CHIP = "loihi2"


@dataclass(frozen=True)
class Prediction:
    """One quantity, predicted beside measured.

    Attributes:
        quantity: with its unit.
        how: card or model that predicts it.
        predicted, measured: in that unit.
        fitted: the prediction uses a constant that was fitted to this measurement.
    """

    quantity: str
    how: str
    predicted: float
    measured: float
    fitted: bool = False

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted / self.measured

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "ratio": self.ratio}


@dataclass(frozen=True)
class Validation:
    """All predictions, and what of PilotNet was counted.

    Attributes:
        comparisons: energy by card, then time and cores.
        synops, neuron_updates, spikes: of one recorded sample.
    """

    comparisons: tuple[Prediction, ...]
    synops: int
    neuron_updates: int
    spikes: int

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file that ``mtspark validate --json`` writes."""
        return {
            "format": "mtspark-validation",
            "version": 1,
            "network": "PilotNet LIF",
            "synops": self.synops,
            "neuron_updates": self.neuron_updates,
            "spikes": self.spikes,
            "comparisons": [row.to_json() for row in self.comparisons],
        }


def validate(folder: AnyPath) -> Validation:
    """Predict PilotNet's energy under every card of a Loihi, its step time and its cores.

    Args:
        folder: of lava-dl's PilotNet LIF.

    Raises:
        BadFileError: a file is missing, or is not what PilotNet's would be.
    """
    measured = Measurement()
    network, counts = pilotnet(folder)
    mapped = compare_pilotnet(folder)
    # Not the set that was fitted to this very measurement.
    unfitted = mapped.steps["scaled"]
    about = {times.name: times.about for times in load_chip(CHIP).times}
    traffic = mapped.traffic
    device = Device(
        cores=len(mapped.as_intel.cores),
        chips=mapped.as_intel.chips,
        step_time_us=unfitted.total_us,
        messages=float(traffic.total),
        hops_east_west=float(traffic.total_hops_east_west),
        hops_north_south=float(traffic.total_hops_north_south),
        steps=STEPS_PER_SAMPLE,
    )
    rows = []
    for key in known_cards():
        card = load_card(key)
        if not card.chip:
            continue
        bill = price(counts, network, card, device if card.chip == CHIP else None)
        fitted = bool(card.fitted)
        rows.append(
            Prediction(
                "dynamic energy of a sample [mJ]",
                card.name,
                bill.dynamic_j_per_decision * 1e3,
                measured.dynamic_j * 1e3,
                fitted,
            )
        )
        if bill.total_j_per_decision is not None:
            rows.append(
                Prediction(
                    "with static, modelled time [mJ]",
                    card.name,
                    bill.total_j_per_decision * 1e3,
                    measured.total_j * 1e3,
                    fitted,
                )
            )
    rows.sort(key=lambda row: row.fitted)
    for times, step in sorted(mapped.steps.items(), key=lambda entry: "FITTED" in about[entry[0]]):
        if step.total_us is not None:
            rows.append(
                Prediction(
                    "time of a step [µs]",
                    f"times {times!r}, divided as Intel's compiler divides",
                    step.total_us,
                    measured.step_time_us,
                    "FITTED" in about[times],
                )
            )
    for how, mapping in (
        ("divided as Intel's compiler divides", mapped.as_intel),
        ("as few as possible", mapped.fewest),
    ):
        rows.append(Prediction("cores", how, float(len(mapping.cores)), float(measured.cores)))
    return Validation(
        tuple(rows),
        counts.synops_structural,
        counts.neuron_updates,
        sum(layer.spikes.total for layer in counts.layers),
    )
