"""A session ticket: what it claims. HS256 JWT with `kid`; RFC 7519, RFC 7515."""

from __future__ import annotations

from dataclasses import dataclass, replace

SPREAD_S = 30.0
"""A new key signs from so long after its making on: by then every GPU host has heard of it, reporting every 5 s."""
KEPT_S = 86400.0
"""A retired key verifies for so long: the longest that a session's ticket may be good."""

CANARY = "canary-"
"""So begins the sid of a canary's ticket; a GPU host gives it no place and reports no stream for it."""


@dataclass(frozen=True)
class TicketKey:
    """A signing secret the hosts know; moments in epoch seconds. It signs until it is retired, and verifies until
    it is dropped."""

    kid: str
    secret: str
    created_at: float
    retired_at: float | None = None


@dataclass(frozen=True)
class TicketKeys:
    """The stack's keys: those that the hosts are sent."""

    keys: tuple[TicketKey, ...] = ()

    def signing(self, now: float) -> TicketKey | None:
        """The key that signs now: the newest that every host has had time to hear of; None: there is no key.

        Where all are younger than that, the oldest: whoever has heard of any has heard of it.
        """
        usable = [key for key in self.keys if key.retired_at is None or now < key.retired_at]
        known = [key for key in usable if now >= key.created_at + SPREAD_S]
        if known:
            return max(known, key=lambda key: key.created_at)
        return min(usable, key=lambda key: key.created_at, default=None)

    def rotated(self, new: TicketKey, now: float) -> TicketKeys:
        """With a new key, which takes over once it has spread; keys that are retired for long are dropped."""
        kept = [key for key in self.keys if key.retired_at is None or now < key.retired_at + KEPT_S]
        retired = [replace(key, retired_at=now + SPREAD_S) if key.retired_at is None else key for key in kept]
        return TicketKeys((*retired, new))


def claims(sid: str, ends_at: float) -> dict[str, object]:
    """`exp` is the session's end: the ticket serves for reconnects without asking the API again."""
    return {"sid": sid, "exp": int(ends_at)}


def sign(key: TicketKey, sid: str, ends_at: float) -> str:
    """The compact JWT, made of token characters only, so that it fits Sec-WebSocket-Protocol."""
    import jwt  # here, since only a ready session's answer needs it

    return jwt.encode(claims(sid, ends_at), key.secret, algorithm="HS256", headers={"kid": key.kid})
