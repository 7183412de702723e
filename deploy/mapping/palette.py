"""A palette of thresholds for every core, on the cores that a network takes anyway.

Neurons of a list lie in the order of their thresholds, so that a core holds a narrow range of
them and its few registers come close; images keep their boxes. No core is added.
"""

from __future__ import annotations

from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.errors import BadRequestError
from mtspark.deploy.chips.model import ChipModel, load_chip
from mtspark.deploy.mapping.divide import Divider
from mtspark.deploy.quantise.codebook import PaletteCost, with_palette


def choose_palette(
    network: ChipNetwork, profiles: int, chip: str | None = None
) -> tuple[ChipNetwork, list[PaletteCost]]:
    """A palette for each core of a chip, or for each whole population.

    Args:
        network: a chip network.
        profiles: N.
        chip: a name or description's path; None for populations.

    Raises:
        BadRequestError: N below 1 or beyond the chip's registers.
        BadFileError: no such chip, or a malformed description.
    """
    if chip is None:
        return with_palette(network, profiles)
    return palette_by_core(network, load_chip(chip), profiles)


def palette_by_core(
    network: ChipNetwork, chip: ChipModel, profiles: int
) -> tuple[ChipNetwork, list[PaletteCost]]:
    """Give every core of a chip at most `profiles` distinct threshold profiles.

    Args:
        network: a chip network.
        chip: whose cores the populations are divided over, as few as fit.
        profiles: N; no more than the chip's registers, if it has any.

    Returns:
        The network with other thresholds, and the cost for each population.

    Raises:
        BadRequestError: N below 1 or beyond the chip's registers.
    """
    registers = chip.limit("thresholds_per_core")
    if registers is not None and profiles > registers:
        raise BadRequestError(
            f"a palette of {profiles} profiles on {chip.name}: a core holds {registers}; ask for "
            "so many or fewer"
        )
    cores = {}
    for population in network.populations:
        divider = Divider(
            network, population.name, chip, spread_thresholds=False, sort_thresholds=True
        )
        parts = divider.fewest() or divider.by_neurons()
        cores[population.name] = [part.neurons for part in parts]
    return with_palette(network, profiles, cores)
