"""Counters of a pretended computer: idle 10 W, 50 W at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtspark.sim.energy.rapl import CpuEnergy, measure_cpu, packages


class Computer:
    """A clock that only its work moves on, and two packages that share the power."""

    def __init__(self, folder: Path, start_uj: int = 0, wraps_at: int = 10**12) -> None:
        self.now, self.wraps_at = 0.0, wraps_at
        self.folder, self.counters = folder, [start_uj, 7]
        for number in range(2):
            package = folder / f"intel-rapl:{number}"
            package.mkdir()
            (package / "max_energy_range_uj").write_text(str(wraps_at))
        part = folder / "intel-rapl:0:0"
        part.mkdir()
        (part / "energy_uj").write_text("123")
        self._write()

    def _write(self) -> None:
        for number, count in enumerate(self.counters):
            (self.folder / f"intel-rapl:{number}" / "energy_uj").write_text(f"{count}\n")

    def pass_time(self, seconds: float, watts: float) -> None:
        self.now += seconds
        for number in range(2):
            self.counters[number] += round(seconds * watts / 2 * 1e6)
            self.counters[number] %= self.wraps_at
        self._write()


@pytest.mark.parametrize(("start", "wraps_at"), [(0, 10**12), (49_000_000, 50_000_000)])
def test_idle_power_is_taken_off_and_a_counter_may_wrap(
    tmp_path: Path, start: int, wraps_at: int
) -> None:
    computer = Computer(tmp_path, start, wraps_at)
    found = measure_cpu(
        lambda: computer.pass_time(0.25, 50),
        seconds=1,
        folder=tmp_path,
        clock=lambda: computer.now,
        sleep=lambda seconds: computer.pass_time(seconds, 10),
    )
    assert isinstance(found, CpuEnergy)
    assert found.idle_w == pytest.approx(10)
    assert (found.calls, found.seconds) == (4, 1)
    assert found.joules_per_call == pytest.approx(0.25 * 40)
    assert len(packages(tmp_path)) == 2


def test_work_that_costs_nothing_is_a_line(tmp_path: Path) -> None:
    computer = Computer(tmp_path)
    found = measure_cpu(
        lambda: computer.pass_time(1, 10),
        folder=tmp_path,
        clock=lambda: computer.now,
        sleep=lambda seconds: computer.pass_time(seconds, 10),
    )
    assert isinstance(found, str)
    assert "idle power" in found


def test_a_host_without_counters_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("no number")
    found = measure_cpu(lambda: None, folder=tmp_path)
    assert isinstance(found, str)
    assert "not available" in found
