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
from whisperctl.deployment.keep import About, Keeper
from whisperctl.deployment.kinds_ec2 import not_ours
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
        named = [] if seen is None else [seen.parameters.get(one, "") for one in ("AdoptedGpu", "AdoptedEdge")]
        # A stack that was not made yet has no parameters, and its machines carry the tag already.
        adopted = tuple(dict.fromkeys(filter(None, [*named, *not_ours(self.cloud, self.name)])))
        things = tuple(one for one in sweep.find(self.cloud, self.name) if one.id not in adopted)
        unknown = tuple(sweep.unknown(self.cloud, self.name))
        return Inventory(seen, tuple(resources), things, unknown, adopted)

    def run(self, found: Inventory, kept: Path | None) -> dict[str, Any]:
        """Destroy; `kept` is the folder for ledger and logs, None discards them. The report is what --json prints."""
        self.report |= {"stack": self.name, "kept": None, "deleted": [], "left": []}
        keeper = None
        if kept is not None:
            about = About(self.name, self.cloud.account(), self.cloud.region)
            keeper = Keeper(self.cloud, kept, about, self.say)
        if found.nothing:
            self.say(f"nothing of {self.name} is there")
            if keeper is not None and keeper.folder.exists():
                self.report["kept"] = str(keeper.folder)
        elif keeper is not None:
            self._keep(found, keeper)
        for machine in found.adopted:
            self._let_go(machine)
        self._unstack(found.stack)
        self._sweep(found.adopted)
        self._prove(found.adopted)
        if keeper is not None:
            keeper.ended()
        return self.report

    def _keep(self, found: Inventory, keeper: Keeper) -> None:
        tables = [one.id for one in found.things if one.kind == "table"]
        groups = [one.id for one in found.things if one.kind == "log group"]
        if tables or groups:
            keeper.keep(tables[0] if tables else self.name, groups)
        elif not keeper.folder.exists():
            self.say("neither table nor logs are there: nothing to keep")
            return
        self.report["kept"] = str(keeper.folder)

    def _let_go(self, machine: str) -> None:
        """Take a machine that was there before the stack out of the stack's groups, and the tags off it.

        A group that a machine is in cannot be deleted. A machine is in one at least: where it was in none but the
        stack's, its network's own takes their place. The tags go last, so that an interrupted run is gone on with.
        """
        from botocore.exceptions import ClientError

        ec2 = self.cloud.client("ec2")
        with plainly():
            try:
                found = ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"][0]
            except (ClientError, IndexError):
                return
            disks = [one["Ebs"]["VolumeId"] for one in found.get("BlockDeviceMappings", []) if "Ebs" in one]
            cards = found.get("NetworkInterfaces", [])
            for card in cards:
                self._leave_groups(card)
            own = [{"Key": TAG, "Value": self.name}, {"Key": "whisperlive-edge:role"}]
            ec2.delete_tags(Resources=[machine, *disks, *(one["NetworkInterfaceId"] for one in cards)], Tags=own)
        self.say(f"{machine} was there before the stack: it stays, without the stack's tags and groups")

    def _leave_groups(self, card: Mapping[str, Any]) -> None:
        ec2, network = self.cloud.client("ec2"), [{"Name": "vpc-id", "Values": [card["VpcId"]]}]
        ours = {"Name": f"tag:{TAG}", "Values": [self.name]}
        listed = ec2.describe_security_groups(Filters=[*network, ours])["SecurityGroups"]
        stacks = {str(one["GroupId"]) for one in listed}
        held = [str(one["GroupId"]) for one in card["Groups"]]
        if not stacks & set(held):
            return
        stay = [one for one in held if one not in stacks]
        if not stay:
            default = ec2.describe_security_groups(
                Filters=[*network, {"Name": "group-name", "Values": ["default"]}]
            )
            stay = [str(one["GroupId"]) for one in default["SecurityGroups"]]
        ec2.modify_network_interface_attribute(NetworkInterfaceId=card["NetworkInterfaceId"], Groups=stay)

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
                role = str(about["StackResourceDetail"]["PhysicalResourceId"])
                self._keep_role(role)
            except (ClientError, KeyError) as error:
                if isinstance(error, ClientError) and error_code(error) not in (
                    "ValidationError",
                    "NoSuchEntity",
                ):
                    raise

    def _keep_role(self, role: str) -> None:
        self.cloud.client("iam").untag_role(RoleName=role, TagKeys=[TAG])
        self.say(
            f"the role {role} stays, without the tag: this account's API Gateway writes all its logs with it"
        )
        self.report["role_that_stays"] = role

    def _sweep(self, spared: tuple[str, ...]) -> None:
        """Until nothing is found. What is of no known kind is waited for: the tagging API forgets late."""
        until = time.monotonic() + SWEEP_PATIENCE_S
        told: set[Thing | str] = set()
        while True:
            left = [one for one in sweep.find(self.cloud, self.name) if one.id not in spared]
            named = sweep.unknown(self.cloud, self.name)
            if not left and not named:
                return
            for thing in left:
                if thing.kind == "role" and f"-{GATEWAY_ROLE}-" in thing.id:
                    self._keep_role(thing.id)
                    continue
                gone = sweep.delete(self.cloud, thing)
                if gone and thing not in told:
                    told.add(thing)
                    self.say(f"deleted {thing.kind} {thing.id}")
                    self.report["deleted"].append(f"{thing.kind} {thing.id}")
            for arn in named:
                if not left and arn not in told:
                    told.add(arn)
                    self.say(f"the tagging API still names {arn}: waiting for it to forget that")
            if time.monotonic() > until:
                found = ", ".join([*(f"{one.kind} {one.id}" for one in left), *named])
                raise CtlError(
                    f"these do not go: {found}; run `whisperctl destroy` again, or look at them in the console"
                )
            self.sleep(POLL_S)

    def _prove(self, spared: tuple[str, ...]) -> None:
        """Ask everybody once more."""
        left = [f"{one.kind} {one.id}" for one in sweep.find(self.cloud, self.name) if one.id not in spared]
        left += sweep.unknown(self.cloud, self.name)
        self.report["left"] = left
        if left:
            raise CtlError(f"these still carry the tag {TAG}={self.name}: {', '.join(left)}")
        self.say(
            f"nothing that carries {TAG}={self.name} is left: {len(sweep.KINDS)} kinds and the tagging API were asked"
        )
