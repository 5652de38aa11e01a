"""One stream from source to transcript: the thin shell around `whisperctl.session`.

Capture begins at once, while the GPU wakes, and goes on whatever the network does. Side by side run: capture, which
fills the ring; the carrier's sockets, which empty it; the session's HTTP calls; and a clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from whisperctl import faults
from whisperctl.api import Api, ApiProblem, Session
from whisperctl.audio import Source
from whisperctl.errors import CtlError, NotReachable, Refused
from whisperctl.relay import Relay
from whisperctl.session import carrier as to_do
from whisperctl.session.carrier import Carrier, Effect, Over
from whisperctl.session.connection import RATE
from whisperctl.session.ring import Ring
from whisperctl.session.transcript import Segment
from whisperctl.sockets import Socket
from whisperctl.stack import StackInfo

HEARTBEAT_S = 30.0
TICK_S = 0.1
WAKE_PATIENCE_S = 900.0
"""Longest wait for a GPU, the ladder's cool-downs included, and for a network that went away."""
CONNECT_PATIENCE_S = 20.0
"""Longest wait for the first connection of a session that has its place."""
API_PATIENCE_S = 60.0
"""How long the API may be away while a GPU wakes."""
RENEW_AGAIN_S = 1.0
"""Until another session is asked for again, where that failed: the network may be back any moment."""
BEHIND_S = 5.0
"""Words this far behind the speech are told."""


class View(Protocol):
    """What a person watches while a stream runs."""

    def phase(self, phase: str, elapsed_s: float, usual_s: float | None) -> None: ...
    def final(self, segment: Segment) -> None: ...
    def partial(self, text: str, stable: int) -> None: ...
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
    faults: list[dict[str, Any]] = field(default_factory=list)
    """Each fault made on purpose: kind, at_s, for_s, and live_again_s after its end, None when never."""


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
        plan: faults.Plan | None = None,
    ) -> None:
        self.report = Report()
        self._stack, self._source, self._wish, self._view, self._clock = stack, source, wish, view, clock
        self._plan = plan or faults.Plan()
        self._ring = Ring()
        self._sockets: dict[int, Socket] = {}
        self._carrier = Carrier(
            buffered=lambda conn: self._sockets[conn].buffered if conn in self._sockets else 0,
            jitter=random.random,
            patience_s=WAKE_PATIENCE_S,
        )
        self._session: Session | None = None
        self._relay: Relay | None = None
        self._captured = self._stopped = False
        self._error: CtlError | None = None
        """Raised where somebody waits."""
        self._last_reason = ""
        self._fresh = asyncio.Event()
        self._over = asyncio.Event()
        self._renew = asyncio.Event()
        self._asked = asyncio.Event()
        self._given_up = False
        self._began = clock()
        self._placed_at: float | None = None
        self._usual_s: float | None = None
        self._ended_at: float | None = None
        self._heard_at = 0.0

    def stop(self) -> None:
        """End the capture; what was captured is still sent and its words are awaited, on a GPU yet to wake too.

        Of a file that was handed over at once the rest is left out: nobody waits for it.
        """
        self._stopped = True
        self._source.stop()
        if self._source.at_once:
            self._ring.cut(max(self._ring.start, self._carrier.sent))
            self._do(self._carrier.captured(self._ring.end, self._clock()))
        self._fresh.set()

    @property
    def stopped(self) -> bool:
        return self._stopped

    @property
    def lost_seconds(self) -> float:
        """Captured, and known never to be confirmed; after a break also the rest of a file."""
        carrier = self._carrier
        if not (carrier.over or self._given_up):
            return 0.0
        lost = self._ring.end - carrier.confirmed
        if not self._stopped:
            lost += self._source.withheld
        return round(max(0, lost) / RATE, 3)

    def _measured(self) -> dict[str, Any]:
        """What the operator's metrics are made of: numbers, and never a word."""
        said = {"lost_seconds": self.lost_seconds, "audio_seconds": round(self._ring.end / RATE, 1)}
        first = self.report.first_word_s
        return said | ({"latency": {"first_word": round(first, 3)}} if first is not None else {})

    async def run(self) -> Report:
        """Wake, stream, await the last word, end the session. CtlError when the stack refuses or is away.

        A stream that broke after audio was sent does not raise: `lost_seconds` and `problem` say so.
        """
        with Api(self._stack, "speaker") as api:
            tasks = [asyncio.create_task(self._capture())]
            try:
                await self._begin(api)
                work = [self._heartbeats(api), self._places(api), self._ticks()]
                if self._plan.faults and self._relay is not None:
                    work.append(self._faults(self._relay))
                tasks += [self._watched(asyncio.create_task(each)) for each in work]
                await self._over.wait()
                self._judge()
            except _NothingSaid:
                pass
            finally:
                self._given_up = True
                self._source.stop()
                await _finished(*tasks)
                for socket in self._sockets.values():
                    await socket.gone()
                if self._relay is not None:
                    await self._relay.stop()
                self._sum_up()
                if self._session is not None:
                    await self._close(api, self._session.id)
        return self.report

    async def _begin(self, api: Api) -> None:
        self._session = await self._open(api)
        await self._reserved(api)
        if self._plan:
            address = urlsplit(self._session.ws_url)
            port = address.port or (443 if address.scheme == "wss" else 80)
            self._relay = Relay(address.hostname or "localhost", port)
            self._relay.kbps = self._plan.kbps
            await self._relay.start()
        self._placed_at = self._clock()
        self._do(self._carrier.place(self._placed_at))

    def _watched(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """A task whose failure ends the stream; it is raised when the task is awaited."""
        task.add_done_callback(lambda done: None if done.cancelled() or not done.exception() else self._over.set())
        return task

    def _judge(self) -> None:
        """How it ended, once nothing more will come."""
        over = self._carrier.over
        if self._error is not None:
            raise self._error
        if over is None or over.complete:
            return
        self.report.close_code = over.code
        if not self._carrier.was_live:
            raise Refused(over.sentence) if over.code else NotReachable(over.sentence)
        self.report.problem = over.sentence

    # Capture.

    async def _capture(self) -> None:
        """Fill the ring until the source ends; its error is raised where somebody waits."""
        try:
            async for block in self._source.blocks():
                self._ring.append(block)
                self._do(self._carrier.captured(self._ring.end, self._clock()))
                self._fresh.set()
        except CtlError as error:
            self._error = error
            self._over.set()
        finally:
            self._captured = True
            self._fresh.set()
            if self._error is None:
                self._do(self._carrier.finish(self._clock()))

    # The session: HTTP calls run in threads, since httpx's client is the synchronous one everywhere else too.

    async def _open(self, api: Api) -> Session:
        wanted = {"language": self._wish.language, "model": self._wish.model, "task": self._wish.task}
        return await asyncio.to_thread(api.open_session, wanted, str(uuid.uuid4()))

    async def _reserved(self, api: Api) -> None:
        """Poll until a place is reserved on a ready GPU; Refused when the stack gives up."""
        assert self._session is not None
        missed_since: float | None = None
        while not _has_place(self._session):
            waited = self._elapsed()
            self._show(self._session)
            if waited > WAKE_PATIENCE_S:
                raise Refused(f"no place on a GPU after {waited:.0f} s; last phase {self._session.phase}")
            if self._error is not None:
                raise self._error
            await self._pause(self._session.poll_after_s)
            try:
                self._session = await asyncio.to_thread(api.session, self._session.id)
                missed_since = None
            except NotReachable as error:
                missed_since = missed_since or self._clock()
                if self._clock() - missed_since > API_PATIENCE_S:
                    raise
                self._view.notice(error.message)
        self._view.phase("ready", self._elapsed(), self._usual_s)

    async def _places(self, api: Api) -> None:
        """Ask for a place whenever the carrier wants one; another session when this one lapsed."""
        while True:
            pause = self._session.poll_after_s if self._session and not self._renew.is_set() else RENEW_AGAIN_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), pause)
            self._asked.clear()
            if not self._carrier.wants_place:
                continue
            try:
                if self._renew.is_set():
                    self._session = await self._open(api)
                    self._renew.clear()
                elif self._session is not None:
                    self._session = await asyncio.to_thread(api.session, self._session.id)
            except ApiProblem as problem:
                if self._renew.is_set():
                    self._do(self._carrier.give_up(problem.message, self._clock()))
                elif problem.status in (404, 410):
                    self._do(self._carrier.session_over(problem.message, self._clock()))
                else:
                    self._view.notice(problem.message)
            except NotReachable as error:  # the ticket in hand may still open a connection
                self._view.notice(error.message)
            else:
                assert self._session is not None
                if _has_place(self._session):
                    self._do(self._carrier.place(self._clock()))
                else:
                    self._show(self._session)

    async def _heartbeats(self, api: Api) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self._session is None or self._renew.is_set():
                continue
            try:
                await asyncio.to_thread(api.heartbeat, self._session.id, self._measured())
                self._carrier.contact(self._clock())
            except ApiProblem as problem:
                if problem.status in (404, 410):
                    self._do(self._carrier.session_over(problem.message, self._clock()))
                else:
                    self._view.notice(problem.message)
            except NotReachable as error:  # a stream needs no API while it runs
                self._view.notice(error.message)

    async def _close(self, api: Api, session_id: str) -> None:
        """End the session; what was lost is told first."""
        try:
            await asyncio.to_thread(api.heartbeat, session_id, self._measured())
            await asyncio.to_thread(api.close_session, session_id)
        except ApiProblem as problem:
            if problem.status not in (404, 410):  # already over is what was wanted
                self._view.notice(problem.message)
        except NotReachable as error:
            self._view.notice(error.message)

    # Time.

    async def _ticks(self) -> None:
        shown = ""
        while True:
            now = self._clock()
            self._do(self._carrier.tick(now))
            never = not self._carrier.was_live and not self._carrier.full
            if never and self._placed_at is not None and now - self._placed_at > CONNECT_PATIENCE_S:
                self._do(self._carrier.give_up(self._last_reason or "the server does not answer", now))
            shown = self._show_state(shown)
            await asyncio.sleep(TICK_S)

    async def _pause(self, seconds: float) -> None:
        """Wait; ended, with the stream, once it was stopped with nothing captured."""
        until = self._clock() + seconds
        while True:
            self._fresh.clear()
            if self._stopped and self._captured and not self._ring.end:
                raise _NothingSaid
            left = until - self._clock()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fresh.wait(), left)

    async def _faults(self, relay: Relay) -> None:
        while not self._carrier.was_live:
            await asyncio.sleep(0.02)
        await faults.play(
            self._plan,
            relay,
            lambda moment: self._carrier.state in ("live", "finishing") and self._heard_at > moment,
            self.report.faults,
        )

    # What the carrier wants done.

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case to_do.Connect(conn):
                    self._connect(conn)
                case to_do.Hello(conn):
                    self._sockets[conn].send(self._hello())
                case to_do.Audio(conn, first, count):
                    self._sockets[conn].send(self._ring.read(first, count).tobytes())
                case to_do.End(conn):
                    self._ended_at = self._clock()
                    self._sockets[conn].send(b"END_OF_AUDIO")
                case to_do.Close(conn):
                    self._sockets[conn].close()
                case to_do.Renew():
                    self._renew.set()
                    self._asked.set()
                case to_do.Words(finals):
                    self._show_words(finals)
                case to_do.Notice(sentence):
                    self._view.notice(sentence)
                case Over():
                    self._end(effect)
        self._ring.release(self._carrier.keep_from)

    def _connect(self, conn: int) -> None:
        assert self._session is not None
        carrier = self._carrier

        def message(text: str | bytes) -> None:
            self._heard_at = self._clock()
            self._do(carrier.message(conn, text, self._heard_at))
            if carrier.was_live and self.report.ready_s is None:
                self.report.ready_s = self._elapsed()

        def closed(code: int | None, reason: str) -> None:
            self._last_reason = reason or self._last_reason
            self._do(carrier.closed(conn, code, reason, self._clock()))

        try:
            self._sockets[conn] = Socket(
                self._stack,
                self._session,
                relay_port=self._relay.port if self._relay else None,
                opened=lambda: self._do(carrier.opened(conn, self._clock())),
                message=message,
                closed=closed,
            )
            self._watched(self._sockets[conn].task)
        except Refused as error:
            self._error = error
            self._over.set()

    def _hello(self) -> str:
        """WhisperLive's handshake."""
        assert self._session is not None
        wish: dict[str, Any] = {
            "uid": self._session.id,
            "task": self._wish.task,
            "language": self._wish.language,
            "use_vad": True,
            "resumes": True,
            "known_s": self._carrier.known,
        }
        if self._wish.model:
            wish["model"] = self._wish.model
        return json.dumps(wish)

    def _end(self, over: Over) -> None:
        if over.complete:
            self.report.close_code = over.code
            if self._ended_at is not None:
                self.report.final_after_end_s = round(self._clock() - self._ended_at, 3)
        self._over.set()

    # What a person sees.

    def _show(self, session: Session) -> None:
        # The API says what is left; what was hoped for at first is what the time is compared with.
        if self._usual_s is None and session.usual_s:
            self._usual_s = self._elapsed() + session.usual_s
        self._view.phase(session.phase, self._elapsed(), self._usual_s)
        if session.notice:
            self._view.notice(session.notice)

    def _show_state(self, shown: str) -> str:
        carrier = self._carrier
        state = carrier.state
        if state == "live" and carrier.slow_network:
            state = "slow"
        elif state == "live" and carrier.reconnects and carrier.behind_s > BEHIND_S:
            state = "behind"
        # "ready", which the place has told already, says more than "connecting".
        if state != shown and state not in ("waiting", "connecting", "over"):
            self._view.phase(state, self._elapsed(), None)
        return state

    def _show_words(self, finals: tuple[Segment, ...]) -> None:
        transcript = self._carrier.transcript
        if self.report.first_word_s is None and (finals or transcript.partial):
            self.report.first_word_s = self._elapsed()
        for segment in finals:
            self._view.final(segment)
        self._view.partial(transcript.partial.text if transcript.partial else "", transcript.stable)

    def _elapsed(self) -> float:
        return round(self._clock() - self._began, 3)

    def _sum_up(self) -> None:
        report, transcript = self.report, self._carrier.transcript
        report.transcript = transcript.text
        report.segments = [segment.as_dict() for segment in transcript.finals]
        if transcript.partial is not None:  # never confirmed: in the segments, marked, and not in the text
            report.segments.append(transcript.partial.as_dict())
        report.reconnects = self._carrier.reconnects
        report.lost_seconds = self.lost_seconds


class _NothingSaid(Exception):
    """Stopped before anything was captured."""


def _has_place(session: Session) -> bool:
    return bool(session.ticket) and session.phase == "ready" and session.place == "reserved"


async def _finished(*tasks: asyncio.Task[None]) -> None:
    """Wait for the end of what ends by itself, cancel the rest; an error of a task that was done is not lost."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
