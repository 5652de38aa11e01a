"""One machine's life on the embedded cloud, under every order of events and faults of EC2, Lambda, EventBridge."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.app.lifecycle import (
    Log,
    close,
    now,
    open_session,
    opened,
    rest,
    states,
    watching,
    with_ticket,
)
from tests.stack import Stack, start_stack
from tests.waiting import wait_until

LEASE_S = 30


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with start_stack(tmp_path_factory.mktemp("one"), "--boot-seconds", "1", "--stop-seconds", "1") as running:
        yield running


@pytest.fixture
def stack(machine: Stack) -> Stack:
    """One GPU, asleep, no fault, no wish."""
    rest(machine)
    return machine


@pytest.mark.parametrize("events", [{}, {"lost": True}], ids=["event", "no event"])
def test_a_session_opened_while_it_stops_starts_it_once_it_has_stopped(stack: Stack, events: dict[str, bool]) -> None:
    log = Log(stack)
    with watching(stack) as watch:
        first = opened(stack)
        wait_until(lambda: states(stack) == ["running"], 30, "the machine to run")
        close(stack, first)
        stack.faults(stuck=[{}], events=events)
        stack.call("POST", "/v1/gpu/stop", body={"force": True}).raise_for_status()
        session = opened(stack)
        assert session["phase"] == "waking.capacity"
        assert "still stopping" in stack.status()["reason"]
        stack.faults(events=events)
        wait_until(lambda: states(stack) != ["stopping"], 30, "the stop to end")
        if events:
            stack.advance(60)  # nobody said so: the tick finds out
        with_ticket(stack, session)
    watch.saw("waking.boot", "waking.capacity", "waking.boot", "waking.service", "ready")
    assert log.acts() == ["gpu.start", "gpu.stop", "gpu.start"]
    assert log.switched("StartInstances", taken=False) == [], "nobody asks EC2 for what it cannot do yet"
    log.assert_no_double_act()


def test_a_lambda_killed_between_act_and_record_acts_once_and_is_recorded_by_the_next(stack: Stack) -> None:
    log = Log(stack)
    stack.faults(lambdas=[{"after": "StartInstances"}])
    key = f"once {now(stack)}"
    # Whoever makes the pass is killed: the call itself, or a tick or an event whose pass covers it.
    assert open_session(stack, key).status_code in (201, 502)
    again = open_session(stack, key)
    assert again.status_code == 201, again.text
    stack.advance(LEASE_S + 31)
    session = with_ticket(stack, again.json())
    assert log.acts() == ["gpu.start"]
    assert "recorded late" in log.reasons("gpu.start")[0]
    assert len(log.events("session.open")) == 1
    close(stack, session)
    stack.faults(lambdas=[{"after": "StopInstances"}])
    assert stack.call("POST", "/v1/gpu/stop", body={"force": True}).status_code in (202, 502)
    stack.advance(LEASE_S + 31)
    stack.wait_phase("asleep")
    assert log.acts() == ["gpu.start", "gpu.stop"]
    assert "recorded late" in log.reasons("gpu.stop")[0]
    assert (len(log.calls("StartInstances")), len(log.calls("StopInstances"))) == (1, 1)
    receipt = log.reasons("gpu.receipt")
    assert len(receipt) == 1, "the time awake is in the ledger, once"
    log.assert_no_double_act()


def test_closed_until_keeps_it_off_and_says_until_when(stack: Stack) -> None:
    until = (datetime.fromisoformat(now(stack)) + timedelta(hours=1)).isoformat()
    body = {"closed_until": until, "reason": "holiday"}
    stack.call("POST", "/v1/gpu/stop", body=body).raise_for_status()
    log = Log(stack)
    refused = open_session(stack)
    assert refused.status_code == 409
    assert refused.json()["detail"].startswith("No new session is admitted: closed until ")
    assert abs(datetime.fromisoformat(refused.json()["closed_until"]) - datetime.fromisoformat(until)) < timedelta(
        seconds=1
    )
    assert stack.call("POST", "/v1/gpu/start", role="speaker").status_code == 409
    stack.advance(3500)
    assert stack.status()["admission"]["open"] is False
    assert not log.calls("StartInstances")
    stack.advance(101)
    assert stack.status()["admission"]["open"] is True
    with_ticket(stack, opened(stack))
    assert log.acts() == ["gpu.start"]


def test_a_stuck_stop_is_forced_after_ten_minutes_and_once(stack: Stack) -> None:
    session = with_ticket(stack, opened(stack))
    close(stack, session)
    log = Log(stack)
    stack.faults(stuck=[{}])
    with watching(stack) as watch:
        stack.call("POST", "/v1/gpu/stop", body={"force": True}).raise_for_status()
        stack.wait_phase("stopping")
        stack.advance(540)
        assert [one["parameters"].get("Force") for one in log.calls("StopInstances")] == ["false"]
        stack.advance(120)
        stack.wait_phase("asleep")
    watch.saw("stopping", "asleep")
    assert [one["parameters"].get("Force") for one in log.calls("StopInstances")] == ["false", "true"]
    # EC2 may say stopped before the pass that forced it has written that down.
    wait_until(lambda: len(log.reasons("gpu.stop")) == 2, 10, "both stops' events")
    assert "too long" in log.reasons("gpu.stop")[1]
    log.assert_no_double_act()
