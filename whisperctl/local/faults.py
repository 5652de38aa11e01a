"""Faults tests ask for: `POST /_standin/faults`. Posting replaces the set, `{}` clears it.

    {"capacity":   [{"type": "g4dn.xlarge", "zone": "us-east-1a"}],     both optional, "*" stands for all
     "quota":      true,
     "throttling": [{"service": "ec2", "operation": "StartInstances", "times": 3}],   operation and times optional
     "agent":      {"delay_s": 60, "offline": false},
     "events":     {"lost": true, "doubled": true, "delay_s": 30},
     "commands":   [{"document": "local-set-upstream", "status": "Failed", "exit_code": 1, "output": "no disk"}]}

`commands[].status` is Failed, TimedOut, or Lost (never delivered). `delay_s` of `agent` is added to the usual
delay, that of `events` holds each event back. All seconds are the stand-in clock's.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from whisperctl.local.awsapi import AwsError

COMMAND_STATUSES = ("Failed", "TimedOut", "Lost")
ALL = "*"


class BadFaults(ValueError):
    """What was posted is not a set of faults; the message says which part, in one sentence."""


@dataclass(frozen=True, slots=True)
class NoCapacity:
    type: str = ALL
    zone: str = ALL


@dataclass(slots=True)
class Throttling:
    service: str
    operation: str = ALL
    times: int | None = None
    """How many calls are refused still; None: all."""


@dataclass(frozen=True, slots=True)
class AgentFault:
    delay_s: float = 0.0
    offline: bool = False


@dataclass(frozen=True, slots=True)
class EventFault:
    lost: bool = False
    doubled: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CommandFault:
    document: str = ALL
    status: str = "Failed"
    exit_code: int = 1
    output: str = ""


@dataclass(frozen=True, slots=True)
class FaultSet:
    """One posted set."""

    capacity: tuple[NoCapacity, ...] = ()
    quota: bool = False
    throttling: tuple[Throttling, ...] = ()
    agent: AgentFault = field(default_factory=AgentFault)
    events: EventFault = field(default_factory=EventFault)
    commands: tuple[CommandFault, ...] = ()


class Faults:
    """The set in force; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = FaultSet()

    @property
    def now(self) -> FaultSet:
        return self._set

    def replace(self, posted: Any) -> None:
        """Take a posted set, or raise BadFaults and keep the old one."""
        parsed = parse(posted)
        with self._lock:
            self._set = parsed

    def throttle(self, service: str, operation: str) -> None:
        """Raise the service's throttling error if a fault asks for it; counts `times` down."""
        with self._lock:
            for fault in self._set.throttling:
                if fault.service != service or fault.operation not in (ALL, operation) or fault.times == 0:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                raise throttled(service)

    def refuse_start(self, instance_type: str, zone: str, zones: tuple[str, ...]) -> None:
        """Raise what EC2 answers to a start when the type is not to be had in the zone, or the quota is used up."""
        current = self._set
        if current.quota:
            raise AwsError(
                "VcpuLimitExceeded",
                "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance "
                "bucket that the specified instance type belongs to. Please visit "
                "http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
            )
        if not _short(current, instance_type, zone):
            return
        elsewhere = [other for other in zones if not _short(current, instance_type, other)]
        advice = (
            f"You can currently get {instance_type} capacity by not specifying an Availability Zone in your request "
            f"or choosing {', '.join(elsewhere)}."
            if elsewhere
            else "Our system will be working on provisioning additional capacity."
        )
        raise AwsError(
            "InsufficientInstanceCapacity",
            f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested "
            f"({zone}). {advice}",
            status=500,
        )

    def of_command(self, document: str) -> CommandFault | None:
        """The fault that strikes a command of this document."""
        return next((fault for fault in self._set.commands if fnmatch.fnmatch(document, fault.document)), None)


def throttled(service: str) -> AwsError:
    """The throttling error in the service's own words."""
    if service == "ec2":
        return AwsError("RequestLimitExceeded", "Request limit exceeded.", status=503)
    return AwsError("ThrottlingException", "Rate exceeded", status=400)


def _short(faults: FaultSet, instance_type: str, zone: str) -> bool:
    return any(f.type in (ALL, instance_type) and f.zone in (ALL, zone) for f in faults.capacity)


def parse(posted: Any) -> FaultSet:
    """A fault set from parsed JSON; raises BadFaults with a sentence."""
    if not isinstance(posted, dict):
        raise BadFaults("Faults are a JSON object; {} clears them.")
    parsers: dict[str, Callable[[Any], Any]] = {
        "capacity": lambda v: _many("capacity", v, NoCapacity, {"type": str, "zone": str}),
        "quota": lambda v: _typed("quota", v, bool),
        "throttling": lambda v: _many("throttling", v, Throttling, {"service": str, "operation": str, "times": int}),
        "agent": lambda v: _one("agent", v, AgentFault, {"delay_s": float, "offline": bool}),
        "events": lambda v: _one("events", v, EventFault, {"lost": bool, "doubled": bool, "delay_s": float}),
        "commands": lambda v: _many(
            "commands", v, CommandFault, {"document": str, "status": str, "exit_code": int, "output": str}
        ),
    }
    unknown = sorted(posted.keys() - parsers.keys())
    if unknown:
        raise BadFaults(f"No such fault: {', '.join(unknown)}; known are {', '.join(sorted(parsers))}.")
    parsed = FaultSet(**{name: parsers[name](value) for name, value in posted.items()})
    for fault in parsed.commands:
        if fault.status not in COMMAND_STATUSES:
            raise BadFaults(f"commands.status is one of {', '.join(COMMAND_STATUSES)}, not {fault.status!r}.")
    if min(parsed.agent.delay_s, parsed.events.delay_s) < 0:
        raise BadFaults("A delay_s cannot be negative.")
    return parsed


def _many(name: str, value: Any, kind: Callable[..., Any], fields: dict[str, type]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise BadFaults(f"{name} is a list of objects.")
    return tuple(_one(name, item, kind, fields) for item in value)


def _one(name: str, value: Any, kind: Callable[..., Any], fields: dict[str, type]) -> Any:
    if not isinstance(value, dict):
        raise BadFaults(f"{name} holds objects, not {value!r}.")
    unknown = sorted(value.keys() - fields.keys())
    if unknown:
        raise BadFaults(f"{name} has no {', '.join(unknown)}; known are {', '.join(fields)}.")
    given = {field: _typed(f"{name}.{field}", item, fields[field]) for field, item in value.items()}
    try:
        return kind(**given)
    except TypeError:
        raise BadFaults(f"{name} needs {next(iter(fields))}.") from None


def _typed(name: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        words = {bool: "true or false", str: "a string", int: "a whole number", float: "a number of seconds"}
        raise BadFaults(f"{name} is {words[kind]}, not {value!r}.")
    return value
