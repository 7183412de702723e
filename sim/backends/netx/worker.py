"""Runs a netx file in lava-dl's own environment; needs nothing of mtspark.

``python worker.py REQUEST.npz RESULT.npz``. The request holds the file's name (`network`),
whether its input layer has neurons (`direct`), whether a layer hears itself (`loops`), and
`series`: what is sent in each step of each decision, (decisions, steps, *input shape in channels,
rows, columns). The result holds, for each layer i of neurons, `spikes_i` and `membranes_i`,
(decisions, steps, ...) laid out as Lava lays them out: (columns, rows, channels), or (neurons,).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(request: str, result: str) -> None:
    """Build the network, run it once from rest, and write what every neuron did."""
    from lava.lib.dl import netx
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.extractor import Extractor, PyLoihiExtractorModel, VarWire
    from lava.proc.io.source import RingBuffer

    asked = np.load(request)
    direct, loops = bool(asked["direct"]), bool(asked["loops"])
    series = np.asarray(asked["series"])
    decisions, steps = series.shape[:2]
    # Each layer is set to rest where its window of a decision begins: input neurons at Lava's
    # step 1, a first layer of synapses one later.
    network = netx.hdf5.Network(
        net_config=str(asked["network"]), reset_interval=steps, reset_offset=0 if direct else 1
    )
    shape = tuple(network.inp.shape)
    # Lava lays images out as (columns, rows, channels), and steps last.
    flat = series.reshape(decisions * steps, *series.shape[2:])
    frames = flat.transpose(0, 3, 2, 1) if flat.ndim == 4 else flat
    frames = frames.reshape(decisions, steps, *shape).astype(np.int32)
    neuron = network.in_layer.neuron
    if direct:
        # netx leaves it to the user to hand the input to these neurons: as their bias.
        neuron.bias_mant.init = frames[0, 0].copy()
        neuron.bias_mant.shape = shape
    else:
        data = np.moveaxis(frames.reshape(decisions * steps, *shape), 0, -1)
        source = RingBuffer(data=data)
        source.s_out.connect(network.inp)
    # A Monitor would hand its log out value by value, 20 us each: minutes for an image network.
    # These two hand out whole arrays, and keep those of one decision until they are fetched.
    wires = []
    for layer in network.layers:
        spikes = Extractor(shape=tuple(layer.out.shape), buffer_size=steps)
        layer.out.connect(spikes.in_port)
        membranes = VarWire(buffer_size=steps)
        membranes.connect_var(layer.neuron.v)
        wires.append((layer, spikes, membranes))
    logs_of: dict[str, list[Any]] = {}
    # An Extractor has two models, neither of which has the tag.
    models = {Extractor: PyLoihiExtractorModel}
    how = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)
    for decision in range(decisions):
        if direct and decision:
            neuron.bias_mant.set(frames[decision, 0].copy())
        if loops and decision:
            put_to_rest(network.layers)
        network.run(condition=RunSteps(num_steps=steps), run_cfg=how)
        for index, (layer, spikes, membranes) in enumerate(wires):
            for kind, wire in (("spikes", spikes), ("membranes", membranes)):
                log = np.stack([wire.receive() for _ in range(steps)])
                logs_of.setdefault(f"{kind}_{index}", []).append(log.reshape(steps, *layer.shape))
    # Written, whole, before Lava ends: what goes wrong in ending it is no loss.
    arrays: dict[str, Any] = {
        name: np.stack(logs).astype(np.int64) for name, logs in logs_of.items()
    }
    part = Path(f"{result}.part.npz")
    np.savez(part, **arrays)
    part.replace(result)
    network.stop()


def put_to_rest(layers: Any) -> None:
    """States and messages on their way.

    Neurons go to rest where their window begins, but a loop would still bring them what they
    sent in the step before.
    """
    for layer in layers:
        state = [layer.neuron.u, layer.neuron.v]
        for name in ("synapse", "synapse_rec"):
            synapse = getattr(layer, name, None)
            state += [getattr(synapse, key) for key in ("a_buff", "a_buf") if hasattr(synapse, key)]
        for variable in state:
            variable.set(np.zeros(variable.shape, np.int32))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
