"""RFC 3339 in UTC on the outside, epoch seconds on the inside."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

DAY_S = 86400.0


def to_text(epoch: float) -> str:
    """`2026-11-22T17:00:00.250Z`: milliseconds, always with a Z."""
    moment = datetime.fromtimestamp(epoch, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def to_text_or_none(epoch: float | None) -> str | None:
    """The same, keeping None."""
    return None if epoch is None else to_text(epoch)


def from_text(text: str) -> float:
    """Epoch seconds; ValueError when it is no RFC 3339 time with a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone, e.g. a final Z")
    return moment.timestamp()


def clock_text(epoch: float) -> str:
    """For sentences: `17:05 UTC`."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%H:%M UTC")


def month_of(epoch: float, zone: tzinfo) -> tuple[str, float]:
    """`2026-11` on that zone's calendar, and when it began."""
    moment = datetime.fromtimestamp(epoch, zone)
    return moment.strftime("%Y-%m"), moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
