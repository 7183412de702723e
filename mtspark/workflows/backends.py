"""Backends by name, opened on a bundle and released at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from mtspark.core.errors import BadRequestError
from mtspark.core.process import processors

if TYPE_CHECKING:
    from mtspark.core.backend import AgentBackend
    from mtspark.deploy.bundle import Bundle


class BackendName(str, Enum):
    """Who decides."""

    ENGINE = "engine"
    REFERENCE = "reference"
    LAVA = "lava"
    LAVA_STOCK = "lava-stock"
    TORCH = "torch"


@contextmanager
def open_backend(
    name: BackendName,
    bundle: Bundle,
    task: str,
    *,
    trace: bool = False,
    threads: int | None = None,
    all_neurons: bool = False,
) -> Iterator[AgentBackend]:
    """Start a backend on a bundle and release it at the end, whatever happens.

    Args:
        name: which one.
        bundle: whose network it runs.
        task: the task that Lava is started with.
        trace: whether Lava records spikes and membranes; the others do so when they are asked.
        threads: of the engine; None: as many as there are processors.
        all_neurons: torch on a pruned bundle counts spikes of all neurons of the agent; else of
            those that are left, which the bundle's network has places for.

    Raises:
        BadRequestError: unknown task, or torch for a network that is no agent.
        BadFileError: a pruned bundle does not follow from its float graphs.
        BackendMissingError: Lava is not installed.
    """
    backend = _start(name, bundle, task, trace, threads)
    try:
        in_bundle = name is BackendName.TORCH and not all_neurons
        yield _of_those_left(backend, bundle) if in_bundle else backend
    finally:
        backend.close()


def _start(
    name: BackendName, bundle: Bundle, task: str, trace: bool, threads: int | None
) -> AgentBackend:
    network = bundle.network
    row = network.task_index(task)
    if name is BackendName.ENGINE:
        from mtspark.sim.engine import EngineChip

        return EngineChip(network, threads=threads or processors())
    if name is BackendName.REFERENCE:
        from mtspark.sim.backends import ReferenceChip

        return ReferenceChip(network)
    if name is BackendName.TORCH:
        from mtspark.deploy.bundle import AGENT
        from mtspark.train.backend import TorchBackend
        from mtspark.train.checkpoint import load_agent

        if AGENT not in bundle.files:
            raise BadRequestError(
                f"backend torch: runs agents, and {network.name} is none; its bundle holds no "
                f"{AGENT}"
            )
        return TorchBackend(load_agent(bundle.folder / AGENT, content=bundle.content(AGENT)))
    from mtspark.sim.backends import LavaBackend

    stock = name is BackendName.LAVA_STOCK
    return LavaBackend(network, stock=stock, task=row, trace=trace)


def _of_those_left(backend: AgentBackend, bundle: Bundle) -> AgentBackend:
    """Let the float network of a pruned bundle count the neurons that the bundle has."""
    from mtspark.sim.compare import OfThoseLeft
    from mtspark.workflows.whole import places_of

    places = places_of(bundle)
    if places is None:
        return backend
    shapes = {population.name: population.shape for population in bundle.network.populations}
    return OfThoseLeft(backend, places, shapes)


def one_at_a_time(name: BackendName) -> bool:
    """Whether a backend simulates one chip only, as Lava does; the others take a batch of games."""
    return name in (BackendName.LAVA, BackendName.LAVA_STOCK)
