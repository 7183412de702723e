"""The results of runs: what ``mtspark run`` writes into a bundle and ``mtspark report`` reads."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import (
    GameProtocol,
    Sampling,
    environment_to_json,
    protocol_to_json,
)
from mtspark.core.errors import BadFileError
from mtspark.core.files import (
    AnyPath,
    Count,
    Entry,
    Flag,
    Number,
    Positive,
    Share,
    Text,
    VersionOne,
    read_result,
)
from mtspark.core.version import __version__
from mtspark.deploy.bundle import Bundle, run_files
from mtspark.sim.counts import ShareCounter
from mtspark.sim.device import mean_bill
from mtspark.sim.energy import DEFAULT_CARD, Bill, load_card, price
from mtspark.sim.play import Run
from mtspark.sim.verdict import Cost, mean_cost

FORMAT = "mtspark-run"
VERSION = 1
NOTE = "ESTIMATE: no neuromorphic hardware was measured"
_ATTEMPTS = 5
"""A bundle that is replaced as often while its runs are read is rare enough."""

COUNTED = ("spikes", "spikes_drain", "synops_structural", "synops_effective", "neuron_updates")
"""Counts of a layer that every file of a run has."""


@dataclass(frozen=True)
class RunResult:
    """A finished run with its counts, prices and circumstances.

    Counts are totals over the run; divide by :attr:`decisions` for a mean decision.

    Attributes:
        run: episodes and counts.
        agent: name of the network.
        network_sha256: of the bundle's network.
        backend: who decided.
        task: that was played.
        seed: of the first episode.
        protocol: how the games were played, sticky actions included; None of an environment.
        environment: of the task, as JSON values; None of ALE's games.
        sampling: how actions were drawn; None: the best was taken.
        time_steps, steps_per_decision: T and T + L.
        bills: energy of the mean decision, by price card, of the network alone: operations,
            updates and spikes, wherever its neurons lie.
        bills_on_chip: the same on the card's chip, where messages cross between cores and neurons
            hold the frame; what a page shows. Empty for a float network, which no chip runs.
        cost: the bill on the chip in short, beside a rival; None for a float network.
        host_s: seconds that the run took on this computer, game and simulation.
        compiled_before: the engine's first decision, which compiles it, is not in `host_s`.
        executor: workers that played, as the user named them; None: this process.
        date: when the run ended, ISO 8601 with time zone.
        version: of mtspark.
        machine, python: of this computer.
    """

    run: Run
    agent: str
    network_sha256: str
    backend: str
    task: str
    seed: int
    protocol: GameProtocol | None
    time_steps: int
    steps_per_decision: int
    bills: tuple[Bill, ...]
    host_s: float
    bills_on_chip: tuple[Bill, ...] = ()
    cost: Cost | None = None
    compiled_before: bool = False
    executor: str | None = None
    environment: dict[str, Any] | None = None
    sampling: Sampling | None = None
    date: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    )
    version: str = __version__
    machine: str = field(default_factory=platform.machine)
    python: str = field(default_factory=platform.python_version)

    @property
    def decisions(self) -> int:
        """Decisions of all episodes."""
        return self.run.counts.decisions

    def to_json(self) -> dict[str, Any]:
        """Return the content of the run's file; :func:`read_run` reads it."""
        counts = self.run.counts
        includes = "game and simulation on this computer, not the chip"
        if self.compiled_before:
            includes += "; without the engine's first decision, which compiles"
        if self.executor is not None:
            includes = f"game and simulation by --executor {self.executor}, with its start"
        return {
            "format": FORMAT,
            "version": VERSION,
            "note": NOTE,
            "mtspark": self.version,
            "date": self.date,
            "host": {"machine": self.machine, "python": self.python},
            "agent": self.agent,
            "network_sha256": self.network_sha256,
            "backend": self.backend,
            "task": self.task,
            "seed": self.seed,
            "protocol": None if self.protocol is None else protocol_to_json(self.protocol),
            **({} if self.environment is None else {"environment": self.environment}),
            **({} if self.sampling is None else {"sampling": asdict(self.sampling)}),
            "time_steps": self.time_steps,
            "steps_per_decision": self.steps_per_decision,
            "episodes": [episode.to_json() for episode in self.run.episodes],
            "distinct_episodes": self.run.distinct_episodes,
            "mean_return": self.run.mean_return,
            **({} if self.run.success_rate is None else {"success_rate": self.run.success_rate}),
            "decisions": counts.decisions,
            "input_events": counts.input_events.to_json(),
            **({} if self.run.clipped is None else {"clipped_values": self.run.clipped}),
            "layers": [layer.to_json() for layer in counts.layers],
            "connections": [link.to_json() for link in counts.connections],
            "energy": [bill.to_json() for bill in self.bills],
            "energy_on_chip": [bill.to_json() for bill in self.bills_on_chip],
            **({} if self.cost is None else {"cost": self.cost.to_json()}),
            "host_time": {
                "seconds": round(self.host_s, 3),
                "decisions_per_s": round(counts.decisions / self.host_s, 2),
                "includes": includes,
            },
        }


def run_result(
    run: Run,
    network: ChipNetwork,
    *,
    backend: str,
    task: str,
    seed: int,
    network_hash: str,
    sticky: float | None,
    host_s: float,
    card: AnyPath = DEFAULT_CARD,
    compiled_before: bool = False,
    executor: str | None = None,
    sampling: Sampling | None = None,
    shares: ShareCounter | None = None,
) -> RunResult:
    """Price a run and describe how it came about.

    Args:
        run: of :func:`mtspark.sim.play.play`.
        network: that played.
        backend, task, seed, compiled_before, executor, sampling: as in :class:`RunResult`.
        network_hash: of the bundle's network.
        sticky: probability of sticky actions where it is not the protocol's own.
        host_s: seconds.
        card: of the bill, a name or a file.
        shares: of the same decisions, for the networks without spikes; None prices none.

    Raises:
        BadFileError: no such price card.
    """
    protocol = network.protocol_with(sticky)
    environment = network.tasks[network.task_index(task)].environment
    prices = load_card(card)
    cost = None
    if shares is None:
        on_chip = mean_bill(run.counts, network, prices, run.sent)
    else:
        on_chip, cost = mean_cost(run.counts, network, prices, run.sent, shares, task)
    return RunResult(
        run=run,
        agent=network.name,
        network_sha256=network_hash,
        backend=backend,
        task=task,
        seed=seed,
        protocol=protocol,
        time_steps=network.time_steps,
        steps_per_decision=network.steps_per_decision,
        bills=(price(run.counts, network, prices),),
        bills_on_chip=(on_chip,) if on_chip.mapped else (),
        cost=cost,
        host_s=host_s,
        compiled_before=compiled_before,
        executor=executor,
        environment=None if environment is None else environment_to_json(environment),
        sampling=sampling,
    )


def latest_runs(bundle: Bundle) -> tuple[list[dict[str, Any]], int]:
    """Read the latest run of each task, backend and probability of sticky actions.

    Runs whose actions were drawn are left out: these are what the agent does by itself.

    Returns:
        The runs of the bundle's network, in order of task, backend and stickiness; and how many
        runs in the folder belong to another network.

    Raises:
        BadFileError: a file in the folder of runs is no run.
    """
    latest: dict[tuple[str, str, float], dict[str, Any]] = {}
    others = 0
    for result in _read_runs(bundle):
        if result.get("sampling") is not None:
            continue
        sticky = stored_sticky(result)
        key = (result["task"], result["backend"], sticky)
        if result["network_sha256"] != bundle.network_hash:
            others += 1
        elif key not in latest or result["date"] >= latest[key]["date"]:
            latest[key] = result
    return [latest[key] for key in sorted(latest)], others


def _read_runs(bundle: Bundle) -> list[dict[str, Any]]:
    """Read all runs; once more where the bundle was replaced between a look and a read."""
    for _ in range(_ATTEMPTS):
        paths = run_files(bundle)
        try:
            return [read_run(path) for path in paths]
        except BadFileError:
            if all(map(os.path.lexists, paths)):
                raise
    return [read_run(path) for path in run_files(bundle)]


def stored_sticky(result: dict[str, Any]) -> float:
    """The probability of sticky actions of a stored run; 0 in an environment."""
    protocol = result["protocol"]
    return 0.0 if protocol is None else float(protocol["sticky_action_probability"])


def read_run(path: AnyPath) -> dict[str, Any]:
    """Read and check the file of one run, so that whatever it holds can be shown.

    Returns:
        Its JSON values; fields that nothing reads may be of any kind.

    Raises:
        BadFileError: unreadable, no JSON, or a field is missing or cannot be one of a run.
    """
    return read_result(path, RunFile, "not a run of mtspark: {}; delete it")


class _Protocol(Entry):
    sticky_action_probability: Number


class _Episode(Entry):
    score: Number = Field(alias="return")
    finished: Flag
    truncated: Flag = False
    success: Flag | None = None


class EventsFile(Entry):
    """What a file says of the messages of the input."""

    total: Count


class LayerFile(Entry):
    """What a file says of the counts of a layer."""

    name: Text
    neurons: Positive
    spikes: Count
    spikes_drain: Count
    synops_structural: Count
    synops_effective: Count
    neuron_updates: Count
    spikes_window: Count
    silent_neurons: Count


class _Term(Entry):
    term: Text
    count_per_decision: Number | None
    price_pj: Number | None
    energy_j_per_decision: Number | None
    note: Text


class BillFile(Entry):
    """What a file says of a bill, of what is shown in a terminal."""

    card: Text
    chip: Text
    source: Text
    evidence: Text
    scope: Text
    static_note: Text
    hypothetical: Flag
    hypothetical_because: list[Text]
    terms: list[_Term]
    dynamic_j_per_decision: Number
    static_j_per_decision: Number | None


class CostFile(Entry):
    """What a file says of :class:`mtspark.sim.verdict.Cost`."""

    chip: Text
    dynamic_j_per_decision: Number
    cheapest_baseline: Text | None
    cheapest_baseline_j_per_decision: Number | None
    hypothetical_because: list[Text]
    cores: Count
    chips: Count
    cores_per_chip: Count | None
    decision_time_us: Number | None
    deadline_us: Number | None
    place: Text = ""
    late_because: Text = ""

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what files of before do not have."""
        young = ("place", "late_because")
        return {name: value for name, value in handler(self).items() if value or name not in young}


class _HostTime(Entry):
    decisions_per_s: Number


class RunFile(Entry):
    """What every file of a run holds, of what is read here; it may hold more."""

    format: Literal["mtspark-run"]
    version: VersionOne
    date: Text
    backend: Text
    task: Text
    network_sha256: Text
    protocol: _Protocol | None
    steps_per_decision: Positive
    episodes: list[_Episode] = Field(min_length=1)
    distinct_episodes: Positive
    mean_return: Number
    success_rate: Share | None = None
    decisions: Positive
    input_events: EventsFile
    clipped_values: Count | None = None
    layers: list[LayerFile] = Field(min_length=1)
    energy: list[BillFile]
    energy_on_chip: list[BillFile] = Field(default_factory=list)
    cost: CostFile | None = None
    host_time: _HostTime
