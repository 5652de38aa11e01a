"""The operator's words: start, stop, restart."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace

from chalicelib.domain.machines import MachineState
from chalicelib.domain.rules import Rules, admission
from chalicelib.domain.times import to_text
from chalicelib.domain.wishes import Booking, Order, OrderKind, Wishes
from chalicelib.errors import Conflict, StoreConflict, Unavailable
from chalicelib.ports import Put, Write
from chalicelib.services.context import Context
from chalicelib.services.control import (
    KEPT_S,
    POWER,
    Control,
    booking_key,
    data_of,
    load,
    power_data,
    session_key,
)
from chalicelib.services.events import Cause, event
from chalicelib.services.tokens import Principal, Role

DEFAULT_START_MINUTES = 60.0
ATTEMPTS = 8
BATCH = 80


def start(context: Context, principal: Principal, minutes: float | None, reason: str, cause: Cause) -> None:
    """A booking from now, capped. An operator's start lifts night and closed_until; a speaker's is refused then."""
    now = context.clock()
    control = load(context.store)
    admitted = admission(control.wishes, control.learned(context.rules), now)
    operator = principal.role.covers(Role.OPERATOR)
    if not admitted.open and not operator:
        until = to_text(admitted.until) if admitted.until is not None else None
        raise Conflict(f"The GPU is {admitted.because}.", closed_until=until)
    length = min(minutes or DEFAULT_START_MINUTES, context.settings.start_booking_max_minutes) * 60
    booking = Booking(secrets.token_hex(8), now, now + length, now, principal.name, "start", reason)
    writes: list[Write] = [
        Put(booking_key(booking.id), data_of(booking), 0, booking.end + KEPT_S),
        event(now, cause, "booking.open", booking.id, reason or f"{principal.name} started the GPU"),
    ]
    if control.wishes.closed(now) and operator:
        lifted = replace(control.wishes, closed_until=None)
        writes.append(Put(POWER, power_data(lifted), control.version(POWER)))
    try:
        context.store.write(*writes)
    except StoreConflict as error:
        raise Unavailable("Somebody else is changing the GPU's hours; ask again.") from error
    context.wishes_changed(cause)


def stop(
    context: Context, principal: Principal, *, force: bool, closed_until: float | None, reason: str, cause: Cause
) -> None:
    """End all sessions and the running bookings, drain (or not, by force), stop; stay off until `closed_until`."""
    _ordered(context, Order(OrderKind.STOP, context.clock(), principal.name, reason, force), closed_until, cause)
    context.wishes_changed(cause)


def restart(context: Context, principal: Principal, *, force: bool, cause: Cause) -> None:
    """Drain (or not, by force) and restart the service of the GPU hosts that are awake; Conflict if none is."""
    now = context.clock()
    awake = [
        view.instance_id
        for view in load(context.store).observation(now).gpus
        if view.machine.state is MachineState.RUNNING
    ]
    if not awake:
        raise Conflict("No GPU is running, so there is no service to restart.")
    _ordered(context, Order(OrderKind.RESTART, now, principal.name, "", force), None, cause)
    context.wishes_changed(cause)


def _ordered(context: Context, order: Order, closed_until: float | None, cause: Cause) -> None:
    for _ in range(ATTEMPTS):
        control = load(context.store)
        kept = tuple(one for one in control.wishes.orders if one.kind is not order.kind)
        wishes = replace(control.wishes, orders=(*kept, order))
        if closed_until is not None:
            wishes = replace(wishes, closed_until=closed_until)
        stops = order.kind is OrderKind.STOP
        endings = list(_endings(control, order, control.learned(context.rules), cause)) if stops else []
        try:
            context.store.write(Put(POWER, power_data(wishes), control.version(POWER)))
            for first in range(0, len(endings), BATCH):
                context.store.write(*endings[first : first + BATCH])
        except StoreConflict:
            continue  # a heartbeat or another order came between: read again, the order only grows newer
        return
    raise Unavailable("Others keep changing the sessions; ask again.")


def _endings(control: Control, order: Order, rules: Rules, cause: Cause) -> Iterator[Write]:
    words = f"{order.by} stopped the GPU" + (f": {order.reason}" if order.reason else "")
    wishes: Wishes = control.wishes
    for session in wishes.sessions:
        if session.ended_at is None:
            key = session_key(session.id)
            ended = replace(session, ended_at=min(order.at, session.deadline()), end_reason=words, end_kind="stop")
            yield Put(key, data_of(ended), control.version(key), session.max_at + KEPT_S)
            yield event(order.at, cause, "session.close", session.id, words)
    for booking in wishes.bookings:
        if booking.running(order.at, rules.lead_s):
            key = booking_key(booking.id)
            over = replace(booking, ended_at=order.at)
            yield Put(key, data_of(over), control.version(key), None if booking.zone else booking.end + KEPT_S)
            yield event(order.at, cause, "booking.close", booking.id, words)
