"""A stack's change sets: what would change, carrying it out, and following its events to the end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from whisperctl.deployment.cloud import Cloud, error_code, plainly, tags_of
from whisperctl.errors import CtlError, Refused

POLL_S = 2.0
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
PREFIX = "whisperctl-"
"""Change sets of ours; others' are left alone."""
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
REVIEW = "REVIEW_IN_PROGRESS"
READY = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")
DEAD = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED")
"""A first creation failed: such a stack can only be deleted."""
PRECIOUS = ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::EC2::Instance", "AWS::EC2::EIP")
"""What must not be replaced unasked: state, machines with their releases, the address that browsers know."""


@dataclass(frozen=True, slots=True)
class StackSeen:
    """A stack as CloudFormation shows it."""

    id: str
    name: str
    status: str
    reason: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def busy(self) -> bool:
        return self.status.endswith("_IN_PROGRESS") and self.status != REVIEW


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a change set."""

    action: str
    logical: str
    type: str
    replacement: bool

    @property
    def line(self) -> str:
        """As `up --plan` prints it."""
        what = "Replace" if self.replacement else self.action
        return f"{what:<8}{self.type:<38}{self.logical}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A change set that waits; `id` is None where there is nothing to change."""

    id: str | None
    stack: str
    changes: tuple[Change, ...]

    def precious(self) -> list[Change]:
        """What would be lost or replaced and must not be by accident."""
        return [
            one for one in self.changes if one.type in PRECIOUS and (one.replacement or one.action == "Remove")
        ]


def look(cloud: Cloud, name: str) -> StackSeen | None:
    """The stack of this name or id; None where there is none."""
    from botocore.exceptions import ClientError

    with plainly():
        try:
            found = cloud.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if error_code(error) == "ValidationError" and "does not exist" in str(error):
                return None
            raise
    return StackSeen(
        id=str(found["StackId"]),
        name=str(found["StackName"]),
        status=str(found["StackStatus"]),
        reason=str(found.get("StackStatusReason", "")),
        parameters={one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", [])},
        outputs={one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])},
    )


def propose(
    cloud: Cloud,
    name: str,
    template_url: str,
    parameters: list[dict[str, Any]],
    *,
    sleep: Callable[[float], None],
) -> Plan:
    """Make a change set and read it. Those of ours that an interrupted run left are taken away first."""
    seen = look(cloud, name)
    fresh = seen is None or seen.status == REVIEW
    cfn = cloud.client("cloudformation")
    with plainly():
        made = cfn.create_change_set(
            StackName=name,
            ChangeSetName=f"{PREFIX}{uuid.uuid4().hex[:12]}",
            ChangeSetType="CREATE" if fresh else "UPDATE",
            TemplateURL=template_url,
            Parameters=parameters,
            Capabilities=CAPABILITIES,
            Tags=tags_of(name),
        )
        while True:
            pages = [cfn.describe_change_set(ChangeSetName=made["Id"])]
            if pages[0]["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                break
            sleep(POLL_S)
        while "NextToken" in pages[-1]:
            pages.append(cfn.describe_change_set(ChangeSetName=made["Id"], NextToken=pages[-1]["NextToken"]))
    first = pages[0]
    if first["Status"] == "FAILED":
        drop(cloud, made["Id"])
        reason = str(first.get("StatusReason", ""))
        if any(words in reason for words in NO_CHANGES):
            return Plan(None, name, ())
        raise CtlError(f"CloudFormation does not take the template: {reason}")
    listed = [one["ResourceChange"] for page in pages for one in page["Changes"]]
    changes = tuple(
        Change(
            one["Action"],
            one["LogicalResourceId"],
            one["ResourceType"],
            one.get("Replacement") == "True",
        )
        for one in listed
    )
    return Plan(made["Id"], name, changes)


def drop(cloud: Cloud, change_set: str) -> None:
    """Take a change set away that is not carried out."""
    with plainly():
        cloud.client("cloudformation").delete_change_set(ChangeSetName=change_set)


def drop_empty(cloud: Cloud, name: str) -> None:
    """Take away the empty stack that a first change set leaves, where nothing was ever made in it."""
    seen = look(cloud, name)
    if seen is not None and seen.status == REVIEW:
        with plainly():
            cloud.client("cloudformation").delete_stack(StackName=seen.id)


def execute(cloud: Cloud, plan: Plan) -> None:
    """Have CloudFormation carry it out; it goes on whatever becomes of us."""
    with plainly():
        cloud.client("cloudformation").execute_change_set(ChangeSetName=plan.id)


class Events:
    """What a stack's resources went through since a moment, each event once, oldest first."""

    def __init__(self, cloud: Cloud, stack_id: str) -> None:
        self._cloud = cloud
        self._stack_id = stack_id
        self._seen: set[str] = set()
        self.failures: list[str] = []
        """`Resource (Type): reason` of what failed by itself, in order."""

    def skip(self) -> None:
        """Forget what was before now, and remember failures of the operation under way."""
        for _ in self.new():
            pass
        self.failures.clear()

    def new(self) -> Iterator[dict[str, Any]]:
        """Events not yet seen, of the operation under way only."""
        found: list[dict[str, Any]] = []
        with plainly():
            pages = self._cloud.client("cloudformation").get_paginator("describe_stack_events")
            for page in pages.paginate(StackName=self._stack_id):
                fresh = [one for one in page["StackEvents"] if one["EventId"] not in self._seen]
                found += fresh
                begun = [one for one in page["StackEvents"] if _begins(one)]
                if begun or len(fresh) < len(page["StackEvents"]):
                    break
        oldest_first = found[::-1]
        begins = [index for index, one in enumerate(oldest_first) if _begins(one)]
        for one in oldest_first[: begins[-1]] if begins else []:
            self._seen.add(one["EventId"])  # of an operation before this one
        for one in oldest_first[begins[-1] :] if begins else oldest_first:
            self._seen.add(one["EventId"])
            reason = str(one.get("ResourceStatusReason", ""))
            if one["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason.lower():
                self.failures.append(f"{one['LogicalResourceId']} ({one['ResourceType']}): {reason}".rstrip(": "))
            yield one


def _begins(event: Mapping[str, Any]) -> bool:
    return (
        event["ResourceType"] == "AWS::CloudFormation::Stack"
        and event.get("ResourceStatusReason") == "User Initiated"
    )


def follow(
    cloud: Cloud, stack_id: str, say: Callable[[str], None], *, sleep: Callable[[float], None] = time.sleep
) -> StackSeen:
    """Until the operation under way has ended; a line for each resource that is done. Refused says what failed."""
    events, done = Events(cloud, stack_id), 0
    while True:
        seen = look(cloud, stack_id)
        for one in events.new():
            status, kind = str(one["ResourceStatus"]), str(one["ResourceType"])
            if kind == "AWS::CloudFormation::Stack":
                continue
            if status.endswith("_COMPLETE"):
                done += 1
                words, short = status.lower().replace("_", " "), kind.removeprefix("AWS::")
                say(f"{done:3d}  {words:<16}{short:<34}{one['LogicalResourceId']}")
            elif status.endswith("_FAILED"):
                say(
                    f"     {status.lower().replace('_', ' ')}: {events.failures[-1] if events.failures else kind}"
                )
        if seen is None:
            raise CtlError("the stack is gone")
        if not seen.busy:
            if events.failures and (
                seen.status in DEAD or "ROLLBACK" in seen.status or seen.status.endswith("FAILED")
            ):
                raise StackFailed(seen.status, events.failures[0])
            if seen.status not in READY and seen.status != "DELETE_COMPLETE":
                raise StackFailed(seen.status, seen.reason or "CloudFormation gives no reason")
            return seen
        sleep(POLL_S)


class StackFailed(Refused):
    """CloudFormation could not; the sentence names the first resource that failed, and its reason."""

    exit_code = 1

    def __init__(self, status: str, failure: str) -> None:
        self.status = status
        self.failure = failure
        super().__init__(f"the stack is {status}: {failure}")
