"""Make small networks with other tools, export them with the tools' own exporters, and run them.

A program of its own, for an interpreter that has the tools (norse, sinabs, snntorch,
SpikingJelly, Rockpool, spyx): python nir_tools.py FOLDER writes, for every case, NAME.nir and
NAME.npz (what went in, what the tool itself gave), and cases.json with what happened. It
imports nothing of mtspark.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

warnings.simplefilter("ignore")
STEPS = 60
CASES: list[tuple[str, str, list[str], dict[str, Any], Callable[[], Any]]] = []


def case(tool: str, name: str, nodes: list[str], **options: Any) -> Callable[..., Any]:
    """Register a case; it returns graph, input (T, batch, ...) and output (T, batch, ...)."""

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        CASES.append((tool, name, nodes, options, function))
        return function

    return register


def inputs(*shape: int, rate: float = 0.3, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((STEPS, 2, *shape)) < rate).astype(np.float32)


def seeded() -> Any:
    import torch

    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    return torch


def with_shapes(graph: Any, *shapes: tuple[int, int]) -> Any:
    """Fill in the sizes that norse and sinabs leave open, which nir cannot write."""
    import nir

    waiting = list(shapes)
    for name in sorted(graph.nodes):
        node = graph.nodes[name]
        if isinstance(node, nir.Conv2d) and node.input_shape is None:
            node.input_shape = waiting.pop(0)
        if isinstance(node, nir.Flatten) and node.input_type["input"] is None:
            node.input_type = {"input": np.array([4, 3, 3])}
    return graph


# norse: forward Euler with dt 1e-3; its exporter writes tau = dt / tau_mem_inv, so that a step
# of 1e-3 * 1e-3 of the file's unit is what norse does.
def norse_run(net: Any, x: np.ndarray) -> np.ndarray:
    torch = seeded()
    state, out = None, []
    for step in torch.from_numpy(x):
        z, state = net(step, state)
        out.append(z.numpy())
    return np.stack(out)


@case("norse", "LIFBoxCell", ["Affine", "LIF"], dt=1e-6)
def norse_lif() -> Any:
    torch = seeded()
    import norse.torch as norse

    p = norse.LIFBoxParameters(
        tau_mem_inv=torch.full((6,), 100.0), v_th=torch.full((6,), 0.2), v_leak=torch.zeros(6)
    )
    net = norse.SequentialState(torch.nn.Linear(4, 6), norse.LIFBoxCell(p))
    net[0].weight.mul_(3)
    x = inputs(4)
    return norse.to_nir(net, torch.zeros(1, 4)), x, norse_run(net, x)


@case("norse", "LIFBoxCell with v_leak", ["Affine", "LIF"], dt=1e-6, start="rest")
def norse_leak() -> Any:
    torch = seeded()
    import norse.torch as norse

    p = norse.LIFBoxParameters(
        tau_mem_inv=torch.full((6,), 100.0),
        v_th=torch.full((6,), 0.2),
        v_leak=torch.full((6,), 0.1),
    )
    net = norse.SequentialState(torch.nn.Linear(4, 6), norse.LIFBoxCell(p))
    net[0].weight.mul_(3)
    x = inputs(4)
    return norse.to_nir(net, torch.zeros(1, 4)), x, norse_run(net, x)


@case("norse", "LIFCell", ["Affine", "CubaLIF"], dt=1e-6)
def norse_cuba() -> Any:
    torch = seeded()
    import norse.torch as norse

    p = norse.LIFParameters(
        tau_syn_inv=torch.full((6,), 200.0),
        tau_mem_inv=torch.full((6,), 100.0),
        v_leak=torch.zeros(6),
        v_th=torch.full((6,), 0.3),
        v_reset=torch.zeros(6),
    )
    net = norse.SequentialState(torch.nn.Linear(4, 6), norse.LIFCell(p))
    net[0].weight.mul_(3)
    x = inputs(4)
    return norse.to_nir(net, torch.zeros(1, 4)), x, norse_run(net, x)


@case("norse", "Conv2d, IAFCell", ["Conv2d", "IF"], dt=1e-6)
def norse_conv() -> Any:
    torch = seeded()
    import norse.torch as norse

    p = norse.IAFParameters(v_th=torch.full((3, 4, 5), 1.0))
    net = norse.SequentialState(
        torch.nn.Conv2d(2, 3, (3, 2), stride=(1, 1), padding=0), norse.IAFCell(p)
    )
    x = inputs(2, 6, 6)
    graph = norse.to_nir(net, torch.zeros(1, 2, 6, 6))
    return with_shapes(graph, (6, 6)), x, norse_run(net, x)


@case("norse", "LIBoxCell", ["Affine", "LI"], dt=1e-6)
def norse_li() -> Any:
    torch = seeded()
    import norse.torch as norse

    p = norse.LIBoxParameters(tau_mem_inv=torch.full((6,), 100.0), v_leak=torch.zeros(6))
    net = norse.SequentialState(torch.nn.Linear(4, 6), norse.LIBoxCell(p))
    x = inputs(4)
    return norse.to_nir(net, torch.zeros(1, 4)), x, norse_run(net, x)


# sinabs: spikes at the threshold, subtracts; one spike a step where it is told so.
def sinabs_run(net: Any, x: np.ndarray) -> np.ndarray:
    torch = seeded()
    result = net(torch.from_numpy(x).transpose(0, 1).flatten(0, 1))
    return result.unflatten(0, (2, STEPS)).transpose(0, 1).numpy()


def sinabs_case(net: Any, x: np.ndarray, *shapes: tuple[int, int]) -> Any:
    import sinabs.nir

    torch = seeded()
    out = sinabs_run(net, x)
    sample = torch.from_numpy(x).transpose(0, 1).flatten(0, 1)
    return with_shapes(sinabs.nir.to_nir(net, sample), *shapes), x, out


SINABS_IF = {"reset": "subtract", "fires_at_threshold": True}


@case("sinabs", "IAF, one spike a step", ["Affine", "IF"], **SINABS_IF)
def sinabs_iaf() -> Any:
    torch = seeded()
    import sinabs.activation as sa
    import sinabs.layers as sl

    iaf = sl.IAFSqueeze(num_timesteps=STEPS, spike_fn=sa.SingleSpike, min_v_mem=None)
    return sinabs_case(torch.nn.Sequential(torch.nn.Linear(4, 6), iaf), inputs(4))


@case("sinabs", "IAF, several spikes a step", ["Affine", "IF"], **SINABS_IF)
def sinabs_multi() -> Any:
    torch = seeded()
    import sinabs.layers as sl

    net = torch.nn.Sequential(torch.nn.Linear(4, 6), sl.IAFSqueeze(num_timesteps=STEPS))
    net[0].weight.mul_(5)
    return sinabs_case(net, inputs(4))


@case(
    "sinabs",
    "Conv2d, IAF, SumPool2d, Flatten",
    ["Conv2d", "IF", "SumPool2d", "Flatten", "Affine"],
    **SINABS_IF,
)
def sinabs_cnn() -> Any:
    torch = seeded()
    import sinabs.activation as sa
    import sinabs.layers as sl

    def iaf() -> Any:
        return sl.IAFSqueeze(num_timesteps=STEPS, spike_fn=sa.SingleSpike, min_v_mem=None)

    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, stride=1, padding=1, bias=False),
        iaf(),
        sl.SumPool2d((2, 2)),
        torch.nn.Conv2d(4, 4, 3, padding=1, groups=2),
        iaf(),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 3 * 3, 5),
        iaf(),
    )
    net[0].weight.mul_(2)
    net[6].weight.mul_(3)
    return sinabs_case(net, inputs(2, 6, 6), (6, 6), (3, 3))


@case("sinabs", "LIF", ["Affine", "LIF"], dt=1.0, integrator="exponential", **SINABS_IF)
def sinabs_lif() -> Any:
    torch = seeded()
    import sinabs.activation as sa
    import sinabs.layers as sl

    lif = sl.LIFSqueeze(
        tau_mem=torch.full((6,), 8.0),
        num_timesteps=STEPS,
        spike_fn=sa.SingleSpike,
        spike_threshold=torch.full((6,), 0.2),
        min_v_mem=None,
    )
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), lif)
    net[0].weight.mul_(3)
    return sinabs_case(net, inputs(4))


@case(
    "sinabs",
    "LIF, norm_input=False",
    ["Affine", "LIF"],
    dt=1.0,
    integrator="exponential",
    **SINABS_IF,
)
def sinabs_plain_lif() -> Any:
    torch = seeded()
    import sinabs.activation as sa
    import sinabs.layers as sl

    lif = sl.LIFSqueeze(
        tau_mem=torch.full((6,), 8.0),
        num_timesteps=STEPS,
        spike_fn=sa.SingleSpike,
        spike_threshold=torch.full((6,), 1.0),
        min_v_mem=None,
        norm_input=False,
    )
    return sinabs_case(torch.nn.Sequential(torch.nn.Linear(4, 6), lif), inputs(4))


@case("sinabs", "ExpLeak", ["Affine", "LI"], dt=1.0, integrator="exponential")
def sinabs_leak() -> Any:
    torch = seeded()
    import sinabs.layers as sl

    leak = sl.ExpLeakSqueeze(
        tau_mem=torch.full((6,), 8.0), num_timesteps=STEPS, min_v_mem=None, norm_input=True
    )
    return sinabs_case(torch.nn.Sequential(torch.nn.Linear(4, 6), leak), inputs(4))


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


# Rockpool: decays e^(-dt/tau), adds before it decays, subtracts.
def rockpool_case(net: Any, x: np.ndarray) -> Any:
    torch = seeded()
    from rockpool.nn.modules.torch.nir import to_nir

    out, _, _ = net(torch.from_numpy(x).transpose(0, 1))
    return to_nir(net), x, out.transpose(0, 1).detach().numpy()


ROCKPOOL = {"dt": 1e-3, "integrator": "rockpool", "reset": "subtract", "fires_at_threshold": True}


@case("Rockpool", "LIFNeuronTorch", ["Affine", "LIF"], **ROCKPOOL)
def rockpool_lif() -> Any:
    torch = seeded()
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules.torch import LIFNeuronTorch, LinearTorch

    tau = torch.full((6,), 0.02)
    net = Sequential(
        LinearTorch((4, 6), has_bias=True),
        LIFNeuronTorch(6, tau_mem=tau, dt=1e-3, max_spikes_per_dt=torch.tensor(1.0)),
    )
    return rockpool_case(net, inputs(4))


@case("Rockpool", "LIFTorch", ["Linear", "CubaLIF"], **ROCKPOOL)
def rockpool_cuba() -> Any:
    return rockpool_cuba_case(1.0)


@case("Rockpool", "LIFTorch, several spikes a step", ["Linear", "CubaLIF"], **ROCKPOOL)
def rockpool_several() -> Any:
    return rockpool_cuba_case(2.0**16)


def rockpool_cuba_case(spikes: float) -> Any:
    torch = seeded()
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules.torch import LIFTorch, LinearTorch

    cell = LIFTorch(
        6,
        tau_mem=torch.full((6,), 0.02),
        tau_syn=torch.full((6, 1), 0.01),
        dt=1e-3,
        max_spikes_per_dt=torch.tensor(spikes),
    )
    return rockpool_case(Sequential(LinearTorch((4, 6), has_bias=False), cell), inputs(4))


@case("Rockpool", "ExpSynTorch", ["Linear", "LI"], dt=1e-3, integrator="rockpool")
def rockpool_synapse() -> Any:
    torch = seeded()
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules.torch import ExpSynTorch, LinearTorch

    cell = ExpSynTorch(6, tau=torch.full((6,), 0.02), dt=1e-3)
    return rockpool_case(Sequential(LinearTorch((4, 6), has_bias=False), cell), inputs(4))


def main(folder: Path) -> None:
    """Make every case; what fails is written down, not hidden."""
    import nir

    results = []
    for number, (tool, name, nodes, options, function) in enumerate(CASES):
        entry = {"tool": tool, "name": name, "nodes": nodes, "options": options, "file": ""}
        try:
            graph, given, wanted = function()
            file = folder / f"case{number}.nir"
            nir.write(str(file), graph)
            np.savez(file.with_suffix(".npz"), given=given, wanted=np.asarray(wanted))
            entry["file"] = file.name
        except ModuleNotFoundError as error:
            entry["missing"] = str(error)
        except Exception as error:
            traceback.print_exc()
            entry["failed"] = f"{type(error).__name__}: {str(error).splitlines()[:1]}"
        results.append(entry)
    (folder / "cases.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
