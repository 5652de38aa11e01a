"""Taking turns at the model's workers: speech that is being spoken first, then who came first.

A plain lock may go to the same thread again and again, so that a stream with a long backlog starves the others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

PASSED_OVER = 6
"""So many decodes of live speech may go before one of a backlog that waits already."""


class Turns:
    """`with turns.take():` has one of `places`, handed over in order.

    `first` goes before those that are not, and these begin only while no other decode runs: a worker is left for
    who speaks just then, and two decodes at once are each slower than one.
    """

    def __init__(self, places: int = 1) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._running = 0
        self._first: deque[threading.Event] = deque()
        self._later: deque[threading.Event] = deque()
        self._passed_over = 0

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        with self._lock:
            return len(self._first) + len(self._later)

    @property
    def running(self) -> int:
        """How many have a turn."""
        with self._lock:
            return self._running

    @contextmanager
    def take(self, *, first: bool = True) -> Iterator[None]:
        """Wait for the turn, and have it for the length of the `with` block."""
        mine = threading.Event()
        with self._lock:
            (self._first if first else self._later).append(mine)
            self._admit()
        mine.wait()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._admit()

    def _admit(self) -> None:
        """Give free places to who waits; with the lock held."""
        while self._running < self._places:
            overdue = bool(self._later) and self._passed_over >= PASSED_OVER
            if self._first and not overdue:
                self._passed_over += 1 if self._later else 0
                chosen = self._first
            elif self._later and (overdue or not self._running):
                self._passed_over = 0
                chosen = self._later
            else:
                return
            self._running += 1
            chosen.popleft().set()
