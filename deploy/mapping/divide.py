"""Dividing a population over cores: as few as the limits allow, or as Intel's compiler does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod

import numpy as np

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import INPUT, ChipNetwork, Connection
from mtspark.deploy.chips import ChipModel
from mtspark.deploy.mapping.synapses import (
    Part,
    box_part,
    compartment_configs,
    distinct_thresholds,
    in_axons,
    synapse_bits,
    synapses_per_axon,
)


@dataclass(frozen=True)
class Use:
    """What a part takes of its core.

    Attributes:
        neurons: in the part.
        memory_bits: of all incoming synapses.
        in_axons: of all incoming connections.
        thresholds: distinct threshold registers, see `distinct_thresholds`.
        configs: distinct pairs of decays.
    """

    neurons: int
    memory_bits: int
    in_axons: int
    thresholds: int
    configs: int

    def ratios(self, chip: ChipModel, *, thresholds: bool) -> dict[str, float]:
        """Use over limit, by limit; of thresholds only if asked."""
        used = {
            "neurons_per_core": self.neurons,
            "synapse_memory_per_core": self.memory_bits,
            "in_axons_per_core": self.in_axons,
            "compartment_configs_per_core": self.configs,
        }
        if thresholds:
            used["thresholds_per_core"] = self.thresholds
        limits = {name: chip.limit(name) for name in used}
        return {name: used[name] / limit for name, limit in limits.items() if limit is not None}


class Divider:
    """Divides one population (or the input, which has no synapses) over cores of a chip.

    Args:
        network: the network.
        name: of the population.
        chip: the chip.
        spread_thresholds: keep the limit of thresholds of a core, on more cores if necessary.
        sort_thresholds: cut lists in the order of their thresholds, whatever their limit.
    """

    def __init__(
        self,
        network: ChipNetwork,
        name: str,
        chip: ChipModel,
        *,
        spread_thresholds: bool,
        sort_thresholds: bool = False,
    ) -> None:
        self.network, self.name, self.chip = network, name, chip
        self.shape = network.shape_of(name)
        self.size = prod(self.shape)
        self.population = None if name == INPUT else network.population(name)
        self.incoming: list[tuple[Connection, tuple[int, ...]]] = [
            (link, network.shape_of(link.source))
            for link in network.connections
            if link.target == name
        ]
        self.spread_thresholds = spread_thresholds
        self._sorted = spread_thresholds or sort_thresholds

    def use(self, part: Part) -> Use:
        """Return what a part takes of its core."""
        return self._use(part, thresholds=True)

    def _use(self, part: Part, *, thresholds: bool) -> Use:
        memory = axons = 0
        for link, source in self.incoming:
            memory += synapse_bits(link, source, self.shape, part, self.chip)
            axons += in_axons(link, source, self.shape, part, self.chip)
        registers = configs = 1
        if self.population is not None:
            configs = compartment_configs(self.population, part.neurons)
            if thresholds:
                registers = distinct_thresholds(self.population, part.neurons)
        return Use(len(part.neurons), memory, axons, registers, configs)

    def worst(self, part: Part) -> tuple[str, float]:
        """The limit that a part comes nearest to or exceeds most, and its ratio."""
        use = self._use(part, thresholds=self.spread_thresholds)
        ratios = use.ratios(self.chip, thresholds=self.spread_thresholds)
        return max(ratios.items(), key=lambda entry: entry[1])

    def fits(self, part: Part) -> bool:
        """A part breaks no limit of a core."""
        limit = self.chip.limit("neurons_per_core")
        return len(part.neurons) <= limit and self.worst(part)[1] <= 1

    def fewest(self, at_least: int = 1) -> list[Part] | None:
        """Parts on as few cores as the limits allow; None where one neuron does not fit.

        Of divisions over equally many cores it takes the one whose parts have the fewest sources
        together, since each of them costs a message whenever the source sends.
        """
        if not self.fits(self.hardest_neuron()):
            return None
        start = max(at_least, ceil(self.size / self.chip.limit("neurons_per_core")))
        if len(self.shape) != 3:
            return self._fewest_lists(start)
        registers = self.chip.limit("thresholds_per_core")
        if self.spread_thresholds and registers is not None and self.population is not None:
            start = max(start, ceil(self.distinct_thresholds / registers))
        for cores in range(start, min(self.size, self.cores_there_are) + 1):
            fitting = [parts for parts in self._divisions(cores) if all(map(self.fits, parts))]
            if fitting:
                return min(fitting, key=self._heard)
        return None

    def _fewest_lists(self, start: int) -> list[Part] | None:
        """Lists of neurons: even ones if they fit, else each as long as the limits allow."""
        filled = self._filled()
        for cores in range(max(start, len(filled)), min(self.size, self.cores_there_are) + 1):
            even = list(self._even(cores))
            if all(map(self.fits, even)):
                return even
            if cores == len(filled):
                return filled
        return None

    def _filled(self) -> list[Part]:
        """Cores filled one after the other: no division of this order takes fewer.

        That holds as every limit that a list keeps is kept by each part of it.
        """
        order, parts, start = self._order(), [], 0
        while start < self.size:
            low, high = start + 1, self.size
            while low < high:
                middle = (low + high + 1) // 2
                if self.fits(Part(self.name, np.sort(order[start:middle]))):
                    low = middle
                else:
                    high = middle - 1
            parts.append(Part(self.name, np.sort(order[start:low])))
            start = low
        return parts

    @property
    def cores_there_are(self) -> int:
        """Number of cores of all chips together."""
        return int(self.chip.limit("chips") * self.chip.limit("cores_per_chip"))

    @property
    def distinct_thresholds(self) -> int:
        """Of the whole population."""
        assert self.population is not None, "the input has no thresholds"
        return distinct_thresholds(self.population, np.arange(self.size))

    def by_groups(self, groups: list[Integers]) -> list[Part] | None:
        """Parts that hold neurons of one group each, on as few cores as the limits allow.

        Args:
            groups: flat indices, rising; of images, whole channels side by side.

        Returns:
            None where one neuron does not fit, or a group of an image is no run of channels.
        """
        if not self.fits(self.hardest_neuron()):
            return None
        parts: list[Part] = []
        for group in groups:
            own = self._boxes(group) if len(self.shape) == 3 else self._lists(group)
            if own is None:
                return None
            parts += own
        return parts

    def _lists(self, group: Integers) -> list[Part] | None:
        limit = self.chip.limit("neurons_per_core")
        for cores in range(ceil(len(group) / limit), len(group) + 1):
            parts = [Part(self.name, chunk) for chunk in np.array_split(group, cores)]
            if all(map(self.fits, parts)):
                return parts
        return None

    def _boxes(self, group: Integers) -> list[Part] | None:
        plane = prod(self.shape[1:])
        first, stop = int(group[0]) // plane, int(group[-1]) // plane + 1
        if len(group) != (stop - first) * plane:
            return None
        shape = (stop - first, *self.shape[1:])
        limit = self.chip.limit("neurons_per_core")
        for cores in range(ceil(len(group) / limit), min(len(group), self.cores_there_are) + 1):
            fitting = []
            for counts in _factors(cores, shape):
                cuts = [_cuts(length, count) for length, count in zip(shape, counts, strict=True)]
                parts = [
                    box_part(
                        self.name,
                        self.shape,
                        ((first + channels[0], first + channels[1]), rows, columns),
                    )
                    for channels in cuts[0]
                    for rows in cuts[1]
                    for columns in cuts[2]
                ]
                if all(map(self.fits, parts)):
                    fitting.append(parts)
            if fitting:
                return min(fitting, key=self._heard)
        return None

    def by_neurons(self) -> list[Part]:
        """Parts by the limit of neurons alone, for a population that does not fit."""
        cores = ceil(self.size / self.chip.limit("neurons_per_core"))
        while True:
            parts = next(self._divisions(cores), None)
            if parts is not None:
                return parts
            cores += 1

    def as_intel(self) -> list[Part]:
        """Parts as Intel's compiler divides, judged by its logs of PilotNet.

        It starts with one core; while a limit is exceeded it multiplies the number of cores by
        the ratio, rounded up and at least 2. Images are cut into tiles of a power of two of
        columns (and of rows, once one column is too much), counted as if all were full.
        """
        if len(self.shape) != 3:
            cores = 1
            while True:
                parts = self._chunks(ceil(self.size / cores))
                ratio = max(self.worst(part)[1] for part in parts)
                if ratio <= 1 or len(parts) == self.size:
                    return parts
                cores *= max(2, ceil(ratio))
        tile = [self.shape[0], *(1 << (length - 1).bit_length() for length in self.shape[1:])]
        tile[1] = self.shape[1]
        limit = self.chip.limit("neurons_per_core")
        while True:
            parts = self._tiles(tile)
            if prod(tile) <= limit and all(map(self.fits, parts)):
                return parts
            axis = 2 if tile[2] > 1 else 1 if tile[1] > 1 else 0
            if tile[axis] == 1:
                return parts
            tile[axis] = ceil(tile[axis] / 2)

    def hardest_neuron(self) -> Part:
        """The neuron with most synapses."""
        if len(self.shape) == 3:
            # Borders hear less than the middle, and channels as many as their kernels have weights.
            heard = np.zeros(self.shape[0], np.int64)
            for link, _ in self.incoming:
                heard += (link.weights != 0).reshape(self.shape[0], -1).sum(1)
            middle = (int(heard.argmax()), *(length // 2 for length in self.shape[1:]))
            return box_part(self.name, self.shape, tuple((at, at + 1) for at in middle))
        heard = np.zeros(self.size, np.int64)
        for link, _ in self.incoming:
            heard += (link.weights != 0).sum(1)
        return Part(self.name, np.array([int(heard.argmax())]))

    def _divisions(self, cores: int) -> Iterator[list[Part]]:
        """Even divisions into exactly this many parts."""
        if len(self.shape) != 3:
            yield list(self._even(cores))
            return
        for counts in _factors(cores, self.shape):
            cuts = [_cuts(length, count) for length, count in zip(self.shape, counts, strict=True)]
            yield [
                box_part(self.name, self.shape, (channels, rows, columns))
                for channels in cuts[0]
                for rows in cuts[1]
                for columns in cuts[2]
            ]

    def _order(self) -> Integers:
        """Neurons in the order in which lists are cut."""
        if self._sorted and self.population is not None:
            # Neurons that share a threshold register come to lie side by side.
            return np.lexsort(self.population.thresholds.reshape(-1, self.size)[::-1])
        return np.arange(self.size)

    def _even(self, cores: int) -> Iterator[Part]:
        for neurons in np.array_split(self._order(), cores):
            yield Part(self.name, np.sort(neurons))

    def _chunks(self, size: int) -> list[Part]:
        starts = range(0, self.size, size)
        return [Part(self.name, np.arange(s, min(s + size, self.size))) for s in starts]

    def _tiles(self, tile: list[int]) -> list[Part]:
        cuts = [
            [(start, min(start + size, length)) for start in range(0, length, size)]
            for size, length in zip(tile, self.shape, strict=True)
        ]
        return [
            box_part(self.name, self.shape, (channels, rows, columns))
            for channels in cuts[0]
            for rows in cuts[1]
            for columns in cuts[2]
        ]

    def _heard(self, parts: list[Part]) -> int:
        count: Callable[[Part], int] = lambda part: sum(  # noqa: E731
            int(np.count_nonzero(synapses_per_axon(link, source, self.shape, part)))
            for link, source in self.incoming
        )
        return sum(map(count, parts))


def _cuts(length: int, parts: int) -> list[tuple[int, int]]:
    """Even (start, stop) cuts of an axis."""
    edges = [length * index // parts for index in range(parts + 1)]
    return list(pairwise(edges))


def _factors(cores: int, shape: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Ways to cut channels, rows and columns into this many boxes."""
    for channels in range(1, min(cores, shape[0]) + 1):
        if cores % channels:
            continue
        rest = cores // channels
        for rows in range(1, min(rest, shape[1]) + 1):
            if rest % rows == 0 and rest // rows <= shape[2]:
                yield channels, rows, rest // rows
