"""How long to linger, learned from the gaps between the times somebody wanted the GPU.

Lingering through a gap costs the gap; stopping costs the linger, one more boot, and a wait. The linger that would
have cost least over the gaps seen so far is taken, between two bounds.
"""

from __future__ import annotations

from collections.abc import Sequence

ENOUGH = 8
"""Gaps; with fewer of them the upper bound, which is the setting, holds."""
REMEMBERED = 200
WAIT_WORTH = 1.0
"""GPU seconds that one second of somebody's waiting is worth."""


def learned(
    gaps: Sequence[float], waking_s: float, least_s: float, most_s: float, worth: float = WAIT_WORTH
) -> float:
    """Seconds to linger. `gaps`: seconds from the end of the last wish to the next one, oldest first."""
    known = sorted(gaps[-REMEMBERED:])
    if len(known) < ENOUGH:
        return most_s
    stopping = waking_s * (1.0 + worth)
    choices = sorted({least_s, most_s, *(gap for gap in known if least_s < gap < most_s)})
    best, best_cost = most_s, float("inf")
    place, lingered = 0, 0.0
    for choice in choices:
        while place < len(known) and known[place] <= choice:
            lingered += known[place]
            place += 1
        cost = lingered + (len(known) - place) * (choice + stopping)
        if cost < best_cost:
            best, best_cost = choice, cost
    return best
