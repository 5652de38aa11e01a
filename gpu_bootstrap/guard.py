"""The guard around a stream's connection: all that WhisperLive's server ever touches of it.

The server uses a connection through `recv`, `send` and `close` only. So one object with these three carries what
it lacks: checked frames, back-pressure, notices, endings with a code and a reason, and a keepalive that does not
take a sender held back for a dead one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Protocol

from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, WebSocketException
from websockets.sync.connection import Connection

from gpu_bootstrap import closing
from gpu_bootstrap.control import Drain, rfc3339
from gpu_bootstrap.errors import FrameError
from gpu_bootstrap.frames import END_OF_AUDIO, check_frame

TICK_S = 0.25
"""How soon a stream notices what the host has to tell it."""
GOODBYE_S = 0.5
"""How long a refused peer has to answer the close: it holds a thread here and a stream's place at the edge."""
LIMIT_NOTICE_S = 30.0
"""How long before a connection's time limit its client is told; half of the limit where that is less."""
SILENT_S = 20.0
"""Seconds without a frame after which the peer is asked for a sign of life; it has as long to give one."""


class Client(Protocol):
    """The recogniser's side of a stream (engine.EdgeClient)."""

    def wait_for_room(self, timeout_s: float) -> bool: ...
    def sign_of_life(self) -> None: ...
    def abandon(self) -> None: ...
    def join(self) -> None: ...


class Orders(Protocol):
    """What the host wants of a stream, asked for again and again, so that no order is ever missed (host.Host)."""

    def notice(self) -> Drain | None: ...
    def ending(self, sid: str, until: float | None) -> closing.Ending | None: ...


class Guard:
    """Handed to `TranscriptionServer.recv_audio` in place of the connection.

    `handshake` is what the first `recv` gives: the checked first message. `until` is the end of the session in
    epoch seconds, where a ticket says it. `heard` is called at each audio frame,
    `released` once, as soon as the stream needs no place any more.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        sid: str,
        uid: str,
        handshake: str,
        audio_format: str,
        orders: Orders,
        until: float | None = None,
        longest_s: float | None = None,
        heard: Callable[[], None] = lambda: None,
        released: Callable[[], None] = lambda: None,
    ) -> None:
        self.sid = sid
        self.ended_by_client = False
        self._connection = connection
        self._uid = uid
        self._handshake: str | None = handshake
        self._audio_format = audio_format
        self._orders = orders
        self._until = until
        self._heard = heard
        self._released = released
        self._lock = threading.Lock()
        self._ending: closing.Ending | None = None
        self._client: Client | None = None
        self._announced: Drain | None = None
        self._limit: Drain | None = None
        now = time.monotonic()
        self._roll_over_at = now + longest_s if longest_s else None
        self._warn_at = now + max(longest_s - LIMIT_NOTICE_S, longest_s / 2) if longest_s else now
        self._keepalive = Keepalive(time.monotonic())

    def attach(self, client: Client) -> None:
        self._client = client

    @property
    def why_closed(self) -> closing.Ending:
        return self._ending or (closing.FINISHED if self.ended_by_client else closing.GONE)

    def end(self, ending: closing.Ending) -> None:
        """Ask the stream to end, from any thread; the first ending stands, one without flush overrules."""
        with self._lock:
            if self._ending is None or (self._ending.flush and not ending.flush):
                self._ending = ending
        if not ending.flush:
            self.abandon()

    def abandon(self) -> None:
        """Stop the recogniser's side, whatever it still has: nobody listens any more."""
        if self._client is not None:
            self._client.abandon()

    def join(self) -> None:
        """Wait until the recogniser's side decodes no more; `abandon` it first."""
        if self._client is not None:
            self._client.join()

    def recv(self) -> str | bytes:
        """The handshake, then audio frames, then END_OF_AUDIO (the client's, or ours when words are to be flushed).

        Raises ConnectionClosed when the client is gone or the stream ends without a flush.
        """
        if self._handshake is not None:
            handshake, self._handshake = self._handshake, None
            return handshake
        while True:
            self.say_notice()
            if self._client is not None:
                self._client.sign_of_life()
            ending = self.due_ending()
            if ending is not None:
                if ending.flush:
                    return END_OF_AUDIO
                raise ConnectionClosedOK(None, None)
            if self._client is not None and not self._client.wait_for_room(TICK_S):
                continue
            try:
                frame = self._connection.recv(timeout=TICK_S)
            except TimeoutError:
                self._keep_alive()
                continue
            self._keepalive.heard(time.monotonic())
            if frame == END_OF_AUDIO and isinstance(frame, bytes):
                self.ended_by_client = True
                return frame
            try:
                audio = check_frame(frame, self._audio_format)
            except FrameError as error:
                # What came before was good audio: its words are sent before the stream is closed.
                self.end(closing.Ending(closing.PROTOCOL, str(error), flush=True))
                continue
            if audio:
                self._heard()
                return audio

    def send(self, message: str) -> None:
        self._connection.send(message)

    def close(self) -> None:
        """Close with the code and reason of the stream's ending; the place is free before the peer agrees."""
        self._released()
        _close(self._connection, self.why_closed)

    def due_ending(self) -> closing.Ending | None:
        """Why the stream is to end now; None while it may go on."""
        if self._ending is None:
            if self._roll_over_at is not None and time.monotonic() >= self._roll_over_at:
                self.end(closing.ROLLING_OVER)
            elif (ordered := self._orders.ending(self.sid, self._until)) is not None:
                self.end(ordered)
        return self._ending

    def say_notice(self) -> None:
        """Pass on what the host has to announce, once."""
        notice = self._orders.notice() or self._limit_notice()
        if notice is not None and notice != self._announced:
            self._announced = notice
            message = {"status": "NOTICE", "closing_at": notice.closing_at_text, "reason": notice.reason}
            self.send(json.dumps({"uid": self._uid, **message}))

    def _limit_notice(self) -> Drain | None:
        """That this connection nears its limit: in time for the client to have another one before the end."""
        if self._limit is None and self._roll_over_at is not None and time.monotonic() >= self._warn_at:
            closing_at = time.time() + self._roll_over_at - time.monotonic()
            self._limit = Drain(closing_at, rfc3339(closing_at), "this connection reaches its time limit")
        return self._limit

    def _keep_alive(self) -> None:
        now = time.monotonic()
        if self._keepalive.wants_ping(now):
            self._keepalive.pinged(now, self._connection.ping())
        elif self._keepalive.peer_is_gone(now):
            self.end(closing.GONE)


class Keepalive:
    """Pings a peer that says nothing, and gives it up when no answer comes. Times in monotonic seconds.

    The websockets library's own keepalive is off: it counts the time in which we do not read, to hold back a
    sender that is ahead, as the peer's silence.
    """

    def __init__(self, now: float) -> None:
        self._last = now
        self._asked: float | None = None
        self._pong = threading.Event()

    def heard(self, now: float) -> None:
        self._last, self._asked = now, None

    def wants_ping(self, now: float) -> bool:
        if self._asked is not None and self._pong.is_set():
            self.heard(now)
        return self._asked is None and now - self._last >= SILENT_S

    def pinged(self, now: float, pong: threading.Event) -> None:
        self._asked, self._pong = now, pong

    def peer_is_gone(self, now: float) -> bool:
        return self._asked is not None and not self._pong.is_set() and now - self._asked >= SILENT_S


def refuse(connection: Connection, ending: closing.Ending, message: dict[str, object] | None = None) -> None:
    """Turn a connection away with a code and a reason, and a last message before it."""
    connection.close_timeout = GOODBYE_S
    try:
        if message is not None:
            connection.send(json.dumps(message))
        _close(connection, ending)
    except ConnectionClosed:
        return  # gone by itself: nobody is left to tell


def _close(connection: Connection, ending: closing.Ending) -> None:
    """Close, and read on meanwhile what the peer has sent.

    A peer that is ahead has filled the library's queue, and its answer to the close stands behind all that. Unread,
    it would hold up the end for the library's close_timeout of 10 s, and a socket closed over unread data takes back
    what it sent last. Whoever never stops sending is cut off after that time.
    """
    reader = threading.Thread(target=_discard, args=(connection,), name="discard", daemon=True)
    reader.start()
    connection.close(ending.code, ending.fitting_reason())


def _discard(connection: Connection) -> None:
    try:
        while True:
            connection.recv(decode=False)
    except WebSocketException:
        return  # closed, or what comes is no message any more
