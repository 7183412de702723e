"""What an export changed in a network, as fidelity.json keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mtspark.convert.agreement import LayerAgreement, PoolExchange, TraceAgreement
from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files import read_text_guarded
from mtspark.deploy.bundle import FIDELITY, Bundle
from mtspark.deploy.prune import Pruning
from mtspark.deploy.quantise import (
    CalibrationReport,
    ExactNeurons,
    Headroom,
    LayerFidelity,
    PaletteCost,
)

OF_AGENTS = ("headroom", "graph_against_torch")
"""Fields that the file of an agent always has."""
OF_AGENTS_IF_ASKED = (
    "exact",
    "palette",
    "palette_tasks",
    "calibration",
    "quantise_options",
    "pruned",
    "pathway",
    "warnings",
)
OF_NETWORKS = (
    "headroom",
    "exact",
    "module_against_network",
    "max_pool",
    "palette",
    "calibration",
    "quantise_options",
    "import_notes",
    "compared_on",
    "layers",
    "warnings",
)
"""Fields of a network whose weights were quantised and that is no agent."""
OF_INTEGERS = ("headroom", "import_notes", "warnings")
"""Fields of a network that came as integers."""


@dataclass(frozen=True)
class TaskCost:
    """What fewer distinct thresholds change in the chip's answers to one task.

    Attributes:
        same_action: share of the actions that stay.
        layers: by population, share of the neurons whose number of spikes changes.
    """

    same_action: float
    layers: Mapping[str, float]


@dataclass(frozen=True)
class Fidelity:
    """What conversion and quantisation did to a network; what does not apply is empty.

    Attributes:
        headroom: how much of the range of sums each population can use.
        exact: how many neurons of each population lost nothing on the way to integers.
        graph_against_torch: agents: how the NIR graph of each task agrees with torch.
        module_against_network: snntorch modules: how the float network agrees with the module.
        max_pool: what `--max-pool or` changed, where it changed anything.
        palette: what fewer distinct thresholds change in each population.
        palette_tasks: agents: what they change in the answers to each task.
        calibration: what calibration chose for each connection.
        quantise_options: what was worked out for the quantiser; plain values.
        import_notes: what was assumed, a sentence each.
        compared_on: the inputs of the comparison in `layers`, in a few words.
        layers: each spiking layer of the chip beside the float network.
        pruned: agents: what was removed because no input makes it matter.
        pathway: agents: the synapses of the exported task and of all tasks, see
            :class:`mtspark.train.sparsity.PathSharing`; and by task what a change from it writes,
            before neurons are removed, see :class:`mtspark.deploy.rewriting.Rewriting`, or why
            it is not known.
        warnings: what went badly wrong, a sentence each.
    """

    headroom: tuple[Headroom, ...] = ()
    exact: tuple[ExactNeurons, ...] = ()
    graph_against_torch: Mapping[str, tuple[LayerAgreement, ...]] = field(default_factory=dict)
    module_against_network: tuple[TraceAgreement, ...] = ()
    max_pool: PoolExchange | None = None
    palette: tuple[PaletteCost, ...] = ()
    palette_tasks: Mapping[str, TaskCost] = field(default_factory=dict)
    calibration: tuple[CalibrationReport, ...] = ()
    quantise_options: Mapping[str, Any] = field(default_factory=dict)
    import_notes: tuple[str, ...] = ()
    compared_on: str = ""
    layers: tuple[LayerFidelity, ...] = ()
    pruned: Pruning | None = None
    pathway: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the content of fidelity.json: the fields that apply to this kind of network."""
        values: dict[str, Any] = _lists(asdict(self))
        values["layers"] = [layer.to_json() for layer in self.layers]
        if self.graph_against_torch:
            asked = [name for name in OF_AGENTS_IF_ASKED if values[name]]
            return {name: values[name] for name in (*OF_AGENTS, *asked)}
        if self.max_pool is None:
            del values["max_pool"]
        wanted = OF_NETWORKS if self.compared_on else OF_INTEGERS
        return {name: values[name] for name in wanted if name in values}


def fidelity_of(bundle: Bundle) -> Fidelity:
    """Read what a bundle's export changed; nothing where the bundle has no such file.

    Raises:
        BadFileError: its fidelity.json is damaged.
    """
    if FIDELITY not in bundle.files:
        return Fidelity()
    path = bundle.folder / FIDELITY
    content = read_text_guarded(path, json.loads, content=bundle.content(FIDELITY))
    try:
        if not all(part.isprintable() for part in _texts(content)):
            raise ValueError("a text has characters that cannot be printed")
        return _adapter().validate_python(content)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise BadFileError(f"{path}: {one_line(place, 60)} is damaged; export again") from error
    except ValueError as error:
        raise BadFileError(f"{path}: {error}; export again") from error


@cache
def _adapter() -> TypeAdapter[Fidelity]:
    return TypeAdapter(Fidelity)


def _lists(content: Any) -> Any:
    """The same values with lists in place of tuples, as JSON has them."""
    if isinstance(content, Mapping):
        return {name: _lists(value) for name, value in content.items()}
    return [_lists(value) for value in content] if isinstance(content, (list, tuple)) else content


def _texts(content: Any) -> Iterator[str]:
    """Every text in JSON values, the names of fields included."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        yield from content
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)
