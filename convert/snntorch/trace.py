"""Any snntorch module as a float network, by running it and recording what it does.

:mod:`~mtspark.convert.snntorch.calling` runs the module for all its time steps on random inputs;
:mod:`~mtspark.convert.snntorch.symbolic` works out what goes into every neuron in every step, as
a sum of linear maps of signals. All steps must do the same. The caller then compares the network
with the recorded run, spike by spike (:mod:`~mtspark.convert.snntorch.verify`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from mtspark.convert.linear import LinearMap, Scale, add, connection, same
from mtspark.convert.snntorch.calling import Recording, record
from mtspark.convert.snntorch.layers import LAYERS
from mtspark.convert.snntorch.neurons import NeuronConstants, neuron_constants
from mtspark.convert.snntorch.readout import Readout, choose_readout
from mtspark.convert.snntorch.values import HEAD, Form, Term, composed
from mtspark.core.arrays import Floats
from mtspark.core.chip_network import INPUT
from mtspark.core.errors import BadInputError, BadNetworkError
from mtspark.core.float_network import (
    CONSTANT,
    FloatConnection,
    FloatInput,
    FloatNetwork,
    FloatOutput,
    FloatPopulation,
    FloatReset,
    OutputKind,
    check_float_network,
    leaky_population,
)
from mtspark.core.geometry import Shape


@dataclass(frozen=True)
class Traced:
    """A module as a float network, and the run that it follows from.

    Attributes:
        network: the float network.
        recording: of the module's own run.
        layers: population name of each of the recording's layers.
    """

    network: FloatNetwork
    recording: Recording
    layers: tuple[str, ...]


@dataclass(frozen=True)
class _Arrow:
    """A term of a layer's input.

    Attributes:
        source: name of a population, or the input.
        late: steps from sending to arriving.
        linear: map in between.
        where: the line of the user's source, for errors.
    """

    source: str
    late: int
    linear: LinearMap
    where: str


def trace_module(
    module: nn.Module,
    *,
    name: str,
    input_shape: Sequence[int],
    time_steps: int | None = None,
    readout: str | None = None,
    lines: dict[int, str] | None = None,
    seed: int = 0,
) -> Traced:
    """Make a float network of a module of snntorch neurons.

    Args:
        module: takes one step, or loops over the steps in its forward; it is set to eval mode.
        name: of the network.
        input_shape: of one step, without batch; 1 to 3 sizes.
        time_steps: T; not needed where the module's own forward says it.
        readout: which layer is read, where the module returns several; default: the last.
        lines: where modules were built, by id (see ``construction_lines``), for errors.
        seed: of the random inputs of the recording.

    Returns:
        The network and the recorded run, to be compared by
        :func:`~mtspark.convert.snntorch.verify.compare_with_recording`.

    Raises:
        BadNetworkError: something that a network for the chip cannot do; the message begins with
            the line of the source and ends with what to write instead.
        BadInputError: the module does not run on inputs of this shape, or T is unknown.
    """
    shape = tuple(int(size) for size in input_shape)
    if not 1 <= len(shape) <= 3 or min(shape, default=0) < 1:
        raise BadInputError(f"input shape {shape}: give 1 to 3 positive sizes, for example 2,34,34")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        recording = record(module, shape, time_steps, lines or {})
    names = _layer_names(recording)
    constants = [
        neuron_constants(calls[0].module, recording.shape(layer), calls[0].where)
        for layer, calls in enumerate(recording.layers)
    ]
    inputs = [_layer_input(recording, names, layer) for layer in range(len(names))]
    arrows = [arrows for arrows, _ in inputs]
    chosen = choose_readout(recording, names, _sinks(names, arrows), readout)
    order = sorted(range(len(names)), key=recording.position)
    populations: list[FloatPopulation] = []
    links: list[FloatConnection] = []
    for layer in order:
        spikes_used = any(arrow.source == names[layer] for row in arrows for arrow in row)
        spikes_used |= constants[layer].recurrent is not None
        silent = (
            chosen.layer == names[layer]
            and chosen.kind is OutputKind.MEMBRANE
            and constants[layer].reset is FloatReset.NONE
            and not spikes_used
        )
        population, recurrent = _population(
            names[layer], recording.shape(layer), constants[layer], inputs[layer][1], silent
        )
        populations.append(population)
        links += [_connection(names[layer], arrow) for arrow in arrows[layer]]
        links += recurrent
    if chosen.form is not None:
        head, head_links = _head(chosen, recording, names)
        populations.append(head)
        links += head_links
    network = FloatNetwork(
        name=name,
        input=FloatInput(_chip_shape(shape)),
        populations=tuple(populations),
        connections=tuple(_named_apart(links)),
        output=FloatOutput(chosen.layer, chosen.kind),
        # A series of any length goes in: only the user can say how long a decision is.
        time_steps=recording.time_steps if recording.held else time_steps or 0,
        notes=(recording.note, *chosen.notes),
    )
    check_float_network(network)
    return Traced(network, recording, tuple(names))


def _layer_names(recording: Recording) -> list[str]:
    names: list[str] = []
    for calls in recording.layers:
        base = calls[0].name
        if base in (INPUT, CONSTANT, HEAD):
            base = f"{base}_neurons"
        count = sum(known.split("#")[0] == base for known in names)
        names.append(f"{base}#{count + 1}" if count else base)
    return names


def _chip_shape(shape: Shape) -> Shape:
    """Images of one row stand for series of channels."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def _layer_input(recording: Recording, names: list[str], layer: int) -> tuple[list[_Arrow], Floats]:
    """What goes into a layer in every step, and the constant added to it.

    Raises:
        BadNetworkError: two steps differ, or the source is one that a chip cannot send.
    """
    calls = recording.layers[layer]
    rows = []
    for step in range(len(calls)):
        form = recording.drive(layer, step)
        row = [_arrow(recording, names, term, step, calls[step].where) for term in form.terms]
        rows.append((_merged(row), form.constant))
    full = rows[-1][0]
    for step, (row, constant) in enumerate(rows):
        expected = [arrow for arrow in full if arrow.late <= step]
        fits = len(row) == len(expected) and all(
            (one.source, one.late) == (two.source, two.late) and same(one.linear, two.linear)
            for one, two in zip(row, expected, strict=True)
        )
        if not fits or not np.allclose(constant, rows[-1][1], rtol=1e-6, atol=1e-9):
            raise BadNetworkError(
                f"{calls[step].where}: time step {step} does something else than time step "
                f"{len(calls) - 1}; a chip does the same in every step"
            )
    return full, rows[-1][1]


def _arrow(recording: Recording, names: list[str], term: Term, step: int, where: str) -> _Arrow:
    source = term.source
    if source.call is None:
        late = 0 if source.step is None else step - source.step
        origin = INPUT
    else:
        layer, sent = recording.place(source.call)
        late, origin = step - sent, names[layer]
        if source.quantity != "spikes":
            raise BadNetworkError(
                f"{term.where or where}: the {source.quantity} of {origin!r} goes into another "
                "layer; a chip's neurons send spikes only: pass the spikes on"
            )
    if late < 0:
        raise BadNetworkError(f"{where}: what {origin!r} sends is used before it is there")
    return _Arrow(origin, late, term.linear, term.where or where)


def _merged(arrows: list[_Arrow]) -> list[_Arrow]:
    """Arrows in a fixed order, those from value to value of equal index added up.

    Others of one source stay apart: each connection has a scale of its own on the chip.
    """
    scales: dict[tuple[str, int], _Arrow] = {}
    rest = []
    for arrow in arrows:
        key = (arrow.source, arrow.late)
        linear: LinearMap | None = arrow.linear
        if not isinstance(linear, Scale):
            rest.append(arrow)
            continue
        if key in scales:
            linear = add(scales[key].linear, linear)
            assert linear is not None
        scales[key] = _Arrow(*key, linear, arrow.where)
    return sorted([*rest, *scales.values()], key=lambda arrow: (arrow.source, arrow.late))


def _sinks(names: list[str], arrows: list[list[_Arrow]]) -> set[str]:
    sending = {
        arrow.source
        for name, row in zip(names, arrows, strict=True)
        for arrow in row
        if arrow.source != name
    }
    return set(names) - sending


def _population(
    name: str, shape: Shape, constants: NeuronConstants, bias: Floats, silent: bool
) -> tuple[FloatPopulation, list[FloatConnection]]:
    """One layer's neurons, and its connections to itself."""
    chip_shape = _chip_shape(shape)
    links: list[FloatConnection] = []
    recurrent = constants.recurrent
    if recurrent is not None:
        linear: LinearMap = Scale(constants.spike_value.reshape(-1))
        extra: Floats | None = None
        if isinstance(recurrent, np.ndarray):
            linear = composed(Scale(recurrent.reshape(-1)), linear, name)
        else:
            weights = (None, recurrent.weight, recurrent.bias)
            dense = isinstance(recurrent, nn.Linear)
            geometry = {} if dense else {"padding": recurrent.padding}
            layer = LAYERS["linear" if dense else "conv2d"]
            back, extra = layer(weights, geometry, shape, name)
            linear = composed(back, linear, name)
        if extra is not None:
            bias = bias + extra.reshape(-1, *[1] * (len(shape) - 1))
        links = [_connection(name, _Arrow(name, 1, linear, name))]
    population = leaky_population(
        name,
        chip_shape,
        membrane_keep=constants.membrane_keep.reshape(chip_shape),
        current_keep=constants.current_keep.reshape(chip_shape),
        thresholds=None if silent else constants.threshold.reshape(1, *chip_shape),
        reset=constants.reset,
        bias_current=np.asarray(bias).reshape(chip_shape),
    )
    return population, links


def _connection(target: str, arrow: _Arrow) -> FloatConnection:
    """An arrow as a connection to a population."""
    name = f"{arrow.source}->{target}" + (f"-{arrow.late}" if arrow.late else "")
    try:
        link = connection(arrow.linear, name, arrow.source, target)
    except BadNetworkError as error:
        raise BadNetworkError(f"{arrow.where}: {error}") from error
    return replace(link, delay=arrow.late)


def _head(
    chosen: Readout, recording: Recording, names: list[str]
) -> tuple[FloatPopulation, list[FloatConnection]]:
    """A population that sums (or, of a last step only, holds) what a last linear layer gives."""
    assert chosen.form is not None
    form: Form = chosen.form
    arrows = [_arrow(recording, names, term, chosen.step, chosen.where) for term in form.terms]
    shape = _chip_shape(form.shape)
    head = leaky_population(
        HEAD,
        shape,
        membrane_keep=0.0 if chosen.last_only else 1.0,
        bias_current=form.constant.reshape(shape),
        reset=FloatReset.NONE,
    )
    return head, [_connection(HEAD, arrow) for arrow in _merged(arrows)]


def _named_apart(links: list[FloatConnection]) -> list[FloatConnection]:
    seen: dict[str, int] = {}
    result = []
    for link in links:
        seen[link.name] = seen.get(link.name, 0) + 1
        number = seen[link.name]
        result.append(replace(link, name=f"{link.name}#{number}") if number > 1 else link)
    return result
