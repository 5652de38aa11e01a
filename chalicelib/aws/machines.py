"""The machines port on EC2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.domain.machines import Machine, MachineState, Role
from chalicelib.errors import MachineRefused, RefusalKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from chalicelib.aws.clients import Clients

STACK_TAG = "whisperlive-edge:stack"
ROLE_TAG = "whisperlive-edge:role"

_KINDS = {
    "InsufficientInstanceCapacity": RefusalKind.CAPACITY,
    "InsufficientHostCapacity": RefusalKind.CAPACITY,
    "InsufficientCapacity": RefusalKind.CAPACITY,
    "Unsupported": RefusalKind.CAPACITY,  # this zone never has this type: as good as none free now
    "VcpuLimitExceeded": RefusalKind.QUOTA,
    "InstanceLimitExceeded": RefusalKind.QUOTA,
    "IncorrectInstanceState": RefusalKind.STATE,
    "IncorrectState": RefusalKind.STATE,
    "RequestLimitExceeded": RefusalKind.THROTTLED,
    "Throttling": RefusalKind.THROTTLED,
    "ThrottlingException": RefusalKind.THROTTLED,
    "Unavailable": RefusalKind.THROTTLED,
    "ServiceUnavailable": RefusalKind.THROTTLED,
    "InternalError": RefusalKind.THROTTLED,
}


class Ec2Machines:
    """`chalicelib.ports.Machines`; only instances with this stack's tag and a role exist for it."""

    def __init__(self, clients: Clients, stack_name: str) -> None:
        self._clients = clients
        self._stack = stack_name

    def describe(self) -> list[Machine]:
        filters: Any = [
            {"Name": f"tag:{STACK_TAG}", "Values": [self._stack]},
            {"Name": f"tag:{ROLE_TAG}", "Values": [role.value for role in Role]},
        ]
        # A pool fits one page of 1,000, so that a pass stays at one call.
        answer = _asked(lambda: self._clients.ec2.describe_instances(Filters=filters, MaxResults=1000))
        found = [_machine(one) for batch in answer["Reservations"] for one in batch["Instances"]]
        # A replaced machine stays visible for about an hour after its end.
        return sorted(
            (one for one in found if one.state is not MachineState.TERMINATED), key=lambda one: one.instance_id
        )

    def start(self, instance_id: str) -> None:
        _asked(lambda: self._clients.ec2_once.start_instances(InstanceIds=[instance_id]))

    def change_type(self, instance_id: str, machine_type: str) -> None:
        _asked(
            lambda: self._clients.ec2.modify_instance_attribute(
                InstanceId=instance_id, InstanceType={"Value": machine_type}
            )
        )

    def stop(self, instance_id: str, force: bool = False) -> None:
        _asked(lambda: self._clients.ec2.stop_instances(InstanceIds=[instance_id], Force=force))


def _asked(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        message = error.response["Error"].get("Message", "")
        raise MachineRefused(_KINDS.get(code, RefusalKind.OTHER), code, message) from error
    except BotoCoreError as error:
        raise MachineRefused(RefusalKind.THROTTLED, type(error).__name__, str(error)) from error


def _machine(instance: Any) -> Machine:
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    launched = instance.get("LaunchTime")
    return Machine(
        instance_id=instance["InstanceId"],
        role=Role(tags[ROLE_TAG]),
        state=MachineState(instance["State"]["Name"]),
        type=instance.get("InstanceType", ""),
        zone=instance.get("Placement", {}).get("AvailabilityZone", ""),
        private_ip=instance.get("PrivateIpAddress"),
        launched_at=launched.timestamp() if launched else None,
    )
