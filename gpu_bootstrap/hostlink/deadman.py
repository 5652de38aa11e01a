"""The dead man's switch: what it knows, and what it does about it. Pure; the program is switch.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from .answers import instant

STAY_MARGIN_S = 120.0
"""Past `stay_until` the control plane has two ticks to stop this host itself."""
NOTICE_S = 60.0
"""From the announcement at the hard maximum to the closing of streams."""
FLUSH_S = 15.0
"""After the closing, for last words."""
INSIST_S = 120.0
"""A power-off that has not happened after this long is asked for again, without waiting for units."""
LOOK_S = 5.0
"""Seconds between writings of the switch's memory."""


@dataclass(frozen=True)
class Limits:
    """When the switch falls; seconds."""

    silent_s: float
    hard_max_s: float


@dataclass(frozen=True)
class Vitals:
    """What the switch knows of this boot; moments on a clock that never jumps (CLOCK_MONOTONIC), in seconds."""

    boot_id: str
    booted_at: float
    answered_at: float | None = None
    streamed_at: float | None = None
    """When something last streamed, or might have."""
    streaming: bool = False
    stay_until: float | None = None
    announced_at: float | None = None
    off_at: float | None = None
    """When power-off was asked for."""
    armed_at: float | None = None
    """When the switch looked first: a host may have been on for long before anything is installed on it."""


class Act(StrEnum):
    """What the switch does."""

    HOLD = "hold"
    ANNOUNCE = "announce"
    POWER_OFF = "power_off"
    INSIST = "insist"


@dataclass(frozen=True)
class Decision:
    action: Act
    reason: str


def deadman(vitals: Vitals, limits: Limits, now: float) -> Decision:
    """What to do at `now`."""
    if vitals.off_at is not None:
        overdue = now - vitals.off_at >= INSIST_S
        return Decision(Act.INSIST if overdue else Act.HOLD, "power-off was asked for, and this host is still on")
    end, why = vitals.booted_at + limits.hard_max_s, f"it is on for {limits.hard_max_s / 60:g} minutes"
    if vitals.stay_until is not None and vitals.stay_until + STAY_MARGIN_S < end:
        end, why = vitals.stay_until + STAY_MARGIN_S, "the control plane's time for it is over"
    if now >= end or vitals.announced_at is not None:
        reason = f"the hard maximum: {why}"
        if not vitals.streaming:
            return Decision(Act.POWER_OFF, reason)
        if vitals.announced_at is None:
            return Decision(Act.ANNOUNCE, reason)
        over = now - vitals.announced_at >= NOTICE_S + FLUSH_S
        return Decision(Act.POWER_OFF if over else Act.HOLD, reason)
    if vitals.streaming:
        return Decision(Act.HOLD, "somebody streams")
    heard = (vitals.booted_at, vitals.armed_at, vitals.answered_at, vitals.streamed_at)
    silent = now - max(moment for moment in heard if moment is not None)
    if silent >= limits.silent_s:
        words = f"for {limits.silent_s / 60:g} minutes no report was answered and nothing streamed"
        return Decision(Act.POWER_OFF, words)
    return Decision(Act.HOLD, "the control plane answers" if vitals.answered_at is not None else "just booted")


def remembered(left: Mapping[str, Any], boot: str, now: float) -> Vitals:
    """The vitals that a process of boot `boot` left; ValueError, TypeError or LookupError when they are not."""
    moments = ("booted_at", "answered_at", "streamed_at", "stay_until", "announced_at", "off_at")
    values = {name: None if left[name] is None else float(left[name]) for name in moments}
    armed = left.get("armed_at")  # absent where the link of an older release wrote it
    values["armed_at"] = None if armed is None else float(armed)
    past = [value for name, value in values.items() if value is not None and name != "stay_until"]
    if left["boot_id"] != boot or values["booted_at"] is None or not all(0 <= value <= now for value in past):
        raise ValueError("of another boot")
    return Vitals(boot, streaming=left["streaming"] is True, **values)  # type: ignore[arg-type]  # booted_at is a number


OURS = "this host powers off"
"""So begins the reason of a drain that the switch made."""


def closing(left: Mapping[str, Any], reason: str, closes_in_s: float, epoch: float) -> dict[str, Any]:
    """The control file with a drain of our own; `left`: what it holds now, `epoch`: this host's calendar.

    `now` and `received_at` are moved on together, since a drain older than the launcher's start would not count.
    """
    try:
        ahead = instant(left["now"]).timestamp() - float(left["received_at"])
    except (KeyError, TypeError, ValueError):
        ahead = 0.0
    there = datetime.fromtimestamp(epoch + ahead, UTC)
    at = datetime.fromtimestamp(epoch + ahead + closes_in_s, UTC)
    drain = {"closing_at": at.isoformat(), "reason": f"{OURS}, {reason}"}
    return {**left, "now": there.isoformat(), "received_at": epoch, "drain": drain}
