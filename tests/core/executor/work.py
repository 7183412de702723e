"""What the workers of these tests do: any worker imports it by its name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.errors import BadFileError


def double(values: Any) -> Any:
    return {"twice": np.asarray(values) * 2, "given": (values, None, float("inf"))}


def listed(folder: Path, name: str) -> Any:
    return sorted(path.name for path in folder.iterdir()), (folder / name).read_bytes().hex()


def folder_name(folder: Path) -> str:
    return folder.name


def refuse(name: str) -> None:
    raise BadFileError(f"{name}: no such thing")


def break_down() -> None:
    raise ZeroDivisionError("a bug")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(gate: str, pids: str, value: int) -> int:
    """Say who works, wait until a file is there, and answer."""
    (Path(pids) / f"{value}-{os.getpid()}").touch()
    while not Path(gate).exists():
        time.sleep(0.02)
    return value


def count_and_refuse(log: str) -> None:
    with Path(log).open("a") as file:
        file.write("tried\n")
    raise BadFileError("never right")


def save_when_told_to_end(ready: str, saved: str) -> None:
    """What a training does: finish, save, end."""

    def end(*_: object) -> None:
        time.sleep(0.2)
        Path(saved).touch()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    Path(ready).touch()
    while True:
        time.sleep(0.02)


def print_and_read() -> str:
    print("noise between the answers", flush=True)
    os.write(1, b"more noise\n")
    return os.read(0, 10).decode()
