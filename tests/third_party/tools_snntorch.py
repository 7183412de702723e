"""Networks of snntorch and SpikingJelly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nir_cases import case, inputs, seeded


# snntorch's own exporter: tau = dt / (1 - beta) with dt 1e-4; the reset is not in the file.
def snntorch_case(net: Any, x: np.ndarray, step: Callable[[Any], Any], **settings: Any) -> Any:
    torch = seeded()
    from snntorch.export_nir import export_to_nir

    out = np.stack([step(one).numpy() for one in torch.from_numpy(x)])
    for module in net.modules():
        for attribute in ("mem", "syn", "spk"):
            if hasattr(module, attribute) and hasattr(getattr(module, attribute), "detach"):
                setattr(module, attribute, getattr(module, attribute).detach())
    sample = torch.from_numpy(x[0, :1])
    return export_to_nir(net, sample, ignore_dims=[0], **settings), x, out


def snntorch_leaky(reset: str, delay: bool) -> Any:
    torch = seeded()
    import snntorch as snn

    full = {"threshold": torch.full((6,), 0.7), "reset_mechanism": reset, "reset_delay": delay}
    first = snn.Leaky(beta=torch.linspace(0.5, 0.95, 6), init_hidden=True, **full)
    second = snn.Leaky(
        beta=torch.full((3,), 0.8),
        init_hidden=True,
        output=True,
        threshold=torch.ones(3),
        reset_mechanism=reset,
        reset_delay=delay,
    )
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), first, torch.nn.Linear(6, 3), second)
    net[0].weight.mul_(3)
    net[2].weight.mul_(4)
    return snntorch_case(net, inputs(4), lambda x: net(x)[0])


@case("snntorch", "Leaky, zero", ["Affine", "LIF"])
def snntorch_zero() -> Any:
    return snntorch_leaky("zero", False)


@case("snntorch", "Leaky, subtract (its default)", ["Affine", "LIF"], reset="subtract-late")
def snntorch_subtract() -> Any:
    return snntorch_leaky("subtract", True)


@case("snntorch", "Leaky, subtract, no delay", ["Affine", "LIF"], reset="subtract-guarded")
def snntorch_guarded() -> Any:
    return snntorch_leaky("subtract", False)


@case("snntorch", "Synaptic, zero, no delay", ["Affine", "CubaLIF"])
def snntorch_synaptic() -> Any:
    torch = seeded()
    import snntorch as snn

    cell = snn.Synaptic(
        alpha=torch.full((6,), 0.7),
        beta=torch.full((6,), 0.8),
        threshold=torch.ones(6),
        init_hidden=True,
        output=True,
        reset_mechanism="zero",
        reset_delay=False,
    )
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), cell)
    return snntorch_case(net, inputs(4), lambda x: net(x)[0])


@case(
    "snntorch",
    "RSynaptic with biases, subtract",
    ["Affine", "CubaLIF", "subgraph"],
    reset="subtract-late",
)
def snntorch_rsynaptic() -> Any:
    torch = seeded()
    import snntorch as snn

    cell = snn.RSynaptic(
        alpha=torch.full((6,), 0.7),
        beta=torch.full((6,), 0.8),
        linear_features=6,
        threshold=torch.ones(6),
        init_hidden=True,
        output=True,
        reset_mechanism="subtract",
    )
    cell.recurrent.bias.add_(0.05)
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), cell)
    return snntorch_case(net, inputs(4), lambda x: net(x)[0])


@case(
    "snntorch",
    "Synaptic between two RSynaptic with biases, subtract",
    ["Affine", "CubaLIF", "subgraph"],
    reset="subtract-late",
)
def snntorch_deep() -> Any:
    torch = seeded()
    import snntorch as snn

    def cell(kind: Any, size: int, alpha: float, **more: Any) -> Any:
        state = {"alpha": torch.full((size,), alpha), "beta": torch.full((size,), 0.9 - alpha / 4)}
        full = {"threshold": torch.full((size,), 0.8), "init_hidden": True}
        return kind(**state, **full, reset_mechanism="subtract", **more)

    def loop(size: int, alpha: float, **more: Any) -> Any:
        made = cell(snn.RSynaptic, size, alpha, linear_features=size, **more)
        made.recurrent.bias.uniform_(-0.05, 0.1)
        return made

    net = torch.nn.Sequential(
        torch.nn.Linear(4, 8),
        loop(8, 0.7),
        torch.nn.Linear(8, 6),
        cell(snn.Synaptic, 6, 0.3),
        torch.nn.Linear(6, 5),
        loop(5, 0.5, output=True),
    )
    net[2].weight.mul_(2)
    net[4].weight.mul_(2)
    return snntorch_case(net, inputs(4), lambda x: net(x)[0])


@case("snntorch", "RLeaky, subtract", ["Affine", "LIF", "subgraph"], reset="subtract-late")
def snntorch_rleaky() -> Any:
    torch = seeded()
    import snntorch as snn

    cell = snn.RLeaky(
        beta=torch.full((6,), 0.8),
        linear_features=6,
        threshold=torch.ones(6),
        init_hidden=True,
        output=True,
        reset_mechanism="subtract",
    )
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), cell)
    return snntorch_case(net, inputs(4), lambda x: net(x)[0])


@case("snntorch", "Conv2d, AvgPool2d", ["Conv2d", "LIF", "AvgPool2d", "Flatten", "Affine"])
def snntorch_conv() -> Any:
    torch = seeded()
    import snntorch as snn

    zero = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
    first = snn.Leaky(beta=torch.full((4, 5, 5), 0.8), threshold=torch.full((4, 5, 5), 0.5), **zero)
    last = snn.Leaky(
        beta=torch.full((3,), 0.8), threshold=torch.full((3,), 0.3), output=True, **zero
    )
    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, stride=1, padding=1),
        first,
        torch.nn.AvgPool2d(2, stride=2),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 2 * 2, 3),
        last,
    )
    return snntorch_case(net, inputs(2, 5, 5), lambda x: net(x)[0])


# SpikingJelly: fires at the threshold, resets to v_reset; its exporter counts in dt = 1e-4.
def spikingjelly_case(net: Any, x: np.ndarray) -> Any:
    torch = seeded()
    from spikingjelly.activation_based import functional, nir_exchange

    functional.set_step_mode(net, "s")
    functional.reset_net(net)
    out = np.stack([net(one).numpy() for one in torch.from_numpy(x)])
    functional.reset_net(net)
    return nir_exchange.export_to_nir(net, torch.from_numpy(x[0])), x, out


@case("SpikingJelly", "IFNode", ["Affine", "IF"], fires_at_threshold=True)
def spikingjelly_if() -> Any:
    torch = seeded()
    from spikingjelly.activation_based import neuron

    return spikingjelly_case(torch.nn.Sequential(torch.nn.Linear(4, 6), neuron.IFNode()), inputs(4))


@case("SpikingJelly", "LIFNode", ["Affine", "LIF"], fires_at_threshold=True)
def spikingjelly_lif() -> Any:
    torch = seeded()
    from spikingjelly.activation_based import neuron

    net = torch.nn.Sequential(torch.nn.Linear(4, 6), neuron.LIFNode(tau=3.0, v_threshold=0.2))
    net[0].weight.mul_(3)
    return spikingjelly_case(net, inputs(4))


@case(
    "SpikingJelly", "LIFNode, v_reset 0.1", ["Affine", "LIF"], fires_at_threshold=True, start="rest"
)
def spikingjelly_reset() -> Any:
    torch = seeded()
    from spikingjelly.activation_based import neuron

    node = neuron.LIFNode(tau=3.0, v_threshold=0.4, v_reset=0.1, decay_input=False)
    return spikingjelly_case(torch.nn.Sequential(torch.nn.Linear(4, 6), node), inputs(4))


@case("SpikingJelly", "CUBALIFNode", ["Affine", "CubaLIF"], fires_at_threshold=True)
def spikingjelly_cuba() -> Any:
    torch = seeded()
    from spikingjelly.activation_based import neuron

    node = neuron.CUBALIFNode(c_decay=0.6, v_decay=0.8, v_threshold=0.7)
    return spikingjelly_case(torch.nn.Sequential(torch.nn.Linear(4, 6), node), inputs(4))


@case(
    "SpikingJelly",
    "Conv2d 'same', AvgPool2d",
    ["Conv2d", "IF", "AvgPool2d", "Flatten", "Linear"],
    fires_at_threshold=True,
)
def spikingjelly_conv() -> Any:
    torch = seeded()
    from spikingjelly.activation_based import neuron

    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, (2, 3), padding="same", dilation=(1, 2)),
        neuron.IFNode(),
        torch.nn.AvgPool2d(2, 2),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 3 * 3, 5, bias=False),
        neuron.IFNode(),
    )
    net[0].weight.mul_(3)
    net[4].weight.mul_(4)
    return spikingjelly_case(net, inputs(2, 6, 6))


@case("SpikingJelly", "Conv1d", ["Conv1d", "LIF"], fires_at_threshold=True)
def spikingjelly_conv1d() -> Any:
    torch = seeded()
    from spikingjelly.activation_based import neuron

    net = torch.nn.Sequential(
        torch.nn.Conv1d(2, 4, 3, stride=2, padding=1), neuron.LIFNode(v_threshold=0.2)
    )
    return spikingjelly_case(net, inputs(2, 9))
