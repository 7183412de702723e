"""An option that changes nothing for the network at hand is refused, not ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import mtspark
from mtspark.convert.nir import import_nir
from mtspark.core.environments.atari import task_for_game
from mtspark.core.environments.protocol import GameProtocol
from mtspark.core.errors import BadRequestError
from mtspark.workflows.export.request import ExportRequest, import_options
from mtspark.workflows.export.unused import check_used

ONES = np.ones(2)
NODES: dict[str, Callable[[], nir.NIRNode]] = {
    "IF": lambda: nir.IF(r=ONES, v_threshold=ONES),
    "LIF": lambda: nir.LIF(tau=20 * ONES, r=ONES, v_leak=0 * ONES, v_threshold=ONES),
    "LI": lambda: nir.LI(tau=20 * ONES, r=ONES, v_leak=0 * ONES),
    "CubaLIF": lambda: nir.CubaLIF(
        tau_syn=5 * ONES, tau_mem=20 * ONES, r=ONES, v_leak=0 * ONES, v_threshold=ONES
    ),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "--integrator": {"integrator": "exponential"},
    "--order": {"order": "membrane-first"},
    "--reset": {"reset": "subtract"},
    "--fires-at-threshold": {"fires_at_threshold": True},
    "--if-gain-dt": {"if_gain_dt": True},
}
USED = {
    "IF": {"--reset", "--fires-at-threshold", "--if-gain-dt"},
    "LIF": {"--integrator", "--reset", "--fires-at-threshold"},
    "LI": {"--integrator"},
    "CubaLIF": {"--integrator", "--order", "--reset", "--fires-at-threshold"},
}
"""By the kind of a graph's neurons, what the equations of NIR's nodes leave open."""


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("graphs")
    paths = {}
    for kind, node in NODES.items():
        nodes = {
            "input": nir.Input({"input": np.array([2])}),
            "linear": nir.Linear(np.eye(2)),
            "neurons": node(),
            "output": nir.Output({"output": np.array([2])}),
        }
        edges = [("input", "linear"), ("linear", "neurons"), ("neurons", "output")]
        paths[kind] = place / f"{kind}.nir"
        nir.write(paths[kind], nir.NIRGraph(nodes, edges))
    return paths


@pytest.mark.parametrize("kind", NODES)
@pytest.mark.parametrize("flag", OPTIONS)
def test_a_choice_that_no_neuron_of_a_graph_needs_is_refused(
    kind: str, flag: str, graphs: dict[str, Path]
) -> None:
    request = ExportRequest(source=graphs[kind], **{"dt": 1.0, **OPTIONS[flag]})
    network = import_nir(graphs[kind], import_options(request), trust=True)
    if flag in USED[kind]:
        check_used(request, network)
        return
    with pytest.raises(BadRequestError, match=f"^{flag}: is of neurons .*; leave it out$"):
        check_used(request, network)


def test_a_shape_that_the_file_states_otherwise_is_refused(graphs: dict[str, Path]) -> None:
    network = import_nir(graphs["LIF"], trust=True)
    check_used(ExportRequest(source=graphs["LIF"], input_shape=(2,)), network)
    with pytest.raises(BadRequestError, match=r"--input-shape 3: the file says 2 itself"):
        check_used(ExportRequest(source=graphs["LIF"], input_shape=(3,)), network)


@pytest.mark.slow
def test_a_head_without_a_value_stream_leaves_none_out(tmp_path: Path) -> None:
    from mtspark.train.checkpoint import Agent, save_agent
    from mtspark.train.networks import ConvSize, MTSparkNetwork, NetworkConfig

    config = NetworkConfig(
        convolutions=(ConvSize(2, 12, 8),), hidden=4, tasks=1, time_steps=2, dueling=False
    )
    agent = Agent(MTSparkNetwork(config).eval(), (task_for_game("pong"),), GameProtocol())
    save_agent(agent, tmp_path / "plain.pt")
    with pytest.raises(BadRequestError, match="plain has one head and no value stream"):
        mtspark.export(tmp_path / "plain.pt", advantage_only=True)


@pytest.mark.parametrize("shown", [(), ("--show",)])
def test_games_take_no_images(
    shown: tuple[str, ...],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("train", "cartpole", "--data", "sets", *shown) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--data: is of image sets, this recipe plays games; leave it out" in line


def test_the_command_refuses_it_too(
    graphs: dict[str, Path],
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("--dt", 1, "--order", "membrane-first", "-o", tmp_path / "a.deploy")
    assert call("export", graphs["LIF"], *words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --order: is of neurons whose currents last (CubaLIF, CubaLI), and LIF has none; "
        "leave it out"
    )
    assert not (tmp_path / "a.deploy").exists()
