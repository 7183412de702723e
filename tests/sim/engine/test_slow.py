from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.engine.chip import EngineChip


@pytest.mark.slow
def test_a_thousand_decisions_of_the_shipped_agent_equal_the_reference() -> None:
    """Four games of Pong side by side, 250 decisions each, played by the engine."""
    from mtspark.convert.nir.agent import Head, agent_to_nir
    from mtspark.convert.nir.reader import import_tasks
    from mtspark.core.backend import greedy_actions
    from mtspark.core.environments.atari import make_games
    from mtspark.deploy.quantise.network import quantise
    from mtspark.train.checkpoint.agent import load_agent

    file = Path(__file__).parents[3] / "examples" / "agents" / "pong-waiting" / "pong-waiting.pt"
    agent = load_agent(file)
    graphs = agent_to_nir(agent, Head.DUELING)
    net = quantise(import_tasks(graphs), agent.tasks, agent.protocol, name="pong")
    engine, reference = EngineChip(net, threads=2), ReferenceChip(net)
    games = make_games(net.tasks[0], net.protocol, 4)
    try:
        frames, _ = games.reset(seed=3)
        for _ in range(250):
            found = engine.decide(frames, 0, trace=True)
            expected = reference.decide(frames, 0, trace=True)
            assert found.trace is not None
            assert expected.trace is not None
            assert np.array_equal(found.values, expected.values)
            for name, membranes in expected.trace.membranes.items():
                assert np.array_equal(found.trace.membranes[name], membranes)
                assert np.array_equal(found.trace.spikes[name], expected.trace.spikes[name])
            frames, *_ = games.step(greedy_actions(found.values, net.tasks[0].legal_actions))
    finally:
        games.close()
        engine.close()


@pytest.mark.slow
def test_the_first_call_says_that_it_compiles_and_the_next_process_does_not(
    tmp_path: Path,
) -> None:
    program = (
        "import numpy as np; from tests.support.networks import three_neurons;"
        "from mtspark.sim.engine.chip import EngineChip; chip = EngineChip(three_neurons());"
        "[chip.decide(np.ones((1, 2), np.uint8), 0) for _ in range(2)]"
    )
    # The tests' folder is no package, and another project's may come first.
    root = Path(__file__).parents[3]
    prepare = (
        f"import sys, types; m = types.ModuleType('tests');m.__path__ = [{str(root / 'tests')!r}];"
    )
    command = [sys.executable, "-c", prepare + "sys.modules['tests'] = m;" + program]
    told = [
        subprocess.run(
            command,
            cwd=root,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stderr.count("compiling the engine")
        for _ in range(2)
    ]
    assert told == [1, 0]
