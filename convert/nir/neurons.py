"""NIR's neurons as populations of a float network, under choices that NIR does not store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import nir
import numpy as np

from mtspark.convert.nir.file import METADATA
from mtspark.convert.nir.nodes import broadcast
from mtspark.core.arrays import Floats
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.core.float_network import FloatPopulation, FloatReset, leaky_population
from mtspark.core.geometry import Shape

NEURONS = (nir.I, nir.LI, nir.IF, nir.LIF, nir.CubaLI, nir.CubaLIF, nir.Threshold)

DEFAULT_DT = 1e-4
"""The time step that published graphs imply."""

SLOW = 1e-3
"""dt / tau below this is a time constant of over a thousand steps: likely another unit."""

SIMPLE, LAST_BITS = 2**10, 4
"""A factor within this many units in the last place of a multiple of 1 / 1024 is that multiple."""

SINGLE = 2.0**-22
"""Relative distance from such a multiple that factors of float32 numbers may have instead."""

SUBTRACTS = (FloatReset.SUBTRACT, FloatReset.SUBTRACT_LATE, FloatReset.SUBTRACT_GUARDED)


class Integrator(str, Enum):
    """How tau dv/dt = (v_leak - v) + R I becomes a step of dt.

    euler: v keeps 1 - dt/tau, the drive counts dt/tau (norse, snntorch, SpiNNaker2, Lava).
    exponential: v keeps e^(-dt/tau), the drive counts 1 - e^(-dt/tau): exact for a drive that
        is constant within a step (nengo).
    exponential-decay: v keeps e^(-dt/tau), the drive counts dt/tau (sinabs, Rockpool).
    rockpool: as that, but corrects what Rockpool's exporter writes: the r of its LIF and CubaLIF
        nodes is e^(-dt/tau) times what the neurons count, and the gain of their synapses,
        e^(-dt/tau_syn), is left out.
    """

    EULER = "euler"
    EXPONENTIAL = "exponential"
    EXPONENTIAL_DECAY = "exponential-decay"
    ROCKPOOL = "rockpool"


class Order(str, Enum):
    """Which of a current-based neuron's states is updated first within a step.

    current-first: the membrane sees the input of the same step (snntorch, norse, SpikingJelly,
        Rockpool, Loihi).
    membrane-first: it sees the current of the step before.
    """

    CURRENT_FIRST = "current-first"
    MEMBRANE_FIRST = "membrane-first"


class Start(str, Enum):
    """Where membranes start: at zero, or at rest (v_leak; v_reset where nothing leaks)."""

    ZERO = "zero"
    REST = "rest"


@dataclass(frozen=True)
class ImportOptions:
    """What a NIR file does not say. None: what the file's own metadata say, else the default.

    Attributes:
        dt: time step in the unit of the time constants; default 1e-4.
        integrator: default euler.
        reset: what a spike does; default zero (to v_reset).
        order: of current-based neurons; default current-first.
        start: default zero.
        if_gain_dt: IF and I nodes count dt * r of their input a step (SpikingJelly), or r
            (sinabs, norse, spyx); default: whichever is nearer to 1.
        fires_at_threshold: a membrane equal to the threshold fires too (SpikingJelly, sinabs).
        input_scale: value of one payload unit of the input; default 1.
        input_signed: these units may be negative; default not.
        time_steps: T of one run; default not set.
        stateful: a step is a decision, and state survives it; default not.
        output: name of the output node to keep where there are several.
        input_shape: of one step, for a graph that does not say it, or says it flattened.
        resets: reset by node name, before `reset` and before the file's metadata.
    """

    dt: float | None = None
    integrator: Integrator | None = None
    reset: FloatReset | None = None
    order: Order | None = None
    start: Start | None = None
    if_gain_dt: bool | None = None
    fires_at_threshold: bool | None = None
    input_scale: float | None = None
    input_signed: bool | None = None
    time_steps: int | None = None
    stateful: bool | None = None
    output: str | None = None
    input_shape: Shape | None = None
    resets: Mapping[str, FloatReset] = field(default_factory=dict)


@dataclass(frozen=True)
class Choices:
    """The options with nothing left open; see :class:`ImportOptions`."""

    dt: float
    integrator: Integrator
    reset: FloatReset
    order: Order
    start: Start
    if_gain_dt: bool | None
    fires_at_threshold: bool
    input_scale: float
    input_signed: bool | None
    time_steps: int
    stateful: bool | None
    resets: Mapping[str, FloatReset]


DEFAULTS = Choices(
    dt=DEFAULT_DT,
    integrator=Integrator.EULER,
    reset=FloatReset.ZERO,
    order=Order.CURRENT_FIRST,
    start=Start.ZERO,
    if_gain_dt=None,
    fires_at_threshold=False,
    input_scale=1.0,
    input_signed=None,
    time_steps=0,
    stateful=None,
    resets={},
)


def choose(options: ImportOptions, metadata: Mapping[str, Any]) -> tuple[Choices, list[str]]:
    """Settle every choice: the file's own metadata, then the option, then the default.

    Args:
        options: of the user.
        metadata: of the file, under mtspark's key.

    Returns:
        The choices, and a sentence for each option that the file overrules.

    Raises:
        BadRequestError: a value that is not valid.
    """
    kinds = {"integrator": Integrator, "reset": FloatReset, "order": Order, "start": Start}
    chosen: dict[str, Any] = {}
    notes = []
    for key, default in vars(DEFAULTS).items():
        if key == "resets":
            chosen[key] = dict(options.resets)
            continue
        asked, stored = getattr(options, key), metadata.get(key)
        if stored is not None:
            try:
                kind = kinds.get(key, bool if default is None else type(default))
                own = kind(np.asarray(stored).reshape(-1)[0].item())
            except (ValueError, TypeError, IndexError) as error:
                raise BadRequestError(f"the file's metadata: {key} {stored!r} is unknown") from (
                    error
                )
            if asked is not None and asked != own:
                notes.append(f"{key} {_shown(own)} is the file's own, not {_shown(asked)}")
            chosen[key] = own
        else:
            chosen[key] = default if asked is None else asked
    choices = Choices(**chosen)
    for key in ("dt", "input_scale"):
        value = getattr(choices, key)
        if not (np.isfinite(value) and value > 0):
            raise BadRequestError(f"{key} {value}: must be above 0")
    if choices.time_steps < 0:
        raise BadRequestError(f"time steps {choices.time_steps}: must be above 0")
    return choices, notes


def _shown(value: Any) -> str:
    return str(value.value) if isinstance(value, Enum) else f"{value}"


def population_of(
    name: str, node: nir.NIRNode, shape: Shape, choices: Choices
) -> tuple[FloatPopulation, list[str]]:
    """The population of a neuron node; the name is its node's.

    Args:
        name: of the node, for errors.
        node: one of :data:`NEURONS`.
        shape: of the signal that arrives.
        choices: what NIR does not store.

    Returns:
        The population, and sentences for the user.

    Raises:
        BadNetworkError: parameters that are not valid, or that contradict a choice.
    """
    notes: list[str] = []

    def parameter(key: str) -> Floats:
        value = getattr(node, key)
        full = broadcast(name, key, 0.0 if value is None else value, shape)
        if key == "v_threshold":
            return _threshold(name, key, full, shape)
        if not np.isfinite(full).all():
            raise BadNetworkError(f"node {name!r}: {key} is not finite{_remedy(node, key)}")
        return full

    if isinstance(node, nir.Threshold):
        rows = _threshold(name, "threshold", node.threshold, shape)[None]
        fires_at = choices.fires_at_threshold
        return leaky_population(
            name, shape, membrane_keep=0.0, thresholds=rows, fires_at_threshold=fires_at
        ), notes
    current_keep, input_gain = np.zeros(shape), np.ones(shape)
    if isinstance(node, (nir.I, nir.IF)):
        keep, counted, leak = np.ones(shape), np.zeros(shape), np.zeros(shape)
        lost = counted
        gain, remarks = _if_gain(name, parameter("r"), choices)
        notes += remarks
    else:
        cuba = isinstance(node, (nir.CubaLI, nir.CubaLIF))
        time_constant = "tau_mem" if cuba else "tau"
        keep, counted, lost = _step(name, node, time_constant, shape, choices)
        gain, leak = parameter("r") * counted, parameter("v_leak")
        if cuba:
            current_keep, share, _ = _step(name, node, "tau_syn", shape, choices)
            if choices.integrator is Integrator.ROCKPOOL:
                share = current_keep
            input_gain = parameter("w_in") * share
        if choices.integrator is Integrator.ROCKPOOL and not isinstance(node, nir.LI):
            gain = gain / keep
        notes += _slow(name, keep, choices.dt)
    gain = settled(gain * input_gain, single=_has_single(node))
    if isinstance(node, (nir.I, nir.LI, nir.CubaLI)):
        start = leak if choices.start is Start.REST else np.zeros(shape)
        return (
            leaky_population(
                name,
                shape,
                membrane_keep=keep,
                gain=gain,
                current_keep=current_keep,
                membrane_bias=_drive_of_leak(keep, counted, lost, leak, np.zeros(shape)),
                initial_membrane=start,
                reset=FloatReset.NONE,
            ),
            notes,
        )
    reset = choices.resets.get(name, _own_reset(name, node) or choices.reset)
    fires_at_threshold = _own_entry(node, "fires_at_threshold")
    if fires_at_threshold is None:
        fires_at_threshold = choices.fires_at_threshold
    offset = parameter("v_reset")
    if np.any(offset != 0) and reset not in (FloatReset.ZERO, FloatReset.ZERO_LATE):
        raise BadNetworkError(
            f"node {name!r} resets to v_reset (not 0), which contradicts reset {reset.value!r}; "
            "use --reset zero"
        )
    # With w = v - v_reset a spike sets w to 0, as on the chip.
    rest = leak if not isinstance(node, nir.IF) else offset
    start = (rest if choices.start is Start.REST else np.zeros(shape)) - offset
    if np.any(leak != 0) or np.any(offset != 0):
        notes.append(
            f"{name}: v_leak or v_reset is not 0; membranes start at "
            + ("rest" if choices.start is Start.REST else "0 (--start rest: at v_leak)")
        )
    thresholds = parameter("v_threshold") - offset
    if reset in SUBTRACTS and np.any(thresholds <= 0):
        raise BadNetworkError(f"node {name!r}: reset by subtraction needs thresholds above 0")
    return (
        leaky_population(
            name,
            shape,
            membrane_keep=keep,
            gain=gain,
            current_keep=current_keep,
            thresholds=thresholds[None],
            fires_at_threshold=bool(fires_at_threshold),
            reset=reset,
            membrane_bias=_drive_of_leak(keep, counted, lost, leak, offset),
            initial_membrane=start,
            membrane_offset=offset,
        ),
        notes,
    )


def settled(values: Floats, *, single: bool = False) -> Floats:
    """Take a product that misses a simple number by its last bits for that number.

    A factor of tau / dt times dt / tau is 1, and an input of 1 then equals a threshold of 1. No
    float32 is 2e-4, so that a tau of two steps of 1e-4 gives half of a drive only nearly.

    Args:
        values: products of parameters.
        single: a parameter is a float32 number.
    """
    simple = np.rint(values * SIMPLE) / SIMPLE
    near = SINGLE * np.abs(values) if single else LAST_BITS * np.spacing(np.abs(values))
    return np.where(np.abs(values - simple) <= near, simple, values)


def _has_single(node: nir.NIRNode) -> bool:
    """Whether a factor of a neuron's drive is stored in float32."""
    keys = ("tau", "tau_mem", "tau_syn", "r", "w_in")
    values = [np.asarray(getattr(node, key)) for key in keys if hasattr(node, key)]
    return any(value.dtype == np.float32 for value in values)


def _drive_of_leak(
    keep: Floats, counted: Floats, lost: Floats, leak: Floats, offset: Floats
) -> Floats:
    """What the leak adds to w = v - offset in every step: counted v_leak - lost offset.

    Args:
        keep: share of a membrane that a step keeps.
        counted: share of the drive that it counts.
        lost: 1 - keep, without the rounding of that difference.
        leak, offset: v_leak, and the zero of the membranes.

    Returns:
        The drive. Where a membrane comes to rest at v_leak, keep w + drive is w there to the
        bit, or, in the few cases in which every drive rounds past it, a last bit nearer to 0:
        rounding never lifts it over a threshold.
    """
    rest = leak - offset
    kept = keep * rest
    drive = rest - kept
    over = np.abs(kept + drive) > np.abs(rest)
    drive = np.where(over, np.nextafter(drive, 0.0), drive)
    # A membrane that loses less than its last bit comes to rest nowhere.
    rests = (counted == lost) & (keep < 1)
    return np.where(rests, drive, counted * leak - lost * offset)


def _remedy(node: nir.NIRNode, key: str) -> str:
    """What to write in the place of a resistance that cancels an infinite time constant."""
    tau = getattr(node, "tau", getattr(node, "tau_mem", 0.0))
    if key != "r" or not np.isposinf(np.asarray(tau, np.float64)).any():
        return ""
    without = {"LI": "I", "LIF": "IF"}.get(type(node).__name__)
    if without is None:
        return " beside an infinite tau_mem; give large numbers with the quotient that is meant"
    return (
        f" beside an infinite tau (a beta of 1); a neuron that does not leak is an {without} node"
    )


def _threshold(name: str, key: str, value: Any, shape: Shape) -> Floats:
    """The threshold of every value of a signal; infinity means never."""
    full = broadcast(name, key, value, shape)
    if np.isnan(full).any() or np.isneginf(full).any():
        raise BadNetworkError(
            f"node {name!r}: {key} is {full[~(full > -np.inf)].flat[0]:g}; must be a number, or "
            "infinite for neurons that never fire"
        )
    return full


def _own_entry(node: nir.NIRNode, key: str) -> Any:
    """What mtspark wrote into a node's metadata; None where nothing."""
    own = node.metadata.get(METADATA) if isinstance(node.metadata, dict) else None
    return own.get(key) if isinstance(own, dict) else None


def _own_reset(name: str, node: nir.NIRNode) -> FloatReset | None:
    """The reset that mtspark wrote into a node's metadata."""
    text = _own_entry(node, "reset")
    if text is None:
        return None
    try:
        return FloatReset(text.decode() if isinstance(text, bytes) else str(text))
    except (ValueError, UnicodeDecodeError) as error:
        raise BadNetworkError(f"node {name!r}: unknown reset {text!r} in its metadata") from error


def _tau(name: str, node: nir.NIRNode, key: str, shape: Shape) -> Floats:
    """A time constant; infinity never forgets."""
    tau = broadcast(name, key, getattr(node, key), shape)
    if np.isnan(tau).any() or np.any(tau < 0):
        raise BadNetworkError(
            f"node {name!r}: {key} {tau[~(tau >= 0)].flat[0]:g}: time constants must be above 0"
        )
    return tau


def _step(
    name: str, node: nir.NIRNode, key: str, shape: Shape, choices: Choices
) -> tuple[Floats, Floats, Floats]:
    """The shares of a state that a step keeps, of a drive that it counts, of a state it loses."""
    tau, single = _tau(name, node, key, shape), np.asarray(getattr(node, key)).dtype == np.float32
    with np.errstate(divide="ignore"):
        ratio = np.where(tau > 0, choices.dt / np.where(tau > 0, tau, 1.0), np.inf)
    if choices.integrator is Integrator.EULER:
        # A hair above 1 is float32's way to say 1.
        ratio = np.where(np.abs(ratio - 1) < 1e-6, 1.0, ratio)
        if np.any(ratio > 1):
            raise BadNetworkError(
                f"node {name!r}: {key} {tau.min():g} is shorter than dt {choices.dt:g}, which "
                "forward Euler cannot step; give a smaller --dt or --integrator exponential"
            )
        ratio = settled(ratio, single=single)
        return 1 - ratio, ratio, ratio
    keep, lost = np.exp(-ratio), -np.expm1(-ratio)
    if choices.integrator is Integrator.EXPONENTIAL:
        return keep, lost, lost
    if not np.isfinite(ratio).all():
        raise BadNetworkError(f"node {name!r}: {key} 0 has no dt / {key}; use exponential")
    return keep, ratio, lost


def _if_gain(name: str, r: Floats, choices: Choices) -> tuple[Floats, list[str]]:
    """The factor of the input of an integrator without leak in a step: r, or dt * r."""
    per_dt = choices.if_gain_dt
    if per_dt is None:
        typical = float(np.median(np.abs(r[r != 0]))) if np.any(r) else 1.0
        per_dt = abs(np.log(typical * choices.dt)) < abs(np.log(typical))
    counted = "dt * r" if per_dt else "r"
    gain = r * choices.dt if per_dt else r
    return gain, [
        f"{name}: a step counts {counted} of its input, {gain.flat[0]:g} in its first neuron"
    ]


def _slow(name: str, keep: Floats, dt: float) -> list[str]:
    forgets = 1 - keep[keep < 1]
    if forgets.size and forgets.max() < SLOW:
        # Who gave a dt of their own was told of it already.
        unit = "; if the file counts time in another unit, give --dt (1 where it counts steps)"
        return [
            f"{name}: a membrane forgets {forgets.max():.1e} a step"
            + (unit if dt == DEFAULT_DT else "")
        ]
    return []
