"""Stacks, change sets and events, with the states, the words and the refusals that CloudFormation has for them.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
Resources are made one after the other, each after a dwell on the stand-in's clock. What a change set cannot tell
here: a changed resource is changed in place, or is shown as replaced where `REPLACING` says so; nothing is replaced
in fact, and Lambdas, API and rules are noted only (`makers.RECORDED`).
"""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from whisperctl.local.awsapi import AwsError, AwsRequest, AwsResponse
from whisperctl.local.cfn import makers
from whisperctl.local.cfn.template import BadTemplate, Made, Scope, expanded
from whisperctl.local.clock import StandInClock, Timeline
from whisperctl.local.faults import Faults

NOTHING = "The submitted information didn't contain changes. Submit different information to create a change set."
PAGE = 100
BODY_LIMIT = 51_200
TERMINATION_LOOK_S = 0.2
MACHINE = "AWS::EC2::Instance"
REPLACING = {
    "AWS::DynamoDB::Table": ("TableName", "KeySchema"),
    MACHINE: ("LaunchTemplate", "NetworkInterfaces", "ImageId", "SubnetId"),
    "AWS::EC2::EIP": ("Domain",),
    "AWS::EC2::Subnet": ("CidrBlock", "AvailabilityZone", "VpcId"),
    "AWS::EC2::VPC": ("CidrBlock",),
}
"""Properties whose change makes CloudFormation replace the resource."""
ENDED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
"""States from which a stack may be updated."""

Work = Generator[float, None, None]


@dataclass
class Stack:
    """One stack; `made` are its resources by logical id."""

    name: str
    id: str
    created: float
    status: str = "REVIEW_IN_PROGRESS"
    reason: str = ""
    updated: float | None = None
    scope: Scope | None = None
    template: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    made: dict[str, Made] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    changes: dict[str, ChangeSet] = field(default_factory=dict)
    working: bool = False
    """A creation or an update is carried out now."""

    @property
    def parameters(self) -> dict[str, str]:
        return {} if self.scope is None else self.scope.parameters


@dataclass
class ChangeSet:
    """What would be done; `scope` is what the stack would be after it."""

    name: str
    id: str
    status: str
    reason: str
    scope: Scope
    template: str
    tags: tuple[tuple[str, str], ...]
    changes: list[dict[str, Any]]
    execution: str = "AVAILABLE"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of the stand-in's clock that making or unmaking one resource takes."""

    resource_s: float = 0.0


class Stacks:
    """CloudFormation of one account and region. `client(service)` makes clients of the stand-in itself."""

    def __init__(
        self,
        *,
        clock: StandInClock,
        timeline: Timeline,
        faults: Faults,
        client: Callable[[str], Any],
        region: str,
        zones: tuple[str, ...],
        pace: Pace,
    ) -> None:
        self._clock = clock
        self._timeline = timeline
        self._faults = faults
        self.client = client
        self._region = region
        self._zones = list(zones)
        self._pace = pace
        self._lock = threading.RLock()
        self._stacks: list[Stack] = []
        self._ids = itertools.count(1)
        self.outputs: Callable[[Stack], Mapping[str, str]] = lambda _stack: {}
        """What the embedded cloud knows better than the template: where the API and the edge are."""
        self.on_change: Callable[[Stack, Mapping[str, Any]], None] = lambda _stack, _environment: None
        """Told when functions have new environments, before the stack is complete."""
        self.on_delete: Callable[[Stack], None] = lambda _stack: None
        """Told when a stack begins to be deleted."""

    def handle(self, request: AwsRequest) -> AwsResponse | None:
        """Answer a call of CloudFormation; None where the operation is not known here."""
        operations: dict[str, Callable[[dict[str, Any]], Any]] = {
            "CreateChangeSet": self._create_change_set,
            "DescribeChangeSet": self._describe_change_set,
            "ExecuteChangeSet": self._execute,
            "DeleteChangeSet": self._delete_change_set,
            "DescribeStacks": self._describe_stacks,
            "DescribeStackEvents": self._describe_events,
            "ListStackResources": self._list_resources,
            "DescribeStackResource": self._describe_resource,
            "ContinueUpdateRollback": self._continue_rollback,
            "DeleteStack": self._delete_stack,
            "GetTemplate": self._get_template,
        }
        operation = operations.get(request.operation)
        if operation is None:
            return None
        try:
            with self._lock:
                result = operation(request.parameters)
        except BadTemplate as error:
            raise AwsError("ValidationError", str(error)) from None
        inner = f"<{request.operation}Result>{_xml(result)}</{request.operation}Result>"
        body = (
            f'<{request.operation}Response xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">{inner}'
            f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{request.operation}Response>"
        )
        return AwsResponse(200, {"Content-Type": "text/xml"}, body.encode())

    def stack(self, name: str) -> Stack | None:
        """The stack of this name or id that is not deleted (a deleted one by its id only)."""
        with self._lock:
            for one in reversed(self._stacks):
                if one.id == name or (one.name == name and one.status != "DELETE_COMPLETE"):
                    return one
        return None

    # ---- change sets --------------------------------------------------------------------------------------------
    def _create_change_set(self, asked: dict[str, Any]) -> dict[str, str]:
        name, kind = str(asked["StackName"]), str(asked.get("ChangeSetType", "UPDATE"))
        stack = self.stack(name)
        if kind == "CREATE":
            if stack is not None and stack.status != "REVIEW_IN_PROGRESS":
                message = f"Stack [{name}] already exists and cannot be created again with the changeSet "
                raise AwsError("AlreadyExistsException", message + f"[{asked['ChangeSetName']}].")
        elif stack is None:
            raise _missing(name)
        elif stack.status not in ENDED:
            message = f"Stack:{stack.id} is in {stack.status} state and can not be updated."
            raise AwsError("ValidationError", message)
        text = self._text(asked, stack)
        _check_capabilities(text, asked)
        scope = self._scope(name, stack, text, asked)
        if stack is None:
            stack = self._begin(name)
        if asked["ChangeSetName"] in stack.changes:
            raise AwsError("AlreadyExistsException", f"ChangeSet {asked['ChangeSetName']} already exists")
        tags = tuple((str(one["Key"]), str(one["Value"])) for one in asked.get("Tags", []))
        changes = self._changes(stack, scope)
        nothing = not changes and stack.scope is not None and (text, tags) == (stack.template, stack.tags)
        nothing = nothing or (stack.scope is not None and not changes and scope.parameters == stack.parameters)
        made = ChangeSet(
            name=str(asked["ChangeSetName"]),
            id=self._arn(f"changeSet/{asked['ChangeSetName']}"),
            status="FAILED" if nothing else "CREATE_COMPLETE",
            reason=NOTHING if nothing else "",
            scope=scope,
            template=text,
            tags=tags,
            changes=changes,
            execution="UNAVAILABLE" if nothing else "AVAILABLE",
        )
        stack.changes[made.name] = made
        return {"Id": made.id, "StackId": stack.id}

    def _text(self, asked: dict[str, Any], stack: Stack | None) -> str:
        if asked.get("UsePreviousTemplate") == "true" and stack is not None:
            return stack.template
        body = str(asked.get("TemplateBody", ""))
        if len(body) > BODY_LIMIT:
            raise AwsError(
                "ValidationError", f"1 validation error detected: templateBody is longer than {BODY_LIMIT}"
            )
        if body:
            return body
        parts = urlsplit(str(asked["TemplateURL"]))
        host, path = parts.hostname or "", unquote(parts.path).lstrip("/")
        bucket, key = (host.split(".")[0], path) if host.endswith(".amazonaws.com") else path.split("/", 1)
        from botocore.exceptions import ClientError

        try:
            return str(self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())
        except ClientError:
            message = f"S3 error: The specified key does not exist. ({asked['TemplateURL']})"
            raise AwsError("ValidationError", message) from None

    def _scope(self, name: str, stack: Stack | None, text: str, asked: dict[str, Any]) -> Scope:
        try:
            template = json.loads(text)
        except ValueError:
            raise BadTemplate("Template format error: JSON not well-formed.") from None
        given: dict[str, str] = {}
        for one in asked.get("Parameters", []):
            key = str(one["ParameterKey"])
            if one.get("UsePreviousValue") == "true":
                if stack is None or key not in stack.parameters:
                    raise BadTemplate(
                        f"Invalid input for parameter key {key}. Cannot specify usePreviousValue as true"
                    )
                given[key] = stack.parameters[key]
            else:
                given[key] = str(one.get("ParameterValue", ""))
        pseudo = {
            "AWS::StackName": name,
            "AWS::StackId": stack.id if stack else "new",
            "AWS::Region": self._region,
            "AWS::AccountId": makers.ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
        }
        scope = Scope(expanded(template), given, pseudo, self._zones)
        scope.wanted()  # refuses what refers to nothing, before anything is made
        return scope

    def _changes(self, stack: Stack, scope: Scope) -> list[dict[str, Any]]:
        wanted = scope.wanted()
        scope.made, scope.strict = dict(stack.made), False
        changes = []
        for name in wanted:
            kind = scope.template["Resources"][name]["Type"]
            if name not in stack.made:
                changes.append(_change("Add", name, kind))
                continue
            made, properties = stack.made[name], scope.properties(name)
            touched = [
                key
                for key in properties.keys() | made.properties.keys()
                if properties.get(key) != made.properties.get(key)
            ]
            if touched:
                replaced = bool(set(touched) & set(REPLACING.get(kind, ())))
                changes.append(_change("Modify", name, kind, made.physical, "True" if replaced else "False"))
        gone = [one for name, one in stack.made.items() if name not in wanted]
        changes += [_change("Remove", one.logical, one.type, one.physical) for one in gone]
        scope.strict = True
        return changes

    def _describe_change_set(self, asked: dict[str, Any]) -> dict[str, Any]:
        stack, change = self._change_set(asked)
        return {
            "ChangeSetName": change.name,
            "ChangeSetId": change.id,
            "StackId": stack.id,
            "StackName": stack.name,
            "CreationTime": _time(self._clock.now()),
            "Status": change.status,
            "StatusReason": change.reason,
            "ExecutionStatus": change.execution,
            "Parameters": _parameters(change.scope.parameters),
            "Changes": [{"Type": "Resource", "ResourceChange": one} for one in change.changes],
        }

    def _change_set(self, asked: dict[str, Any]) -> tuple[Stack, ChangeSet]:
        called = str(asked["ChangeSetName"])
        for stack in reversed(self._stacks):
            for change in stack.changes.values():
                if change.id == called or (
                    change.name == called and asked.get("StackName") in (stack.name, stack.id)
                ):
                    return stack, change
        raise AwsError("ChangeSetNotFound", f"ChangeSet [{called}] does not exist", 404)

    def _delete_change_set(self, asked: dict[str, Any]) -> dict[str, Any]:
        stack, change = self._change_set(asked)
        del stack.changes[change.name]
        return {}

    def _execute(self, asked: dict[str, Any]) -> dict[str, Any]:
        stack, change = self._change_set(asked)
        if change.execution != "AVAILABLE" or stack.status not in (*ENDED, "REVIEW_IN_PROGRESS"):
            message = f"ChangeSet [{change.id}] cannot be executed in its current status of [{change.status}]"
            raise AwsError("InvalidChangeSetStatus", message)
        stack.changes.clear()
        first = stack.status == "REVIEW_IN_PROGRESS"
        verb = "CREATE" if first else "UPDATE"
        if not first:
            stack.updated = self._clock.now()
        self._state(stack, f"{verb}_IN_PROGRESS", "User Initiated")
        stack.working = True
        self._drive(self._carry_out(stack, change, verb), f"{verb} of {stack.name}")
        return {}

    # ---- the work -----------------------------------------------------------------------------------------------
    def _drive(self, work: Work, what: str) -> None:
        def step() -> None:
            try:
                seconds = next(work)
            except StopIteration:
                return
            self._timeline.after(seconds, what, step)

        self._timeline.after(0, what, step)

    def _carry_out(self, stack: Stack, change: ChangeSet, verb: str) -> Work:
        scope, before = change.scope, dict(stack.made)
        scope.made = stack.made
        old = (stack.scope, stack.template, stack.tags)
        stack.scope, stack.template, stack.tags = scope, change.template, change.tags
        touched = {one["LogicalResourceId"] for one in change.changes if one["Action"] == "Modify"}
        try:
            for name in scope.wanted():
                if name not in stack.made:
                    yield from self._make(stack, name)
                elif name in touched:
                    yield from self._modify(stack, name)
                if stack.status != f"{verb}_IN_PROGRESS":
                    return  # broken off by a deletion
            for name in [name for name in stack.made if name not in scope.wanted()]:
                yield from self._unmake(stack, name, keep_retained=True)
        except _Refused as refused:
            if stack.status != f"{verb}_IN_PROGRESS":
                return
            yield from self._roll_back(stack, verb, before, refused.name)
            if verb == "UPDATE":
                stack.scope, stack.template, stack.tags = old
            return
        finally:
            stack.working = False
        self.on_change(stack, _environments(stack))
        self._state(stack, f"{verb}_COMPLETE")

    def _make(self, stack: Stack, name: str) -> Work:
        assert stack.scope is not None
        kind = stack.scope.template["Resources"][name]["Type"]
        self._event(stack, name, kind, "", "CREATE_IN_PROGRESS")
        yield self._pace.resource_s
        while self._faults.stack_holds(name) and stack.status != "DELETE_IN_PROGRESS":
            yield TERMINATION_LOOK_S
        from botocore.exceptions import ClientError

        place = makers.Place(stack.name, self._region, stack.tags)
        try:
            self._faults.stack_refuses(name, "create")
            properties = stack.scope.properties(name)
            made = makers.create(self.client, place, name, kind, properties)
        except (AwsError, ClientError, BadTemplate, ValueError) as error:
            reason = f'Resource handler returned message: "{error}"'
            self._event(stack, name, kind, "", "CREATE_FAILED", reason)
            raise _Refused(name) from None
        made.properties = properties
        stack.made[name] = made
        self._event(stack, name, kind, made.physical, "CREATE_COMPLETE")

    def _modify(self, stack: Stack, name: str) -> Work:
        assert stack.scope is not None
        made = stack.made[name]
        self._event(stack, name, made.type, made.physical, "UPDATE_IN_PROGRESS")
        yield self._pace.resource_s
        try:
            self._faults.stack_refuses(name, "update")
        except AwsError as error:
            self._event(stack, name, made.type, made.physical, "UPDATE_FAILED", error.message)
            raise _Refused(name) from None
        made.properties = stack.scope.properties(name)
        self._event(stack, name, made.type, made.physical, "UPDATE_COMPLETE")

    def _roll_back(self, stack: Stack, verb: str, before: Mapping[str, Made], failed: str) -> Work:
        prefix = "ROLLBACK" if verb == "CREATE" else "UPDATE_ROLLBACK"
        self._state(
            stack, f"{prefix}_IN_PROGRESS", f"The following resource(s) failed to {verb.lower()}: [{failed}]."
        )
        for name in [name for name in reversed(list(stack.made)) if name not in before]:
            yield from self._unmake(stack, name, keep_retained=True, rollback=True)
        self._state(stack, f"{prefix}_COMPLETE")

    def _unmake(self, stack: Stack, name: str, *, keep_retained: bool, rollback: bool = False) -> Work:
        made = stack.made[name]
        assert stack.scope is not None
        policy = stack.scope.template["Resources"].get(name, {}).get("DeletionPolicy", "Delete")
        if keep_retained and (policy == "Retain" or (policy == "RetainExceptOnCreate" and not rollback)):
            self._event(stack, name, made.type, made.physical, "DELETE_SKIPPED")
            del stack.made[name]
            return
        self._event(stack, name, made.type, made.physical, "DELETE_IN_PROGRESS")
        yield self._pace.resource_s
        from botocore.exceptions import ClientError

        try:
            self._faults.stack_refuses(name, "delete")
            makers.delete(self.client, made)
        except (AwsError, ClientError) as error:
            self._event(stack, name, made.type, made.physical, "DELETE_FAILED", str(error))
            raise _Refused(name) from None
        while made.type == MACHINE and not self._terminated(made.physical):
            yield TERMINATION_LOOK_S
        del stack.made[name]
        self._event(stack, name, made.type, made.physical, "DELETE_COMPLETE")

    def _terminated(self, instance_id: str) -> bool:
        found = self.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"]
        return all(one["State"]["Name"] == "terminated" for each in found for one in each["Instances"])

    def _delete_stack(self, asked: dict[str, Any]) -> dict[str, Any]:
        stack = self.stack(str(asked["StackName"]))
        if stack is None or stack.status == "DELETE_COMPLETE" or stack.status == "DELETE_IN_PROGRESS":
            return {}
        # A creation is broken off; anything else that is under way must end first.
        if stack.status.endswith("_IN_PROGRESS") and stack.status not in ("REVIEW_IN_PROGRESS", "CREATE_IN_PROGRESS"):
            raise AwsError("ValidationError", f"Stack {stack.id} cannot be deleted while in status {stack.status}")
        retained = [str(one) for one in asked.get("RetainResources", [])]
        if retained and stack.status != "DELETE_FAILED":
            message = "Invalid operation on stack: resources can be retained only when it failed to be deleted."
            raise AwsError("ValidationError", message)
        self.on_delete(stack)
        self._state(stack, "DELETE_IN_PROGRESS", "User Initiated")
        self._drive(self._take_down(stack, retained), f"DELETE of {stack.name}")
        return {}

    def _take_down(self, stack: Stack, retained: list[str]) -> Work:
        failed = []
        while stack.working:
            yield TERMINATION_LOOK_S
        for name in reversed(list(stack.made)):
            if name in retained:
                made = stack.made.pop(name)
                self._event(stack, name, made.type, made.physical, "DELETE_SKIPPED")
                continue
            try:
                yield from self._unmake(stack, name, keep_retained=True)
            except _Refused:
                failed.append(name)
        if failed:
            reason = f"The following resource(s) failed to delete: [{', '.join(failed)}]. "
            self._state(stack, "DELETE_FAILED", reason)
            return
        self._state(stack, "DELETE_COMPLETE")

    # ---- looking ------------------------------------------------------------------------------------------------
    def _describe_stacks(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked.get("StackName")
        shown = (
            [self.stack(str(name))] if name else [one for one in self._stacks if one.status != "DELETE_COMPLETE"]
        )
        if shown == [None]:
            raise _missing(str(name))
        return {"Stacks": [self._shown(one) for one in shown if one is not None]}

    def _shown(self, stack: Stack) -> dict[str, Any]:
        outputs: list[dict[str, str]] = []
        if stack.scope is not None and stack.status in ENDED:
            known = dict(self.outputs(stack))
            outputs = [
                {**one, "OutputValue": known.get(one["OutputKey"], one["OutputValue"])}
                for one in stack.scope.outputs()
            ]
        shown: dict[str, Any] = {
            "StackId": stack.id,
            "StackName": stack.name,
            "StackStatus": stack.status,
            "StackStatusReason": stack.reason,
            "CreationTime": _time(stack.created),
            "Parameters": _parameters(stack.parameters),
            "Outputs": outputs,
            "Tags": [{"Key": key, "Value": value} for key, value in stack.tags],
        }
        return shown | ({"LastUpdatedTime": _time(stack.updated)} if stack.updated else {})

    def _describe_events(self, asked: dict[str, Any]) -> dict[str, Any]:
        stack = self.stack(str(asked["StackName"]))
        if stack is None:
            raise _missing(str(asked["StackName"]))
        newest_first = stack.events[::-1]
        start = int(asked.get("NextToken") or 0)
        page: dict[str, Any] = {"StackEvents": newest_first[start : start + PAGE]}
        return page | ({"NextToken": str(start + PAGE)} if start + PAGE < len(newest_first) else {})

    def _list_resources(self, asked: dict[str, Any]) -> dict[str, Any]:
        stack = self.stack(str(asked["StackName"]))
        if stack is None:
            raise _missing(str(asked["StackName"]))
        latest = {one["LogicalResourceId"]: one for one in stack.events}
        return {
            "StackResourceSummaries": [
                {
                    "LogicalResourceId": one.logical,
                    "PhysicalResourceId": one.physical,
                    "ResourceType": one.type,
                    "ResourceStatus": latest[one.logical]["ResourceStatus"],
                    "LastUpdatedTimestamp": latest[one.logical]["Timestamp"],
                }
                for one in stack.made.values()
            ]
        }

    def _describe_resource(self, asked: dict[str, Any]) -> dict[str, Any]:
        listed = self._list_resources(asked)["StackResourceSummaries"]
        found = next((one for one in listed if one["LogicalResourceId"] == asked["LogicalResourceId"]), None)
        if found is None:
            message = f"Resource {asked['LogicalResourceId']} does not exist for stack {asked['StackName']}"
            raise AwsError("ValidationError", message)
        return {"StackResourceDetail": {"StackName": asked["StackName"], **found}}

    def _continue_rollback(self, asked: dict[str, Any]) -> dict[str, Any]:
        stack = self.stack(str(asked["StackName"]))
        if stack is None or stack.status != "UPDATE_ROLLBACK_FAILED":
            raise AwsError(
                "ValidationError", f"Stack {asked['StackName']} is not in UPDATE_ROLLBACK_FAILED state"
            )
        self._state(stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        self._state(stack, "UPDATE_ROLLBACK_COMPLETE")
        return {}

    def _get_template(self, asked: dict[str, Any]) -> dict[str, Any]:
        stack = self.stack(str(asked["StackName"]))
        if stack is None or stack.scope is None:
            raise _missing(str(asked["StackName"]))
        return {"TemplateBody": stack.template}

    def _begin(self, name: str) -> Stack:
        stack = Stack(name, self._arn(f"stack/{name}"), self._clock.now())
        self._stacks.append(stack)
        self._state(stack, "REVIEW_IN_PROGRESS", "User Initiated")
        return stack

    def _state(self, stack: Stack, status: str, reason: str = "") -> None:
        with self._lock:
            stack.status, stack.reason = status, reason
        self._event(stack, stack.name, "AWS::CloudFormation::Stack", stack.id, status, reason)

    def _event(self, stack: Stack, logical: str, kind: str, physical: str, status: str, reason: str = "") -> None:
        event = {
            "EventId": f"{logical}-{status}-{next(self._ids):06d}",
            "StackId": stack.id,
            "StackName": stack.name,
            "LogicalResourceId": logical,
            "PhysicalResourceId": physical,
            "ResourceType": kind,
            "Timestamp": _time(self._clock.now()),
            "ResourceStatus": status,
            "ResourceStatusReason": reason,
        }
        with self._lock:
            stack.events.append({key: value for key, value in event.items() if value != ""})

    def _arn(self, what: str) -> str:
        return f"arn:aws:cloudformation:{self._region}:{makers.ACCOUNT}:{what}/{uuid.uuid4()}"


class _Refused(Exception):
    """This resource could not be made, changed or unmade; its event says why."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _missing(name: str) -> AwsError:
    return AwsError("ValidationError", f"Stack with id {name} does not exist")


def _check_capabilities(text: str, asked: dict[str, Any]) -> None:
    given = {str(one) for one in asked.get("Capabilities", [])}
    if '"AWS::IAM::Role"' in text and not given & {"CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"}:
        raise AwsError("InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_IAM]")
    if '"AWS::Serverless-2016-10-31"' in text and "CAPABILITY_AUTO_EXPAND" not in given:
        raise AwsError("InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_AUTO_EXPAND]")


def _change(action: str, name: str, kind: str, physical: str = "", replacement: str = "") -> dict[str, Any]:
    change = {
        "Action": action,
        "LogicalResourceId": name,
        "PhysicalResourceId": physical,
        "ResourceType": kind,
        "Replacement": replacement,
    }
    return {key: value for key, value in change.items() if value}


def _environments(stack: Stack) -> dict[str, Any]:
    """The environment of each function by its logical id."""
    functions = [one for one in stack.made.values() if one.type == "AWS::Lambda::Function"]
    return {one.logical: one.properties.get("Environment", {}).get("Variables", {}) for one in functions}


def _parameters(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]


def _time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _xml(node: Any) -> str:
    if isinstance(node, Mapping):
        return "".join(f"<{key}>{_xml(one)}</{key}>" for key, one in node.items())
    if isinstance(node, list):
        return "".join(f"<member>{_xml(one)}</member>" for one in node)
    return escape(str(node))
