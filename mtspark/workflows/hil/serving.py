"""A chip that hosts elsewhere ask for decisions."""

from __future__ import annotations

from collections.abc import Callable

from mtspark.deploy.bundle import Bundle
from mtspark.sim.hil import Chip, ChipBackend, Faults, check_address, serve


def serve_chip(
    bundle: Bundle,
    address: str,
    *,
    backend: ChipBackend = ChipBackend.ENGINE,
    faults: Faults | None = None,
    task: str | None = None,
    announce: Callable[[str], None],
    complain: Callable[[str], None],
) -> None:
    """Serve a chip until a KeyboardInterrupt.

    Args:
        bundle: what the chip runs.
        address: tcp://HOST:PORT; a port of * takes a free one.
        backend: what stands for the chip.
        faults: what breaks on it.
        task: the only one, for the backends that hold one.
        announce: called with the address once questions can come.
        complain: called with one line for every question that was refused.

    Raises:
        BadRequestError: the address cannot be served, the task is unknown, or the backend cannot
            have these faults.
        BackendMissingError: the backend is not installed.
    """
    check_address(address)
    chip = Chip(bundle.network, bundle.network_hash, backend, faults or Faults(), task)
    try:
        chip.warm_up(task or bundle.network.tasks[0].name)
        serve(chip, address, announce=announce, complain=complain)
    finally:
        chip.close()
