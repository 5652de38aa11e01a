"""Tokens and roles: random, stored as SHA-256, expiring, revocable."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum

from chalicelib.errors import Forbidden, Unauthenticated
from chalicelib.ports import Key, Put, Store

TOKENS = "tokens"
EXPIRED_KEPT_S = 7 * 86400.0
"""How long an expired token is still known, so that its owner hears "expired" and not "unknown"."""


class Role(StrEnum):
    """viewer ⊂ speaker ⊂ operator."""

    VIEWER = "viewer"
    SPEAKER = "speaker"
    OPERATOR = "operator"

    def covers(self, other: Role) -> bool:
        """Whether this role may do what `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class Principal:
    """Who calls. `id` is the first 12 hex digits of the token's hash: a name that is no secret."""

    id: str
    role: Role
    label: str

    @property
    def name(self) -> str:
        """For events: the label if there is one."""
        return self.label or f"{self.role}:{self.id}"


def issue(store: Store, role: Role | str, *, now: float, minutes: float | None = None, label: str = "") -> str:
    """Make a token and return it; it is not stored and cannot be shown again. `minutes` None: no expiry."""
    plain = f"wle_{secrets.token_urlsafe(32)}"
    digest = _digest(plain)
    expires_at = None if minutes is None else now + minutes * 60
    data = {
        "id": digest[:12],
        "role": Role(role).value,
        "label": label,
        "created_at": now,
        "expires_at": expires_at,
        "revoked_at": None,
    }
    gone_at = None if expires_at is None else expires_at + EXPIRED_KEPT_S
    store.write(Put(Key(TOKENS, digest), data, expect=0, expires_at=gone_at))
    return plain


def name_of(plain: str) -> str:
    """A token's id, by which it is listed and revoked."""
    return _digest(plain)[:12]


def revoke(store: Store, plain_or_id: str, *, now: float) -> bool:
    """Revoke by the token itself or by its id; False when there is none."""
    digest = _digest(plain_or_id)
    for record in store.partition(TOKENS):
        if record.key.sk == digest or record.data["id"] == plain_or_id:
            store.write(Put(record.key, {**record.data, "revoked_at": now}, expect=record.version))
            return True
    return False


def authenticate(store: Store, authorization: str | None, need: Role, now: float) -> Principal:
    """Who calls, from the Authorization header; Unauthenticated or Forbidden with one sentence."""
    scheme, _, plain = (authorization or "").strip().partition(" ")
    if scheme.lower() != "bearer" or not plain.strip():
        raise Unauthenticated("This call needs a token: Authorization: Bearer TOKEN.")
    record = store.get(Key(TOKENS, _digest(plain.strip())))
    if record is None:
        raise Unauthenticated("This token is not known.")
    if record.data["revoked_at"] is not None:
        raise Unauthenticated("This token was revoked.")
    expires_at = record.data["expires_at"]
    if expires_at is not None and now >= expires_at:
        raise Unauthenticated("This token has expired; ask the operator for a new one.")
    principal = Principal(record.data["id"], Role(record.data["role"]), record.data["label"])
    if not principal.role.covers(need):
        raise Forbidden(f"This call needs the role {need}; the token has the role {principal.role}.")
    return principal


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()
