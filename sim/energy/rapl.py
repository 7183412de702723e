"""Joules of this computer's processor, from the counters that Linux shows (RAPL).

They count whole packages, whoever uses them, so the idle power is measured first and taken
off, and shown. Where they cannot be read, one line says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
MICRO = 1e-6


@dataclass(frozen=True)
class CpuEnergy:
    """Energy of repeated work.

    Attributes:
        joules_per_call: of the packages, idle power taken off.
        idle_w: power of the packages while this process slept.
        calls: how many were measured.
        seconds: that they took.
    """

    joules_per_call: float
    idle_w: float
    calls: int
    seconds: float


def packages(folder: Path = POWERCAP) -> list[Path]:
    """Counters of whole packages that can be read."""
    readable = []
    for counter in sorted(folder.glob("intel-rapl:*/energy_uj")):
        # intel-rapl:0:1 is a part of intel-rapl:0.
        if counter.parent.name.count(":") == 1:
            try:
                int(counter.read_text())
            except (OSError, ValueError):
                continue
            readable.append(counter.parent)
    return readable


def measure_cpu(
    work: Callable[[], object],
    *,
    seconds: float = 2.0,
    idle_s: float = 1.0,
    folder: Path = POWERCAP,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> CpuEnergy | str:
    """Measure work that is repeated for some seconds.

    Returns:
        The energy, or one line that says why there is none.
    """
    counters = packages(folder)
    if not counters:
        return f"not available on this host: no readable counter in {folder} (RAPL)"
    before, started = _read(counters), clock()
    sleep(idle_s)
    idle_w = _spent(counters, before) / (clock() - started)
    before, started, calls = _read(counters), clock(), 0
    while calls == 0 or clock() - started < seconds:
        work()
        calls += 1
    took = clock() - started
    joules = _spent(counters, before) - idle_w * took
    if joules <= 0:
        return "not above the idle power of this host: too little work, or others were at work"
    return CpuEnergy(joules / calls, idle_w, calls, took)


def _read(counters: list[Path]) -> list[int]:
    return [int((counter / "energy_uj").read_text()) for counter in counters]


def _spent(counters: list[Path], before: list[int]) -> float:
    """Joules since; a counter that has wrapped begins again at 0."""
    joules = 0.0
    for counter, first, last in zip(counters, before, _read(counters), strict=True):
        wrap = int((counter / "max_energy_range_uj").read_text()) if last < first else 0
        joules += (last - first + wrap) * MICRO
    return joules
