"""The settings that decide, and whether sessions are admitted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from chalicelib.domain.night import Night
from chalicelib.domain.times import DAY_S
from chalicelib.domain.wishes import Wishes


@dataclass(frozen=True)
class Rules:
    """The settings that decide; durations in seconds."""

    idle_s: float = 600.0
    """How long the GPU lingers; where the linger is learned, the longest it may."""
    night: Night | None = None
    night_grace_s: float = 300.0
    hard_max_s: float = 43200.0
    types: tuple[str, ...] = ()
    """Machine types in the order in which they are tried; empty: each machine's own type only."""
    lead_s: float = 300.0
    """How long before a booking the GPU wakes; learned, see `ledger.lead`."""
    mute_s: float = 360.0
    """A machine that runs this long without one report is taken for impaired."""
    stuck_s: float = 600.0
    """A machine that has been stopping this long is stopped by force."""
    zone: tzinfo = UTC
    """Whose clocks sentences, days and months follow."""
    tickets: bool = True
    """Whether streams need a ticket, so that nobody can stream on a machine that never was ready."""
    idle_least_s: float | None = None
    """The least that is learned; None: nothing is, the linger is `idle_s`."""
    awake_alert_s: float = 0.0
    """People are told of a GPU that has been awake this long in one go; 0: never."""
    idle_because: str = ""
    """Why `idle_s` is what was learned, in words."""

    def clock(self, epoch: float, now: float | None = None) -> str:
        """`19:00` as the stack's clocks show it; in UTC it says so.

        With `now`, the date stands before it when it is not within a day of that.
        """
        moment = datetime.fromtimestamp(epoch, self.zone)
        text = moment.strftime("%H:%M UTC" if self.zone is UTC else "%H:%M")
        far = now is not None and abs(epoch - now) >= DAY_S
        return f"{moment:%Y-%m-%d} {text}" if far else text


@dataclass(frozen=True)
class Admission:
    """Whether sessions are admitted now; if not, until when and why."""

    open: bool
    until: float | None = None
    because: str = ""


def admission(wishes: Wishes, rules: Rules, now: float) -> Admission:
    """Night and closed_until refuse new sessions; a booking overrides both from its early waking on."""
    if wishes.booked(now, rules.lead_s):
        return Admission(True)
    if wishes.closed_until is not None and wishes.closed(now):
        until = rules.clock(wishes.closed_until, now)
        return Admission(False, wishes.closed_until, f"closed until {until} by the operator")
    night = rules.night.at(now) if rules.night else None
    if night:
        return Admission(False, night[1], f"closed until {rules.clock(night[1], now)} for the night")
    return Admission(True)
