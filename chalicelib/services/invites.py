"""Invites: a link with a speaker's token that expires, for people who have no token of their own."""

from __future__ import annotations

from typing import Any

from chalicelib.domain.times import to_text
from chalicelib.errors import Conflict, Invalid, NotFound
from chalicelib.services.context import Context
from chalicelib.services.control import load
from chalicelib.services.events import Cause, event
from chalicelib.services.tokens import Principal, Role, issue, name_of

DEFAULT_MINUTES = 120.0
MOST_MINUTES = 7 * 1440.0


def invite(
    context: Context, principal: Principal, minutes: float | None, booking: str | None, cause: Cause
) -> dict[str, Any]:
    """`{url, id, role, expires_at}`; the token stands after `#`, which no browser sends to any server.

    For a booking the link is good until its next time ends. NotFound and Conflict say what is wrong with one.
    """
    now = context.clock()
    if minutes is not None and booking is not None:
        raise Invalid("Give either minutes or booking.", field="booking")
    ends = now + (DEFAULT_MINUTES if minutes is None else minutes) * 60
    if booking is not None:
        ends = _end_of(context, booking, now)
    label = f"invited by {principal.name}"
    plain = issue(context.store, Role.SPEAKER, now=now, minutes=(ends - now) / 60, label=label)
    known_as = name_of(plain)
    context.store.write(event(now, cause, "invite.open", known_as, f"a speaker's link until {to_text(ends)}"))
    return {
        "url": f"{context.settings.edge_url}/#token={plain}",
        "id": known_as,
        "role": Role.SPEAKER.value,
        "expires_at": to_text(ends),
    }


def _end_of(context: Context, booking_id: str, now: float) -> float:
    found = next((one for one in load(context.store).wishes.bookings if one.id == booking_id), None)
    if found is None:
        raise NotFound(f"There is no booking {booking_id[:64]}.")
    until = found.nearest(now).until()
    if until <= now:
        raise Conflict(f"The booking {booking_id[:64]} is over.")
    return until
