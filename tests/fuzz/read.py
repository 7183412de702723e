"""Reading a fuzzed file as the commands do, and what came of it."""

from __future__ import annotations

import os
import pickle
import resource
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.errors import MtsparkError
from mtspark.core.files.limits import FileLimits
from mtspark.core.files.sandbox import BUG
from mtspark.core.float_network.network import FloatNetwork

LIMITS = FileLimits(memory_bytes=2**30, seconds=4, array_bytes=64 * 2**20, neurons=2**22)
"""What reading a fuzzed file may take."""

EXPORTED_VALUES, EXPORTED_STEPS = 20_000, 200
"""A network that still was read is exported, too, where it is not larger: its seed is tiny."""

PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)

HARD = ("crashes (signal", "to read; if you trust", "bytes of memory to read")
"""Refusals that only the limits of the process brought about."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        result: read; refused, by a check; limited, by memory, time or a crash of the process
            that read it; unforeseen, an error of Python in that process; escaped, anything
            but an error of mtspark in the process of the user.
        text: the message, or the traceback of what escaped.
        seconds: by the clock.
        cpu_seconds: of processor time, of this process and of those that it started.
        megabytes: largest memory of any process that has read a file so far; of this file's
            alone from :func:`read_file_apart`.
    """

    result: str
    text: str
    seconds: float
    cpu_seconds: float
    megabytes: float


def read_file_apart(kind: str, path: Path) -> Outcome:
    """As :func:`read_file`, in a fork: what making the file took is no part of reading it."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        with os.fdopen(send, "wb") as stream:
            pickle.dump(read_file(kind, path), stream)
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as stream:
        content = stream.read()
    status = os.waitpid(child, 0)[1]
    if status or not content:
        return Outcome("escaped", f"the process that read it ended with {status}", 0.0, 0.0, 0.0)
    outcome = pickle.loads(content)
    assert isinstance(outcome, Outcome)
    return outcome


def read_file(kind: str, path: Path) -> Outcome:
    """Read a file; whatever happens, an outcome."""
    began, cpu_began = time.monotonic(), _cpu_seconds()
    result, text = "read", ""
    try:
        _read(kind, path)
    except MtsparkError as error:
        text = str(error)
        result = "refused"
        if any(part in text for part in HARD):
            result = "limited"
        if BUG in text:
            result = "unforeseen"
        if "\n" in text:
            result = "escaped"
    except BaseException:
        result, text = "escaped", traceback.format_exc()
    used = max(resource.getrusage(who).ru_maxrss for who in PROCESSES)
    seconds, cpu_seconds = time.monotonic() - began, _cpu_seconds() - cpu_began
    return Outcome(result, text, seconds, cpu_seconds, used / 1024)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in PROCESSES]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _read(kind: str, path: Path) -> None:
    if kind == "nir":
        from mtspark.convert.nir.reader import import_nir

        _export(path, import_nir(path))
    elif kind == "net":
        from mtspark.convert.netx import import_netx

        _export(path, import_netx(path))
    elif kind == "pt":
        from mtspark.train.checkpoint.agent import load_agent

        load_agent(path, LIMITS)
    elif kind == "onnx":
        from mtspark.workflows.diff.sides import open_side

        open_side(str(path))
    else:
        from mtspark.deploy.bundle import load_bundle

        load_bundle(path, LIMITS)


def _export(path: Path, network: FloatNetwork | ChipNetwork) -> None:
    """What ``mtspark export`` does with a network that was read, unless it is a large one."""
    from mtspark.workflows.export.pipeline import export_to
    from mtspark.workflows.export.request import ExportRequest

    values = sum(population.size for population in network.populations)
    values += sum(link.weights.size for link in network.connections)
    if values <= EXPORTED_VALUES and network.time_steps <= EXPORTED_STEPS:
        export_to(ExportRequest(source=path), path.with_name("made.deploy"), overwrite=True)
