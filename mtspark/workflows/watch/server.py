"""The page and its messages, on loopback, for whoever has the token.

Other programs of this machine, and pages of other origins in the same browser, can reach a port of
loopback, too. So every request needs a token that is drawn here; a Host header of another name,
which a page gets by DNS rebinding, and an Origin of another page are refused.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mtspark.core.errors import BackendFailedError, BackendMissingError, BadRequestError
from mtspark.core.process import give_back_memory
from mtspark.sim.hil import fault_kind
from mtspark.workflows.watch.session import Session

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

LOOPBACK = "127.0.0.1"
NAMES = (LOOPBACK, "localhost", "::1")
"""Of this machine, as a Host header may say them; the port may be that of a tunnel."""
PACKAGES = ("starlette", "uvicorn", "websockets")
UNREAD = 8
"""Messages that a page has not yet shown, after which no more are sent."""
LONGEST_ORDER = 1024
"""Bytes of a message that a page may send."""
MOST_CONNECTIONS = 32
START_S = 30.0
REFUSED = 1008
"""Code of a closed WebSocket: against the rules; before it is accepted, 403."""


@dataclass(frozen=True)
class Served:
    """A page that is served.

    Attributes:
        address: to open, with the token.
        port: of loopback.
    """

    address: str
    port: int

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"address": self.address, "port": self.port}


@contextmanager
def served_page(session: Session, port: int = 0) -> Iterator[Served]:
    """Serve the page of a session in a thread, until the block ends.

    Args:
        session: that is watched; it is started here, and closed at the end.
        port: of loopback; 0 takes a free one.

    Raises:
        BackendMissingError: a package of the extra `watch` is missing.
        BadRequestError: the port is taken, or may not be used.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise BackendMissingError(
            f'the page needs {", ".join(missing)}; pip install "mtspark[watch]"'
        )
    import uvicorn

    token = secrets.token_urlsafe(16)
    with _bound(port) as bound:
        config = uvicorn.Config(
            page_of(session, token),
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            server_header=False,
            ws_max_size=LONGEST_ORDER,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [bound]}, name="page", daemon=True
        )
        number = bound.getsockname()[1]
        session.start()
        try:
            thread.start()
            _wait_for(server, thread)
            yield Served(f"http://{LOOPBACK}:{number}/?token={token}", number)
        finally:
            session.close()
            server.should_exit = True
            thread.join()
            # Nobody reads them any more.
            session.messages.clear()
            give_back_memory()


def page_of(session: Session, token: str) -> Starlette:
    """Make the application: the page, and the WebSocket of its messages."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route, WebSocketRoute

    async def page(request: Request) -> Response:
        if not _allowed(request, token):
            return PlainTextResponse("forbidden: open the address that mtspark printed\n", 403)
        return _page(token)

    async def messages(channel: WebSocket) -> None:
        if not _allowed(channel, token):
            await channel.close(REFUSED)
            return
        await channel.accept()
        await _converse(session, channel)

    return Starlette(routes=[Route("/", page), WebSocketRoute("/messages", messages)])


def _allowed(connection: HTTPConnection, token: str) -> bool:
    """Whether a request has the token, comes under a name of this machine, and from its page."""
    host, origin = connection.headers.get("host", ""), connection.headers.get("origin")
    given = connection.query_params.get("token", "")
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if origin is not None and origin != f"http://{host}":
        return False
    return name in NAMES and hmac.compare_digest(given.encode(), token.encode())


def _page(token: str) -> Response:
    """Fill the page: one file, whose scripts and styles bear a nonce."""
    from jinja2 import Environment
    from markupsafe import Markup
    from starlette.responses import HTMLResponse

    nonce = secrets.token_urlsafe(16)
    template = Environment(autoescape=True).from_string(_text("watch.html.j2"))
    text = template.render(
        nonce=nonce,
        styles=Markup(_text("uplot/uPlot.min.css") + _text("watch.css")),
        library=Markup(_text("uplot/uPlot.iife.min.js")),
        script=Markup(_text("watch.js")),
    )
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return HTMLResponse(
        text,
        headers={
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _text(name: str) -> str:
    folder = resources.files("mtspark.workflows.watch") / "page"
    return (folder / name).read_text(encoding="utf-8")


async def _converse(session: Session, channel: WebSocket) -> None:
    """Send messages and take orders, until the page is closed."""
    from starlette.websockets import WebSocketDisconnect

    wake = asyncio.Event()
    unread = 0
    loop = asyncio.get_running_loop()

    def woken() -> None:
        with suppress(RuntimeError):  # The loop has ended.
            loop.call_soon_threadsafe(wake.set)

    async def send() -> None:
        nonlocal unread
        await channel.send_text(json.dumps(session.about()))
        number = 0
        while True:
            wake.clear()
            found = session.messages.after(number) if unread < UNREAD else None
            if found is None:
                await wake.wait()
                continue
            number, text = found
            unread += 1
            await channel.send_text(text)

    async def hear() -> None:
        nonlocal unread
        while True:
            order = _order(await channel.receive_text())
            if order.get("type") == "shown":
                unread = max(0, unread - 1)
                wake.set()
            else:
                answer = await asyncio.to_thread(_obey, session, order)
                if answer:
                    await channel.send_text(json.dumps({"type": "refused", "text": answer}))

    end = session.messages.listen(woken)
    session.look()
    tasks = [asyncio.ensure_future(one()) for one in (send, hear)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        end()
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            gone = (asyncio.CancelledError, WebSocketDisconnect, RuntimeError, OSError)
            if isinstance(result, Exception) and not isinstance(result, gone):
                raise result


def _order(text: str) -> dict[str, Any]:
    """Read what a page sent; empty where it is no order."""
    try:
        order = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return order if isinstance(order, dict) else {}


def _obey(session: Session, order: dict[str, Any]) -> str:
    """Do what a page asks for; return why not, or nothing."""
    plain: dict[str, Callable[[], None]] = {
        "pause": session.pause,
        "resume": session.resume,
        "step": session.step,
        "heal": session.heal,
    }
    kind = str(order.get("type"))
    try:
        if kind in plain:
            plain[kind]()
        elif kind == "fault":
            rate = order.get("rate")
            if not isinstance(rate, (int, float)) or isinstance(rate, bool):
                return "a rate is a number from 0 to 1"
            session.inject(fault_kind(str(order.get("kind"))), float(rate))
        else:
            return "unknown order"
    except BadRequestError as error:
        return str(error)
    return ""


@contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    """Bind a port of loopback.

    Raises:
        BadRequestError: it is taken, or may not be used.
    """
    if not 0 <= port <= 65535:
        raise BadRequestError(f"port {port}: must be 0 to 65535; leave it out for a free one")
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with bound:
        if os.name == "posix":
            # The port of a page that has just ended may be taken again at once.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((LOOPBACK, port))
            bound.listen()
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = "is in use" if taken else (error.strerror or str(error)).lower()
            raise BadRequestError(
                f"port {port}: {reason}; choose another, or leave it out for a free one"
            ) from error
        yield bound


def _wait_for(server: Any, thread: threading.Thread) -> None:
    """Wait until the server answers.

    Raises:
        BackendFailedError: it does not.
    """
    limit = time.monotonic() + START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > limit:
            raise BackendFailedError("the page's server does not start")
        time.sleep(0.01)
