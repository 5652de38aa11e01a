"""The streams alive on this host: who has a place, since when, and when audio last came."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gpu_bootstrap import closing
from gpu_bootstrap.errors import HostFullError

CANARY = "canary-"
"""So begins the sid of the control plane's own stream. It speaks for three seconds, beside the places: it takes none
from anybody, and no report shows it, since nobody speaks there."""


@dataclass(eq=False)
class Stream:
    """One stream that has a place. Times are seconds of the monotonic clock."""

    sid: str
    """The session's id; a name of our own for a stream without a session."""
    uid: str
    end: Callable[[closing.Ending], None]
    """Asks the stream to end; returns at once."""
    since: float
    last_audio: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.last_audio = self.last_audio or self.since


class Registry:
    """Places for at most `max_streams` streams; a session's newer stream takes the place of its older one."""

    def __init__(self, max_streams: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_streams = max_streams
        self._clock = clock
        self._lock = threading.Lock()
        self._streams: list[Stream] = []
        self._connections = 0
        self._quiet = threading.Condition(self._lock)
        self._anonymous = itertools.count(1)

    def name_anonymous(self) -> str:
        """A name for a stream without a session, unlike any session's id."""
        return f"anonymous-{next(self._anonymous)}"

    def admit(self, stream: Stream) -> None:
        """Give the stream a place; raises HostFullError. An older stream of the same session is ended (4412).

        A canary is let in while there is a free place, and leaves it free.
        """
        with self._lock:
            older = next((s for s in self._streams if s.sid == stream.sid), None)
            if older is not None:
                self._streams.remove(older)
            elif sum(not s.sid.startswith(CANARY) for s in self._streams) >= self.max_streams:
                raise HostFullError(closing.NO_PLACE.reason)
            self._streams.append(stream)
        if older is not None:
            older.end(closing.TAKEN_OVER)

    def release(self, stream: Stream) -> None:
        """Give the place back; a stream that has none (any more) changes nothing."""
        with self._lock:
            if stream in self._streams:
                self._streams.remove(stream)

    def live(self) -> list[Stream]:
        with self._lock:
            return list(self._streams)

    def report(self) -> list[dict[str, object]]:
        """`streams` of the host link: `[{sid, since, last_audio_s}]`, in seconds before now."""
        now = self._clock()
        return [
            {"sid": s.sid, "since": round(now - s.since, 1), "last_audio_s": round(now - s.last_audio, 1)}
            for s in self.live()
            if not s.sid.startswith(CANARY)
        ]

    def connection_opened(self) -> None:
        with self._lock:
            self._connections += 1

    def connection_closed(self) -> None:
        with self._quiet:
            self._connections -= 1
            self._quiet.notify_all()

    def wait_until_quiet(self, timeout_s: float) -> bool:
        """Whether every connection, with a place or without, was closed within `timeout_s` seconds."""
        with self._quiet:
            return self._quiet.wait_for(lambda: self._connections == 0, timeout_s)
