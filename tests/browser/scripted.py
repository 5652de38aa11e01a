"""A scripted stack: the HTTP API and the WebSocket protocol as the design has them, with words decided by a test.

It plays the server so that page and client can be tested in milliseconds and with faults on purpose; the real chain
has its own tests. Runs in threads of the test's process.
"""

from __future__ import annotations

import contextlib
import functools
import json
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from typing import Any
from urllib.parse import urlsplit

import websockets
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.browser.hearing import RATE, processed, segments

TOKEN = "speaker-token"  # noqa: S105 opens nothing but this server
TICKET = "header.payload.signature"
LINES = (
    (0.0, 2.0, "The first train leaves the station at seven."),
    (2.0, 4.0, "My brother walked to the market with his friend."),
    (4.0, 7.0, "Children were playing in the garden behind the house."),
)


@dataclass(frozen=True)
class Break:
    """One fault, once the server has so many seconds of audio, counted from the first sample ever.

    `kind`: cut tears the connection, freeze leaves it open and deaf, notice announces its end, close ends it with
    `code` (1012 and 4409 after a flush, as the host does). For `down_s` seconds after it nobody can connect, and
    with `api` nobody gets an answer of the API either.
    """

    at_s: float
    kind: str = "cut"
    code: int = 1012
    reason: str = "the server restarts"
    down_s: float = 0.0
    api: bool = False


@dataclass
class Scripted:
    """What the server does, and what it saw. A test changes the first half and reads the second."""

    waking: list[str] = field(default_factory=lambda: ["waking.capacity", "waking.boot", "waking.service"])
    """Phases still to come; each poll of a session takes one."""
    held: bool = False
    """True: polls do not move on."""
    lines: tuple[tuple[float, float, str], ...] = LINES
    """Start, end and text of what is heard, in seconds of received audio."""
    usual_s: float | None = 20.0
    notice: str | None = None
    progress: bool = True
    """False plays a stock server, which confirms nothing."""
    refuse: list[tuple[int, str]] = field(default_factory=list)
    """Close codes and reasons for the next handshakes; then streams are taken."""
    refuse_later: list[tuple[int, str]] = field(default_factory=list)
    """The same for handshakes after the first break."""
    lapses: bool = False
    """True: while nobody could connect the session ends, and another one must be opened."""
    breaks: list[Break] = field(default_factory=list)
    """In order of their time; each happens once."""
    api_refuses: tuple[int, str] | None = None
    """Status and sentence for every further request about the session."""
    ramp: bool = False
    """Each sample is its own number, so that a connection's place in the whole can be read from its first one."""
    end: bool = True
    """False: close 1000 after END_OF_AUDIO without flushing, as stock WhisperLive does."""
    mute: bool = False
    """True: no word before END_OF_AUDIO, then all."""
    silent: bool = False
    """True: END_OF_AUDIO is not answered, and the stream stays open."""
    idle_phase: str = "asleep"
    models: list[str] = field(default_factory=list)
    """What the GPU host has, the loaded one first; none: there is no GPU to ask."""
    token: str = TOKEN
    """What opens it; another one plays a token that has been revoked."""

    ws_url: str = ""
    http_url: str = ""
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    idempotency_keys: list[str] = field(default_factory=list)
    handshakes: list[dict[str, Any]] = field(default_factory=list)
    offered: list[list[str]] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray, repr=False)
    """Every sample once: what later connections repeat is compared, and left out."""
    offsets: list[int] = field(default_factory=list)
    """The first sample of each connection that sent any."""
    processed: int = 0
    """Up to which sample PROGRESS or a completed segment was sent."""
    wrong: list[str] = field(default_factory=list)
    """What must never be: holes, repeats that differ."""
    down_until: float = 0.0
    api_down_until: float = 0.0
    broken_at: list[float] = field(default_factory=list)
    """When each break was over, by the monotonic clock; the first audio after it in `back_at`."""
    back_at: list[float] = field(default_factory=list)
    longest_frame: int = 0
    ended: bool = False
    session_open: bool = False

    def session(self) -> dict[str, Any]:
        ready = not self.waking
        return {
            "id": "s-1",
            "phase": self.waking[0] if self.waking else "ready",
            "place": "reserved" if ready else "waiting",
            "created_at": "2027-01-04T10:00:00Z",
            "expires_at": "2027-01-04T10:03:00Z",
            "max_at": "2027-01-04T18:00:00Z",
            "eta_seconds": None if ready or self.usual_s is None else {"p50": self.usual_s, "p90": 40},
            "ws_url": self.ws_url,
            "ticket": TICKET if ready else None,
            "upstream_epoch": 1,
            "notice": self.notice,
            "poll_after_seconds": 0.05,
        }

    def status(self) -> dict[str, Any]:
        return {
            "phase": self.idle_phase,
            "reason": "nobody wants to speak",
            "next": None,
            "gpu": {"models": self.models, "model": self.models[0]} if self.models else None,
            "edge": {"upstream_ok": False},
            "wishes": [],
            "version": "test",
        }

    def count(self, method: str, path: str) -> int:
        return sum(1 for m, p, _ in self.requests if (m, p) == (method, path))

    def answer(self, method: str, path: str, authorization: str, body: Any) -> tuple[int, Any]:
        """The API: status and JSON body of one call."""
        self.requests.append((method, path, body))
        if authorization != f"Bearer {self.token}":
            return 401, {"type": "about:blank", "title": "Unauthorized", "status": 401,
                         "detail": "The token is unknown or has expired."}  # fmt: skip
        if self._lapsed and "/sessions/" in path:
            return 410, {"title": "Gone", "status": 410, "detail": "The session is over."}
        if self.api_refuses is not None and "/sessions/" in path:
            code, sentence = self.api_refuses
            return code, {"title": "Refused", "status": code, "detail": sentence}
        match method, path:
            case "GET", "/v1/status":
                return 200, self.status()
            case "POST", "/v1/gpu/start":
                return 202, {**self.status(), "phase": "waking.boot"}
            case "POST", "/v1/gpu/stop":
                return 403, {"title": "Forbidden", "status": 403, "detail": "This needs the role operator."}
            case "POST", "/v1/sessions":
                self.session_open = True
                return 201, self.session()
            case "GET", "/v1/sessions/s-1":
                if self.waking and not self.held:
                    self.waking.pop(0)
                return 200, self.session()
            case "POST", "/v1/sessions/s-1/heartbeat":
                return 200, self.session()
            case "DELETE", "/v1/sessions/s-1":
                self.session_open = False
                return 204, None
        return 404, {"title": "Not Found", "status": 404, "detail": f"There is no {method} {path}."}

    def talk(self, socket: ServerConnection) -> None:
        """One WebSocket connection."""
        if time.monotonic() < self.down_until:
            _tear(socket)
            return
        request = socket.request
        assert request is not None
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        self.offered.append([part.strip() for part in offered.split(",")])
        with contextlib.suppress(websockets.ConnectionClosed, TimeoutError):
            self.handshakes.append(json.loads(socket.recv(timeout=10)))
            if self._lapsed:
                socket.close(4410, "the session is over")
                return
            refusals = self.refuse_later if self.broken_at and self.refuse_later else self.refuse
            if refusals:
                socket.close(*refusals.pop(0))
                return
            older, self._live = self._live, socket
            if older is not None:
                threading.Thread(target=older.close, args=(4412, "a newer connection has taken over")).start()
            _Talk(self, socket, self.handshakes[-1]["uid"]).run()

    _live: ServerConnection | None = None

    @property
    def _lapsed(self) -> bool:
        return self.lapses and bool(self.broken_at) and len(self.idempotency_keys) < 2

    def takes(self, socket: ServerConnection) -> bool:
        """Whether this connection was not displaced."""
        return self._live is socket

    @property
    def seconds(self) -> float:
        return len(self.audio) / 4 / RATE

    def place_of(self, frame: bytes) -> int:
        """The absolute number of a connection's first sample."""
        if self.ramp:
            return int(struct.unpack_from("<f", frame)[0])
        if not self.audio:
            return 0
        guess = max(0, self.processed - RATE)
        if self.audio[guess * 4 : guess * 4 + len(frame)] == frame[: len(self.audio) - guess * 4]:
            return guess
        found = self.audio.rfind(frame[:1600])
        return guess if found < 0 else found // 4

    def take(self, first: int, frame: bytes) -> None:
        """Keep a frame that begins at sample `first`."""
        at = first * 4
        if at > len(self.audio):
            self.wrong.append(f"a hole from sample {len(self.audio) // 4} to {first}")
        known = self.audio[at : at + len(frame)]
        if known != frame[: len(known)]:
            self.wrong.append(f"sample {first} and following came differently the second time")
        self.audio += frame[len(known) :]


class _Talk:
    """One connection that was taken: what it received, what was said about it."""

    def __init__(self, script: Scripted, socket: ServerConnection, uid: str) -> None:
        self._script, self._socket, self._uid = script, socket, uid
        self._first: int | None = None
        self._received = 0
        self._said = 0

    def run(self) -> None:
        self._send(message="SERVER_READY", backend="scripted")
        for message in self._socket:
            assert isinstance(message, bytes), "audio is binary"
            if not self._script.takes(self._socket):
                return
            if message == b"END_OF_AUDIO":
                self._script.ended = True
                if not self._script.silent:
                    self._finish()
                    return
            else:
                self._hear(message)
                if self._breaks():
                    return

    def _hear(self, frame: bytes) -> None:
        script = self._script
        if self._first is None:
            self._first = script.place_of(frame)
            script.offsets.append(self._first)
            if script.broken_at and len(script.back_at) < len(script.broken_at):
                script.back_at.append(time.monotonic())
        script.longest_frame = max(script.longest_frame, len(frame) // 4)
        script.take(self._first + self._received, frame)
        self._received += len(frame) // 4
        if not script.mute:
            self._say(flush=False)

    def _finish(self) -> None:
        if self._script.end:
            self._say(flush=True)
            self._send(status="END")
        self._socket.close(1000)

    def _breaks(self) -> bool:
        """Do what is due; True when the connection is no more."""
        script = self._script
        if not script.breaks or ((self._first or 0) + self._received) / RATE < script.breaks[0].at_s:
            return False
        due = script.breaks.pop(0)
        if due.kind == "notice":
            self._send(status="NOTICE", closing_at="2027-01-04T22:05:00Z", reason=due.reason)
            return False
        script.down_until = time.monotonic() + due.down_s
        script.api_down_until = script.down_until if due.api else 0.0
        script.broken_at.append(script.down_until)
        if due.kind == "close":
            if due.code in (1012, 4409):
                self._say(flush=True)
            self._socket.close(due.code, due.reason)
        elif due.kind == "cut":
            _tear(self._socket)
        else:
            self._deaf()
        return True

    def _deaf(self) -> None:
        """Answer nothing until the other side gives up."""
        with contextlib.suppress(websockets.ConnectionClosed):
            while self._script.takes(self._socket):
                self._socket.recv(timeout=None)

    def _say(self, *, flush: bool) -> None:
        script, offset = self._script, (self._first or 0) / RATE
        received = self._received / RATE
        found = segments(script.lines, offset, offset + received, flush=flush)
        completed = [segment for segment in found if segment["completed"]]
        open_ones = found[len(completed) :]
        # As the host does: at most ten completed ones a message, and each of them at least once.
        for at in range(self._said, max(len(completed), self._said + 1), 10):
            told = completed[: at + 10]
            last = len(told) == len(completed)
            if told or open_ones:
                self._send(segments=told[-10:] + (open_ones if last else []))
        self._said = len(completed)
        if script.progress:
            until = processed(found, received)
            far = {"processed_until": until, "decoded_until": received, "received_until": received}
            self._send(status="PROGRESS", **far, decode_s=0.25)
            script.processed = max(script.processed, (self._first or 0) + round(until * RATE))

    def _send(self, **message: Any) -> None:
        self._socket.send(json.dumps({"uid": self._uid, **message}))


def _tear(socket: ServerConnection) -> None:
    """Break the connection without a close frame."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(SHUT_RDWR)
    socket.socket.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Scripted

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        key = self.headers.get("Idempotency-Key")
        if key:
            self.script.idempotency_keys.append(key)
        path = urlsplit(self.path).path.removeprefix("/api")
        if time.monotonic() < self.script.api_down_until:
            self.close_connection = True
            return
        status, body = self.script.answer(
            self.command, path, self.headers.get("Authorization", ""), json.loads(raw) if raw else None
        )
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        kind = "application/json" if status < 400 else "application/problem+json"
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _serve

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 http.server's signature
        """Quiet: a test reads `requests`."""


@contextlib.contextmanager
def scripted_stack(script: Scripted | None = None) -> Iterator[Scripted]:
    """Serve `script` on loopback until the block ends; fills in `http_url` and `ws_url`."""
    script = script or Scripted()
    handler = type("Handler", (_Handler,), {"script": script})
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as api,
        serve(script.talk, "127.0.0.1", 0, subprotocols=[Subprotocol("bearer")], compression=None) as socket,
    ):
        script.http_url = f"http://127.0.0.1:{api.server_port}"
        script.ws_url = f"ws://127.0.0.1:{socket.socket.getsockname()[1]}/ws"
        # The HTTP server looks for its end at intervals.
        serving = (functools.partial(api.serve_forever, 0.02), socket.serve_forever)
        threads = [threading.Thread(target=serve_on, daemon=True) for serve_on in serving]
        for thread in threads:
            thread.start()
        try:
            yield script
        finally:
            api.shutdown()
            socket.shutdown()
            for thread in threads:
                thread.join(5)


__all__ = ["LINES", "TICKET", "TOKEN", "Break", "Scripted", "scripted_stack"]
