"""Addresses of served chips: tcp://HOST:PORT."""

from __future__ import annotations

import re
import socket
from typing import Any

from mtspark.core.errors import BadRequestError, one_line

ADDRESS = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.\-]+|\*):(\d{1,5}|\*)")
MOST_WAITING = 16
"""Connections that the system keeps until they are accepted."""


def check_address(address: str) -> None:
    """Only TCP: it leaves no socket file behind, however a process ends.

    Raises:
        BadRequestError: something else.
    """
    _parts(address)


def places(address: str, *, to_listen: bool = False) -> list[tuple[int, Any]]:
    """Look an address up.

    Args:
        address: tcp://HOST:PORT.
        to_listen: HOST may be * for all interfaces, and PORT may be * for a free one.

    Returns:
        Family and address of a socket, for each place that the name has.

    Raises:
        BadRequestError: no address, or a name that nobody knows.
    """
    host, port = _parts(address)
    if "*" in (host, port) and not to_listen:
        raise BadRequestError(f"{address}: * can only be served; name host and port to connect to")
    try:
        found = socket.getaddrinfo(
            None if host == "*" else host.strip("[]"),
            0 if port == "*" else int(port),
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except OSError as error:
        raise BadRequestError(
            f"{address}: no such host ({(error.strerror or str(error)).lower()})"
        ) from error
    return [(family, place) for family, _, _, _, place in found]


def listen(address: str) -> socket.socket:
    """Open a port.

    Raises:
        BadRequestError: the address cannot be served.
    """
    places_there = places(address, to_listen=True)
    # Of "localhost" and of all interfaces, IPv4 as ZeroMQ had it.
    family, place = min(places_there, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(MOST_WAITING)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise BadRequestError(
            f"{address}: cannot be served ({(error.strerror or str(error)).lower()}); choose "
            "another port"
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """The address at which a socket listens."""
    host, port = listener.getsockname()[:2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _parts(address: str) -> tuple[str, str]:
    match = ADDRESS.fullmatch(address)
    if not match or (match[2] != "*" and int(match[2]) >= 2**16):
        raise BadRequestError(
            f"address {one_line(address, 80)!r}: write tcp://HOST:PORT, for example tcp://127.0.0.1:5555"
        )
    return match[1], match[2]
