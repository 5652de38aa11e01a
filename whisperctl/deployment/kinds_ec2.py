"""EC2's kinds of things that may carry a stack's tag: how each is found by it, and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from whisperctl.deployment.cloud import TAG, Cloud, plainly
from whisperctl.deployment.things import Kind, Look, Thing


def _ec2(kind: str, operation: str, listed: str, identity: str, delete: str, argument: str) -> Kind:
    def find(look: Look) -> Iterator[Thing]:
        filters = [{"Name": f"tag:{TAG}", "Values": [look.stack]}]
        client = look.client("ec2")
        pages = (
            client.get_paginator(operation).paginate(Filters=filters)
            if client.can_paginate(operation)
            else [getattr(client, operation)(Filters=filters)]
        )
        for page in pages:
            for one in page[listed]:
                yield Thing(kind, str(one[identity]), str(one.get("Size", "")))

    return Kind(find, lambda cloud, thing: getattr(cloud.client("ec2"), delete)(**{argument: thing.id}))


MADE_BY = "aws:cloudformation:stack-name"
"""The tag that AWS itself puts on what a stack makes, and that nobody else can."""


def _described(look: Look) -> Iterator[dict[str, Any]]:
    filters = [
        {"Name": f"tag:{TAG}", "Values": [look.stack]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped", "shutting-down"]},
    ]
    for page in look.client("ec2").get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]


def _machines(look: Look) -> Iterator[Thing]:
    for one in _described(look):
        yield Thing("machine", str(one["InstanceId"]), str(one["InstanceType"]))


def not_ours(cloud: Cloud, stack: str) -> list[str]:
    """Machines under the tag that no stack made: somebody's own, lent to this one. They are never terminated."""
    with plainly():
        return [
            str(one["InstanceId"])
            for one in _described(Look(cloud, stack))
            if MADE_BY not in {tag["Key"] for tag in one.get("Tags", [])}
        ]


def _images(look: Look) -> Iterator[Thing]:
    filters = [{"Name": f"tag:{TAG}", "Values": [look.stack]}]
    for page in look.client("ec2").get_paginator("describe_images").paginate(Filters=filters, Owners=["self"]):
        for one in page["Images"]:
            yield Thing("image", str(one["ImageId"]))


def _snapshots(look: Look) -> Iterator[Thing]:
    filters = [{"Name": f"tag:{TAG}", "Values": [look.stack]}]
    for page in (
        look.client("ec2").get_paginator("describe_snapshots").paginate(Filters=filters, OwnerIds=["self"])
    ):
        for one in page["Snapshots"]:
            yield Thing("snapshot", str(one["SnapshotId"]))


def _addresses(look: Look) -> Iterator[Thing]:
    for one in look.client("ec2").describe_addresses(Filters=[{"Name": f"tag:{TAG}", "Values": [look.stack]}])[
        "Addresses"
    ]:
        yield Thing("address", str(one["AllocationId"]), str(one["PublicIp"]))


def _release(cloud: Cloud, thing: Thing) -> None:
    ec2 = cloud.client("ec2")
    for one in ec2.describe_addresses(AllocationIds=[thing.id])["Addresses"]:
        if one.get("AssociationId"):
            ec2.disassociate_address(AssociationId=one["AssociationId"])
    ec2.release_address(AllocationId=thing.id)


def _delete_group(cloud: Cloud, thing: Thing) -> None:
    """Its rules first: two groups that name each other hold each other."""
    ec2 = cloud.client("ec2")
    for one in ec2.describe_security_groups(GroupIds=[thing.id])["SecurityGroups"]:
        if one.get("IpPermissions"):
            ec2.revoke_security_group_ingress(GroupId=thing.id, IpPermissions=one["IpPermissions"])
        if one.get("IpPermissionsEgress"):
            ec2.revoke_security_group_egress(GroupId=thing.id, IpPermissions=one["IpPermissionsEgress"])
    ec2.delete_security_group(GroupId=thing.id)


def _delete_gateway(cloud: Cloud, thing: Thing) -> None:
    ec2 = cloud.client("ec2")
    for one in ec2.describe_internet_gateways(InternetGatewayIds=[thing.id])["InternetGateways"]:
        for attached in one.get("Attachments", []):
            ec2.detach_internet_gateway(InternetGatewayId=thing.id, VpcId=attached["VpcId"])
    ec2.delete_internet_gateway(InternetGatewayId=thing.id)


KINDS: dict[str, Kind] = {
    "machine": Kind(_machines, lambda c, t: c.client("ec2").terminate_instances(InstanceIds=[t.id])),
    "address": Kind(_addresses, _release),
    "network interface": _ec2(
        "network interface",
        "describe_network_interfaces",
        "NetworkInterfaces",
        "NetworkInterfaceId",
        "delete_network_interface",
        "NetworkInterfaceId",
    ),
    "image": Kind(_images, lambda c, t: c.client("ec2").deregister_image(ImageId=t.id)),
    "volume": _ec2("volume", "describe_volumes", "Volumes", "VolumeId", "delete_volume", "VolumeId"),
    "snapshot": Kind(_snapshots, lambda c, t: c.client("ec2").delete_snapshot(SnapshotId=t.id)),
    "key pair": _ec2("key pair", "describe_key_pairs", "KeyPairs", "KeyName", "delete_key_pair", "KeyName"),
    "launch template": _ec2(
        "launch template",
        "describe_launch_templates",
        "LaunchTemplates",
        "LaunchTemplateId",
        "delete_launch_template",
        "LaunchTemplateId",
    ),
    "security group": Kind(
        _ec2("security group", "describe_security_groups", "SecurityGroups", "GroupId", "", "").find,
        _delete_group,
    ),
    "subnet": _ec2("subnet", "describe_subnets", "Subnets", "SubnetId", "delete_subnet", "SubnetId"),
    "route table": _ec2(
        "route table",
        "describe_route_tables",
        "RouteTables",
        "RouteTableId",
        "delete_route_table",
        "RouteTableId",
    ),
    "internet gateway": Kind(
        _ec2(
            "internet gateway", "describe_internet_gateways", "InternetGateways", "InternetGatewayId", "", ""
        ).find,
        _delete_gateway,
    ),
    "network": _ec2("network", "describe_vpcs", "Vpcs", "VpcId", "delete_vpc", "VpcId"),
}
"""In the order in which they can go."""
