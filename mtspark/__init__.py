"""mtspark: a trained spiking network on a neuromorphic chip: integers, proof, play, energy.

A network in memory, and any data::

    import mtspark

    chip = mtspark.export(model, sample=x, time_steps=10)
    result = chip.evaluate(x, y)
    print(result.float_accuracy, result.accuracy, result.agreement)
    print(chip.energy(card="loihi2_pilotnet").dynamic_j_per_decision)
    chip.save("net.deploy")

A trained agent, and its game::

    agent = mtspark.load_agent("pong.pt")
    print(mtspark.export(agent).play("pong", episodes=5).run.mean_return)

Everything here is loaded when it is first used: ``import mtspark`` alone needs neither torch nor
numpy. Nothing prints; warnings go out through :mod:`logging` under ``mtspark``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtspark.core.version import __version__

if TYPE_CHECKING:
    from mtspark.core.environments import environment_task
    from mtspark.core.errors import (
        BackendFailedError,
        BackendMissingError,
        BadFileError,
        BadInputError,
        BadNetworkError,
        BadRequestError,
        MtsparkError,
    )
    from mtspark.core.progress import Progress
    from mtspark.train.checkpoint import Agent, load_agent, mean_agent, save_agent
    from mtspark.train.seeds import train_seeds
    from mtspark.train.training import train_agent
    from mtspark.workflows.compare import compare_runs
    from mtspark.workflows.deployment import Deployment, evaluate, export, load_bundle

__all__ = [
    "Agent",
    "BackendFailedError",
    "BackendMissingError",
    "BadFileError",
    "BadInputError",
    "BadNetworkError",
    "BadRequestError",
    "Deployment",
    "MtsparkError",
    "Progress",
    "__version__",
    "compare_runs",
    "environment_task",
    "evaluate",
    "export",
    "load_agent",
    "load_bundle",
    "mean_agent",
    "save_agent",
    "train_agent",
    "train_seeds",
]

_HOMES = {
    **dict.fromkeys(("Deployment", "evaluate", "export", "load_bundle"), "workflows.deployment"),
    **dict.fromkeys(("Agent", "load_agent", "save_agent"), "train.checkpoint.agent"),
    "mean_agent": "train.checkpoint.mean",
    "train_agent": "train.training",
    "train_seeds": "train.seeds",
    "compare_runs": "workflows.compare",
    "environment_task": "core.environments.given",
    "Progress": "core.progress",
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "core.errors"),
}
"""Module of each name that is offered, below this package."""


def __getattr__(name: str) -> Any:
    """Load a name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
