"""Comparison of the network that learned quantised, the twin, with the chip's reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import ChipTrace
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadRequestError
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.deploy.bundle import AGENT, Bundle
from mtspark.deploy.quantise import options_of
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.compare import Agreement, Comparison, Places
from mtspark.workflows.diff.sides import in_windows

if TYPE_CHECKING:
    from mtspark.train.quantised import Twin

BATCH = 25
"""Frames that both answer together."""


def compare_with_twin(
    twin: Twin,
    network: ChipNetwork,
    frames: NDArray[np.uint8],
    row: int,
    *,
    places: Places | None = None,
    progress: ProgressCallback = no_progress,
) -> Agreement:
    """Compare every spike and membrane of the twin with the reference.

    The twin has no pipeline, so each layer is compared in its own window of the decision.

    Args:
        twin: whose layers have the names of the network's populations.
        network: that the reference runs.
        frames: uint8 (decisions, *input shape).
        row: of the task.
        places: of the network's neurons among those of the twin; None: it has all of them.
        progress: receives the decisions compared so far.
    """
    import torch

    from mtspark.train.quantised import TwinTrace

    names = [population.name for population in network.populations]
    windows = {name: network.window(name) for name in names}
    first_steps = {name: window.start for name, window in windows.items()}
    reference = ReferenceChip(network)
    comparison = Comparison()
    stage = "reference against twin"
    with torch.no_grad():
        integers = twin.integers()
        for start in range(0, len(frames), BATCH):
            progress(Progress(stage, start, len(frames), "decisions"))
            batch = frames[start : start + BATCH]
            trace = TwinTrace()
            rows = torch.full((len(batch),), row)
            twin(torch.from_numpy(batch), rows, trace, integers=integers)
            expected = reference.decide(batch, row, trace=True).trace
            assert expected is not None
            if places is not None:
                expected = places.spread(expected)
            got = ChipTrace(
                {name: trace.spikes[name].numpy() > 0 for name in windows},
                {name: trace.membranes[name].long().numpy() for name in windows},
            )
            comparison.add_trace(
                in_windows(expected, windows),
                got,
                first_steps=first_steps,
                only=None if places is None else places.kept,
            )
    progress(Progress(stage, len(frames), len(frames), "decisions"))
    return comparison.result()


def twin_of(bundle: Bundle, places: Places | None = None) -> Twin:
    """Build the twin of a bundle's checkpoint, rounded as the bundle was.

    Args:
        bundle: of the checkpoint.
        places: of the neurons of a pruned bundle; its twin has all of them.

    Raises:
        BadRequestError: no checkpoint in the bundle, or a network whose layers are not the
            bundle's.
    """
    from mtspark.train.checkpoint import load_agent
    from mtspark.train.quantised import Twin, TwinOptions

    if AGENT not in bundle.files or not (bundle.folder / AGENT).exists():
        raise BadRequestError(
            f"{bundle.folder}: holds no checkpoint ({AGENT}), so it has no twin; export it from one"
        )
    quantised = options_of(bundle)
    options = TwinOptions(
        weight_bits=quantised.weight_bits,
        per_channel=quantised.per_channel,
        keep_sums=quantised.keep_sums,
        with_value=bundle.network.provenance.get("head") != "advantage",
    )
    twin = Twin(load_agent(bundle.folder / AGENT, content=bundle.content(AGENT)).network, options)
    expected = {population.name: population.shape for population in bundle.network.populations}
    if places is not None:
        expected = dict(places.shapes)
    shapes = {**twin.network.layer_shapes, "head": (twin.network.config.actions,)}
    if expected != shapes:
        raise BadRequestError(
            f"{bundle.folder}: its layers {list(expected)} are not its checkpoint's {list(shapes)}"
        )
    return twin
