"""A scripted stack: the HTTP API and the WebSocket protocol as the design has them, with words decided by a test.

It plays the server so that page and client can be tested in milliseconds and with faults on purpose; the real chain
has its own tests. Runs in threads of the test's process.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import websockets
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

TOKEN = "speaker-token"  # noqa: S105 opens nothing but this server
TICKET = "header.payload.signature"
RATE = 16000
LINES = (
    (0.0, 2.0, "The first train leaves the station at seven."),
    (2.0, 4.0, "My brother walked to the market with his friend."),
    (4.0, 7.0, "Children were playing in the garden behind the house."),
)


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
    drop_after_s: float | None = None
    """Tear the connection once so much audio came."""
    end: bool = True
    """False: close 1000 after END_OF_AUDIO without flushing, as stock WhisperLive does."""
    mute: bool = False
    """True: no word before END_OF_AUDIO, then all."""
    silent: bool = False
    """True: END_OF_AUDIO is not answered, and the stream stays open."""
    idle_phase: str = "asleep"
    token: str = TOKEN
    """What opens it; another one plays a token that has been revoked."""

    ws_url: str = ""
    http_url: str = ""
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    idempotency_keys: list[str] = field(default_factory=list)
    handshakes: list[dict[str, Any]] = field(default_factory=list)
    offered: list[list[str]] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    longest_frame: int = 0
    ended: bool = False
    said: int = 0
    """Completed segments told so far."""
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
            "gpu": None,
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
        request = socket.request
        assert request is not None
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        self.offered.append([part.strip() for part in offered.split(",")])
        self.handshakes.append(json.loads(socket.recv(timeout=10)))
        uid = self.handshakes[-1]["uid"]
        if self.refuse:
            socket.close(*self.refuse.pop(0))
            return
        socket.send(json.dumps({"uid": uid, "message": "SERVER_READY", "backend": "scripted"}))
        with contextlib.suppress(websockets.ConnectionClosed):
            self._listen(socket, uid)

    def _listen(self, socket: ServerConnection, uid: str) -> None:
        for message in socket:
            assert isinstance(message, bytes), "audio is binary"
            if message == b"END_OF_AUDIO":
                self.ended = True
                if self.silent:
                    continue
                if self.end:
                    self._say(socket, uid, flush=True)
                    socket.send(json.dumps({"uid": uid, "status": "END"}))
                socket.close(1000)
                return
            self.longest_frame = max(self.longest_frame, len(message) // 4)
            self.audio += message
            if not self.mute:
                self._say(socket, uid, flush=False)
            if self.drop_after_s is not None and self.seconds > self.drop_after_s:
                socket.socket.close()
                return

    @property
    def seconds(self) -> float:
        return len(self.audio) / 4 / RATE

    def _say(self, socket: ServerConnection, uid: str, *, flush: bool) -> None:
        segments: list[dict[str, Any]] = []
        for start, end, text in self.lines:
            if end <= self.seconds or (flush and start < self.seconds):
                segments.append(_segment(start, end, text, completed=True))
            elif start + 0.2 < self.seconds:
                words = text.split()
                shown = max(1, round(len(words) * (self.seconds - start) / (end - start)))
                segments.append(_segment(start, self.seconds, " ".join(words[:shown]), completed=False))
        completed = [segment for segment in segments if segment["completed"]]
        open_ones = segments[len(completed) :]
        # As the host does: at most ten completed ones a message, and each of them at least once.
        for at in range(self.said, max(len(completed), self.said + 1), 10):
            told = completed[: at + 10]
            last = len(told) == len(completed)
            if told or open_ones:
                socket.send(json.dumps({"uid": uid, "segments": told[-10:] + (open_ones if last else [])}))
        self.said = len(completed)
        if self.progress:
            socket.send(json.dumps({"uid": uid, "status": "PROGRESS", "processed_until": self.seconds}))


def _segment(start: float, end: float, text: str, *, completed: bool) -> dict[str, Any]:
    return {"start": f"{start:.3f}", "end": f"{end:.3f}", "text": f" {text}", "completed": completed}


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
        threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in (api, socket)]
        for thread in threads:
            thread.start()
        try:
            yield script
        finally:
            api.shutdown()
            socket.shutdown()
            for thread in threads:
                thread.join(5)


__all__ = ["LINES", "TICKET", "TOKEN", "Scripted", "scripted_stack"]
