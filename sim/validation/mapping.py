"""PilotNet LIF: our mapping and modelled step time beside Intel's compiler and measurement."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mtspark.core.files import AnyPath
from mtspark.deploy.chips import load_chip
from mtspark.deploy.mapping import ChipMapping, Division, InputPlace, map_network
from mtspark.sim.latency import StepTime, Traffic, step_time, step_to_json, traffic_of
from mtspark.sim.validation.pilotnet import STEPS_PER_SAMPLE, Measurement, pilotnet_sample

INTEL = {
    "pixels": (13, 3168, 0),
    "conv-0": (25, 3072, 81),
    "conv-1": (13, 2160, 864),
    "conv-2": (3, 2688, 1620),
    "conv-3": (3, 2048, 2160),
    "conv-4": (2, 2048, 2880),
    "fc-0": (12, 8, 7253),
    "fc-1": (1, 50, 1300),
    "fc-2": (1, 10, 150),
    "fc-3": (1, 1, 10),
}
"""Cores, neurons a core and words of synaptic memory a core, from the compiler's log that is
stored in lava-dl's notebook pilotnet_snn/benchmark.ipynb. Dense rows are means over cores,
rounded down; its weights are of another training run than those of lava-dl's tests."""

WORD_BITS = 64


@dataclass(frozen=True)
class LayerComparison:
    """One layer: (cores, neurons a core, words a core) of Intel and of both divisions of ours."""

    name: str
    intel: tuple[int, int, int]
    as_intel: tuple[int, int, int]
    fewest: tuple[int, int, int]


@dataclass(frozen=True)
class PilotNetComparison:
    """PilotNet LIF on Loihi 2.

    Attributes:
        layers: cores, neurons and memory, layer by layer.
        as_intel, fewest: our mappings.
        traffic: of the division as Intel's, over one recorded sample.
        steps: modelled step time of the division as Intel's, by set of times of the chip.
        measured_step_us: what Intel measured.
    """

    layers: tuple[LayerComparison, ...]
    as_intel: ChipMapping
    fewest: ChipMapping
    traffic: Traffic
    steps: dict[str, StepTime]
    measured_step_us: float

    @property
    def intel_cores(self) -> int:
        """Of Intel's compiler."""
        return sum(cores for cores, _, _ in INTEL.values())

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``mtspark map --pilotnet FOLDER --json``."""
        return {
            **self.as_intel.to_json(),
            "layers": [asdict(layer) for layer in self.layers],
            "intel_cores": self.intel_cores,
            "fewest_cores": len(self.fewest.cores),
            "measured_step_us": self.measured_step_us,
            "modelled_step": {name: step_to_json(step) for name, step in self.steps.items()},
        }


def compare_pilotnet(folder: AnyPath) -> PilotNetComparison:
    """Map PilotNet as Intel's compiler divides and on as few cores as possible.

    Args:
        folder: of lava-dl's PilotNet LIF: `network.net` and the recorded spikes.

    Raises:
        BadFileError: a file is missing, or is not what PilotNet's would be.
    """
    network, sent = pilotnet_sample(folder)
    chip = load_chip("loihi2")
    # Its first population holds the frame itself, so no other cores do.
    mappings = {
        division: map_network(network, chip, division=division, input_place=InputPlace.HOST)
        for division in Division
    }
    mapping = mappings[Division.INTEL]
    traffic = traffic_of(network, mapping, chip, sent)
    steps = {
        times.name: step_time(
            network, mapping, chip, sent, STEPS_PER_SAMPLE, times=times.name, traffic=traffic
        )
        for times in chip.times
    }
    layers = tuple(
        LayerComparison(
            name, INTEL[name], _taken(mapping, name), _taken(mappings[Division.FEWEST], name)
        )
        for name in mapping.layers
    )
    return PilotNetComparison(
        layers,
        mapping,
        mappings[Division.FEWEST],
        traffic,
        steps,
        Measurement().step_time_us,
    )


def _taken(mapping: ChipMapping, name: str) -> tuple[int, int, int]:
    """Cores, most neurons on a core (for lists of neurons the mean), and mean words a core."""
    cores = [mapping.cores[index] for index in mapping.layers[name]]
    words = sum(core.use.memory_bits for core in cores) // WORD_BITS // len(cores)
    if cores[0].box is None:
        return len(cores), sum(core.use.neurons for core in cores) // len(cores), words
    return len(cores), max(core.use.neurons for core in cores), words
