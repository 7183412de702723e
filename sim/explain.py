"""One integer effect at a time: the float network in the chip's units, with switches.

Every population is simulated in its own membrane unit, in float64: with all switches off it is
the float network, with all of them on it is the chip, bit for bit. Each switch replaces one
thing by its integer: weights, thresholds, biases, decays, or switches on one rounding of the
chip: of decayed states, of shifted sums, of states beyond their range.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import (
    CURRENT_LIMIT,
    DECAY_ONE,
    MEMBRANE_LIMIT,
    STATE_SHIFT,
)
from mtspark.core.arrays import Floats
from mtspark.core.backend import Activity, ChipTrace, Decision, Memoryless
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    Population,
    ReadoutKind,
    Reset,
)
from mtspark.core.errors import BadRequestError
from mtspark.core.float_network import CONSTANT, FloatConnection, FloatKind, FloatNetwork, deliver
from mtspark.deploy.lower import ONSET, ChipLink, lower
from mtspark.deploy.quantise import QuantisedLayer, QuantiseOptions, quantise_layer
from mtspark.sim.backends import check_request


class Effect(str, Enum):
    """What integers change; every one can be switched on alone.

    * WEIGHTS: synaptic weights on their grid.
    * THRESHOLDS: threshold mantissas.
    * PALETTE: few distinct thresholds a core (without their rounding to mantissas).
    * BIASES: bias mantissas.
    * DECAYS: decays of 12 bits.
    * PRODUCTS: a decayed state is rounded toward zero.
    * SHIFTS: a sum under a negative exponent loses its lowest bits.
    * SATURATION: membranes end at 2^23 - 1, currents wrap.
    * HELD_INPUT: pixels sent once a decision to a plain current that never decays (du = 0),
      which still loses 1/4096 a step. The chip as exported sends them in every step and loses
      nothing, so this is no part of it.
    """

    WEIGHTS = "weights"
    THRESHOLDS = "thresholds"
    PALETTE = "palette"
    BIASES = "biases"
    DECAYS = "decays"
    PRODUCTS = "decay products"
    SHIFTS = "sum shifts"
    SATURATION = "saturation"
    HELD_INPUT = "held input"


CHIP_EFFECTS = tuple(effect for effect in Effect if effect is not Effect.HELD_INPUT)
"""Together they are the chip."""


@dataclass(frozen=True)
class _Link:
    """A connection in chip units.

    Attributes:
        source: its name.
        lag: in layer time.
        exact, rounded: weights in chip units, before and after rounding, as connections.
        factor: 2 to the exponent.
    """

    source: str
    lag: int
    exact: FloatConnection
    rounded: FloatConnection
    factor: float


@dataclass(frozen=True)
class _Layer:
    """A population in chip units, exact and rounded."""

    chip: Population
    links: tuple[_Link, ...]
    thresholds: Floats
    unpainted: NDArray[np.int64]
    bias: Floats
    keeps: tuple[Floats, Floats]
    fires_at_threshold: bool


class ExplainedNetwork:
    """A float network beside the chip network that was made of it, for :class:`EffectChip`.

    Args:
        network: float.
        chip: made of it by :func:`mtspark.deploy.quantise.network.quantise`, with a palette or
            without.
        options: that it was quantised with.

    Raises:
        BadRequestError: the chip network was not made of this float network in this way.
    """

    def __init__(self, network: FloatNetwork, chip: ChipNetwork, options: QuantiseOptions) -> None:
        self.chip = chip
        self.layers: list[_Layer] = []
        lowered = lower(network)
        depths = chip.depths
        shapes = {population.name: population.shape for population in lowered.populations}
        shapes[INPUT] = lowered.input_shape
        for population in lowered.populations:
            links = lowered.links[population.name]
            quantised = quantise_layer(
                population,
                links,
                tasks=len(network.tasks),
                input_scale=network.input.scale,
                given=chip.input,
                steps=chip.time_steps + lowered.depth,
                options=options,
            )
            own = chip.population(population.name)
            _check_same(quantised, own, chip)
            unit = quantised.membrane_unit
            thresholds = quantised.population.thresholds.astype(np.float64)
            if population.thresholds is not None:
                with np.errstate(over="ignore"):
                    thresholds = population.thresholds / unit / 2**STATE_SHIFT
            current = 0.0 if population.has_current_memory else population.bias_current
            bias = population.gain * current + population.membrane_bias
            per_row = unit / np.abs(population.gain)
            signs = np.sign(population.gain)
            self.layers.append(
                _Layer(
                    chip=own,
                    links=tuple(
                        _chip_link(
                            link,
                            connection,
                            shapes,
                            _rows(link, per_row),
                            _rows(link, signs),
                            network.input.scale if link.source == INPUT else 1.0,
                            depths[link.source] + 1 + link.delay - depths[link.target],
                        )
                        for link, connection in zip(links, quantised.connections, strict=True)
                    ),
                    thresholds=thresholds,
                    unpainted=quantised.population.thresholds,
                    bias=bias / unit,
                    keeps=(population.current_keep, population.membrane_keep),
                    fires_at_threshold=population.fires_at_threshold,
                )
            )


def _check_same(quantised: QuantisedLayer, own: Population, chip: ChipNetwork) -> None:
    links = {link.name: link for link in chip.connections}
    same = np.array_equal(quantised.population.bias_mantissa, own.bias_mantissa) and all(
        link.name in links
        and links[link.name].exponent == link.exponent
        and np.array_equal(links[link.name].weights, link.weights)
        for link in quantised.connections
    )
    if not same:
        raise BadRequestError(
            f"layer {own.name!r} is not what its float graph gives when it is quantised again; "
            "export it again with this mtspark"
        )


def _rows(link: ChipLink, values: Floats) -> Floats:
    """One value for each row of a connection's weights."""
    if link.kind.convolves:
        return values.reshape(values.shape[0], -1)[:, 0]
    return values.reshape(-1)


def _chip_link(
    link: ChipLink,
    connection: Connection,
    shapes: dict[str, tuple[int, ...]],
    units: Floats,
    signs: Floats,
    scale: float,
    lag: int,
) -> _Link:
    """Weights in chip units: float w times scale / (unit 2^(exponent + 6)), and the integers."""
    factor = 2.0**connection.exponent
    per_row = signs * scale / (units * factor * 2**STATE_SHIFT)
    exact = link.weights * per_row.reshape(-1, *[1] * (link.weights.ndim - 1))
    conv = link.kind.convolves
    unrounded = FloatConnection(
        link.name,
        link.source,
        link.target,
        FloatKind.CONV if conv else FloatKind.DENSE,
        exact,
        input_shape=shapes[link.source] if conv else (),
        output_shape=shapes[link.target] if conv else (),
        **link.conv_fields,
    )
    rounded = replace(unrounded, weights=connection.weights.astype(np.float64))
    return _Link(link.source, lag, unrounded, rounded, factor)


class EffectChip(Memoryless):
    """An agent backend: the float network with some integer effects switched on.

    Args:
        explained: the networks.
        effects: switched on, in every layer.
        only: layers in which WEIGHTS is switched on; None: all.
    """

    name = "effects"

    def __init__(
        self,
        explained: ExplainedNetwork,
        effects: Collection[Effect] = (),
        only: Collection[str] | None = None,
    ) -> None:
        self.explained = explained
        self.effects = frozenset(effects)
        self.only = only

    def close(self) -> None:
        """Nothing to release."""

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Answer a batch of frames, each from rest; a trace is in the chip's time and units.

        Raises:
            BadRequestError: wrong shape of frames, or no such task.
        """
        chip = self.explained.chip
        check_request(chip, frames, task)
        steps, batch = chip.time_steps, len(frames)
        payload = frames.astype(np.float64)
        if chip.input.payload_bits == 0:
            payload = (payload != 0).astype(np.float64)
        slices = payload[:, None] if chip.input.held else payload
        series = slices.reshape(batch, -1, int(np.prod(chip.input.shape))).swapaxes(0, 1)
        sent: dict[str, list[Floats]] = {
            INPUT: [series[0 if chip.input.held else step] for step in range(steps)],
            CONSTANT: [np.ones((batch, 1))] * steps,
            ONSET: [np.full((batch, 1), float(step == 0)) for step in range(steps)],
        }
        states = {
            layer.chip.name: _State(layer, self._switches(layer), task, batch)
            for layer in self.explained.layers
        }
        for name in states:
            sent[name] = []
        for step in range(steps):
            for layer in self.explained.layers:
                state = states[layer.chip.name]
                arriving = np.zeros((batch, layer.chip.size))
                for link in layer.links:
                    if step >= link.lag:
                        arriving = arriving + state.arriving(
                            link, sent[link.source][step - link.lag], chip.input.held, step
                        )
                sent[layer.chip.name].append(state.advance(arriving))
        return self._decision(states, sent, batch, trace)

    def _switches(self, layer: _Layer) -> frozenset[Effect]:
        if self.only is not None and layer.chip.name not in self.only:
            return self.effects - {Effect.WEIGHTS}
        return self.effects

    def _decision(
        self, states: dict[str, _State], sent: dict[str, list[Floats]], batch: int, trace: bool
    ) -> Decision:
        chip = self.explained.chip
        shapes = {population.name: population.shape for population in chip.populations}
        shapes[INPUT] = chip.input.shape
        window = {
            name: np.sum([values != 0 for values in sent[name]], axis=0).reshape(batch, *shape)
            for name, shape in shapes.items()
        }
        drain = {name: np.zeros_like(values) for name, values in window.items()}
        readout = chip.readout
        read = states[readout.population].membrane.reshape(batch, *shapes[readout.population])
        if readout.kind is ReadoutKind.SPIKES:
            read = window[readout.population].astype(np.float64)
        recorded = None
        if trace:
            recorded = ChipTrace(
                spikes={
                    name: np.stack(sent[name]).astype(bool).reshape(-1, batch, *shapes[name])
                    for name in states
                },
                membranes={
                    name: np.rint(np.stack(state.log))
                    .astype(np.int64)
                    .reshape(-1, batch, *shapes[name])
                    for name, state in states.items()
                },
            )
        values = np.asarray(read * readout.scale)
        return Decision(values, Activity(window, drain), recorded)


class _State:
    """What one population goes through in a decision, (batch, neurons), in chip units."""

    def __init__(self, layer: _Layer, effects: frozenset[Effect], task: int, batch: int) -> None:
        self.layer, self.effects = layer, effects
        size = layer.chip.size
        self.current, self.membrane = np.zeros((batch, size)), np.zeros((batch, size))
        self.fired = np.zeros((batch, size))
        self.log: list[Floats] = []
        self._held: dict[int, Floats] = {}
        chip = layer.chip
        self.threshold = self._threshold(task) * 2**STATE_SHIFT
        # The chip's own thresholds may be one lower instead.
        at = chip if Effect.THRESHOLDS in effects else layer
        self.reaches = np.greater_equal if at.fires_at_threshold else np.greater
        self.bias = layer.bias.reshape(-1)
        if Effect.BIASES in effects:
            self.bias = np.asarray(chip.bias_mantissa * 2.0**chip.bias_exponent).reshape(-1)
        self.keeps: list[Floats] = [
            np.broadcast_to(keep.reshape(-1), (size,)) for keep in layer.keeps
        ]
        if Effect.DECAYS in effects:
            lost = (np.asarray(chip.current_decay) + 1, np.asarray(chip.membrane_decay))
            self.keeps = [
                np.broadcast_to(np.asarray(1.0 - one.reshape(-1) / DECAY_ONE, np.float64), (size,))
                for one in lost
            ]

    def _threshold(self, task: int) -> Floats:
        layer = self.layer
        rounded = layer.unpainted[task].reshape(-1).astype(np.float64)
        painted = layer.chip.thresholds[task].reshape(-1).astype(np.float64)
        exact = layer.thresholds[task].reshape(-1)
        if Effect.THRESHOLDS in self.effects:
            return painted if Effect.PALETTE in self.effects else rounded
        if Effect.PALETTE in self.effects:
            return np.where(rounded == painted, exact, exact * painted / np.maximum(rounded, 1))
        return exact

    def arriving(self, link: _Link, messages: Floats, held: bool, step: int) -> Floats:
        """The shifted sum of one connection, in weight units; kept where a frame is held."""
        keep = held and link.source == INPUT
        if not keep or id(link) not in self._held:
            weights = link.rounded if Effect.WEIGHTS in self.effects else link.exact
            total = deliver(weights, messages[None])[0] * link.factor
            if Effect.SHIFTS in self.effects and link.factor < 1:
                total = np.floor(total)
            if not keep:
                return total
            self._held[id(link)] = total
        total = self._held[id(link)]
        if Effect.HELD_INPUT in self.effects and held:
            return total * (1.0 - 1.0 / DECAY_ONE) ** step
        return total

    def advance(self, arriving: Floats) -> Floats:
        """One step of the neurons; returns their spikes."""
        current = self._decayed(self.current, self.keeps[0]) + arriving * 2**STATE_SHIFT
        above = self.reaches(self.membrane, self.threshold)
        membrane = self._decayed(self.membrane, self.keeps[1])
        if Effect.SATURATION in self.effects:
            current = np.where(current > CURRENT_LIMIT, current - 2 * CURRENT_LIMIT, current)
            current = np.where(current <= -CURRENT_LIMIT, current + 2 * CURRENT_LIMIT, current)
        membrane = membrane + current + self.bias
        reset = self.layer.chip.reset
        finite = np.where(np.isfinite(self.threshold), self.threshold, 0.0)
        if reset is Reset.SUBTRACT_LATE:
            membrane = membrane - self.fired * finite
        if Effect.SATURATION in self.effects:
            membrane = np.clip(membrane, -MEMBRANE_LIMIT, MEMBRANE_LIMIT)
        guard = above * finite if reset is Reset.SUBTRACT_GUARDED else 0.0
        spikes = self.reaches(membrane - guard, self.threshold).astype(np.float64)
        if reset is Reset.ZERO:
            membrane = np.where(spikes > 0, 0.0, membrane)
        elif reset in (Reset.SUBTRACT, Reset.SUBTRACT_GUARDED):
            membrane = membrane - spikes * finite
        self.current, self.membrane, self.fired = current, membrane, spikes
        self.log.append(membrane)
        return spikes

    def _decayed(self, state: Floats, keep: Floats) -> Floats:
        kept = state * keep
        return np.trunc(kept) if Effect.PRODUCTS in self.effects else kept
