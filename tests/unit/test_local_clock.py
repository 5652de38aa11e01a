"""The stand-in clock and its timeline."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.unit.local_cloud import FrozenTime
from tests.waiting import wait_until
from whisperctl.local.clock import StandInClock, Timeline


@pytest.fixture
def timeline() -> Iterator[Timeline]:
    made = Timeline(StandInClock(FrozenTime(1000.0)))
    yield made
    made.close()


def test_an_advance_adds_to_real_time() -> None:
    real = FrozenTime(1000.0)
    clock = StandInClock(real)
    assert clock.advance(60) == 1060
    real.now = 1001.0
    assert clock.now() == 1061
    assert clock.utc().timestamp() == 1061


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_it_never_goes_back_nor_to_the_end_of_time(seconds: float) -> None:
    clock = StandInClock(FrozenTime())
    before = clock.now()
    with pytest.raises(ValueError, match="forward"):
        clock.advance(seconds)
    assert clock.now() == before


def test_things_happen_at_their_moment_and_in_order(timeline: Timeline) -> None:
    done: list[str] = []
    timeline.after(20, "late", lambda: done.append("late"))
    timeline.after(10, "early", lambda: done.append("early"))
    timeline.clock.advance(9.9)
    assert done == []
    timeline.clock.advance(0.2)
    wait_until(lambda: done == ["early"], 2, "the early one")
    timeline.clock.advance(10)
    wait_until(lambda: done == ["early", "late"], 2, "the late one")


def test_a_sooner_entry_overtakes_the_one_slept_for(timeline: Timeline) -> None:
    done = threading.Event()
    timeline.after(3600, "far", lambda: None)
    timeline.after(0, "now", done.set)
    assert done.wait(2)


def test_one_that_waits_or_fails_holds_up_nobody(timeline: Timeline) -> None:
    hold, done = threading.Event(), threading.Event()

    def fail() -> None:
        raise RuntimeError("broken")

    def wait() -> None:
        hold.wait(5)

    timeline.after(0, "waits", wait)
    timeline.after(0, "fails", fail)
    timeline.after(0, "works", done.set)
    assert done.wait(2)
    hold.set()


def test_nothing_runs_once_it_is_closed() -> None:
    timeline = Timeline(StandInClock(FrozenTime()))
    done = threading.Event()
    timeline.after(1, "never", done.set)
    timeline.close()
    timeline.clock.advance(10)
    assert not done.wait(0.2)
