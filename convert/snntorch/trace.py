"""Any snntorch module as a float network, by running it and recording what it does.

:mod:`~mtspark.convert.snntorch.calling` runs the module for all its time steps on random inputs;
:mod:`~mtspark.convert.snntorch.symbolic` works out what goes into every neuron in every step, as
a sum of linear maps of signals. All steps must do the same. The caller then compares the network
with the recorded run, spike by spike (:mod:`~mtspark.convert.snntorch.verify`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtspark.convert.linear import LinearMap, Scale, add, connection, same
from mtspark.convert.snntorch.calling import EPISODE, Feed, Recording, record
from mtspark.convert.snntorch.layers import LAYERS
from mtspark.convert.snntorch.maxima import windows
from mtspark.convert.snntorch.names import layer_names
from mtspark.convert.snntorch.neurons import NeuronConstants, neuron_constants
from mtspark.convert.snntorch.pools import add_pools
from mtspark.convert.snntorch.readout import Readout, choose_readout, returned
from mtspark.convert.snntorch.recorder import NeuronCall, Node
from mtspark.convert.snntorch.values import (
    HEAD,
    Form,
    InputValues,
    NeedsSpikesError,
    PoolCall,
    Term,
    composed,
)
from mtspark.core.arithmetic import DECAY_ONE
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
class Exchanged:
    """A layer whose neurons fire before their max pool instead of behind it.

    Attributes:
        layer: name of the pooled spikes, as the module has them.
        unpooled: name of the neurons, one for each value before the pool.
        shape: of those values, without batch.
        neurons: the module's own, one for each value behind it.
        pools: the recorded maxima, in order.
    """

    layer: str
    unpooled: str
    shape: Shape
    neurons: FloatPopulation
    pools: tuple[Node, ...]


@dataclass(frozen=True)
class Traced:
    """A module as a float network, and the run that it follows from.

    Attributes:
        network: the float network.
        recording: of the module's own run.
        layers: population name of each of the recording's layers.
        exchanged: layers that fire before their max pool, an approximation.
        summed: population that adds up the membranes of a layer of its name, if there is one.
        answer: the tensors that the module returned as its answer, one a call, or one a step of a
            list.
    """

    network: FloatNetwork
    recording: Recording
    layers: tuple[str, ...]
    exchanged: tuple[Exchanged, ...] = ()
    summed: str | None = None
    answer: tuple[Tensor, ...] = ()


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
    input_spike: float | None = 1.0,
    exchange_pools: bool = False,
    stateful: bool = False,
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
        input_spike: value of a spike of the input; None where its messages are values. A maximum
            of spikes is exact, one of values is not.
        exchange_pools: let neurons behind a maximum of currents fire before it, an approximation
            that :attr:`Traced.exchanged` lists, rather than refuse it.
        stateful: a step is a decision, and state survives it; `time_steps` is then the length of
            the recorded episode.

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

    recorded = time_steps or (EPISODE if stateful else None)

    def attempt(spikes: bool) -> Traced:
        feed = Feed(InputValues(input_spike, recorded=spikes), exchange_pools, stateful)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            recording = record(module, shape, recorded, lines or {}, feed)
        # A layer of nn.Sequential may also be named by its number.
        named = readout if readout is None else layer_names(module).get(readout, readout)
        # A series of any length goes in: only the user can say how long a decision is.
        steps = recording.time_steps if recording.held else time_steps or 0
        return _network_of(recording, name, shape, None if stateful else steps, named)

    try:
        with _drawing_named():
            return attempt(False)
    except NeedsSpikesError:
        with _drawing_named():
            return attempt(True)


@contextmanager
def _drawing_named() -> Iterator[None]:
    """Have a refusal say that forward draws random numbers which torch does not see.

    Raises:
        BadNetworkError: that of the block, with who drew numbers meanwhile.
    """
    before = _drawn()
    try:
        yield
    except BadNetworkError as error:
        now = _drawn()
        names = " and ".join(name for name in now if now[name] != before[name])
        if not names or isinstance(error, NeedsSpikesError):
            raise
        raise type(error)(
            f"{error}; {names} draws random numbers inside forward, which no chip does: draw them "
            "before the network, as a part of its input"
        ) from error


def _drawn() -> dict[str, Any]:
    """The states of the generators that torch's functions do not use."""
    _, keys, place, *_ = np.random.get_state()
    return {
        "Python's random": random.getstate(),
        "numpy.random": (np.asarray(keys).tobytes(), place),
    }


def _network_of(
    recording: Recording, name: str, shape: Shape, time_steps: int | None, readout: str | None
) -> Traced:
    """The float network that does what was recorded; without T, a step is a decision."""
    own = [
        neuron_constants(call.module, recording.shape(layer), call.where)
        for layer, (call, *_) in enumerate(recording.layers)
        if isinstance(call, NeuronCall)
    ]
    add_pools(recording, (value for values in returned(recording) for value in values))
    names = _layer_names(recording)
    constants = [*own, *(_of_pool(call.threshold) for call in _pool_calls(recording))]
    inputs = [_layer_input(recording, names, layer) for layer in range(len(names))]
    arrows = [arrows for arrows, _ in inputs]
    stateful = time_steps is None
    sinks = _sinks(names, arrows)
    chosen = choose_readout(recording, names, sinks, readout, stateful=stateful)
    order = sorted(range(len(names)), key=recording.position)
    populations: list[FloatPopulation] = []
    links: list[FloatConnection] = []
    exchanged: list[Exchanged] = []
    for layer in order:
        spikes_used = any(arrow.source == names[layer] for row in arrows for arrow in row)
        spikes_used |= constants[layer].recurrent is not None
        silent = (
            chosen.layer == names[layer]
            and chosen.kind is not OutputKind.SPIKES
            and constants[layer].reset is FloatReset.NONE
            and not spikes_used
        )
        target = names[layer]
        if recording.exchanged(layer):
            _refuse_membrane(recording, layer, chosen, target)
            swapped, pools, pooling = _exchange(
                recording, layer, target, constants[layer], inputs[layer][1]
            )
            exchanged.append(swapped)
            populations += pools
            links += pooling
            links += [_connection(swapped.unpooled, arrow) for arrow in arrows[layer]]
            continue
        _refuse_dropped_membrane(recording, layer, chosen, target, constants[layer].reset)
        population, recurrent = _population(
            target, recording.shape(layer), constants[layer], inputs[layer][1], silent
        )
        if chosen.summed is not None and chosen.layer == target:
            population = _summing(population, chosen.summed, silent, chosen)
        populations.append(population)
        links += [_connection(target, arrow) for arrow in arrows[layer]]
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
        output=FloatOutput(chosen.layer, chosen.kind, chosen.factor),
        time_steps=1 if time_steps is None else time_steps,
        stateful=stateful,
        notes=(recording.note, *chosen.notes, *_notes_on_pools(recording, names)),
    )
    check_float_network(network)
    summed = None if chosen.summed is None else chosen.layer
    return Traced(network, recording, tuple(names), tuple(exchanged), summed, chosen.returned)


def _summing(
    population: FloatPopulation, factor: float, silent: bool, chosen: Readout
) -> FloatPopulation:
    """Neurons whose membranes add up those of others.

    A current that keeps beta of itself is the others' membrane, u[t] = beta u[t-1] + I[t], and a
    membrane that keeps everything adds it up, times `factor`.

    Raises:
        BadNetworkError: spikes reset these membranes, or they have currents of their own.
    """
    why = None
    if not silent:
        why = "fires, and its spikes reset them or are used"
    elif population.has_current_memory:
        why = "has a current with a decay of its own"
    elif population.membrane_keep.max() >= 1:
        why = "never leaks (beta 1), of which a chip keeps no sum"
    if why is not None:
        raise BadNetworkError(
            f"{chosen.where}: the membranes of {chosen.layer!r} are summed over all steps, and it "
            f"{why}; return the sum of its spikes or the membrane of the last step, or read a "
            'snn.Leaky with reset_mechanism="none", whose spikes go nowhere'
        )
    ones = np.ones(population.shape)
    return replace(
        population,
        current_keep=population.membrane_keep,
        membrane_keep=ones,
        gain=ones * factor,
    )


def _refuse_membrane(recording: Recording, layer: int, chosen: Readout, name: str) -> None:
    if chosen.layer == name and chosen.kind is not OutputKind.SPIKES:
        raise BadNetworkError(
            f"{recording.layers[layer][0].where}: the membrane of {name!r} is read, and --max-pool "
            "or lets it fire before its max pool, where there are several membranes; read its "
            "spikes"
        )


def _refuse_dropped_membrane(
    recording: Recording, layer: int, chosen: Readout, name: str, reset: FloatReset
) -> None:
    """Refuse to read membranes that snntorch returns before their reset and a chip keeps after it.

    Raises:
        BadNetworkError: they are read.
    """
    call = recording.layers[layer][0]
    if not isinstance(call, NeuronCall) or chosen.layer != name or chosen.summed is not None:
        return
    late = reset is FloatReset.ZERO and bool(call.module.reset_delay)
    if late and chosen.kind is not OutputKind.SPIKES:
        raise BadNetworkError(
            f"{call.where}: the membrane of {name!r} is read, and where it fires, a chip has reset "
            "it to zero by then, and snntorch resets it a step later; use reset_delay=False (the "
            'same spikes), return the spikes, or use reset_mechanism="none"'
        )


def _exchange(
    recording: Recording, layer: int, name: str, constants: NeuronConstants, bias: Floats
) -> tuple[Exchanged, list[FloatPopulation], list[FloatConnection]]:
    """Neurons before their max pools, and the pools behind them, whose spikes go on."""
    pools, where = recording.exchanged(layer), recording.layers[layer][0].where
    shape = recording.drive(layer, -1).shape
    if constants.recurrent is not None:
        raise BadNetworkError(
            f"{where}: neurons with recurrence of their own cannot fire before their max pool "
            "(--max-pool or): put the pool behind them"
        )
    unpooled = f"{name}_unpooled"
    wide = NeuronConstants(
        current_keep=_before_pool(constants.current_keep, shape, where),
        membrane_keep=_before_pool(constants.membrane_keep, shape, where),
        threshold=_before_pool(constants.threshold, shape, where),
        reset=constants.reset,
        spike_value=np.ones(shape),
        recurrent=None,
    )
    population, _ = _population(unpooled, shape, wide, bias, False)
    own = recording.shape(layer)
    neurons, _ = _population(name, own, constants, np.zeros(own), False)
    populations, links = [population], []
    source, size = unpooled, shape
    for number, node in enumerate(pools, 1):
        target = name if number == len(pools) else f"{name}_pool{number}"
        arrow = _Arrow(source, 0, windows(node, size), node.where)
        source, size = target, node.shape[1:]
        pooled, _ = _population(target, size, _of_pool(np.full(size, 0.5)), np.zeros(size), False)
        populations.append(pooled)
        links.append(_connection(target, arrow))
    return Exchanged(name, unpooled, shape, neurons, pools), populations, links


def _before_pool(values: Floats, shape: Shape, where: str) -> Floats:
    """A constant of neurons, one a channel, for the values before a pool."""
    by_channel = values.reshape(len(values), -1)
    if len(values) != shape[0] or (by_channel != by_channel[:, :1]).any():
        raise BadNetworkError(
            f"{where}: its neurons differ within a channel, and --max-pool or has several of them "
            "where the pool leaves one; use one beta and threshold a channel"
        )
    ones = np.ones((len(values), *[1] * (len(shape) - 1)))
    return np.broadcast_to(by_channel[:, 0].reshape(ones.shape), shape).copy()


def _pool_calls(recording: Recording) -> list[PoolCall]:
    """The first call of every maximum of spikes."""
    return [calls[0] for calls in recording.layers if isinstance(calls[0], PoolCall)]


def _of_pool(threshold: Floats) -> NeuronConstants:
    """Neurons that fire in the step of a spike.

    Nothing is left of a step that matters: any spike fires, and a spike resets. The decay is the
    largest that every chip has; what it leaves of windows that need all their spikes is less than
    the half that their thresholds lie off.
    """
    none = np.zeros(threshold.shape)
    keep = none + (1 / DECAY_ONE if threshold.max(initial=0) < DECAY_ONE / 4 else 0)
    return NeuronConstants(none, keep, threshold, FloatReset.ZERO, none + 1, None)


def _notes_on_pools(recording: Recording, names: list[str]) -> list[str]:
    count, notes = len(_pool_calls(recording)), []
    if count:
        which = ", ".join(repr(name) for name in names[-count:])
        notes += [f"a maximum of spikes is a layer of neurons that send the same spikes: {which}"]
    swapped = [repr(name) for layer, name in enumerate(names) if recording.exchanged(layer)]
    if swapped:
        notes += [
            f"--max-pool or, an approximation: {', '.join(swapped)} fires before its max pool, not "
            "behind it"
        ]
    return notes


def _layer_names(recording: Recording) -> list[str]:
    names: list[str] = []
    for first, *_ in recording.layers:
        if isinstance(first, PoolCall):
            source = first.drive.terms[0].source.call if first.drive.terms else None
            base = f"{INPUT if source is None else names[recording.place(source)[0]]}_pool"
        else:
            base = first.name
        if base in (INPUT, CONSTANT, HEAD):
            base = f"{base}_neurons"
        count = sum(known.split("#")[0] == base for known in names)
        names.append(f"{base}#{count + 1}" if count else base)
    return names


def _chip_shape(shape: Shape) -> Shape:
    """Images of one row stand for series of channels."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape or (1,)


def _layer_input(recording: Recording, names: list[str], layer: int) -> tuple[list[_Arrow], Floats]:
    """What goes into a layer in every step, and the constant added to it.

    Raises:
        BadNetworkError: two steps differ, or the source is one that a chip cannot send.
    """
    calls = recording.layers[layer]
    rows = []
    for at, call in enumerate(calls):
        form, step = recording.drive(layer, at), recording.place(call)[1] or 0
        row = [_arrow(recording, names, term, step, call.where) for term in form.terms]
        rows.append((call, step, _merged(row), form.constant))
    _, last, full, added = rows[-1]
    for call, step, row, constant in rows:
        expected = [arrow for arrow in full if arrow.late <= step]
        fits = len(row) == len(expected) and all(
            (one.source, one.late) == (two.source, two.late) and same(one.linear, two.linear)
            for one, two in zip(row, expected, strict=True)
        )
        if not fits or not np.allclose(constant, added, rtol=1e-6, atol=1e-9):
            raise BadNetworkError(
                f"{call.where}: time step {step} does something else than time step {last}; a "
                "chip does the same in every step"
            )
    return full, added


def _arrow(recording: Recording, names: list[str], term: Term, step: int, where: str) -> _Arrow:
    source, sent = term.source, recording.step_of(term.source)
    late = 0 if sent is None else step - sent
    origin = INPUT
    if source.call is not None:
        origin = names[recording.place(source.call)[0]]
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
