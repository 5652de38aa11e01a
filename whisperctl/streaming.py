"""One stream from source to transcript: the thin shell around `whisperctl.protocol`.

Capture begins at once, while the GPU wakes; nothing is sent before SERVER_READY and nothing captured is dropped.
Three things run side by side: capture fills the backlog, the connection empties it as fast as the server takes it,
heartbeats keep the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from whisperctl.api import Api, ApiProblem, Session, plain_reason
from whisperctl.audio import Source
from whisperctl.errors import CtlError, NotReachable, Refused
from whisperctl.protocol import (
    RATE,
    Backlog,
    Closing,
    Connection,
    Ended,
    Notice,
    Progress,
    Ready,
    Segments,
    State,
)
from whisperctl.stack import StackInfo
from whisperctl.transcript import Segment, Transcript

HEARTBEAT_S = 30.0
WAKE_PATIENCE_S = 900.0
"""Longest wait for a GPU: the ladder's cool-downs included."""
CONNECT_PATIENCE_S = 20.0
"""How long a connection is tried anew while no audio was sent yet."""
FLUSH_PATIENCE_S = 30.0
"""Longest silence of the server between END_OF_AUDIO and END."""
STOPPED_PATIENCE_S = 10.0
"""The same after `stop`: somebody waits at the prompt."""


class View(Protocol):
    """What a person watches while a stream runs."""

    def phase(self, phase: str, elapsed_s: float, usual_s: float | None) -> None: ...
    def final(self, segment: Segment) -> None: ...
    def partial(self, text: str) -> None: ...
    def notice(self, sentence: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Wish:
    """What kind of transcription is asked for; None leaves it to the stack."""

    language: str | None = None
    model: str | None = None
    task: str = "transcribe"


@dataclass(slots=True)
class Report:
    """What happened. Seconds count from the start of the command, segment times from the first sample."""

    transcript: str = ""
    segments: list[dict[str, Any]] = field(default_factory=list)
    ready_s: float | None = None
    first_word_s: float | None = None
    final_after_end_s: float | None = None
    """From END_OF_AUDIO to the server's END."""
    wer: float | None = None
    reconnects: int = 0
    lost_seconds: float = 0.0
    """Captured and never confirmed as processed; after a break also the rest of a file."""
    close_code: int | None = None
    problem: str | None = None
    """Why the stream ended early, in one sentence."""


class Stream:
    """Runs one stream. Build it, `await run()` once; `stop()` ends the capture and lets the last words come.

    Cancelled, it leaves at once; `report` then says what came until there.
    """

    def __init__(
        self,
        stack: StackInfo,
        source: Source,
        wish: Wish,
        view: View,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.report = Report()
        self._stack, self._source, self._wish, self._view, self._clock = stack, source, wish, view, clock
        self._backlog = Backlog()
        self._captured = False
        self._stopped = False
        self._capture_error: CtlError | None = None
        self._fresh = asyncio.Event()
        self._transcript = Transcript()
        self._connection: Connection | None = None
        """The one that carries the audio; also after its end."""
        self._over = False
        """No connection will carry anything any more: what is not confirmed is lost."""
        self._began = clock()
        self._ended_at: float | None = None

    def stop(self) -> None:
        """End the capture; what was captured is still sent and its words are awaited, on a GPU yet to wake too.

        Of a file that was handed over at once the rest is left out: nobody waits for it.
        """
        self._stopped = True
        self._source.stop()
        if self._source.at_once:
            self._backlog.cut(max(self._backlog.start, self._sent))
        self._fresh.set()

    @property
    def stopped(self) -> bool:
        return self._stopped

    @property
    def lost_seconds(self) -> float:
        """Captured, and known never to be confirmed; after a break also the rest of a file."""
        if not self._over:
            return 0.0
        lost = self._backlog.end - self._confirmed
        if not self._stopped:
            lost += self._source.withheld
        return round(max(0, lost) / RATE, 3)

    @property
    def _confirmed(self) -> int:
        return self._connection.confirmed if self._connection else 0

    @property
    def _sent(self) -> int:
        return self._connection.next_sample if self._connection else 0

    async def run(self) -> Report:
        """Wake, stream, await the last word, end the session. CtlError when the stack refuses or is away.

        A stream that broke after audio was sent does not raise: `lost_seconds` and `problem` say so.
        """
        with Api(self._stack, "speaker") as api:
            capture = asyncio.create_task(self._capture())
            session: Session | None = None
            heartbeat: asyncio.Task[None] | None = None
            try:
                session = await self._open(api)
                heartbeat = asyncio.create_task(self._heartbeats(api, session.id))
                await self._converse(await self._reserved(api, session))
            except _NothingSaid:
                pass
            finally:
                self._over = True
                self._source.stop()
                await _finished(capture, heartbeat)
                self._sum_up()
                if session is not None:
                    await self._close(api, session.id)
        return self.report

    async def _capture(self) -> None:
        """Fill the backlog until the source ends; its error is raised where somebody waits."""
        try:
            async for block in self._source.blocks():
                self._backlog.append(block)
                self._fresh.set()
        except CtlError as error:
            self._capture_error = error
        finally:
            self._captured = True
            self._fresh.set()

    # The session: HTTP calls run in threads, since httpx's client is the synchronous one everywhere else too.

    async def _open(self, api: Api) -> Session:
        wanted = {"language": self._wish.language, "model": self._wish.model, "task": self._wish.task}
        return await asyncio.to_thread(api.open_session, wanted, str(uuid.uuid4()))

    async def _reserved(self, api: Api, session: Session) -> Session:
        """Poll until a place is reserved on a ready GPU; Refused when the stack gives up."""
        while not (session.ticket and session.phase == "ready" and session.place == "reserved"):
            waited = self._elapsed()
            self._view.phase(session.phase, waited, session.usual_s)
            if session.notice:
                self._view.notice(session.notice)
            if waited > WAKE_PATIENCE_S:
                raise Refused(f"no place on a GPU after {waited:.0f} s; last phase {session.phase}")
            if self._capture_error is not None:
                raise self._capture_error
            await self._pause(session.poll_after_s)
            session = await asyncio.to_thread(api.session, session.id)
        self._view.phase("ready", self._elapsed(), session.usual_s)
        return session

    async def _pause(self, seconds: float) -> None:
        """Wait; ended, with the stream, once it was stopped with nothing captured."""
        until = self._clock() + seconds
        while True:
            self._fresh.clear()
            if self._stopped and self._captured and not self._backlog.end:
                raise _NothingSaid
            left = until - self._clock()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fresh.wait(), left)

    async def _heartbeats(self, api: Api, session_id: str) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await asyncio.to_thread(api.heartbeat, session_id, self.lost_seconds)
            except ApiProblem as problem:
                self._view.notice(problem.message)
            except NotReachable as error:  # a stream needs no API while it runs
                self._view.notice(error.message)

    async def _close(self, api: Api, session_id: str) -> None:
        """End the session; what was lost is told first."""
        try:
            if self.lost_seconds:
                await asyncio.to_thread(api.heartbeat, session_id, self.lost_seconds)
            await asyncio.to_thread(api.close_session, session_id)
        except ApiProblem as problem:
            if problem.status not in (404, 410):  # already over is what was wanted
                self._view.notice(problem.message)
        except NotReachable as error:
            self._view.notice(error.message)

    # The connection.

    async def _converse(self, session: Session) -> None:
        """Connect, stream, flush. Retries while no audio was sent; afterwards a broken stream is reported."""
        loop_until = self._clock() + CONNECT_PATIENCE_S
        pause = 0.2
        while True:
            closing = await self._attempt(session)
            if closing is None:
                return
            if closing.final or self._clock() > loop_until:
                self.report.close_code = closing.code
                raise Refused(closing.sentence) if closing.code else NotReachable(closing.sentence)
            await self._pause(pause)
            pause = min(2.0, pause * 2)

    async def _attempt(self, session: Session) -> Closing | None:
        """One connection. None: it carried the stream. A Closing: it ended before any audio was sent."""
        connection = Connection(
            session.id, self._wish.language, self._wish.task, self._wish.model, offset=self._confirmed
        )
        self._connection = connection
        try:
            async with _socket(self._stack, session) as socket:
                await socket.send(connection.hello())
                code, reason = await self._carry(socket, connection)
        except (OSError, websockets.exceptions.InvalidHandshake, TimeoutError) as error:
            return Closing(None, f"{session.ws_url} is not reachable: {plain_reason(error)}", final=False)
        untouched = connection.state is State.HANDSHAKE
        ended = connection.state is State.ENDED
        closing = connection.closed(code, reason)
        if untouched:
            return closing
        self._over = True
        self.report.close_code = code
        if not ended:
            self.report.problem = closing.sentence
        return None

    async def _carry(self, socket: ClientConnection, connection: Connection) -> tuple[int | None, str]:
        """Send and receive until the socket closes; return its close code and reason."""
        sender = asyncio.create_task(self._send(socket, connection))
        try:
            while True:
                try:
                    message = await self._message(socket, connection)
                except TimeoutError:
                    self._view.notice(f"no answer for {self._patience_s:.0f} s after the end of the audio")
                    break
                except websockets.exceptions.ConnectionClosed:
                    break
                self._hear(connection, message)
                if connection.state is State.ENDED:
                    break
        finally:
            await _finished(sender)
        await socket.close()
        return socket.close_code, socket.close_reason or ""

    @property
    def _patience_s(self) -> float:
        return STOPPED_PATIENCE_S if self._stopped else FLUSH_PATIENCE_S

    async def _message(self, socket: ClientConnection, connection: Connection) -> str | bytes:
        """The next message; TimeoutError once the server was silent for too long after END_OF_AUDIO."""
        receiving = asyncio.ensure_future(socket.recv())
        heard_at = self._clock()
        try:
            while not receiving.done():
                # Looks again and again, since END_OF_AUDIO is sent, and `stop` called, while it waits.
                await asyncio.wait([receiving], timeout=0.5)
                since = max(heard_at, self._ended_at or heard_at)
                if connection.state is State.ENDING and self._clock() - since > self._patience_s:
                    raise TimeoutError
            return await receiving
        finally:
            receiving.cancel()

    async def _send(self, socket: ClientConnection, connection: Connection) -> None:
        """Empty the backlog into the socket as the protocol allows, then ask for the last words."""
        while True:
            self._fresh.clear()
            frame = connection.frame(self._backlog, self._clock())
            if frame is not None:
                await socket.send(frame)
                continue
            if self._capture_error is not None:
                await socket.close()  # wakes the receiving side
                raise self._capture_error
            sent_all = self._captured and connection.next_sample == self._backlog.end
            if sent_all and connection.state is State.STREAMING:
                break
            # Woken by new samples and by every message; the bound lets a stock server's allowance grow.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fresh.wait(), 0.25)
        self._ended_at = self._clock()
        await socket.send(connection.end())

    def _hear(self, connection: Connection, message: str | bytes) -> None:
        event = connection.receive(message, self._clock())
        self._fresh.set()
        match event:
            case Ready():
                self.report.ready_s = self._elapsed()
                self._view.phase("live", self._elapsed(), None)
            case Segments():
                new = self._transcript.update(event.segments, event.offset_s)
                if self.report.first_word_s is None and (new or self._transcript.partial):
                    self.report.first_word_s = self._elapsed()
                for segment in new:
                    self._view.final(segment)
                self._view.partial(self._transcript.partial.text if self._transcript.partial else "")
            case Progress():
                # One second stays for the overlap that a later connection may need.
                self._backlog.release(event.confirmed - RATE)
            case Notice():
                self._view.notice(event.sentence)
            case Ended():
                self._transcript.finish()
                self._view.partial("")
                if self._ended_at is not None:
                    self.report.final_after_end_s = round(self._clock() - self._ended_at, 3)
            case None:
                return

    def _elapsed(self) -> float:
        return round(self._clock() - self._began, 3)

    def _sum_up(self) -> None:
        report, transcript = self.report, self._transcript
        report.transcript = transcript.text
        report.segments = [segment.as_dict() for segment in transcript.finals]
        if transcript.partial is not None:  # never confirmed: in the segments, marked, and not in the text
            report.segments.append(transcript.partial.as_dict())
        report.lost_seconds = self.lost_seconds


class _NothingSaid(Exception):
    """Stopped before anything was captured."""


def _socket(stack: StackInfo, session: Session) -> connect:
    """A connection to the session's address. Refused when the ticket would travel unencrypted."""
    tls = stack.tls()
    if tls is not None and urlsplit(session.ws_url).scheme != "wss":
        raise Refused(f"the stack gives an address without encryption: {session.ws_url}")
    loopback = urlsplit(session.ws_url).hostname in ("localhost", "127.0.0.1", "::1")
    return connect(
        session.ws_url,
        subprotocols=[Subprotocol("bearer"), Subprotocol(session.ticket or "")],
        ssl=tls,
        proxy=None if loopback else True,
        compression=None,  # float samples do not compress
        open_timeout=10,
        close_timeout=3,
        max_size=2**22,
    )


async def _finished(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel what still runs and wait for its end; an error of a task that was done is not lost."""
    for task in tasks:
        if task is None:
            continue
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, websockets.exceptions.ConnectionClosed):
            await task
