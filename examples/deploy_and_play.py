"""From a checkpoint to a chip that plays, and what a decision costs, in plain Python.

python examples/deploy_and_play.py [CHECKPOINT] [DECISIONS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import mtspark


def main(checkpoint: Path, decisions: int) -> None:
    """Play the first task of an agent on the simulated chip and print the bill."""
    chip = mtspark.export(checkpoint)
    result = chip.play(max_decisions=decisions)
    counts, bill = result.run.counts, chip.energy(card="loihi2_pilotnet")
    print(f"{result.task}: {result.run.mean_return:+g} points in {counts.decisions} decisions")
    for layer in counts.layers:
        spikes = layer.spikes.total / counts.decisions
        synops = layer.synops_structural.total / counts.decisions
        print(f"{layer.name:>8}: {spikes:8.1f} spikes, {synops:12,.0f} synaptic operations")
    print(f"estimate, {bill.card.name}: {bill.dynamic_j_per_decision * 1e6:.1f} uJ a decision")
    for reason in bill.hypothetical:
        print(f"hypothetical: {reason}")


if __name__ == "__main__":
    here = Path(__file__).parent / "agents" / "pong" / "pong.pt"
    main(Path(sys.argv[1]) if sys.argv[1:] else here, int((sys.argv[2:] or ["500"])[0]))
