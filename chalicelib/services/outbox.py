"""What waits to be told to people; `notifications` hands it on."""

from __future__ import annotations

import secrets

from chalicelib.domain.times import to_text
from chalicelib.ports import Key, Put

OUTBOX = "outbox"
GIVEN_UP_S = 86400.0
"""What nobody took for so long is old news."""


def tell(now: float, action: str, target: str, reason: str) -> Put:
    """The write that has people told; goes into the transaction of the event."""
    data = {"at": now, "action": action, "target": target, "reason": reason, "done": [], "held_until": 0.0}
    # Kept a while past the giving up, which is to be logged.
    return Put(Key(OUTBOX, f"{to_text(now)}_{secrets.token_hex(6)}"), data, 0, now + 2 * GIVEN_UP_S)
