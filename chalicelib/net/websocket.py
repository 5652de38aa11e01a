"""A WebSocket as a client needs one to speak for seconds: wsproto keeps the protocol, this moves the bytes.

websockets would do it in fewer lines, and makes the Lambda package larger by a fifth of its limit.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import urllib.parse
from collections import deque
from collections.abc import Iterator, Sequence

import wsproto
from wsproto import events
from wsproto.connection import ConnectionState
from wsproto.utilities import ProtocolError

CHUNK = 65536
ABNORMAL = 1006
"""The code of a connection that ended without a close frame (RFC 6455, 7.4.1)."""


class Rejected(Exception):
    """The upgrade was answered with another status than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Closed(Exception):
    """The other side ended it; `code` as in RFC 6455."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class WebSocket:
    """An open one; `deadline` (time.monotonic) holds for everything. TimeoutError, OSError, Closed, ProtocolError."""

    def __init__(self, wire: socket.socket, deadline: float) -> None:
        self._wire = wire
        self._deadline = deadline
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._events: deque[events.Event] = deque()
        self._text, self._data = "", b""

    def upgrade(self, host: str, target: str, subprotocols: Sequence[str]) -> None:
        """Raises Rejected."""
        self._send(events.Request(host=host, target=target, subprotocols=list(subprotocols)))
        match self._next():
            case events.AcceptConnection():
                return
            case events.RejectConnection() as answer:
                raise Rejected(answer.status_code)
            case other:
                raise ProtocolError(f"{type(other).__name__} instead of an answer to the upgrade")

    def send(self, message: str | bytes) -> None:
        """Raises Closed when the other side has said goodbye, though it was not listened to yet."""
        if self._protocol.state is not ConnectionState.OPEN:
            self._to_the_end()
        try:
            self._send(events.TextMessage(message) if isinstance(message, str) else events.BytesMessage(message))
        except ConnectionError:
            self._to_the_end()
            raise

    def _to_the_end(self) -> None:
        while True:
            self.recv()

    def recv(self) -> str | bytes:
        """The next message as a whole."""
        while True:
            match self._next():
                case events.TextMessage() as part:
                    self._text += part.data
                    if part.message_finished:
                        whole, self._text = self._text, ""
                        return whole
                case events.BytesMessage() as piece:
                    self._data += bytes(piece.data)
                    if piece.message_finished:
                        data, self._data = self._data, b""
                        return data
                case events.Ping() as ping:
                    self._send(ping.response())
                case events.CloseConnection() as close:
                    with contextlib.suppress(OSError):
                        self._send(close.response())
                    raise Closed(int(close.code), close.reason or "")
                case _:
                    pass  # a pong

    def close(self) -> None:
        """Say goodbye; nobody is waited for."""
        with contextlib.suppress(OSError, ProtocolError):
            self._send(events.CloseConnection(code=1000))

    def _send(self, event: events.Event) -> None:
        self._wire.settimeout(self._left())
        self._wire.sendall(self._protocol.send(event))

    def _next(self) -> events.Event:
        while not self._events:
            self._wire.settimeout(self._left())
            received = self._wire.recv(CHUNK)
            if not received:
                raise Closed(ABNORMAL, "")
            self._protocol.receive_data(received)
            self._events.extend(self._protocol.events())
        return self._events.popleft()

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


@contextlib.contextmanager
def connect(
    url: str, subprotocols: Sequence[str], tls: ssl.SSLContext | None, deadline: float
) -> Iterator[WebSocket]:
    """Open `url` (wss with `tls`, else ws); closed when the block ends."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if tls else 80)
    with contextlib.ExitStack() as stack:
        left = max(0.01, deadline - time.monotonic())
        wire: socket.socket = stack.enter_context(socket.create_connection((host, port), timeout=left))
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            wire = stack.enter_context(tls.wrap_socket(wire, server_hostname=host))
        opened = WebSocket(wire, deadline)
        opened.upgrade(parts.netloc, parts.path or "/", subprotocols)
        stack.callback(opened.close)
        yield opened
