"""Limits of a process that it cannot lift again, and the capabilities of root."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys

from mtspark.core.confinement.calls import system_call

CAPSET = {"x86_64": 126, "aarch64": 91, "arm64": 91}
CAPABILITY_VERSION_3 = 0x20080522
READ_ANY_FILE = 1 << 2
"""CAP_DAC_READ_SEARCH: root goes on reading the files of others."""


def set_hard_limit(kind: int, value: int, spare: int = 0) -> bool:
    """Set a limit for good; return whether it holds.

    Args:
        kind: RLIMIT_... of :mod:`resource`.
        value: of the soft limit.
        spare: by which the hard limit, which ends the process, is above the soft one.
    """
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    top = value + spare if hard == resource.RLIM_INFINITY else min(value + spare, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (value, top))
    return resource.getrlimit(kind) == (value, top)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("process", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


def drop_capabilities(machine: str) -> bool:
    """Give up what root may do beyond reading files, lifting limits among it.

    Args:
        machine: as :func:`platform.machine` names it.

    Returns:
        Whether they are gone.
    """
    number = CAPSET.get(machine)
    if number is None or not sys.platform.startswith("linux"):
        return False
    header = _Header(CAPABILITY_VERSION_3, 0)
    for kept in (READ_ANY_FILE, 0):
        # Who does not have the one cannot keep it.
        wanted = (_Capabilities * 2)(_Capabilities(kept, kept, 0), _Capabilities(0, 0, 0))
        if system_call(number, ctypes.byref(header), ctypes.byref(wanted)) == 0:
            return True
    return False
