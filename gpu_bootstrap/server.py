"""WhisperLive's server, subclassed: who may open a stream, and which client serves it.

whisper_live is imported here, so torch's stand-in must be in place before this module is.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection
from whisper_live import metrics
from whisper_live.server import TranscriptionServer

from gpu_bootstrap import closing, handshake, log, tickets
from gpu_bootstrap.control import ControlFile
from gpu_bootstrap.engine import EdgeClient
from gpu_bootstrap.errors import HandshakeError, HostFullError, LauncherError, TicketError, UnknownKeyError
from gpu_bootstrap.guard import Guard, refuse
from gpu_bootstrap.host import Host
from gpu_bootstrap.languages import Remembered
from gpu_bootstrap.registry import Registry, Stream
from gpu_bootstrap.serving import Lease, Serving
from gpu_bootstrap.settings import Settings

KEYS_WAIT_S = 2.0
"""A ticket may come before its key: the control plane tells both sides at once, and the host polls."""

TELL_S = 1.0
"""Seconds between two messages to a client that waits for its model."""


class StreamEndedError(LauncherError):
    """The stream must end before it has begun."""

    def __init__(self, ending: closing.Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


@dataclass(frozen=True)
class Admitted:
    """A stream that may begin: its place, its hold on the model, and what it is to get."""

    guard: Guard
    stream: Stream
    lease: Lease
    wishes: handshake.Handshake


class EdgeServer(TranscriptionServer):  # type: ignore[misc]  # WhisperLive is untyped
    """Run by `TranscriptionServer.run`, which calls `recv_audio` in a thread for every connection."""

    PROBE_PATH = "/.launcher-probe"
    PROBE_HEADER = "X-Launcher-Probe"

    def __init__(
        self,
        settings: Settings,
        host: Host,
        registry: Registry,
        control: ControlFile,
        serving: Serving,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._host = host
        self._registry = registry
        self._control = control
        self._serving = serving
        self._spoken = Remembered()
        self._admitted: dict[Guard, Admitted] = {}
        self.listening = threading.Event()
        self.probe_secret = secrets.token_hex(16)

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """`run(websocket_auth=…)` calls it at each upgrade. Nobody is refused here: a browser could not see why."""
        if request.headers.get(self.PROBE_HEADER) == self.probe_secret:
            self.listening.set()
            return connection.respond(204, "")
        connection.ping_interval = None  # guard.Keepalive does it
        return None

    def recv_audio(self, websocket: ServerConnection, *args: Any, **kwargs: Any) -> None:
        self._registry.connection_opened()
        try:
            admitted = self._admit(websocket)
            if admitted is None:
                return
            guard, stream, lease = admitted.guard, admitted.stream, admitted.lease
            self._admitted[guard] = admitted
            try:
                super().recv_audio(guard, *args, **kwargs)
                guard.close()  # where WhisperLive left it open: its own refusals
            finally:
                # A client that is gone before SERVER_READY is never known to WhisperLive, but its thread runs.
                guard.abandon()
                self._registry.release(stream)
                lease.leaving()
                self._admitted.pop(guard, None)
                # WhisperLive forgets a connection's format only where it came to a client; the guard hangs on it.
                self.audio_formats.pop(guard, None)
                self._log_end(guard, stream)
                guard.join()
                lease.done()
        except ConnectionClosed:
            log.info("connection.gone")
        finally:
            self._registry.connection_closed()

    def initialize_client(self, websocket: Guard, *_args: Any, **_kwargs: Any) -> None:
        """Called by `recv_audio` with the guard; `options` are in our checked form already."""
        admitted = self._admitted[websocket]
        wishes = admitted.wishes
        for warning in wishes.warnings:
            websocket.send(json.dumps({"uid": wishes.uid, "status": "WARNING", "message": warning}))
        client = EdgeClient(websocket, wishes, admitted.lease.loaded.decoder, self._spoken, self._host.final_s)
        self.client_manager.add_client(websocket, client)

    def _admit(self, connection: ServerConnection) -> Admitted | None:
        """Check ticket, handshake, place and model, in this order; who does not pass is told why and closed."""
        refusal = self._host.refusal()
        if refusal is not None:
            return self._refuse(connection, refusal)
        try:
            claims = self._session_of(connection)
        except TicketError as error:
            no_keys = isinstance(error, UnknownKeyError) and not self._control.current.ticket_keys
            return self._refuse(
                connection, closing.NO_KEYS_YET if no_keys else closing.Ending(closing.TICKET, str(error))
            )
        if claims is not None and claims.sid in self._control.current.revoked:
            return self._refuse(connection, closing.SESSION_ENDED)
        try:
            first = connection.recv(timeout=self._settings.handshake_timeout_s)
            wishes = handshake.parse(first)
        except TimeoutError:
            return self._refuse(connection, closing.HANDSHAKE_LATE)
        except HandshakeError as error:
            return self._refuse(connection, closing.Ending(closing.PROTOCOL, str(error)))
        return self._place(connection, claims or tickets.Claims(self._registry.name_anonymous(), None), wishes)

    def _session_of(self, connection: ServerConnection) -> tickets.Claims | None:
        """The claims of the connection's ticket; None where tickets are not required and none came."""
        ticket = ticket_of(connection.request)
        if ticket is None and not self._settings.require_ticket:
            return None
        deadline = time.monotonic() + KEYS_WAIT_S
        while True:
            control = self._control.current
            try:
                return tickets.verify(ticket, control.ticket_keys, time.time() + control.ahead_s)
            except UnknownKeyError:
                known = control.ticket_keys
                left = deadline - time.monotonic()
                if left <= 0 or not self._control.wait_for(lambda now, old=known: now.ticket_keys != old, left):  # type: ignore[misc]
                    raise

    def _place(
        self, connection: ServerConnection, claims: tickets.Claims, wishes: handshake.Handshake
    ) -> Admitted | None:
        def heard() -> None:
            stream.last_audio = time.monotonic()

        options = {"uid": wishes.uid, "audio_format": wishes.audio_format, "use_vad": wishes.use_vad}
        guard = Guard(
            connection,
            sid=claims.sid,
            uid=wishes.uid,
            handshake=json.dumps(options),
            audio_format=wishes.audio_format,
            orders=self._host,
            until=claims.exp,
            longest_s=self._settings.max_connection_s,
            heard=heard,
            released=lambda: self._release(stream, lease),
        )
        stream = Stream(claims.sid, wishes.uid, guard.end, since=time.monotonic())
        lease: Lease | None = None
        try:
            self._registry.admit(stream)
        except HostFullError:
            wait = {"uid": wishes.uid, "status": "WAIT", "message": 1.0}
            return self._refuse(connection, closing.NO_PLACE, wait)
        try:
            lease = self._serving.take(wishes.model, self._teller(guard, wishes.uid))
            decoder = lease.loaded.decoder
            served = handshake.Served(lease.loaded.name, decoder.languages, decoder.count, lease.excuse)
            wishes = handshake.fit(wishes, served)
        except StreamEndedError as error:
            self._registry.release(stream)
            return self._refuse(connection, error.ending)
        except HandshakeError as error:
            self._registry.release(stream)
            if lease is not None:
                lease.done()
            return self._refuse(connection, closing.Ending(closing.PROTOCOL, str(error)))
        except ConnectionClosed:
            self._registry.release(stream)
            raise
        log.info(
            "stream.open", sid=claims.sid, model=wishes.model, language=wishes.language, warnings=len(wishes.warnings)
        )
        return Admitted(guard, stream, lease, wishes)

    def _release(self, stream: Stream, lease: Lease | None) -> None:
        self._registry.release(stream)
        if lease is not None:
            lease.leaving()

    @staticmethod
    def _teller(guard: Guard, uid: str) -> Callable[[str, float], None]:
        """Tells a waiting client now and then which model is loaded, and ends the wait when the stream must end."""
        told_at = -TELL_S

        def tell(model: str, waited_s: float) -> None:
            nonlocal told_at
            guard.say_notice()
            ending = guard.due_ending()
            if ending is not None:
                raise StreamEndedError(ending)
            if waited_s - told_at >= TELL_S:
                told_at = waited_s
                message = {"status": "LOADING", "model": model, "waited_s": round(waited_s, 1)}
                guard.send(json.dumps({"uid": uid, **message}))

        return tell

    @staticmethod
    def _refuse(
        connection: ServerConnection, ending: closing.Ending, message: dict[str, object] | None = None
    ) -> None:
        log.info("stream.refused", code=ending.code, reason=ending.reason)
        metrics.track_connection_rejected(reason=closing.NAMES.get(ending.code, str(ending.code)))
        refuse(connection, ending, message)

    @staticmethod
    def _log_end(guard: Guard, stream: Stream) -> None:
        ending = guard.why_closed
        seconds = round(time.monotonic() - stream.since, 1)
        log.info("stream.closed", sid=stream.sid, code=ending.code, reason=ending.reason, seconds=seconds)


def ticket_of(request: Request | None) -> str | None:
    """The ticket beside "bearer" in the subprotocols, or that of an Authorization header; None when there is none."""
    if request is None:
        return None
    offered = [
        name.strip() for value in request.headers.get_all("Sec-WebSocket-Protocol") for name in value.split(",")
    ]
    if "bearer" in offered:
        return next((name for name in offered if name and name != "bearer"), "")
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None
