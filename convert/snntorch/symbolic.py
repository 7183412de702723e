"""Work out what a recorded tensor is: a sum of linear maps of signals, and a constant.

Signals are the input of a step and what spiking neurons send. An operation of the recording is
either carried out on such sums or becomes an error that is kept. The error is raised only where
a neuron or the output needs the tensor, so a module may compute what it likes for its own records.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtspark.convert.linear import LinearMap, Scale, identity, is_identity, select
from mtspark.convert.snntorch.layers import LAYERS, refusal
from mtspark.convert.snntorch.maxima import NoSpikesError, Spikes, refused, windows
from mtspark.convert.snntorch.recorder import MAXIMA, NeuronCall, Node
from mtspark.convert.snntorch.values import (
    Form,
    InputValues,
    MixedInputError,
    PoolCall,
    Pooled,
    Series,
    Source,
    Term,
    Value,
    View,
    composed,
    nodes_in,
    substitute,
)
from mtspark.core.arrays import Floats
from mtspark.core.errors import BadNetworkError, one_line

INTO_SAME = {
    "detach", "clone", "contiguous", "to", "float", "double", "type_as", "requires_grad_",
    "get:data", "detach_", "alias", "cpu", "type",
}  # fmt: skip
"""Operations that leave every number as it is."""

MOVES = {
    "flatten", "view", "reshape", "__getitem__", "permute", "transpose", "squeeze", "unsqueeze",
    "unflatten", "unbind", "split", "chunk", "narrow", "select", "movedim", "flip", "roll",
    "pixel_shuffle", "pixel_unshuffle", "repeat", "expand", "expand_as", "index_select", "pad",
    "view_as", "reshape_as", "swapaxes", "tile", "repeat_interleave", "channel_shuffle",
}  # fmt: skip
"""Operations that copy numbers to other places, or put zeros there."""

SERIES_UNCHANGED = {"detach", "clone", "contiguous", "to", "float", "double", "cpu"}
"""Operations that leave results of several time steps as they are."""

SUMS = {"add", "sub", "__rsub__", "rsub", "add_", "sub_", "__add__", "__radd__", "__sub__"}
PRODUCTS = {"mul", "mul_", "div", "div_", "true_divide", "multiply", "divide", "neg", "neg_"}


INCREASING = {*SUMS, *PRODUCTS, "batch_norm", "dropout", "dropout1d", "dropout2d"}
"""Operations that may change each value alone, by a factor and a constant."""


def _origins(form: Form) -> list[tuple[bool, str, LinearMap | None]]:
    """What a form's terms are, but for the step: from the input or not, of what, through what."""
    return [
        (t.source.call is None, t.source.quantity, None if is_identity(t.linear) else t.linear)
        for t in form.terms
    ]


@dataclass
class Resolver:
    """Works out the value of every node, in the order of recording.

    Attributes:
        batch: samples of the recorded run.
        size: values of one input sample of one step.
        series: whether the input is a series of steps.
        inputs: what the input's values are.
        exchange_pools: whether neurons behind a maximum of currents may fire before it.
        values: of nodes, by their ids.
    """

    batch: int
    size: int
    series: bool
    inputs: InputValues
    exchange_pools: bool = False
    values: dict[int, Value] = field(default_factory=dict)
    _layers: dict[Any, Any] = field(default_factory=dict)
    _products: dict[tuple[LinearMap, LinearMap], LinearMap] = field(default_factory=dict)
    _maxima: dict[Any, Any] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        """Work out one node; its arguments must have been added before."""
        try:
            self.values[id(node)] = self._value(node)
        except BadNetworkError as error:
            self.values[id(node)] = error
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            self.values[id(node)] = BadNetworkError(
                f"{node.where}: {node.op} cannot be followed ({one_line(error, 120)}); use the "
                "layers of torch.nn between spiking neurons"
            )

    def form(self, node: Node) -> Form:
        """The form of a node.

        Raises:
            BadNetworkError: it is none, with the line that made it so.
        """
        value = self.values[id(node)]
        if isinstance(value, BadNetworkError):
            raise value
        if isinstance(value, View):
            return self._from_input(value, node)
        if isinstance(value, Series):
            raise BadNetworkError(
                f"{node.where}: works on several time steps at once; write it inside the loop"
            )
        if isinstance(value, Pooled):
            raise refused(value, exchangeable=False)
        return value

    def _value(self, node: Node) -> Value:
        if node.op == "neuron":
            assert node.call is not None
            return self._of_neuron(node.call, node.quantity, node.shape[1:])
        if node.op == "input":
            raise AssertionError("inputs are added by their index")
        signals = nodes_in((node.args, node.kwargs))
        first = self.values[id(signals[0])]
        for signal in signals:
            value = self.values[id(signal)]
            if isinstance(value, BadNetworkError):
                return value
        if node.op in ("stack", "__setitem__") or isinstance(first, Series):
            return self._on_series(node, first)
        if node.op in INTO_SAME:
            return first
        if isinstance(first, View) and node.op in MOVES - {"pad"} and len(signals) == 1:
            return View(self._moved(node, signals[0], first.index), first.call)
        if isinstance(first, Pooled) and len(signals) == 1:
            return self._on_pooled(node, signals[0], first)
        if node.op in MAXIMA:
            return self._maximum(node, signals)
        return self._on_forms(node, signals)

    def _on_series(self, node: Node, first: Value) -> Value:
        """Carry out what collects results over time: stack, out[t] = s, sum, mean, [-1]."""
        if node.op == "stack":
            tensors = node.args[0] if node.args else node.kwargs["tensors"]
            axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            if all(isinstance(entry, Node) for entry in tensors):
                forms = [self.form(entry) for entry in tensors]
                return Series(forms, axis % len(node.shape))
        elif node.op == "__setitem__":
            target, place, value = node.args
            if isinstance(place, int) and isinstance(value, Node):
                before = self.values[id(target)] if isinstance(target, Node) else None
                forms = list(before.forms) if isinstance(before, Series) else []
                place %= node.shape[0]
                if place == len(forms):
                    return Series([*forms, self.form(value)], 0)
        elif isinstance(first, Series):
            if node.op in SERIES_UNCHANGED:
                return first
            if node.op in ("sum", "mean"):
                axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
                axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
                rank = first.forms[0].constant.ndim + 2
                keep = node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False)
                if isinstance(axis, int) and axis % rank == first.axis and not keep:
                    share = 1.0 if node.op == "sum" else 1.0 / len(first.forms)
                    return self._total(first.forms, share, node.where)
            if node.op == "__getitem__" and first.axis == 0 and isinstance(node.args[1], int):
                return first.forms[node.args[1]]
            if node.op in ("transpose", "permute", "movedim", "swapaxes"):
                numbers = torch.zeros(*[axis + 2 for axis in range(len(node.args[0].shape))])
                args, kwargs = substitute((node.args, node.kwargs), {id(node.args[0]): numbers})
                assert node.function is not None
                moved = node.function(*args, **kwargs).shape
                axes = [size - 2 for size in moved]
                rest = [axis for axis in axes if axis != first.axis]
                if rest == sorted(rest):
                    return Series(first.forms, axes.index(first.axis))
        raise BadNetworkError(
            f"{node.where}: {node.op} on results of several time steps cannot be read out; return "
            "the stacked spikes, or their sum or mean over time"
        )

    def _total(self, forms: list[Form], share: float, where: str) -> Form:
        """The sum of several forms, each times `share`."""
        shape = forms[0].shape
        scale = Scale(np.full(prod(shape), share))
        terms = tuple(self._through(scale, term, where) for form in forms for term in form.terms)
        return Form(shape, terms, share * np.sum([form.constant for form in forms], axis=0))

    def _of_neuron(self, call: NeuronCall, quantity: str, shape: tuple[int, ...]) -> Form:
        size = prod(shape)
        linear: LinearMap = identity(size)
        if quantity == "spikes":
            factor = call.module.graded_spikes_factor.detach().double().numpy()
            full = np.broadcast_to(factor, (1, *shape)).reshape(size).astype(np.float64)
            linear = Scale(full)
        return Form(shape, (Term(Source(call, quantity), linear, call.where),), np.zeros(shape))

    def _from_input(self, view: View, node: Node) -> Form:
        """Read a view of the input as one slice of it, the same for every sample."""
        index = view.index
        if index.ndim < 1 or index.shape[0] != self.batch:
            raise MixedInputError(
                f"{node.where}: the input is used across samples or time steps; use one time "
                "step at a time, samples first (of several inputs in a list: "
                "torch.cat([x, y], 1) before the network, split in forward)"
            )
        flat = index.reshape(self.batch, -1)
        step, rest = np.divmod(flat, self.batch * self.size)
        sample, place = np.divmod(rest, self.size)
        good = (
            (step == step.flat[0]).all()
            and (sample == np.arange(self.batch)[:, None]).all()
            and (place == place[0]).all()
        )
        if not good:
            raise MixedInputError(
                f"{node.where}: several samples or time steps of the input are mixed; use one "
                "time step at a time, samples first (of several inputs in a list: "
                "torch.cat([x, y], 1) before the network, split in forward)"
            )
        at = int(step.flat[0]) if self.series else None
        if view.call >= 0:
            at = view.call
        shape = index.shape[1:]
        term = Term(Source(None, "", at), select(place[0], self.size), node.where)
        return Form(shape, (term,), np.zeros(shape))

    def _moved(self, node: Node, signal: Node, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Run an operation that moves values on the places' own numbers (-1: a new zero)."""
        args, kwargs = substitute((node.args, node.kwargs), {id(signal): index + 1})
        assert node.function is not None
        result = node.function(*args, **kwargs)
        if node.item is not None:
            result = result[node.item]
        return result.numpy() - 1

    def _maximum(self, node: Node, signals: list[Node]) -> Form | Pooled:
        """A maximum: neurons of its own behind spikes, else left to the neurons behind it."""
        forms = {id(signal): self.form(signal) for signal in signals}
        first = forms[id(signals[0])]
        # Each step has a maximum of its own; what it is made of is worked out once.
        key = (
            self._layer_key(node, first.shape),
            node.item,
            *((form.constant.tobytes(), *_origins(form)) for form in forms.values()),
        )
        if key not in self._maxima:
            counted = windows(node, first.shape, len(signals))
            try:
                spikes = Spikes(node, forms, counted, self.inputs)
            except NoSpikesError as reason:
                pooled = Pooled(first, (node,), str(reason))
                if len(signals) > 1:
                    raise refused(pooled, exchangeable=False) from reason
                return pooled
            self._maxima[key] = spikes, node, forms
        spikes, *_ = self._maxima[key]
        sources = [term for form in forms.values() for term in form.terms]
        terms = tuple(
            Term(term.source, linear, term.where)
            for term, linear in zip(sources, spikes.maps, strict=True)
        )
        shape = node.shape[1:]
        assert node.result is not None
        fired = np.abs(node.result.double().numpy() - spikes.constant) > np.abs(spikes.worth) / 2
        drive = Form(shape, terms, np.zeros(shape))
        call = PoolCall(
            drive, spikes.threshold, node, torch.from_numpy(fired & (spikes.worth != 0))
        )
        sent = Term(Source(call, "spikes"), Scale(spikes.worth.reshape(-1)), node.where)
        return Form(shape, (sent,), spikes.constant)

    def _on_pooled(self, node: Node, signal: Node, pooled: Pooled) -> Pooled:
        """Carry out on the currents before a maximum what could as well be done behind it.

        Raises:
            BadNetworkError: something else than a further maximum, or factors above 0 and
                constants.
        """
        if node.op in MAXIMA:
            return replace(pooled, pools=(*pooled.pools, node))
        if node.op in INCREASING:
            before = replace(node, shape=(self.batch, *pooled.form.shape))
            assert node.function is not None
            rise = []
            for filling in (0.0, 1.0):
                values = np.full((1, *pooled.form.shape), filling)
                args, kwargs = substitute(
                    (node.args, node.kwargs), {id(signal): values}, double=True
                )
                rise.append(node.function(*args, **kwargs).numpy())
            if rise[0].shape[1:] == pooled.form.shape and (rise[1] > rise[0]).all():
                self.values[id(signal)] = pooled.form
                try:
                    return replace(pooled, form=self._on_forms(before, [signal]))
                finally:
                    self.values[id(signal)] = pooled
        raise refused(pooled, exchangeable=False, between=node if self.exchange_pools else None)

    def _on_forms(self, node: Node, signals: list[Node]) -> Form:
        forms = {id(signal): self.form(signal) for signal in signals}
        first = forms[id(signals[0])]
        if node.op in SUMS:
            return self._sum(node, forms)
        if node.op in PRODUCTS:
            return self._product(node, forms)
        if node.op in MOVES or node.op in ("cat", "concat", "concatenate", "hstack"):
            return self._gathered(node, signals, forms)
        if node.op in LAYERS and len(signals) == 1 and node.args and node.args[0] is signals[0]:
            key = self._layer_key(node, first.shape)
            if key not in self._layers:
                # The arguments are kept as well, so that their ids stay theirs.
                layer = LAYERS[node.op](node.args, node.kwargs, first.shape, node.where)
                self._layers[key] = (*layer, node)
            linear, bias, *_ = self._layers[key]
            shape = node.shape[1:]
            constant = self._constant(node, signals, forms, bias)
            return self._mapped(first, shape, linear, constant, node.where)
        raise refusal(node.op, node.where, len(signals))

    def _constant(
        self, node: Node, signals: list[Node], forms: dict[int, Form], bias: Floats | None
    ) -> Floats:
        """The constant of a layer's result: the layer itself, in float64, on the constant."""
        if not forms[id(signals[0])].constant.any():
            zero = np.zeros(node.shape[1:])
            if bias is None:
                return zero
            return zero + bias.reshape(-1, *[1] * (zero.ndim - 1)) if zero.ndim else zero + bias
        given = {
            id(signal): np.broadcast_to(
                forms[id(signal)].constant, (self.batch, *forms[id(signal)].shape)
            )
            for signal in signals
        }
        args, kwargs = substitute((node.args, node.kwargs), given, double=True)
        assert node.function is not None
        with torch.no_grad():
            result = node.function(*args, **kwargs)
        return result.numpy()[0]

    def _mapped(
        self, form: Form, shape: tuple[int, ...], linear: LinearMap, constant: Floats, where: str
    ) -> Form:
        """A form after one more map, which gives `constant` of its constant."""
        terms = tuple(self._through(linear, term, where) for term in form.terms)
        return Form(shape, terms, constant.reshape(shape))

    def _through(self, linear: LinearMap, term: Term, where: str) -> Term:
        """A term after one more map.

        All time steps have the maps of layers in common, so each pair is composed once: some
        become large matrices.

        Raises:
            BadNetworkError: both have no compact form, and as a matrix they would be too large.
        """
        if is_identity(linear):
            return Term(term.source, term.linear, where)
        key = linear, term.linear
        if key not in self._products:
            self._products[key] = composed(linear, term.linear, where)
        return Term(term.source, self._products[key], where)

    def _layer_key(self, node: Node, shape: tuple[int, ...]) -> Any:
        def key(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return tuple(key(entry) for entry in value)
            return id(value) if isinstance(value, (Tensor, Node)) else repr(value)

        rest = key(node.args[1:]), tuple((name, key(v)) for name, v in node.kwargs.items())
        return node.op, shape, rest

    def _sum(self, node: Node, forms: dict[int, Form]) -> Form:
        shape = node.shape[1:]
        left, right = node.args[0], node.args[1] if len(node.args) > 1 else node.kwargs["other"]
        second = float(node.kwargs.get("alpha", 1))
        signs = (1.0, second)
        if node.op in ("sub", "sub_", "__sub__"):
            signs = (1.0, -second)
        elif node.op in ("__rsub__", "rsub"):
            signs = (-1.0, 1.0)
        terms: list[Term] = []
        constant = np.zeros(shape)
        for operand, sign in zip((left, right), signs, strict=True):
            if isinstance(operand, Node):
                form = self._broadcast(forms[id(operand)], shape, node)
                scale = Scale(np.full(prod(shape), sign))
                terms += [self._through(scale, term, node.where) for term in form.terms]
                constant = constant + sign * form.constant
            else:
                constant = constant + sign * self._plain(operand, shape, node)
        return Form(shape, tuple(terms), constant)

    def _product(self, node: Node, forms: dict[int, Form]) -> Form:
        shape = node.shape[1:]
        if node.op.startswith("neg"):
            factor = np.full(shape, -1.0)
            (form,) = forms.values()
        else:
            operands = [*node.args[:2], *[node.kwargs[k] for k in ("other",) if k in node.kwargs]]
            left, right = operands
            if isinstance(left, Node) and isinstance(right, Node):
                raise refusal(node.op, node.where, 2)
            if node.op.startswith(("div", "true_div")):
                if not isinstance(left, Node) or node.kwargs.get("rounding_mode"):
                    raise refusal(node.op, node.where, 2)
                factor = 1.0 / self._plain(right, shape, node)
            else:
                factor = self._plain(right if isinstance(left, Node) else left, shape, node)
            form = forms[id(left if isinstance(left, Node) else right)]
        form = self._broadcast(form, shape, node)
        if not np.isfinite(factor).all():
            raise BadNetworkError(f"{node.where}: a factor is not finite")
        scale = Scale(factor.reshape(-1))
        return self._mapped(form, shape, scale, form.constant * factor, node.where)

    def _plain(self, value: Any, shape: tuple[int, ...], node: Node) -> Floats:
        """A number or plain tensor as one sample of `shape`."""
        array = torch.as_tensor(value).detach().double().numpy()
        if array.ndim == len(shape) + 1:
            if not (array == array[:1]).all():
                raise BadNetworkError(
                    f"{node.where}: a constant differs between samples, as numbers drawn at random "
                    "do; a chip adds the same to all: make it a weight, or a part of the input"
                )
            array = array[0]
        return np.broadcast_to(array, shape).astype(np.float64)

    def _broadcast(self, form: Form, shape: tuple[int, ...], node: Node) -> Form:
        if form.shape == shape:
            return form
        size = prod(form.shape)
        try:
            places = np.broadcast_to(np.arange(size).reshape(form.shape), shape).reshape(-1)
        except ValueError as error:
            raise BadNetworkError(f"{node.where}: samples are mixed in a sum") from error
        constant = np.broadcast_to(form.constant, shape)
        return self._mapped(form, shape, select(places, size), constant, node.where)

    def _gathered(self, node: Node, signals: list[Node], forms: dict[int, Form]) -> Form:
        """Carry out what moves values or puts several signals side by side.

        The operation is run once a signal, on the numbers of its places: its result shows where
        each value goes.
        """
        terms: list[Term] = []
        shape = node.shape[1:]
        filling = node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
        if node.op == "pad" and filling:
            raise BadNetworkError(f"{node.where}: padding with {filling}; pad with zeros")
        if node.shape[:1] != (self.batch,):
            raise BadNetworkError(f"{node.where}: {node.op} mixes samples; keep the batch first")
        for chosen in {id(signal): signal for signal in signals}.values():
            form = forms[id(chosen)]
            size = prod(form.shape)
            places = {
                id(signal): np.zeros((self.batch, *forms[id(signal)].shape), np.int64)
                for signal in signals
            }
            numbers = np.arange(self.batch * size).reshape(self.batch, *form.shape) + 1
            places[id(chosen)] = numbers
            args, kwargs = substitute((node.args, node.kwargs), places, zero_rest=True)
            assert node.function is not None
            moved = node.function(*args, **kwargs)
            moved = (moved if node.item is None else moved[node.item]).numpy()
            flat = moved.reshape(self.batch, -1) - 1
            own = np.where(flat >= 0, flat - np.arange(self.batch)[:, None] * size, -1)
            if not (own == own[0]).all() or own.max(initial=-1) >= size or own.min() < -1:
                raise BadNetworkError(f"{node.where}: {node.op} mixes samples")
            moving = select(own[0], size)
            terms += [self._through(moving, term, node.where) for term in form.terms]
        given = {
            id(signal): np.broadcast_to(
                forms[id(signal)].constant, (self.batch, *forms[id(signal)].shape)
            )
            for signal in signals
        }
        args, kwargs = substitute((node.args, node.kwargs), given)
        assert node.function is not None
        result = node.function(*args, **kwargs)
        result = result if node.item is None else result[node.item]
        return Form(shape, tuple(terms), result.numpy()[0].astype(np.float64))
