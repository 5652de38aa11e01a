"""`whisperctl status --watch`: lines when something changes, a picture on a terminal, a stack that goes away."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from whisperctl import watch
from whisperctl.errors import NotReachable

ASLEEP: dict[str, Any] = {
    "now": "2026-11-22T12:00:00.000Z",
    "phase": "asleep",
    "reason": "nobody wants to speak",
    "next": {"action": "start", "at": None, "because": "a session or a booking wakes it"},
    "gpu": {"instance_id": "i-1", "type": "g5.xlarge", "zone": "a", "state": "stopped", "reported_at": None},
    "edge": {"instance_id": "i-2", "state": "running", "upstream_ok": False},
    "wishes": [],
    "cost_today": 0.0,
}
READY: dict[str, Any] = ASLEEP | {
    "now": "2026-11-22T12:01:00.000Z",
    "phase": "ready",
    "reason": "one session is open",
    "next": {"action": "stop", "at": "2026-11-22T13:00:00.000Z", "because": "10 minutes after the booking"},
    "gpu": ASLEEP["gpu"] | {"state": "running", "model": "small.en", "active_streams": 1, "capacity": 4},
    "wishes": [
        {"kind": "booking", "id": "b", "since": "2026-11-22T12:00:00Z", "until": "2026-11-22T12:50:00Z", "by": "eve"},
        {
            "kind": "session",
            "id": "s",
            "since": "2026-11-22T12:00:00Z",
            "until": "2026-11-22T20:00:00Z",
            "streaming": True,
        },
    ],
    "cost_today": None,
}


def answers(*given: dict[str, Any] | Exception) -> Callable[[], dict[str, Any]]:
    left: Iterator[dict[str, Any] | Exception] = iter(given)

    def ask() -> dict[str, Any]:
        one = next(left)
        if isinstance(one, Exception):
            raise one
        return one

    return ask


def follow(*given: dict[str, Any] | Exception, as_json: bool = False) -> list[float]:
    slept: list[float] = []
    watch.watch(answers(*given), as_json=as_json, sleep=slept.append, rounds=len(given))
    return slept


def test_a_line_for_each_change_and_none_for_the_clock(capsys: pytest.CaptureFixture[str]) -> None:
    later = ASLEEP | {"now": "2026-11-22T12:00:02.000Z", "cost_today": 0.01}
    slept = follow(ASLEEP, later, READY, READY | {"now": "2026-11-22T12:01:09.000Z"})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "asleep            nobody wants to speak; next: start",
        f"ready             one session is open; next: stop at {watch.clock(READY['next']['at'])}",
    ]
    assert slept == [watch.EVERY_S] * 3


def test_json_is_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    follow(ASLEEP, ASLEEP, READY, as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [ASLEEP, READY]


def test_a_stack_that_goes_away_is_told_and_asked_on(capsys: pytest.CaptureFixture[str]) -> None:
    follow(ASLEEP, NotReachable("nobody answers"), NotReachable("nobody answers"), ASLEEP)
    told = [line.split("  ", 1)[1].split(";")[0] for line in capsys.readouterr().out.splitlines()]
    assert told == [
        "asleep            nobody wants to speak",
        "unknown           nobody answers",
        "asleep            nobody wants to speak",
    ]
    with pytest.raises(NotReachable):
        follow(NotReachable("a wrong address"))


def test_the_picture_says_all_that_the_status_says() -> None:
    def shown(status: dict[str, Any]) -> str:
        out = io.StringIO()
        Console(file=out, width=100, color_system=None).print(watch.picture(status))
        return out.getvalue()

    ready = shown(READY)
    for words in (
        " ready ",
        "one session is open",
        "stop at",
        "10 minutes after the booking",
        "i-1  g5.xlarge  a  running  small.en  1 of 4 streams",
        "points at no ready GPU",
        "eve",
        "speaking",
        "price unknown",
    ):
        assert words in ready, ready
    assert "$0.00" in shown(ASLEEP)
    assert "restart the service" in shown(ASLEEP | {"phase": "failed", "remedy": "restart the service"})
    assert "nobody answers" in shown({"phase": "unknown", "reason": "nobody answers"})
