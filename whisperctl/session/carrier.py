"""Carries captured samples to the server, whatever happens to connections: events in, effects out.

No socket, no clock, no thread: a shell tells what happened and when (seconds of any clock that only grows), and
does what it is told. docs/lossless.md describes the algorithm; `site/js/session/carrier.js` is the same machine, and
tests/session/vectors hold both to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from whisperctl.session.codes import Then, meaning
from whisperctl.session.connection import FRAME_SAMPLES, RATE, Connection, State
from whisperctl.session.transcript import Segment, Transcript

OVERLAP = RATE
"""Samples before what is confirmed that a later connection hears again."""
SOCKET_BUFFER = 4 * RATE * 4
"""Bytes a socket may hold before we wait: four seconds of audio."""
OPEN_S, OPEN_LONG_S = 2.0, 8.0
"""How long a connection may take to open. Every third try in a row, and the first ever, is given the longer time."""
GREET_S = 5.0
"""How long SERVER_READY may take."""
BACKOFF_S, BACKOFF_CAP_S, FULL_CAP_S = 0.25, 1.5, 5.0
"""Full jitter: the n-th try in a row begins a random part of min(cap, 0.25 * 2^n) after the one before it began."""
SILENCE_S, MOST_SILENCE_S = 5.0, 60.0
"""A server that sends PROGRESS says something every two seconds; this long without a word is a dead connection."""
FLUSH_S, STOCK_FLUSH_S = 6.0, 30.0
"""How long it may be silent after END_OF_AUDIO, with PROGRESS and without."""
FLUSHES = 3
"""How often END_OF_AUDIO is tried before the server is believed to be unable to answer it."""
LAPSED_S = 150.0
"""A session nobody heard of for three minutes ends; after this long its end is no surprise, and no one's decision."""
HELD_S = 3.0
"""As much audio under way, or waiting for the socket, for as long, is told as a slow network."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a socket, with the ticket in hand."""

    conn: int


@dataclass(frozen=True, slots=True)
class Hello:
    """The socket is open: send the handshake."""

    conn: int


@dataclass(frozen=True, slots=True)
class Audio:
    """Send samples `first` to `first + count`."""

    conn: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class End:
    """Send END_OF_AUDIO."""

    conn: int


@dataclass(frozen=True, slots=True)
class Close:
    """Close the socket; nothing it still says counts."""

    conn: int


@dataclass(frozen=True, slots=True)
class Renew:
    """The session lapsed while nobody could be reached: open another one, and tell its place."""


@dataclass(frozen=True, slots=True)
class Words:
    """These segments became final; the open words may have changed too."""

    finals: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should read."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Over:
    """The end. `complete`: every word is final."""

    complete: bool
    code: int | None
    sentence: str


Effect = Connect | Hello | Audio | End | Close | Renew | Words | Notice | Over


class Carrier:
    """One stream. Every method takes the time `now` and returns what is to be done, in order."""

    def __init__(
        self,
        *,
        buffered: Callable[[int], int] = lambda _: 0,
        jitter: Callable[[], float],
        patience_s: float = math.inf,
    ) -> None:
        """`buffered`: bytes that a connection's socket still holds. `jitter`: random numbers from 0 to 1.

        `patience_s`: how long no connection may be had before the rest is given up.
        """
        self.transcript = Transcript()
        self.end = 0
        """Number after the newest captured sample."""
        self.confirmed = 0
        """Everything before was processed: its words are final, or there are none."""
        self.decoded = 0
        self.reconnects = 0
        """Connections that carried audio after the first one."""
        self.over: Over | None = None
        self.full = False
        self.was_live = False
        self._buffered, self._jitter, self._patience_s = buffered, jitter, patience_s
        self._out: list[Effect] = []
        self._ids = self._greeted = 0
        """The newest connection's number, and the newest that sent its handshake."""
        self._current: Connection | None = None
        """Carries the audio."""
        self._next: Connection | None = None
        """Is being opened, to take over."""
        self._finished = self._ticket = self._progress = False
        self._failures = self._flushes = 0
        self._retry_at = self._attempt_at = -math.inf
        self._silence_s = SILENCE_S
        self._suspect = False
        self._contact_at = -math.inf
        self._out_since: float | None = None
        self._held_since: float | None = None
        self._held = False

    # What a shell looks at

    @property
    def state(self) -> str:
        """`waiting` for a ticket, `connecting`, `live`, `reconnecting`, `full`, `finishing`, `over`."""
        if self.over:
            return "over"
        if self._current and not self._suspect:
            return "finishing" if self._current.state is State.ENDING else "live"
        if self.full:
            return "full"
        if self.was_live:
            return "reconnecting"
        return "connecting" if self._ticket else "waiting"

    @property
    def keep_from(self) -> int:
        """Samples before this one are never needed again."""
        return max(0, self.confirmed - OVERLAP)

    @property
    def known(self) -> float:
        """Seconds that a connection which says hello now is to hear again, though all was said of them; or more."""
        return (self.confirmed - self.keep_from) / RATE

    @property
    def sent(self) -> int:
        """Number after the newest sample that was sent."""
        return self._current.next_sample if self._current else self.confirmed

    @property
    def slow_network(self) -> bool:
        """Audio does not get to the server as fast as it comes; it is kept."""
        return self._held

    @property
    def behind_s(self) -> float:
        """How far the words are behind what was captured."""
        return (self.end - max(self.confirmed, self.decoded)) / RATE

    @property
    def lost_s(self) -> float:
        """Captured and known never to become words."""
        return (self.end - self.confirmed) / RATE if self.over else 0.0

    @property
    def wants_place(self) -> bool:
        """Whether the API is to be asked for the session's place: there is no ticket, or it opens nothing now."""
        return not self.over and self._current is None and (not self._ticket or self.full or self._failures > 2)

    # What a shell tells

    def place(self, now: float) -> list[Effect]:
        """A ticket is in hand (again)."""
        if not self._ticket or self.full:
            self._retry_at = min(self._retry_at, max(now, self._attempt_at + 1.0))
        if self._out_since is None and not self._ticket:
            self._out_since = now
        self._ticket = True
        self.contact(now)
        return self._go_on(now)

    def contact(self, now: float) -> None:
        """The API answered for this session."""
        self._contact_at = now

    def captured(self, end: int, now: float) -> list[Effect]:
        self.end = end
        return self._go_on(now)

    def finish(self, now: float) -> list[Effect]:
        """Nothing more will be captured."""
        self._finished = True
        return self._go_on(now)

    def opened(self, conn: int, now: float) -> list[Effect]:
        if self._next and self._next.id == conn and self._next.state is State.OPENING:
            self._next.state, self._next.began_at, self._greeted = State.GREETED, now, conn
            self._out.append(Hello(conn))
        return self._go_on(now)

    def message(self, conn: int, text: str | bytes, now: float) -> list[Effect]:
        """Unknown messages, and those of connections that do not count any more, mean nothing."""
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if isinstance(said, dict):
            if self._current and self._current.id == conn:
                self._hear(self._current, said, now)
            elif self._next and self._next.id == conn:
                self._hear_next(said, now)
        return self._go_on(now)

    def closed(self, conn: int, code: int | None, reason: str, now: float) -> list[Effect]:
        """A socket is closed, or could not be opened (`code` None or 1006)."""
        if self._next and self._next.id == conn:
            self._next = None
            self._refused(code, reason, now)
        elif self._current and self._current.id == conn:
            current, self._current = self._current, None
            self._suspect = False
            self._dropped(current, code, reason, now)
        return self._go_on(now)

    def session_over(self, sentence: str, now: float) -> list[Effect]:
        """The API says that the session has ended; where it still streams, the server will say so itself."""
        if self._current is None or self._suspect:
            self._no_more(Then.REFUSED, None, sentence, now)
        return self._go_on(now)

    def online(self, now: float) -> list[Effect]:
        """The system says that the network is back: nothing that hangs is waited for."""
        self._retry_at = now
        if self._next and self._next.state is State.OPENING:
            self._abandon_next()
        return self._go_on(now)

    def tick(self, now: float) -> list[Effect]:
        """Time passes; to be called at least every quarter of a second while nothing else happens."""
        return self._go_on(now)

    def give_up(self, sentence: str, now: float) -> list[Effect]:
        """Nobody waits for the rest, or the API refuses it."""
        self._end(Over(False, None, sentence))
        return self._go_on(now)

    # Connections

    def _go_on(self, now: float) -> list[Effect]:
        if not self.over:
            self._look(now)
            self._pump(now)
        out, self._out = self._out, []
        return out

    def _look(self, now: float) -> None:
        """What time alone brings: hung attempts, silent servers, the next try."""
        if self._next:
            opening = self._next.state is State.OPENING
            if now - self._next.began_at > (self._open_s if opening else GREET_S):
                self._abandon_next()
                self._again(now)
        if self._current and not self._suspect and self._silent(self._current, now):
            self._went_silent(self._current, now)
        if self.over:
            return
        wanted = self._current is None or self._suspect or self._current.closing_soon
        if wanted and self._ticket and not self._next and now >= self._retry_at:
            self._ids += 1
            self._next = Connection(self._ids, now)
            self._attempt_at = now
            self._out.append(Connect(self._ids))
        if self._out_since is not None and now - self._out_since > self._patience_s:
            self._end(Over(False, None, f"no connection for {self._patience_s:.0f} s"))

    @property
    def _open_s(self) -> float:
        return OPEN_LONG_S if not self.was_live or self._failures % 3 == 2 else OPEN_S

    def _silent(self, current: Connection, now: float) -> bool:
        since = now - current.heard_at
        if current.state is State.ENDING:
            return since > (FLUSH_S if self._progress else STOCK_FLUSH_S)
        waits = current.next_sample - current.confirmed > RATE
        return current.progress_seen and waits and since > self._silence_s

    def _went_silent(self, current: Connection, now: float) -> None:
        if current.state is State.ENDING:
            self._flushes += 1
            if not self._progress or self._flushes >= FLUSHES:
                self._end(Over(False, None, "the server ended without confirming the last words"))
                return
        self._silence_s = min(MOST_SILENCE_S, 2 * self._silence_s)
        self._suspect, self._out_since = True, now
        self._retry_at = now

    def _again(self, now: float) -> None:
        """Schedule the next try after one that failed."""
        cap = FULL_CAP_S if self.full else BACKOFF_CAP_S
        delay = self._jitter() * min(cap, BACKOFF_S * 2**self._failures)
        if self.full:
            delay += 1.0
        self._failures = min(self._failures + 1, 30)
        self._retry_at = max(now, self._attempt_at + delay)

    def _abandon_next(self) -> None:
        if self._next:
            self._out.append(Close(self._next.id))
            self._next = None

    def _take_over(self, now: float) -> None:
        """SERVER_READY of the next connection: from now on it carries the audio, and nothing older counts."""
        if self._next is None:
            return
        if self._current:
            self._out.append(Close(self._current.id))
        self._current, self._next = self._next, None
        self._current.ready(self.keep_from, now)
        if self.was_live:
            self.reconnects += 1
        self.transcript.begin(self.keep_from / RATE, self.confirmed / RATE)
        self.was_live, self.full, self._suspect, self._out_since = True, False, False, None

    def _dropped(self, lost: Connection, code: int | None, reason: str, now: float) -> None:
        """The connection that carried the audio is closed."""
        self._out_since = now
        then, sentence = meaning(code, reason)
        if code == 4412 and self._greeted > lost.id:
            then = Then.RETRY  # by ourselves: a newer one has said hello
        if lost.state is State.ENDING and code == 1000:
            self._flushes += 1
        if self._flushes >= (FLUSHES if self._progress else 1):  # a stock server never confirms the end
            self._end(Over(False, code, sentence))
        elif then in (Then.FINAL, Then.REFUSED):
            self._no_more(then, code, sentence, now)
        else:
            self.full = then is Then.WAIT
            if self._next is None:
                if not self.full and (lost.proved or not self._failures):
                    self._failures += not lost.proved
                    self._retry_at = now
                else:
                    self._again(now)

    def _refused(self, code: int | None, reason: str, now: float) -> None:
        """The next connection was closed before it carried anything."""
        then, sentence = meaning(code, reason)
        if then in (Then.FINAL, Then.REFUSED) and (self._current is None or self._suspect):
            self._no_more(then, code, sentence, now)
            return
        self.full = then is Then.WAIT
        if self.full or code not in (None, 1006):
            self._out.append(Notice(sentence))
        self._again(now)

    def _no_more(self, then: Then, code: int | None, sentence: str, now: float) -> None:
        """The ticket opens nothing any more. Where the session merely lapsed, another one carries the rest."""
        if then is Then.REFUSED and now - self._contact_at > LAPSED_S:
            self._ticket = False
            self._abandon_next()
            if self._current:
                self._out.append(Close(self._current.id))
            self._current, self._suspect = None, False
            self._contact_at = now
            self._out.append(Renew())
        else:
            self._end(Over(False, code, sentence))

    def _end(self, over: Over) -> None:
        self._abandon_next()
        if self._current:
            self._out.append(Close(self._current.id))
            self._current = None
        self.over = over
        self._out.append(over)

    # What the server says

    def _hear_next(self, said: dict[str, Any], now: float) -> None:
        if said.get("message") == "SERVER_READY" and self._next and self._next.state is State.GREETED:
            self._take_over(now)
        elif said.get("status") in ("WARNING", "ERROR"):
            self._out.append(Notice(_sentence(said)))

    def _hear(self, current: Connection, said: dict[str, Any], now: float) -> None:
        current.heard_at = now
        if self._suspect:  # it was only slow
            self._suspect, self._out_since = False, None
            if self._next and self._next.state is State.OPENING:
                self._abandon_next()
        if isinstance(said.get("segments"), list):
            segments = [segment for segment in said["segments"] if isinstance(segment, dict)]
            for segment in segments:
                if segment.get("completed"):
                    current.confirm(segment.get("end"))
            self._out.append(Words(tuple(self.transcript.update(segments))))
            self._confirm(current)
            return
        match said.get("status"):
            case "PROGRESS":
                current.progress_seen = self._progress = True
                current.confirm(said.get("processed_until"))
                decoded = current.sample(said.get("decoded_until"))
                self.decoded = max(self.decoded, current.confirmed, decoded or 0)
                current.received = current.sample(said.get("received_until"))
                self._confirm(current)
            case "END" if current.state is State.ENDING:
                self.confirmed = self.decoded = self.end
                self.transcript.finish()
                self._out.append(Words(()))
                self._end(Over(True, 1000, "done"))
            case "NOTICE":
                reason = str(said.get("reason") or "the server will close").rstrip(".")
                self._out.append(Notice(f"{reason}, closing at {said.get('closing_at')}"))
                if current.state is State.STREAMING:
                    current.closing_soon = True
                    self._retry_at = now
            case "WARNING" | "ERROR":
                self._out.append(Notice(_sentence(said)))

    def _confirm(self, current: Connection) -> None:
        if current.confirmed > self.confirmed:
            self.confirmed = current.confirmed
            current.proved = True
            self._failures = self._flushes = 0
            self._silence_s = SILENCE_S

    # Sending

    def _pump(self, now: float) -> None:
        current = self._current
        if current is None:
            self._held, self._held_since = False, None
            return
        room = SOCKET_BUFFER - self._buffered(current.id)
        while room > 0:
            count = min(FRAME_SAMPLES, current.allowance(now), self.end - current.next_sample)
            if count <= 0:
                break
            self._out.append(Audio(current.id, current.next_sample, count))
            current.next_sample += count
            room -= 4 * count
        waits = current.allowance(now) > 0 and current.next_sample < self.end
        if current.received is not None:
            waits = waits or current.next_sample - current.received > HELD_S * RATE
        self._held_since = (now if self._held_since is None else self._held_since) if waits else None
        self._held = self._held_since is not None and now - self._held_since > HELD_S
        if self._finished and current.state is State.STREAMING and current.next_sample == self.end:
            current.state, current.heard_at = State.ENDING, now
            self._out.append(End(current.id))


def _sentence(said: dict[str, Any]) -> str:
    return str(said.get("message") or "the server warns without saying of what")
