"""The same trace under other regimes, and the table a person reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from chalicelib.domain.linger import WAIT_WORTH
from chalicelib.domain.rules import Rules
from chalicelib.domain.times import to_text
from whisperctl.errors import UsageError
from whisperctl.simulate.run import Outcome, Plant, simulate
from whisperctl.simulate.traces import DAY_S, Wanted

NIGHT_ENDS_S, NIGHT_BEGINS_S = 6 * 3600.0, 22 * 3600.0
FORGOTTEN_S = 3600.0
"""Who switches by hand switches off an hour after the last session of the day."""
IDLE_MINUTES = (1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0)


def compared(trace: Sequence[Wanted], rules: Rules, plant: Plant, price: float, *, learn: bool) -> dict[str, Any]:
    """The report of the design: ours against always on, nightly only, by hand and the clairvoyant optimum.

    Who comes in the rules' night is refused, and no part of any regime.
    """
    everybody = len(trace)
    trace = admitted(trace, rules)
    if not trace:
        raise UsageError("every session of the trace begins in the night")
    ours = simulate(trace, rules, plant, learn=learn)
    best = optimum(trace, plant)
    begin, days = calendar(trace)
    regimes = {
        "ours": ours,
        "always_on": Outcome(((begin, begin + days * DAY_S),), (0.0,) * len(trace)),
        "nightly_only": nightly_only(trace, begin, days),
        "by_hand": by_hand(trace, plant),
        "optimum": best,
    }
    report: dict[str, Any] = {"days": days, "sessions": everybody, "refused": everybody - len(trace)}
    report |= {"idle_minutes": rules.idle_s / 60, "learned": learn}
    report |= {name: described(one, price, intervals=name == "ours") for name, one in regimes.items()}
    report["ratio_to_optimum"] = round(ours.gpu_s / best.gpu_s, 3)
    return report


def settings_table(trace: Sequence[Wanted], rules: Rules, plant: Plant, price: float) -> dict[str, Any]:
    """What each setting of the idle minutes trades, and the one that costs least with waiting weighed in."""
    rows: list[dict[str, Any]] = []
    trace = admitted(trace, rules)
    best = optimum(trace, plant).gpu_s

    def row(one: Outcome, **setting: Any) -> dict[str, Any]:
        waited = sum(wait > 1 for wait in one.waits) / len(one.waits)
        ratio = {"waited_share": round(waited, 3), "ratio_to_optimum": round(one.gpu_s / best, 3)}
        score = one.gpu_s + WAIT_WORTH * sum(one.waits)
        return {**setting, **described(one, price, intervals=False), **ratio, "score": round(score)}

    for minutes in IDLE_MINUTES:
        rows.append(row(simulate(trace, replace(rules, idle_s=minutes * 60), plant), idle_minutes=minutes))
    learned = row(simulate(trace, rules, plant, learn=True), idle_minutes=rules.idle_s / 60)
    best_row = min(rows, key=lambda one: one["score"])
    return {"table": rows, "learned_row": learned, "recommended_idle_minutes": best_row["idle_minutes"]}


def admitted(trace: Sequence[Wanted], rules: Rules) -> list[Wanted]:
    """The sessions that do not begin in the night."""
    return [one for one in trace if rules.night is None or rules.night.at(one.start) is None]


def described(one: Outcome, price: float, *, intervals: bool) -> dict[str, Any]:
    waits = sorted(one.waits)
    shown: dict[str, Any] = {
        "gpu_hours": round(one.gpu_s / 3600, 3),
        "cost": round(one.gpu_s / 3600 * price, 2),
        "wait_p50_s": _at(waits, 0.5),
        "wait_p90_s": _at(waits, 0.9),
        "wait_max_s": _at(waits, 1.0),
        "sessions_cut": one.cut,
    }
    if intervals:
        shown["intervals"] = [{"start": to_text(begun), "end": to_text(over)} for begun, over in one.intervals]
    return shown


def _at(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else 0.0


def calendar(trace: Sequence[Wanted]) -> tuple[float, int]:
    """The midnight (UTC) before the first session, and the days from there until all are over."""
    first = datetime.fromtimestamp(trace[0].start, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    over = max(one.start + one.length for one in trace)
    return first.timestamp(), max(1, math.ceil((over - first.timestamp()) / DAY_S))


def optimum(trace: Sequence[Wanted], plant: Plant) -> Outcome:
    """Who knows the future: awake in time, so that nobody waits, and on through gaps cheaper than a boot."""
    merged: list[tuple[float, float]] = []
    for one in trace:
        begin, over = one.start - plant.waking_s, one.start + one.length
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], over))
        else:
            merged.append((begin, over))
    return Outcome(tuple(merged), (0.0,) * len(trace))


def nightly_only(trace: Sequence[Wanted], begin: float, days: int) -> Outcome:
    """On from six to ten; who comes at night waits for the morning, who speaks at ten is cut."""
    spans = [(begin + day * DAY_S + NIGHT_ENDS_S, begin + day * DAY_S + NIGHT_BEGINS_S) for day in range(days)]
    waits, cut = [], 0
    for one in trace:
        into = (one.start - begin) % DAY_S
        opens = NIGHT_ENDS_S if into < NIGHT_ENDS_S else DAY_S + NIGHT_ENDS_S if into >= NIGHT_BEGINS_S else into
        waits.append(opens - into)
        cut += (opens % DAY_S) + one.length > NIGHT_BEGINS_S
    return Outcome(tuple(spans), tuple(waits), cut)


def by_hand(trace: Sequence[Wanted], plant: Plant) -> Outcome:
    """Somebody switches on for the first session of a day, and off an hour after the last one."""
    spans: list[tuple[float, float]] = []
    waits = []
    for one in trace:
        over = one.start + one.length + FORGOTTEN_S
        same_day = bool(spans) and one.start // DAY_S == spans[-1][0] // DAY_S
        if spans and (same_day or one.start <= spans[-1][1]):
            spans[-1] = (spans[-1][0], max(spans[-1][1], over))
            waits.append(max(0.0, spans[-1][0] + plant.waking_s - one.start))
        else:
            spans.append((one.start, over + plant.waking_s))
            waits.append(plant.waking_s)
    return Outcome(tuple(spans), tuple(waits))
