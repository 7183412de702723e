"""The integers of one population and of all connections that end there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import (
    BIAS_EXPONENTS,
    CURRENT_LIMIT,
    DECAY_ONE,
    STATE_SHIFT,
    THRESHOLD_LIMIT,
    WEIGHT_EXPONENTS,
)
from mtspark.core.arrays import Floats
from mtspark.core.chip_network import (
    INPUT,
    Connection,
    Decay,
    FrameInput,
    Population,
    Reset,
    SignMode,
)
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network import FloatPopulation, FloatReset
from mtspark.deploy.lower import ChipLink
from mtspark.deploy.quantise.bounds import Headroom, population_headroom
from mtspark.deploy.quantise.exact import Flags, Wanted, common_steps, is_whole, refinements
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.deploy.quantise.rounding import SMALLEST, fit_bias, natural_unit, round_weights

RESETS = {
    FloatReset.ZERO: Reset.ZERO,
    FloatReset.SUBTRACT: Reset.SUBTRACT,
    FloatReset.SUBTRACT_LATE: Reset.SUBTRACT_LATE,
    FloatReset.SUBTRACT_GUARDED: Reset.SUBTRACT_GUARDED,
    FloatReset.NONE: Reset.NONE,
}

RECORDED_MARGIN = 2.0
"""Currents may grow to this multiple of the largest recorded current."""

GRADED_SHIFT = -6
"""Smallest exponent of sums of 8-bit messages: they may lose 6 low bits, sums of spikes none."""

THRESHOLD_MARGIN = 256
"""Where saturation is allowed, an exponent above 0 must leave membranes room for at least this
multiple of the threshold."""

SMALLEST_OFFSET = WEIGHT_EXPONENTS[0] - WEIGHT_EXPONENTS[-1]


@dataclass(frozen=True)
class QuantisedLayer:
    """Result of :func:`quantise_layer`.

    Attributes:
        population: its integers.
        connections: those that end there.
        membrane_unit: float value of one membrane unit, of the population's shape.
        notes: sentences for the user.
        exact: neurons whose weights, biases, thresholds and decays came out as they were.
        stepped: neurons in a unit of which their numbers are whole multiples; all exact ones, and
            those with decays or a comparison that the chip rounds.
    """

    population: Population
    connections: list[Connection]
    membrane_unit: Floats
    notes: list[str]
    exact: Flags
    stepped: Flags


def quantise_layer(
    population: FloatPopulation,
    links: Sequence[ChipLink],
    *,
    tasks: int,
    input_scale: float,
    given: FrameInput,
    steps: int | None,
    options: QuantiseOptions,
) -> QuantisedLayer:
    """Choose units, round, and take the largest exponent that the bounds allow.

    Args:
        population: with the shape it has on the chip.
        links: all connections that end there.
        tasks: rows of thresholds where the population never fires.
        input_scale: float value of an input message of 1.
        given: the input.
        steps: between two resets of the state; None where none comes.
        options: see :class:`QuantiseOptions`.

    Raises:
        BadNetworkError: no exponent avoids overflow.
    """
    fine = _Rounding(population, links, input_scale, options)
    notes: list[str] = []
    decays = _decays(population, notes)
    if steps is None:
        _check_forgets(population, decays[1])
    notes += _ties(population, options)

    def search(rounding: _Rounding) -> QuantisedLayer | None:
        return _with_largest_exponent(population, rounding, tasks, decays, given, steps, notes)

    layer = None
    exact = _ExactRounding.of(fine, population)
    if exact is not None:
        layer = _most_exact(population, exact, search)
    if layer is None:
        layer = search(fine) or _less_apart(population, fine, search)
    if layer is not None:
        return layer
    if options.for_netx:
        # Raises the next error where leaving netx out helps nothing.
        quantise_layer(
            population,
            links,
            tasks=tasks,
            input_scale=input_scale,
            given=given,
            steps=steps,
            options=replace(options, for_netx=False),
        )
        raise BadNetworkError(
            f"layer {population.name!r}: netx files hold weight exponent 0 only, under which its "
            "sums or biases are too large; leave netx out of --formats"
        )
    nothing = np.zeros(population.shape)
    unbiased = replace(population, bias_current=nothing, membrane_bias=nothing)
    without = _Rounding(unbiased, links, input_scale, options)
    helped = _with_largest_exponent(unbiased, without, tasks, decays, given, steps, notes)
    fewer = "fewer inputs" + (
        "" if len(links) == 1 else ", or weights of its connections that differ less in size"
    )
    raise BadNetworkError(
        f"layer {population.name!r}: no weight exponent from {WEIGHT_EXPONENTS[0]} keeps its sums "
        f"within 24 bits (fan-in {sum(link.weights[0].size for link in links)}); use "
        + (fewer if helped is None else "smaller biases")
    )


def _most_exact(
    population: FloatPopulation,
    exact: _ExactRounding,
    search: Callable[[_Rounding], QuantisedLayer | None],
) -> QuantisedLayer | None:
    """The layer with the most exact neurons; None where no exponent has any.

    Several connections use the grid best with exponents of their own. Where a sum then loses
    bits, exponents that are less far apart lose fewer, and the numbers may still be whole.
    """
    best: QuantisedLayer | None = None
    most, possible = (0, 0), exact.possible()
    for lowest in range(min(exact.offsets), 1):
        apart = lowest == min(exact.offsets)
        rounding = (
            exact if apart else _ExactRounding.of(exact.raised(population, lowest), population)
        )
        layer = None if rounding is None else search(rounding)
        if layer is None:
            continue
        found = int(layer.exact.sum()), int(layer.stepped.sum())
        if layer.stepped.any() and found > most:
            best, most = layer, found
        if (layer.stepped | ~possible).all():
            break
    return best


def _less_apart(
    population: FloatPopulation,
    fine: _Rounding,
    search: Callable[[_Rounding], QuantisedLayer | None],
) -> QuantisedLayer | None:
    """The layer whose connections have exponents less far apart than suits each of them.

    The smallest exponent that there is may leave the others one at which sums do not fit: weights
    of pixels, whose messages go to 255, beside recurrent ones. Weights of the smallest exponents
    then keep fewer bits.
    """
    for lowest in range(min(fine.offsets) + 1, 1):
        layer = search(fine.raised(population, lowest))
        if layer is not None:
            coarse = [
                f"{link.name!r} by {lowest - offset}"
                for link, offset in zip(fine.links, fine.offsets, strict=True)
                if offset < lowest
            ]
            note = (
                f"{population.name}: its connections need exponents less far apart, so weights "
                f"have fewer bits: {', '.join(coarse)}"
            )
            return replace(layer, notes=[*layer.notes, note])
    return None


def _with_largest_exponent(
    population: FloatPopulation,
    rounding: _Rounding,
    tasks: int,
    decays: tuple[Decay, Decay],
    given: FrameInput,
    steps: int | None,
    notes: list[str],
) -> QuantisedLayer | None:
    """The layer under the largest exponent that is proven, or may saturate; None: there is none."""
    options = rounding.options
    proven: QuantisedLayer | None = None
    for exponent in rounding.exponents():
        layer = _candidate(population, rounding.under(exponent), exponent, tasks, decays)
        if layer is None:
            continue
        room = population_headroom(layer.population, layer.connections, given, steps)
        if room.proven:
            proven = replace(layer, notes=notes)
            break
    lossy = proven is not None and _loses_bits(proven, bool(given.payload_bits))
    if proven is not None and not (options.may_saturate and lossy):
        return proven
    if options.may_saturate:
        for exponent in rounding.exponents():
            own = rounding.under(exponent)
            layer = _candidate(population, own, exponent, tasks, decays)
            if layer is None or not _thresholds_fit(population, own, exponent):
                continue
            room = population_headroom(layer.population, layer.connections, given, steps)
            if _current_bounded(population, own, exponent, room, options):
                return _saturating(layer, room, notes)
    return proven


def _loses_bits(layer: QuantisedLayer, graded: bool) -> bool:
    return any(
        link.exponent < (GRADED_SHIFT if graded and link.source == INPUT else 0)
        for link in layer.connections
        if np.any(link.weights)
    )


def _saturating(layer: QuantisedLayer, room: Headroom, notes: list[str]) -> QuantisedLayer:
    population = layer.population
    warnings = []
    if not room.current_proven:
        warnings.append(f"{population.name}: currents are bounded by recorded inputs, not by proof")
    if not room.proven:
        warnings.append(
            f"{population.name}: membranes can reach {room.membrane:.1f} times their range for "
            "some inputs, where they saturate"
        )
        if (population.thresholds == THRESHOLD_LIMIT).all() and population.reset is Reset.ZERO:
            # Never fires, except where it saturates: it must then keep its membrane.
            population = replace(population, reset=Reset.NONE)
    return replace(layer, population=population, notes=[*notes, *warnings])


class _Rounding:
    """Units of a population, and the integers of its connections in them.

    Neurons share a unit by channel where a convolution ends, otherwise each has its own.
    """

    def __init__(
        self,
        population: FloatPopulation,
        links: Sequence[ChipLink],
        input_scale: float,
        options: QuantiseOptions,
        lowest: int = SMALLEST_OFFSET,
    ) -> None:
        self.options, self.links, self.input_scale = options, links, input_scale
        self.shape = population.shape
        conv = any(link.kind.convolves for link in links)
        self.groups = population.shape[0] if conv else population.size
        # A negative gain turns what arrives, weights and bias alike; its size divides the rest.
        self.gain, self.signs = np.abs(population.gain), np.sign(population.gain)
        signs = self.signs.reshape(self.groups, -1)
        if np.any(signs != signs[:, :1]):
            raise BadNetworkError(
                f"layer {population.name!r}: neurons of one channel have input gains of both "
                "signs, and share their weights; give them (r, w_in) one sign, or the layer "
                "a Linear node with weights of each neuron's own"
            )
        weights = [self._with_sign(link, signs[:, 0]) for link in links]
        scales = [input_scale if link.source == INPUT else 1.0 for link in links]
        largest = [self._largest(link, one) for link, one in zip(links, weights, strict=True)]
        if not options.per_channel:
            largest = [np.full_like(one, one.max()) for one in largest]
        largest = self._not_empty(population, largest, scales)
        natural = [natural_unit(one, options.weight_bits) for one in largest]
        if len(links) == 1:
            self.offsets, self.unit, units = [0], natural[0] * scales[0], natural
        else:
            scaled = [
                np.where(top > 0, unit * scale, 0.0)
                for top, unit, scale in zip(largest, natural, scales, strict=True)
            ]
            self.unit = np.max(scaled, axis=0)
            self.unit = np.where(self.unit > 0, self.unit, 1.0)
            self.offsets = [
                0 if options.for_netx else max(lowest, _offset(one / self.unit)) for one in scaled
            ]
            units = [
                self.unit * 2.0**offset / scale
                for offset, scale in zip(self.offsets, scales, strict=True)
            ]
        self.weights, self.scales = weights, scales
        self.integers = [
            round_weights(one, self._rows(link, unit), options.weight_bits, options.keep_sums)
            for link, one, unit in zip(links, weights, units, strict=True)
        ]
        self.unit_of_neurons = self._neurons(self.unit)
        self.exact = np.zeros(population.shape, bool)

    def under(self, exponent: int) -> _Rounding:
        """The units and integers under one exponent of the population."""
        return self

    def raised(self, population: FloatPopulation, lowest: int) -> _Rounding:
        """The same with exponents of connections at least so far from the population's."""
        return _Rounding(population, self.links, self.input_scale, self.options, lowest)

    def _neurons(self, by_group: NDArray[Any]) -> NDArray[Any]:
        """One value for each neuron."""
        each = int(np.prod(self.shape)) // self.groups
        return np.repeat(by_group, each).reshape(self.shape)

    def bias(self, population: FloatPopulation) -> Floats:
        """What the membrane gets in every step, in units of the weights (before their scale)."""
        current = 0.0 if population.has_current_memory else self.signs * population.bias_current
        return np.asarray(current + population.membrane_bias / self.gain)

    def exponents(self) -> list[int]:
        """Exponents of the population that give every connection one that exists, largest first."""
        if self.options.for_netx:
            return [0]
        return [
            exponent
            for exponent in range(WEIGHT_EXPONENTS[-1] - max(self.offsets), -24, -1)
            if all(exponent + offset in WEIGHT_EXPONENTS for offset in self.offsets)
        ]

    def _rows(self, link: ChipLink, by_group: NDArray[Any]) -> NDArray[Any]:
        """One value for each row of a connection's weights."""
        if link.kind.convolves:
            return by_group
        return np.repeat(by_group, len(link.weights) // self.groups)

    def _with_sign(self, link: ChipLink, signs: Floats) -> Floats:
        rows = self._rows(link, signs).reshape(-1, *[1] * (link.weights.ndim - 1))
        return link.weights if np.all(rows == 1) else link.weights * rows

    def _largest(self, link: ChipLink, weights: Floats) -> Floats:
        by_row = np.abs(weights.reshape(len(weights), -1)).max(1)
        limit = self.options.weight_limits.get(link.name)
        if limit is not None:
            by_row = np.minimum(by_row, limit)
        return by_row.reshape(self.groups, -1).max(1)

    def _not_empty(
        self, population: FloatPopulation, largest: list[Floats], scales: list[float]
    ) -> list[Floats]:
        """Give groups without weights a unit that suits their biases, or else their thresholds.

        A neuron without weights is driven by its bias alone, and whether and when it fires depends
        on how many biases its threshold is. Thresholds may lie far apart: of a neuron that is off
        in some tasks, or whose gain is nearly 0 there. None that its bias reaches is rounded away
        so, and what lies above the chip's largest threshold takes more than 500 biases to reach.
        """
        empty = np.max(largest, axis=0) == 0
        if population.thresholds is None or not empty.any():
            return largest
        driven = np.abs(self.bias(population)).reshape(self.groups, -1).max(1)
        above = np.where(population.thresholds > 0, population.thresholds, np.inf)
        lowest = (above.min(0) / self.gain).reshape(self.groups, -1).min(1)
        unit = np.where(driven > 0, driven, lowest)
        usable = empty & np.isfinite(unit) & (unit > 0)
        return [np.where(usable, unit / scales[0], largest[0]), *largest[1:]]


class _ExactRounding(_Rounding):
    """As :class:`_Rounding`, with exact units where the numbers of a group have a common step."""

    def __init__(self, fine: _Rounding, steps: Floats, wanted: Wanted) -> None:
        self.__dict__.update(vars(fine))
        self.fine, self.steps, self.wanted = fine, steps, wanted

    @staticmethod
    def of(fine: _Rounding, population: FloatPopulation) -> _ExactRounding | None:
        """The rounding of a population; None where no group has a common step."""
        levels = _levels(fine.options)
        scaled = [
            one.reshape(fine.groups, -1) * (scale / 2.0**offset)
            for one, scale, offset in zip(fine.weights, fine.scales, fine.offsets, strict=True)
        ]
        bias = fine.bias(population).reshape(fine.groups, -1)
        thresholds = np.zeros((fine.groups, 1))
        if population.thresholds is not None:
            finite = np.where(np.isfinite(population.thresholds), population.thresholds, 0.0)
            by_task = (finite / fine.gain).reshape(len(finite), fine.groups, -1)
            thresholds = by_task.swapaxes(0, 1).reshape(fine.groups, -1)
        rows = np.concatenate(scaled, axis=1)
        # Without weights, thresholds or biases take their place.
        for others in (thresholds, bias):
            empty = ~rows.any(1)
            if empty.any():
                stands = np.where(empty, np.abs(others).max(1), 0.0)
                rows = np.concatenate([rows, stands[:, None]], axis=1)
        # What has no numbers at all is exact in any unit.
        fine.exact = fine._neurons(np.asarray(~rows.any(1)))
        if not fine.options.per_channel:
            rows = rows.reshape(1, -1)
        used = np.flatnonzero(np.abs(rows).max(1) > SMALLEST)
        steps = np.zeros(len(rows))
        if used.size:
            steps[used] = common_steps(rows[used], levels)
        if not steps.any():
            return None
        known = np.where(steps > 0, steps, 1.0)
        above, below = rows.max(1) / known, -rows.min(1) / known
        largest = np.where(steps > 0, np.maximum(above, below * levels / (levels + 1)), 0.0)
        compared = _only_compared(population)
        wanted = Wanted(
            largest,
            thresholds.reshape(len(rows), -1) / known[:, None],
            bias.reshape(len(rows), -1) / known[:, None],
            compared=compared,
            lowered=compared and population.fires_at_threshold,
            only_lowered=fine.options.for_netx,
        )
        return _ExactRounding(fine, steps, wanted)

    def possible(self) -> Flags:
        """Neurons whose numbers have a common step, whatever the exponent."""
        stepped = self.wanted.largest > 0
        if len(stepped) < self.groups:
            stepped = np.repeat(stepped, self.groups)
        return self._neurons(stepped) | self.fine.exact

    def under(self, exponent: int) -> _Rounding:
        """Exact units where there are some under this exponent, the fine ones elsewhere."""
        options = self.options
        levels, grid = _levels(options), 2 ** (9 - options.weight_bits)
        factors = refinements(
            self.wanted,
            levels=levels,
            grid=grid,
            exponent=exponent,
            lost_bits=max(0, -(exponent + min(self.offsets))),
            bias_exponents=[STATE_SHIFT] if options.for_netx else BIAS_EXPONENTS,
        )
        exact = factors > 0
        units = self.steps / (grid * np.maximum(factors, 1))
        if len(exact) < self.groups:
            exact, units = np.repeat(exact, self.groups), np.repeat(units, self.groups)
        result = copy(self.fine)
        result.unit = np.where(exact, units, self.fine.unit)
        result.integers = []
        for link, weights, integers, scale, offset in zip(
            self.links, self.weights, self.fine.integers, self.scales, self.offsets, strict=True
        ):
            rows = (-1, *[1] * (weights.ndim - 1))
            unit = self._rows(link, result.unit * 2.0**offset / scale).reshape(rows)
            chosen = self._rows(link, exact).reshape(rows)
            whole = np.where(chosen, np.rint(weights / (unit * grid)) * grid, integers)
            result.integers.append(whole.astype(np.int64))
        result.unit_of_neurons = self._neurons(result.unit)
        result.exact = self._neurons(exact) | self.fine.exact
        return result


def _levels(options: QuantiseOptions) -> int:
    """Largest weight on the grid, in steps of the grid."""
    return int(2 ** (options.weight_bits - 1) - 1)


def _only_compared(population: FloatPopulation) -> bool:
    """Whether thresholds are only compared, with sums in which nothing decays."""
    subtracts = population.spiking and population.reset not in (FloatReset.ZERO, FloatReset.NONE)
    return not subtracts and _sums_only(population)


def _sums_only(population: FloatPopulation) -> bool:
    """Whether a membrane holds whole sums of what came: nothing of it decays in part."""
    keeps_all_or_nothing = np.isin(population.membrane_keep, (0.0, 1.0)).all()
    return bool(keeps_all_or_nothing) and not population.has_current_memory


def _offset(shares: Floats) -> int:
    """Exponent of a connection, relative to the population's: the power of two above its share."""
    share = float(shares.max())
    if share <= 0:
        return 0
    return max(SMALLEST_OFFSET, int(np.ceil(np.log2(share))))


@np.errstate(over="ignore")
def _candidate(
    population: FloatPopulation,
    rounding: _Rounding,
    exponent: int,
    tasks: int,
    decays: tuple[Decay, Decay],
) -> QuantisedLayer | None:
    """The layer under one exponent; None where its biases are too large."""
    gain = 2.0**exponent / rounding.unit_of_neurons
    if not np.isfinite(gain).all():
        return None
    bias = rounding.bias(population) * gain * 2**STATE_SHIFT
    exponents = [STATE_SHIFT] if rounding.options.for_netx else BIAS_EXPONENTS
    fitted = fit_bias(bias, exponents)
    if fitted is None:
        return None
    whole_bias = fitted[0] << fitted[1]
    exact = rounding.exact & is_whole(bias) & (np.rint(bias) == whole_bias)
    exact &= _decays_exact(population, decays)
    at_threshold = False
    if population.thresholds is None:
        mantissas = np.full((tasks, *population.shape), float(THRESHOLD_LIMIT))
        reset = Reset.ZERO
    else:
        reset = RESETS[population.reset]
        subtracts = reset not in (Reset.ZERO, Reset.NONE)
        # Membranes in whole thresholds' units: there a threshold may lie anywhere between two, and
        # one lower takes in what equals it and no more.
        sums = _sums_only(population) & (whole_bias % 2**STATE_SHIFT == 0)
        lowered = not subtracts and (rounding.options.for_netx or bool(np.all(sums)))
        at_threshold = population.fires_at_threshold and not lowered
        mantissas, kept = _mantissas(
            population.thresholds / rounding.gain * gain,
            exact & sums & (not subtracts),
            lower=population.fires_at_threshold and lowered,
            at=at_threshold,
        )
        exact &= kept.all(0)
    quantised = Population(
        name=population.name,
        shape=population.shape,
        current_decay=decays[0],
        membrane_decay=decays[1],
        # Where it is proven that no membrane can reach the largest threshold, a neuron whose
        # threshold is capped is off, as it was with its own larger threshold.
        thresholds=np.minimum(mantissas, THRESHOLD_LIMIT).astype(np.int64),
        bias_mantissa=fitted[0],
        bias_exponent=fitted[1],
        reset=reset,
        fires_at_threshold=at_threshold,
    )
    connections = [
        Connection(
            name=link.name,
            source=link.source,
            target=link.target,
            # As in a pooling laid out as a matrix, or where training has cut most weights.
            kind=link.kind.without_zeros(integers),
            weights=integers,
            sign_mode=SignMode.MIXED,
            exponent=exponent + offset,
            weight_bits=rounding.options.weight_bits,
            **link.conv_fields,
            delay=link.delay,
            recurrent=link.recurrent,
        )
        for link, integers, offset in zip(
            rounding.links, rounding.integers, rounding.offsets, strict=True
        )
    ]
    membrane_unit = rounding.unit_of_neurons / 2.0 ** (exponent + STATE_SHIFT) * rounding.gain
    return QuantisedLayer(quantised, connections, membrane_unit, [], exact, rounding.exact)


def _mantissas(thresholds: Floats, whole: Flags, *, lower: bool, at: bool) -> tuple[Floats, Flags]:
    """The thresholds of the chip, and which of them compare as the exact ones do.

    Args:
        thresholds: in units of a mantissa.
        whole: neurons whose membranes are whole numbers of these.
        lower: a membrane that equals its threshold fires, though the chip fires only above one.
        at: likewise, and the chip compares with equality.
    """
    nearest, on_grid = np.rint(thresholds), is_whole(thresholds) | np.isinf(thresholds)
    if at:
        # At 0 a neuron would fire without any input.
        lifted = np.where((nearest == 0) & (thresholds > 0), 1.0, nearest)
        return np.where(whole & ~on_grid, np.ceil(thresholds), lifted), on_grid | whole
    if lower:
        below = np.where(whole & ~on_grid, np.ceil(thresholds), nearest) - (on_grid | whole)
        return below, whole & (below >= 0)
    below = np.where(whole & ~on_grid, np.floor(thresholds), nearest)
    return below, on_grid | whole


def _ties(population: FloatPopulation, options: QuantiseOptions) -> list[str]:
    """Say that neurons fire at their threshold, where a netx file cannot say the same.

    Its neurons fire above a threshold. Membranes that decay lie between whole mantissas, so that a
    threshold one lower takes in more than the tie. Elsewhere the chip compares with equality.
    """
    subtracts = population.reset not in (FloatReset.ZERO, FloatReset.NONE)
    told = population.spiking and population.fires_at_threshold and not subtracts
    if not told or not options.for_netx or _sums_only(population):
        return []
    partly = np.isin(population.membrane_keep, (0.0, 1.0)) & (population.current_keep == 0)
    return [
        f"{population.name}: {int((~partly).sum())} neurons fire at their threshold and decay; "
        "those of a netx file fire above it, so the chip may differ where a membrane meets it"
    ]


def _decays_exact(population: FloatPopulation, decays: tuple[Decay, Decay]) -> Flags:
    """Neurons whose decays are whole parts of 4096."""
    current, membrane = (np.asarray(decay) for decay in decays)
    return np.asarray(
        (current + 1 == DECAY_ONE * (1 - population.current_keep))
        & (membrane == DECAY_ONE * (1 - population.membrane_keep))
    )


@np.errstate(over="ignore")
def _thresholds_fit(population: FloatPopulation, rounding: _Rounding, exponent: int) -> bool:
    """Every threshold has a mantissa, with room above it where a larger exponent takes it."""
    if population.thresholds is None:
        return exponent <= 0
    finite = np.where(np.isfinite(population.thresholds), population.thresholds, 0.0)
    highest = float((finite / rounding.gain * 2.0**exponent / rounding.unit_of_neurons).max())
    return highest * (THRESHOLD_MARGIN if exponent > 0 else 1) <= THRESHOLD_LIMIT


@np.errstate(over="ignore")
def _current_bounded(
    population: FloatPopulation,
    rounding: _Rounding,
    exponent: int,
    room: Headroom,
    options: QuantiseOptions,
) -> bool:
    recorded = options.largest_currents.get(population.name)
    if recorded is None:
        return room.current_proven
    chip = recorded / rounding.unit_of_neurons * 2.0 ** (exponent + STATE_SHIFT)
    return bool(chip.max() * RECORDED_MARGIN < CURRENT_LIMIT)


def _decays(population: FloatPopulation, notes: list[str]) -> tuple[Decay, Decay]:
    """du and dv of 4096, one for all neurons where they agree."""
    lost = DECAY_ONE * (1 - population.current_keep), DECAY_ONE * (1 - population.membrane_keep)
    current = np.maximum(np.rint(lost[0]).astype(np.int64) - 1, 0)
    membrane = np.rint(lost[1]).astype(np.int64)
    if np.any((membrane == 0) & (population.membrane_keep < 1)):
        notes.append(
            f"{population.name}: forgets less than 1/8192 a step, which the chip takes for nothing"
        )
    return _one_or_each(current), _one_or_each(membrane)


def _one_or_each(values: NDArray[np.int64]) -> Decay:
    first = int(values.flat[0])
    return first if np.all(values == first) else values


def _check_forgets(population: FloatPopulation, membrane_decay: Decay) -> None:
    """Refuse membranes that only grow, where no decision puts them to rest."""
    if np.any(np.asarray(membrane_decay) == 0):
        keep = float(population.membrane_keep.max())
        raise BadNetworkError(
            f"layer {population.name!r}: membranes keep {keep:g} of themselves from decision to "
            "decision, which the chip takes for all, so nothing bounds them in an episode; give "
            "them a leak (beta at most 4095/4096)"
        )
