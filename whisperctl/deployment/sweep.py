"""Everything that carries a stack's tag: found two ways, deleted kind by kind, and the proof that nothing is left.

AWS's tagging API knows every kind, late; the services know their own, now. A thing is touched only while its own
service says that it carries the tag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from whisperctl.deployment.cloud import TAG, Cloud, error_code, plainly

GONE = ("NotFound", "NoSuch", "InvalidDocument", "NonExistent", "ResourceNotFound", "InvalidID")
NOT_YET = (
    "DependencyViolation",
    "IncorrectState",
    "VolumeInUse",
    "InvalidParameterValue",
    "DeleteConflict",
    "InvalidNetworkInterface.InUse",
    "InvalidIPAddress.InUse",
    "CannotDelete",
    "BucketNotEmpty",
)
"""Something else must go first: tried again in the next round."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing in the account. `kind` as in `KINDS`; `about` says what it is to a person."""

    kind: str
    id: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind is found by its tag, and deleted."""

    find: Callable[[Cloud, str], Iterator[Thing]]
    delete: Callable[[Cloud, Thing], None]


def _ec2(kind: str, operation: str, listed: str, identity: str, delete: str, argument: str) -> Kind:
    def find(cloud: Cloud, stack: str) -> Iterator[Thing]:
        filters = [{"Name": f"tag:{TAG}", "Values": [stack]}]
        client = cloud.client("ec2")
        pages = (
            client.get_paginator(operation).paginate(Filters=filters)
            if client.can_paginate(operation)
            else [getattr(client, operation)(Filters=filters)]
        )
        for page in pages:
            for one in page[listed]:
                yield Thing(kind, str(one[identity]), str(one.get("Size", "")))

    return Kind(find, lambda cloud, thing: getattr(cloud.client("ec2"), delete)(**{argument: thing.id}))


def _machines(cloud: Cloud, stack: str) -> Iterator[Thing]:
    filters = [
        {"Name": f"tag:{TAG}", "Values": [stack]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped", "shutting-down"]},
    ]
    for page in cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            for one in reservation["Instances"]:
                yield Thing("machine", str(one["InstanceId"]), str(one["InstanceType"]))


def _snapshots(cloud: Cloud, stack: str) -> Iterator[Thing]:
    filters = [{"Name": f"tag:{TAG}", "Values": [stack]}]
    for page in (
        cloud.client("ec2").get_paginator("describe_snapshots").paginate(Filters=filters, OwnerIds=["self"])
    ):
        for one in page["Snapshots"]:
            yield Thing("snapshot", str(one["SnapshotId"]))


def _addresses(cloud: Cloud, stack: str) -> Iterator[Thing]:
    for one in cloud.client("ec2").describe_addresses(Filters=[{"Name": f"tag:{TAG}", "Values": [stack]}])[
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


def _tagged(kind: str, part: str, prefix: str) -> Callable[[Cloud, str], Iterator[Thing]]:
    """Found by the tagging API, as the services of these kinds have no filter by tag; `part` tells an ARN's kind."""

    def find(cloud: Cloud, stack: str) -> Iterator[Thing]:
        for arn in arns(cloud, stack):
            if part in arn:
                yield Thing(kind, arn.split(":", 5)[5].removeprefix(prefix), arn)

    return find


def arns(cloud: Cloud, stack: str) -> Iterator[str]:
    """What the tagging API lists under the tag. Never asked by type: an unknown name of a type is an empty answer."""
    pages = cloud.client("resourcegroupstaggingapi").get_paginator("get_resources")
    for page in pages.paginate(TagFilters=[{"Key": TAG, "Values": [stack]}]):
        for one in page["ResourceTagMappingList"]:
            yield str(one["ResourceARN"])


def bucket_is_ours(cloud: Cloud, bucket: str, stack: str) -> bool:
    """Whether the bucket itself says that it is the stack's."""
    from botocore.exceptions import ClientError

    try:
        tags = cloud.client("s3").get_bucket_tagging(Bucket=bucket)["TagSet"]
    except ClientError as error:
        if error_code(error) in ("NoSuchBucket", "NoSuchTagSet", "404"):
            return False
        raise
    return {"Key": TAG, "Value": stack} in tags


def _buckets(cloud: Cloud, stack: str) -> Iterator[Thing]:
    """By listing: a bucket that is a minute old must not be missed."""
    own = [
        str(one["Name"])
        for one in cloud.client("s3").list_buckets()["Buckets"]
        if str(one["Name"]).startswith(stack)
    ]
    listed = [arn.rpartition(":")[2] for arn in arns(cloud, stack) if ":s3:::" in arn]
    for name in dict.fromkeys([*own, *listed]):
        if bucket_is_ours(cloud, name, stack):
            yield Thing("bucket", name)


def _empty_and_delete(cloud: Cloud, thing: Thing) -> None:
    """Every version, every delete marker and every unfinished upload, then the bucket."""
    s3 = cloud.client("s3")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=thing.id):
        gone = [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        ]
        if gone:
            s3.delete_objects(Bucket=thing.id, Delete={"Objects": gone, "Quiet": True})
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=thing.id):
        for one in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=thing.id, Key=one["Key"], UploadId=one["UploadId"])
    s3.delete_bucket(Bucket=thing.id)


def _tables(cloud: Cloud, stack: str) -> Iterator[Thing]:
    """The table is called as the stack is; the tag decides."""
    from botocore.exceptions import ClientError

    dynamodb = cloud.client("dynamodb")
    try:
        arn = dynamodb.describe_table(TableName=stack)["Table"]["TableArn"]
        tags = dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"]
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            return
        raise
    if {"Key": TAG, "Value": stack} in tags:
        yield Thing("table", stack)


def _log_groups(cloud: Cloud, stack: str) -> Iterator[Thing]:
    """By the names that the template gives them, which are there at once, and by the tagging API."""
    logs = cloud.client("logs")
    found: dict[str, str] = {}
    for prefix in (f"/aws/lambda/{stack}-", f"/aws/apigateway/{stack}"):
        for page in logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix):
            found |= {str(one["logGroupName"]): str(one["arn"]).removesuffix(":*") for one in page["logGroups"]}
    for arn in arns(cloud, stack):
        if ":log-group:" in arn:
            found.setdefault(arn.partition(":log-group:")[2].removesuffix(":*"), arn.removesuffix(":*"))
    for name, arn in found.items():
        if _carries(logs, arn, stack):
            yield Thing("log group", name)


def _carries(logs: Any, arn: str, stack: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        return bool(logs.list_tags_for_resource(resourceArn=arn)["tags"].get(TAG) == stack)
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            return False
        raise


def _delete_table(cloud: Cloud, thing: Thing) -> None:
    cloud.client("dynamodb").delete_table(TableName=thing.id)


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
    "volume": _ec2("volume", "describe_volumes", "Volumes", "VolumeId", "delete_volume", "VolumeId"),
    "snapshot": Kind(_snapshots, lambda c, t: c.client("ec2").delete_snapshot(SnapshotId=t.id)),
    "key pair": _ec2("key pair", "describe_key_pairs", "KeyPairs", "KeyPairId", "delete_key_pair", "KeyPairId"),
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
    "bucket": Kind(_buckets, _empty_and_delete),
    "table": Kind(_tables, _delete_table),
    "log group": Kind(_log_groups, lambda c, t: c.client("logs").delete_log_group(logGroupName=t.id)),
    "topic": Kind(_tagged("topic", ":sns:", ""), lambda c, t: c.client("sns").delete_topic(TopicArn=t.about)),
    "SSM document": Kind(
        _tagged("SSM document", ":document/", "document/"),
        lambda c, t: c.client("ssm").delete_document(Name=t.id),
    ),
    "alarm": Kind(
        _tagged("alarm", ":alarm:", "alarm:"),
        lambda c, t: c.client("cloudwatch").delete_alarms(AlarmNames=[t.id]),
    ),
    "function": Kind(
        _tagged("function", ":function:", "function:"),
        lambda c, t: c.client("lambda").delete_function(FunctionName=t.id),
    ),
}
"""In the order in which they can go."""


def find(cloud: Cloud, stack: str) -> list[Thing]:
    """Everything of every kind that carries the tag now."""
    with plainly():
        return [thing for kind in KINDS.values() for thing in kind.find(cloud, stack)]


def unknown(cloud: Cloud, stack: str) -> list[str]:
    """ARNs under the tag of kinds that are not deleted here."""
    known = (
        ":instance/",
        ":elastic-ip/",
        ":network-interface/",
        ":volume/",
        ":snapshot/",
        ":key-pair/",
        ":subnet/",
        ":launch-template/",
        ":security-group/",
        ":security-group-rule/",
        ":route-table/",
        ":internet-gateway/",
        ":vpc/",
        ":table/",
        ":log-group:",
        ":document/",
        ":alarm:",
        ":function:",
        ":s3:::",
        ":sns:",
        ":cloudformation:",
    )
    with plainly():
        return [arn for arn in arns(cloud, stack) if not any(part in arn for part in known)]


def delete(cloud: Cloud, thing: Thing) -> bool:
    """Delete it; False where something else must go first, True also where it was gone."""
    from botocore.exceptions import ClientError

    with plainly():
        try:
            KINDS[thing.kind].delete(cloud, thing)
        except ClientError as error:
            code = error_code(error)
            if any(word in code for word in GONE):
                return True
            if any(word in code for word in NOT_YET):
                return False
            raise
    return True
