"""How long to linger, learned from the gaps between the times somebody wanted the GPU.

Lingering through a gap costs the gap; stopping costs the linger, one more boot, and a wait. The linger that would
have cost least over the gaps seen so far is taken, between two bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chalicelib.domain.ledger import Wake, median_wake
from chalicelib.domain.rules import Rules
from chalicelib.domain.wishes import Wishes

ENOUGH = 8
"""Gaps; with fewer of them the upper bound, which is the setting, holds."""
REMEMBERED = 200
WAIT_WORTH = 5.0
"""GPU seconds that one second of somebody's waiting is worth: with it the learned linger makes hardly more people
wait than ten fixed minutes do, for fewer GPU hours (docs/idle-minutes.md)."""


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


def gap_before(wishes: Wishes, now: float, longest_s: float, *, first: bool) -> float | None:
    """Seconds that nobody had wanted the GPU for when somebody came at `now`; None when somebody still did.

    Ended wishes are known for `longest_s`; when none is known the gap is at least that long, or it is the `first`
    session of all and there was no gap.
    """
    if wishes.booked(now) is not None or wishes.live_sessions(now):
        return None
    over = wishes.last_end(now)
    if over is None:
        return None if first else longest_s
    return min(max(0.0, now - over), longest_s)


def lingering(rules: Rules, gaps: Sequence[float], wakes: Sequence[Wake]) -> Rules:
    """The rules with the linger that the gaps teach, and the words that say so; as they are where it is fixed."""
    if rules.idle_least_s is None or len(gaps) < ENOUGH:
        return rules
    idle = learned(gaps, median_wake(wakes), min(rules.idle_least_s, rules.idle_s), rules.idle_s)
    known = gaps[-REMEMBERED:]
    shorter = sum(1 for gap in known if gap <= idle) / len(known)
    words = f"{shorter:.0%} of the last {len(known)} gaps were shorter".replace("%", " %")
    return replace(rules, idle_s=idle, idle_because=words)
