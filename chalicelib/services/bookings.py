"""Bookings: made ahead, once or weekly. The engine wakes for them; see `domain/bookings.py`."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chalicelib.domain.bookings import BOOKED, BookingState, state_of
from chalicelib.domain.rules import Rules
from chalicelib.domain.times import to_text
from chalicelib.domain.wishes import Booking
from chalicelib.errors import Conflict, Invalid, NotFound, StoreConflict, Unavailable
from chalicelib.ports import Delete, Put, Write
from chalicelib.services.context import Context
from chalicelib.services.control import KEPT_S, booking_key, data_of, load
from chalicelib.services.events import Cause, event
from chalicelib.services.power import ATTEMPTS
from chalicelib.services.tokens import Principal

PAST_S = 60.0
"""A start that has just gone by means now."""
FARTHEST_S = 366 * 86400.0
MOST = 200


@dataclass(frozen=True)
class WantedBooking:
    """What POST /v1/bookings asked for. `weekly`: true for the stack's zone, or the name of an IANA zone."""

    end: float | None = None
    start: float | None = None
    weekly: bool | str = False
    model: str | None = None
    language: str | None = None
    note: str = ""


def book(context: Context, principal: Principal, wanted: WantedBooking, cause: Cause) -> dict[str, Any]:
    """A new booking; Invalid says which time is wrong."""
    now = context.clock()
    control = load(context.store)
    start, end = _times(wanted, context.rules, now)
    if sum(1 for one in control.wishes.bookings if now < one.nearest(now).until()) >= MOST:
        raise Conflict(f"There are {MOST} bookings already; delete some first.")
    booking = Booking(
        id=secrets.token_hex(8),
        start=start,
        end=end,
        created_at=now,
        by=principal.name,
        kind=BOOKED,
        note=wanted.note,
        zone=_zone(wanted.weekly, context.rules),
        model=wanted.model,
        language=wanted.language,
    )
    often = f", weekly in {booking.zone}" if booking.zone else ""
    words = f"from {to_text(start)} to {to_text(end)}{often}" + (f": {wanted.note}" if wanted.note else "")
    context.store.write(
        Put(booking_key(booking.id), data_of(booking), 0, None if booking.zone else end + KEPT_S),
        event(now, cause, "booking.open", booking.id, words),
    )
    context.wishes_changed(cause)
    return _view(load(context.store).learned(context.rules), booking, now)


def bookings(context: Context) -> dict[str, Any]:
    """All bookings that are still known, `gpu/start`'s among them, the next first."""
    control = load(context.store)
    now = context.clock()
    rules = control.learned(context.rules)
    known = [one for one in control.wishes.bookings if one.zone or now < one.end + KEPT_S]
    return {"bookings": [_view(rules, one, now) for one in sorted(known, key=lambda one: one.nearest(now).start)]}


def cancel(context: Context, booking_id: str, cause: Cause) -> None:
    """Take a booking back, the weekly one for good; one that runs ends now. NotFound when there is none."""
    for _ in range(ATTEMPTS):
        control = load(context.store)
        now = context.clock()
        rules = control.learned(context.rules)
        booking = next((one for one in control.wishes.bookings if one.id == booking_id), None)
        if booking is None:
            raise NotFound(f"There is no booking {booking_id[:64]}.")
        key = booking_key(booking.id)
        write: Write = Delete(key, control.version(key))
        if booking.running(now, rules.lead_s):
            # Kept as a time that is over: the linger counts from its end.
            over = replace(booking.nearest(now), ended_at=now)
            write = Put(key, data_of(over), control.version(key), over.end + KEPT_S)
        elif now >= booking.nearest(now).until():
            return
        try:
            context.store.write(write, event(now, cause, "booking.close", booking.id, f"taken back by {cause.actor}"))
        except StoreConflict:
            continue  # a pass has marked it: read again
        context.wishes_changed(cause)
        return
    raise Unavailable("The booking is being changed by others; delete it again.")


def due_for_rehearsal(context: Context) -> list[str]:
    """Ids of the bookings for whose next time the GPU wakes, and for which no canary spoke yet."""
    control = load(context.store)
    rules = control.learned(context.rules)
    now = context.clock()
    return [one.id for one in control.wishes.bookings if _rehearsable(one, rules, now)]


def rehearsed(context: Context, booking_id: str, cause: Cause) -> None:
    """A canary spoke through the whole chain and the words were right: the one place where that is written.

    Whoever runs canaries calls it for each of `due_for_rehearsal` once the GPU is ready. It is for the time that
    comes next; called again, or late, it changes nothing. NotFound when the booking was taken back meanwhile.
    """
    for _ in range(ATTEMPTS):
        control = load(context.store)
        now = context.clock()
        rules = control.learned(context.rules)
        booking = next((one for one in control.wishes.bookings if one.id == booking_id), None)
        if booking is None:
            raise NotFound(f"There is no booking {booking_id[:64]}.")
        if not _rehearsable(booking, rules, now):
            return
        start = booking.nearest(now).start
        key = booking_key(booking.id)
        kept = None if booking.zone else booking.end + KEPT_S
        said = f"rehearsed for {rules.clock(start, now)}: a canary spoke, and the words were right"
        try:
            context.store.write(
                Put(key, data_of(replace(booking, rehearsed_for=start)), control.version(key), kept),
                event(now, cause, "booking.rehearsed", booking.id, said),
            )
        except StoreConflict:
            continue  # a pass has marked it: read again
        return
    raise Unavailable("The booking is being changed by others; rehearse it again.")


def _rehearsable(booking: Booking, rules: Rules, now: float) -> bool:
    return booking.kind == BOOKED and state_of(booking, rules, now) is BookingState.WAKING


def _times(wanted: WantedBooking, rules: Rules, now: float) -> tuple[float, float]:
    start = now if wanted.start is None else wanted.start
    if wanted.end is None:
        raise Invalid("A booking needs an end.", field="end")
    if start < now - PAST_S:
        raise Invalid("start lies in the past.", field="start")
    if start > now + FARTHEST_S:
        raise Invalid("start lies more than a year ahead.", field="start")
    start = max(start, now)
    if wanted.end <= start:
        raise Invalid("end must be later than start.", field="end")
    if wanted.end - start > rules.hard_max_s:
        hours = rules.hard_max_s / 3600
        raise Invalid(f"A booking may last {hours:g} hours at most, as long as a GPU stays awake.", field="end")
    return start, wanted.end


def _zone(weekly: bool | str, rules: Rules) -> str:
    if not weekly:
        return ""
    if isinstance(weekly, str):
        try:
            return ZoneInfo(weekly).key
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            words = "weekly must be true, or an IANA time zone such as Europe/Berlin."
            raise Invalid(words, field="weekly") from error
    return rules.zone.key if isinstance(rules.zone, ZoneInfo) else "UTC"


def _view(rules: Rules, booking: Booking, now: float) -> dict[str, Any]:
    one = booking.nearest(now)
    return {
        "id": booking.id,
        "kind": booking.kind,
        "start": to_text(one.start),
        "end": to_text(max(one.start, one.until())),
        "weekly": booking.zone or None,
        "wake_at": to_text(one.start - rules.lead_s if booking.kind == BOOKED else one.start),
        "state": state_of(booking, rules, now).value,
        "by": booking.by,
        "model": booking.model,
        "language": booking.language,
        "note": booking.note,
    }
