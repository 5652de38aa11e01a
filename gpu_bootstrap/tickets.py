"""A session's ticket: an HS256 JWT (RFC 7519) with `kid` in its header and the claims `sid` and `exp`.

The control plane signs it; this host knows the keys from the control file and so needs to ask nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jwt

from gpu_bootstrap.errors import TicketError, UnknownKeyError

LEEWAY_S = 10.0
"""Seconds two well-kept clocks may differ."""
MAX_SID = 200


class Claims(NamedTuple):
    """What a ticket says: the session, and its end in epoch seconds of the control plane's clock (None: no end)."""

    sid: str
    exp: float | None


def verify(ticket: str | None, keys: Mapping[str, str], now: float) -> Claims:
    """The claims of a valid ticket.

    `keys` maps kid to secret, `now` is the control plane's time in epoch seconds. Raises TicketError with a
    sentence fit for a close reason, UnknownKeyError when the key may only not have arrived yet.
    """
    if not ticket:
        raise TicketError('a ticket is needed: connect with the subprotocols ["bearer", TICKET] of a session')
    try:
        kid = jwt.get_unverified_header(ticket).get("kid")
    except jwt.InvalidTokenError:
        raise TicketError("the ticket is not one of ours; ask for a session anew") from None
    secret = keys.get(kid) if isinstance(kid, str) else None
    if secret is None:
        raise UnknownKeyError("the ticket is signed by a key this host does not know; ask for a session anew")
    try:
        # The clock is ours: PyJWT would read the machine's, which the control plane's may differ from.
        claims = jwt.decode(
            ticket, secret, algorithms=["HS256"], options={"require": ["exp", "sid"], "verify_exp": False}
        )
    except jwt.InvalidTokenError:
        raise TicketError("the ticket is not valid; ask for a session anew") from None
    exp, sid = claims["exp"], claims["sid"]
    if isinstance(exp, bool) or not isinstance(exp, (int, float)):
        raise TicketError("the ticket is not valid: its exp is no time")
    if not isinstance(sid, str) or not 0 < len(sid) <= MAX_SID:
        raise TicketError("the ticket is not valid: its sid is no session")
    if now > exp + LEEWAY_S:
        raise TicketError("the ticket has expired; ask for a session anew")
    return Claims(sid, float(exp))
