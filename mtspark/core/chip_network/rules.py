"""The rules of a chip network, as small functions named as sentences.

Each yields one text a violation: object, actual value, limit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mtspark.core.arithmetic import (
    BIAS_EXPONENTS,
    BIAS_LIMIT,
    CURRENT_LIMIT,
    DECAY_ONE,
    DELAYS,
    THRESHOLD_LIMIT,
    WEIGHT_EXPONENTS,
)
from mtspark.core.chip_network.encoding import Encoder
from mtspark.core.chip_network.network import (
    INPUT,
    ChipNetwork,
    Connection,
    SignMode,
)
from mtspark.core.errors import BadNetworkError
from mtspark.core.geometry import conv_geometry


def check_network(network: ChipNetwork) -> None:
    """Check every rule of the representation and report all violations together.

    Raises:
        BadNetworkError: one line that lists each violation.
    """
    broken = violations(network)
    if broken:
        raise BadNetworkError(f"{network.name}: " + "; ".join(broken))


def violations(network: ChipNetwork) -> list[str]:
    """All violations of all rules; the shape rules come first and alone if they fail."""
    structural = [text for rule in STRUCTURE_RULES for text in rule(network)]
    return structural or [text for rule in VALUE_RULES for text in rule(network)]


def check_sent_every_step(network: ChipNetwork, receiver: str) -> None:
    """Refuse a network that keeps sums of its frame, for something without such neurons.

    Args:
        network: of a bundle.
        receiver: names what receives the frame, in the error.

    Raises:
        BadNetworkError: its encoder is not every-step.
    """
    encoder = network.input.encoder
    if encoder is not Encoder.EVERY_STEP:
        raise BadNetworkError(
            f"{network.name}: {receiver} has no neurons that keep the sum of a frame, which "
            f"encoder {encoder.value} needs; export with --encoder {Encoder.EVERY_STEP.value}"
        )


def names_are_unique(network: ChipNetwork) -> Iterator[str]:
    """Populations, connections and the input are told apart by name."""
    names = [INPUT, *(p.name for p in network.populations)]
    names += [c.name for c in network.connections]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"name {name!r} is used {names.count(name)} times, once is the limit"


def connections_join_known_populations(network: ChipNetwork) -> Iterator[str]:
    """Both ends of a connection exist, and so does the readout's population."""
    known = {population.name for population in network.populations}
    for link in network.connections:
        if link.source not in known | {INPUT}:
            yield f"connection {link.name!r} starts at unknown {link.source!r}"
        if link.target not in known:
            yield f"connection {link.name!r} ends at unknown {link.target!r}"
    if network.readout.population not in known:
        yield f"readout of unknown population {network.readout.population!r}"


def steps_and_tasks_are_positive(network: ChipNetwork) -> Iterator[str]:
    """There is at least one step and one task."""
    if network.time_steps < 1:
        yield f"{network.time_steps} time steps a decision, at least 1 is needed"
    if not network.tasks:
        yield "no task, at least 1 is needed"


def tasks_differ_by_name_and_have_actions_of_the_readout(network: ChipNetwork) -> Iterator[str]:
    """Task names are unique and every legal action has an output."""
    names = [task.name for task in network.tasks]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"task {name!r} is listed {names.count(name)} times, once is the limit"
    for population in network.populations:
        if population.name != network.readout.population:
            continue
        for task in network.tasks:
            if max(task.legal_actions, default=0) >= population.size:
                yield (
                    f"task {task.name!r} has action {max(task.legal_actions)}, the readout has "
                    f"{population.size} outputs"
                )


def arrays_have_the_declared_shapes(network: ChipNetwork) -> Iterator[str]:
    """Thresholds, biases, weights and readout scales fit the populations."""
    shapes = {p.name: p.shape for p in network.populations} | {INPUT: network.input.shape}
    for population in network.populations:
        wanted = (len(network.tasks), *population.shape)
        if population.thresholds.shape != wanted:
            yield (
                f"population {population.name!r}: thresholds {population.thresholds.shape}, "
                f"must be {wanted}"
            )
        for kind, value in (
            ("current", population.current_decay),
            ("membrane", population.membrane_decay),
        ):
            if not isinstance(value, int) and value.shape != population.shape:
                yield (
                    f"population {population.name!r}: {kind} decays {value.shape}, must be one "
                    f"number or {population.shape}"
                )
        if population.bias_mantissa.shape != population.shape:
            yield (
                f"population {population.name!r}: biases {population.bias_mantissa.shape}, "
                f"must be {population.shape}"
            )
    for link in network.connections:
        if link.source not in shapes or link.target not in shapes:
            continue
        output = _output_shape(link, shapes[link.source])
        target = shapes[link.target]
        if output != (target if link.kind.convolves else (int(np.prod(target)),)):
            yield f"connection {link.name!r}: makes {output or 'nothing'}, its target is {target}"
    actions = shapes.get(network.readout.population)
    if actions is not None and network.readout.scale.shape != actions:
        yield f"readout scale {network.readout.scale.shape}, its population is {actions}"


def _output_shape(link: Connection, source: tuple[int, ...]) -> tuple[int, ...] | None:
    if not link.kind.convolves:
        fits = link.weights.ndim == 2 and link.weights.shape[1] == int(np.prod(source))
        return (link.weights.shape[0],) if fits else None
    geometry = conv_geometry(link, source, link.weights.shape)
    return None if geometry is None else geometry.output_shape


def weights_lie_on_the_grid_of_their_sign_mode(network: ChipNetwork) -> Iterator[str]:
    """Weights have the range and the step that their sign mode and bits allow."""
    for link in network.connections:
        if not 1 <= link.weight_bits <= 8:
            yield f"connection {link.name!r}: {link.weight_bits} weight bits, 1 to 8 exist"
            continue
        mixed = link.sign_mode is SignMode.MIXED
        step = 2 ** (8 - link.weight_bits + (1 if mixed else 0))
        lowest = {SignMode.MIXED: -256, SignMode.EXCITATORY: 0, SignMode.INHIBITORY: -255}
        highest = {SignMode.MIXED: 254, SignMode.EXCITATORY: 255, SignMode.INHIBITORY: 0}
        low, high = lowest[link.sign_mode], highest[link.sign_mode]
        if link.weights.size and (link.weights.min() < low or link.weights.max() > high):
            yield (
                f"connection {link.name!r}: weights {link.weights.min()}..{link.weights.max()}, "
                f"{link.sign_mode.value} ones are {low}..{high}"
            )
        elif np.any(link.weights % step):
            yield f"connection {link.name!r}: weights must be multiples of {step}"


def exponents_exist_on_the_chip(network: ChipNetwork) -> Iterator[str]:
    """Weight and bias exponents have the chip's bits."""
    for link in network.connections:
        if link.exponent not in WEIGHT_EXPONENTS:
            yield f"connection {link.name!r}: exponent {link.exponent}, -8 to 7 exist"
    for population in network.populations:
        if population.bias_exponent not in BIAS_EXPONENTS:
            yield (
                f"population {population.name!r}: bias exponent {population.bias_exponent}, "
                "0 to 7 exist"
            )


def decays_thresholds_and_biases_are_in_range(network: ChipNetwork) -> Iterator[str]:
    """Neuron constants have the chip's bits."""
    for population in network.populations:
        where = f"population {population.name!r}"
        for kind, value, largest in (
            ("current", population.current_decay, DECAY_ONE - 1),
            ("membrane", population.membrane_decay, DECAY_ONE),
        ):
            low, high = int(np.min(value)), int(np.max(value))
            if low < 0 or high > largest:
                decay = str(low) if low == high else f"{low}..{high}"
                yield f"{where}: {kind} decay {decay}, 0 to {largest} exist"
        thresholds = population.thresholds
        if thresholds.min() < 0 or thresholds.max() > THRESHOLD_LIMIT:
            yield (
                f"{where}: thresholds {thresholds.min()}..{thresholds.max()}, "
                f"0 to {THRESHOLD_LIMIT} exist"
            )
        biases = population.bias_mantissa
        if biases.min() < -BIAS_LIMIT or biases.max() > BIAS_LIMIT:
            yield (
                f"{where}: bias mantissas {biases.min()}..{biases.max()}, "
                f"{-BIAS_LIMIT} to {BIAS_LIMIT} exist"
            )


def delays_exist_on_the_chip(network: ChipNetwork) -> Iterator[str]:
    """A message waits 0 to 62 further steps."""
    for link in network.connections:
        if link.delay not in DELAYS:
            yield f"connection {link.name!r}: delay {link.delay}, 0 to {DELAYS[-1]} exist"


def payloads_exist_on_the_chip(network: ChipNetwork) -> Iterator[str]:
    """Inputs are binary, or graded with 8 bits."""
    if network.input.payload_bits not in (0, 8):
        yield f"input payload of {network.input.payload_bits} bits, 0 (binary) and 8 exist"
    elif network.input.signed and not network.input.payload_bits:
        yield "the input sends spikes, which have no sign"


def depths_are_defined(network: ChipNetwork) -> Iterator[str]:
    """Sources come before targets and branches that meet have equal depth."""
    try:
        _ = network.depths
    except BadNetworkError as error:
        yield str(error)


def scales_are_finite(network: ChipNetwork) -> Iterator[str]:
    """Inputs and action values are numbers."""
    if not np.isfinite(network.readout.scale).all():
        yield "readout scale has values that are not finite"
    if not (np.isfinite(network.input.scale) and network.input.scale > 0):
        yield f"input scale {network.input.scale}, a positive number is needed"


def games_have_a_protocol(network: ChipNetwork) -> Iterator[str]:
    """A network that plays says how its games are played."""
    games = [task.name for task in network.tasks if task.is_ale]
    if games and network.protocol is None:
        yield f"task {games[0]!r} is a game, and no protocol says how it is played"


def environments_show_what_the_input_takes(network: ChipNetwork) -> Iterator[str]:
    """A frame of an environment has the shape and the kind of the input."""
    given = network.input
    for task in network.tasks:
        if task.environment is None:
            continue
        seen = task.environment.found
        if seen.shape != given.shape or seen.graded != given.signed or not given.held:
            yield (
                f"task {task.name!r} shows {seen.shape} of kind {seen.kind}, which the input of "
                f"shape {given.shape} does not take"
            )


def encoders_hold_a_frame_whose_sums_fit(network: ChipNetwork) -> Iterator[str]:
    """Only a frame can be held, from the first synapse on, in sums of the chip's 24 bits."""
    encoder = network.input.encoder
    if encoder is Encoder.EVERY_STEP:
        return
    if not network.input.held:
        yield f"the input is a series of slices, encoder {encoder.value} holds one frame"
        return
    if not network.input.payload_bits:
        yield f"the input sends spikes, encoder {encoder.value} sends values"
        return
    largest = network.input.largest_message
    for link in network.connections:
        if link.source != INPUT:
            continue
        if link.recurrent:
            yield f"connection {link.name!r} closes a loop, encoder {encoder.value} has none"
        rows = link.weights.reshape(len(link.weights), -1)
        sums = np.maximum(np.maximum(rows, 0).sum(1), -np.minimum(rows, 0).sum(1))
        if network.input.signed:
            sums = np.abs(rows).sum(1)
        most = int(sums.max(initial=0)) * largest
        if most >= CURRENT_LIMIT:
            yield (
                f"connection {link.name!r}: a frame's sum can reach {most:,}, encoder "
                f"{encoder.value} holds less than {CURRENT_LIMIT:,}"
            )


def stateful_networks_take_one_frame_a_decision(network: ChipNetwork) -> Iterator[str]:
    """State survives decisions of one step, and of the input only its last frame is known."""
    if not network.stateful:
        return
    if network.time_steps != 1:
        yield f"{network.time_steps} time steps a decision, a stateful network has 1"
    if not network.input.held:
        yield "the input is a series of slices, a stateful network takes one frame a decision"
    for link in network.connections:
        if link.recurrent and link.source == INPUT:
            yield (
                f"connection {link.name!r} brings frames of earlier decisions, a stateful network "
                "has only its populations to remember"
            )


STRUCTURE_RULES = (
    names_are_unique,
    connections_join_known_populations,
    delays_exist_on_the_chip,
    steps_and_tasks_are_positive,
    tasks_differ_by_name_and_have_actions_of_the_readout,
    arrays_have_the_declared_shapes,
    depths_are_defined,
    stateful_networks_take_one_frame_a_decision,
)
VALUE_RULES = (
    weights_lie_on_the_grid_of_their_sign_mode,
    exponents_exist_on_the_chip,
    decays_thresholds_and_biases_are_in_range,
    payloads_exist_on_the_chip,
    scales_are_finite,
    encoders_hold_a_frame_whose_sums_fit,
    games_have_a_protocol,
    environments_show_what_the_input_takes,
)
