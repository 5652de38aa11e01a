"""What a pass tells people: alerts that hold, bookings that are ready or late, the receipt of a time awake.

All become events, each once, and messages that wait for the next tick (`notifications`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chalicelib.domain.alerts import Alert, alerts, budget_alert, scarce
from chalicelib.domain.bookings import BookingNews, news
from chalicelib.domain.ledger import Span, cost, receipt, with_sessions
from chalicelib.domain.machines import Observation
from chalicelib.domain.repair import probe_alerts
from chalicelib.domain.rules import Rules
from chalicelib.domain.times import month_of, to_text
from chalicelib.ports import Key, Put, Store, Write
from chalicelib.services.control import (
    KEPT_S,
    LEDGER,
    NOTICES,
    Control,
    booking_key,
    data_of,
    spans_from,
)
from chalicelib.services.events import Cause, event
from chalicelib.services.outbox import tell


@dataclass(frozen=True)
class Notices:
    """What is to be told after one look; `keys` are all alerts that hold now."""

    keys: tuple[str, ...] = ()
    alerts: tuple[Alert, ...] = ()
    bookings: tuple[BookingNews, ...] = ()

    def any(self, control: Control) -> bool:
        """Whether there is something to write."""
        return bool(self.bookings) or set(self.keys) != set(control.notices)


def find(
    control: Control, observation: Observation, rules: Rules, now: float, *, ready: bool, spent: Alert | None
) -> Notices:
    """Compare what holds with what was told."""
    holding = list(alerts(observation, control.wishes, rules, now, control.notices))
    holding += probe_alerts(control.health, rules, now)
    keys = [one.key for one in holding]
    month, _ = month_of(now, rules.zone)
    if spent is not None:
        holding.append(spent)
        keys.append(spent.key)
    elif f"budget#{month}" in control.notices:
        keys.append(f"budget#{month}")  # a month's money does not come back
    fresh = tuple(one for one in holding if one.key not in control.notices)
    told = news(control.wishes, rules, now, ready=ready, scarce=scarce(observation, rules, now))
    return Notices(tuple(sorted(keys)), fresh, told)


def budget_spent(
    store: Store, control: Control, observation: Observation, rules: Rules, budget: float, now: float
) -> Alert | None:
    """The alert when this month's GPUs cost more than `budget` dollars; asks the ledger only while it may matter."""
    awake = [view for view in observation.gpus if view.memory.awake_since is not None]
    month, begin = month_of(now, rules.zone)
    if not budget or not awake or f"budget#{month}" in control.notices:
        return None
    spent = cost(all_spans(store, observation, rules, begin), begin, now)
    return budget_alert(month, spent, budget) if spent is not None and spent >= budget else None


def all_spans(store: Store, observation: Observation, rules: Rules, begin: float) -> list[Span]:
    """The times awake that reach past `begin`, the running ones included."""
    # A span may have begun before, but none is much longer than the hard maximum.
    spans = spans_from(store.partition(LEDGER, after=to_text(begin - rules.hard_max_s - 3600)))
    for view in observation.gpus:
        if view.memory.awake_since is not None:
            spans.append(Span(view.instance_id, view.machine.type, view.memory.awake_since))
    return [one for one in spans if one.stopped_at is None or one.stopped_at > begin]


def notice_writes(told: Notices, control: Control, cause: Cause, now: float) -> list[Write]:
    """The events, and the marks that keep them from being told again."""
    writes: list[Write] = []
    if set(told.keys) != set(control.notices):
        writes.append(Put(NOTICES, {"keys": list(told.keys)}, expect=control.version(NOTICES)))
    for alert in told.alerts:
        writes += told_event(now, cause, alert.action, alert.target, alert.reason)
    for one in told.bookings:
        key = booking_key(one.booking.id)
        kept = None if one.booking.zone else one.booking.end + KEPT_S
        writes.append(Put(key, data_of(one.booking), control.version(key), kept))
        writes += told_event(now, cause, one.action, one.booking.id, one.reason)
    return writes


def span_writes(spans: Iterable[Span], control: Control, rules: Rules, cause: Cause, now: float) -> Sequence[Write]:
    """The ledger's entry of each time awake that ended, with its receipt."""
    writes: list[Write] = []
    for ended in spans:
        span = with_sessions(ended, control.wishes.sessions)
        writes.append(Put(Key(LEDGER, f"{to_text(span.started_at)}#{span.instance_id}"), data_of(span)))
        writes += told_event(now, cause, "gpu.receipt", span.instance_id, receipt(span, rules.clock))
    return writes


def told_event(now: float, cause: Cause, action: str, target: str, reason: str) -> list[Write]:
    """An event that people are told of as well."""
    return [event(now, cause, action, target, reason), tell(now, action, target, reason)]
