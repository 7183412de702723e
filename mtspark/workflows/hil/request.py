"""What is played with the chip in the loop, and which settings a sweep goes through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, ClassVar

from mtspark.core.errors import BadRequestError, one_line
from mtspark.core.files import AnyPath
from mtspark.sim.hil import (
    CHIP_KINDS,
    KEY_VARIABLE,
    SILENCE_S,
    ChipBackend,
    FaultKind,
    Faults,
    Loop,
    Setting,
    check_address,
    check_faults,
    fault_kind,
    key_bytes,
    parse_faults,
    parse_rate,
)

LONGEST_SILENCE_S = 3600
"""That can be asked for."""


@dataclass(frozen=True)
class LatencySweep:
    """The same games with several latencies of the chip.

    Attributes:
        latencies_ms: of a decision.
    """

    latencies_ms: tuple[float, ...]
    varied: ClassVar[str] = "latency"

    def settings(self, loop: Loop) -> list[Setting]:
        """Return a setting for every latency.

        Raises:
            BadRequestError: a latency that cannot be simulated.
        """
        return [
            Setting(ms, replace(loop, timing=replace(loop.timing, chip_ms=ms)))
            for ms in self.latencies_ms
        ]


@dataclass(frozen=True)
class FaultSweep:
    """The same games with several rates of one fault.

    Attributes:
        kind: of the fault.
        rates: 0 to 1.
    """

    kind: FaultKind
    rates: tuple[float, ...]

    @property
    def varied(self) -> str:
        """Name of the fault."""
        return self.kind.value

    def settings(self, loop: Loop) -> list[Setting]:
        """Return a setting for every rate; the other faults of the loop stay."""
        ordered, seed = loop.faults.rates, loop.faults.seed
        return [
            Setting(rate, replace(loop, faults=Faults({**ordered, self.kind: rate}, seed)))
            for rate in self.rates
        ]


Sweep = LatencySweep | FaultSweep


@dataclass(frozen=True)
class HilRequest:
    """Games with the chip in the loop.

    Attributes:
        task: name of the game.
        loop: how it is played; a sweep varies one part of it.
        episodes: full games for each setting.
        seed: of the first game; the next has seed + 1.
        backend: what stands for the chip.
        chip: name or file of a chip's description that the times are taken from.
        times: which of the chip's sets of times; None for its first.
        sweep: what is varied, if anything.
        connect: address of a chip that is served there, tcp://HOST:PORT.
        key: of that chip.
        refreshes: how many decisions may pass between two whole frames, each for a curve of its
            own; None for never. Empty for what the loop says.
        card: prices of the mean decision of the first game, played once more without latency; None
            for the main card of `chip`, and for no price without one.
        silence_s: seconds in which a chip that starts, or is connected to, may be silent; one of
            our own is not while it works.

    Raises:
        BadRequestError: two answers to how long the chip takes, an address or a key that is none,
            a fault that only a chip of our own can have, one that the backend cannot have, one
            whose rate is both given and swept, or no time to be silent.
    """

    task: str
    loop: Loop = field(default_factory=Loop)
    episodes: int = 1
    seed: int = 0
    backend: ChipBackend = ChipBackend.ENGINE
    chip: str | None = None
    times: str | None = None
    sweep: Sweep | None = None
    connect: str | None = None
    key: str | None = field(default=None, repr=False)
    refreshes: tuple[int | None, ...] = ()
    card: AnyPath | None = None
    silence_s: float = SILENCE_S

    def __post_init__(self) -> None:
        if not 0 < self.silence_s <= LONGEST_SILENCE_S:
            raise BadRequestError(
                f"silence-s {self.silence_s:g}: must be above 0 and at most {LONGEST_SILENCE_S:,}"
            )
        sources = {
            "--latency-ms": self.loop.timing.chip_ms > 0,
            "--latency-sweep": isinstance(self.sweep, LatencySweep),
            "--measured": self.loop.timing.measured,
            "--chip": self.chip is not None,
        }
        given = [name for name, used in sources.items() if used]
        if len(given) > 1:
            raise BadRequestError(f"{' and '.join(given)} say how long the chip takes; choose one")
        if self.times is not None and self.chip is None:
            raise BadRequestError("--times names times of a chip; add --chip")
        if len(self.refreshes) > 1 and self.sweep is None:
            raise BadRequestError(
                "several values of --refresh-every make a curve each; add --fault-sweep "
                "lost-changes=RATE,RATE,..., or give one value"
            )
        self._check_faults()
        if self.connect is not None:
            check_address(self.connect)
            if self.key is None:
                raise BadRequestError(
                    "--connect needs the key that `mtspark hil --serve` printed; add --key KEY, or "
                    f"set {KEY_VARIABLE}"
                )
            key_bytes(self.key)

    def _check_faults(self) -> None:
        ours = (*CHIP_KINDS, FaultKind.CHIP_DEATH)
        if isinstance(self.sweep, FaultSweep) and self.sweep.kind in self.loop.faults.rates:
            name, rate = self.sweep.kind.value, self.loop.faults.rate(self.sweep.kind)
            raise BadRequestError(
                f"--fault {name}={rate:g}: --fault-sweep names the rates of this fault; leave one "
                "of both out"
            )
        for setting in self.settings(self.loop):
            faults = setting.loop.faults
            if self.connect is None:
                check_faults(self.backend, faults)
            elif faults.any_of(ours):
                raise BadRequestError(
                    "--connect: faults of the chip are ordered where it is served (--serve ... "
                    "--fault), and only a chip that this command starts can be made to die"
                )

    @property
    def seeds(self) -> range:
        """Seeds of the games of every setting."""
        return range(self.seed, self.seed + self.episodes)

    @property
    def varied(self) -> str | None:
        """Name of what the sweep varies."""
        return None if self.sweep is None else self.sweep.varied

    def settings(self, loop: Loop) -> list[Setting]:
        """Return the settings of all points, in the order of the sweep.

        Args:
            loop: of the request, perhaps with a chip's times.

        Raises:
            BadRequestError: a latency that cannot be simulated.
        """
        settings = [Setting(None, loop)] if self.sweep is None else self.sweep.settings(loop)
        return [
            Setting(setting.place, replace(setting.loop, refresh_every=refresh))
            for refresh in self.refreshes or (loop.refresh_every,)
            for setting in settings
        ]


def parse_sweep(latencies: str | None, faults: str | None) -> Sweep | None:
    """Read a sweep.

    Args:
        latencies: ``MS,MS,...``.
        faults: ``KIND=RATE,RATE,...``.

    Raises:
        BadRequestError: both, or what cannot be read.
    """
    if latencies is not None and faults is not None:
        raise BadRequestError("two sweeps at once make no curve; leave one out")
    if latencies is not None:
        return LatencySweep(tuple(_milliseconds(text, latencies) for text in latencies.split(",")))
    if faults is not None:
        name, _, texts = faults.partition("=")
        kind = fault_kind(name)
        return FaultSweep(kind, tuple(parse_rate(text, faults) for text in texts.split(",")))
    return None


NEVER = "never"


def parse_refreshes(text: str | None) -> tuple[int | None, ...]:
    """Read how often whole frames are sent: ``N``, or ``N,N,never``.

    Raises:
        BadRequestError: it cannot be read.
    """
    if text is None:
        return ()
    words = text.split(",")
    if not all(word == NEVER or (word.isascii() and word.isdigit()) for word in words):
        raise BadRequestError(
            f"--refresh-every {one_line(text, 80)!r}: write a number of decisions or {NEVER}, or "
            f"several with commas, as 10,100,{NEVER}"
        )
    return tuple(None if word == NEVER else int(word) for word in words)


def refreshes_of(value: int | Iterable[int | None] | None) -> tuple[int | None, ...]:
    """Return one number of decisions, or several, as a tuple.

    Raises:
        TypeError: something else.
    """
    values = tuple(value) if isinstance(value, Iterable) else (value,)
    for one in values:
        if one is not None and (not isinstance(one, int) or isinstance(one, bool)):
            raise TypeError(
                f"refresh_every: {one!r} is {type(one).__name__}; give a whole number or None"
            )
    return values


def varied(
    latency_ms: float | Sequence[float],
    faults: Mapping[str, float | Sequence[float]],
    fault_seed: int = 0,
) -> tuple[float, Faults, Sweep | None]:
    """Tell what stays the same from what is varied.

    Args:
        latency_ms: of a decision; several make a sweep.
        faults: by kind, a rate; several rates make a sweep.
        fault_seed: of all draws.

    Returns:
        The latency, the faults, and the sweep; what is swept is not among the first two.

    Raises:
        BadRequestError: two sweeps, no values, an unknown fault, or a rate that is none.
        TypeError: no numbers.
    """
    sweeps: list[Sweep] = []
    latencies = _numbers("latency_ms", latency_ms)
    if isinstance(latencies, tuple):
        sweeps.append(LatencySweep(latencies))
    fixed = []
    for name, rates in faults.items():
        kind, given = fault_kind(name), _numbers(f"faults[{name!r}]", rates)
        if isinstance(given, tuple):
            swept = tuple(parse_rate(str(rate), f"{name}={rate}") for rate in given)
            sweeps.append(FaultSweep(kind, swept))
        else:
            fixed.append(f"{name}={given}")
    if len(sweeps) > 1:
        raise BadRequestError("two sweeps at once make no curve; give one number for the others")
    latency = 0.0 if isinstance(latencies, tuple) else latencies
    return latency, parse_faults(fixed, fault_seed), sweeps[0] if sweeps else None


def _numbers(what: str, value: Any) -> float | tuple[float, ...]:
    """One number, or several as a tuple."""
    several = not isinstance(value, str) and isinstance(value, Iterable)
    values = tuple(value) if several else (value,)
    if not values:
        raise BadRequestError(f"{what}: no values; give at least one")
    for one in values:
        if not isinstance(one, Real):
            raise TypeError(f"{what}: {one!r} is {type(one).__name__}; give a number")
    numbers = tuple(float(one) for one in values)
    return numbers if several else numbers[0]


def _milliseconds(text: str, sweep: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadRequestError(
            f"--latency-sweep {one_line(sweep, 80)!r}: write milliseconds with commas, as 0,33,66"
        ) from None
