"""The status: what is, why, and what changes it when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chalicelib.domain.ledger import cost
from chalicelib.domain.lifecycle import Next
from chalicelib.domain.machines import Observation, View
from chalicelib.domain.phases import Overview
from chalicelib.domain.rules import admission
from chalicelib.domain.times import to_text, to_text_or_none
from chalicelib.services.context import Context
from chalicelib.services.control import Control, load
from chalicelib.services.estimates import eta
from chalicelib.services.host_link import upstreams
from chalicelib.services.notices import all_spans
from chalicelib.services.probe_views import kept
from chalicelib.services.version import version


def status(context: Context) -> dict[str, Any]:
    """The Status of the HTTP API, from two reads of the table; asks EC2 nothing."""
    control = load(context.store)
    now = context.clock()
    observation = control.observation(now)
    glance = control.overview(context.rules, now)
    return {
        "now": to_text(now),
        "phase": glance.phase.value,
        "since": to_text_or_none(glance.view.memory.state_since if glance.view else None),
        "reason": glance.reason,
        "remedy": glance.remedy,
        "next": _next(glance.next, now),
        "admission": _admission(context, control, now),
        "gpu": _gpu(glance),
        "edge": _edge(observation, now),
        "wishes": _wishes(control, observation, now),
        "eta_seconds": eta(control, glance, now),
        "last_probe": kept(control.health),
        "cost_today": _cost_today(context, observation, now),
        "version": version(),
    }


def _next(follows: Next | None, now: float) -> dict[str, Any] | None:
    if follows is None:
        return None
    at = None if follows.at is None else max(follows.at, now)
    return {"action": follows.action, "at": to_text_or_none(at), "because": follows.because}


def _admission(context: Context, control: Control, now: float) -> dict[str, Any]:
    admitted = admission(control.wishes, control.learned(context.rules), now)
    return {"open": admitted.open, "until": to_text_or_none(admitted.until), "because": admitted.because}


def _gpu(glance: Overview) -> dict[str, Any] | None:
    view = glance.view
    if view is None:
        return None
    report = view.current()
    return {
        "instance_id": view.instance_id,
        "type": view.machine.type,
        "zone": view.machine.zone,
        "state": view.machine.state.value,
        "private_ip": view.machine.private_ip,
        "since": to_text(view.memory.state_since),
        "awake_since": to_text_or_none(view.memory.awake_since),
        "release": report.release if report else None,
        "model": report.model if report else None,
        # Asleep, those of its last report: a model is chosen before the machine wakes.
        "models": list(view.report.models) if view.report else [],
        "device": report.device if report else None,
        "active_streams": len(report.streams) if report else 0,
        "capacity": report.max_streams if report else 0,
        "reported_at": to_text_or_none(report.received_at if report else None),
    }


def _edge(observation: Observation, now: float) -> dict[str, Any] | None:
    if not observation.edges:
        return None
    view: View = observation.edges[0]
    report = view.report
    wanted = {one["host"] for one in upstreams(observation, now)}
    held = set(report.upstreams) if report else set()
    return {
        "instance_id": view.instance_id,
        "state": view.machine.state.value,
        "private_ip": view.machine.private_ip,
        "status": report.status if report else None,
        "release": report.release if report else None,
        "upstreams": sorted(held),
        "upstream_ok": bool(report) and held == wanted,
        "cert_days": report.cert_days if report else None,
        "reported_at": to_text_or_none(report.received_at if report else None),
    }


def _wishes(control: Control, observation: Observation, now: float) -> list[dict[str, Any]]:
    streaming = observation.streaming(now)
    sessions = [
        {
            "kind": "session",
            "id": one.id,
            "since": to_text(one.created_at),
            "until": to_text(one.max_at),
            "streaming": one.id in streaming,
        }
        for one in control.wishes.live_sessions(now, streaming)
    ]
    bookings = [
        {
            "kind": one.kind,
            "id": one.id,
            "since": to_text(one.start),
            "until": to_text(one.until()),
            "by": one.by,
            "note": one.note,
        }
        for one in sorted((two.nearest(now) for two in control.wishes.bookings), key=lambda three: three.start)
        if now < one.until()
    ]
    return [*bookings, *sessions]


def _cost_today(context: Context, observation: Observation, now: float) -> float | None:
    """Dollars of GPU time since midnight of the stack's zone; None: unknown price."""
    today = datetime.fromtimestamp(now, context.rules.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    midnight = today.timestamp()
    spans = all_spans(context.store, observation, context.rules, midnight)
    return cost(spans, midnight, now)
