"""`whisperctl destroy`: the stack and everything under its tag, and the proof that nothing is left.

Each step looks at what is there, so a run that was interrupted anywhere is gone on with by the next one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whisperctl.deployment import changes, sweep
from whisperctl.deployment.cloud import TAG, Cloud, error_code, plainly
from whisperctl.deployment.keep import keep
from whisperctl.deployment.sweep import Thing
from whisperctl.errors import CtlError

SWEEP_PATIENCE_S = 600.0
POLL_S = 3.0
GATEWAY_ROLE = "GatewayLogWriter"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What there is of a stack."""

    stack: changes.StackSeen | None
    resources: tuple[Mapping[str, Any], ...]
    """As CloudFormation lists them."""
    things: tuple[Thing, ...]
    """What carries the tag, of the kinds that are swept."""
    unknown: tuple[str, ...]
    adopted: tuple[str, ...]
    """Machines that were there before the stack: they lose its tags, and stay."""

    @property
    def nothing(self) -> bool:
        return self.stack is None and not self.things and not self.unknown


@dataclass
class Destroy:
    """One run for one stack."""

    cloud: Cloud
    name: str
    say: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    report: dict[str, Any] = field(default_factory=dict)

    def inventory(self) -> Inventory:
        """Look at everything; changes nothing."""
        seen = changes.look(self.cloud, self.name)
        resources: list[Mapping[str, Any]] = []
        if seen is not None and seen.status != changes.REVIEW:
            with plainly():
                pages = self.cloud.client("cloudformation").get_paginator("list_stack_resources")
                resources = [
                    one for page in pages.paginate(StackName=seen.id) for one in page["StackResourceSummaries"]
                ]
        adopted = (
            tuple(filter(None, (seen.parameters.get(one, "") for one in ("AdoptedGpu", "AdoptedEdge"))))
            if seen
            else ()
        )
        things = tuple(one for one in sweep.find(self.cloud, self.name) if one.id not in adopted)
        unknown = tuple(sweep.unknown(self.cloud, self.name))
        return Inventory(seen, tuple(resources), things, unknown, adopted)

    def run(self, found: Inventory, kept: Path | None) -> dict[str, Any]:
        """Destroy; `kept` is the folder for ledger and logs, None discards them. The report is what --json prints."""
        self.report |= {"stack": self.name, "kept": None, "deleted": [], "left": []}
        if found.nothing:
            self.say(f"nothing of {self.name} is there")
            return self.report
        if kept is not None:
            self._keep(found, kept)
        for machine in found.adopted:
            self._let_go(machine)
        self._unstack(found.stack)
        self._sweep(found.adopted)
        self._prove(found.adopted)
        return self.report

    def _keep(self, found: Inventory, folder: Path) -> None:
        tables = [one.id for one in found.things if one.kind == "table"]
        groups = [one.id for one in found.things if one.kind == "log group"]
        if not tables and not groups:
            self.say("neither table nor logs are there: nothing to keep")
            return
        keep(self.cloud, folder, tables[0] if tables else self.name, groups, self.say)
        self.report["kept"] = str(folder)

    def _let_go(self, machine: str) -> None:
        """Take the stack's tags off a machine that was there before it, and off its disks and interfaces."""
        from botocore.exceptions import ClientError

        ec2 = self.cloud.client("ec2")
        with plainly():
            try:
                found = ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"][0]
            except (ClientError, IndexError):
                return
            disks = [one["Ebs"]["VolumeId"] for one in found.get("BlockDeviceMappings", []) if "Ebs" in one]
            cards = [one["NetworkInterfaceId"] for one in found.get("NetworkInterfaces", [])]
            own = [{"Key": TAG, "Value": self.name}, {"Key": "whisperlive-edge:role"}]
            ec2.delete_tags(Resources=[machine, *disks, *cards], Tags=own)
        self.say(f"{machine} was there before the stack: it stays, without the stack's tags")

    def _unstack(self, seen: changes.StackSeen | None) -> None:
        """Have CloudFormation delete the stack; what it cannot delete is left to the sweep."""
        if seen is None:
            return
        if seen.busy and not seen.status.startswith(("CREATE", "DELETE")):
            self.say(f"the stack is {seen.status}: waiting for that to end")
            with contextlib.suppress(changes.StackFailed):
                changes.follow(self.cloud, seen.id, self.say, sleep=self.sleep)
        self._release_role(seen)
        cfn = self.cloud.client("cloudformation")
        retained: list[str] = []
        for attempt in range(3):
            now = changes.look(self.cloud, seen.id)
            if now is None or now.status == "DELETE_COMPLETE":
                break
            if now.status != "DELETE_IN_PROGRESS":
                with plainly():
                    cfn.delete_stack(StackName=seen.id, **({"RetainResources": retained} if retained else {}))
            try:
                changes.follow(self.cloud, seen.id, self.say, sleep=self.sleep)
                break
            except changes.StackFailed as failure:
                if attempt == 2:
                    raise
                self.say(f"{failure.message}; trying once more" + (" without it" if attempt else ""))
                retained = self._undeletable(seen.id) if attempt else []
        self.report["deleted"].append(f"stack {self.name}")

    def _undeletable(self, stack_id: str) -> list[str]:
        with plainly():
            pages = self.cloud.client("cloudformation").get_paginator("list_stack_resources")
            listed = [
                one for page in pages.paginate(StackName=stack_id) for one in page["StackResourceSummaries"]
            ]
        return [one["LogicalResourceId"] for one in listed if one["ResourceStatus"] == "DELETE_FAILED"]

    def _release_role(self, seen: changes.StackSeen) -> None:
        """API Gateway's role for logs serves the whole account and stays; it loses the tag."""
        from botocore.exceptions import ClientError

        with plainly():
            try:
                about = self.cloud.client("cloudformation").describe_stack_resource(
                    StackName=seen.id, LogicalResourceId=GATEWAY_ROLE
                )
                role = about["StackResourceDetail"]["PhysicalResourceId"]
                self.cloud.client("iam").untag_role(RoleName=role, TagKeys=[TAG])
            except (ClientError, KeyError) as error:
                if isinstance(error, ClientError) and error_code(error) not in (
                    "ValidationError",
                    "NoSuchEntity",
                ):
                    raise
                return
        self.say(
            f"the role {role} stays, without the tag: this account's API Gateway writes all its logs with it"
        )
        self.report["role_that_stays"] = role

    def _sweep(self, spared: tuple[str, ...]) -> None:
        until = time.monotonic() + SWEEP_PATIENCE_S
        told: set[Thing] = set()
        while True:
            left = [one for one in sweep.find(self.cloud, self.name) if one.id not in spared]
            if not left:
                return
            for thing in left:
                gone = sweep.delete(self.cloud, thing)
                if gone and thing not in told:
                    told.add(thing)
                    self.say(f"deleted {thing.kind} {thing.id}")
                    self.report["deleted"].append(f"{thing.kind} {thing.id}")
            if time.monotonic() > until:
                named = ", ".join(f"{one.kind} {one.id}" for one in left)
                raise CtlError(
                    f"these do not go: {named}; run `whisperctl destroy` again, or look at them in the console"
                )
            self.sleep(POLL_S)

    def _prove(self, spared: tuple[str, ...]) -> None:
        """Ask everybody once more. The tagging API forgets late: what only it still names is asked of its service."""
        left = [f"{one.kind} {one.id}" for one in sweep.find(self.cloud, self.name) if one.id not in spared]
        left += sweep.unknown(self.cloud, self.name)
        self.report["left"] = left
        if left:
            raise CtlError(f"these still carry the tag {TAG}={self.name}: {', '.join(left)}")
        self.say(
            f"nothing that carries {TAG}={self.name} is left: {len(sweep.KINDS)} kinds and the tagging API were asked"
        )
