"""What a bundle was made of: its float network, and its chip network before ``--prune``.

What no float graph holds of them, the provenance of the chip network does.

A pruned bundle holds the neurons that are left and the float graphs of all of them. So the whole
network, and the places of what is left in it, follow from the bundle: its graphs are quantised and
pruned again, and the result must be the bundle's network, number for number.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from mtspark.core.chip_network import ANSWER_FACTOR, ChipNetwork, network_to_json
from mtspark.core.errors import BadFileError, BadNetworkError, one_line
from mtspark.core.float_network import FloatNetwork
from mtspark.deploy.bundle import Bundle
from mtspark.deploy.prune import PRUNED, prune_network
from mtspark.deploy.quantise import (
    QuantiseOptions,
    choose_palette,
    options_of,
    quantisation_of,
    quantise,
)
from mtspark.sim.compare import Places, SharedPlaces

SIDE_BY_SIDE = "side_by_side"
"""In the provenance of a network in which tasks have neurons of their own."""


def float_side(bundle: Bundle) -> tuple[FloatNetwork, QuantiseOptions]:
    """Return the float network of a bundle, all tasks in one, and how it was quantised.

    Raises:
        BadFileError: the bundle has no graph of one of its tasks, or its options are damaged.
    """
    from mtspark.convert.nir import import_nir_tasks

    names = {task.name: f"graph.{task.name}.nir" for task in bundle.network.tasks}
    missing = [name for name in names.values() if name not in bundle.files]
    if missing:
        raise BadFileError(
            f"{bundle.folder}: has no {missing[0]}, the float network that is compared with"
        )
    paths = {task: bundle.folder / name for task, name in names.items()}
    contents = {task: bundle.content(name) for task, name in names.items()}
    network = import_nir_tasks(paths, name=bundle.network.name, contents=contents)
    factor = _factor_of(bundle)
    if factor != 1:
        network = replace(network, output=replace(network.output, scale=factor))
    return network, options_of(bundle)


def _factor_of(bundle: Bundle) -> float:
    """The number times which a network answers with what is read of it.

    Raises:
        BadFileError: it is none.
    """
    text = bundle.network.provenance.get(ANSWER_FACTOR, "1")
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise BadFileError(
            f"{bundle.folder}: {ANSWER_FACTOR} is {one_line(repr(text), 40)}, not a number above 0"
        )
    return factor


def quantised_again(
    network: FloatNetwork, chip: ChipNetwork, options: QuantiseOptions
) -> ChipNetwork:
    """Quantise the float network of a chip network, for the same tasks and frames.

    Args:
        network: float.
        chip: made of it.
        options: bits and scales, those of `chip` or others.
    """
    return quantise(
        network,
        chip.tasks,
        chip.protocol,
        name=chip.name,
        payload_bits=chip.input.payload_bits,
        held=chip.input.held,
        options=options,
    )


def is_pruned(bundle: Bundle) -> bool:
    """Whether neurons were removed from a bundle's network."""
    return PRUNED in bundle.network.provenance


def whole_network(bundle: Bundle) -> tuple[ChipNetwork, Places]:
    """Return a pruned bundle's network before ``--prune``, and where its neurons stood in it.

    Raises:
        BadFileError: the bundle has no float graph, or these give another network.
    """
    chip = bundle.network
    network, options = float_side(bundle)
    record = quantisation_of(bundle)
    try:
        whole = quantised_again(network, chip, options)
        whole = replace(whole, input=replace(whole.input, encoder=chip.input.encoder))
        if record.palette is not None:
            whole, _ = choose_palette(whole, record.palette, record.palette_chip)
        pruned = prune_network(whole)
    except BadNetworkError as error:
        raise _other(bundle, f" ({error})") from error
    if not _same(pruned.network, chip):
        raise _other(bundle)
    shapes = {population.name: population.shape for population in whole.populations}
    return whole, Places(shapes, pruned.kept)


def places_of(bundle: Bundle) -> Places | None:
    """Return where a pruned bundle's neurons stood before; None of a bundle that has all of them.

    Raises:
        BadFileError: as :func:`whole_network`.
    """
    return whole_network(bundle)[1] if is_pruned(bundle) else None


def shared_places(one: Places | None, other: Places | None) -> SharedPlaces:
    """Return the places in which two sides are compared: none where the same neurons are left."""
    if one is not None and other is not None and one.same_as(other):
        return SharedPlaces()
    return SharedPlaces(one, other)


def _other(bundle: Bundle, reason: str = "") -> BadFileError:
    return BadFileError(
        f"{bundle.folder}: its float graphs give another network than the pruned one when they "
        f"are quantised and pruned again{reason}; export it again with this mtspark"
    )


def _same(one: ChipNetwork, other: ChipNetwork) -> bool:
    (mine, arrays), (theirs, others) = network_to_json(one), network_to_json(other)
    return (
        _what_runs(mine) == _what_runs(theirs)
        and arrays.keys() == others.keys()
        and all(np.array_equal(values, others[name]) for name, values in arrays.items())
    )


def _what_runs(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != "provenance"}
