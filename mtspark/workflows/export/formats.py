"""Further files of a bundle: nir, onnx, netx, lava."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mtspark.core.errors import BadRequestError, one_line
from mtspark.workflows.export.request import FormatName

if TYPE_CHECKING:
    from mtspark.core.chip_network import ChipNetwork
    from mtspark.train.checkpoint import Agent

FORMATS: tuple[FormatName, ...] = get_args(FormatName)
INTEGER_STEP, FLOAT_STEP, FLOAT_DECISION = "network.onnx", "agent.step.onnx", "agent.decision.onnx"


def chosen_formats(names: str | Sequence[str] | None) -> tuple[FormatName, ...]:
    """Return the formats that were named, each once.

    Args:
        names: a list, or one text with commas between the names.

    Raises:
        BadRequestError: one that does not exist.
    """
    parts = names.split(",") if isinstance(names, str) else names or ()
    chosen: dict[FormatName, None] = {}
    for part in filter(None, (part.strip() for part in parts)):
        known = next((name for name in FORMATS if name == part), None)
        if known is None:
            raise BadRequestError(f"--formats {one_line(part, 40)}: {', '.join(FORMATS)} exist")
        chosen[known] = None
    return tuple(chosen)


def write_formats(
    folder: Path, network: ChipNetwork, formats: Sequence[str], agent: Agent | None = None
) -> None:
    """Write the files of each format into a bundle that is being made.

    nir: the integers as ``integer.TASK.nir``, with their scales in the metadata (float graphs
    are in every bundle). onnx: the integer network
    (``network.onnx``, one chip step) and, of an agent whose state does not survive decisions, its
    float network (``agent.step.onnx``, ``agent.decision.onnx``). netx: ``TASK.net`` for each task.
    lava: no file, Lava's processes are made from the bundle itself; checks that they can be.

    Raises:
        BadNetworkError: a format cannot hold the network; says why.
    """
    if "nir" in formats:
        from mtspark.convert.nir import network_to_nir, save_graph
        from mtspark.deploy.formats import in_chip_units, integer_metadata

        units = in_chip_units(network)
        for row, task in enumerate(network.tasks):
            graph = network_to_nir(units, row)
            graph.metadata["mtspark"]["integer"] = integer_metadata(network)
            save_graph(graph, folder / f"integer.{task.name}.nir")
    if "lava" in formats:
        from mtspark.deploy.lava import check_fits_lava

        check_fits_lava(network)
    if "onnx" in formats:
        from mtspark.core.files import save_onnx
        from mtspark.deploy.formats import integer_model

        save_onnx(integer_model(network), folder / INTEGER_STEP)
        if agent is not None and not network.stateful:
            from mtspark.convert.onnx import float_decision_model, float_step_model

            save_onnx(float_step_model(agent), folder / FLOAT_STEP)
            save_onnx(float_decision_model(agent), folder / FLOAT_DECISION)
    if "netx" in formats:
        from mtspark.deploy.formats import save_netx

        for row, task in enumerate(network.tasks):
            # network.net is where a bundle keeps the netx file that it was made of.
            save_netx(network, folder / f"{task.name}.net", row)
