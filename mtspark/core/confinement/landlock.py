"""Landlock: the kernel keeps a process and all that it starts from changing files.

See https://docs.kernel.org/userspace-api/landlock.html; in Linux since 5.13. The rights below are
given up everywhere. Reading is none of them, so files stay readable as the user may read them.
"""

from __future__ import annotations

import ctypes
import os

from mtspark.core.confinement.calls import system_call

CREATE_RULESET, RESTRICT_SELF = 444, 446
"""System calls; their numbers are the same on every processor."""
VERSION = 1
"""Flag of CREATE_RULESET: return the version of the interface."""

FILE_RIGHTS = (
    # (version that brought it, bit)
    *((1, bit) for bit in (0, 1)),  # execute, write a file
    *((1, bit) for bit in range(4, 13)),  # remove and make: folders, files, devices, links
    (2, 13),  # move or link to another folder
    (3, 14),  # truncate
    (5, 15),  # ioctl on devices
)
"""All of linux/landlock.h but reading a file (bit 2) and listing a folder (bit 3)."""
NET_RIGHTS, NET_VERSION = 0b11, 4
"""Bind and connect TCP sockets."""
SCOPES, SCOPE_VERSION = 0b11, 6
"""Abstract UNIX sockets and signals reach no process outside."""


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def landlock_version() -> int:
    """Return the version of the kernel's Landlock; 0: it has none, or it is switched off."""
    return max(0, system_call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(VERSION)))


def forbid_changing_files() -> bool:
    """Give up every right that this kernel's Landlock knows but reading.

    Needs no_new_privs or root. Returns whether the rules are in force.
    """
    version = landlock_version()
    if version < 1:
        return False
    rules = _Ruleset(sum(1 << bit for since, bit in FILE_RIGHTS if since <= version), 0, 0)
    # An older kernel takes a shorter structure.
    size = 8
    if version >= NET_VERSION:
        rules.net, size = NET_RIGHTS, 16
    if version >= SCOPE_VERSION:
        rules.scoped, size = SCOPES, 24
    ruleset = system_call(
        CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint(0)
    )
    if ruleset < 0:
        return False
    try:
        return system_call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0)) == 0
    finally:
        os.close(ruleset)
