"""``mtspark diff DIR --against twin``: the integers that learn against the integers that run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtspark.core.backend import ChipTrace
    from mtspark.core.chip_network.network import ChipNetwork
    from mtspark.deploy.bundle import Bundle
    from mtspark.sim.compare.agreement import Comparison
    from mtspark.train.quantised.twin import Twin

BATCH = 25
"""Frames that the twin answers together."""


def compare_with_twin(bundle: Bundle, frames: NDArray[np.uint8], row: int) -> Comparison:
    """Compare every spike and membrane of the twin with the reference.

    The twin has no pipeline: each layer is compared in its own window of the decision.

    Args:
        bundle: made by ``mtspark export``; its checkpoint is the twin's float network.
        frames: uint8 (decisions, *input shape).
        row: of the task.

    Raises:
        BadRequestError: the bundle has no checkpoint of a network that has a twin.
    """
    import torch

    from mtspark.core.backend import ChipTrace
    from mtspark.sim.backends.reference import ReferenceChip
    from mtspark.sim.compare.agreement import Comparison
    from mtspark.train.quantised.twin import TwinTrace

    twin = twin_of(bundle)
    network = bundle.network
    layers = [population.name for population in network.populations]
    reference = ReferenceChip(network)
    comparison = Comparison()
    with torch.no_grad():
        integers = twin.integers()
        for start in range(0, len(frames), BATCH):
            batch = torch.from_numpy(frames[start : start + BATCH])
            trace = TwinTrace()
            twin(batch, torch.full((len(batch),), row), trace, integers=integers)
            for index in range(len(batch)):
                whole = reference.decide(batch[index : index + 1].numpy(), row, trace=True).trace
                assert whole is not None
                one = slice(index, index + 1)
                comparison.add_trace(
                    in_windows(whole, network),
                    ChipTrace(
                        {name: trace.spikes[name][:, one].numpy() > 0 for name in layers},
                        {name: trace.membranes[name][:, one].long().numpy() for name in layers},
                    ),
                    layers,
                    first_steps={name: network.window(name).start for name in layers},
                )
    return comparison


def in_windows(trace: ChipTrace, network: ChipNetwork) -> ChipTrace:
    """Of each population, only the steps in which it works on the decision."""
    from mtspark.core.backend import ChipTrace

    return ChipTrace(
        {name: log[network.window(name)] for name, log in trace.spikes.items()},
        {name: log[network.window(name)] for name, log in trace.membranes.items()},
    )


def twin_of(bundle: Bundle) -> Twin:
    """The twin of a bundle's checkpoint, rounded as the bundle was.

    Raises:
        BadRequestError: no checkpoint in the bundle, or a network whose layers are not the
            bundle's.
    """
    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.bundle import AGENT
    from mtspark.train.checkpoint.agent import load_agent
    from mtspark.train.quantised.integers import TwinOptions
    from mtspark.train.quantised.twin import Twin

    if not (bundle.folder / AGENT).is_file():
        raise BadRequestError(
            f"{bundle.folder}: holds no checkpoint ({AGENT}), so it has no twin; export it from one"
        )
    notes = bundle.network.provenance
    options = TwinOptions(
        weight_bits=int(notes.get("weight_bits", "8")),
        per_channel=notes.get("weight_scale", "per channel") == "per channel",
        keep_sums=notes.get("rounding", "keeps kernel sums") == "keeps kernel sums",
        with_value=notes.get("head", "dueling") != "advantage",
    )
    twin = Twin(load_agent(bundle.folder / AGENT).network, options)
    expected = {population.name: population.shape for population in bundle.network.populations}
    found = {**twin.network.layer_shapes, "head": (twin.network.config.actions,)}
    if expected != found:
        raise BadRequestError(
            f"{bundle.folder}: its layers {list(expected)} are not its checkpoint's {list(found)}"
        )
    return twin
