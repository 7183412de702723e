"""Runs a netx file in lava-dl's own environment; needs nothing of mtspark.

``python netx_worker.py REQUEST.npz RESULT.npz``. The request holds the file's name (`network`),
whether its input layer has neurons (`direct`), and `series`: what is sent in each step of each
decision, (decisions, steps, *input shape in channels, rows, columns). The result holds, for each
layer i of neurons, `spikes_i` and `membranes_i`, (decisions, steps, ...) laid out as Lava lays
them out: (columns, rows, channels), or (neurons,).
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def main(request: str, result: str) -> None:
    """Build the network, run it once from rest, and write what every neuron did."""
    from lava.lib.dl import netx
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.source import RingBuffer
    from lava.proc.monitor.process import Monitor

    asked = np.load(request)
    direct, series = bool(asked["direct"]), np.asarray(asked["series"])
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
    monitors = []
    for layer in network.layers:
        spikes, membranes = Monitor(), Monitor()
        spikes.probe(layer.out, decisions * steps)
        membranes.probe(layer.neuron.v, decisions * steps)
        monitors.append((layer, spikes, membranes))
    how = Loihi2SimCfg(select_tag="fixed_pt")
    for decision in range(decisions):
        if direct and decision:
            neuron.bias_mant.set(frames[decision, 0].copy())
        network.run(condition=RunSteps(num_steps=steps), run_cfg=how)
    found: dict[str, Any] = {}
    for index, (layer, spikes, membranes) in enumerate(monitors):
        for kind, monitor in (("spikes", spikes), ("membranes", membranes)):
            ((log,),) = (tuple(entry.values()) for entry in monitor.get_data().values())
            found[f"{kind}_{index}"] = np.asarray(log).reshape(decisions, steps, *layer.shape)
    network.stop()
    np.savez(result, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
