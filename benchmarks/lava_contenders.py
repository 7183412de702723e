"""Lava as a contender; runs as a program of its own, since Lava must be killable.

`python benchmarks/lava_contenders.py stock NETWORK.npz STEPS` prints one JSON line: the
milliseconds a step took, for several equal parts of the run. `stock` builds the graph from
Lava's own Conv, Dense and LIF.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np


def stock(file: str, steps: int) -> list[float]:
    """Milliseconds a step of a graph of Lava's own processes, in parts of `steps` steps."""
    from mtspark.deploy.lava.shim import load_lava

    load_lava()
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import Dense
    from lava.proc.io.source import RingBuffer
    from lava.proc.lif.process import LIF

    data = np.load(file)
    # Lava's tensors are (width, height, channels).
    frame = data["frame"].transpose(2, 1, 0)
    source = RingBuffer(data=np.repeat(frame[..., None], 4, axis=-1).astype(np.int32))
    port: Any = source.s_out
    shape = frame.shape
    for number in range(int(data["layers"])):
        weights, stride = data[f"w{number}"], int(data[f"s{number}"])
        if weights.ndim == 4:
            # (out, width, height, in), flipped since Lava's Conv is a true convolution
            kernel = weights.transpose(0, 3, 2, 1)[:, ::-1, ::-1]
            synapses = Conv(weight=np.ascontiguousarray(kernel), input_shape=shape, stride=stride)
            port.connect(synapses.s_in)
        else:
            synapses = Dense(weights=_reordered(weights, shape))
            (port.flatten() if len(shape) == 3 else port).connect(synapses.s_in)
        shape = synapses.a_out.shape
        threshold, bias = int(data[f"t{number}"]), data[f"b{number}"].T
        neurons = LIF(shape=shape, du=4095, dv=1024, vth=threshold, bias_mant=bias)
        synapses.a_out.connect(neurons.a_in)
        port = neurons.s_out
    taken = []
    try:
        for part in range(4):
            began = time.perf_counter()
            source.run(RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
            if part:  # The first one compiles.
                taken.append((time.perf_counter() - began) / steps * 1e3)
    finally:
        source.stop()
    return taken


def _reordered(weights: Any, shape: tuple[int, ...]) -> Any:
    """Columns from (channel, row, column) to Lava's (column, row, channel) order."""
    if len(shape) != 3:
        return weights
    width, height, channels = shape
    grid = weights.reshape(len(weights), channels, height, width)
    return np.ascontiguousarray(grid.transpose(0, 3, 2, 1).reshape(len(weights), -1))


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "stock":
        sys.exit(__doc__)
    print(json.dumps(stock(sys.argv[2], int(sys.argv[3]))))
