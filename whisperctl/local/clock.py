"""The stand-in's clock: real time plus what tests added, and a timeline of things to do by it.

`POST /_standin/clock {"advance_s": 600}` moves it forward and wakes whoever waits on it, so that ten minutes of
idling take no time. It never goes back.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 3600.0


class StandInClock:
    """Epoch seconds of the embedded cloud; safe to use from any thread."""

    def __init__(self, real: Callable[[], float] = time.time) -> None:
        self._real = real
        self._ahead = 0.0
        self.moved = threading.Condition()
        """Notified at every advance; also guards what sleeps on the clock."""

    def now(self) -> float:
        """Epoch seconds."""
        return self._real() + self._ahead

    def utc(self) -> datetime:
        """The same moment as an aware datetime."""
        return datetime.fromtimestamp(self.now(), UTC)

    def advance(self, seconds: float) -> float:
        """Move forward by `seconds` (finite, 0 or more), wake all sleepers, return the new now."""
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"the clock moves forward only, not by {seconds} seconds")
        with self.moved:
            self._ahead += seconds
            self.moved.notify_all()
            return self.now()


class Timeline:
    """Runs each thing at its moment of the stand-in clock, every one in a thread of its own.

    A thread each, because some of them wait (a host's processes take time to end) and must not hold up the rest.
    """

    def __init__(self, clock: StandInClock) -> None:
        self.clock = clock
        self._due: list[tuple[float, int, str, Callable[[], None]]] = []
        self._number = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="timeline", daemon=True)
        self._thread.start()

    def after(self, seconds: float, what: str, action: Callable[[], None]) -> None:
        """Run `action` once the clock has moved `seconds` from now; `what` names it in the log if it raises."""
        with self.clock.moved:
            heapq.heappush(self._due, (self.clock.now() + seconds, next(self._number), what, action))
            self.clock.moved.notify_all()

    def close(self) -> None:
        """Run nothing any more; what runs already is left to end by itself."""
        with self.clock.moved:
            self._closed = True
            self.clock.moved.notify_all()
        self._thread.join(5)

    def _run(self) -> None:
        while (entry := self._next()) is not None:
            what, action = entry
            threading.Thread(target=_logged, args=(what, action), name=what, daemon=True).start()

    def _next(self) -> tuple[str, Callable[[], None]] | None:
        with self.clock.moved:
            while not self._closed:
                left = self._due[0][0] - self.clock.now() if self._due else LONGEST_WAIT_S
                if left <= 0:
                    _moment, _number, what, action = heapq.heappop(self._due)
                    return what, action
                self.clock.moved.wait(min(left, LONGEST_WAIT_S))
            return None


def _logged(what: str, action: Callable[[], None]) -> None:
    try:
        action()
    except Exception:  # one failing transition must not take the others with it
        log.exception("%s failed", what)
