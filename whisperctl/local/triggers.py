"""EventBridge for the real handlers: the minute tick, and EC2's state changes.

Ticks follow the stand-in clock: an advance that crosses a minute fires one at once (not one for every minute
crossed; a missed tick heals itself, and the tests lean on that). Events are hints, and faults lose, double and
delay them; ticks can be lost too. Shapes from
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-instance-state-changes.html and
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, Protocol

from whisperctl.local.clock import StandInClock, Timeline
from whisperctl.local.faults import Faults

ACCOUNT = "123456789012"
MINUTE_S = 60.0
SCHEDULED = ("tick", "probe")
"""The functions with a schedule, each every minute."""


class Invoker(Protocol):
    """Asynchronous invocation of a handler of app.py."""

    def invoke(self, function: str, event: dict[str, Any], delay_s: float = 0.0) -> None: ...


class Triggers:
    """Nothing fires before `start()` nor after the timeline is closed."""

    def __init__(
        self, *, clock: StandInClock, timeline: Timeline, faults: Faults, invoker: Invoker, stack: str, region: str
    ) -> None:
        self._clock = clock
        self._timeline = timeline
        self._faults = faults
        self._invoker = invoker
        self._stack = stack
        self._region = region
        self._started = False
        self._ticking = 0
        """Counts the starts: a tick armed before a stop is none after it."""

    def start(self) -> None:
        """Begin to tick, the first one now, and to pass events on."""
        if not self._started:
            self._started = True
            self._ticking += 1
            self._tick(self._ticking)

    def stop(self) -> None:
        """Tick no more, and pass nothing on: the stack is gone."""
        self._started = False

    def instance_changed(self, instance_id: str, state: str) -> None:
        """EC2 says an instance is in a new state."""
        fault = self._faults.now.events
        if not self._started or fault.lost:
            return
        event = state_event(instance_id, state, self._clock.now(), self._region)
        for _ in range(2 if fault.doubled else 1):
            self._invoker.invoke("machine_event", event, fault.delay_s)

    def command_ended(self, command_id: str, instance_id: str, document: str, status: str) -> None:
        """SSM says how a command ended on an instance."""
        fault = self._faults.now.events
        if not self._started or fault.lost:
            return
        event = command_event(command_id, instance_id, document, status, self._clock.now(), self._region)
        for _ in range(2 if fault.doubled else 1):
            self._invoker.invoke("command_event", event, fault.delay_s)

    def _tick(self, ticking: int) -> None:
        if not self._started or ticking != self._ticking:
            return
        left = MINUTE_S - self._clock.now() % MINUTE_S
        self._timeline.after(left, "tick", lambda: self._tick(ticking))
        self.tick()

    def tick(self) -> None:
        """One tick, now."""
        if self._faults.now.ticks.lost:
            return
        for function in SCHEDULED:
            self.fire(function)

    def fire(self, function: str) -> None:
        """Invoke a scheduled function now."""
        self._invoker.invoke(function, tick_event(self._stack, self._clock.now(), self._region, function))


def _time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def state_event(instance_id: str, state: str, now: float, region: str) -> dict[str, Any]:
    """`EC2 Instance State-change Notification`; `now` in epoch seconds."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2",
        "account": ACCOUNT,
        "time": _time(now),
        "region": region,
        "resources": [f"arn:aws:ec2:{region}:{ACCOUNT}:instance/{instance_id}"],
        "detail": {"instance-id": instance_id, "state": state},
    }


def command_event(
    command_id: str, instance_id: str, document: str, status: str, now: float, region: str
) -> dict[str, Any]:
    """`EC2 Command Invocation Status-change Notification`; shape from
    https://docs.aws.amazon.com/systems-manager/latest/userguide/monitoring-systems-manager-event-examples.html"""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "EC2 Command Invocation Status-change Notification",
        "source": "aws.ssm",
        "account": ACCOUNT,
        "time": _time(now),
        "region": region,
        "resources": [f"arn:aws:ec2:{region}:{ACCOUNT}:instance/{instance_id}"],
        "detail": {
            "command-id": command_id,
            "document-name": document,
            "instance-id": instance_id,
            "status": status,
        },
    }


def tick_event(stack: str, now: float, region: str, function: str = "tick") -> dict[str, Any]:
    """`Scheduled Event`; `now` in epoch seconds."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": _time(now),
        "region": region,
        "resources": [f"arn:aws:events:{region}:{ACCOUNT}:rule/{stack}-{function}"],
        "detail": {},
    }
