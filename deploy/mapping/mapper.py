"""Which neuron lies on which core: the mapping of a chip network, and the limits it breaks.

A core holds neurons of one population, as with Intel's compiler. Populations are divided over
as few cores as the limits allow (or as Intel's compiler divides), cores are placed on the mesh
so that spikes travel short distances, and all broken limits are reported together. A mapping that
breaks a limit is still returned: its costs are HYPOTHETICAL.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Dictionary
from dataclasses import asdict, dataclass, replace
from enum import Enum
from functools import cached_property
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import INPUT, ChipNetwork, Encoder
from mtspark.core.errors import BadRequestError
from mtspark.deploy.chips import ChipModel, Violation, chip_violations
from mtspark.deploy.mapping.divide import Divider, Use
from mtspark.deploy.mapping.place import placed_cores
from mtspark.deploy.mapping.synapses import Box, Part, distinct_thresholds, synapses_per_axon
from mtspark.deploy.pathways import task_parts, users

FORMAT, VERSION = "mtspark-mapping", 1
"""Of a mapping as JSON."""


class Division(str, Enum):
    """How populations are divided."""

    FEWEST = "fewest"
    INTEL = "intel"


class InputPlace(str, Enum):
    """Who sends the frame: neurons on cores that hold it, or the host in every step."""

    CORES = "cores"
    HOST = "host"


@dataclass(frozen=True)
class Core:
    """One core and what it holds.

    Attributes:
        population: name, or :data:`INPUT` for neurons that hold and send the frame.
        neurons: flat indices into the population, rising.
        box: (start, stop) of channels, rows and columns, for images.
        use: neurons, memory, axons in, thresholds and decays taken.
        out_axons: (source neuron, destination core) pairs.
        chip, column, row, place: where it lies; column and row of its router on the chip.
    """

    population: str
    neurons: Integers
    box: Box | None
    use: Use
    out_axons: int
    chip: int
    column: int
    row: int
    place: int

    @property
    def router(self) -> tuple[int, int, int]:
        """Chip, column and row: cores of one router exchange messages without a hop."""
        return self.chip, self.column, self.row

    def to_json(self) -> dict[str, Any]:
        """Return plain values; neurons as (start, stop) runs of flat indices."""
        return {
            "population": self.population,
            "neurons": _runs(self.neurons),
            "box": None if self.box is None else [list(edge) for edge in self.box],
            "use": asdict(self.use),
            "out_axons": self.out_axons,
            "chip": self.chip,
            "column": self.column,
            "row": self.row,
            "place": self.place,
        }


@dataclass(frozen=True)
class ChipMapping:
    """A network on cores.

    Attributes:
        network: its name.
        chip: the chip's key, as given to `load_chip`.
        chip_name: shown to the user.
        division: how populations were divided.
        input_place: who sends the frame.
        cores: the input's first, then in the order of the populations.
        chips: in use.
        violations: every broken limit; empty if the network fits.
    """

    network: str
    chip: str
    chip_name: str
    division: Division
    input_place: InputPlace
    cores: tuple[Core, ...]
    chips: int
    violations: tuple[Violation, ...]

    @property
    def fits(self) -> bool:
        """No limit is broken."""
        return not self.violations

    @property
    def hypothetical(self) -> bool:
        """Whether costs under this mapping are those of a chip that does not exist."""
        return bool(self.violations)

    @cached_property
    def layers(self) -> dict[str, list[int]]:
        """Indices of the cores of each population."""
        layers: dict[str, list[int]] = {}
        for index, core in enumerate(self.cores):
            layers.setdefault(core.population, []).append(index)
        return layers

    @property
    def routers(self) -> int:
        """Routers with at least one core in use."""
        return len({core.router for core in self.cores})

    def owners(self, name: str, size: int) -> Integers | None:
        """The core of each neuron: int64 (size,); None for an input that the host sends."""
        if name not in self.layers:
            return None
        owners = np.full(size, -1, np.int64)
        for index in self.layers[name]:
            owners[self.cores[index].neurons] = index
        return owners

    def to_json(self) -> dict[str, Any]:
        """Return plain values; :mod:`mtspark.deploy.mapping.serialise` reads them back."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "network": self.network,
            "chip": self.chip,
            "chip_name": self.chip_name,
            "division": self.division.value,
            "input_place": self.input_place.value,
            "chips": self.chips,
            "hypothetical": self.hypothetical,
            "violations": [asdict(violation) for violation in self.violations],
            "cores": [core.to_json() for core in self.cores],
        }


def _runs(neurons: Integers) -> list[list[int]]:
    """Rising indices as (start, stop) runs."""
    breaks = np.flatnonzero(np.diff(neurons) != 1) + 1
    pieces = np.split(neurons, breaks)
    return [[int(piece[0]), int(piece[-1]) + 1] for piece in pieces if len(piece)]


def map_network(
    network: ChipNetwork,
    chip: ChipModel,
    *,
    division: Division = Division.FEWEST,
    input_place: InputPlace | None = None,
    spread_thresholds: bool = False,
    rates: Dictionary[str, NDArray[np.float64]] | None = None,
    place: bool = True,
) -> ChipMapping:
    """Map a network to a chip.

    Args:
        network: the network.
        chip: the chip.
        division: as few cores as possible, or as Intel's compiler divides.
        input_place: who sends the frame; without it cores where one frame is sent at every step,
            else the host.
        spread_thresholds: take more cores where neurons have more distinct thresholds than a
            core has registers; without it that is a violation.
        rates: messages by source, of the source's shape, that weigh the distances between cores;
            without them every neuron sends equally often.
        place: shorten distances by swaps; otherwise cores lie in the order of their populations.
    """
    if input_place is None:
        every_step = network.input.encoder is Encoder.EVERY_STEP
        in_cores = network.input.held and every_step
        input_place = InputPlace.CORES if in_cores else InputPlace.HOST
    names = [INPUT] * (input_place is InputPlace.CORES)
    names += [population.name for population in network.populations]
    dividers = {
        name: Divider(network, name, chip, spread_thresholds=spread_thresholds) for name in names
    }
    broken: list[Violation] = []
    parts: dict[str, list[Part]] = {}
    for name, divider in dividers.items():
        divided = divider.fewest() if division is Division.FEWEST else divider.as_intel()
        if divided is None:
            broken.append(_does_not_fit(divider, chip))
            divided = divider.by_neurons()
        elif division is Division.FEWEST and not spread_thresholds:
            divided = _sorted_where_that_suffices(network, chip, divided)
        parts[name] = divided
    if division is Division.FEWEST:
        if not spread_thresholds:
            _pack_tasks(network, dividers, parts)
        _divide_for_out_axons(network, chip, dividers, parts)
    flat = [part for name in names for part in parts[name]]
    traffic = expected_traffic(network, flat, rates)
    out = _out_axons(network, flat)
    uses = [dividers[part.population].use(part) for part in flat]
    where, chips = placed_cores(traffic, chip, improve=place)
    cores = tuple(
        Core(part.population, part.neurons, part.box, use, int(axons), *at)
        for part, use, axons, at in zip(flat, uses, out, where, strict=True)
    )
    mapping = ChipMapping(
        network.name, chip.key, chip.name, division, input_place, cores, chips, ()
    )
    broken = [*chip_violations(network, chip), *broken]
    broken += [violation for rule in RULES for violation in rule(network, mapping, chip)]
    return replace(mapping, violations=tuple(dict.fromkeys(broken)))


def expected_traffic(
    network: ChipNetwork,
    parts: list[Part],
    rates: Dictionary[str, NDArray[np.float64]] | None = None,
) -> NDArray[np.float64]:
    """Messages from each core to each other: float64 (cores, cores).

    Args:
        network: the network.
        parts: what each core holds.
        rates: messages of each source neuron; one each without them.
    """
    traffic = np.zeros((len(parts), len(parts)))
    owners: dict[str, Integers] = {}
    for index, part in enumerate(parts):
        size = int(np.prod(network.shape_of(part.population)))
        owners.setdefault(part.population, np.full(size, -1, np.int64))[part.neurons] = index
    for link in network.connections:
        if link.source not in owners:
            continue
        source, target = network.shape_of(link.source), network.shape_of(link.target)
        sent = np.ones(int(np.prod(source))) if rates is None else rates[link.source].reshape(-1)
        for index, part in enumerate(parts):
            if part.population == link.target:
                heard = synapses_per_axon(link, source, target, part) > 0
                traffic[:, index] += np.bincount(
                    owners[link.source], weights=heard * sent, minlength=len(parts)
                )
    return traffic


def _out_axons(network: ChipNetwork, parts: list[Part]) -> NDArray[np.float64]:
    return expected_traffic(network, parts).sum(1)


def _pack_tasks(
    network: ChipNetwork, dividers: dict[str, Divider], parts: dict[str, list[Part]]
) -> None:
    """Give the tasks cores of their own where tasks have neurons of their own.

    A core whose neurons are all off in a task could sleep in it. Only divisions over no more
    cores are taken.
    """
    tasks = task_parts(network)
    if not tasks:
        return
    for name in parts:
        if name == INPUT:
            continue
        wanted = users(tasks, name)
        kinds = np.unique(wanted)
        if len(kinds) == 1:
            continue
        groups = [np.flatnonzero(wanted == kind) for kind in kinds]
        packed = dividers[name].by_groups(groups)
        if packed is not None and len(packed) <= len(parts[name]):
            parts[name] = packed


def _divide_for_out_axons(
    network: ChipNetwork,
    chip: ChipModel,
    dividers: dict[str, Divider],
    parts: dict[str, list[Part]],
) -> None:
    """Divide a population further while a core of it has too many outgoing axons."""
    limit = chip.limit("out_axons_per_core")
    if limit is None:
        return
    # More cores of a target mean more axons of its sources, so targets come first.
    for name in reversed(list(parts)):
        while True:
            flat = [part for parts_of_one in parts.values() for part in parts_of_one]
            out = _out_axons(network, flat)
            own = [out[index] for index, part in enumerate(flat) if part.population == name]
            if max(own) <= limit:
                break
            further = dividers[name].fewest(max(ceil(sum(own) / limit), len(parts[name]) + 1))
            if further is None:
                break
            parts[name] = further


def _sorted_where_that_suffices(
    network: ChipNetwork, chip: ChipModel, parts: list[Part]
) -> list[Part]:
    """The same number of cores, with neurons that share thresholds side by side, if only that
    keeps the limit of registers; otherwise the parts as they are."""
    limit, name = chip.limit("thresholds_per_core"), parts[0].population
    if limit is None or name == INPUT:
        return parts
    population = network.population(name)
    if all(distinct_thresholds(population, part.neurons) <= limit for part in parts):
        return parts
    spread = Divider(network, name, chip, spread_thresholds=True).fewest()
    return parts if spread is None or len(spread) > len(parts) else spread


def _does_not_fit(divider: Divider, chip: ChipModel) -> Violation:
    """Why a population cannot be divided so that every core fits."""
    part = divider.hardest_neuron()
    name, ratio = divider.worst(part)
    figure = chip.limits[name]
    if ratio <= 1:
        return Violation(
            repr(divider.name),
            f"needs more than {divider.cores_there_are} cores",
            f"{divider.cores_there_are} cores on {chip.limit('chips')} chips",
            "make the layer smaller or take a chip with more memory",
        )
    return Violation(
        repr(divider.name),
        f"one neuron alone takes {ratio * figure.value:,.0f} {figure.unit} of {name}",
        f"{figure.value:,}",
        "make the layer before it smaller, or the connection sparse",
    )


def cores_have_registers_for_their_thresholds(
    network: ChipNetwork, mapping: ChipMapping, chip: ChipModel
) -> Iterator[Violation]:
    """No core has more distinct thresholds than registers."""
    limit = chip.limit("thresholds_per_core")
    if limit is None:
        return
    for population in network.populations:
        held = [mapping.cores[index] for index in mapping.layers[population.name]]
        worst = max(core.use.thresholds for core in held)
        if worst <= limit:
            continue
        divider = Divider(network, population.name, chip, spread_thresholds=True)
        spread = divider.fewest()
        more = "more cores than there are" if spread is None else f"{len(spread)} cores"
        yield Violation(
            repr(population.name),
            f"up to {worst} distinct thresholds on each of its {len(held)} cores",
            f"{limit} a core",
            f"export with --palette {limit} --palette-chip {chip.key}, or spread the layer over "
            f"{more} (--spread-thresholds)",
        )


def cores_have_axons_for_their_destinations(
    network: ChipNetwork, mapping: ChipMapping, chip: ChipModel
) -> Iterator[Violation]:
    """No core sends to more (neuron, core) pairs than it has outgoing axons."""
    limit = chip.limit("out_axons_per_core")
    if limit is None:
        return
    for name, indices in mapping.layers.items():
        worst = max(mapping.cores[index].out_axons for index in indices)
        if worst > limit:
            yield Violation(
                repr(name),
                f"{worst:,} outgoing axons on a core",
                f"{limit:,} a core",
                "make the layer after it smaller, so that it takes fewer cores",
            )


def cores_hold_what_they_can(
    network: ChipNetwork, mapping: ChipMapping, chip: ChipModel
) -> Iterator[Violation]:
    """No core holds more neurons, memory, axons or configurations than it can.

    Only a division that could not keep a limit breaks one here.
    """
    for name, indices in mapping.layers.items():
        ratios = [mapping.cores[i].use.ratios(chip, thresholds=False) for i in indices]
        for limit in ratios[0]:
            worst = max(of_core[limit] for of_core in ratios)
            if worst > 1:
                figure = chip.limits[limit]
                yield Violation(
                    repr(name),
                    f"{worst * figure.value:,.0f} {figure.unit} on a core",
                    f"{figure.value:,} ({limit})",
                    "make the layer smaller",
                )


def cores_exist(network: ChipNetwork, mapping: ChipMapping, chip: ChipModel) -> Iterator[Violation]:
    """There are as many cores as are needed."""
    limit = chip.limit("chips")
    if mapping.chips > limit:
        yield Violation(
            "the network",
            f"{len(mapping.cores):,} cores on {mapping.chips} chips",
            f"{limit} chips of {chip.limit('cores_per_chip')} cores",
            "make the network smaller or quantise to fewer bits",
        )


RULES = (
    cores_hold_what_they_can,
    cores_have_registers_for_their_thresholds,
    cores_have_axons_for_their_destinations,
    cores_exist,
)


def check_same_network(mapping: ChipMapping, network: ChipNetwork) -> None:
    """Check that a mapping is of this network.

    Raises:
        BadRequestError: a population is missing, or has neurons on no core or on two.
    """
    wanted = {population.name: population.size for population in network.populations}
    if mapping.input_place is InputPlace.CORES:
        wanted[INPUT] = int(np.prod(network.input.shape))
    for name in sorted(wanted.keys() | mapping.layers.keys()):
        held = [mapping.cores[index].neurons for index in mapping.layers.get(name, [])]
        joined = np.sort(np.concatenate(held)) if held else np.zeros(0, np.int64)
        if not np.array_equal(joined, np.arange(wanted.get(name, 0))):
            raise BadRequestError(
                f"the mapping has {len(joined)} neurons of {name!r}, the network has "
                f"{wanted.get(name, 0)}; map this network again with mtspark map"
            )
