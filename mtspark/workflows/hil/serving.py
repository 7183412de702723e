"""A chip that hosts elsewhere ask for decisions."""

from __future__ import annotations

from collections.abc import Callable

from mtspark.core.errors import BadRequestError
from mtspark.deploy.bundle import Bundle
from mtspark.sim.hil import (
    CHIP_KINDS,
    Chip,
    ChipBackend,
    FaultKind,
    Faults,
    check_address,
    key_bytes,
    new_key,
    serve,
)


def serve_chip(
    bundle: Bundle,
    address: str,
    *,
    key: str | None = None,
    backend: ChipBackend = ChipBackend.ENGINE,
    faults: Faults | None = None,
    task: str | None = None,
    announce: Callable[[str, str | None], None],
    complain: Callable[[str], None],
) -> None:
    """Serve a chip until a KeyboardInterrupt.

    Args:
        bundle: what the chip runs.
        address: tcp://HOST:PORT; a port of * takes a free one.
        key: that a host must have; None draws one.
        backend: what stands for the chip.
        faults: what breaks on it.
        task: the only one, for the backends that hold one.
        announce: called with the address, and with the key that was drawn, once questions can come.
        complain: called with one line for what was refused.

    Raises:
        BadRequestError: the address cannot be served, the key is none, the task is unknown, the
            backend cannot have these faults, or they happen elsewhere.
        BackendMissingError: the backend is not installed.
    """
    check_address(address)
    _check_served(faults or Faults())
    drawn = new_key() if key is None else None
    secret = key_bytes(drawn or key or "")
    chip = Chip(bundle.network, bundle.network_hash, backend, faults or Faults(), task)
    try:
        chip.warm_up(task or bundle.network.tasks[0].name)
        serve(
            chip,
            address,
            secret,
            announce=lambda endpoint: announce(endpoint, drawn),
            complain=complain,
        )
    finally:
        chip.close()


def _check_served(faults: Faults) -> None:
    """Refuse faults that do not happen on a served chip.

    Raises:
        BadRequestError: which, and where they can be ordered.
    """
    for kind in faults.rates:
        if kind in CHIP_KINDS:
            continue
        remedy = "order it where the game is played (--connect ... --fault)"
        if kind is FaultKind.CHIP_DEATH:
            remedy = "only a chip that mtspark hil starts for a game can be made to die"
        raise BadRequestError(f"--serve: the fault {kind.value} is not the chip's own; {remedy}")
