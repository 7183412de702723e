"""The start of a training run: checks that fail early, and the settings of PyTorch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.train.checkpoint import load_plain
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.runs.early import check_writable

STATE = ("network", "target", "optimizer", "schedule", "steps", "updates", "episodes", "returns")
"""Entries of the saved state of a run on games, of either algorithm."""


def prepare_torch(device: str, seed: int, threads: int) -> torch.device:
    """Set PyTorch's seed and threads; on CUDA, also its deterministic algorithms.

    PyTorch warns of operations that CUDA cannot repeat exactly, and runs them.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    chosen = torch.device(device)
    if chosen.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
    return chosen


def prepare_network(network: MTSparkNetwork, device: torch.device, *, compiled: bool) -> None:
    """Lay out a network for training and move it to the device."""
    for convolution in network.convolutions:
        # Paths have an axis too many for this layout.
        part = convolution.synapses if convolution.paths is not None else convolution
        # Module.to(memory_format) is missing from torch's type stubs.
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.compiled = compiled
    network.to(device)


def check_compiler() -> None:
    """Check that torch.compile can work here.

    Raises:
        BadRequestError: no C++ compiler, or PyTorch lies under a path with a space in it,
            which its compiler calls cannot take.
    """
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        raise BadRequestError("compiled: no C++ compiler (g++); install one or leave it out")
    if " " in torch.__file__:
        raise BadRequestError(
            f"compiled: PyTorch cannot compile under a path with a space ({torch.__file__}); "
            "leave it out"
        )


def check_device(device: str) -> None:
    """Check that PyTorch has the device.

    Raises:
        BadRequestError: it does not.
    """
    kind, _, number = device.partition(":")
    known = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(kind, 0)
    if not (known and (number or "0").isdecimal() and int(number or 0) < known):
        raise BadRequestError(f"device {device}: PyTorch finds no such device here; use cpu")


def check_folder(folder: Path, run_format: str, state_keys: tuple[str, ...]) -> None:
    """Check that a run can start, or resume, in a folder.

    Args:
        folder: of the run.
        run_format: the format name in its resume.pt.
        state_keys: entries of its saved state.

    Raises:
        BadFileError: it is a file or cannot be written, or its resume.pt holds no run.
    """
    check_writable(folder)
    resume = folder / "resume.pt"
    if resume.exists():
        state = load_plain(resume, run_format).get("state")
        missing = [key for key in state_keys if not isinstance(state, dict) or key not in state]
        if missing:
            raise BadFileError(
                f"{resume}: a training run without {', '.join(missing)}; remove it to start again"
            )


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Make the folder, and keep a second run out of it until the block ends, however it ends.

    A run that fails before it writes anything leaves nothing behind.

    Raises:
        BadRequestError: another run is at work there.
    """
    from filelock import FileLock, Timeout

    locked = folder / ".lock"
    new = [path for path in (locked, folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(locked).acquire(blocking=False)
    except Timeout as error:
        raise BadRequestError(
            f"{folder}: another run is training there; wait for it or choose another folder"
        ) from error
    with lock:
        try:
            yield
        except BaseException:
            _remove_unused(new)
            raise


def _remove_unused(new: list[Path]) -> None:
    """Remove the lock and, where nothing else is in them, the folders that are new."""
    for path in new:
        if path.is_dir():
            if any(path.iterdir()):
                return
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
