"""What calibration and palettes do to an agent's decisions, beside the float network.

python benchmarks/calibration.py BUNDLE [DECISIONS]

BUNDLE is made by `mtspark export AGENT`. Weight limits are chosen on 100 frames of seed 1 and
judged on the decisions of seed 0.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import AgentBackend, greedy_actions
from mtspark.deploy.bundle import load_bundle
from mtspark.deploy.quantise.calibration import Calibration, calibrate
from mtspark.deploy.quantise.codebook import with_palette
from mtspark.deploy.quantise.network import quantise
from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.explain import EffectChip, ExplainedNetwork
from mtspark.workflows.diff.frames import task_frames
from mtspark.workflows.whole import float_side

BATCH = 25


def main(folder: Path, decisions: int) -> None:
    """Print a row for each way to quantise."""
    bundle = load_bundle(folder)
    network, options = float_side(bundle)
    chip, task = bundle.network, bundle.network.tasks[0]
    recorded = task_frames(bundle.network, task.name, 200, 1)[::2]
    series = np.broadcast_to(recorded / 255.0, (chip.time_steps, *recorded.shape))
    judged = task_frames(bundle.network, task.name, decisions, 0)

    def actions(backend: AgentBackend) -> NDArray[np.int64]:
        answers = [
            greedy_actions(backend.decide(judged[at : at + BATCH], 0).values, task.legal_actions)
            for at in range(0, len(judged), BATCH)
        ]
        return np.concatenate(answers)

    wanted = actions(EffectChip(ExplainedNetwork(network, chip, options)))
    print(f"{task.name}, {len(judged)} decisions, share with the float network's action")
    for bits in (8, 6, 4):
        for per_channel in (True, False):
            plain = replace(options, weight_bits=bits, per_channel=per_channel)
            for method in Calibration:
                chosen, _ = calibrate(network, series, plain, method=method)
                made = quantise(network, chip.tasks, chip.protocol, options=chosen)
                same = (actions(EngineChip(made)) == wanted).mean()
                scale = "channel" if per_channel else "layer"
                print(f"{bits} bits, per {scale}, {method.value}: {same:.1%}", flush=True)
    for profiles in (4, 8, 16, 32):
        painted, costs = with_palette(chip, profiles)
        same = (actions(EngineChip(painted)) == wanted).mean()
        errors = ", ".join(f"{cost.population} {cost.mean_error:.2%}" for cost in costs)
        print(f"palette of {profiles}: {same:.1%} (thresholds off by {errors})", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 500)
