"""The secrets that sign tickets: made on first use, kept in the table, sent to the hosts by the host link."""

from __future__ import annotations

import secrets

from chalicelib.domain.tickets import TicketKey, TicketKeys
from chalicelib.errors import StoreConflict
from chalicelib.ports import Put, Store
from chalicelib.services.control import TICKET_KEYS, data_of, load


def ensure_keys(store: Store, now: float) -> TicketKeys:
    """The stack's keys; the first one is made here, once, whoever comes first."""
    keys = load(store).keys
    if keys.signing(now) is not None:
        return keys
    made = TicketKeys((_new(now),))
    try:
        store.write(Put(TICKET_KEYS, {"keys": [data_of(one) for one in made.keys]}, expect=0))
    except StoreConflict:
        return load(store).keys
    return made


def rotate(store: Store, now: float, *, drop: bool = False) -> TicketKeys:
    """The keys with a new one. Tickets that are out stay good, unless the keys that signed them are dropped at once.

    StoreConflict: somebody else changed the keys at the same moment.
    """
    control = load(store)
    new = _new(now)
    keys = TicketKeys((new,)) if drop else control.keys.rotated(new, now)
    data = {"keys": [data_of(one) for one in keys.keys]}
    store.write(Put(TICKET_KEYS, data, expect=control.version(TICKET_KEYS)))
    return keys


def _new(now: float) -> TicketKey:
    return TicketKey(kid=secrets.token_hex(4), secret=secrets.token_urlsafe(48), created_at=now)
