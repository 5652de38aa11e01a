"""Who wants the GPU, and what the evidence says about idleness.

A session is somebody who wants to speak now; a booking is somebody who will. Nothing else keeps a GPU awake.
A live stream counts as the heartbeat of its session; a stream without a session (tickets switched off)
shows up as evidence. Evidence is active, idle or unknown, and unknown counts as active.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from chalicelib.domain.night import weeks_later
from chalicelib.domain.times import DAY_S

HEARTBEAT_TIMEOUT_S = 180.0


class Evidence(StrEnum):
    """What one signal says about use."""

    ACTIVE = "active"
    IDLE = "idle"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Session:
    """Somebody who wants to speak now. `owner` is the id of the token that opened it."""

    id: str
    owner: str
    created_at: float
    heartbeat_at: float
    max_at: float
    language: str | None = None
    model: str | None = None
    task: str | None = None
    ended_at: float | None = None
    end_reason: str = ""
    end_kind: str = ""
    """"closed", "expired", "stop" or "night": the last two leave the closing of streams to the drain."""
    latency: Any = None
    lost_seconds: float | None = None
    audio_seconds: float | None = None
    words: float | None = None
    host: str = ""
    """Where its place is, or was last (`places.host_of`); empty before the first."""
    epoch: int = 0
    """How many hosts it has had."""

    def deadline(self) -> float:
        """When it ends without another heartbeat, epoch seconds."""
        return min(self.heartbeat_at + HEARTBEAT_TIMEOUT_S, self.max_at)

    def live(self, now: float, streaming: bool = False) -> bool:
        """Whether it still wants the GPU at `now`; a live stream stands in for heartbeats, not for max_at."""
        if self.ended_at is not None or now >= self.max_at:
            return False
        return streaming or now < self.deadline()


WEEK_S = 7 * DAY_S
_CHANGE_S = 2 * 3600.0
"""More than any change of the clocks moves a weekly booking."""


@dataclass(frozen=True)
class Booking:
    """Somebody will speak from `start` to `end`. `gpu/start` is a booking from now, of kind "start".

    With a `zone` it repeats every week at the same wall-clock times of that zone; `start` and `end` are then
    those of its first time, and `nearest` gives the one that matters now.
    """

    id: str
    start: float
    end: float
    created_at: float
    by: str
    kind: str = "start"
    note: str = ""
    ended_at: float | None = None
    """When it was ended early; of a weekly one, only the time that ran or was next is meant."""
    zone: str = ""
    model: str | None = None
    language: str | None = None
    ready_for: float | None = None
    """The start of the latest time for which the GPU was ready; likewise the next three."""
    warned_for: float | None = None
    missed_for: float | None = None
    rehearsed_for: float | None = None

    def until(self) -> float:
        """When it really is over, epoch seconds."""
        return self.end if self.ended_at is None else min(self.end, self.ended_at)

    def running(self, now: float, lead: float = 0.0) -> bool:
        """Whether `now` lies in it, or in the `lead` seconds before it."""
        if self.zone and _CHANGE_S + self.end - self.start < (now - self.start) % WEEK_S < WEEK_S - lead - _CHANGE_S:
            return False  # far from it: spares the calendar
        one = self.nearest(now)
        return one.start - lead <= now < one.until()

    def nearest(self, now: float) -> Booking:
        """The time that runs at `now` or comes next, as a booking that does not repeat."""
        if not self.zone:
            return self
        around = max(0, int((now - self.start) // WEEK_S))
        times = (self._time(weeks) for weeks in range(max(0, around - 1), around + 4))
        return next(one for one in times if now < one.until())

    def latest(self, now: float) -> Booking | None:
        """The time that began, or was ended before it could, last by `now`; None before the first."""
        if not self.zone:
            return self if min(self.start, self.until()) <= now else None
        around = max(0, int((now - self.start) // WEEK_S))
        for weeks in range(around + 1, max(0, around - 1) - 1, -1):
            start, _ = weeks_later(self.start, self.end, self.zone, weeks)
            # Most of them have not come near: a time is ended at most a day before its start.
            if start - DAY_S <= now and min((one := self._time(weeks)).start, one.until()) <= now:
                return one
        return None

    def _time(self, weeks: int) -> Booking:
        start, end = weeks_later(self.start, self.end, self.zone, weeks)
        # A time may be ended while the GPU wakes for it, which is never a day ahead.
        ended = self.ended_at if self.ended_at is not None and start - DAY_S <= self.ended_at < end else None
        return replace(self, start=start, end=end, zone="", ended_at=ended)


class OrderKind(StrEnum):
    """What an operator can order of the machines that are awake."""

    STOP = "stop"
    RESTART = "restart"


@dataclass(frozen=True)
class Order:
    """An operator's word about every machine awake at `at`."""

    kind: OrderKind
    at: float
    by: str
    reason: str = ""
    force: bool = False


@dataclass(frozen=True)
class Installation:
    """A running rollout: it wants this one machine awake, night or not, until the rollout ends."""

    id: str
    target: str
    instance_id: str
    release: str
    created_at: float
    by: str = ""


@dataclass(frozen=True)
class Wishes:
    """All that people want of the GPUs, as the store holds it."""

    sessions: tuple[Session, ...] = ()
    bookings: tuple[Booking, ...] = ()
    closed_until: float | None = None
    orders: tuple[Order, ...] = ()
    installations: tuple[Installation, ...] = ()

    def installation(self, instance_id: str) -> Installation | None:
        """The rollout that is at work on this machine."""
        return next((one for one in self.installations if one.instance_id == instance_id), None)

    def order(self, kind: OrderKind) -> Order | None:
        """The latest order of this kind."""
        return max((one for one in self.orders if one.kind is kind), key=lambda one: one.at, default=None)

    def ended_by_stop(self, at: float) -> bool:
        """Whether an operator's stop at `at`, or one shortly before it, ended a session."""
        stops = (one.ended_at for one in self.sessions if one.end_kind == "stop" and one.ended_at is not None)
        return any(at - HEARTBEAT_TIMEOUT_S <= ended <= at for ended in stops)

    def closed(self, now: float) -> bool:
        """Whether an operator keeps the GPU off at `now`."""
        return self.closed_until is not None and now < self.closed_until

    def booked(self, now: float, lead: float = 0.0) -> Booking | None:
        """Of the bookings that run, or will within `lead` seconds, the one that ends last.

        One made before an operator closed the GPU does not open it again.
        """
        closing = self.order(OrderKind.STOP) if self.closed(now) else None
        asked = [one for one in self.bookings if closing is None or one.created_at >= closing.at]
        running = [one.nearest(now) for one in asked if one.running(now, lead)]
        return max(running, key=Booking.until, default=None)

    def live_sessions(self, now: float, streaming: frozenset[str] = frozenset()) -> list[Session]:
        """Sessions that want the GPU at `now`, oldest first."""
        alive = [one for one in self.sessions if one.live(now, one.id in streaming)]
        return sorted(alive, key=lambda one: (one.created_at, one.id))

    def model(self, now: float, streaming: frozenset[str], has: Collection[str], lead: float = 0.0) -> str | None:
        """The model to be loaded on a host that `has` these, when no stream lives there; None: its default.

        The booking that runs, or will within `lead` seconds, goes first, then the oldest session. Who names no model,
        or one that the host lacks, has no say.
        """
        booking = self.booked(now, lead)
        asked = [booking.model if booking is not None else None]
        asked += [session.model for session in self.live_sessions(now, streaming)]
        names = (short_name(name) for name in asked if name is not None)
        return next((name for name in names if name in has), None)

    def last_end(self, now: float, streaming: frozenset[str] = frozenset()) -> float | None:
        """When the last wish ended that is over by `now`."""
        ends: list[float] = []
        for session in self.sessions:
            if not session.live(now, session.id in streaming):
                ends.append(session.deadline() if session.ended_at is None else session.ended_at)
        times = (one.latest(now) for one in self.bookings)
        ends += [one.until() for one in times if one is not None and one.until() <= now]
        return max(ends, default=None)


def short_name(model: str) -> str:
    """`Systran/faster-whisper-base` → `base`: the name of the model's folder on a host."""
    return model.rpartition("/")[2].removeprefix("faster-whisper-")
