"""Steps from the float network to integers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import ChipNetwork, Encoder, check_forgets, violations
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.deploy.quantise import (
    DEFAULT_STEPS,
    Calibration,
    QuantiseOptions,
    calibrate,
    choose_palette,
    headroom,
    quantise_exactly,
)
from mtspark.workflows.export.agent import (
    CALIBRATION_MOMENTS,
    frames_of,
    payload_bits_of,
    trained_weight_bits,
)
from mtspark.workflows.export.request import WEIGHT_BITS, EncoderName, Source, check_weight_bits
from mtspark.workflows.export.state import Export

if TYPE_CHECKING:
    from mtspark.core.environments import Task

RANDOM_RATE, RANDOM_BATCH = 0.1, 2
"""Without a recording, the float network and the chip are compared on random spikes."""
EPISODE = 50
"""Decisions of a random episode, for a network whose state survives them."""


def choose_options(export: Export) -> Export:
    """Decide how weights become integers; calibration chooses their limits on recorded inputs."""
    request, bits = export.request, export.request.weight_bits
    if export.agent is not None and bits is None:
        bits = trained_weight_bits(export.agent.training)
    bits = WEIGHT_BITS if bits is None else bits
    check_weight_bits(bits)
    is_agent = export.kind is Source.AGENT
    options = QuantiseOptions(
        bits,
        per_channel=not request.scale_per_layer,
        keep_sums=not request.round_nearest,
        may_saturate=not is_agent,
        for_netx=not is_agent and "netx" in request.formats,
    )
    if request.calibrate is None and not request.bound_currents:
        return replace(export, options=options)
    assert export.float_network is not None
    if export.float_network.stateful:
        raise BadRequestError(
            f"{export.name}: its state survives decisions, and --calibrate and --bound-currents "
            "look at decisions alone; leave them out"
        )
    series = _agent_series(export) if is_agent else recorded_series(export)
    if series is None:
        flags = {"--calibrate": request.calibrate, "--bound-currents": request.bound_currents}
        given = [flag for flag, value in flags.items() if value]
        needs = "need" if len(given) > 1 else "needs"
        raise BadRequestError(f"{' and '.join(given)} {needs} recorded inputs: --input FILE")
    chosen, reports = calibrate(
        export.float_network,
        series,
        options,
        method=Calibration(request.calibrate or "largest"),
        bound_currents=request.bound_currents,
    )
    return replace(export, options=chosen, calibration=tuple(reports))


def quantise_network(export: Export) -> Export:
    """Turn the float network into integers."""
    agent = export.agent
    assert export.float_network is not None
    network, exactness = quantise_exactly(
        export.float_network,
        _tasks(export),
        None if agent is None else agent.protocol,
        name=export.name,
        payload_bits=payload_bits_of(agent) if agent is not None else export.input_bits,
        held=None if agent is not None else export.one_frame,
        options=export.options,
        provenance=dict(export.provenance),
    )
    network, doubt = _with_encoder(network, export.request.encoder)
    return replace(
        export,
        plain_network=network,
        network=network,
        exactness=tuple(exactness),
        encoder_warning=doubt,
    )


def _tasks(export: Export) -> tuple[Task, ...] | None:
    """The tasks of an agent, or that in which a module acts; None of other networks."""
    if export.agent is not None:
        return export.agent.tasks
    acts = export.request.environment
    return None if acts is None else (acts,)


def _with_encoder(network: ChipNetwork, name: EncoderName | None) -> tuple[ChipNetwork, str | None]:
    """The network with its frames sent as was asked; a game's as changes, where nobody asked.

    Returns:
        The network, and why a game's frames are sent at every step although nobody asked for it.

    Raises:
        BadNetworkError: another way was asked for, but its input is no frame, or the sums of a
            frame can be too large.
    """
    plays = any(task.is_ale for task in network.tasks)
    encoder = Encoder(name or ("changes" if plays else "every-step"))
    encoded = replace(network, input=replace(network.input, encoder=encoder))
    broken = [text for text in violations(encoded) if text not in violations(network)]
    if not broken:
        return encoded, None
    reason = "; ".join(broken)
    if name is None:
        return network, f"frames are sent at every step, not as changes: {reason}"
    raise BadNetworkError(f"{network.name}: {reason}; {_remedy(network)}")


def _remedy(network: ChipNetwork) -> str:
    """What helps where an encoder was asked for that the network's input does not allow."""
    entry, every_step = network.input, f"export with --encoder {Encoder.EVERY_STEP.value}"
    if entry.held and entry.payload_bits:
        return every_step
    missing = [
        *([] if entry.held else ["--one-frame"]),
        *([] if entry.payload_bits else ["--input-bits 8"]),
    ]
    return f"add {' '.join(missing)}, or {every_step}"


def limit_thresholds(export: Export) -> Export:
    """Leave each layer, or each core of a chip, a few distinct thresholds, where asked."""
    request, network = export.request, export.network
    if request.palette is not None and network is not None:
        check_forgets(
            network, "what --palette changes is measured on decisions alone", "leave it out"
        )
    assert network is not None
    if request.palette is None:
        return export
    limited, costs = choose_palette(network, request.palette, request.palette_chip)
    exactness = []
    for layer in export.exactness:
        before, after = (one.population(layer.population) for one in (network, limited))
        same = (before.thresholds == after.thresholds).all(0)
        exactness.append(replace(layer, neurons=layer.neurons & same))
    return replace(export, network=limited, palette=tuple(costs), exactness=tuple(exactness))


def bound_sums(export: Export) -> Export:
    """Work out how much of the range of currents and membranes any input can use."""
    assert export.network is not None
    return replace(export, headroom=tuple(headroom(export.network)))


def recorded_series(export: Export) -> NDArray[Any] | None:
    """Return the inputs of the user as (T, batch, *shape); None without any."""
    return export.series


def compared_inputs(export: Export) -> tuple[NDArray[Any], str]:
    """Return what the float network is compared on, (T, batch, *shape), and what that is.

    The user's inputs, or where there are none random ones: spikes, or values of which each is
    shown in every step. Where state survives decisions, a step is one, and a series an episode.
    """
    request, network = export.request, export.float_network
    assert network is not None
    steps = EPISODE if network.stateful else network.time_steps or DEFAULT_STEPS
    series = recorded_series(export)
    inputs = request.sample_name if request.batch_first else "the sample"
    if series is None:
        generator, scale = np.random.default_rng(0), network.input.scale
        shape = (steps, RANDOM_BATCH, *network.input.shape)
        if export.input_bits:
            low, high = (-127, 127) if network.input.signed else (0, 255)
            drawn = shape if network.stateful else shape[1:]
            frames = generator.integers(low, high, drawn, endpoint=True) * scale
            series = np.broadcast_to(frames, shape)
            inputs = f"random frames of values {low * scale:g} to {high * scale:g}"
        else:
            series = (generator.random(shape) < RANDOM_RATE) * scale
            inputs = f"random spikes, {RANDOM_RATE:.0%} a step"
    if export.one_frame and not network.stateful:
        series = np.broadcast_to(series[:1], (steps, *series.shape[1:]))
    return series, inputs


def _agent_series(export: Export) -> NDArray[np.float64]:
    """Frames of all tasks' games; calibration uses the thresholds of the first task."""
    agent, network = export.agent, export.float_network
    assert agent is not None
    assert network is not None
    frames = [frames_of(agent, task, CALIBRATION_MOMENTS) for task in agent.tasks]
    seen = np.concatenate(frames) / (1 / agent.network.config.message_value)
    return np.broadcast_to(seen, (network.time_steps, *seen.shape))
