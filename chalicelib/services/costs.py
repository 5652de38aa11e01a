"""What the GPUs cost: a period's times awake from the ledger, against one that is always on."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from typing import Any

from chalicelib.domain.ledger import PRICES_PER_HOUR, Span, cost, receipt
from chalicelib.domain.rules import Rules
from chalicelib.domain.times import month_of, to_text, to_text_or_none
from chalicelib.services.context import Context
from chalicelib.services.control import load
from chalicelib.services.notices import all_spans

PERIODS = ("day", "week", "month")
COLUMNS = ("start", "end", "instance_id", "type", "seconds", "cost", "sessions", "lost_seconds")


def costs(context: Context, period: str) -> dict[str, Any]:
    """The period that runs now, from its begin on the stack's calendar; prices in dollars, None where unknown."""
    control = load(context.store)
    now = context.clock()
    begin = begin_of(period, context.rules, now)
    observation = control.observation(now)
    spans = all_spans(context.store, observation, context.rules, begin)
    spent = cost(spans, begin, now)
    types = sorted({view.machine.type for view in observation.gpus})
    always = PRICES_PER_HOUR.get(types[0]) if len(types) == 1 else None
    always_on = None if always is None else round((now - begin) / 3600 * always, 4)
    return {
        "period": period,
        "from": to_text(begin),
        "until": to_text(now),
        "currency": "USD",
        "gpu_hours": round(sum(one.seconds(begin, now) for one in spans) / 3600, 4),
        "cost": spent,
        "always_on": always_on,
        "saved": None if always_on is None or spent is None else round(always_on - spent, 4),
        "budget": _budget(context, now),
        "spans": [_row(one, begin, now, context.rules) for one in spans],
    }


def as_csv(answer: dict[str, Any]) -> str:
    """The times awake of `costs` as RFC 4180 CSV with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(answer["spans"])
    return out.getvalue()


def begin_of(period: str, rules: Rules, now: float) -> float:
    """When the day, the week (Monday) or the month began on the stack's calendar."""
    if period == "month":
        return month_of(now, rules.zone)[1]
    today = datetime.fromtimestamp(now, rules.zone)
    day = today - timedelta(days=today.weekday() if period == "week" else 0)
    return day.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def _budget(context: Context, now: float) -> dict[str, Any] | None:
    budget = context.settings.monthly_budget
    if not budget:
        return None
    month, begin = month_of(now, context.rules.zone)
    observation = load(context.store).observation(now)
    spent = cost(all_spans(context.store, observation, context.rules, begin), begin, now)
    return {"month": month, "dollars": budget, "spent": spent}


def _row(span: Span, begin: float, now: float, rules: Rules) -> dict[str, Any]:
    return {
        "start": to_text(span.started_at),
        "end": to_text_or_none(span.stopped_at),
        "instance_id": span.instance_id,
        "type": span.type,
        "seconds": round(span.seconds(begin, now), 1),
        "cost": cost([span], begin, now),
        "sessions": span.sessions,
        "lost_seconds": span.lost_s,
        "receipt": None if span.stopped_at is None else receipt(span, rules.clock),
    }
