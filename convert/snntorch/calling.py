"""How a module is called: one step at a time, or once with a loop over the steps inside.

Three kinds of input are tried in this order: a series with its steps first (T, batch, ...), a
series with its samples first (batch, T, ...), one frame (batch, ...). The first that fits is
taken; a series fits if every neuron is called T times and gets one step of it at a time.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mtspark.convert.linear import is_identity
from mtspark.convert.snntorch.maxima import refused
from mtspark.convert.snntorch.recorder import NeuronCall, Node, Recorder, no_state
from mtspark.convert.snntorch.symbolic import Resolver
from mtspark.convert.snntorch.values import (
    Form,
    InputValues,
    MixedInputError,
    PoolCall,
    Pooled,
    Source,
    View,
)
from mtspark.core.arrays import Floats
from mtspark.core.errors import BadInputError, BadNetworkError, MtsparkError, one_line
from mtspark.core.geometry import Shape

Call = NeuronCall | PoolCall
"""One step of one layer."""

SHAPE_ERRORS = (RuntimeError, ValueError, IndexError, AssertionError)
"""What torch raises where the shapes of a module and its input do not fit."""

EPISODE = 6
"""Decisions of a recorded episode, where nobody says how many."""

SPIKE_RATE = 0.5
"""Share of spikes in a random input that is recorded as spikes."""


@dataclass(eq=False)
class Recording:
    """A module's own run.

    Attributes:
        layers: the calls of each spiking layer, one a step; behind them, those of maxima of
            spikes (:mod:`~mtspark.convert.snntorch.pools`).
        time_steps: T.
        series: what went in, (T, batch, *input shape), float64.
        outputs: what the module returned, one entry a call.
        note: how it was called, one sentence.
        held: one frame was given, and held over all steps.
        time_axis: of a whole series that was given.
        recorder, resolver: of the run.
    """

    layers: list[list[Call]]
    time_steps: int
    series: Floats
    outputs: list[Any]
    note: str
    recorder: Recorder
    resolver: Resolver
    held: bool = False
    time_axis: int | None = None

    def __post_init__(self) -> None:
        self._places: dict[int, tuple[int, int | None]] = {
            id(call): (layer, step)
            for layer, calls in enumerate(self.layers)
            for step, call in enumerate(calls)
        }
        self._order: dict[int, int] = {}
        for at, node in enumerate(self.recorder.nodes):
            self._order[id(node)] = at
            self._order.setdefault(id(node.call), at)

    def shape(self, layer: int) -> Shape:
        """Shape of a layer, without batch."""
        return tuple(self.layers[layer][0].spikes.shape[1:])

    def place(self, call: Call) -> tuple[int, int | None]:
        """Layer and step of a call; the step is None where it is the same in every step."""
        return self._places[id(call)]

    def put(self, call: PoolCall, layer: int, step: int | None) -> None:
        """Give a maximum of spikes its layer and step."""
        self._places[id(call)] = layer, step

    def step_of(self, source: Source) -> int | None:
        """The step that a signal is of; None where it is the same in every step."""
        return source.step if source.call is None else self.place(source.call)[1]

    def position(self, layer: int) -> int:
        """When a layer was called first."""
        first = self.layers[layer][0]
        return self._order[id(first.node if isinstance(first, PoolCall) else first)]

    def exchanged(self, layer: int) -> tuple[Node, ...]:
        """The maxima of currents that a layer's neurons are to fire before, in order.

        Raises:
            BadNetworkError: they differ between time steps.
        """
        steps = []
        for call in self.layers[layer]:
            node = call.drive if isinstance(call, NeuronCall) else None
            value = None if node is None else self.resolver.values[id(node)]
            steps.append(value.pools if isinstance(value, Pooled) else ())
        if len({tuple((n.op, repr(n.args[1:]), repr(n.kwargs)) for n in one) for one in steps}) > 1:
            raise BadNetworkError(
                f"{self.layers[layer][0].where}: its max pools differ between time steps; a chip "
                "does the same in every step"
            )
        return steps[0]

    def drive(self, layer: int, step: int) -> Form:
        """What went into a layer, before the maxima of :meth:`exchanged`.

        Raises:
            BadNetworkError: no linear map of signals.
        """
        call = self.layers[layer][step]
        if isinstance(call, PoolCall):
            return call.drive
        if call.drive is not None:
            value = self.resolver.values[id(call.drive)]
            if not isinstance(value, Pooled):
                return self.resolver.form(call.drive)
            if not self.resolver.exchange_pools:
                recurrent = type(call.module).__name__.startswith("R")
                raise refused(value, exchangeable=not recurrent)
            return value.form
        assert call.constant is not None
        constant = call.constant.double().numpy()
        if not (constant == constant[:1]).all():
            raise BadNetworkError(f"{call.where}: its constant input differs between samples")
        return Form(constant.shape[1:], (), constant[0])

    def form(self, tensor: Any) -> Any:
        """What an output is; None where it carries no signal."""
        node = self.recorder.node(tensor)
        return None if node is None else self.resolver.values[id(node)]


@dataclass(frozen=True)
class Feed:
    """What a module is run on, and how what it does is read.

    Attributes:
        inputs: what the input's values are; spikes are drawn where they are recorded.
        exchange_pools: whether neurons behind a maximum of currents may fire before it.
        stateful: a step is a decision, and state survives it.
        dtype: of the module's numbers.
    """

    inputs: InputValues = field(default_factory=InputValues)
    exchange_pools: bool = False
    stateful: bool = False
    dtype: torch.dtype = torch.float32

    def draw(self, *size: int) -> Tensor:
        """Random inputs."""
        values = torch.rand(*size, dtype=self.dtype)
        if not self.inputs.recorded or self.inputs.spike is None:
            return values
        return (values < SPIKE_RATE).to(self.dtype) * self.inputs.spike

    def resolver(self, batch: int, size: int, *, series: bool) -> Resolver:
        """What works out the recording."""
        return Resolver(batch, size, series, self.inputs, self.exchange_pools)


def record(
    module: nn.Module,
    shape: Shape,
    time_steps: int | None,
    lines: dict[int, str],
    feed: Feed | None = None,
) -> Recording:
    """Run a module on random inputs of the kind that it takes.

    Args:
        module: with neurons of snntorch; it is set to eval mode.
        shape: of one step, without batch.
        time_steps: T; None where the module says it.
        lines: where modules were built, by id.
        feed: what it is run on; default: values from 0 to 1.

    Returns:
        Everything that was recorded.

    Raises:
        BadNetworkError: no spiking neuron.
        BadInputError: no kind of input of this shape fits, or the number of steps is unknown.
    """
    if not any(isinstance(part, SpikingNeuron) for part in module.modules()):
        raise BadNetworkError(
            f"{type(module).__name__}: no spiking neuron of snntorch in it; put snn.Leaky after "
            "its layers"
        )
    _check_numbers(module)
    module.eval()
    feed = replace(feed or Feed(), dtype=_dtype(module))
    # One size that no other axis has, so that the axes cannot be confused.
    batch = next(size for size in (2, 3, 5, 7, 11) if size != time_steps and size not in shape)
    failures: list[BaseException] = []
    if time_steps != 1:
        for axis in (0, 1):
            steps = time_steps or EPISODE
            try:
                return _record_series(module, shape, steps, batch, axis, lines, feed)
            except (Exception, SystemExit) as error:
                failures.append(error)
    try:
        return _record_frames(module, shape, time_steps, batch, lines, feed)
    except MtsparkError:
        raise
    except (Exception, SystemExit) as error:
        series = "; ".join(dict.fromkeys(one_line(failure) for failure in failures))
        # torch says that a shape does not fit by these; others are errors of the module's own.
        of_shape = any(
            isinstance(one, SHAPE_ERRORS) and not isinstance(one, MtsparkError)
            for one in (error, *failures)
        )
        raise BadInputError(
            f"{type(module).__name__}: cannot be run on input of shape {(batch, *shape)} "
            f"({one_line(error)}), nor on a series of steps ({series}); "
            + _remedy(feed.dtype, str(error), of_shape)
        ) from error


def _remedy(dtype: torch.dtype, reason: str, of_shape: bool) -> str:
    """What mends a module that cannot be run."""
    if dtype is torch.float64 and "dtype" in reason:
        return "its numbers are float64 and snntorch's spikes float32: give module.float()"
    return "check --input-shape" if of_shape else "torch cannot run it by itself, either"


def _check_numbers(module: nn.Module) -> None:
    """Refuse weights and constants that are no numbers, give such, or are not there yet.

    A diverged training leaves the first.

    Raises:
        BadNetworkError: there are such.
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise BadNetworkError(
                f"{type(module).__name__}: {name} is not made yet, since a lazy layer makes its "
                "weights of its first input; call the module once with a sample, train it, or "
                "load its weights first"
            )
        if tensor.is_floating_point() and tensor.isnan().any():
            raise BadNetworkError(
                f"{type(module).__name__}: {name} has {int(tensor.isnan().sum())} values that are "
                "no numbers (nan); give weights without"
            )
    for name, part in module.named_modules():
        # Other kinds have no reset without delay.
        if type(part).__name__ not in ("Leaky", "RLeaky", "Synaptic") or part.reset_delay:
            continue
        if (part.graded_spikes_factor == 0).any():
            raise BadNetworkError(
                f"{type(module).__name__}: {name or 'it'} has graded_spikes_factor 0 and "
                "reset_delay=False, where snntorch divides by it and gets membranes that are no "
                "numbers; leave reset_delay out, or give another factor"
            )


def _record_series(
    module: nn.Module,
    shape: Shape,
    steps: int,
    batch: int,
    axis: int,
    lines: dict[int, str],
    feed: Feed,
) -> Recording:
    values = feed.draw(steps, batch, *shape)
    index = np.arange(values.numel()).reshape(values.shape)
    if axis == 1:
        values, index = values.transpose(0, 1).contiguous(), index.swapaxes(0, 1)
    recorder = _fresh(module, lines)
    resolver = feed.resolver(batch, prod(shape), series=True)
    _mark_input(recorder, resolver, values, index, -1)
    with recorder.recording():
        output = module(values)
    layers = _layers(recorder, resolver)
    if {len(calls) for calls in layers} != {steps}:
        raise BadNetworkError("its neurons do not see one step of the series at a time")
    order = "T, batch" if axis == 0 else "batch, T"
    series = values if axis == 0 else values.transpose(0, 1)
    recording = Recording(
        [[*calls] for calls in layers],
        steps,
        series.double().numpy(),
        [output],
        f"the module was run on a whole series ({order}, ...)",
        recorder,
        resolver,
        time_axis=axis,
    )
    for layer in range(len(layers)):
        for step in range(steps):
            _check_slices(recording, layer, step)
    return recording


def _check_slices(recording: Recording, layer: int, step: int) -> None:
    try:
        recording.drive(layer, step)
    except MixedInputError:
        raise
    except BadNetworkError:
        pass  # Reported with its line once the kind of input is settled.


def _record_frames(
    module: nn.Module,
    shape: Shape,
    time_steps: int | None,
    batch: int,
    lines: dict[int, str],
    feed: Feed,
) -> Recording:
    recorder = _fresh(module, lines)
    resolver = feed.resolver(batch, prod(shape), series=False)
    index = np.arange(batch * prod(shape)).reshape(batch, *shape)
    caller = _Caller(module, recorder)
    values = feed.draw(batch, *shape)
    frames = [values]
    _mark_input(recorder, resolver, values, index, -1)
    first_input = recorder.nodes[0]
    with recorder.recording():
        outputs = [caller.first(values)]
    layers = _layers(recorder, resolver)
    if not layers:
        raise BadNetworkError(f"{type(module).__name__}: its forward calls no spiking neuron")
    counts = {len(calls) for calls in layers}
    if counts != {1} and feed.stateful:
        raise BadNetworkError(
            f"{type(module).__name__}: its neurons are called {sorted(counts)} times in one "
            "forward of a frame, from rest; state survives decisions of one step: give a forward "
            "that calls each neuron once and hands its states on (init_hidden=True, or states in "
            "and out), or a loop over a series"
        )
    if counts != {1}:
        steps = counts.pop()
        if counts or (time_steps is not None and time_steps != steps):
            wanted = "" if counts else f", and --time-steps says {time_steps}"
            # A module that stands in two places of a step looks like a loop of two steps.
            own = any(call.module.init_hidden for call in recorder.calls)
            remedy = "; with init_hidden=True a module has one state: use one for each layer"
            raise BadNetworkError(
                f"{type(module).__name__}: its neurons are called {sorted({steps, *counts})} times "
                f"in one forward{wanted}; the same number of steps for all of them is needed"
                f"{remedy if own else ''}"
            )
        series = np.broadcast_to(values.double().numpy(), (steps, batch, *shape))
        note = "the module was run on one frame that it holds over its own loop of steps"
        return Recording(
            [[*calls] for calls in layers],
            steps,
            series,
            outputs,
            note,
            recorder,
            resolver,
            held=True,
        )
    if time_steps is None:
        raise BadInputError(
            f"{type(module).__name__}: its forward is one time step; say how many make a decision "
            "with --time-steps"
        )
    resolver.values[id(first_input)] = View(index, 0)
    for step in range(1, time_steps):
        values = feed.draw(batch, *shape)
        frames.append(values)
        with recorder.recording():
            _mark_input(recorder, resolver, values, index, step)
            outputs.append(caller.next(values))
    resolver.values.clear()
    marked = 0
    for node in recorder.nodes:
        if node.op == "input":
            resolver.values[id(node)] = View(index, marked)
            marked += 1
    layers = _layers(recorder, resolver)
    if {len(calls) for calls in layers} != {time_steps}:
        raise BadNetworkError(
            f"{layers[0][0].where}: the states of its neurons start anew in every call; return "
            "them from forward and take them again, or use init_hidden=True"
        )
    series = torch.stack(frames).double().numpy()
    note = "the module was run one time step a call"
    if caller.kept:
        note += f", its {' and '.join(caller.kept)} left at the default"
    return Recording(
        [[*calls] for calls in layers], time_steps, series, outputs, note, recorder, resolver
    )


def rerun(module: nn.Module, recording: Recording, series: Floats) -> list[list[NeuronCall]]:
    """Run a recorded module again in the same way.

    Args:
        module: that was recorded.
        recording: of it.
        series: (T, batch, *shape of a step) or of another shape of the same size; of a module
            that holds a frame, its first step counts.

    Returns:
        The calls of each layer of neurons, in the order of the recording's layers.

    Raises:
        BadInputError: the module does something else on these inputs.
    """
    steps, shape = len(series), recording.series.shape[2:]
    if steps != recording.time_steps and not recording.held:
        recording = record(module, shape, steps, {})
    values = torch.from_numpy(np.array(series, np.float32)).reshape(steps, -1, *shape)
    recorder = _fresh(module, {})
    with recorder.recording():
        if recording.held:
            module(values[0])
        elif recording.time_axis is not None:
            module(values if recording.time_axis == 0 else values.transpose(0, 1).contiguous())
        else:
            caller = _Caller(module, recorder)
            caller.first(values[0])
            for frame in values[1:]:
                caller.next(frame)
    known = recording.recorder.calls
    if [call.module for call in recorder.calls] != [call.module for call in known]:
        raise BadInputError(
            f"{type(module).__name__}: calls other neurons on these inputs than on random ones"
        )
    layers: list[list[NeuronCall]] = []
    for call, place in zip(recorder.calls, map(recording.place, known), strict=True):
        layers += [[] for _ in range(place[0] + 1 - len(layers))]
        layers[place[0]].append(call)
    return layers


def _dtype(module: nn.Module) -> torch.dtype:
    """The type of a module's numbers, which its inputs must have.

    Raises:
        BadNetworkError: one of fewer digits than the comparison with the chip needs.
    """
    tensors = (*module.parameters(), *module.buffers())
    types = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    dtype = types[0] if types else torch.float32
    if dtype not in (torch.float32, torch.float64):
        raise BadNetworkError(
            f"{type(module).__name__}: its numbers are {str(dtype).removeprefix('torch.')}, whose "
            "rounding at every step is not the chip's; give module.float()"
        )
    return dtype


def _fresh(module: nn.Module, lines: dict[int, str]) -> Recorder:
    for part in module.modules():
        if isinstance(part, SpikingNeuron):
            for state in ("mem", "syn", "spk"):
                if isinstance(getattr(part, state, None), Tensor):
                    setattr(part, state, torch.zeros(0))
    return Recorder(module, lines)


def _mark_input(
    recorder: Recorder, resolver: Resolver, values: Tensor, index: Any, call: int
) -> None:
    node = recorder.mark(values, Node("input"))
    resolver.values[id(node)] = View(index, call)


class _Caller:
    """Calls a module step by step and hands its states from one call to the next."""

    def __init__(self, module: nn.Module, recorder: Recorder) -> None:
        self._module, self._recorder = module, recorder
        parameters = list(inspect.signature(module.forward).parameters.values())[1:]
        self._names = [
            p.name
            for p in parameters
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            # A number, a text or a switch sets how forward runs, and keeps its default.
            and not isinstance(p.default, (bool, int, float, str))
        ]
        self._needed = {p.name for p in parameters if p.default is p.empty}
        self._tensors: dict[str, Tensor] = {}
        self._last: Any = None
        self._packed = False
        self.kept: list[str] = []

    def first(self, values: Tensor) -> Any:
        """The first step: states of no size, which snntorch takes as zeros."""
        self._tensors = {name: torch.zeros(0) for name in self._names}
        for name in self._names:
            if name in self._needed:
                self._recorder.arguments[id(self._tensors[name])] = (self._tensors[name], name)
        try:
            self._last = self._module(values, **self._tensors)
        except MtsparkError:
            raise
        except Exception:
            if not self._names or self._needed:
                raise
            # States that are packed together: left out at first, then handed on as returned.
            self._packed = True
            self._recorder.calls.clear()
            self._last = self._module(values)
        finally:
            self._recorder.arguments.clear()
        return self._last

    def next(self, values: Tensor) -> Any:
        """A later step: each state is what the same neuron returned in the step before."""
        if not self._names:
            self._last = self._module(values)
        elif self._packed:
            rest = self._last[1:] if isinstance(self._last, tuple) else ()
            states = rest if len(rest) <= len(self._names) else (rest,)
            # What gets no state that was returned, such as a second input, keeps its default.
            handed = dict(zip(self._names, states, strict=False))
            self.kept = [name for name in self._names if name not in handed]
            try:
                self._last = self._module(values, **handed)
            except MtsparkError:
                raise
            except Exception as error:
                if not handed:
                    raise
                raise no_state(type(self._module).__name__, next(iter(handed))) from error
        else:
            following = {name: self._returned(name) for name in self._names}
            self._last = self._module(values, **following)
            self._tensors = following
        return self._last

    def _returned(self, name: str) -> Tensor:
        given = self._tensors[name]
        for call in reversed(self._recorder.calls):
            for quantity, state in call.states.items():
                same = state is given or (
                    not isinstance(state, Tensor) and state is self._recorder.node(given)
                )
                if same and quantity in call.results:
                    return call.results[quantity]
        raise no_state(type(self._module).__name__, name)


def _layers(recorder: Recorder, resolver: Resolver) -> list[list[NeuronCall]]:
    """Sort the calls of neurons into layers, by the states that they hand on.

    Raises:
        BadNetworkError: a state that is neither at rest nor the neuron's last one.
    """
    for node in recorder.nodes:
        if id(node) not in resolver.values:
            resolver.add(node)
    layers: list[list[NeuronCall]] = []
    layer_of: dict[int, int] = {}
    own: dict[int, int] = {}
    for call in recorder.calls:
        nodes = {key: state for key, state in call.states.items() if isinstance(state, Node)}
        plain = {key: state for key, state in call.states.items() if isinstance(state, Tensor)}
        for key, state in plain.items():
            if state.any():
                raise BadNetworkError(f"{call.where}: its {key} starts at other values than 0")
        if nodes:
            layer = _handed_on(call, nodes, plain, resolver, layer_of, layers)
        elif plain:
            layer = len(layers)
        else:
            layer = _own_state(call, own, layers)
        if layer == len(layers):
            layers.append([])
        layers[layer].append(call)
        layer_of[id(call)] = layer
        own[id(call.module)] = layer
    return layers


def _handed_on(
    call: NeuronCall,
    nodes: dict[str, Node],
    plain: dict[str, Tensor],
    resolver: Resolver,
    layer_of: dict[int, int],
    layers: list[list[NeuronCall]],
) -> int:
    candidates: set[int] = set()
    for key, node in nodes.items():
        form = resolver.form(node)
        terms = form.terms
        source = terms[0].source if len(terms) == 1 else None
        before = None if source is None else source.call
        good = (
            source is not None
            and isinstance(before, NeuronCall)
            and source.quantity == key
            and before.module is call.module
            and not form.constant.any()
            and (key == "spikes" or is_identity(terms[0].linear))
        )
        if not good:
            raise BadNetworkError(
                f"{call.where}: its {key} is not what the same neuron returned in the step "
                f"before (changed at {node.where}); hand states on unchanged"
            )
        layer = layer_of[id(before)]
        if layers[layer][-1] is not before:
            raise BadNetworkError(f"{call.where}: its {key} is older than the step before")
        candidates.add(layer)
    if len(candidates) != 1 or plain:
        raise BadNetworkError(f"{call.where}: its states come from different steps or neurons")
    return candidates.pop()


def _own_state(call: NeuronCall, own: dict[int, int], layers: list[list[NeuronCall]]) -> int:
    """The layer of a neuron that keeps its state itself."""
    before = call.before
    known = own.get(id(call.module))
    if known is not None and before is not None and torch.equal(before, layers[known][-1].membrane):
        return known
    if before is None or not before.any():
        return len(layers)
    raise BadNetworkError(
        f"{call.where}: its membrane was changed between two steps; leave states alone"
    )
