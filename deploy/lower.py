"""From layer-synchronous time to chip time: depths, delays, shapes and helper neurons.

Weights stay float. A connection of delay D (in layer time) from depth s to depth t becomes a chip
connection of delay t - s - 1 + D, so depths must satisfy t >= s + 1 - D; the smallest ones are
taken. A connection with D = 0 defines depth; any other is marked recurrent, which delivers only
what its source sent in its own window of the same decision: nothing before its first step.
Where state survives decisions, a step of layer time is a decision of L + 1 steps, and the delay
becomes D (L + 1) + t - s - 1: no loop is tighter than its synapses.

Two helper neurons are added where they are needed. "constant" fires in every step, which brings a
bias into a current that has memory, or a delayed bias. "onset" fires in the first step only,
which brings an initial state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import DECAY_ONE, DELAYS
from mtspark.core.chip_network import INPUT, Connection, ConnectionKind, Population, SignMode
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network import (
    CONSTANT,
    FloatConnection,
    FloatKind,
    FloatNetwork,
    FloatPopulation,
    FloatReset,
    OutputKind,
    convolve,
)
from mtspark.core.geometry import ConvParameters

ONSET = "onset"
HELPERS = (CONSTANT, ONSET)

MATRIX_VALUES = 2**25
"""Largest number of weights of a matrix that is built here (256 MiB)."""

SMALLEST_GAIN = 1e-100
"""Below this input gain a neuron counts as unconnected; dividing by it could leave float64."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ChipLink(ConvParameters):
    """A chip connection whose weights are still float; fields as in ``Connection``."""

    name: str
    source: str
    target: str
    kind: ConnectionKind
    weights: NDArray[np.float64]
    delay: int = 0
    recurrent: bool = False


@dataclass
class Lowered:
    """A network in chip time, before rounding.

    Attributes:
        input_shape: of the source of messages.
        populations: in the order of computation, with the shapes that the chip gives them.
        links: by target population.
        helpers: finished helper populations, before all others.
        helper_links: their connections.
        depth: of the deepest population.
        notes: sentences for the user.
    """

    input_shape: Shape
    depth: int
    populations: list[FloatPopulation] = field(default_factory=list)
    links: dict[str, list[ChipLink]] = field(default_factory=dict)
    helpers: list[Population] = field(default_factory=list)
    helper_links: list[Connection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def lower(network: FloatNetwork) -> Lowered:
    """Bring a float network into chip time.

    Raises:
        BadNetworkError: something that the chip does not have, with what to do instead.
    """
    network = replace(
        network,
        populations=tuple(_raised(network, population) for population in network.populations),
    )
    _refuse_what_the_chip_lacks(network)
    links = [link for link in network.connections if np.any(link.weights)]
    links += _helper_connections(network)
    needed = [name for name in HELPERS if any(link.source == name for link in links)]
    if ONSET in needed and CONSTANT not in needed:
        needed.insert(0, CONSTANT)
    unanchored = _without_undelayed_input(network, links)
    if unanchored and CONSTANT not in needed:
        needed.insert(0, CONSTANT)
    links += [_silent(name, network) for name in unanchored]
    if network.stateful:
        _refuse_what_no_episode_has(network, needed)
    depths = _depths(network, links, needed)
    whole = max(depths.values()) + 1 if network.stateful else 1
    shapes, links = _chip_shapes(network, links)
    lowered = Lowered(shapes[INPUT], max(depths.values()))
    for population in network.populations:
        lowered.populations.append(_reshaped(population, shapes[population.name]))
        lowered.links[population.name] = [
            _in_chip_time(link, depths, whole) for link in links if link.target == population.name
        ]
    _add_helpers(lowered, needed, len(network.tasks), int(np.prod(network.input.shape)))
    return lowered


def _raised(network: FloatNetwork, population: FloatPopulation) -> FloatPopulation:
    """Raise thresholds that the chip lacks, and the membrane with them, where nothing lasts.

    A membrane that keeps nothing is what arrives in its step, so a bias shifts it as a whole.
    """
    thresholds = population.thresholds
    if thresholds is None or population.reset not in (FloatReset.ZERO, FloatReset.NONE):
        return population
    lowest = thresholds.min(0)
    too_low = (lowest < 0) | ((lowest == 0) & population.fires_at_threshold)
    too_low &= population.membrane_keep == 0
    if not too_low.any():
        return population
    strongest = max(
        [float(np.abs(link.weights).max(initial=0)) for link in network.incoming(population.name)],
        default=0.0,
    )
    enough = np.abs(population.gain) * strongest
    raised = np.where(lowest < 0, -2 * lowest, np.where(enough > 0, enough, 1.0))
    raised = np.where(too_low, raised, 0.0)
    return replace(
        population,
        thresholds=thresholds + raised,
        membrane_bias=population.membrane_bias + raised,
        membrane_offset=population.membrane_offset - raised,
    )


def _refuse_what_no_episode_has(network: FloatNetwork, helpers: list[str]) -> None:
    """Refuse what a network whose state survives decisions cannot have."""
    if network.output.kind is OutputKind.MEAN:
        raise BadNetworkError(
            f"output {network.output.population!r} is the mean of several steps, and state "
            "survives decisions of one step; read a membrane that leaks, or spikes"
        )
    if ONSET in helpers:
        raise BadNetworkError(
            "a state that does not begin at 0, where state survives decisions; start it at zero"
        )
    for link in network.connections:
        if link.delay and link.source == INPUT:
            raise BadNetworkError(
                f"connection {link.name!r} brings inputs of earlier decisions; only populations "
                "remember where state survives decisions"
            )


def _refuse_what_the_chip_lacks(network: FloatNetwork) -> None:
    for population in network.populations:
        name, thresholds = population.name, population.thresholds
        if not math.prod(population.shape):
            raise BadNetworkError(f"population {name!r}: has no neurons (shape {population.shape})")
        if population.reset is FloatReset.ZERO_LATE and population.spiking:
            raise BadNetworkError(
                f"population {name!r}: a reset to zero that also drops the next step's input "
                "(snntorch's Synaptic, RLeaky and RSynaptic with reset_delay=True) does not exist "
                "on the chip; train with reset_delay=False or reset_mechanism='subtract'"
            )
        if population.reset is FloatReset.SUBTRACT_GUARDED and thresholds is not None:
            reaches = np.greater_equal if population.fires_at_threshold else np.greater
            if reaches(population.initial_membrane, thresholds).any():
                raise BadNetworkError(
                    f"population {name!r}: a membrane starts at its threshold, where the guarded "
                    "reset of the chip guards nothing in its first step; use --start zero"
                )
        if np.any(population.current_keep == 1):
            raise BadNetworkError(
                f"population {name!r}: a current that never decays does not exist on the chip; "
                "give it an alpha below 1 (of snntorch), or a finite tau_syn (of NIR)"
            )
        if np.any(np.abs(population.gain) < SMALLEST_GAIN):
            raise BadNetworkError(f"population {name!r} has neurons that hear nothing (r is 0)")
        if thresholds is not None:
            lowest = float(thresholds.min())
            if lowest < 0:
                raise BadNetworkError(
                    f"population {name!r}: threshold {lowest:g} is below the reset value; "
                    "0 is the lowest on the chip"
                )
            if lowest == 0 and population.fires_at_threshold:
                raise BadNetworkError(
                    f"population {name!r}: a neuron fires at threshold 0, which its reset leaves "
                    "it at; the chip fires above 0 only"
                )
        if np.any(population.initial_membrane) and population.has_current_memory:
            remedy = ""
            if not np.any(population.membrane_bias):
                remedy = "; use --start rest"
            elif not np.any(population.membrane_offset):
                remedy = "; use --start zero"
            raise BadNetworkError(
                f"population {name!r}: current-based neurons start at their reset value on the "
                f"chip, these start elsewhere (v_leak and v_reset are not both 0){remedy}"
            )
    for link in network.connections:
        source = link.source
        if source not in (INPUT, CONSTANT) and not network.population(source).spiking:
            raise BadNetworkError(
                f"population {source!r} does not fire and feeds {link.target!r}: only spikes "
                "travel between populations of the chip; put spiking neurons there"
            )


def _helper_connections(network: FloatNetwork) -> list[FloatConnection]:
    """Biases of currents with memory from "constant", initial states from "onset"."""
    added = []
    for population in network.populations:
        columns = {CONSTANT: np.zeros(population.size), ONSET: np.zeros(population.size)}
        if population.has_current_memory:
            columns[CONSTANT] += population.bias_current.reshape(-1)
            start = population.current_keep * population.initial_current
        else:
            start = population.membrane_keep * population.initial_membrane / population.gain
        columns[ONSET] += start.reshape(-1)
        for source, column in columns.items():
            if np.any(column):
                name = f"{source}->{population.name}"
                taken = {link.name for link in network.connections}
                while name in taken:
                    name += "_"
                added.append(
                    FloatConnection(name, source, population.name, FloatKind.DENSE, column[:, None])
                )
    return added


def _without_undelayed_input(network: FloatNetwork, links: Iterable[FloatConnection]) -> list[str]:
    """Populations whose depth nothing defines: all their connections have delay, or none is."""
    fed = {link.target for link in links if link.delay == 0}
    return [population.name for population in network.populations if population.name not in fed]


def _silent(name: str, network: FloatNetwork) -> FloatConnection:
    weights = np.zeros((network.population(name).size, 1))
    return FloatConnection(f"depth of {name}", CONSTANT, name, FloatKind.DENSE, weights)


def _depths(
    network: FloatNetwork, links: list[FloatConnection], helpers: list[str]
) -> dict[str, int]:
    """The smallest depth of every population.

    Raises:
        BadNetworkError: a loop that is tighter than its synapses, or a delay beyond the chip's.
    """
    depths = {INPUT: 0}
    if helpers:
        depths[CONSTANT] = 1
    if ONSET in helpers:
        depths[ONSET] = 1
    names = [population.name for population in network.populations]
    depths.update(dict.fromkeys(names, 1))
    deeper: dict[str, str] = {}
    changed: str | None = None
    for _ in range(len(names) + 1):
        changed = None
        for link in links:
            if network.stateful and link.delay:
                continue
            wanted = depths[link.source] + 1 - link.delay
            if wanted > depths[link.target]:
                depths[link.target], deeper[link.target] = wanted, link.source
                changed = link.target
        if changed is None:
            break
    if changed is not None:
        _refuse_loop(changed, deeper, links)
    read = network.output.population
    if network.output.kind is not OutputKind.SPIKES and all(link.source != read for link in links):
        # Membranes are read at the end of the decision, which must be the end of their window.
        depths[read] = max(depths.values())
    whole = max(depths.values()) + 1 if network.stateful else 1
    for link in links:
        steps = depths[link.target] - depths[link.source] - 1 + link.delay * whole
        if steps not in DELAYS:
            raise BadNetworkError(
                f"connection {link.name!r} needs a delay of {steps} steps on the chip, "
                f"{DELAYS[-1]} is the limit; shorten the delay or the parallel branch"
            )
    return depths


def _refuse_loop(start: str, deeper: dict[str, str], links: list[FloatConnection]) -> None:
    name = start
    for _ in deeper:
        name = deeper[name]
    loop = [name]
    while deeper[loop[-1]] != name:
        loop.append(deeper[loop[-1]])
    loop.reverse()
    delay = 0
    for source, target in zip([loop[-1], *loop[:-1]], loop, strict=True):
        delay += min(link.delay for link in links if (link.source, link.target) == (source, target))
    missing = len(loop) - delay
    raise BadNetworkError(
        f"loop {' -> '.join([*loop, loop[0]])} is tighter than its synapses: it has {len(loop)} "
        f"of them and {delay} step(s) of delay, and each synapse takes a step on the chip; put "
        f"{missing} more step(s) of Delay into the loop (and train with them), or join its layers"
    )


def _chip_shapes(
    network: FloatNetwork, links: list[FloatConnection]
) -> tuple[dict[str, Shape], list[FloatConnection]]:
    """Shapes that convolutions ask for; other signals are flat unless they are images.

    A convolution whose ends already have another shape becomes a matrix.
    """
    shapes: dict[str, Shape] = {}
    kept = []
    for link in links:
        if link.kind is not FloatKind.CONV:
            kept.append(link)
            continue
        ends = {link.source: link.input_shape, link.target: link.output_shape}
        same_population = link.source == link.target and link.input_shape != link.output_shape
        if same_population or any(shapes.get(n, shape) != shape for n, shape in ends.items()):
            kept.append(_as_matrix(link))
        else:
            shapes.update(ends)
            kept.append(link)
    own: dict[str, Shape] = {p.name: p.shape for p in network.populations}
    own[INPUT] = network.input.shape
    for name, shape in own.items():
        if name not in shapes:
            shapes[name] = shape if len(shape) in (1, 3) else (int(np.prod(shape)),)
    return shapes, [_without_diagonal(link, shapes) for link in kept]


def _as_matrix(link: FloatConnection) -> FloatConnection:
    inputs, outputs = int(np.prod(link.input_shape)), int(np.prod(link.output_shape))
    _check_matrix(link.name, outputs, inputs)
    images = np.eye(inputs).reshape(inputs, *link.input_shape)
    geometry = link.geometry
    assert geometry is not None, "the network is checked"
    weights = convolve(geometry, link.weights, images).reshape(inputs, outputs).T
    return FloatConnection(
        link.name, link.source, link.target, FloatKind.DENSE, weights, delay=link.delay
    )


def _check_matrix(name: str, outputs: int, inputs: int) -> None:
    if outputs * inputs > MATRIX_VALUES:
        raise BadNetworkError(
            f"connection {name!r} would be a matrix of {outputs} x {inputs}, {MATRIX_VALUES} "
            "weights are the limit; use shapes that one convolution can join"
        )


def _without_diagonal(link: FloatConnection, shapes: dict[str, Shape]) -> FloatConnection:
    """One weight a neuron: a 1 x 1 convolution of its own for each channel, or a matrix."""
    if link.kind is not FloatKind.DIAGONAL:
        return link
    shape = shapes[link.target]
    if len(shape) == 3 and shapes[link.source] == shape:
        rows = link.weights.reshape(shape[0], -1)
        if np.all(rows == rows[:, :1]):
            return replace(
                link,
                kind=FloatKind.CONV,
                weights=rows[:, :1].reshape(-1, 1, 1, 1),
                input_shape=shape,
                output_shape=shape,
                groups=shape[0],
            )
    _check_matrix(link.name, len(link.weights), len(link.weights))
    return replace(link, kind=FloatKind.DENSE, weights=np.diag(link.weights))


def _in_chip_time(link: FloatConnection, depths: dict[str, int], whole: int) -> ChipLink:
    kind = ConnectionKind.DENSE if link.kind is FloatKind.DENSE else ConnectionKind.CONV
    return ChipLink(
        name=link.name,
        source=link.source,
        target=link.target,
        kind=kind,
        weights=link.weights,
        **link.conv_fields,
        delay=depths[link.target] - depths[link.source] - 1 + link.delay * whole,
        recurrent=link.delay > 0,
    )


def _reshaped(population: FloatPopulation, shape: Shape) -> FloatPopulation:
    fields = {
        key: value.reshape(shape)
        for key, value in vars(population).items()
        if isinstance(value, np.ndarray) and key != "thresholds"
    }
    if population.thresholds is not None:
        fields["thresholds"] = population.thresholds.reshape(-1, *shape)
    return FloatPopulation(**{**vars(population), **fields, "shape": shape})


def _add_helpers(lowered: Lowered, needed: list[str], tasks: int, inputs: int) -> None:
    for name in needed:
        lowered.helpers.append(
            Population(
                name=name,
                shape=(1,),
                current_decay=DECAY_ONE - 1,
                membrane_decay=DECAY_ONE,
                thresholds=np.zeros((tasks, 1), np.int64),
                bias_mantissa=np.ones(1, np.int64),
            )
        )
        # Weightless: it only says at which depth the helper stands.
        lowered.helper_links.append(_helper_link(INPUT, name, np.zeros((1, inputs)), False))
    if ONSET in needed:
        # From its second step on, the constant outweighs the bias of 1.
        lowered.helper_links.append(_helper_link(CONSTANT, ONSET, np.full((1, 1), -2.0), True))
    if CONSTANT in needed:
        lowered.notes.append(
            "a neuron that always fires brings biases into currents with memory, sets depths, "
            "or both"
        )


def _helper_link(
    source: str, target: str, weights: NDArray[np.float64], recurrent: bool
) -> Connection:
    return Connection(
        name=f"{source}->{target}",
        source=source,
        target=target,
        kind=ConnectionKind.SPARSE,
        weights=weights.astype(np.int64),
        sign_mode=SignMode.MIXED,
        recurrent=recurrent,
    )
