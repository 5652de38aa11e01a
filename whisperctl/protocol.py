"""The WebSocket protocol of one stream as a state machine without I/O and without a clock.

Source: WhisperLive 0.10.0's wire protocol with this project's additions (PROGRESS, END, NOTICE, close codes).
`site/js/stream.js` is the same machine for the page.

Audio is counted in absolute samples since capture began, 16 kHz mono. A connection begins at `offset`; the server
counts seconds from the connection's own first sample. What it says it has processed is `confirmed`, again absolute:
a later connection can begin there.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

RATE = 16000
FRAME_SAMPLES = RATE // 2
"""A frame carries at most 0.5 s."""
WINDOW_S = 45.0
"""How much may be on its way unconfirmed: beyond this a stock server throws audio away."""
BURST_S = 15.0
STOCK_SPEED = 2.0
"""A server that sends no PROGRESS gets a burst, then twice real time."""
END_OF_AUDIO = b"END_OF_AUDIO"

Samples = npt.NDArray[np.float32]

FINAL_CODES = {
    4400: "the server does not accept what was sent",
    4401: "the ticket is not accepted",
    4410: "the session is over",
    4412: "another connection took over this session",
}
"""Close codes after which trying again cannot help."""
RETRY_CODES = {
    1012: "the server restarts",
    1013: "every place on the GPU is taken",
    4408: "the server waited too long for the handshake",
    4409: "the connection reached its time limit",
}
DROPPED_CODES = (1001, 1006, 1011, None)


class State(enum.Enum):
    """`HANDSHAKE` until SERVER_READY, `ENDING` from END_OF_AUDIO on, `ENDED` once all is confirmed."""

    HANDSHAKE = "handshake"
    STREAMING = "streaming"
    ENDING = "ending"
    ENDED = "ended"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Ready:
    """The server takes audio now."""

    backend: str


@dataclass(frozen=True, slots=True)
class Segments:
    """Raw segments of one message; `offset_s` maps their times to seconds since capture began."""

    segments: list[dict[str, Any]]
    offset_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything before absolute sample `confirmed` was processed."""

    confirmed: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should read."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The server has flushed: every word is final."""


Event = Ready | Segments | Progress | Notice | Ended


@dataclass(frozen=True, slots=True)
class Closing:
    """Why a connection ended. `final`: trying again cannot help."""

    code: int | None
    sentence: str
    final: bool


class Backlog:
    """Captured samples by absolute number, kept until they are confirmed."""

    def __init__(self) -> None:
        self._blocks: list[Samples] = []
        self.start = 0
        """Number of the oldest sample still kept."""
        self.end = 0
        """Number after the newest captured sample."""

    def append(self, samples: Samples) -> None:
        if len(samples):
            self._blocks.append(np.ascontiguousarray(samples, dtype="<f4"))
            self.end += len(samples)

    def read(self, first: int, count: int) -> Samples:
        """Up to `count` samples from number `first` on. ValueError when they were released already."""
        if first < self.start:
            raise ValueError(f"sample {first} was released; the oldest kept is {self.start}")
        found: list[Samples] = []
        at = self.start
        for block in self._blocks:
            if count <= 0:
                break
            skip = max(0, first - at)
            part = block[skip : skip + count]
            at += len(block)
            if len(part):
                found.append(part)
                first += len(part)
                count -= len(part)
        return np.concatenate(found) if found else np.zeros(0, dtype="<f4")

    def cut(self, after: int) -> None:
        """Forget every sample from number `after` on, which lies in what is kept."""
        kept = self.read(self.start, after - self.start)
        self._blocks, self.end = [kept], self.start + len(kept)

    def release(self, before: int) -> None:
        """Forget whole blocks that lie before sample number `before`."""
        while self._blocks and self.start + len(self._blocks[0]) <= before:
            self.start += len(self._blocks.pop(0))


@dataclass(slots=True)
class Connection:
    """One connection of a stream: what may be said next, and what an answer means."""

    uid: str
    language: str | None = None
    task: str = "transcribe"
    model: str | None = None
    use_vad: bool = True
    offset: int = 0
    """Absolute number of this connection's first sample."""

    state: State = field(default=State.HANDSHAKE, init=False)
    next_sample: int = field(default=0, init=False)
    """Absolute number of the next sample to send."""
    confirmed: int = field(default=0, init=False)
    """Everything before this absolute number was processed by the server."""
    ready_at: float = field(default=0.0, init=False)
    _progress_seen: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.next_sample = self.confirmed = self.offset

    def hello(self) -> str:
        """The first message: WhisperLive's handshake."""
        wish: dict[str, Any] = {
            "uid": self.uid,
            "task": self.task,
            "language": self.language,
            "use_vad": self.use_vad,
        }
        if self.model:
            wish["model"] = self.model
        return json.dumps(wish)

    def receive(self, message: str | bytes, now: float) -> Event | None:
        """Read one message; None for those that mean nothing to a listener. Unknown ones are ignored."""
        try:
            said = json.loads(message)
        except ValueError:
            return None
        if not isinstance(said, dict):
            return None
        if said.get("message") == "SERVER_READY" and self.state is State.HANDSHAKE:
            self.state, self.ready_at = State.STREAMING, now
            return Ready(str(said.get("backend", "")))
        if said.get("message") == "DISCONNECT":
            return Notice("the server ends this connection: its time limit is reached")
        if isinstance(said.get("segments"), list):
            return self._segments([s for s in said["segments"] if isinstance(s, dict)])
        return self._status(said)

    def _status(self, said: dict[str, Any]) -> Event | None:
        match said.get("status"):
            case "PROGRESS":
                self._progress_seen = True
                self._confirm(said.get("processed_until"))
                return Progress(self.confirmed)
            case "END":
                self.state = State.ENDED
                self.confirmed = max(self.confirmed, self.next_sample)
                return Ended()
            case "NOTICE":
                reason = str(said.get("reason") or "the server will close").rstrip(".")
                return Notice(f"{reason}, closing at {said.get('closing_at')}")
            case "WAIT":
                return Notice("the GPU is full")
            case "WARNING" | "ERROR":
                return Notice(str(said.get("message") or "the server warns without saying of what"))
            case _:
                return None

    def _segments(self, segments: list[dict[str, Any]]) -> Segments:
        for segment in segments:
            if segment.get("completed"):
                self._confirm(segment.get("end"))
        return Segments(segments, self.offset / RATE)

    def _confirm(self, seconds: Any) -> None:
        """Server seconds on this connection to an absolute sample; never back, never beyond what was sent."""
        try:
            sample = self.offset + round(float(seconds) * RATE)
        except (TypeError, ValueError, OverflowError):
            return
        self.confirmed = max(self.confirmed, min(sample, self.next_sample))

    def allowance(self, now: float) -> int:
        """How many samples may be sent now without leaving too much unconfirmed."""
        if self.state is not State.STREAMING:
            return 0
        if self._progress_seen:
            limit = self.confirmed + WINDOW_S * RATE
        else:
            limit = self.offset + (BURST_S + STOCK_SPEED * (now - self.ready_at)) * RATE
        return max(0, int(limit) - self.next_sample)

    def frame(self, backlog: Backlog, now: float) -> bytes | None:
        """The next frame to send, or None while there is nothing to send or it must wait."""
        count = min(FRAME_SAMPLES, self.allowance(now), backlog.end - self.next_sample)
        if count <= 0:
            return None
        samples = backlog.read(self.next_sample, count)
        self.next_sample += len(samples)
        return samples.tobytes()

    def end(self) -> bytes:
        """Everything was sent: the frame that asks for the last words."""
        self.state = State.ENDING
        return END_OF_AUDIO

    def closed(self, code: int | None, reason: str) -> Closing:
        """The socket is closed; what that means. The server's own reason wins over ours."""
        ended = self.state is State.ENDED
        self.state = State.CLOSED
        if ended:
            return Closing(code, "done", final=True)
        known = FINAL_CODES.get(code or 0) or RETRY_CODES.get(code or 0)
        if code == 1000:
            known = "the server ended without confirming the last words"
        elif known is None:
            known = "the connection was lost" if code in DROPPED_CODES else f"the server closed with code {code}"
        return Closing(code, f"{known}: {reason}" if reason else known, final=code in FINAL_CODES)
