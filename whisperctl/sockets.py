"""One WebSocket of a stream: opens, sends in order, hands over what comes, says once how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from whisperctl.api import Session, plain_reason
from whisperctl.errors import Refused
from whisperctl.stack import StackInfo

CLOSE_S = 2.0


class Socket:
    """Calls back from the event loop; after `close` it calls back no more."""

    def __init__(
        self,
        stack: StackInfo,
        session: Session,
        *,
        relay_port: int | None,
        opened: Callable[[], None],
        message: Callable[[str | bytes], None],
        closed: Callable[[int | None, str], None],
    ) -> None:
        """`relay_port`: a port of loopback to connect to in the address's place. Refused: see `dial`."""
        self._dialled = dial(stack, session, relay_port)
        self._address = session.ws_url
        self._opened, self._message, self._closed = opened, message, closed
        self._outgoing: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._queued = 0
        self._socket: ClientConnection | None = None
        self._silenced = False
        self._closing: asyncio.Task[None] | None = None
        self.task = asyncio.create_task(self._run())

    @property
    def buffered(self) -> int:
        """Bytes that were handed to `send` and are not on their way yet."""
        held = self._socket.transport.get_write_buffer_size() if self._socket else 0
        return self._queued + held

    def send(self, data: str | bytes) -> None:
        self._queued += len(data)
        self._outgoing.put_nowait(data)

    def close(self) -> None:
        """Close in order, in the background."""
        self._silenced = True
        if self._socket is None:
            self.task.cancel()
        elif self._closing is None:
            self._closing = asyncio.create_task(self._socket.close())

    async def gone(self) -> None:
        """Close, and wait until nothing of it is left; an error of a callback is raised here."""
        self.close()
        if self._closing is not None:
            await self._closing
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def _run(self) -> None:
        code, reason = None, ""
        try:
            async with self._dialled as socket:
                self._socket = socket
                if not self._silenced:
                    self._opened()
                code, reason = await self._carry(socket)
        except (OSError, websockets.exceptions.InvalidHandshake, TimeoutError, EOFError) as error:
            reason = f"{self._address} is not reachable: {plain_reason(error)}"
        if not self._silenced:
            self._closed(code, reason)

    async def _carry(self, socket: ClientConnection) -> tuple[int | None, str]:
        sender = asyncio.create_task(self._send(socket))
        try:
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                async for message in socket:
                    if not self._silenced:
                        self._message(message)
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, websockets.exceptions.ConnectionClosed):
                await sender
        return socket.close_code, socket.close_reason or ""

    async def _send(self, socket: ClientConnection) -> None:
        while True:
            data = await self._outgoing.get()
            await socket.send(data)
            self._queued -= len(data)


def dial(stack: StackInfo, session: Session, relay_port: int | None) -> connect:
    """A connection to the session's address. Refused when the ticket would travel unencrypted."""
    tls = stack.tls()
    address = urlsplit(session.ws_url)
    if tls is not None and address.scheme != "wss":
        raise Refused(f"the stack gives an address without encryption: {session.ws_url}")
    loopback = address.hostname in ("localhost", "127.0.0.1", "::1")
    elsewhere: dict[str, Any] = {"host": "127.0.0.1", "port": relay_port} if relay_port else {}
    return connect(
        session.ws_url,
        subprotocols=[Subprotocol("bearer"), Subprotocol(session.ticket or "")],
        ssl=tls,
        proxy=None if loopback or relay_port else True,
        compression=None,  # float samples do not compress
        open_timeout=30,  # the carrier gives it up sooner
        close_timeout=CLOSE_S,
        max_size=2**22,
        **elsewhere,
    )
