"""The minute tick on the stand-in clock, and EC2's events with what faults make of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.local_cloud import FrozenTime
from tests.waiting import wait_until
from whisperctl.local.clock import StandInClock, Timeline
from whisperctl.local.faults import Faults
from whisperctl.local.lambdas import AppPool, AsyncInvoker
from whisperctl.local.triggers import Triggers

START = 1_800_000_030.0


class Recorder:
    def __init__(self) -> None:
        self.invoked: list[tuple[str, dict[str, Any], float]] = []

    def invoke(self, function: str, event: dict[str, Any], delay_s: float = 0.0) -> None:
        self.invoked.append((function, event, delay_s))

    def times(self, function: str) -> int:
        return sum(name == function for name, _event, _delay in self.invoked)


class Parts:
    def __init__(self) -> None:
        self.clock = StandInClock(FrozenTime(START))
        self.timeline = Timeline(self.clock)
        self.faults = Faults()
        self.recorder = Recorder()
        self.triggers = Triggers(
            clock=self.clock,
            timeline=self.timeline,
            faults=self.faults,
            invoker=self.recorder,
            stack="test",
            region="us-east-1",
        )


@pytest.fixture
def parts() -> Iterator[Parts]:
    made = Parts()
    yield made
    made.timeline.close()


def test_ticks_come_by_the_minute_and_once_for_a_jump(parts: Parts) -> None:
    parts.triggers.start()
    assert parts.recorder.times("tick") == 1
    parts.clock.advance(29)
    parts.clock.advance(1.5)
    wait_until(lambda: parts.recorder.times("tick") == 2, 2, "the tick of the full minute")
    parts.clock.advance(600)
    wait_until(lambda: parts.recorder.times("tick") == 3, 2, "one tick for ten minutes")
    assert parts.recorder.times("probe") == 3
    parts.triggers.fire("probe")
    assert parts.recorder.times("probe") == 4
    event = parts.recorder.invoked[-1][1]
    assert event["resources"][0].endswith("-probe")
    assert (event["source"], event["detail-type"]) == ("aws.events", "Scheduled Event")
    assert event["time"] == "2027-01-15T08:11:00Z"


def test_an_event_has_eventbridges_shape(parts: Parts) -> None:
    parts.triggers.start()
    parts.triggers.instance_changed("i-1", "running")
    function, event, delay = parts.recorder.invoked[-1]
    assert (function, delay) == ("machine_event", 0)
    assert event["source"] == "aws.ec2"
    assert event["detail-type"] == "EC2 Instance State-change Notification"
    assert event["detail"] == {"instance-id": "i-1", "state": "running"}
    assert event["resources"] == ["arn:aws:ec2:us-east-1:123456789012:instance/i-1"]


@pytest.mark.parametrize(
    ("fault", "delays"),
    [({"lost": True}, []), ({"doubled": True}, [0.0, 0.0]), ({"delay_s": 30}, [30.0]), ({}, [0.0])],
)
def test_events_are_lost_doubled_and_late(parts: Parts, fault: dict[str, Any], delays: list[float]) -> None:
    parts.triggers.start()
    parts.faults.replace({"events": fault})
    parts.triggers.instance_changed("i-1", "running")
    assert [delay for name, _event, delay in parts.recorder.invoked if name == "machine_event"] == delays


def test_lost_ticks_never_come_and_later_ones_do(parts: Parts) -> None:
    parts.triggers.start()
    parts.faults.replace({"ticks": {"lost": True}})
    parts.clock.advance(30.5)
    parts.clock.advance(60)
    parts.faults.replace({})
    assert parts.recorder.times("tick") == 1
    parts.clock.advance(60)
    wait_until(lambda: parts.recorder.times("tick") == 2, 2, "the next tick")


def test_nothing_fires_before_the_start(parts: Parts) -> None:
    parts.triggers.instance_changed("i-1", "running")
    parts.clock.advance(120)
    assert parts.recorder.invoked == []


def test_a_failed_invocation_is_tried_twice_more_then_dropped(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("calls = []\ndef tick(event, context):\n    calls.append(event)\n    1 / 0\n")
    timeline = Timeline(StandInClock(FrozenTime()))
    pool = AppPool(tmp_path / "app.py", most=1)
    invoker = AsyncInvoker(pool, timeline, "us-east-1")

    def calls() -> int:
        with pool.lease() as app:
            return len(app.calls)

    invoker.invoke("tick", {})
    wait_until(lambda: calls() == 1, 2, "the first try")
    timeline.clock.advance(61)
    wait_until(lambda: calls() == 2, 2, "the second")
    timeline.clock.advance(121)
    wait_until(lambda: calls() == 3, 2, "the third and last")
    timeline.clock.advance(3600)
    assert calls() == 3
    timeline.close()
