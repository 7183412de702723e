"""What the numbers of a page are compared with: stored runs, silicon, NeuroBench, this computer."""

from __future__ import annotations

from typing import Any

from mtspark.core.backend import AgentBackend
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import action_text
from mtspark.core.files import AnyPath
from mtspark.sim.energy import measure_cpu
from mtspark.sim.recording import Study
from mtspark.sim.report import Fact
from mtspark.sim.validation import validate

NO_SILICON = Fact(
    "Against silicon",
    "not compared here; mtspark validate FOLDER prints predicted over measured for PilotNet LIF "
    "on Loihi 2, --pilotnet FOLDER puts it here.",
)
NO_NEUROBENCH = Fact("NeuroBench", "not asked; add --neurobench 20 for a second count.")


def silicon_checks(pilotnet: AnyPath | None) -> list[Fact]:
    """Compare predictions for PilotNet with Intel's measurements.

    Args:
        pilotnet: folder of lava-dl's PilotNet LIF; None says how to get the comparison.

    Raises:
        BadFileError: the folder is not one.
    """
    if pilotnet is None:
        return [NO_SILICON]
    by_quantity: dict[str, list[str]] = {}
    measured: dict[str, float] = {}
    for row in validate(pilotnet).comparisons:
        if not row.fitted:
            measured[row.quantity] = row.measured
            text = f"{row.how} {row.predicted:.4g} (ratio {row.ratio:.2f})"
            by_quantity.setdefault(row.quantity, []).append(text)
    return [
        Fact(
            f"PilotNet on Loihi 2, {quantity}",
            f"measured by Intel {measured[quantity]:.4g}; predicted: {'; '.join(texts)}. "
            "Predictions that were fitted to it are left out.",
        )
        for quantity, texts in by_quantity.items()
    ]


def replay_checks(study: Study, stored: dict[str, Any] | None) -> list[Fact]:
    """Compare the actions of a study's episodes with those of a stored run, where there is one."""
    if stored is None:
        return []
    known = {episode["seed"]: str(episode.get("actions", "")) for episode in stored["episodes"]}
    same = []
    for episode in study.run.episodes:
        if episode.seed in known:
            # Either may have been cut off earlier than the other.
            actions = known[episode.seed].split()
            played = [action_text(action) for action in episode.actions]
            both = min(len(actions), len(played))
            same.append(both > 0 and actions[:both] == played[:both])
    run = f"the run of {stored['date'][:16]} on {stored['backend']}"
    if not same:
        text = f"{run} has other seeds"
    elif all(same):
        text = f"{len(same)} of {len(same)} episodes took every action of {run}"
    else:
        text = (
            f"{sum(same)} of {len(same)} episodes took every action of {run}; another version of "
            "the game or of mtspark played the others"
        )
    here, there = study.deep.decisions, int(stored["decisions"])
    if here != there:
        text += (
            f"; its means and silent neurons are those of {there:,} decisions, the ones on this "
            f"page of {here:,}"
        )
    return [Fact(f"Replay, {study.task}", text + ".")]


def neurobench_check(
    player: AgentBackend, network: ChipNetwork, study: Study, decisions: int
) -> Fact:
    """Count recorded decisions a second time, with NeuroBench.

    Raises:
        BackendMissingError: NeuroBench is not installed.
        BadRequestError: fewer decisions were recorded.
        BadNetworkError: no chain of layers that reset to zero.
    """
    from mtspark.workflows.neurobench import check_with_neurobench

    opinion = check_with_neurobench(player, network, study, decisions)
    return Fact(f"NeuroBench, {study.task}", opinion.summary())


def processor_check(player: AgentBackend, network: ChipNetwork, study: Study) -> Fact:
    """Measure the energy that this computer's processor takes for a simulated decision."""
    frames = study.shots[-1].observation[None]
    row = network.task_index(study.task)
    player.decide(frames, row)
    energy = measure_cpu(lambda: player.decide(frames, row))
    text = (
        energy
        if isinstance(energy, str)
        else f"{energy.joules_per_call * 1e3:.3g} mJ a simulated decision ({energy.calls} of them "
        f"in {energy.seconds:.1f} s), idle power of {energy.idle_w:.3g} W taken off; of this "
        "computer, not of a chip"
    )
    return Fact("Energy of this computer's processor (RAPL)", text + ".")
