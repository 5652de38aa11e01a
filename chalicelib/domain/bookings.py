"""What a booking's owner is told, and the state a booking is in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from chalicelib.domain.rules import Rules
from chalicelib.domain.wishes import Booking, Wishes

BOOKED = "booking"
"""The kind of a booking made ahead; `gpu/start` makes the kind "start"."""
LATE_S = 60.0
"""So long before its start the owner hears that the GPU is not ready, whatever the cause."""
MISSED_TOLD_S = 3600.0


class BookingState(StrEnum):
    """The states of a booking. Of a weekly one, those of the time that runs or comes next."""

    PLANNED = "planned"
    WAKING = "waking"
    REHEARSED = "rehearsed"
    RUNNING = "running"
    DONE = "done"
    MISSED = "missed"


@dataclass(frozen=True)
class BookingNews:
    """Something its owner should hear; `booking` is to be written so that it is said once."""

    booking: Booking
    action: str
    reason: str


def state_of(booking: Booking, rules: Rules, now: float) -> BookingState:
    """The state at `now`. `rehearsed` only when a canary really spoke through the GPU for this time."""
    one = booking.nearest(now)
    if now >= one.until():
        served = one.ready_for == one.start or one.ended_at is not None
        return BookingState.DONE if served else BookingState.MISSED
    if now >= one.start:
        return BookingState.RUNNING
    if now < one.start - rules.lead_s:
        return BookingState.PLANNED
    return BookingState.REHEARSED if one.rehearsed_for == one.start else BookingState.WAKING


def news(wishes: Wishes, rules: Rules, now: float, *, ready: bool, scarce: str) -> tuple[BookingNews, ...]:
    """What is to be said now: "ready for 19:00", "no capacity yet", missed.

    `ready`: a GPU would answer now. `scarce`: why none can be started now, empty when one can.
    """
    made = (one for one in wishes.bookings if one.kind == BOOKED)
    found = (_said(one, rules, now, ready, scarce) for one in made)
    return tuple(one for one in found if one is not None)


def _said(booking: Booking, rules: Rules, now: float, ready: bool, scarce: str) -> BookingNews | None:
    if not booking.running(now, rules.lead_s):
        return _missed(booking, rules, now)
    one = booking.nearest(now)
    at = rules.clock(one.start)
    if booking.ready_for == one.start:
        return None
    if ready:
        rehearsed = "" if booking.rehearsed_for == one.start else ", not rehearsed"
        return BookingNews(replace(booking, ready_for=one.start), "booking.ready", f"ready for {at}{rehearsed}")
    if booking.warned_for == one.start:
        return None
    told = replace(booking, warned_for=one.start)
    if scarce:
        return BookingNews(told, "booking.no_capacity", f"no capacity yet for {at}: {scarce}")
    if now >= one.start - LATE_S:
        return BookingNews(told, "booking.late", f"not ready yet for {at}: the GPU is still waking")
    return None


def _missed(booking: Booking, rules: Rules, now: float) -> BookingNews | None:
    one = booking.latest(now)
    if one is None or not one.until() <= now < one.until() + MISSED_TOLD_S:
        return None
    if one.ended_at is not None or one.start in (booking.ready_for, booking.missed_for):
        return None
    told = replace(booking, missed_for=one.start)
    return BookingNews(told, "booking.missed", f"the GPU was never ready for {rules.clock(one.start)}")
