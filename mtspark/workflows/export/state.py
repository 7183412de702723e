"""What the steps of an export have worked out so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.float_network import FloatNetwork
from mtspark.deploy.quantise import (
    CalibrationReport,
    ExactNeurons,
    Headroom,
    LayerExactness,
    LayerFidelity,
    PaletteCost,
    Quantisation,
    QuantiseOptions,
    warnings_of,
)
from mtspark.workflows.export.fidelity import Fidelity, TaskCost
from mtspark.workflows.export.request import ExportRequest, Source

if TYPE_CHECKING:
    from nir import NIRGraph
    from numpy.typing import NDArray

    from mtspark.convert.agreement import LayerAgreement, PoolExchange, TraceAgreement
    from mtspark.deploy.prune import Pruning
    from mtspark.deploy.rewriting import Rewriting
    from mtspark.train.checkpoint import Agent
    from mtspark.train.sparsity import PathSharing

NETX_NOTE = "weight exponents 0 and biases in steps of 64, for the netx file"


@dataclass(frozen=True)
class Comparison:
    """Float network and chip on the same inputs.

    Attributes:
        inputs: which, in a few words.
        layers: how each spiking layer agrees.
        remedies: by layer, what was tried on these inputs and mends its fault.
    """

    inputs: str
    layers: tuple[LayerFidelity, ...]
    remedies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Export:
    """An export under way, or finished.

    Every step returns it with one more thing worked out; what no step has reached yet is None.

    Attributes:
        request: what was asked.
        kind: what the network comes from.
        name: of the network.
        provenance: where it comes from, as texts.
        files: what the bundle holds beside the network, by name.
        agent: the trained agent.
        graphs: its NIR graph of each task, read back from `files`.
        float_network: before quantisation, all tasks in one.
        one_frame: whether a run is given one frame for all steps.
        input_bits: 0 (spikes) or 8 (values) of an input message.
        series: inputs in memory, (T, batch, *shape of a step).
        module_agreement: how the float network agrees with the module's own run.
        options: how weights become integers.
        calibration: what calibration chose for each connection.
        plain_network: the chip network before its thresholds were limited.
        network: the chip network.
        exactness: which neurons lost nothing on the way to integers.
        palette: what fewer distinct thresholds change in each population.
        palette_tasks: what they change in the answers, by task.
        pruning: what was removed because no input makes it matter.
        sharing: the exported task's pathway beside those of the agent's other tasks.
        switches: what a change from each of these writes, or why it has no integers.
        headroom: how much of the range of sums each population can use.
        graph_agreement: how the NIR graph of each task agrees with torch.
        comparison: float network and chip side by side.
        encoder_warning: why frames of a game are not sent as changes, though nobody chose.
        graph_warning: why no NIR graph was written.
        exchange: what it costs that layers fire before their max pool, where they do.
    """

    request: ExportRequest
    kind: Source
    name: str
    provenance: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    agent: Agent | None = None
    graphs: Mapping[str, NIRGraph] = field(default_factory=dict)
    float_network: FloatNetwork | None = None
    one_frame: bool = False
    input_bits: int = 0
    series: NDArray[Any] | None = None
    module_agreement: tuple[TraceAgreement, ...] = ()
    options: QuantiseOptions | None = None
    calibration: tuple[CalibrationReport, ...] = ()
    plain_network: ChipNetwork | None = None
    network: ChipNetwork | None = None
    exactness: tuple[LayerExactness, ...] = ()
    palette: tuple[PaletteCost, ...] = ()
    palette_tasks: Mapping[str, TaskCost] = field(default_factory=dict)
    pruning: Pruning | None = None
    sharing: PathSharing | None = None
    switches: Mapping[str, Rewriting | str] = field(default_factory=dict)
    headroom: tuple[Headroom, ...] = ()
    graph_agreement: Mapping[str, tuple[LayerAgreement, ...]] = field(default_factory=dict)
    comparison: Comparison | None = None
    encoder_warning: str | None = None
    graph_warning: str | None = None
    exchange: PoolExchange | None = None

    @property
    def quantisation(self) -> Quantisation | None:
        """The record that the bundle carries; None for integers that were read from a file."""
        if self.options is None:
            return None
        asked = self.request
        return Quantisation(self.options, asked.palette, asked.palette_chip, asked.calibrate)

    @property
    def notes(self) -> list[str]:
        """What was assumed, a sentence each."""
        if self.kind is Source.NETX:
            assert self.network is not None
            notes = self.network.provenance.get("notes", "")
            return ["integers as they stand in the file", *filter(None, [notes])]
        notes_of_reader = self.float_network.notes if self.float_network is not None else ()
        for_netx = self.options is not None and self.options.for_netx
        return [*notes_of_reader, *([NETX_NOTE] if for_netx else [])]

    @property
    def warnings(self) -> list[str]:
        """What went badly wrong in a layer, and what could not be done, a sentence each."""
        compared = self.comparison
        layers = [] if compared is None else warnings_of(compared.layers, compared.remedies)
        others = [text for text in (self.encoder_warning, self.graph_warning) if text is not None]
        exchanged = [] if self.exchange is None else self.exchange.sentences
        return [*exchanged, *layers, *others]

    def fidelity(self) -> Fidelity:
        """What conversion and quantisation did to the network: the content of fidelity.json."""
        if self.kind is Source.AGENT:
            return self._agent_fidelity()
        read = Fidelity(
            headroom=self.headroom,
            import_notes=tuple(self.notes),
            warnings=tuple(self.warnings),
        )
        return read if self.kind is Source.NETX else self._network_fidelity(read)

    def _agent_fidelity(self) -> Fidelity:
        options = self.options
        return Fidelity(
            headroom=self.headroom,
            graph_against_torch=self.graph_agreement,
            # Trained neurons never are; a bundle without any says nothing of it.
            exact=self._exact() if any(layer.neurons.any() for layer in self.exactness) else (),
            palette=self.palette,
            palette_tasks=self.palette_tasks,
            calibration=self.calibration,
            pruned=self.pruning,
            pathway=self._pathway(),
            quantise_options={"weight_limits": _plain(options.weight_limits)}
            if self.request.calibrate is not None and options is not None
            else {},
            warnings=tuple(self.warnings),
        )

    def _pathway(self) -> dict[str, Any] | None:
        """Plain values of the task's pathway, and of what a change to it writes."""
        if self.sharing is None:
            return None
        found = {
            name: one if isinstance(one, str) else asdict(one)
            for name, one in self.switches.items()
        }
        counts = {name: getattr(self.sharing, name) for name in ("synapses", "own", "union")}
        return {**counts, "switches": found}

    def _exact(self) -> tuple[ExactNeurons, ...]:
        return tuple(layer.counted() for layer in self.exactness)

    def _network_fidelity(self, read: Fidelity) -> Fidelity:
        options, comparison = self.options, self.comparison
        assert options is not None
        assert comparison is not None
        return replace(
            read,
            module_against_network=self.module_agreement,
            exact=self._exact(),
            palette=self.palette,
            calibration=self.calibration,
            quantise_options={
                "may_saturate": options.may_saturate,
                "for_netx": options.for_netx,
                "weight_limits": _plain(options.weight_limits),
                "largest_currents": dict(options.largest_currents),
            },
            max_pool=self.exchange,
            compared_on=comparison.inputs,
            layers=comparison.layers,
        )


def _plain(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {name: array.tolist() for name, array in arrays.items()}
