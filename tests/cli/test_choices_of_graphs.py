"""An option that changes nothing for the network at hand is refused, not ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import mtspark
from mtspark.convert.nir import ImportOptions, import_nir
from mtspark.core.environments.atari import task_for_game
from mtspark.core.environments.protocol import GameProtocol
from mtspark.core.errors import BadRequestError
from mtspark.core.float_network import FloatNetwork
from mtspark.workflows.export.request import ExportRequest, import_options
from mtspark.workflows.export.unused import check_matters, check_used

ONES = np.ones(2)
NODES: dict[str, Callable[[], nir.NIRNode]] = {
    "IF": lambda: nir.IF(r=ONES, v_threshold=ONES),
    "LIF": lambda: nir.LIF(tau=20 * ONES, r=ONES, v_leak=0 * ONES, v_threshold=ONES),
    "LI": lambda: nir.LI(tau=20 * ONES, r=ONES, v_leak=0 * ONES),
    "CubaLIF": lambda: nir.CubaLIF(
        tau_syn=5 * ONES, tau_mem=20 * ONES, r=ONES, v_leak=0 * ONES, v_threshold=ONES
    ),
    "leaks": lambda: nir.LIF(tau=20 * ONES, r=ONES, v_leak=0.5 * ONES, v_threshold=ONES),
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
    "leaks": {"--integrator", "--reset", "--fires-at-threshold"},
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


@pytest.mark.parametrize(
    ("kind", "flag", "options", "matters"),
    [
        ("IF", "--dt", {"dt": 1e-3}, False),
        ("IF", "--dt", {"dt": 1e-3, "if_gain_dt": False}, False),
        ("IF", "--dt", {"dt": 1e-3, "if_gain_dt": True}, True),
        ("LIF", "--dt", {"dt": 1.0}, True),
        # What a default says, somebody may say, too.
        ("LIF", "--dt", {"dt": 1e-4}, True),
        ("LIF", "--start", {"dt": 1.0, "start": "rest"}, False),
        ("LIF", "--start", {"dt": 1.0, "start": "zero"}, False),
        ("LI", "--start", {"dt": 1.0, "start": "rest"}, False),
        ("leaks", "--start", {"dt": 1.0, "start": "rest"}, True),
        ("leaks", "--start", {"dt": 1.0, "start": "zero"}, True),
    ],
)
def test_a_time_step_or_a_start_that_changes_nothing_is_refused(
    kind: str, flag: str, options: dict[str, Any], matters: bool, graphs: dict[str, Path]
) -> None:
    request = ExportRequest(source=graphs[kind], **options)

    def read(asked: ImportOptions) -> FloatNetwork:
        return import_nir(graphs[kind], asked, trust=True)

    asked = import_options(request)
    if matters:
        check_matters(request, read(asked), asked, read)
        return
    with pytest.raises(BadRequestError, match=f"^{flag}: changes nothing in {kind}: .*leave it"):
        check_matters(request, read(asked), asked, read)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("dt", 3.0, "^dt 3: the file says 1 itself"),
        ("time_steps", 5, "^time_steps 5: the file says 8 itself"),
        ("input_scale", 0.25, "^input_scale 0.25: the file says 1 itself"),
    ],
)
def test_a_number_that_the_file_states_otherwise_is_refused(
    option: str, value: float, says: str, graphs: dict[str, Path], tmp_path: Path
) -> None:
    """A graph that was exported before keeps how it was read."""
    options: dict[str, Any] = {"dt": 1.0, "time_steps": 8, "input_scale": 1.0}
    mtspark.export(graphs["LIF"], **options).save(tmp_path / "a.deploy")
    graph = tmp_path / "a.deploy" / "graph.default.nir"
    mtspark.export(graph, **{option: options[option]})
    with pytest.raises(BadRequestError, match=says):
        mtspark.export(graph, **{option: value})


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


def test_steps_that_a_series_contradicts_are_refused() -> None:
    """Before, the error was of a layer that took the axis of time for a part of a frame."""
    import snntorch as snn
    import torch
    from torch import nn

    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(2, 3), snn.Leaky(beta=0.5, init_hidden=True))
    series = np.zeros((4, 6, 2), np.uint8)
    series[::2] = 1
    assert mtspark.export(module, sample=series, time_steps=4).network.time_steps == 4
    says = r"time_steps 7: sample has shape \(4, 6, 2\), of .* takes \(2,\) in each of 4 steps"
    with pytest.raises(BadRequestError, match=says):
        mtspark.export(module, sample=series, time_steps=7)


def test_files_without_tasks_have_none_to_choose(
    graphs: dict[str, Path], call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("diff", graphs["LIF"], "--against", graphs["IF"], "--task", "pong", "--decisions", 1)
    assert call(*words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --task pong: is of networks with tasks, and neither file has any; leave it out"
    )
