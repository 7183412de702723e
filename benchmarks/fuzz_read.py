"""Reading a fuzzed file as the commands do, and what came of it."""

from __future__ import annotations

import resource
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from mtspark.core.errors import MtsparkError
from mtspark.core.hdf5_scan import read_hdf5, text_of_netx
from mtspark.core.limits import FileLimits
from mtspark.core.sandbox import BUG

LIMITS = FileLimits(memory_bytes=2**30, seconds=5, array_bytes=64 * 2**20, neurons=2**22)
"""What a fuzzed file may take."""

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
        megabytes: largest memory of any process that has read a file so far.
    """

    result: str
    text: str
    seconds: float
    megabytes: float


def read_file(kind: str, path: Path) -> Outcome:
    """Read a file; whatever happens, an outcome."""
    began = time.monotonic()
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
    used = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return Outcome(result, text, time.monotonic() - began, used / 1024)


def _read(kind: str, path: Path) -> None:
    if kind == "nir":
        from mtspark.convert.nir_import import import_nir

        import_nir(path)
    elif kind == "net":
        read_hdf5(path, text_of_netx, LIMITS)
    elif kind == "pt":
        from mtspark.train.checkpoint import load_agent

        load_agent(path, LIMITS)
    elif kind == "onnx":
        from mtspark.sim.onnx_runner import OnnxChip

        OnnxChip(path, LIMITS)
    else:
        from mtspark.deploy.bundle import load_bundle

        load_bundle(path, LIMITS)
