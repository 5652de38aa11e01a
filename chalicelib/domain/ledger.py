"""What being awake cost, and how long waking takes: both learned from transitions.

A span is one time awake of one machine, in EC2's own billing terms: from the start to the leaving of
`running`, at least one minute. Prices are AWS's on-demand Linux prices of us-east-1, the region the
predecessor's guide quoted; a type that is not listed costs None, which is shown as unknown and never as 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PRICES_PER_HOUR = {"g4dn.xlarge": 0.526, "t3.medium": 0.042}
"""Dollars; both from the predecessor's guide."""

BILLING_MINIMUM_S = 60.0
HISTORY = 50
"""How many wakes are kept for the estimate."""


@dataclass(frozen=True)
class Span:
    """One time awake; `stopped_at` is None while it lasts."""

    instance_id: str
    type: str
    started_at: float
    stopped_at: float | None = None

    def seconds(self, begin: float, end: float) -> float:
        """Billed seconds that fall into [begin, end)."""
        over = end if self.stopped_at is None else max(self.stopped_at, self.started_at + BILLING_MINIMUM_S)
        return max(0.0, min(over, end) - max(self.started_at, begin))


def cost(spans: Iterable[Span], begin: float, end: float) -> float | None:
    """Dollars in [begin, end); None when a price is not known."""
    total = 0.0
    for span in spans:
        seconds = span.seconds(begin, end)
        if not seconds:
            continue
        price = PRICES_PER_HOUR.get(span.type)
        if price is None:
            return None
        total += seconds / 3600 * price
    return round(total, 4)


@dataclass(frozen=True)
class Wake:
    """One waking, from the start call to the first ready, in seconds."""

    at: float
    boot_s: float
    service_s: float

    @property
    def total_s(self) -> float:
        return self.boot_s + self.service_s


@dataclass(frozen=True)
class Estimate:
    """Seconds that are left."""

    p50: float
    p90: float


def estimate(wakes: Sequence[Wake], elapsed: float) -> Estimate | None:
    """What is left of a waking that has lasted `elapsed` seconds.

    Only wakes that took longer than that say anything about this one; with none of those there is no honest
    number, so None.
    """
    longer = sorted(one.total_s - elapsed for one in wakes if one.total_s > elapsed)
    if not longer:
        return None
    return Estimate(round(_percentile(longer, 0.5), 1), round(_percentile(longer, 0.9), 1))


def _percentile(ordered: Sequence[float], share: float) -> float:
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
