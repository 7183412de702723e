"""Networks of Rockpool, spyx and nengo."""

from __future__ import annotations

from typing import Any

import numpy as np
from nir_cases import STEPS, case, inputs, seeded


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


# spyx: each layer compares before it integrates, so it subtracts late and shows spikes late: the
# outputs of n layers of neurons come n steps after those of the same network elsewhere.
SPYX = {"reset": "subtract-late"}


def spyx_case(net: Any, x: np.ndarray, outputs: tuple[int, ...], late: int) -> Any:
    import jax.numpy as jnp
    from spyx import nir as spyx_nir
    from spyx.nn import run

    images = x.ndim == 5
    given = x.transpose(0, 1, 3, 4, 2) if images else x  # it takes channels last
    found = np.asarray(run(net, jnp.asarray(given))[0])
    if found.ndim == 5:
        found = found.transpose(0, 1, 4, 2, 3)
    wanted = np.concatenate([found[late:], np.full_like(found[:late], np.nan)])
    shapes = {"input": np.array(x.shape[2:])}, {"output": np.array(outputs)}
    return spyx_nir.to_nir(net, *shapes), x, wanted


def spyx_layers(*layers: str) -> Any:
    """A Sequential of layers by name."""
    import jax.numpy as jnp
    from flax import nnx
    from spyx import nn

    rngs = nnx.Rngs(1)

    def linear(inputs: int, outputs: int, bias: bool) -> Any:
        layer = nnx.Linear(inputs, outputs, use_bias=bias, rngs=rngs)
        layer.kernel[...] = layer.kernel[...] * 2
        if bias:
            layer.bias[...] = jnp.full(outputs, 0.05)
        return layer

    made = {
        "affine": lambda: linear(4, 6, True),
        "linear": lambda: linear(4, 6, False),
        "last": lambda: linear(2 * 3 * 3, 5, False),
        # Its exporter cannot write a convolution without biases; these are 0.
        "conv": lambda: nnx.Conv(2, 2, (3, 3), padding="SAME", rngs=rngs),
        "IF": lambda: nn.IF((6,)),
        "IF6x6": lambda: nn.IF((6, 6, 2)),
        "IF3x3": lambda: nn.IF((3, 3, 2)),
        "IF5": lambda: nn.IF((5,)),
        "LIF": lambda: nn.LIF((6,), beta=0.8, rngs=rngs),
        "CuBaLIF": lambda: nn.CuBaLIF((6,), alpha=0.6, beta=0.8, rngs=rngs),
        "RIF": lambda: nn.RIF((6,), rngs=rngs),
        "pool": lambda: nn.SumPool((2, 2), (2, 2), "VALID"),
        "flatten": lambda: nn.Flatten(),
    }
    return nn.Sequential(*[made[name]() for name in layers])


IMAGES = ["Conv2d", "IF", "SumPool2d"]


@case("spyx", "IF", ["Affine", "IF"], **SPYX)
def spyx_if() -> Any:
    return spyx_case(spyx_layers("affine", "IF"), inputs(4), (6,), 1)


@case("spyx", "Conv2d, SumPool", IMAGES, **SPYX)
def spyx_conv() -> Any:
    net = spyx_layers("conv", "IF6x6", "pool", "conv", "IF3x3")
    return spyx_case(net, inputs(2, 6, 6), (2, 3, 3), 2)


@case("spyx", "Flatten behind images", [*IMAGES, "Flatten", "Linear"], **SPYX)
def spyx_flatten() -> Any:
    net = spyx_layers("conv", "IF6x6", "pool", "flatten", "last", "IF5")
    return spyx_case(net, inputs(2, 6, 6), (5,), 2)


@case("spyx", "Flatten, weights in order", [*IMAGES, "Flatten", "Linear"], mended=True, **SPYX)
def spyx_flatten_repaired() -> Any:
    graph, x, wanted = spyx_flatten()
    node = graph.nodes["layer_4"]
    node.weight = node.weight.reshape(5, 3, 3, 2).transpose(0, 3, 1, 2).reshape(5, 18)
    return graph, x, wanted


@case("spyx", "LIF", ["Affine", "LIF"], dt=1.0, **SPYX)
def spyx_lif() -> Any:
    return spyx_case(spyx_layers("affine", "LIF"), inputs(4), (6,), 1)


@case("spyx", "LIF, r = tau / dt put in", ["Affine", "LIF"], dt=1.0, mended=True, **SPYX)
def spyx_lif_repaired() -> Any:
    graph, x, wanted = spyx_lif()
    node = graph.nodes["layer_1"]
    node.r = node.tau / 1.0
    return graph, x, wanted


# This one takes away what it crossed before it decays, as everybody else does.
@case("spyx", "CuBaLIF", ["Affine", "CubaLIF"], dt=1.0, reset="subtract")
def spyx_cuba() -> Any:
    return spyx_case(spyx_layers("affine", "CuBaLIF"), inputs(4), (6,), 1)


@case(
    "spyx",
    "CuBaLIF, r and w_in put in",
    ["Affine", "CubaLIF"],
    dt=1.0,
    reset="subtract",
    mended=True,
)
def spyx_cuba_repaired() -> Any:
    graph, x, wanted = spyx_cuba()
    node = graph.nodes["layer_1"]
    node.r, node.w_in = node.tau_mem / 1.0, node.tau_syn / 1.0
    return graph, x, wanted


@case("spyx", "RIF", ["Linear", "IF", "subgraph"], **SPYX)
def spyx_recurrent() -> Any:
    return spyx_case(spyx_layers("linear", "RIF"), inputs(4), (6,), 1)


@case("spyx", "RIF, input past the loop", ["Linear", "IF", "subgraph"], mended=True, **SPYX)
def spyx_recurrent_repaired() -> Any:
    graph, x, wanted = spyx_recurrent()
    loop = graph.nodes["layer_1"]
    entry = ("layer_1.input", "layer_1.w_rec")
    loop.edges = [edge for edge in loop.edges if edge != entry]
    loop.edges.append(("layer_1.input", "layer_1.lif"))
    return graph, x, wanted


# nengo has no exporter: the graph is written beside the network, both from the same arrays.
NENGO = {"dt": 1e-3, "integrator": "exponential"}


@case("nengo", "LIF, min_voltage=-inf, two layers", ["Affine", "Linear", "LIF"], **NENGO)
def nengo_lif() -> Any:
    return nengo_case(-np.inf)


@case("nengo", "LIF, two layers", ["Affine", "Linear", "LIF"], **NENGO)
def nengo_clipped() -> Any:
    return nengo_case(0.0)


def nengo_case(lowest: float) -> Any:
    import nengo
    import nir

    nengo.rc["decoder_cache"]["enabled"] = "False"
    generator = np.random.default_rng(1)
    first, second = generator.normal(3, 4, (6, 4)), generator.normal(10, 20, (5, 6))
    bias, x = np.full(6, 0.4), inputs(4)
    rest = {"voltage": nengo.dists.Choice([0])}  # by default, neurons begin anywhere
    neurons = nengo.LIF(tau_rc=0.02, tau_ref=0.0, min_voltage=lowest, initial_state=rest)
    outputs = []
    for sample in range(x.shape[1]):
        with nengo.Network(seed=0) as net:
            source = nengo.Node(lambda t, sample=sample: x[min(round(t / 1e-3), STEPS) - 1, sample])
            layers = [
                nengo.Ensemble(n, 1, neuron_type=neurons, gain=np.ones(n), bias=one)
                for n, one in ((6, bias), (5, np.zeros(5)))
            ]
            nengo.Connection(source, layers[0].neurons, transform=first, synapse=None)
            # A spike is an impulse of 1 / dt.
            both = layers[0].neurons, layers[1].neurons
            nengo.Connection(*both, transform=second * 1e-3, synapse=None)
            probe = nengo.Probe(layers[1].neurons)
        with nengo.Simulator(net, dt=1e-3, progress_bar=False) as simulator:
            simulator.run_steps(STEPS)
        outputs.append(simulator.data[probe] > 0)
    lif = [nir.LIF(np.full(n, 0.02), np.ones(n), np.zeros(n), np.ones(n)) for n in (6, 5)]
    graph = nir.NIRGraph.from_list(nir.Affine(first, bias), lif[0], nir.Linear(second), lif[1])
    return graph, x, np.stack(outputs, 1).astype(float)
