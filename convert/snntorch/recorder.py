"""Record every torch operation between the spiking neurons of a module that runs.

A torch function mode sees every call, with plain tensors, so the module runs as it always does:
its loops, branches and states are executed, not read. A call of a snntorch neuron is recorded as
one operation. :mod:`~mtspark.convert.snntorch.symbolic` decides what the operations mean.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import snntorch
import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mtspark.convert.snntorch.names import layer_names
from mtspark.convert.snntorch.neurons import refuse_kind
from mtspark.core.errors import BadNetworkError, MtsparkError

LIBRARIES = (
    str(Path(torch.__file__).parent) + "/",
    str(Path(snntorch.__file__).parent) + "/",
    # All of mtspark.convert, by the link in the package and behind it.
    str(Path(__file__).parents[1]) + "/",
    str(Path(__file__).resolve().parents[1]) + "/",
)
"""Frames of these folders are not the user's source."""
TRACE = str(Path(__file__).with_name("trace.py"))
"""Starts the recording: who called it is outside of the network."""

TO_PYTHON = {"__bool__", "__float__", "__int__", "__index__", "item", "tolist", "numpy"}
"""Functions that turn a signal into a Python value, which a recording cannot follow."""

IN_PLACE = {"add_", "sub_", "mul_", "div_", "neg_", "copy_"}

Recorded = tuple[tuple[Any, ...], dict[str, Any]]

MAXIMA = {
    "max_pool1d", "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices",
    "adaptive_max_pool1d", "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices", "max", "amax", "maximum",
}  # fmt: skip
"""Functions that take the largest of several values."""

RANDOM = {
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal",
    "bernoulli", "poisson", "multinomial", "gumbel_softmax", "bernoulli_", "normal_", "uniform_",
    "random_", "exponential_", "geometric_", "cauchy_", "log_normal_",
}  # fmt: skip
"""Functions that draw random numbers."""
ENCODERS = str(Path(snntorch.__file__).with_name("spikegen.py"))
"""Functions that make spikes of values."""
NEAR = 4
"""Frames between an operation and the function of snntorch that it belongs to, at most."""

SHAPED_LIKE = {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
"""Functions that take the shape of a signal and nothing else of it."""


@dataclass(eq=False)
class Node:
    """One recorded tensor.

    Attributes:
        op: "input", "neuron", or the name of the torch function.
        args, kwargs: of the call, tensors that carry a signal replaced by their nodes.
        shape: of the tensor, batch included.
        where: the line of the user's source, ready to print.
        call: of the neuron that it is a result of.
        quantity: "spikes", "current" or "membrane" of that neuron.
        item: its place where the function returned several tensors.
        function: the torch function, to run it again.
        result: the tensor itself, of a maximum.
    """

    op: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    where: str = ""
    call: NeuronCall | None = None
    quantity: str = ""
    item: int | None = None
    function: Callable[..., Any] | None = None
    result: Tensor | None = None


@dataclass(eq=False)
class NeuronCall:
    """One call of one spiking neuron module.

    Attributes:
        module: the module.
        name: its name in the network.
        drive: node of its input; None where the input carries no signal.
        constant: its input, where that carries no signal.
        states: what came in as a state, by quantity: a node, a plain tensor, or nothing.
        before: the module's own membrane before the call, where it has one of this shape.
        spikes, current, membrane: what it computed, plain tensors.
        results: the tensors that it returned, by quantity.
        where: the line of the user's source.
    """

    module: SpikingNeuron
    name: str
    drive: Node | None
    constant: Tensor | None
    states: dict[str, Node | Tensor]
    before: Tensor | None
    where: str
    spikes: Tensor = field(default_factory=lambda: torch.zeros(0))
    current: Tensor | None = None
    membrane: Tensor = field(default_factory=lambda: torch.zeros(0))
    results: dict[str, Tensor] = field(default_factory=dict)


STATE_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "Leaky": ("membrane",),
    "RLeaky": ("spikes", "membrane"),
    "Synaptic": ("current", "membrane"),
    "RSynaptic": ("spikes", "current", "membrane"),
}
"""States that a neuron takes after its input, in its order; its results are spikes and states."""

STATE_KEYWORDS = {"spk": "spikes", "syn": "current", "mem": "membrane"}


class Recorder(TorchFunctionMode):
    """Records the operations of a module; see the module text.

    Attributes:
        network: the module.
        calls: of neurons, in order.
        nodes: recorded tensors, in order.
        arguments: tensors of no size that stand for states of neurons, and what was made of
            them, with the name of the argument of forward; by id.
    """

    def __init__(self, network: nn.Module, lines: dict[int, str]) -> None:
        super().__init__()
        self.network = network
        self.calls: list[NeuronCall] = []
        self.nodes: list[Node] = []
        self._own = {id(tensor) for tensor in network.state_dict(keep_vars=True).values()}
        self._lines = lines
        names = layer_names(network)
        self._paths = {id(module): path for path, module in network.named_modules()}
        self._names = {key: names[path] for key, path in self._paths.items()}
        self._nodes: dict[int, tuple[Tensor, Node]] = {}
        self._active: list[nn.Module] = []
        self._paused = False
        self.arguments: dict[int, tuple[Tensor, str]] = {}

    def mark(self, tensor: Tensor, node: Node) -> Node:
        """Let a tensor carry a signal from now on.

        Args:
            tensor: of any shape.
            node: that describes it; it gets the tensor's shape.
        """
        node.shape = tuple(tensor.shape)
        if node.op in MAXIMA:
            # It may be changed in place later on.
            node.result = tensor.detach().clone()
        # The tensor is kept, so that no other one can get its id.
        self._nodes[id(tensor)] = (tensor, node)
        self.nodes.append(node)
        return node

    def node(self, value: Any) -> Node | None:
        """The node of a tensor; None where it carries no signal."""
        if isinstance(value, Tensor) and id(value) in self._nodes:
            return self._nodes[id(value)][1]
        return None

    def with_nodes(self, value: Any) -> Any:
        """Replace tensors that carry signals in nested lists, tuples and dicts by their nodes."""
        if isinstance(value, Tensor):
            # What is no parameter may be changed in place later on.
            return self.node(value) or (value if id(value) in self._own else value.clone())
        if isinstance(value, dict):
            return {key: self.with_nodes(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            entries = [self.with_nodes(entry) for entry in value]
            if isinstance(value, tuple):
                return type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)
            return entries
        return value

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the function, and record it where a signal goes in."""
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        argument = self._argument_in((args, kwargs)) if self.arguments else None
        if argument is None:
            return self._called(func, args, kwargs)
        try:
            result = self._called(func, args, kwargs)
        except MtsparkError:
            raise
        except Exception as error:
            raise no_state(self.where(), argument) from error
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.arguments[id(tensor)] = (tensor, argument)
        return result

    def _argument_in(self, value: Any) -> str | None:
        """The argument of forward that stands for a state, among what a function is given."""
        if isinstance(value, Tensor):
            return self.arguments[id(value)][1] if id(value) in self.arguments else None
        if isinstance(value, dict):
            value = list(value.values())
        found = map(self._argument_in, value) if isinstance(value, (list, tuple)) else ()
        return next((name for name in found if name is not None), None)

    def _called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = _function_name(func)
        if name in RANDOM:
            raise encodes(self.where(), f"{name} draws random numbers")
        if not self._carries_signal((args, kwargs)):
            return func(*args, **kwargs)
        if _called_from(ENCODERS, sys._getframe(1)):
            raise encodes(self.where(), "the input is encoded")
        if name == "__getitem__" and isinstance(args[1], str):
            raise BadNetworkError(
                f"{self.where()}: the input is asked for its entry {args[1]!r}, as a dict of "
                f"several is, and a chip has one; {JOIN}"
            )
        if name in SHAPED_LIKE:
            return func(*args, **kwargs)
        if name in TO_PYTHON:
            raise BadNetworkError(
                f"{self.where()}: a signal is turned into a Python value ({name}), which a chip "
                "cannot branch on; compute the same thing for every input"
            )
        recorded: Recorded = self.with_nodes(args), self.with_nodes(kwargs)
        if name in IN_PLACE and args[0]._is_view():
            raise BadNetworkError(
                f"{self.where()}: {name} changes a part of another tensor in place; write the "
                "result to a tensor of its own"
            )
        if name == "__iter__":
            parts = args[0].unbind(0)
            self._record(parts, "unbind", recorded, torch.unbind)
            return iter(parts)
        result = func(*args, **kwargs)
        if name == "__setitem__":
            node = _node(name, recorded, self.where(), func)
            self.mark(args[0], node)
            return result
        self._record(result, name, recorded, func)
        return result

    def _record(self, result: Any, name: str, recorded: Recorded, func: Any) -> None:
        if isinstance(result, Tensor):
            node = Node(name, recorded[0], recorded[1], where=self.where(), function=func)
            self.mark(result, node)
        elif isinstance(result, (tuple, list)) and not isinstance(result, torch.Size):
            where = self.where()
            for index, entry in enumerate(result):
                if isinstance(entry, Tensor):
                    node = Node(
                        name, recorded[0], recorded[1], where=where, item=index, function=func
                    )
                    self.mark(entry, node)

    def _carries_signal(self, value: Any) -> bool:
        if isinstance(value, Tensor):
            return id(value) in self._nodes
        if isinstance(value, dict):
            return any(self._carries_signal(entry) for entry in value.values())
        if isinstance(value, (list, tuple)):
            return any(self._carries_signal(entry) for entry in value)
        return False

    def where(self) -> str:
        """The line of the user's source that is running, and the layer."""
        place = ""
        if self._active and type(self._active[-1]).__module__.startswith(("torch.", "snntorch")):
            module = self._active[-1]
            name = self._paths.get(id(module), "")
            place = f" (layer {name!r}, {type(module).__name__})" if name else ""
            if id(module) in self._lines:
                return self._lines[id(module)] + place
        return (user_line(sys._getframe(1)) or type(self.network).__name__) + place

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the module's calls; its neurons become single steps."""
        neurons = [m for m in self.network.modules() if isinstance(m, SpikingNeuron)]
        hooks = []
        for module in self.network.modules():
            hooks.append(module.register_forward_pre_hook(self._enter))
            hooks.append(module.register_forward_hook(self._leave, always_call=True))
        for neuron in neurons:
            neuron.forward = self._neuron_forward(neuron)
        try:
            with torch.no_grad(), self:
                yield
        finally:
            for neuron in neurons:
                del neuron.forward
            for hook in hooks:
                hook.remove()
            self._active.clear()

    def _enter(self, module: nn.Module, *_: Any) -> None:
        self._active.append(module)

    def _leave(self, *_: Any) -> None:
        if self._active:
            self._active.pop()

    def _neuron_forward(self, neuron: SpikingNeuron) -> Callable[..., Any]:
        original, kind = neuron.forward, type(neuron).__name__
        own = type(neuron).forward is getattr(getattr(snntorch, kind, None), "forward", None)
        if kind not in STATE_ARGUMENTS or not own:

            def refuse(*_: Any, **__: Any) -> Any:
                raise refuse_kind(neuron, self.where())

            return refuse

        def forward(input_: Tensor, *states: Any, **named: Any) -> Any:
            quantities = STATE_ARGUMENTS[kind]
            given = dict(zip(quantities, states, strict=False))
            given |= {STATE_KEYWORDS[key]: value for key, value in named.items()}
            fits = neuron.mem.shape == input_.shape
            call = NeuronCall(
                module=neuron,
                name=self._names[id(neuron)] or kind.lower(),
                drive=self.node(input_),
                constant=None if self.node(input_) else input_.detach().clone(),
                states={
                    key: self.node(value) or value
                    for key, value in given.items()
                    if value is not None
                },
                before=neuron.mem.detach().clone() if fits else None,
                where=self.where(),
            )
            self._paused = True
            try:
                result = original(input_, *states, **named)
            finally:
                self._paused = False
            parts = result if isinstance(result, tuple) else (result,)
            self.calls.append(call)
            for quantity, tensor in zip(
                ("spikes", *[q for q in quantities if q != "spikes"]), parts, strict=False
            ):
                setattr(call, quantity, tensor.detach().clone())
                call.results[quantity] = tensor
                node = Node("neuron", call=call, quantity=quantity, where=call.where)
                self.mark(tensor, node)
            if len(parts) == 1:
                call.membrane = neuron.mem.detach().clone()
                if "current" in quantities:
                    call.current = neuron.syn.detach().clone()
            return result

        return forward


def encodes(where: str, what: str) -> BadNetworkError:
    """Explain that spikes are made of the input before the network, not within it.

    Args:
        where: the user's line.
        what: happens there.

    Returns:
        The error to raise.
    """
    return BadNetworkError(
        f"{where}: {what} inside forward, and a chip is sent spikes or values that were encoded "
        "before; encode outside of the network and give it one step at a time, for example "
        "spikegen.rate(data, num_steps=T)"
    )


JOIN = "join them before the network, torch.cat([x, y], 1), and split them in forward"
"""How a network of several inputs gets one."""


def no_state(where: str, name: str) -> BadNetworkError:
    """Explain that a network has one input, and that its other arguments are states of neurons.

    Args:
        where: the user's line.
        name: of the argument.

    Returns:
        The error to raise.
    """
    return BadNetworkError(
        f"{where}: {name!r} is no state of a spiking neuron, so it is an input beside the first, "
        f"and a chip has one; {JOIN} "
        "(states that are packed together, and numbers as of steps, need a default: "
        "states=None, num_steps=25)"
    )


def _called_from(path: str, frame: FrameType | None) -> bool:
    """Whether one of the innermost frames runs a file."""
    for _ in range(NEAR):
        if frame is None:
            return False
        if frame.f_code.co_filename == path:
            return True
        frame = frame.f_back
    return False


def _node(
    name: str, recorded: Recorded, where: str, function: Any, item: int | None = None
) -> Node:
    return Node(name, *recorded, where=where, function=function, item=item)


def _function_name(func: Any) -> str:
    name = getattr(func, "__name__", str(func))
    if name == "__get__":
        return f"get:{getattr(func.__self__, '__name__', '?')}"
    return name


def user_line(frame: FrameType | None) -> str | None:
    """The innermost frame outside of torch, snntorch and convert, as "file:line: source".

    None where a module of torch, such as Sequential, runs without any line of the user's.
    """
    while frame is not None and frame.f_code.co_filename != TRACE:
        path = frame.f_code.co_filename
        if not path.startswith((*LIBRARIES, "<")) and Path(path).name != "contextlib.py":
            text = linecache.getline(path, frame.f_lineno).strip()
            return f"{Path(path).name}:{frame.f_lineno}: {text}".rstrip(": ")
        frame = frame.f_back
    return None


@contextmanager
def construction_lines() -> Iterator[dict[int, str]]:
    """Collect, by id, the line of the user's source where each module was built."""
    lines: dict[int, str] = {}
    kept: list[nn.Module] = []
    plain = nn.Module.__init__

    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        line = user_line(sys._getframe(1))
        if line is not None:
            lines[id(self)] = line
            kept.append(self)

    nn.Module.__init__ = init  # type: ignore[method-assign]
    try:
        yield lines
    finally:
        nn.Module.__init__ = plain  # type: ignore[method-assign]
