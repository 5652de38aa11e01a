"""The audit: one event per act, none for a pass that did nothing."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass
from typing import Any

from chalicelib.domain.times import from_text, to_text
from chalicelib.errors import BadRequest
from chalicelib.ports import Key, Put, Store
from chalicelib.telemetry import correlation_id

EVENTS = "events"
KEPT_S = 90 * 86400.0
PAGE = 200

_sequence = itertools.count()


@dataclass(frozen=True)
class Cause:
    """Who made a pass or a call happen (`actor`), and by what (`trigger`, e.g. "tick")."""

    actor: str
    trigger: str


def event(now: float, cause: Cause, action: str, target: str, reason: str) -> Put:
    """The write that records an act; goes into the transaction that records its outcome."""
    at = to_text(now)
    data = {
        "at": at,
        "actor": cause.actor,
        "action": action,
        "target": target,
        "reason": reason,
        "trigger": cause.trigger,
        "correlation_id": correlation_id(),
    }
    # Several acts may share a millisecond; the count keeps those of one container in order.
    return Put(Key(EVENTS, f"{at}_{next(_sequence):08d}{secrets.token_hex(4)}"), data, expires_at=now + KEPT_S)


def since(store: Store, cursor: str, now: float) -> dict[str, Any]:
    """Events after `cursor` (an earlier answer's `next`, or an RFC 3339 time; empty: the last day), newest last."""
    after = cursor if "_" in cursor else _after(cursor, now)
    records = store.partition(EVENTS, after=after, limit=PAGE)
    return {"events": [dict(one.data) for one in records], "next": records[-1].key.sk if records else after}


def _after(cursor: str, now: float) -> str:
    if not cursor:
        return to_text(now - 86400)
    try:
        return to_text(from_text(cursor.replace(" ", "+")))
    except ValueError as error:
        words = "since must be the next of an earlier answer or a time like 2026-11-22T17:00:00Z."
        raise BadRequest(words) from error
