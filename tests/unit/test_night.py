"""Night hours: spans over midnight and both changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.night import Night

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def utc(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%d %H:%M")


@pytest.mark.parametrize(
    ("text", "local", "inside"),
    [
        ("22:00-06:00 Europe/Berlin", "2026-11-22T21:59:59", False),
        ("22:00-06:00 Europe/Berlin", "2026-11-22T22:00:00", True),
        ("22:00-06:00 Europe/Berlin", "2026-11-23T03:00:00", True),
        ("22:00-06:00 Europe/Berlin", "2026-11-23T05:59:59", True),
        ("22:00-06:00 Europe/Berlin", "2026-11-23T06:00:00", False),
        ("01:00-05:00 Europe/Berlin", "2026-11-23T00:59:00", False),
        ("01:00-05:00 Europe/Berlin", "2026-11-23T01:00:00", True),
        ("01:00-05:00 Europe/Berlin", "2026-11-23T05:00:00", False),
    ],
)
def test_inside(text: str, local: str, inside: bool) -> None:
    assert (Night.parse(text).at(at(local)) is not None) is inside


@pytest.mark.parametrize(
    ("text", "local", "begins", "ends"),
    [
        # Clocks go forward on 29 March 2026 at 02:00: the night is an hour shorter.
        ("22:00-06:00 Europe/Berlin", "2026-03-29T01:00", "28 21:00", "29 04:00"),
        # They go back on 25 October 2026 at 03:00: it is an hour longer.
        ("22:00-06:00 Europe/Berlin", "2026-10-25T01:00", "24 20:00", "25 05:00"),
        # 02:30 does not exist on that day: the night begins, or ends, after the gap.
        ("02:30-06:00 Europe/Berlin", "2026-03-29T04:00", "29 01:30", "29 04:00"),
        ("22:00-02:30 Europe/Berlin", "2026-03-29T01:00", "28 21:00", "29 01:30"),
        # 02:30 comes twice on that day: begins at the first, ends at the second.
        ("02:30-06:00 Europe/Berlin", "2026-10-25T04:00", "25 00:30", "25 05:00"),
        ("22:00-02:30 Europe/Berlin", "2026-10-25T01:00", "24 20:00", "25 01:30"),
    ],
)
def test_changes_of_the_clocks(text: str, local: str, begins: str, ends: str) -> None:
    span = Night.parse(text).at(at(local))
    assert span is not None
    assert (utc(span[0]), utc(span[1])) == (begins, ends)


@pytest.mark.parametrize(
    "text",
    ["", "22:00", "22:00-06:00", "25:00-06:00 UTC", "22:00-22:00 UTC", "22:00-06:00 Europe/Nowhere", "x-y UTC"],
)
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError):
        Night.parse(text)


@given(
    st.integers(0, 23),
    st.integers(1, 23),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    st.integers(0, 3 * 366 * 24 * 12),
)
def test_a_night_contains_now_and_the_next_begins_later(start: int, hours: int, zone: str, steps: int) -> None:
    night = Night.parse(f"{start:02d}:15-{(start + hours) % 24:02d}:15 {zone}")
    now = (datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=5 * steps)).timestamp()
    span = night.at(now)
    if span is not None:
        assert span[0] <= now < span[1]
        assert abs((span[1] - span[0]) / 3600 - hours) <= 1
    begins = night.next_start(now)
    assert now < begins <= now + 25 * 3600
    assert night.at(begins) is not None
    assert span is not None or night.at(begins - 1) is None or hours >= 23
