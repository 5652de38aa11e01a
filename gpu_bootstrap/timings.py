"""How long things took lately, as percentiles: what the host report, /health and the metrics say."""

from __future__ import annotations

import math
import time
from collections import deque

REMEMBERED = 200
"""Measurements that a percentile is of."""


class Lately:
    """The last REMEMBERED measurements, in seconds; written and read from any thread."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._added_at: float | None = None

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)
        self._added_at = time.monotonic()

    def ago(self) -> float | None:
        """Seconds since the last measurement; None before the first."""
        return None if self._added_at is None else round(time.monotonic() - self._added_at, 1)

    def percentile(self, percent: float) -> float | None:
        """The smallest measurement that `percent` % of them do not exceed (nearest rank); None before the first."""
        measured = sorted(self._seconds.copy())
        if not measured:
            return None
        return round(measured[max(0, math.ceil(percent / 100 * len(measured)) - 1)], 3)


class Arrivals:
    """When a stream's audio came: written by the thread that receives, read by the one that decodes."""

    def __init__(self) -> None:
        self._came: deque[tuple[float, float]] = deque()
        self._last: float | None = None

    def note(self, received_s: float, now: float) -> None:
        """`received_s` seconds of the stream have come by `now` (monotonic)."""
        self._came.append((received_s, now))

    def when(self, second: float) -> float | None:
        """When the stream's `second` had come; None before any audio. Later questions ask for later seconds."""
        while self._came:
            received_s, self._last = self._came[0]
            if received_s >= second:
                break
            self._came.popleft()
        return self._last
