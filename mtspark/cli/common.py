"""What several commands share: backends by name, progress, files of results."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console

from mtspark.core.errors import BadFileError, BadRequestError

if TYPE_CHECKING:
    from mtspark.core.backend import AgentBackend, Moment
    from mtspark.core.chip_network.network import ChipNetwork
    from mtspark.deploy.bundle import Bundle

console = Console(markup=False, emoji=False)
"""Prints what it is given: names of files and tasks may look like markup. A line with styles
asks for `markup=True` and escapes every name in it."""


class BackendName(str, Enum):
    """Who decides."""

    ENGINE = "engine"
    REFERENCE = "reference"
    LAVA = "lava"
    LAVA_STOCK = "lava-stock"
    TORCH = "torch"


BAR_S = 0.1
"""How often a bar that is told of every decision is drawn anew."""


def one_thread_each() -> None:
    """Keep matrix libraries to one thread unless the user chose otherwise.

    The products here are small: threads that wait for one another cost more than they bring,
    thirty times more where another process keeps a core busy. Must run before numpy loads.
    """
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


def processors() -> int:
    """Processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def open_backend(
    name: BackendName, bundle: Bundle, task: str, *, trace: bool = False
) -> Iterator[AgentBackend]:
    """Start a backend on a bundle and release it at the end, whatever happens.

    Raises:
        BadRequestError: unknown task.
        BackendMissingError: Lava is not installed.
        BadFileError: the bundle lacks its checkpoint, which torch needs.
    """
    backend = _start(name, bundle.network, bundle.folder, task, trace)
    try:
        yield backend
    finally:
        backend.close()


def _start(
    name: BackendName, network: ChipNetwork, folder: Path, task: str, trace: bool
) -> AgentBackend:
    row = network.task_index(task)
    if name is BackendName.ENGINE:
        from mtspark.sim.engine.chip import EngineChip

        return EngineChip(network, threads=processors())
    if name is BackendName.REFERENCE:
        from mtspark.sim.backends.reference import ReferenceChip

        return ReferenceChip(network)
    if name is BackendName.TORCH:
        from mtspark.deploy.bundle import AGENT
        from mtspark.train.backend import TorchBackend
        from mtspark.train.checkpoint.agent import load_agent

        return TorchBackend(load_agent(folder / AGENT))
    from mtspark.sim.backends.lava.backend import LavaBackend

    stock = name is BackendName.LAVA_STOCK
    return LavaBackend(network, stock=stock, task=row, trace=trace)


def one_at_a_time(name: BackendName) -> bool:
    """Lava simulates one chip; the others take a batch of games."""
    return name in (BackendName.LAVA, BackendName.LAVA_STOCK)


@contextmanager
def play_progress(title: str, episodes: int) -> Iterator[Callable[[Moment], None]]:
    """A progress bar over episodes; yields an observer for the agent loop."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} episodes"),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        entry = bar.add_task(title, total=episodes, detail="")
        decisions, score, begun, shown = 0, 0.0, 0, 0.0

        def observe(moment: Moment) -> None:
            nonlocal decisions, score, begun, shown
            decisions += len(moment.episodes)
            score += float(moment.rewards.sum())
            # The last game may end before others do: those that have begun never grow fewer.
            begun = max(begun, int(moment.episodes[-1]) + 1)
            # Ten times a second: a game that is simulated fast asks for more than a bar is worth.
            if time.monotonic() - shown < BAR_S:
                return
            shown = time.monotonic()
            detail = f"{decisions} decisions, points {score:+.0f}"
            bar.update(entry, completed=begun - len(moment.episodes), detail=detail)

        yield observe


def writable_folder(folder: Path) -> Path:
    """Make a folder and prove that files can be written there, before long work starts.

    Raises:
        BadFileError: it cannot be made or written.
    """
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadFileError(
            f"{folder}: cannot be written ({(error.strerror or str(error)).lower()}); "
            "choose another folder"
        ) from error
    return folder


def write_json(path: Path, data: Any) -> None:
    """Write JSON whole or not at all; a link stays a link, a device or pipe is written into.

    Raises:
        BadFileError: it cannot be written.
    """
    text = json.dumps(data, indent=2, allow_nan=False) + "\n"
    for stream in (sys.stdout, sys.stderr):
        if _leads_to(path, stream):
            # Opened a second time, a file behind it would be overwritten from its start.
            stream.write(text)
            stream.flush()
            return
    temporary = None
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8") as file:
                file.write(text)
            return
        target = _behind_links(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_json_target(path: Path | None) -> None:
    """Refuse a result file that could not be written, before long work starts.

    Raises:
        BadRequestError: a folder.
        BadFileError: a device or pipe that may not be written, or a file in a folder that
            cannot be written.
    """
    if path is None:
        return
    try:
        if path.is_dir():
            raise BadRequestError(f"{path}: is a folder; give the name of a file")
        if path.exists() and not path.is_file():
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        parent = _behind_links(path).parent
    except OSError as error:
        raise _unwritable(path, error) from error
    writable_folder(parent)


def _behind_links(path: Path) -> Path:
    try:
        return path.resolve()
    except RuntimeError as error:
        # What Python before 3.13 says of links in a circle.
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error


def _leads_to(path: Path, stream: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except (OSError, ValueError):
        return False


def _unwritable(path: Path, error: OSError) -> BadFileError:
    reason = (error.strerror or str(error)).lower()
    return BadFileError(f"{path}: cannot be written ({reason}); choose another file")
