"""Networks of norse and sinabs."""

from __future__ import annotations

from typing import Any

import numpy as np
from nir_cases import STEPS, case, inputs, seeded, with_shapes


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


@case("norse", "LIFCell, w_in = tau_syn / dt put in", ["Affine", "CubaLIF"], dt=1e-6, mended=True)
def norse_repaired() -> Any:
    import nir

    graph, x, wanted = norse_cuba()
    (node,) = (node for node in graph.nodes.values() if isinstance(node, nir.CubaLIF))
    node.w_in = node.tau_syn / 1e-6
    return graph, x, wanted


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


@case(
    "sinabs",
    "LIF, norm_input=False, r = 1 / (1 - exp(-dt / tau)) put in",
    ["Affine", "LIF"],
    dt=1.0,
    integrator="exponential",
    mended=True,
    **SINABS_IF,
)
def sinabs_repaired() -> Any:
    import nir

    graph, x, wanted = sinabs_plain_lif()
    (node,) = (node for node in graph.nodes.values() if isinstance(node, nir.LIF))
    node.r = 1 / -np.expm1(-1.0 / node.tau)
    return graph, x, wanted


@case("sinabs", "ExpLeak", ["Affine", "LI"], dt=1.0, integrator="exponential")
def sinabs_leak() -> Any:
    torch = seeded()
    import sinabs.layers as sl

    leak = sl.ExpLeakSqueeze(
        tau_mem=torch.full((6,), 8.0), num_timesteps=STEPS, min_v_mem=None, norm_input=True
    )
    return sinabs_case(torch.nn.Sequential(torch.nn.Linear(4, 6), leak), inputs(4))
