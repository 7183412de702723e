"""What a decision of an agent costs, counted in games that the simulated chip plays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtspark.core.errors import MtsparkError
from mtspark.core.progress import ProgressCallback, no_progress
from mtspark.sim.energy import DEFAULT_CARD
from mtspark.sim.results import CostFile
from mtspark.workflows.zoo.card import CostEntry

if TYPE_CHECKING:
    from mtspark.train.checkpoint import Agent

GAMES, LONGEST, SEED = 3, 1000, 0
"""Games of a measurement, decisions of the longest, and the seed of the first."""


def measure_costs(
    agent: Agent, games: int = GAMES, *, progress: ProgressCallback = no_progress
) -> dict[str, CostEntry]:
    """Play every game of an agent and price the mean decision, as ``mtspark run`` does.

    Args:
        agent: as its file holds it; tasks that are image sets are left out.
        games: of each task, cut off after :data:`LONGEST` decisions; 0 measures nothing.
        progress: called at every decision.

    Returns:
        The cost by task.

    Raises:
        MtsparkError: the agent cannot be exported, or its environment cannot be made here.
    """
    played = [task.name for task in agent.tasks if task.game] if games else []
    if not played:
        return {}
    from mtspark.workflows.deployment import export

    costs = {}
    chip = export(agent, progress=progress)
    for task in played:
        try:
            result = chip.play(
                task, episodes=games, seed=SEED, max_decisions=LONGEST, progress=progress
            )
        except MtsparkError as error:
            raise type(error)(f"{error}; or leave the cost out of the card: --games 0") from error
        if result.cost is not None:
            costs[task] = CostEntry(
                card=DEFAULT_CARD,
                games=games,
                decisions=result.decisions,
                seed=SEED,
                network_sha256=result.network_sha256,
                cost=CostFile.model_validate(result.cost.to_json()),
            )
    return costs
