"""A small chip network: a convolution and a dense readout, no two lengths alike."""

from __future__ import annotations

import numpy as np
import pytest

from mtspark.core.chip_network.network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    FrameInput,
    Population,
    Readout,
    SignMode,
)
from mtspark.core.environments.protocol import GameProtocol, Task


@pytest.fixture(scope="session")
def chip() -> ChipNetwork:
    """Two tasks, T = 3, depth 2; never change its arrays in place."""
    rng = np.random.default_rng(3)
    conv = Population(
        name="conv",
        shape=(3, 3, 2),
        current_decay=4095,
        membrane_decay=2048,
        thresholds=rng.integers(1, 2**17, (2, 3, 3, 2)),
        bias_mantissa=rng.integers(-4095, 4096, (3, 3, 2)),
        bias_exponent=5,
    )
    out = Population(
        name="out",
        shape=(4,),
        current_decay=4095,
        membrane_decay=0,
        thresholds=np.full((2, 4), 2**17 - 1),
        bias_mantissa=np.array([1, -2, 3, -4]),
    )
    first = Connection(
        name="first",
        source=INPUT,
        target="conv",
        kind=ConnectionKind.CONV,
        weights=2 * rng.integers(-128, 128, (3, 2, 3, 2)),
        sign_mode=SignMode.MIXED,
        exponent=-7,
        stride=(2, 1),
        padding=(1, 0),
        dilation=(1, 2),
    )
    second = Connection(
        name="second",
        source="conv",
        target="out",
        kind=ConnectionKind.DENSE,
        weights=rng.integers(0, 256, (4, 18)),
        sign_mode=SignMode.EXCITATORY,
        exponent=2,
    )
    return ChipNetwork(
        name="tiny",
        input=FrameInput((2, 5, 4), 8),
        populations=(conv, out),
        connections=(first, second),
        readout=Readout("out", np.array([0.5, 1.0, 2.0, 1 / 3])),
        tasks=(Task("pong", "pong", (0, 1, 3)), Task("breakout", "breakout", (0, 3))),
        time_steps=3,
        protocol=GameProtocol(frame_stack=2, screen_size=5),
        provenance={"checkpoint": "sha256:0"},
    )
