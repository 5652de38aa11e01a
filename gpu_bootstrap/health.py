"""`GET /health` from one thread of its own, up while the model loads and never behind a decode.

One event loop and no thread per request: who connects and says nothing costs a timer, not a thread.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable

HEAD_BYTES = 8192
"""A request's head is no longer than this, or it is not for us."""
PATIENCE_S = 5.0
"""Seconds a client has for its request and for taking the answer."""

Report = Callable[[], dict[str, object]]


def serve(host: str, port: int, report: Report) -> None:
    """Start the health server; raises OSError when the port is taken.

    `GET /health` answers 200 with the report as JSON, whatever its status: the body says it. All else is 404.
    """
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(loop.create_server(lambda: _Exchange(report, loop), host, port, backlog=64))
    except OSError:
        loop.close()
        raise
    threading.Thread(target=loop.run_forever, name="health", daemon=True).start()


class _Exchange(asyncio.Protocol):
    """One connection: one request, one answer, closed."""

    def __init__(self, report: Report, loop: asyncio.AbstractEventLoop) -> None:
        self._report = report
        self._loop = loop
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._late = self._loop.call_later(PATIENCE_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class's names
        self._late.cancel()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._head += data
        if b"\r\n\r\n" in self._head or b"\n\n" in self._head:
            self._transport.write(answer(self._head, self._report))
            self._transport.close()
        elif len(self._head) > HEAD_BYTES:
            self._transport.abort()


def answer(head: bytes, report: Report) -> bytes:
    """The whole HTTP answer to a request with this head."""
    method, _, rest = head.split(b"\n", 1)[0].strip().partition(b" ")
    found = method in (b"GET", b"HEAD") and rest.split(b" ")[0].split(b"?")[0] == b"/health"
    body = json.dumps(report() if found else {"detail": "only GET /health is here"}).encode()
    lines = (
        "HTTP/1.1 200 OK" if found else "HTTP/1.1 404 Not Found",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == b"HEAD" else body)
