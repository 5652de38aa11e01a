"""SSM over moto: moto keeps documents and parameters, this module the agents and the commands.

An agent is online some seconds after its machine runs. A command's script really runs on the "host", as the agent
runs it: written to a file, started by `sh` (a `#!` line is honoured), parameters put in where `{{ name }}` stands
or as `SSM_name` in the environment (`interpolationType: ENV_VAR`), output shown only at the end and cut.
Sources: https://docs.aws.amazon.com/systems-manager/latest/userguide/run-command.html and
https://docs.aws.amazon.com/systems-manager/latest/userguide/documents-command-ssm-plugin-reference.html
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from whisperctl.local.awsapi import AwsError, AwsRequest, AwsResponse, json_response
from whisperctl.local.clock import StandInClock
from whisperctl.local.documents import fill_in, scripts
from whisperctl.local.ec2 import ACCOUNT, Ec2, Machine
from whisperctl.local.faults import Faults
from whisperctl.local.faultset import CommandFault

log = logging.getLogger(__name__)

STDOUT_CUT = 24_000
STDERR_CUT = 8_000
PING_EVERY_S = 60.0
# Real: just after SendCommand the invocation is not there yet.
INVOCATION_AFTER_S = 0.2
DELIVERED_AFTER_S = 0.1
DEFAULT_DELIVERY_S = 600
AWS_OWN = "/aws/service/"
FINAL = frozenset({"Success", "Failed", "TimedOut", "Cancelled"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a script ended. `exit_code` is None when the host went away under it."""

    exit_code: int | None
    stdout: str
    stderr: str
    timed_out: bool = False


class ScriptHost(Protocol):
    """Where scripts run."""

    def run_script(
        self, instance_id: str, script: str, env: Mapping[str, str], expired: Callable[[], bool]
    ) -> Outcome:
        """Run it on the host; ended when `expired()` turns true."""


@dataclass(slots=True)
class Invocation:
    """One command on one instance."""

    command_id: str
    instance_id: str
    document: str
    comment: str
    requested_at: float
    sent_real: float
    deliver_by: float
    steps: list[dict[str, Any]]
    parameters: dict[str, list[str]]
    environment: dict[str, str]
    bucket: str = ""
    prefix: str = ""
    status: str = "Pending"
    details: str = "Pending"
    exit_code: int = -1
    stdout: str = ""
    stderr: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


class Ssm:
    """Agents and commands of one account and region."""

    def __init__(
        self, *, clock: StandInClock, faults: Faults, ec2: Ec2, agent_s: float, region: str, lock: threading.RLock
    ) -> None:
        from moto.backends import get_backend

        self._backend: Any = get_backend("ssm")[ACCOUNT][region]
        self._clock = clock
        self._faults = faults
        self._ec2 = ec2
        self._agent_s = agent_s
        self.delivered_after_s = DELIVERED_AFTER_S
        self._moto_lock = lock
        self._lock = threading.Lock()
        self._invocations: dict[str, list[Invocation]] = {}
        self._pings: dict[str, float] = {}
        self._closed = threading.Event()
        self.on_end: Callable[[str, str, str, str], None] = lambda _command, _instance, _document, _status: None
        """Told of every command that ended: command id, instance id, document, status."""
        self.host: ScriptHost | None = None
        """Set once, by the wiring, before the first command."""

    def close(self) -> None:
        """Deliver nothing any more; scripts under way end with their host."""
        self._closed.set()

    def handle(self, request: AwsRequest) -> AwsResponse | None:
        """Answer what moto cannot; None leaves the call to moto."""
        handlers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "DescribeInstanceInformation": self._instance_information,
            "SendCommand": self._send,
            "GetCommandInvocation": self._get_invocation,
            "ListCommandInvocations": self._list_invocations,
            "ListCommands": self._list_commands,
            "CancelCommand": self._cancel,
        }
        if request.operation == "GetParameter" and str(request.parameters.get("Name", "")).startswith(AWS_OWN):
            return json_response(_aws_parameter(str(request.parameters["Name"])))
        handler = handlers.get(request.operation)
        return json_response(handler(request.parameters)) if handler is not None else None

    def online(self, instance_id: str) -> bool:
        """Whether the instance's agent is connected now."""
        machine = self._ec2.machine(instance_id)
        return machine is not None and self._registered(machine) is not None

    def _registered(self, machine: Machine) -> float | None:
        """When this boot's agent came online, None if it is not."""
        agent = self._faults.now.agent
        if machine.state != "running" or machine.running_since is None or agent.offline or not machine.healthy:
            return None
        moment = machine.running_since + self._agent_s + agent.delay_s
        return moment if moment <= self._clock.now() else None

    def _instance_information(self, parameters: dict[str, Any]) -> dict[str, Any]:
        wanted: set[str] | None = None
        for item in [*parameters.get("Filters", []), *parameters.get("InstanceInformationFilterList", [])]:
            if item.get("Key", item.get("key")) == "InstanceIds":
                wanted = set(item.get("Values", item.get("valueSet", [])))
        listed = []
        for machine in self._ec2.machines():
            registered = self._registered(machine)
            with self._lock:
                if registered is not None:
                    pings = (self._clock.now() - registered) // PING_EVERY_S
                    self._pings[machine.instance_id] = registered + pings * PING_EVERY_S
                last = self._pings.get(machine.instance_id)
            if last is None or (wanted is not None and machine.instance_id not in wanted):
                continue
            listed.append(
                {
                    "InstanceId": machine.instance_id,
                    "PingStatus": "Online" if registered is not None else "ConnectionLost",
                    "LastPingDateTime": last,
                    "AgentVersion": "3.3.2299.0",
                    "IsLatestVersion": True,
                    "PlatformType": "Linux",
                    "PlatformName": "Ubuntu",
                    "PlatformVersion": "24.04",
                    "ResourceType": "EC2Instance",
                    "IPAddress": machine.private_ip,
                    "ComputerName": machine.instance_id,
                }
            )
        return {"InstanceInformationList": listed}

    def _send(self, parameters: dict[str, Any]) -> dict[str, Any]:
        targets = [str(instance_id) for instance_id in parameters.get("InstanceIds", [])]
        for target in parameters.get("Targets", []):
            if target.get("Key") == "InstanceIds":
                targets.extend(target.get("Values", []))
        name = str(parameters.get("DocumentName", ""))
        content = self._document(name)
        given = fill_in(content, parameters.get("Parameters") or {})
        offline = [instance_id for instance_id in targets if not self.online(instance_id)]
        if offline or not targets:
            listed = ", ".join(offline)
            raise AwsError("InvalidInstanceId", f"Instances [[{listed}]] not in a valid state for account {ACCOUNT}")
        command_id = str(uuid.uuid4())
        now = self._clock.now()
        delivery_s = float(parameters.get("TimeoutSeconds") or DEFAULT_DELIVERY_S)
        steps, environment = scripts(content, given)
        invocations = [
            Invocation(
                command_id=command_id,
                instance_id=instance_id,
                document=name,
                comment=str(parameters.get("Comment", "")),
                requested_at=now,
                sent_real=time.monotonic(),
                deliver_by=now + delivery_s,
                steps=steps,
                parameters=given,
                environment=environment,
                bucket=str(parameters.get("OutputS3BucketName", "")),
                prefix=str(parameters.get("OutputS3KeyPrefix", "")),
            )
            for instance_id in targets
        ]
        with self._lock:
            self._invocations[command_id] = invocations
        for invocation in invocations:
            threading.Thread(target=self._carry_out, args=(invocation,), name="ssm command", daemon=True).start()
        return {"Command": _command(invocations)}

    def _document(self, name: str) -> dict[str, Any]:
        with self._moto_lock:
            document = self._backend._documents.get(name)
            if document is None:
                raise AwsError("InvalidDocument", f"Document with name {name} does not exist.")
            found = document.find(None)
            content: dict[str, Any] = json.loads(found.content) if isinstance(found.content, str) else found.content
            return content

    def _carry_out(self, invocation: Invocation) -> None:
        fault = self._faults.of_command(invocation.document, invocation.comment)
        if self._closed.wait(self.delivered_after_s):
            return
        while (fault is not None and fault.status == "Lost") or not self.online(invocation.instance_id):
            if invocation.cancelled.is_set():
                return
            if self._clock.now() >= invocation.deliver_by:
                self._end(invocation, "TimedOut", "DeliveryTimedOut")
                return
            if self._closed.wait(0.1):
                return
        with self._lock:
            invocation.status = invocation.details = "InProgress"
            invocation.started_at = self._clock.now()
        if fault is not None:
            self._fail_as_told(invocation, fault)
            return
        for step in invocation.steps:
            outcome = self._run_step(invocation, step)
            if outcome is None or outcome.exit_code != 0:
                return
        self._end(invocation, "Success", "Success")

    def _fail_as_told(self, invocation: Invocation, fault: CommandFault) -> None:
        if fault.status == "TimedOut":
            self._end(invocation, "TimedOut", "ExecutionTimedOut")
            return
        with self._lock:
            invocation.exit_code = fault.exit_code
            invocation.stderr = _failed_text(fault.output, fault.exit_code)
        self._end(invocation, "Failed", "Failed")

    def _run_step(self, invocation: Invocation, step: dict[str, Any]) -> Outcome | None:
        """Run one step; ends the invocation unless it succeeded. A failed step is the last one."""
        if self.host is None:
            raise RuntimeError("no hosts are wired to SSM")
        deadline = self._clock.now() + float(step["timeout_s"])
        outcome = self.host.run_script(
            invocation.instance_id,
            str(step["script"]),
            invocation.environment,
            lambda: self._clock.now() >= deadline or invocation.cancelled.is_set(),
        )
        self._keep_output(invocation, str(step["name"]), outcome)
        if invocation.cancelled.is_set():
            self._end(invocation, "Cancelled", "Cancelled")
            return None
        if outcome.exit_code is None and not outcome.timed_out:
            # The host went away: SSM hears nothing and says so when the step's time is over.
            while self._clock.now() < deadline:
                if self._closed.wait(0.2):
                    return None
            self._end(invocation, "TimedOut", "ExecutionTimedOut")
            return None
        with self._lock:
            invocation.stdout = (invocation.stdout + outcome.stdout)[:STDOUT_CUT]
            invocation.stderr = (invocation.stderr + outcome.stderr)[:STDERR_CUT]
        if outcome.timed_out:
            self._end(invocation, "TimedOut", "ExecutionTimedOut")
            return None
        with self._lock:
            invocation.exit_code = outcome.exit_code or 0
            if invocation.exit_code:
                invocation.stderr = _failed_text(invocation.stderr, invocation.exit_code)
        if outcome.exit_code:
            self._end(invocation, "Failed", "Failed")
        return outcome

    def _keep_output(self, invocation: Invocation, step: str, outcome: Outcome) -> None:
        """The whole output into the bucket, under the keys the agent uses."""
        if not invocation.bucket:
            return
        from moto.backends import get_backend

        parts = (invocation.prefix, invocation.command_id, invocation.instance_id, "awsrunShellScript", step)
        place = "/".join(part for part in parts if part)
        with self._moto_lock:
            bucket: Any = get_backend("s3")[ACCOUNT]["aws"]
            for name, text in (("stdout", outcome.stdout), ("stderr", outcome.stderr)):
                if text:
                    bucket.put_object(invocation.bucket, f"{place}/{name}", text.encode())

    def _end(self, invocation: Invocation, status: str, details: str) -> None:
        self._note_end(invocation, status, details)
        self.on_end(invocation.command_id, invocation.instance_id, invocation.document, status)

    def _note_end(self, invocation: Invocation, status: str, details: str) -> None:
        with self._lock:
            invocation.ended_at = self._clock.now()
            invocation.status, invocation.details = status, details
            if status == "Success":
                invocation.exit_code = 0

    def _get_invocation(self, parameters: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            for invocation in self._invocations.get(str(parameters.get("CommandId")), []):
                young = time.monotonic() - invocation.sent_real < INVOCATION_AFTER_S
                if invocation.instance_id == parameters.get("InstanceId") and not young:
                    return _described(invocation)
        raise AwsError("InvocationDoesNotExist", "")

    def _list_invocations(self, parameters: dict[str, Any]) -> dict[str, Any]:
        command_id, instance_id = parameters.get("CommandId"), parameters.get("InstanceId")
        with self._lock:
            found = [
                _listed(invocation, bool(parameters.get("Details")))
                for invocations in self._invocations.values()
                for invocation in invocations
                if command_id in (None, invocation.command_id) and instance_id in (None, invocation.instance_id)
            ]
        return {"CommandInvocations": found[::-1]}

    def _list_commands(self, parameters: dict[str, Any]) -> dict[str, Any]:
        command_id, instance_id = parameters.get("CommandId"), parameters.get("InstanceId")
        with self._lock:
            found = [
                _command(invocations)
                for invocations in self._invocations.values()
                if command_id in (None, invocations[0].command_id)
                and (instance_id is None or any(i.instance_id == instance_id for i in invocations))
            ]
        return {"Commands": found[::-1]}

    def _cancel(self, parameters: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            invocations = self._invocations.get(str(parameters.get("CommandId")))
            if invocations is None:
                raise AwsError("InvalidCommandId", "The specified command ID is not valid.")
            for invocation in invocations:
                invocation.cancelled.set()
                if invocation.status == "Pending":
                    invocation.status = invocation.details = "Cancelled"
        return {}


def _failed_text(stderr: str, exit_code: int) -> str:
    return (stderr[: STDERR_CUT - 60].rstrip("\n") + f"\nfailed to run commands: exit status {exit_code}").lstrip(
        "\n"
    )


def _shown(invocation: Invocation) -> tuple[str, str]:
    """stdout and stderr: empty until the end, as SSM shows them."""
    return (invocation.stdout, invocation.stderr) if invocation.status in FINAL else ("", "")


def _described(invocation: Invocation) -> dict[str, Any]:
    stdout, stderr = _shown(invocation)
    described: dict[str, Any] = {
        "CommandId": invocation.command_id,
        "InstanceId": invocation.instance_id,
        "Comment": invocation.comment,
        "DocumentName": invocation.document,
        "DocumentVersion": "1",
        "PluginName": invocation.steps[0]["name"] if invocation.steps else "",
        "ResponseCode": invocation.exit_code if invocation.status in FINAL else -1,
        "Status": invocation.status,
        "StatusDetails": invocation.details,
        "StandardOutputContent": stdout,
        "StandardErrorContent": stderr,
        "ExecutionStartDateTime": _iso(invocation.started_at),
        "ExecutionEndDateTime": _iso(invocation.ended_at),
    }
    return described


def _aws_parameter(name: str) -> dict[str, Any]:
    """A public parameter of AWS's: the id of an image, the same one whenever it is asked for."""
    image = f"ami-{hashlib.sha256(name.encode()).hexdigest()[:17]}"
    return {"Parameter": {"Name": name, "Type": "String", "Value": image, "Version": 1, "DataType": "aws:ec2:image"}}


def _listed(invocation: Invocation, details: bool) -> dict[str, Any]:
    stdout, _stderr = _shown(invocation)
    listed: dict[str, Any] = {
        "CommandId": invocation.command_id,
        "InstanceId": invocation.instance_id,
        "Comment": invocation.comment,
        "DocumentName": invocation.document,
        "RequestedDateTime": invocation.requested_at,
        "Status": invocation.status,
        "StatusDetails": invocation.details,
        "CommandPlugins": [],
    }
    if details:
        listed["CommandPlugins"] = [
            {
                "Name": step["name"],
                "Status": invocation.status,
                "StatusDetails": invocation.details,
                "ResponseCode": invocation.exit_code,
                "Output": stdout,
            }
            for step in invocation.steps
        ]
    return listed


def _command(invocations: list[Invocation]) -> dict[str, Any]:
    first = invocations[0]
    statuses = {invocation.status for invocation in invocations}
    status = statuses.pop() if len(statuses) == 1 else "InProgress"
    return {
        "CommandId": first.command_id,
        "DocumentName": first.document,
        "Comment": first.comment,
        "Parameters": first.parameters,
        "InstanceIds": [invocation.instance_id for invocation in invocations],
        "RequestedDateTime": first.requested_at,
        "ExpiresAfter": first.deliver_by,
        "Status": status,
        "StatusDetails": status,
        "TargetCount": len(invocations),
        "CompletedCount": sum(invocation.status in FINAL for invocation in invocations),
    }


def _iso(moment: float | None) -> str:
    return "" if moment is None else datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
