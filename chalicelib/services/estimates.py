"""How long until somebody can speak, as history says it."""

from __future__ import annotations

from chalicelib.domain.ledger import estimate
from chalicelib.domain.phases import Overview, Phase
from chalicelib.services.control import Control


def eta(control: Control, glance: Overview, now: float) -> dict[str, float] | None:
    """Seconds until ready, `{p50, p90}`: what is left of a waking; None where no honest number is known."""
    if glance.phase is Phase.READY:
        return {"p50": 0.0, "p90": 0.0}
    waking = glance.phase in (Phase.WAKING_BOOT, Phase.WAKING_SERVICE)
    since = glance.view.memory.awake_since if glance.view is not None else None
    if not waking or since is None or (glance.view is not None and glance.view.memory.ready_at is not None):
        return None
    left = estimate(control.wakes, now - since)
    return None if left is None else {"p50": left.p50, "p90": left.p90}
