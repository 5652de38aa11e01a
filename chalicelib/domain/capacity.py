"""The capacity ladder: which machine is tried next, as which type, when AWS has no room.

The rungs, in order: the machine in its preferred type; the other allowed types in its zone; the next stopped
machine, those in zones that AWS's refusals name first; then a cool-down of three minutes, and again from the
top. A lack is one of a type in a zone, so that a second machine in the same zone is not asked for the type that
the first was just refused. A quota is the account's, so that no other rung helps: nothing is tried until its
pause is over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chalicelib.domain.machines import MachineState, Refusal, View

COOL_DOWN_S = 180.0
EPISODE_S = 120.0
"""A refusal so long after the end of the last cool-down begins a new search: two ticks."""

_ZONE = re.compile(r"\b[a-z]{2}(?:-[a-z]+)+-\d[a-z]\b")
"""us-east-1a, eu-central-1b, us-gov-west-1a."""


@dataclass(frozen=True)
class Rung:
    """Start this machine as this type; an empty type leaves it as it is."""

    instance_id: str
    type: str


@dataclass(frozen=True)
class Ladder:
    """What can be tried now (best first), and when the next refused rung can be tried again."""

    rungs: tuple[Rung, ...]
    again_at: float | None = None
    cause: str = ""
    """Why nothing, or not the first choice, can be tried: AWS's latest words about it."""
    quota: bool = False


def zones_named(message: str) -> tuple[str, ...]:
    """The zones that a refusal says have room: those named after the refused one."""
    _, _, advice = message.partition(")")
    return tuple(dict.fromkeys(_ZONE.findall(advice)))


def ladder(gpus: Iterable[View], types: Sequence[str], now: float) -> Ladder:
    """The ladder over the stopped machines."""
    views = sorted(gpus, key=lambda one: one.instance_id)
    refusals = [one.memory.refusal for one in views if one.memory.refusal is not None]
    latest = max(refusals, key=lambda one: one.at, default=None)
    quota = max((one.until for one in refusals if one.kind == "quota" and one.until > now), default=None)
    if quota is not None:
        words = next(one.message for one in refusals if one.kind == "quota" and one.until == quota)
        return Ladder((), quota, words, quota=True)
    short = {(lack.zone, lack.type): lack.until for one in views for lack in one.memory.short if lack.until > now}
    named = {zone for one in refusals if now - one.at < COOL_DOWN_S for zone in zones_named(one.message)}
    found: list[tuple[tuple[bool, bool, str], list[Rung]]] = []
    waits: list[float] = []
    for view in views:
        if view.machine.state is not MachineState.STOPPED:
            continue
        refusal = view.memory.refusal
        if refusal is not None and refusal.until > now:
            waits.append(refusal.until)
            continue
        offered = [Rung(view.instance_id, one) for one in types_of(view, types)]
        free = [one for one in offered if (view.machine.zone, one.type) not in short]
        waits += [short[view.machine.zone, one.type] for one in offered if one not in free]
        if free:
            climbing = len(free) < len(offered)
            found.append(((not climbing, view.machine.zone not in named, view.instance_id), free))
    found.sort(key=lambda one: one[0])
    rungs = tuple(rung for _, free in found for rung in free)
    return Ladder(rungs, min(waits, default=None), latest.message if latest is not None else "")


def types_of(view: View, types: Sequence[str]) -> tuple[str, ...]:
    """The types a machine may take, best first; its own alone when it is none of the allowed."""
    own = view.machine.type
    return tuple(types) if own in types else (own, *types)


def lately(refusal: Refusal, now: float) -> bool:
    """Whether a refusal belongs to the climb that goes on: it was for want of capacity, and not long ago."""
    return refusal.kind == "capacity" and now - refusal.at <= COOL_DOWN_S + EPISODE_S


def sought_since(gpus: Iterable[View], now: float) -> float | None:
    """Since when capacity has been sought in vain; None when nothing was refused lately."""
    refusals = (view.memory.refusal for view in gpus)
    return min((one.since or one.at for one in refusals if one is not None and lately(one, now)), default=None)
