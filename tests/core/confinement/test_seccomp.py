"""The filter, run by an interpreter of the packet filter that knows nothing of how it is built."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from mtspark.core.confinement.seccomp import CALLS, PROCESSORS, assemble

ALLOWED, ENDED = "allowed", "ended"
PROCESS = 4711
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def answer(machine: str, number: int, *values: int, mark: int | None = None) -> str:
    """What the kernel does with a call."""
    words = {0: number, 4: ARCHITECTURES[machine] if mark is None else mark}
    for at, value in enumerate((*values, *[0] * (6 - len(values)))):
        words[16 + 8 * at], words[20 + 8 * at] = value % 2**32, value >> 32
    program, at, register = assemble(PROCESSORS[machine], PROCESS), 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        if code == 0x20:
            register = words[operand]
        elif code == 0x06:
            break
        else:
            holds = {
                0x15: register == operand,
                0x25: register > operand,
                0x45: bool(register & operand),
            }[code]
            at += if_true if holds else if_false
    if operand == 0x7FFF0000:
        return ALLOWED
    return ENDED if operand == 0x80000000 else errno.errorcode[operand & 0xFFFF]


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_calls_are_judged_by_number_and_arguments(machine: str) -> None:
    column = PROCESSORS[machine].column

    def judged(name: str, *values: int) -> str:
        number = CALLS[name][column]
        assert number is not None
        return answer(machine, number, *values)

    here = 2**64 - 100
    assert judged("openat", here, 1, 0) == ALLOWED
    assert judged("openat", here, 1, 0o2000000 | 0o200000) == ALLOWED
    for flags in (0o1, 0o2, 0o100, 0o1000, 0o2000, 0o101):
        assert judged("openat", here, 1, flags) == "EPERM"
    assert judged("clone", 0x003D0F00) == ALLOWED
    assert judged("clone", 0x01200011) == "EPERM"
    assert judged("clone3") == judged("openat2") == "ENOSYS"
    assert judged("prlimit64", 0, 7, 0, 2**40) == ALLOWED
    assert judged("prlimit64", 0, 7, 2**40) == "EPERM"
    assert judged("prlimit64", 0, 7, 4096) == "EPERM"
    for name in ("kill", "tgkill"):
        assert judged(name, PROCESS, 6) == ALLOWED
        assert judged(name, 1, 6) == judged(name, 2**64 - 1, 6) == judged(name, 0, 6) == "EPERM"
    assert judged("prctl", 15) == ALLOWED
    assert judged("prctl", 1) == "EPERM"
    assert judged("ioctl", 3, 0x5401) == ALLOWED
    assert judged("ioctl", 3, 0x5412) == judged("ioctl", 3, 0x541C) == "EPERM"
    for name in ("execve", "unlinkat", "socket", "mount", "bpf", "ptrace", "ftruncate"):
        assert judged(name) == "EPERM"


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_unknown_numbers_and_conventions(machine: str) -> None:
    assert answer(machine, 463) == answer(machine, 100_000) == "ENOSYS"
    # x32's numbers, and the 32-bit convention that a 64-bit program may use on x86.
    assert answer(machine, 0x40000000 + 2) == "ENOSYS"
    assert answer(machine, 5, mark=0x40000003) == ENDED
    # read, futex and mmap are what everything does.
    for number in {"x86_64": (0, 202, 9), "aarch64": (63, 98, 222)}[machine]:
        assert answer(machine, number) == ALLOWED


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_numbers_are_those_of_the_kernel(machine: str) -> None:
    if not HEADERS[machine].is_file():
        pytest.skip(f"no {HEADERS[machine]} on this machine")
    text = HEADERS[machine].read_text()
    numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text))
    # Newer than the headers of many systems.
    known = {name: pair for name, pair in CALLS.items() if name in numbers or name != "fchmodat2"}
    column = PROCESSORS[machine].column
    for name, pair in known.items():
        found = numbers.get(name)
        assert pair[column] == (None if found is None else int(found)), name
