"""Faults tests ask for: `POST /_standin/faults`. Posting replaces the set, `{}` clears it.

    {"capacity":   [{"type": "g4dn.xlarge", "zone": "us-east-1a"}],     both optional, "*" stands for all
     "quota":      true,
     "throttling": [{"service": "ec2", "operation": "StartInstances", "times": 3}],   operation and times optional
     "impaired":   [{"instance": "i-1", "times": 1}],                   both optional
     "stuck":      [{"instance": "i-1"}],                               optional
     "stale":      {"seconds": 20},
     "power":      [{"instance": "i-1", "how": "lost"}],
     "lambdas":    [{"after": "StartInstances", "times": 1}],           times optional, 1
     "agent":      {"delay_s": 60, "offline": false},
     "events":     {"lost": true, "doubled": true, "delay_s": 30},
     "ticks":      {"lost": true},
     "commands":   [{"document": "local-set-upstream", "status": "Failed", "exit_code": 1, "output": "no disk"}],
     "stacks":     [{"resource": "EdgeAddress", "on": "create", "reason": "no more addresses", "times": 1}]}

`impaired`: a start reaches `running`, its status check fails, and no host ever boots on it. `stuck`: a stop stays
`stopping` until StopInstances with Force, or until the fault is gone. `stale`: DescribeInstances shows the states
of so many seconds ago (eventual consistency). `power` strikes once, at the moment it is posted: `lost` ends every
process of the host without a farewell while EC2 goes on saying `running`; `failed` does so and EC2 stops the
machine by itself; `off` is a host that shuts itself down in order. `lambdas`: the invocation that made this call
is dead from the moment AWS answered it; nothing after it runs, a `finally` included, and asynchronous ones are
retried as Lambda does. `commands[].status` is Failed, TimedOut, or Lost (never delivered). `delay_s` of `agent` is
added to the usual delay, that of `events` holds each event back; lost `ticks` never come. All seconds are the
stand-in clock's. `stacks`: CloudFormation cannot make, update or delete this resource, or, `on` hold, does not end
making it while the fault is there. What cannot be read is answered 400 with a sentence, and changes nothing.
"""

from __future__ import annotations

import fnmatch
import threading
from typing import Any

from whisperctl.local.awsapi import AwsError
from whisperctl.local.faultset import ALL, CommandFault, FaultSet, parse


class Faults:
    """The set in force; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = FaultSet()

    @property
    def now(self) -> FaultSet:
        return self._set

    def replace(self, posted: Any) -> FaultSet:
        """Take a posted set and return it, or raise BadFaults and keep the old one."""
        parsed = parse(posted)
        with self._lock:
            self._set = parsed
        return parsed

    def throttle(self, service: str, operation: str) -> None:
        """Raise the service's throttling error if a fault asks for it; counts `times` down."""
        with self._lock:
            for fault in self._set.throttling:
                if fault.service != service or fault.operation not in (ALL, operation) or fault.times == 0:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                raise throttled(service)

    def impairs(self, instance_id: str) -> bool:
        """Whether this start ends without a host; counts `times` down."""
        with self._lock:
            for fault in self._set.impaired:
                if fault.instance not in (ALL, instance_id) or fault.times == 0:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return True
        return False

    def holds(self, instance_id: str) -> bool:
        """Whether a stop of this machine does not end."""
        return any(fault.instance in (ALL, instance_id) for fault in self._set.stuck)

    def kills(self, operation: str) -> bool:
        """Whether the invocation that made this call ends with it; counts `times` down."""
        with self._lock:
            for fault in self._set.lambdas:
                if fault.after == operation and fault.times > 0:
                    fault.times -= 1
                    return True
        return False

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

    def stack_refuses(self, resource: str, action: str) -> None:
        """Raise the refusal of a stack's resource, where a fault asks for it; counts `times` down."""
        with self._lock:
            for fault in self._set.stacks:
                if fault.resource != resource or fault.on != action or fault.times == 0:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                raise AwsError("ServiceError", fault.reason)

    def stack_holds(self, resource: str) -> bool:
        """Whether the making of a stack's resource does not end."""
        return any(fault.resource == resource and fault.on == "hold" for fault in self._set.stacks)

    def of_command(self, document: str, comment: str = "") -> CommandFault | None:
        """The fault that strikes a command of this document with this comment."""
        return next(
            (
                fault
                for fault in self._set.commands
                if fnmatch.fnmatch(document, fault.document) and fnmatch.fnmatch(comment, fault.comment)
            ),
            None,
        )


def throttled(service: str) -> AwsError:
    """The throttling error in the service's own words."""
    if service == "ec2":
        return AwsError("RequestLimitExceeded", "Request limit exceeded.", status=503)
    return AwsError("ThrottlingException", "Rate exceeded", status=400)


def _short(faults: FaultSet, instance_type: str, zone: str) -> bool:
    return any(f.type in (ALL, instance_type) and f.zone in (ALL, zone) for f in faults.capacity)
