"""Faults as tests post them, the record of calls, and what a bad post hears."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.local_cloud import Cloud
from tests.unit.test_local_ec2 import refusal, settle
from whisperctl.local.faultset import BadFaults, FaultSet, parse


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    yield made
    made.close()


def test_no_capacity_in_a_zone_names_those_that_have_some(cloud: Cloud) -> None:
    gpu, ec2 = cloud.gpu(zone="us-east-1a"), cloud.client("ec2")
    cloud.post("faults", {"capacity": [{"type": "g4dn.xlarge", "zone": "us-east-1a"}]}).raise_for_status()
    code, message, status = refusal(ec2.start_instances, InstanceIds=[gpu])
    assert (code, status) == ("InsufficientInstanceCapacity", 500)
    assert message == (
        "We currently do not have sufficient g4dn.xlarge capacity in the Availability Zone you requested "
        "(us-east-1a). You can currently get g4dn.xlarge capacity by not specifying an Availability Zone in your "
        "request or choosing us-east-1b, us-east-1c."
    )
    assert cloud.state(gpu) == "stopped"
    elsewhere = cloud.gpu(zone="us-east-1b")
    ec2.start_instances(InstanceIds=[elsewhere])
    cloud.post("faults", {}).raise_for_status()
    ec2.start_instances(InstanceIds=[gpu])
    assert cloud.state(gpu) == "pending"


def test_the_quota(cloud: Cloud) -> None:
    cloud.post("faults", {"quota": True}).raise_for_status()
    code, _message, status = refusal(cloud.client("ec2").start_instances, InstanceIds=[cloud.gpu()])
    assert (code, status) == ("VcpuLimitExceeded", 400)


def test_throttling_so_many_times_in_each_services_words(cloud: Cloud) -> None:
    gpu = cloud.gpu()
    faults: list[dict[str, Any]] = [
        {"service": "ec2", "operation": "StartInstances", "times": 2},
        {"service": "dynamodb"},
    ]
    cloud.post("faults", {"throttling": faults}).raise_for_status()
    ec2 = cloud.client("ec2")
    for _ in range(2):
        code, _message, status = refusal(ec2.start_instances, InstanceIds=[gpu])
        assert (code, status) == ("RequestLimitExceeded", 503)
    ec2.describe_instances()
    ec2.start_instances(InstanceIds=[gpu])
    code, _message, status = refusal(cloud.client("dynamodb").list_tables)
    assert (code, status) == ("ThrottlingException", 400)


def test_posting_replaces_the_set(cloud: Cloud) -> None:
    cloud.post("faults", {"quota": True}).raise_for_status()
    in_force = cloud.post("faults", {"events": {"lost": True}}).json()
    assert in_force["quota"] is False
    assert in_force["events"] == {"lost": True, "doubled": False, "delay_s": 0.0}


@pytest.mark.parametrize(
    ("posted", "says"),
    [
        ([], "object"),
        ({"capacty": []}, "No such fault: capacty; known are"),
        ({"capacity": {}}, "list"),
        ({"capacity": [{"zone": 3}]}, "capacity.zone is a string, not 3."),
        ({"capacity": [{"az": "a"}]}, "capacity has no az"),
        ({"quota": 1}, "quota is true or false"),
        ({"throttling": [{}]}, "throttling needs service"),
        ({"throttling": [{"service": "ec2", "times": True}]}, "throttling.times is a whole number"),
        ({"agent": {"delay_s": "x"}}, "agent.delay_s is a number of seconds"),
        ({"agent": {"delay_s": -1}}, "negative"),
        ({"commands": [{"status": "Sad"}]}, "Failed, TimedOut, Lost"),
        ({"impaired": [{"machine": "i-1"}]}, "impaired has no machine; known are instance, times."),
        ({"impaired": [{"times": -1}]}, "times cannot be negative."),
        ({"stuck": True}, "stuck is a list of objects."),
        ({"stale": {"seconds": -1}}, "seconds cannot be negative."),
        ({"power": [{}]}, "power needs instance."),
        ({"power": [{"instance": "i-1", "how": "gone"}]}, "power.how is one of lost, failed, off, not 'gone'."),
        ({"power": [{"instance": "i-1"}]}, "power needs a running machine, and i-1 is unknown."),
        ({"lambdas": [{"times": 1}]}, "lambdas needs after."),
        ({"ticks": {"lost": "yes"}}, "ticks.lost is true or false, not 'yes'."),
    ],
)
def test_a_bad_post_hears_one_sentence_and_changes_nothing(cloud: Cloud, posted: Any, says: str) -> None:
    cloud.post("faults", {"quota": True}).raise_for_status()
    response = cloud.post("faults", posted)
    assert response.status_code == 400
    assert says in response.json()["detail"]
    assert cloud.faults.now.quota is True


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", b"{"),
        ("clock", b"{}"),
        ("clock", b'{"advance_s": -1}'),
        ("clock", b"[]"),
        ("invoke", b"[]"),
        ("invoke", b'{"function": "app"}'),
    ],
)
def test_a_bad_body(cloud: Cloud, path: str, body: bytes) -> None:
    response = httpx.post(f"{cloud.server.url}/_standin/{path}", content=body)
    assert response.status_code == 400
    assert response.json()["detail"].endswith(".")


def test_an_unknown_control_path(cloud: Cloud) -> None:
    assert httpx.get(f"{cloud.server.url}/_standin/nothing").status_code == 404


def test_every_fault_has_its_default() -> None:
    assert parse({}) == FaultSet()
    with pytest.raises(BadFaults):
        parse(None)


def test_calls_are_recorded_with_their_parameters_and_errors(cloud: Cloud) -> None:
    gpu, ec2 = cloud.gpu(), cloud.client("ec2")
    ec2.start_instances(InstanceIds=[gpu])
    ec2.describe_instances(Filters=[{"Name": "tag:a", "Values": ["b", "c"]}])
    refusal(ec2.stop_instances, InstanceIds=[gpu])
    cloud.client("ssm").describe_instance_information(MaxResults=5)
    refusal(cloud.client("dynamodb").describe_table, TableName="none")
    calls = httpx.get(f"{cloud.server.url}/_standin/calls").json()
    assert [(call["service"], call["operation"], call["parameters"], call.get("error")) for call in calls] == [
        ("ec2", "StartInstances", {"InstanceId": [gpu]}, None),
        ("ec2", "DescribeInstances", {"Filter": [{"Name": "tag:a", "Value": ["b", "c"]}]}, None),
        ("ec2", "StopInstances", {"InstanceId": [gpu]}, "IncorrectInstanceState"),
        ("ssm", "DescribeInstanceInformation", {"MaxResults": 5}, None),
        ("dynamodb", "DescribeTable", {"TableName": "none"}, "ResourceNotFoundException"),
    ]
    assert all(call["time"] == cloud.clock.now() for call in calls)


def test_other_services_are_motos(cloud: Cloud) -> None:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="a/b", Body=b"content" * 100_000)
    assert s3.get_object(Bucket="bucket", Key="a/b")["Body"].read() == b"content" * 100_000
    topic = cloud.client("sns").create_topic(Name="t")["TopicArn"]
    assert topic.endswith(":t")


def test_describe_works_while_a_start_waits(cloud: Cloud) -> None:
    gpu = cloud.gpu(running=True)
    settle(cloud, gpu, "running")
    assert len(cloud.power.boots) == 1
