"""Networks whose state survives decisions, and the ordinary ones that do the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from mtspark.core.chip_network.encoding import Encoder
from mtspark.core.chip_network.network import ChipNetwork, Connection
from mtspark.core.errors import BadNetworkError, BadRequestError

PLAY = "run, eval, hil and report play whole episodes"
"""What can be done with a stateful network instead of asking it for decisions alone."""


def check_forgets(network: ChipNetwork, what: str, remedy: str = PLAY) -> None:
    """Refuse a network that remembers earlier decisions, for something that takes each alone.

    Args:
        network: of a bundle.
        what: takes decisions alone, or has no such neurons; the subject of the error.
        remedy: what to do instead.

    Raises:
        BadRequestError: it is stateful.
    """
    if network.stateful:
        raise BadRequestError(f"{network.name}: its state survives decisions, and {what}; {remedy}")


class _MayRemember(Protocol):
    @property
    def stateful(self) -> bool: ...


def check_batch(network: _MayRemember, running: int, batch: int) -> None:
    """Refuse to go on with another number of chips than run: which state would be whose?

    Args:
        network: of the chips.
        running: chips that run, 0 before the first decision.
        batch: frames of the next decision.

    Raises:
        BadRequestError: a stateful network runs on another number of chips.
    """
    if network.stateful and running not in (0, batch):
        raise BadRequestError(
            f"{batch} frames, and {running} chips hold the state of their decisions; call "
            "start(batch) where episodes begin, and keep(members) where some end"
        )


def unrolled(network: ChipNetwork, decisions: int) -> ChipNetwork:
    """An ordinary network whose one decision is an episode of a stateful one, frame by frame.

    Args:
        network: a stateful one.
        decisions: N, of the episode; the network takes series of N frames.

    Raises:
        BadNetworkError: a loop that within one decision is tighter than its synapses.
    """
    depths, whole = network.depths, network.steps_per_decision

    def link(one: Connection) -> Connection:
        if not one.recurrent:
            return one
        ahead = depths[one.target] - depths[one.source]
        lag = (1 + one.delay - ahead) // whole
        if lag + ahead < 1:
            raise BadNetworkError(
                f"loop through {one.name!r} is tighter than its synapses where a series is one "
                "decision"
            )
        return replace(one, delay=lag + ahead - 1)

    # A frame that is given whole in every step of a series needs no sum of its own.
    given = replace(network.input, held=False, encoder=Encoder.EVERY_STEP)
    return replace(
        network,
        stateful=False,
        time_steps=decisions,
        input=given,
        connections=tuple(map(link, network.connections)),
    )
