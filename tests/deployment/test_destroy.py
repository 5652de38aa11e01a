"""`destroy` after any partial `up`, and of a whole stack with orphans: nothing that carries the tag is left.

Interrupted anywhere it is gone on with; what is kept is kept once; what is not the stack's stays.
"""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.world import STACK, Cut, World
from whisperctl.deployment.cloud import TAG
from whisperctl.deployment.keep import read_about, unfinished

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("an account to destroy in")]

PARTIAL = {
    "a bucket without its rules": Cut("CreateBucket"),
    "nothing but the bucket": Cut("PutObject", number=1),
    "a change set that waits": Cut("CreateChangeSet"),
    "a creation under way": Cut("DescribeStackEvents", number=3),
    "a stack without releases": Cut("PutObject", number=4),
    "a rollout that runs": Cut("POST /v1/releases/edge"),
    "an edge and no GPU": Cut("POST /v1/releases/gpu", "before"),
}
IN_DESTROY = (
    # ledger and logs
    Cut("Query"),
    Cut("FilterLogEvents", number=2),
    # the stack
    Cut("UntagRole"),
    Cut("DeleteStack", "before"),
    Cut("DeleteStack"),
    Cut("DescribeStackEvents", number=2),
    # the sweep
    Cut("ReleaseAddress"),
    Cut("DeleteVolume", "before"),
    Cut("DeleteObjects"),
    Cut("DeleteBucket", "before", number=2),
    Cut("DeleteTable"),
    Cut("DeleteLogGroup", number=3),
)
"""In the order in which a run comes by them; each later run goes on from the one before."""


def tags(stack: str = STACK) -> list[dict[str, str]]:
    return [{"Key": TAG, "Value": stack}]


def spec(kind: str, stack: str = STACK) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": tags(stack)}]


@pytest.mark.parametrize("state", PARTIAL)
def test_after_a_partial_up_nothing_tagged_is_left(world: World, state: str) -> None:
    assert world.up(PARTIAL[state]).killed
    assert world.tagged() or world.stack()
    ended = world.destroy()
    assert ended.exit_code == 0, ended
    assert ended.report["left"] == []
    assert (world.tagged(), world.stack()) == (set(), None)


def test_after_a_creation_that_failed_nothing_tagged_is_left(world: World) -> None:
    world.faults(stacks=[{"resource": "Edge", "reason": "no such image"}])
    assert world.up().exit_code == 1
    world.faults()
    assert world.destroy().exit_code == 0
    assert (world.tagged(), world.stack()) == (set(), None)


def orphans(world: World, stack: str) -> set[str]:
    """One of each kind that may lie outside a stack and carry its tag; their ids."""
    ec2, ssm = world.client("ec2"), world.client("ssm")
    zone = ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
    volume = ec2.create_volume(AvailabilityZone=zone, Size=8, TagSpecifications=spec("volume", stack))["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume, TagSpecifications=spec("snapshot", stack))["SnapshotId"]
    address = ec2.allocate_address(Domain="vpc", TagSpecifications=spec("elastic-ip", stack))["AllocationId"]
    key = ec2.create_key_pair(KeyName=f"of {stack}", TagSpecifications=spec("key-pair", stack))["KeyPairId"]
    network = ec2.create_vpc(CidrBlock="10.9.0.0/16", TagSpecifications=spec("vpc", stack))["Vpc"]["VpcId"]
    group = ec2.create_security_group(
        GroupName=f"of {stack}",
        Description="an orphan",
        VpcId=network,
        TagSpecifications=spec("security-group", stack),
    )["GroupId"]
    name = f"/{stack}/webhook"
    ssm.put_parameter(Name=name, Value="https://ntfy.sh/t", Type="SecureString", Tags=tags(stack))
    topic = world.client("sns").create_topic(Name=f"of-{stack}", Tags=tags(stack))["TopicArn"]
    bucket = f"{stack}-by-hand"
    s3 = world.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags(stack)})
    for body in (b"1", b"2"):
        s3.put_object(Bucket=bucket, Key="k", Body=body)
    s3.delete_object(Bucket=bucket, Key="k")
    s3.create_multipart_upload(Bucket=bucket, Key="never finished")
    iam = world.client("iam")
    role = f"{stack}-GpuRole-0A1B2C3D"
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=document, Tags=tags(stack))
    may = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
    iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=policy)
    iam.create_instance_profile(InstanceProfileName=f"{stack}-GpuProfile-0A1B2C3D")
    iam.add_role_to_instance_profile(InstanceProfileName=f"{stack}-GpuProfile-0A1B2C3D", RoleName=role)
    return {volume, snapshot, address, key, network, group, name, topic, bucket, role}


def there(world: World, ids: set[str]) -> set[str]:
    """Which of these `orphans` are there."""
    ec2 = world.client("ec2")
    found = {one["VolumeId"] for one in ec2.describe_volumes()["Volumes"]}
    found |= {one["SnapshotId"] for one in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    found |= {one["AllocationId"] for one in ec2.describe_addresses()["Addresses"]}
    found |= {one["KeyPairId"] for one in ec2.describe_key_pairs()["KeyPairs"]}
    found |= {one["VpcId"] for one in ec2.describe_vpcs()["Vpcs"]}
    found |= {one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]}
    found |= {one["Name"] for one in world.client("ssm").describe_parameters()["Parameters"]}
    found |= {one["TopicArn"] for one in world.client("sns").list_topics()["Topics"]}
    found |= {one["Name"] for one in world.client("s3").list_buckets()["Buckets"]}
    found |= {one["RoleName"] for one in world.client("iam").list_roles()["Roles"]}
    return ids & found


def write_ledger(world: World) -> None:
    """A receipt in the table, and a line in the log of the tick."""
    record = {"pk": {"S": "ledger"}, "sk": {"S": "2026-11"}, "v": {"N": "1"}, "d": {"S": '{"cost": 1.25}'}}
    world.client("dynamodb").put_item(TableName=STACK, Item=record)
    logs, group = world.client("logs"), f"/aws/lambda/{STACK}-Tick"
    groups = [one["logGroupName"] for one in logs.describe_log_groups()["logGroups"]]
    group = next(one for one in groups if "tick" in one.lower())
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    line = {"timestamp": int(time.time() * 1000), "message": "a tick\n"}
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[line])


def test_a_whole_stack_with_orphans_goes_however_often_it_is_killed(world: World, tmp_path: Path) -> None:
    assert world.up().exit_code == 0
    write_ledger(world)
    ours, others = orphans(world, STACK), orphans(world, "whisperlive-prod2")
    assert there(world, ours | others) == ours | others
    kept = tmp_path / f"{STACK}-kept-1"
    for cut in IN_DESTROY:
        ran = world.destroy(cut, keep=kept)
        assert ran.killed, (cut, ran)
        about = read_about(kept)
        assert about is not None
        assert about.ended_at is None
        assert unfinished(tmp_path, *about.place) == kept
    last = world.destroy(keep=kept)
    assert last.exit_code == 0, last
    assert last.report["left"] == []
    assert last.report["kept"] == str(kept)
    assert (world.tagged(), world.stack()) == (set(), None)
    assert there(world, ours) == set()
    assert there(world, others) == others, "another stack's things were touched"
    check_kept(kept)
    about = read_about(kept)
    assert about is not None
    assert about.ended_at is not None
    assert unfinished(tmp_path, *about.place) is None

    again = world.destroy(keep=tmp_path / f"{STACK}-kept-2")
    assert again.exit_code == 0
    assert again.report["deleted"] == []
    assert again.report["kept"] is None
    assert again.said[0] == f"nothing of {STACK} is there"
    roles = {one["RoleName"] for one in world.client("iam").list_roles()["Roles"]}
    assert {one.split("-")[2] for one in roles if one.startswith(f"{STACK}-")} <= {"GatewayLogWriter"}


def check_kept(folder: Path) -> None:
    """The ledger, the audit and the log, whole, though the table went in a run before the last."""
    records = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    assert {"key": "2026-11", "cost": 1.25} in records
    actions = [json.loads(line)["action"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert "release.activate" in actions
    (log,) = [one for one in folder.glob("*.gz") if "tick" in one.name.lower()]
    with gzip.open(log, "rt") as lines:
        assert [json.loads(line)["message"] for line in lines] == ["a tick"]
    assert not list(folder.glob("*.part"))


def test_what_cloudformation_cannot_delete_is_swept(world: World) -> None:
    stuck = ("EdgeAddress", "GpuRole", "GpuTemplate", "Vpc", "Topic")
    assert world.up(Cut("PutObject", number=4)).killed
    world.faults(stacks=[{"resource": one, "on": "delete", "reason": "internal error"} for one in stuck])
    ended = world.destroy()
    assert ended.exit_code == 0, ended
    assert (world.tagged(), world.stack()) == (set(), None)
    swept = " ".join(ended.report["deleted"])
    for kind in ("address", "role", "launch template", "network", "topic"):
        assert f"{kind} " in swept, swept


def lent(world: World, role: str, subnet: str, *groups: str) -> str:
    """A machine of the operator's own, in these groups of theirs, tagged for the stack."""
    own = [*tags(), {"Key": "whisperlive-edge:role", "Value": role}]
    made = world.client("ec2").run_instances(
        ImageId="ami-00000000",
        InstanceType="g4dn.xlarge" if role == "gpu" else "t4g.micro",
        MinCount=1,
        MaxCount=1,
        SubnetId=subnet,
        SecurityGroupIds=list(groups),
        TagSpecifications=[{"ResourceType": "instance", "Tags": own}],
    )
    return str(made["Instances"][0]["InstanceId"])


@pytest.mark.parametrize("state", ["never made", "made"])
def test_machines_that_were_lent_to_the_stack_stay(world: World, state: str) -> None:
    ec2 = world.client("ec2")
    vpc = next(one["VpcId"] for one in ec2.describe_vpcs()["Vpcs"] if one["IsDefault"])
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    first, second = (str(one["SubnetId"]) for one in subnets[:2])
    mine = ec2.create_security_group(GroupName=f"mine {state}", Description="mine", VpcId=vpc)["GroupId"]
    gpu, edge = lent(world, "gpu", first, mine), lent(world, "edge", first)
    settings = {"VpcId": vpc, "SubnetA": first, "SubnetB": second, "AdoptedGpu": gpu, "AdoptedEdge": edge}
    try:
        if state == "never made":
            assert world.up(Cut("CreateChangeSet"), **settings).killed
        else:
            assert world.up(Cut("PutObject", number=4), **settings).killed
            made = ec2.describe_security_groups(Filters=[{"Name": f"tag:{TAG}", "Values": [STACK]}])
            groups = [str(one["GroupId"]) for one in made["SecurityGroups"]]
            enter(world, gpu, [mine, groups[0]])
            enter(world, edge, groups[1:])
        ended = world.destroy()
        assert ended.exit_code == 0, ended
        assert (world.tagged(), world.stack()) == (set(), None)
        assert groups_of(world, gpu) == [f"mine {state}"]
        assert groups_of(world, edge) == ["default"]
    finally:
        ec2.terminate_instances(InstanceIds=[gpu, edge])


def card(world: World, machine: str) -> Any:
    """The machine's network interface; the machine must live."""
    (found,) = world.client("ec2").describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"]
    assert found["State"]["Name"] in ("pending", "running")
    return found["NetworkInterfaces"][0]


def enter(world: World, machine: str, groups: list[str]) -> None:
    interface = card(world, machine)["NetworkInterfaceId"]
    world.client("ec2").modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=groups)


def groups_of(world: World, machine: str) -> list[str]:
    return sorted(str(one["GroupName"]) for one in card(world, machine)["Groups"])
