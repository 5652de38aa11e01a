"""When to report next."""

from __future__ import annotations

import math


class Pace:
    """When to report next; seconds of a monotonic clock handed in, chance in [0, 1) too."""

    FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 30.0

    def __init__(self) -> None:
        self._due = -math.inf
        self._failures = 0
        self._told: tuple[object, ...] | None = None

    def is_due(self, now: float, changed_to: tuple[object, ...]) -> bool:
        """Whether to report now: the pause is over, or something changed and the last report went through."""
        return now >= self._due or (not self._failures and changed_to != self._told)

    def answered(self, now: float, told: tuple[object, ...], next_report_s: float) -> None:
        self._failures, self._told, self._due = 0, told, now + next_report_s

    def failed(self, now: float, chance: float) -> float:
        """Wait longer after each failure, no two hosts alike; returns the seconds until the next try."""
        pause = min(self.FIRST_RETRY_S * 2.0**self._failures, self.LONGEST_RETRY_S) * (0.5 + chance / 2)
        self._failures = min(self._failures + 1, 16)
        self._due = now + pause
        return pause
