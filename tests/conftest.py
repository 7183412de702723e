"""What the tests of several rooms share."""

from __future__ import annotations

import os
import signal

# Before torch is imported anywhere: one thread, so that sums have one order.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from mtspark.train.checkpoint.agent import Agent

# Before rich and typer are imported: what commands print has the width and the plain text of a
# pipe, and files have mtspark's own limits, whatever a terminal, a user or a CI service asks for.
STYLES = ("FORCE_COLOR", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "PY_COLORS", "GITHUB_ACTIONS")
SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
for name in list(os.environ):
    if name in STYLES + SIZES or name.startswith("MTSPARK_LIMIT_"):
        del os.environ[name]
if os.name == "posix":
    # Where it is ignored, as below some services, nobody learns how a process ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)

# How long a busy machine takes to make examples says nothing about them.
settings.register_profile(
    "local", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the workers of pytest-xdist begin with what takes longest."""
    if hasattr(config, "workerinput"):
        from tests.support.costs import longest_first

        items[:] = longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand on files, and long tests alone, where files are asked for."""
    if config.getvalue("dist") != "loadfile":
        return None
    from tests.support.costs import LongestFirst

    return LongestFirst(config, log)


@pytest.fixture
def read_here() -> Iterator[None]:
    """Read files in this process: a process for each of hundreds of files takes long."""
    from mtspark.core.files import FileLimits, Policy, set_policy

    set_policy(Policy(FileLimits(), trust=True))
    yield
    set_policy(None)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Golden vectors that other people made: MTSPARK_GOLDEN, else beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "golden"
    folder = Path(os.environ.get("MTSPARK_GOLDEN") or beside)
    if not folder.is_dir():
        pytest.skip(f"no golden vectors at {folder}: set MTSPARK_GOLDEN to their folder")
    return folder


@pytest.fixture(scope="session")
def make_agent() -> Callable[..., Agent]:
    """Build a small untrained agent of two tasks; arguments replace network settings."""
    return _make_agent


@pytest.fixture
def tiny_agent() -> Agent:
    """Two tasks, two convolutions, 10 hidden neurons with 3 dendritic segments each."""
    return _make_agent()


def _make_agent(seed: int = 0, **changes: Any) -> Agent:
    import torch

    from mtspark.core.environments.protocol import GameProtocol, Task
    from mtspark.train.checkpoint.agent import Agent
    from mtspark.train.networks.config import ConvSize, NetworkConfig
    from mtspark.train.networks.network import MTSparkNetwork

    sizes: dict[str, Any] = {
        "observation_shape": (2, 20, 20),
        "convolutions": (ConvSize(3, 5, 3), ConvSize(4, 3, 1)),
        "hidden": 10,
        "tasks": 2,
        "dendrite_segments": 3,
    }
    config = NetworkConfig(**{**sizes, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MTSparkNetwork(config)
        with torch.no_grad():
            # As after training: no bias, gain or head weight is left at its plain start.
            for layer in (*network.convolutions, *network.dense, network.hidden):
                layer.synapses.bias.uniform_(0.1, 0.6)
                layer.standardise.gain.uniform_(0.7, 1.5)
            for head in (network.advantage, network.value):
                if head is not None:
                    head.weight.normal_()
                    head.bias.normal_()
    tasks = (
        Task("pong", "pong", (0, 1, 3, 4, 11, 12)),
        Task("breakout", "breakout", (0, 1, 3, 4)),
    )
    channels, height, _ = config.observation_shape
    protocol = GameProtocol(frame_stack=channels, screen_size=height)
    return Agent(network.eval(), tasks[: config.tasks], protocol, {"steps": 0})
