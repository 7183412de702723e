"""From a checkpoint to a chip that plays, and what a decision costs, in plain Python.

python examples/deploy_and_play.py [CHECKPOINT] [DECISIONS]
"""

from __future__ import annotations

import sys
from pathlib import Path

from mtspark.convert.nir.agent import agent_to_nir
from mtspark.convert.nir.reader import import_tasks
from mtspark.deploy.quantise.network import quantise
from mtspark.sim.energy.cards import load_card
from mtspark.sim.energy.pricing import price
from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.play import play
from mtspark.train.checkpoint.agent import load_agent


def main(checkpoint: Path, decisions: int) -> None:
    """Play the first task of an agent on the simulated chip and print the bill."""
    agent = load_agent(checkpoint)
    graphs = agent_to_nir(agent)  # float, one NIR graph a task
    network = quantise(import_tasks(graphs), agent.tasks, agent.protocol)  # integers
    task = agent.tasks[0].name
    run = play(EngineChip(network), network, task, episodes=1, seed=0, max_decisions=decisions)
    bill = price(run.counts, network, load_card("loihi1_davies2018"))
    print(f"{task}: {run.episodes[0].score:+g} points in {run.counts.decisions} decisions")
    for layer in run.counts.layers:
        spikes = layer.spikes.total / run.counts.decisions
        synops = layer.synops_structural.total / run.counts.decisions
        print(f"{layer.name:>8}: {spikes:8.1f} spikes, {synops:12,.0f} synaptic operations")
    print(f"estimate, {bill.card.name}: {bill.dynamic_j_per_decision * 1e6:.1f} uJ a decision")
    for reason in bill.hypothetical:
        print(f"hypothetical: {reason}")


if __name__ == "__main__":
    here = Path(__file__).parent / "agents" / "pong" / "pong.pt"
    main(Path(sys.argv[1]) if sys.argv[1:] else here, int((sys.argv[2:] or ["500"])[0]))
