"""Taking turns at the one model: speech that is being spoken first, then who came first.

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
    """A lock for `with turns.take():`, handed over in order; `first` goes before those that are not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = False
        self._first: deque[threading.Event] = deque()
        self._later: deque[threading.Event] = deque()
        self._passed_over = 0

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        with self._lock:
            return len(self._first) + len(self._later)

    @contextmanager
    def take(self, *, first: bool = True) -> Iterator[None]:
        """Wait for the turn, and have it for the length of the `with` block."""
        mine: threading.Event | None = None
        with self._lock:
            if self._busy:
                mine = threading.Event()
                (self._first if first else self._later).append(mine)
            self._busy = True
        if mine is not None:
            mine.wait()
        try:
            yield
        finally:
            self._hand_over()

    def _hand_over(self) -> None:
        with self._lock:
            if self._first and not (self._later and self._passed_over >= PASSED_OVER):
                self._passed_over += 1 if self._later else 0
                self._first.popleft().set()
            elif self._later:
                self._passed_over = 0
                self._later.popleft().set()
            else:
                self._busy = False
