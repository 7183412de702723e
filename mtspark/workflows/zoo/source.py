"""The agent's file that a path of a user's own means."""

from __future__ import annotations

from pathlib import Path

from mtspark.core.errors import BadFileError

TRAINED = "agent.pt"
"""Name of the agent in the folder of a training."""


def agent_file(source: Path) -> Path:
    """Find the agent in a folder: of the folder's name, of a training, or the only one.

    Args:
        source: an agent's file, which is returned as it is, or a folder.

    Raises:
        BadFileError: there is none, or more than one.
    """
    if not source.is_dir():
        return source
    for name in (f"{source.resolve().name}.pt", TRAINED):
        if (source / name).is_file():
            return source / name
    found = sorted(source.glob("*.pt"))
    if len(found) != 1:
        what = "no agent's file (.pt)" if not found else f"{len(found)} files .pt; name one of them"
        raise BadFileError(f"{source}: {what}")
    return found[0]
