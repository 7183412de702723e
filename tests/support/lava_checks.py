"""What tests of Lava share: Lava beside the engine, decision after decision."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import ChipNetwork
from mtspark.sim.backends import LavaBackend
from mtspark.sim.engine import EngineChip
from tests.support.engine_checks import assert_same


def assert_lava_equals_engine(
    network: ChipNetwork, frames: Iterable[NDArray[np.integer]], row: int, *, stock: bool
) -> int:
    """Decide on `frames` of the task in `row`; every spike and membrane must agree.

    Args:
        network: the chip network.
        frames: of one chip, (1, channels, height, width) each.
        row: the task's number.
        stock: whether Lava's own processes run it instead of ours.

    Returns:
        How many spikes were compared.
    """
    engine, fired = EngineChip(network), 0
    engine.start(1)
    with LavaBackend(network, stock=stock, task=row if stock else None, trace=True) as chip:
        for frame in frames:
            wanted, found = (one.decide(frame, row, trace=True) for one in (engine, chip))
            assert_same(found, wanted)
            assert wanted.trace is not None
            fired += sum(int(spikes.sum()) for spikes in wanted.trace.spikes.values())
    return fired
