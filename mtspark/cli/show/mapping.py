"""Tables of a mapping in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mtspark.cli._console import console
from mtspark.cli.show.runs import short
from mtspark.cli.show.verdict import print_estimate, print_verdict
from mtspark.core.digits import decimals, percent

if TYPE_CHECKING:
    from mtspark.deploy.chips import ChipModel
    from mtspark.deploy.mapping import ChipMapping, Packing, TaskSwitch
    from mtspark.sim.latency import DecisionTime, TimeTerm, Traffic
    from mtspark.sim.validation import PilotNetComparison
    from mtspark.workflows.map import MapResult

COLUMNS = (
    ("neurons", "neurons", "neurons_per_core"),
    ("memory", "memory_bits", "synapse_memory_per_core"),
    ("axons in", "in_axons", "in_axons_per_core"),
    ("axons out", "out_axons", "out_axons_per_core"),
    ("thresholds", "thresholds", "thresholds_per_core"),
    ("decays", "configs", "compartment_configs_per_core"),
)
"""Heading, use of a core, and the limit it is under."""


def print_map(result: MapResult, *, details: bool) -> None:
    """Everything that a mapping says: cores, task switches, messages, time.

    Args:
        result: the mapping.
        details: show its tables, too.
    """
    print_verdict(result.sentences, more=not details)
    if not details:
        for violation in result.mapping.violations:
            console.print(f"does not fit: {violation.text}")
        return
    print_mapping(result.mapping, result.chip)
    if result.switches:
        print_switches(list(result.switches), result.mapping)
    if result.packing.tasks:
        print_packing(result.packing)
    if result.traffic is not None and result.time is not None:
        print_traffic(result.traffic, result.decisions)
        print_time(result.time, result.chip)
        print_estimate()


def print_mapping(mapping: ChipMapping, chip: ChipModel) -> None:
    """Cores of each population and the fullest of them; then what is broken."""
    word = "HYPOTHETICAL, " if mapping.hypothetical else ""
    table = Table(
        title=f"{mapping.network} on {chip.name}, {word}the fullest core of each population",
        box=SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("population")
    for heading in ("cores", *(heading for heading, _, _ in COLUMNS)):
        table.add_column(heading, justify="right")
    for name, indices in mapping.layers.items():
        held = [mapping.cores[index] for index in indices]
        cells = []
        for _, use, limit in COLUMNS:
            worst = max(
                core.out_axons if use == "out_axons" else int(getattr(core.use, use))
                for core in held
            )
            value = chip.limit(limit)
            shown = short(worst / 8192) + " KiB" if use == "memory_bits" else short(worst)
            cells.append(shown if value is None else f"{shown} ({percent(worst / value, 0)})")
        table.add_row(name, str(len(held)), *cells)
    table.add_section()
    place = f"{mapping.chips} chip" + ("s" if mapping.chips > 1 else "")
    table.add_row("all", str(len(mapping.cores)), *[""] * len(COLUMNS))
    console.print(table)
    console.print(
        f"{len(mapping.cores)} cores on {place} of {chip.limit('cores_per_chip')}; in brackets: "
        "of a core's limit; without: no limit is known"
    )
    for violation in mapping.violations:
        console.print(f"does not fit: {violation.text}")


def print_switches(switches: list[TaskSwitch], mapping: ChipMapping) -> None:
    """The dearest change of task."""
    worst = max(switches, key=lambda switch: switch.writes)
    busiest = max(range(len(worst.writes_per_core)), key=worst.writes_per_core.__getitem__)
    time = "" if worst.time_us is None else f"{worst.time_us:,.0f} us: "
    console.print(
        f"task switch, the dearest: {worst.source} to {worst.target}: {worst.writes:,} register "
        f"writes, up to {worst.writes_per_core[busiest]:,} on one core "
        f"({mapping.cores[busiest].population}); {time}{worst.time_source}"
    )


def print_packing(packing: Packing) -> None:
    """Cores and memory that each task uses, and what a switch would write on a chip of one."""
    table = Table(
        title=f"Tasks with neurons of their own, on {packing.cores} cores",
        box=SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("task", overflow="fold")
    for heading in ("cores", "idle", "memory", "idle memory", "alone", "switch"):
        table.add_column(heading, justify="right")
    for task in packing.tasks:
        table.add_row(
            task.task,
            f"{task.cores} ({task.shared} shared)",
            f"{task.idle} ({percent(task.idle / packing.cores, 0)})",
            f"{short(task.memory_bits / 8192)} KiB",
            f"{short(task.idle_memory_bits / 8192)} KiB",
            f"{task.alone_cores} cores",
            f"{short(task.switch_threshold_bytes)} B for {short(task.switch_weight_bytes)} B",
        )
    console.print(table)
    console.print(
        "idle: cores that only other tasks need, powered all the same; alone: cores of the task's "
        "part by itself; switch: bytes of thresholds in place of the synapses that a chip of one "
        "part at a time would write at most, all of each connection in which parts differ"
    )


def print_traffic(traffic: Traffic, decisions: int) -> None:
    """Messages and hops of a mean decision."""
    messages = traffic.total / decisions
    hops = (traffic.total_hops_east_west + traffic.total_hops_north_south) / decisions
    mean = f", {hops / messages:.1f} a message" if messages else ""
    console.print(
        f"a mean decision of {decisions}: {messages:,.0f} messages between cores "
        f"({traffic.total_within_router / decisions:,.0f} within a router, "
        f"{traffic.total_between_chips / decisions:,.0f} between chips), {hops:,.0f} hops{mean}"
    )


def print_time(time: DecisionTime, chip: ChipModel) -> None:
    """Every term of a step and of a decision, and the margin."""
    if not time.step.times:
        console.print(f"{chip.name} has no times: nothing is modelled")
        return
    busiest = f"core {time.step.busiest} ({time.step.population})"
    step = Table(
        title=f"The busiest core, mean counts of a step, estimate: {busiest}",
        caption=f"times {time.step.times!r} of {chip.name}",
        box=SIMPLE_HEAD,
        padding=0,
    )
    decision = Table(title="A mean decision, estimate", box=SIMPLE_HEAD, padding=0)
    for table, terms, total in (
        (step, time.step.terms, time.step.total_us),
        (decision, time.terms, time.total_us),
    ):
        table.add_column("term")
        for heading in ("count", "time [us]"):
            table.add_column(heading, justify="right")
        table.add_column("source", overflow="fold")
        for term in terms:
            if term.count != 0:
                table.add_row(*_cells(term))
        table.add_section()
        table.add_row("modelled terms", "", "not modelled" if total is None else decimals(total, 2))
        console.print(table)
    if time.by_step_us:
        console.print(
            f"steps take {decimals(min(time.by_step_us), 1)} to "
            f"{decimals(max(time.by_step_us), 1)} us, {decimals(time.mean_step_us or 0.0, 1)} on "
            "average: a population works in its own window of the pipeline, so the busiest core "
            "changes"
        )
    if time.missing:
        console.print(f"not modelled, so the time is longer: {', '.join(time.missing)}")
    if time.margin_us is not None and time.deadline_us is not None:
        console.print(
            f"real time: {decimals(time.margin_us / 1000, 1)} ms are left of "
            f"{time.deadline_us / 1000:.1f} ms a decision"
        )


def _cells(term: TimeTerm) -> tuple[str, str, str, str]:
    sure = f" ({term.confidence})" if term.confidence else ""
    count = "" if term.count is None else short(term.count)
    return term.name, count, term.text, "" if term.time_us is None else term.source + sure


def print_pilotnet(comparison: PilotNetComparison) -> None:
    """Cores, neurons and memory beside Intel's log; step times beside the measurement."""
    table = Table(
        title="PilotNet LIF on Loihi 2: cores, neurons a core, 64-bit words of synapses a core",
        box=SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("layer")
    for heading in ("Intel's compiler", "divided alike", "fewest cores"):
        table.add_column(heading, justify="right")
    for layer in comparison.layers:
        rows = (layer.intel, layer.as_intel, layer.fewest)
        cells = (f"{cores:3} x {neurons:5,} {words:6,}" for cores, neurons, words in rows)
        table.add_row(layer.name, *cells)
    table.add_section()
    ours, fewest = len(comparison.as_intel.cores), len(comparison.fewest.cores)
    table.add_row("cores", str(comparison.intel_cores), str(ours), str(fewest))
    ratios = [f"{cores / comparison.intel_cores:.2f}" for cores in (ours, fewest)]
    table.add_row("over Intel's", "", *ratios)
    console.print(table)
    times = Table(
        title=f"Modelled step of the division alike, measured {comparison.measured_step_us:.1f} us",
        box=SIMPLE_HEAD,
        padding=0,
    )
    times.add_column("times")
    for heading in ("step [us]", "over measured", "busiest layer"):
        times.add_column(heading, justify="right")
    for name, step in comparison.steps.items():
        total = step.total_us or 0.0
        times.add_row(
            name, f"{total:,.1f}", f"{total / comparison.measured_step_us:.2f}", step.population
        )
    console.print(times)
