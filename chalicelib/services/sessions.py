"""Sessions: open, look, heartbeat, close."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from chalicelib.domain.linger import REMEMBERED, gap_before
from chalicelib.domain.machines import Observation
from chalicelib.domain.phases import Overview, Phase
from chalicelib.domain.places import moved, places
from chalicelib.domain.rules import admission
from chalicelib.domain.tickets import sign
from chalicelib.domain.times import clock_text, to_text
from chalicelib.domain.wishes import Session
from chalicelib.errors import Conflict, Gone, Invalid, NotFound, StoreConflict, TooMany, Unavailable
from chalicelib.ports import Key, Put
from chalicelib.services.context import Context
from chalicelib.services.control import GAPS, KEPT_S, Control, data_of, load, session_key
from chalicelib.services.estimates import eta
from chalicelib.services.events import Cause, event
from chalicelib.services.measures import of_heartbeat
from chalicelib.services.ticket_keys import ensure_keys
from chalicelib.services.tokens import Principal, Role

IDEMPOTENCY = "idempotency"
IDEMPOTENCY_KEPT_S = 86400.0
ATTEMPTS = 8

POLL_S = {Phase.READY: 30, Phase.WAKING_BOOT: 1, Phase.WAKING_SERVICE: 1, Phase.WAKING_CAPACITY: 2}
"""Seconds to the next look, by phase; a ready session looks again only for its heartbeat."""
POLL_OTHERWISE_S = 3
POLL_WAITING_S = 3


@dataclass(frozen=True)
class Wanted:
    """What POST /v1/sessions asked for; `minutes` is capped by the settings."""

    language: str | None = None
    model: str | None = None
    task: str | None = None
    minutes: float | None = None


def open_session(
    context: Context, principal: Principal, wanted: Wanted, idempotency_key: str | None, cause: Cause
) -> dict[str, Any]:
    """A new session, or the one this key opened before. Conflict while the night or an operator keeps it closed."""
    now = context.clock()
    again = _opened_before(context, principal, wanted, idempotency_key)
    if again is not None:
        return look(context, principal, again)
    control = load(context.store)
    admitted = admission(control.wishes, control.learned(context.rules), now)
    if not admitted.open:
        until = to_text(admitted.until) if admitted.until is not None else None
        raise Conflict(f"No new session is admitted: {admitted.because}.", closed_until=until)
    longest = context.settings.session_max_minutes
    minutes = longest if wanted.minutes is None else min(wanted.minutes, longest)
    session = Session(
        id=secrets.token_hex(12),
        owner=principal.id,
        created_at=now,
        heartbeat_at=now,
        max_at=now + minutes * 60,
        language=wanted.language,
        model=wanted.model,
        task=wanted.task,
    )
    observation = control.observation(now)
    live = control.wishes.live_sessions(now, observation.streaming(now))
    if sum(one.owner == principal.id for one in live) >= context.settings.sessions_per_token:
        most = context.settings.sessions_per_token
        raise TooMany(f"This token has {most} sessions open, the most it may have; close one.", limit=most)
    host = places(observation, [*live, session], now).get(session.id)
    session = session if host is None else moved(session, host)
    writes = [
        Put(session_key(session.id), data_of(session), 0, session.max_at + KEPT_S),
        event(now, cause, "session.open", session.id, "somebody wants to speak"),
    ]
    if idempotency_key:
        remembered = {"session": session.id, "request": _fingerprint(wanted)}
        key = _idempotency(principal, idempotency_key)
        writes.append(Put(key, remembered, 0, now + IDEMPOTENCY_KEPT_S))
    try:
        context.store.write(*writes)
    except StoreConflict:
        # A write that was sent again since its answer was lost meets itself; else the same key came twice at the
        # same time, and the other one has opened the session.
        if context.store.get(session_key(session.id)) is None:
            again = _opened_before(context, principal, wanted, idempotency_key)
            if again is None:
                raise
            return look(context, principal, again)
    _note_gap(context, control, now)
    context.wishes_changed(cause)
    return look(context, principal, session.id)


def _note_gap(context: Context, control: Control, now: float) -> None:
    """Remember how long nobody had wanted the GPU. Of those who come at once one may be left out."""
    gap = gap_before(control.wishes, now, KEPT_S, first=not control.wakes)
    if gap is not None:
        context.store.write(Put(GAPS, {"seconds": [round(one, 1) for one in (*control.gaps, gap)][-REMEMBERED:]}))


def look(context: Context, principal: Principal, session_id: str) -> dict[str, Any]:
    """The session as it is now; asks EC2 nothing."""
    control = load(context.store)
    now = context.clock()
    session = _own(control, principal, session_id)
    _alive(control, session, now)
    return _view(context, control, session, now)


def heartbeat(context: Context, principal: Principal, session_id: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Extend the session; `said` may carry what the client measured: latency, lost_seconds, audio_seconds, words.

    The last three count from the session's beginning.
    """
    for _ in range(ATTEMPTS):
        control = load(context.store)
        now = context.clock()
        session = _own(control, principal, session_id)
        _alive(control, session, now)
        extended = replace(session, heartbeat_at=now, **said)
        key = session_key(session.id)
        try:
            context.store.write(Put(key, data_of(extended), control.version(key), session.max_at + KEPT_S))
        except StoreConflict:
            continue  # the host link extended it at the same moment, or a pass ended it: look again
        context.metrics.emit(*of_heartbeat(session, extended))
        return look(context, principal, session_id)
    raise Unavailable("The session is being changed by others; send the heartbeat again.")


def close(context: Context, principal: Principal, session_id: str, cause: Cause) -> None:
    """End the session; ending it twice is fine."""
    for _ in range(ATTEMPTS):
        control = load(context.store)
        now = context.clock()
        session = _own(control, principal, session_id)
        if session.ended_at is not None:
            return
        reason = f"closed by {principal.name}"
        ended = replace(session, ended_at=min(now, session.max_at), end_reason=reason, end_kind="closed")
        key = session_key(session.id)
        try:
            context.store.write(
                Put(key, data_of(ended), control.version(key), session.max_at + KEPT_S),
                event(now, cause, "session.close", session.id, reason),
            )
        except StoreConflict:
            continue
        context.wishes_changed(cause)
        return
    raise Unavailable("The session is being changed by others; close it again.")


def _idempotency(principal: Principal, key: str) -> Key:
    return Key(IDEMPOTENCY, f"{principal.id}#{hashlib.sha256(key.encode()).hexdigest()}")


def _fingerprint(wanted: Wanted) -> str:
    return hashlib.sha256(json.dumps(data_of(wanted), sort_keys=True).encode()).hexdigest()


def _opened_before(context: Context, principal: Principal, wanted: Wanted, key: str | None) -> str | None:
    if not key:
        return None
    record = context.store.get(_idempotency(principal, key))
    if record is None:
        return None
    if record.data["request"] != _fingerprint(wanted):
        raise Invalid("This Idempotency-Key was used for another request; take a new key.")
    return str(record.data["session"])


def _own(control: Control, principal: Principal, session_id: str) -> Session:
    session = control.session(session_id)
    if session is None or (session.owner != principal.id and not principal.role.covers(Role.OPERATOR)):
        raise NotFound(f"There is no session {session_id[:64]}.")
    return session


def _alive(control: Control, session: Session, now: float) -> None:
    streaming = control.observation(now).streaming(now)
    if session.live(now, session.id in streaming):
        return
    at = session.ended_at if session.ended_at is not None else session.deadline()
    reason = session.end_reason or ("it reached its longest life" if now >= session.max_at else "no heartbeat came")
    raise Gone(f"This session ended at {clock_text(at)}: {reason}.", ended_at=to_text(at), reason=reason)


def _view(context: Context, control: Control, session: Session, now: float) -> dict[str, Any]:
    observation = control.observation(now)
    glance = control.overview(context.rules, now)
    host = places(observation, control.wishes.live_sessions(now, observation.streaming(now)), now).get(session.id)
    ticket = None
    if host is not None:
        # The next pass writes it; until then it is worked out anew each time, always the same.
        session = moved(session, host)
        key = control.keys.signing(now) or ensure_keys(context.store, now).signing(now)
        ticket = sign(key, session.id, session.max_at) if key else None
    return {
        "id": session.id,
        "phase": glance.phase.value,
        "place": "waiting" if host is None else "reserved",
        "created_at": to_text(session.created_at),
        "expires_at": to_text(session.deadline()),
        "max_at": to_text(session.max_at),
        "eta_seconds": eta(control, glance, now),
        "ws_url": context.settings.ws_url,
        "ticket": ticket,
        "upstream_epoch": session.epoch,
        "notice": _notice(glance, observation, session, host is not None),
        "poll_after_seconds": _poll_after(glance.phase, host is not None),
    }


def _poll_after(phase: Phase, reserved: bool) -> int:
    if phase is Phase.READY and not reserved:
        return POLL_WAITING_S
    return POLL_S.get(phase, POLL_OTHERWISE_S)


def _notice(glance: Overview, observation: Observation, session: Session, reserved: bool) -> str | None:
    own = next((view for view in observation.gpus if session.host.startswith(f"{view.instance_id}/")), glance.view)
    drain = own.memory.drain if own is not None else None
    if drain is not None:
        return f"Streams are closed at {clock_text(drain.closing_at)}: {drain.reason}."
    if session.host and not reserved and glance.phase.value.startswith("waking"):
        return "The GPU that served this session is gone; it goes on as soon as one is ready again."
    return None
