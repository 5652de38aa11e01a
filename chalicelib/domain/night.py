"""The night, in which no new session is admitted, and weekly bookings: wall-clock times of an IANA zone.

A night or a booking may span midnight. On the day clocks go forward a time that does not exist means the moment
after the gap; on the day they go back a start means the first of the two, an end the second, so that neither is
ever cut short by the change.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_FORM = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s+(\S+)")


@dataclass(frozen=True)
class Night:
    """From `start` to `end`, wall-clock times of `zone`."""

    start: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str) -> Night:
        """Read `22:00-06:00 Europe/Berlin`; ValueError says what is wrong."""
        found = _FORM.fullmatch(text.strip())
        if not found:
            raise ValueError(f'expected the form "22:00-06:00 Europe/Berlin", not {text!r}')
        try:
            start = time(int(found[1]), int(found[2]))
            end = time(int(found[3]), int(found[4]))
        except ValueError as error:
            raise ValueError(f"{text!r} has no such time of day ({error})") from error
        if start == end:
            raise ValueError(f"{text!r} begins and ends at the same time")
        try:
            zone = ZoneInfo(found[5])
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{found[5]!r} is not an IANA time zone such as Europe/Berlin") from error
        return cls(start, end, zone)

    def span(self, day: date) -> tuple[float, float]:
        """The night that begins on `day`, in epoch seconds, end exclusive."""
        return _span(self, day)

    def at(self, now: float) -> tuple[float, float] | None:
        """The night `now` lies in, or None."""
        today = datetime.fromtimestamp(now, self.zone).date()
        for day in (today - timedelta(days=1), today):
            begin, over = self.span(day)
            if begin <= now < over:
                return begin, over
        return None

    def next_start(self, now: float) -> float:
        """When the next night begins, strictly after `now`."""
        today = datetime.fromtimestamp(now, self.zone).date()
        return next(begin for ahead in range(3) if (begin := self.span(today + timedelta(days=ahead))[0]) > now)


@functools.lru_cache(64)
def _span(night: Night, day: date) -> tuple[float, float]:
    last = day if night.end > night.start else day + timedelta(days=1)
    begin = datetime.combine(day, night.start.replace(fold=0), night.zone)
    over = _closing(datetime.combine(last, night.end), night.zone)
    return begin.timestamp(), over.timestamp()


@functools.lru_cache(4096)
def weeks_later(start: float, end: float, zone: str, weeks: int) -> tuple[float, float]:
    """The same wall-clock span of `zone` so many weeks after the one from `start` to `end` (epoch seconds)."""
    place, later = ZoneInfo(zone), timedelta(weeks=weeks)
    begin = datetime.fromtimestamp(start, place).replace(tzinfo=None, fold=0) + later
    over = datetime.fromtimestamp(end, place).replace(tzinfo=None, fold=0) + later
    return begin.replace(tzinfo=place).timestamp(), _closing(over, place).timestamp()


def _closing(wall: datetime, zone: ZoneInfo) -> datetime:
    over = wall.replace(tzinfo=zone, fold=1)
    # A missing time with fold=1 maps to before the gap; fold=0 maps to after it.
    return over.replace(fold=0) if _missing(over) else over


def _missing(moment: datetime) -> bool:
    back = moment.astimezone(UTC).astimezone(moment.tzinfo)
    return back.replace(tzinfo=None) != moment.replace(tzinfo=None, fold=0)
