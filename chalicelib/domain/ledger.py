"""What being awake cost, and how long waking takes: both learned from transitions.

A span is one time awake of one machine, in EC2's own billing terms: from the start to the leaving of
`running`, at least one minute. Prices are AWS's on-demand Linux prices of us-east-1, the region the
predecessor's guide quoted; a type that is not listed costs None, which is shown as unknown and never as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from chalicelib.domain.wishes import Session

PRICES_PER_HOUR = {
    "g4dn.xlarge": 0.526,
    "g4dn.2xlarge": 0.752,
    "g5.xlarge": 1.006,
    "g5.2xlarge": 1.212,
    "g6.xlarge": 0.8048,
    "t3.medium": 0.042,
}
"""Dollars, Linux, on demand."""

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
    sessions: int = 0
    lost_s: float = 0.0
    """Seconds of speech that the sessions' clients said were lost."""

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


def receipt(span: Span, clock: Callable[[float], str]) -> str:
    """`awake 18:52-22:41, $2.01, 3 sessions, 0.0 s lost`."""
    over = span.started_at if span.stopped_at is None else span.stopped_at
    spent = cost([span], span.started_at, over + BILLING_MINIMUM_S)
    price = "price unknown" if spent is None else f"${spent:.2f}"
    sessions = "1 session" if span.sessions == 1 else f"{span.sessions} sessions"
    return f"awake {clock(span.started_at)}-{clock(over)}, {price}, {sessions}, {span.lost_s:.1f} s lost"


def with_sessions(span: Span, sessions: Iterable[Session]) -> Span:
    """The span with the sessions that fell into it."""
    over = span.started_at if span.stopped_at is None else span.stopped_at
    met = [
        one for one in sessions if one.created_at < over and (one.ended_at is None or one.ended_at > span.started_at)
    ]
    return replace(span, sessions=len(met), lost_s=sum(one.lost_seconds or 0.0 for one in met))


@dataclass(frozen=True)
class Wake:
    """One waking, from the start call to the first ready, in seconds; before it, the search for capacity."""

    at: float
    boot_s: float
    service_s: float
    sought_s: float = 0.0

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


USUAL_WAKE_S = 120.0
"""Taken for the median while there is no history."""


def median_wake(wakes: Sequence[Wake]) -> float:
    """Seconds that a waking usually takes."""
    return _percentile(sorted(one.total_s for one in wakes), 0.5) if wakes else USUAL_WAKE_S


UNKNOWN_WAKE_S = 240.0
"""Taken for the 90th percentile while there is no history: 40 to 120 s of boot, then the model."""
FEW = 3
NOTICE_S = 120.0
"""One tick may be missed, and who booked is told while there is still time to do something."""


def lead(wakes: Sequence[Wake]) -> float:
    """How long before a booking to wake: the 90th percentile of waking and of seeking capacity, and some notice."""
    if len(wakes) < FEW:
        return UNKNOWN_WAKE_S + NOTICE_S
    waking = _percentile(sorted(one.total_s for one in wakes), 0.9)
    seeking = _percentile(sorted(one.sought_s for one in wakes), 0.9)
    return waking + seeking + NOTICE_S


def _percentile(ordered: Sequence[float], share: float) -> float:
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
