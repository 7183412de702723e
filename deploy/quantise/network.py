"""From a float network to an integer chip network.

With one weight scale s_c per output channel, a float weight is s_c times its integer. All
state of a neuron is measured in that unit: its membrane, its bias and its threshold are divided
by s_c (and by the neuron's input gain), so the scale costs no hardware. Several
connections into one population share its unit; they differ by powers of two, their exponents.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtspark.core.chip_network import (
    ANSWER_FACTOR,
    GIVEN_FLAT,
    ChipNetwork,
    FrameInput,
    Readout,
    ReadoutKind,
    check_network,
)
from mtspark.core.environments import GameProtocol, Task
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network import FloatNetwork, OutputKind
from mtspark.deploy.lower import lower
from mtspark.deploy.quantise.bounds import headroom
from mtspark.deploy.quantise.exact import LayerExactness
from mtspark.deploy.quantise.layer import quantise_layer
from mtspark.deploy.quantise.options import (
    KEEPS_SUMS,
    NEAREST,
    PER_CHANNEL,
    PER_LAYER,
    QuantiseOptions,
)

DEFAULT_STEPS = 100
"""T of a network that states none."""


def quantise(
    network: FloatNetwork,
    tasks: tuple[Task, ...] | None = None,
    protocol: GameProtocol | None = None,
    *,
    name: str | None = None,
    payload_bits: int | None = None,
    held: bool | None = None,
    options: QuantiseOptions | None = None,
    provenance: dict[str, str] | None = None,
) -> ChipNetwork:
    """Quantise a float network to a chip network; :func:`quantise_exactly` says how exactly."""
    chip, _ = quantise_exactly(
        network,
        tasks,
        protocol,
        name=name,
        payload_bits=payload_bits,
        held=held,
        options=options,
        provenance=provenance,
    )
    return chip


def quantise_exactly(
    network: FloatNetwork,
    tasks: tuple[Task, ...] | None = None,
    protocol: GameProtocol | None = None,
    *,
    name: str | None = None,
    payload_bits: int | None = None,
    held: bool | None = None,
    options: QuantiseOptions | None = None,
    provenance: dict[str, str] | None = None,
) -> tuple[ChipNetwork, list[LayerExactness]]:
    """Quantise a float network to a chip network, and tell which neurons lost nothing.

    Args:
        network: all tasks in one, see :func:`mtspark.core.float_network.rules.merge_tasks`.
        tasks: in the order of the threshold rows; None: the network's own, which are no games.
        protocol: of the games; the chip network carries it.
        name: of the chip network; default: the float network's.
        payload_bits: of input messages, 0 (spikes) or 8; default: 8 with `tasks`, else 0.
        held: one frame for all steps rather than a series; default: True with `tasks`.
        options: bits and scales.
        provenance: where the network came from; the chip network carries it.

    Raises:
        BadNetworkError: something that the chip does not have, or a layer whose sums overflow
            with every exponent.
    """
    options = options or QuantiseOptions()
    if not 2 <= options.weight_bits <= 8:
        raise BadNetworkError(f"{options.weight_bits} weight bits: must be 2 to 8")
    own_tasks = tuple(Task(task, "", ()) for task in network.tasks)
    frames = FrameInput(
        shape=(),
        payload_bits=(8 if tasks else 0) if payload_bits is None else payload_bits,
        held=network.stateful or (bool(tasks) if held is None else held),
        # A game's frames are bytes, whatever the network took them for.
        scale=1.0 if protocol is not None else network.input.scale,
        signed=network.input.signed,
    )
    steps = 1 if network.stateful else network.time_steps or DEFAULT_STEPS
    lowered = lower(network)
    populations, connections = [*lowered.helpers], [*lowered.helper_links]
    notes = [*network.notes, *lowered.notes]
    scale, exactness = np.ones(0), []
    for population in lowered.populations:
        layer = quantise_layer(
            population,
            lowered.links[population.name],
            tasks=len(network.tasks),
            input_scale=network.input.scale,
            given=frames,
            steps=None if network.stateful else steps + lowered.depth,
            options=options,
        )
        populations.append(layer.population)
        connections += layer.connections
        notes += layer.notes
        exactness.append(LayerExactness(population.name, layer.exact))
        if population.name == network.output.population:
            scale = layer.membrane_unit
    if network.output.kind is OutputKind.MEAN:
        scale = scale / steps
    counted, factor = network.output.kind is OutputKind.SPIKES, network.output.scale
    flat = len(network.input.shape) == 1 < len(lowered.input_shape)
    chip = ChipNetwork(
        name=name or network.name,
        input=replace(frames, shape=lowered.input_shape),
        populations=tuple(populations),
        connections=tuple(connections),
        readout=Readout(
            network.output.population,
            # The host's part: a chip counts spikes or has membranes, and multiplies neither.
            factor * (np.ones(scale.shape) if counted else scale),
            ReadoutKind.SPIKES if counted else ReadoutKind.MEMBRANE,
        ),
        tasks=tasks or own_tasks,
        time_steps=steps,
        protocol=protocol,
        provenance={
            **(provenance or {}),
            "weight_bits": str(options.weight_bits),
            "weight_scale": PER_CHANNEL if options.per_channel else PER_LAYER,
            "rounding": KEEPS_SUMS if options.keep_sums else NEAREST,
            "notes": "; ".join(notes),
            **({GIVEN_FLAT: "yes"} if flat else {}),
            **({ANSWER_FACTOR: repr(factor)} if factor != 1 else {}),
        },
        stateful=network.stateful,
    )
    check_network(chip)
    _check_proof(chip, options)
    return chip, exactness


def _check_proof(chip: ChipNetwork, options: QuantiseOptions) -> None:
    """What was proven layer by layer holds for the whole network."""
    unproven = []
    for room in headroom(chip):
        recorded = room.population in options.largest_currents
        if not (room.current_proven or recorded) or not (room.proven or options.may_saturate):
            unproven.append(room.population)
    if unproven:
        raise BadNetworkError(f"{chip.name}: sums can overflow in {', '.join(unproven)}")
