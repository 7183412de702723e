"""The start of a training run: checks, so that it fails at once; PyTorch's settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mtspark.core.environments.atari import task_for_game
from mtspark.core.errors import BadFileError, BadRequestError

STATE = ("network", "target", "optimizer", "schedule", "steps", "updates", "episodes", "returns")
"""What the saved state of a run holds, whatever its algorithm."""


def prepare_torch(device: str, seed: int, threads: int) -> torch.device:
    """Set PyTorch's seed and threads; on CUDA, ask for the same sums in every run.

    What CUDA cannot repeat it warns of, and does all the same.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    made = torch.device(device)
    if made.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
    return made


def check_compiler() -> None:
    """Check that torch.compile can work here.

    Raises:
        BadRequestError: no C++ compiler, or PyTorch lies under a path with a space in it,
            which its compiler calls cannot take.
    """
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        raise BadRequestError("--compiled: no C++ compiler (g++); install one or leave it out")
    if " " in torch.__file__:
        raise BadRequestError(
            f"--compiled: PyTorch cannot compile under a path with a space ({torch.__file__}); "
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


def check_games(games: tuple[str, ...]) -> None:
    """Check that every game exists.

    Raises:
        BadRequestError: ALE has no such game.
    """
    for game in games:
        task_for_game(game)


def check_folder(folder: Path, run_format: str, state_keys: tuple[str, ...]) -> None:
    """Check that a run can go on, or start, in a folder.

    Args:
        folder: of the run.
        run_format: what its resume.pt says that it is.
        state_keys: what its saved state holds.

    Raises:
        BadFileError: it is a file or cannot be written, or its resume.pt holds no run.
    """
    whole = folder.absolute()
    nearest = next(path for path in (whole, *whole.parents) if path.exists())
    if not nearest.is_dir():
        raise BadFileError(f"{nearest}: a file, not a folder; choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise BadFileError(f"{nearest}: no permission to write there; choose another folder")
    resume = folder / "resume.pt"
    if resume.exists():
        from mtspark.train.checkpoint.agent import load_plain

        state = load_plain(resume, run_format).get("state")
        missing = [key for key in state_keys if not isinstance(state, dict) or key not in state]
        if missing:
            raise BadFileError(
                f"{resume}: a training run without {', '.join(missing)}; remove it to start again"
            )


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Make the folder, and keep a second run out of it until this one ends, however it ends.

    A run that fails before it has written anything leaves nothing behind.

    Raises:
        BadRequestError: another run is at work there.
    """
    from filelock import FileLock, Timeout

    locked = folder / ".lock"
    made = [path for path in (locked, folder, *folder.parents) if not path.exists()]
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
            _remove_unused(made)
            raise


def _remove_unused(made: list[Path]) -> None:
    """Remove the lock and, as long as nothing else is in them, the folders that were made."""
    for path in made:
        if path.is_dir():
            if any(path.iterdir()):
                return
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
