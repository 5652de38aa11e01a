"""A session ticket: what it claims. HS256 JWT with `kid`; RFC 7519, RFC 7515."""

from __future__ import annotations

from dataclasses import dataclass

CANARY = "canary-"
"""So begins the sid of a canary's ticket; a GPU host gives it no place and reports no stream for it."""


@dataclass(frozen=True)
class TicketKey:
    """A signing secret the hosts know. The newest one not retired signs; all not yet dropped verify."""

    kid: str
    secret: str
    created_at: float
    retired_at: float | None = None


@dataclass(frozen=True)
class TicketKeys:
    """The stack's keys, ready for rotation: a new key is added, the old one retired, later dropped."""

    keys: tuple[TicketKey, ...] = ()

    def signing(self) -> TicketKey | None:
        """The key that signs now."""
        usable = [key for key in self.keys if key.retired_at is None]
        return max(usable, key=lambda key: key.created_at, default=None)


def claims(sid: str, ends_at: float) -> dict[str, object]:
    """`exp` is the session's end: the ticket serves for reconnects without asking the API again."""
    return {"sid": sid, "exp": int(ends_at)}


def sign(key: TicketKey, sid: str, ends_at: float) -> str:
    """The compact JWT, made of token characters only, so that it fits Sec-WebSocket-Protocol."""
    import jwt  # here, since only a ready session's answer needs it

    return jwt.encode(claims(sid, ends_at), key.secret, algorithm="HS256", headers={"kid": key.kid})
