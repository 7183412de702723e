"""Other simulators as contenders; run by a Python of their own, since they need other versions.

`PEERS/bin/python benchmarks/peers.py NETWORK.npz [REPEATS]` prints one line of JSON: median,
least and most milliseconds a step and sample, and the activity of each layer beside ours.
With `turns` for REPEATS it first prints what it can run and then runs, for each name that it
reads, that one once, so that `engine.py --peers` can let all contenders take turns.

Needs torch, sinabs, spikingjelly, nengo 3.2 with nengo-loihi (which needs NumPy 1) and
xylosim; what cannot be imported is left out, with the reason.
"""
# ruff: noqa: E402 (libraries read the number of threads when they are imported)

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from turns import TURN_S

# One turn: processor milliseconds a step and sample.
Turn = Callable[[], float]
Made = tuple[Turn, list[float]]
KEEP = 0.75


class Layers:
    """The network that engine.py wrote: weights, strides, thresholds, biases, shapes."""

    def __init__(self, data: Any, prefix: str = "") -> None:
        """Take the arrays whose names start with `prefix`."""
        self.number = int(data[f"{prefix}layers"])
        self.steps = int(data["steps"])
        self.frames = data[f"{prefix}frames"].astype(np.float32)
        self.expected = data[f"{prefix}activity"].tolist()
        layers = range(self.number)
        self.weights = [data[f"{prefix}w{i}"].astype(np.float32) for i in layers]
        self.strides = [int(data[f"{prefix}s{i}"]) for i in layers]
        self.thresholds = [float(data[f"{prefix}t{i}"]) for i in layers]
        self.biases = [data[f"{prefix}b{i}"].astype(np.float32) for i in layers]


def torch_layers(
    net: Layers, neurons: list[Any], reset: Callable[[], None], time_axis: int
) -> Made:
    """Time torch's Conv2d and Linear, each over all steps at once, with `neurons` between.

    Both libraries take whole sequences, which is their fastest way: a layer is computed for
    all steps before the next one.
    """
    import torch

    torch.set_num_threads(1)
    samples = len(net.frames)
    synapses: list[Any] = []
    for weights, stride in zip(net.weights, net.strides, strict=True):
        made: Any
        if weights.ndim == 4:
            made = torch.nn.Conv2d(
                weights.shape[1], weights.shape[0], weights.shape[2:], stride, bias=False
            )
        else:
            made = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False)
        made.weight.data = torch.tensor(weights)
        synapses.append(made)
    biases = [torch.tensor(bias) for bias in net.biases]
    first = torch.tensor(net.frames).unsqueeze(time_axis)
    shape = [-1] * first.ndim
    shape[time_axis] = net.steps
    first = first.expand(shape)

    def forward() -> list[Any]:
        sent, all_sent = first, []
        with torch.inference_mode():
            reset()
            for made, bias, fire in zip(synapses, biases, neurons, strict=True):
                leading, flat = sent.shape[:2], sent.flatten(0, 1)
                if isinstance(made, torch.nn.Linear):
                    flat = flat.flatten(1)
                sent = fire((made(flat) + bias).unflatten(0, leading))
                all_sent.append(sent)
        return all_sent

    def turn() -> float:
        began = time.process_time()
        forward()
        return (time.process_time() - began) / net.steps / samples * 1e3

    return turn, [float(sent.mean()) for sent in forward()]


def sinabs(net: Layers) -> Made:
    """sinabs' LIF, which spikes at the threshold, at most once a step, and resets to zero."""
    import torch
    from sinabs.activation import MembraneReset, SingleSpike
    from sinabs.layers import LIF

    neurons = [
        LIF(
            tau_mem=-1 / math.log(KEEP),
            spike_threshold=torch.tensor(threshold),
            spike_fn=SingleSpike,
            reset_fn=MembraneReset(),
            norm_input=False,
        ).eval()
        for threshold in net.thresholds
    ]

    def reset() -> None:
        for neuron in neurons:
            neuron.reset_states()

    return torch_layers(net, neurons, reset, 1)


def spikingjelly(net: Layers) -> Made:
    """SpikingJelly's LIFNode over several steps, in torch, hard reset, undecayed input."""
    from spikingjelly.activation_based.neuron import LIFNode

    neurons = [
        LIFNode(
            tau=1 / (1 - KEEP),
            decay_input=False,
            v_threshold=threshold,
            v_reset=0.0,
            step_mode="m",
        ).eval()
        for threshold in net.thresholds
    ]

    def reset() -> None:
        for neuron in neurons:
            neuron.reset()

    return torch_layers(net, neurons, reset, 0)


def nengo_loihi(net: Layers) -> Made:
    """nengo-loihi's emulator in integers: a block a layer, its own convolution weights.

    Blocks are not split over cores, which would only add work. The pipeline is filled before
    the clock starts.
    """
    import nengo
    from nengo_loihi.block import Axon, LoihiBlock, Synapse
    from nengo_loihi.builder import Model
    from nengo_loihi.builder.discretize import discretize_model
    from nengo_loihi.conv import channel_idxs, conv2d_loihi_weights, pixel_idxs
    from nengo_loihi.emulator.interface import EmulatorInterface
    from nengo_loihi.inputs import SpikeInput

    model: Any = Model()
    shape = net.frames.shape[1:]
    source: Any = SpikeInput(int(np.prod(shape)))
    model.add_input(source)
    fill, steps = net.number + 1, net.steps
    for step in range(1, fill + steps + 1):
        source.add_spikes(step, net.frames[0].ravel().nonzero()[0], permanent=True)
    pre: Any = source
    for i, (weights, stride) in enumerate(zip(net.weights, net.strides, strict=True)):
        bias = net.biases[i]
        block = LoihiBlock(bias.size, label=f"layer{i}")
        cells = block.compartment
        cells.decay_u[:], cells.decay_v[:], cells.scale_u = 1.0, 1 - KEEP, False
        cells.vmin, cells.vth[:], cells.bias[:] = -np.inf, net.thresholds[i], bias.ravel()
        cells.refract_delay[:] = 1
        if weights.ndim == 4:
            taken = nengo.transforms.ChannelShape(shape, channels_last=False)
            conv = nengo.Convolution(
                len(weights),
                taken,
                kernel_size=weights.shape[2:],
                strides=(stride, stride),
                channels_last=False,
                init=weights.transpose(2, 3, 1, 0),
            )
            synapse = Synapse(int(np.prod(shape[1:])))
            synapse.set_population_weights(*conv2d_loihi_weights(conv), pop_type=32)
            axon = Axon(synapse.n_axons)
            axon.set_compartment_axon_map(pixel_idxs(taken), atoms=channel_idxs(taken))
        else:
            synapse = Synapse(weights.shape[1])
            synapse.set_weights(np.ascontiguousarray(weights.T))
            axon = Axon(synapse.n_axons)
        block.add_synapse(synapse)
        axon.target = synapse
        pre.add_axon(axon)
        model.add_block(block)
        pre, shape = block, bias.shape
    discretize_model(model)
    sizes = [0, *np.cumsum([bias.size for bias in net.biases]).tolist()]

    def turn() -> float:
        emulator = EmulatorInterface(model, seed=0)
        emulator.run_steps(fill)
        began = time.process_time()
        emulator.run_steps(steps)
        return (time.process_time() - began) / steps * 1e3

    # Layer i gets its first message at step 2 + i.
    emulator, spiked = EmulatorInterface(model, seed=0), []
    for _ in range(fill + steps):
        emulator.step()
        spiked.append(emulator.compartment.spiked.copy())
    seen = np.array(spiked)
    rates = [
        float(seen[1 + i : 1 + i + steps, sizes[i] : sizes[i + 1]].mean())
        for i in range(net.number)
    ]
    return turn, rates


def xylosim(net: Layers) -> Made:
    """Rockpool's simulator of Xylo, on the dense network only; it resets by subtraction.

    A current decays before it is added there, so it is half of ours, and so is the threshold.
    """
    from xylosim.v2 import XyloLayer, XyloSynapse

    def synapses(weights: Any) -> Any:
        halves = (weights.T // 2).astype(int).tolist()  # 8 bits with a sign
        return [[XyloSynapse(j, 0, w) for j, w in enumerate(row) if w] for row in halves]

    hidden, out = (len(weights) for weights in net.weights)
    # The layer points into these lists, which `turn` must therefore keep alive.
    first, last = synapses(net.weights[0]), synapses(net.weights[1])
    layer = XyloLayer(
        synapses_in=first,
        synapses_rec=[[] for _ in range(hidden)],
        synapses_out=last,
        aliases=[[] for _ in range(hidden)],
        threshold=[int(net.thresholds[0]) // 2] * hidden,
        threshold_out=[32767] * out,
        has_bias=False,
        bias=[0] * hidden,
        bias_out=[0] * out,
        weight_shift_inp=1,
        weight_shift_rec=1,
        weight_shift_out=1,
        dash_mem=[2] * hidden,
        dash_mem_out=[2] * out,
        dash_syns=[[1, 1]] * hidden,
        dash_syns_out=[[1]] * out,
        name="dense",
    )
    steps = 64
    raster = [net.frames[0].ravel().astype(int).tolist()] * steps

    def turn() -> float:
        layer.reset_all()
        began = time.process_time()
        layer.evolve(raster)
        return (time.process_time() - began) / steps * 1e3

    turn.keep = first, last  # type: ignore[attr-defined]
    turn()
    spikes = np.array(layer.rec_recurrent_spikes)
    return turn, [float(spikes.mean())]


def contenders(data: Any) -> tuple[dict[str, Turn], dict[str, Any]]:
    """Everyone who can be imported, and what was found out about them."""
    net = Layers(data)
    many, dense = Layers(data), Layers(data, "dense_")
    many.frames = data["batch"].astype(np.float32)
    many.expected = data["batch_activity"].tolist()
    net.frames = net.frames[:1]
    plans: dict[str, tuple[str, Callable[[Layers], Made], Layers]] = {
        "sinabs": ("sinabs", sinabs, net),
        "sinabs, batch 32": ("sinabs", sinabs, many),
        "SpikingJelly": ("spikingjelly", spikingjelly, net),
        "SpikingJelly, batch 32": ("spikingjelly", spikingjelly, many),
        "nengo-loihi emulator": ("nengo-loihi", nengo_loihi, net),
        "XyloSim, dense net": ("xylosim", xylosim, dense),
    }
    turns, about = {}, {}
    for name, (package, make, network) in plans.items():
        try:
            turns[name], rates = make(network)
            about[name] = {"version": version(package), "activity": rates}
            about[name]["engine_activity"] = network.expected[: len(rates)]
        except Exception as error:
            # Whatever a foreign library does, the others are still measured.
            about[name] = {"failed": f"{type(error).__name__}: {error}"}
    return turns, about


def main(file: str, repeats: str = "5") -> None:
    """Run alone, or by turns that are asked for on standard input."""
    warnings.simplefilter("ignore")
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What libraries print is not the answer.
    with np.load(file) as data:
        turns, about = contenders(data)
    if repeats == "turns":
        print(json.dumps(about), file=out, flush=True)
        for name in sys.stdin:
            began, took = time.process_time(), []
            # As long as the others' turns are.
            while time.process_time() - began < TURN_S:
                took.append(turns[name.strip()]())
            print(statistics.fmean(took), file=out, flush=True)
        return
    times = {name: [turn() for _ in range(int(repeats) + 1)][1:] for name, turn in turns.items()}
    for name, values in times.items():
        about[name] |= {"median": statistics.median(values), "min": min(values)}
        about[name]["max"] = max(values)
    print(json.dumps(about), file=out)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
