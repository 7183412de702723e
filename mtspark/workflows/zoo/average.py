"""One agent's file from several: the mean of what they weigh."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files import AnyPath, check_target
from mtspark.core.progress import ProgressCallback, begin, no_progress
from mtspark.workflows.zoo.source import agent_file


@dataclass(frozen=True)
class Averaged:
    """The mean of agents, written.

    Attributes:
        file: of the mean.
        of: files of the agents.
        tasks: names of what all of them do.
    """

    file: Path
    of: tuple[Path, ...]
    tasks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "file": str(self.file),
            "of": [str(path) for path in self.of],
            "tasks": list(self.tasks),
        }


def average_agents(
    sources: Sequence[AnyPath],
    target: AnyPath,
    *,
    replace: bool = False,
    progress: ProgressCallback = no_progress,
) -> Averaged:
    """Write the mean of the weights of agents, as :func:`mtspark.mean_agent` makes it.

    Args:
        sources: agents' files, or folders that they lie in, as of a training.
        target: the file to write.
        replace: a file that is there.
        progress: called when work begins.

    Raises:
        BadRequestError: the agents have no mean, two sources are one file, or `target` is there
            or one of them.
        BadFileError: no agent, or `target` cannot be written.
    """
    target = Path(target)
    if target.is_dir():
        raise BadRequestError(f"{target}: is a folder; give the name of a file")
    if os.path.lexists(target) and not replace:
        raise BadRequestError(f"{target}: exists already; choose another file, or add --force")
    files = tuple(agent_file(Path(source)) for source in sources)
    for path in files:
        if not path.is_file():
            raise BadFileError(f"{path}: no such file; give agents' files or folders of trainings")
        if target.exists() and path.samefile(target):
            raise BadRequestError(f"{target}: is one of the agents; choose another file")
    check_target(target)
    for path, other in combinations(files, 2):
        if path.samefile(other):
            raise BadRequestError(f"{other}: is given twice; name each agent once")
    begin(progress, "loading PyTorch", "torch")
    from mtspark.train.checkpoint import load_agent, mean_agent, save_agent

    mean = mean_agent([load_agent(path) for path in files])
    save_agent(mean, target)
    return Averaged(target, files, tuple(task.name for task in mean.tasks))
