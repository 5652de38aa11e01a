"""The stack's template: linted, transformed as CloudFormation does it, and created in moto as far as moto goes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from chalicelib.aws.metrics import NAMESPACE
from chalicelib.services import measures
from tests.package.cloudformation import CODE, IMAGE, REGION, SKIPPED_TYPES, created, transformed
from tests.package.conftest import Made

pytestmark = pytest.mark.timeout(600)  # pip downloads, and the linter takes its time on a busy machine

STACK = "whisperlive"
NOT_IN_MOTO = {
    "AWS::ApiGateway::Account",
    "AWS::Budgets::Budget",
    "AWS::CloudWatch::Alarm",
    "AWS::EC2::EIPAssociation",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
}
"""Types that moto's CloudFormation passes over: of these only the linter and the transform have a say."""


def test_the_linter_finds_nothing_before_and_after_the_transform(packages: dict[str, Made], tmp_path: Path) -> None:
    plain = {stage: tmp_path / f"{stage}.json" for stage in packages}
    for stage, path in plain.items():
        path.write_text(json.dumps(transformed(packages[stage].template)))
    assert lint(packages["prod"].package.template, *plain.values()) == ""


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    wrong = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"Colour": "red"}}}}
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(wrong))
    assert "Colour" in lint(path)


def lint(*templates: Path) -> str:
    """What cfn-lint says, one finding a line."""
    program = Path(sys.executable).with_name("cfn-lint")
    arguments = [str(program), "--format", "parseable", "-t", *map(str, templates)]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=170, check=False)
    assert "Traceback" not in run.stderr, run.stderr
    return run.stdout + run.stderr


def test_the_transform_leaves_plain_cloudformation(made: Made) -> None:
    result = transformed(made.template)
    kinds = {one["Type"] for one in result["Resources"].values()}
    assert not [kind for kind in kinds if kind.startswith("AWS::Serverless")]
    assert "Transform" not in result
    functions = [one["Properties"] for one in result["Resources"].values() if one["Type"] == "AWS::Lambda::Function"]
    assert {one["Code"]["S3Key"] for one in functions} == {CODE.rpartition("/")[2]}
    # Every function writes to a log group of its own that is made before it.
    assert len({one["LoggingConfig"]["LogGroup"]["Ref"] for one in functions}) == len(functions)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty account."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        yield


def test_what_moto_leaves_out_is_known_by_name(fit: dict[str, Any], packages: dict[str, Made]) -> None:
    from moto.cloudformation.parsing import resource_class_from_type

    kinds = {one["Type"] for one in fit["Resources"].values()}
    assert {kind for kind in kinds if resource_class_from_type(kind) is None} == NOT_IN_MOTO
    whole = transformed(packages["prod"].template)["Resources"]
    assert {one["Type"] for name, one in whole.items() if name not in fit["Resources"]} == set(SKIPPED_TYPES)


@pytest.mark.usefixtures("account")
def test_an_empty_account_gets_the_whole_stack(fit: dict[str, Any]) -> None:
    outputs = created(fit, STACK, StandbyGpu="true")
    ec2 = boto3.client("ec2", region_name=REGION)
    found = [one for batch in ec2.describe_instances()["Reservations"] for one in batch["Instances"]]
    tagged = {one["InstanceId"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in found}
    assert sorted(tags["whisperlive-edge:role"] for tags in tagged.values()) == ["edge", "gpu", "gpu"]
    assert {tags["whisperlive-edge:stack"] for tags in tagged.values()} == {STACK}
    gpus = {key for key, tags in tagged.items() if tags["whisperlive-edge:role"] == "gpu"}
    assert len({one["SubnetId"] for one in found if one["InstanceId"] in gpus}) == 2
    address = ec2.describe_addresses()["Addresses"]
    assert len(address) == 1
    assert outputs["EdgeUrl"] == f"https://{address[0]['PublicIp']}"
    table = boto3.client("dynamodb", region_name=REGION).describe_table(TableName=outputs["TableName"])["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    names = [one["Name"] for one in boto3.client("ssm", region_name=REGION).list_documents()["DocumentIdentifiers"]]
    assert f"{STACK}-release" in names
    groups = ec2.describe_security_groups(GroupIds=[outputs["GpuSecurityGroupId"]])["SecurityGroups"]
    (rule,) = groups[0]["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (9090, 9090)
    assert [one["GroupId"] for one in rule["UserIdGroupPairs"]] == [outputs["EdgeSecurityGroupId"]]
    assert rule["IpRanges"] == []


@pytest.mark.usefixtures("account")
def test_an_existing_network_and_machines_are_used(fit: dict[str, Any]) -> None:
    ec2 = boto3.client("ec2", region_name=REGION)
    vpc = ec2.create_vpc(CidrBlock="10.80.0.0/24")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.80.0.0/25")["Subnet"]["SubnetId"]
    ran = ec2.run_instances(ImageId=IMAGE, MinCount=2, MaxCount=2, SubnetId=subnet)["Instances"]
    gpu, edge = (one["InstanceId"] for one in ran)
    vpcs = len(ec2.describe_vpcs()["Vpcs"])
    given = {"VpcId": vpc, "SubnetA": subnet, "SubnetB": subnet, "AdoptedGpu": gpu, "AdoptedEdge": edge}
    outputs = created(fit, STACK, **given)
    assert len(ec2.describe_vpcs()["Vpcs"]) == vpcs
    assert len([one for batch in ec2.describe_instances()["Reservations"] for one in batch["Instances"]]) == 2
    assert (outputs["GpuInstanceId"], outputs["EdgeInstanceId"]) == (gpu, edge)
    assert len(ec2.describe_addresses()["Addresses"]) == 1


def test_the_network_is_closed_but_for_the_edges_web_ports(made: Made) -> None:
    groups = made.of_type("AWS::EC2::SecurityGroup")
    ingress = {name: one.get("SecurityGroupIngress", []) for name, one in groups.items()}
    assert {one["FromPort"] for one in ingress["EdgeSecurityGroup"]} == {80, 443}
    assert ingress["GpuSecurityGroup"] == []
    rules = list(made.of_type("AWS::EC2::SecurityGroupIngress").values())
    assert [(one["FromPort"], one["ToPort"]) for one in rules] == [(9090, 9090)]
    assert rules[0]["SourceSecurityGroupId"] == {"Ref": "EdgeSecurityGroup"}
    (address,) = made.of_type("AWS::EC2::EIPAssociation").values()
    assert address["InstanceId"] == {"Fn::If": ["NewEdge", {"Ref": "Edge"}, {"Ref": "AdoptedEdge"}]}


def test_hosts_are_made_as_the_design_asks(made: Made) -> None:
    templates = made.of_type("AWS::EC2::LaunchTemplate")
    assert set(templates) == {"GpuTemplate", "EdgeTemplate"}
    for one in templates.values():
        data = one["LaunchTemplateData"]
        assert data["InstanceInitiatedShutdownBehavior"] == "stop"
        assert data["MetadataOptions"]["HttpTokens"] == "required"
        assert data["ImageId"] in ({"Ref": "GpuImage"}, {"Ref": "EdgeImage"})
        for disk in data["BlockDeviceMappings"]:
            assert (disk["Ebs"]["VolumeType"], disk["Ebs"]["Encrypted"]) == ("gp3", True)
        assert "KeyName" not in data
    for one in made.of_type("AWS::EC2::Instance").values():
        # A newer template must not replace a machine and what is installed on it.
        assert one["LaunchTemplate"]["Version"] == "1"


def test_the_edge_comes_back_by_itself(made: Made) -> None:
    """EC2 moves it to new hardware with its address and its disk, on which the certificates lie."""
    actions = {
        (alarm["MetricName"], action["Fn::Sub"].rpartition(":")[2])
        for alarm in made.of_type("AWS::CloudWatch::Alarm").values()
        for action in alarm["AlarmActions"]
        if "Fn::Sub" in action
    }
    assert actions == {("StatusCheckFailed_System", "recover"), ("StatusCheckFailed_Instance", "reboot")}
    assert made.of_type("AWS::EC2::LaunchTemplate")["EdgeTemplate"]["LaunchTemplateData"]["MaintenanceOptions"] == {
        "AutoRecovery": "default"
    }


def test_a_failed_first_creation_leaves_no_name_behind(made: Made) -> None:
    """What is kept when the stack goes must not stand in the way of the next try."""
    kept: dict[str, set[str]] = {}
    for name, one in made.resources.items():
        kept.setdefault(one.get("DeletionPolicy", "Delete"), set()).add(name)
    assert kept["RetainExceptOnCreate"] >= {"Table", "Bucket", "TickLogs"}
    # The account's own setting, which is not the stack's to take away.
    assert kept["Retain"] == {"GatewayLogWriter", "GatewayAccount"}


def test_the_gateways_own_refusals_are_problems_of_the_right_status(made: Made) -> None:
    responses = made.resources["RestAPI"]["Properties"]["GatewayResponses"]
    for kind, one in responses.items():
        text = one["ResponseTemplates"]["application/json"].replace("$context.error.messageString", '"said"')
        problem = json.loads(text)
        assert set(problem) == {"type", "title", "status", "detail"}, kind
        assert problem["status"] == one["StatusCode"], kind
        assert one["ResponseParameters"]["Headers"]["Content-Type"] == "'application/problem+json'"
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "MISSING_AUTHENTICATION_TOKEN", "THROTTLED"} <= set(responses)


def test_the_api_is_regional_throttled_and_logs_no_secret(made: Made) -> None:
    api = made.resources["RestAPI"]["Properties"]
    assert api["EndpointConfiguration"] in ("REGIONAL", {"Type": "REGIONAL"})
    (method,) = api["MethodSettings"]
    assert method["ThrottlingRateLimit"] > 0
    assert method["ThrottlingBurstLimit"] > 0
    logged = json.loads(api["AccessLogSetting"]["Format"])
    assert not [value for value in logged.values() if "header" in value or "query" in value.lower()]


def test_every_metric_is_one_that_is_measured(made: Made) -> None:
    measured = set(re.findall(r"^\| `(\w+)`", measures.__doc__ or "", re.MULTILINE))
    resources = transformed(made.template)["Resources"]
    alarms = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::CloudWatch::Alarm"]
    ours = {one["MetricName"] for one in alarms if one["Namespace"] == NAMESPACE}
    assert ours
    assert ours <= measured
    body = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    shown = [row for one in json.loads(body)["widgets"] for row in one["properties"]["metrics"]]
    assert {row[0] for row in shown} == {NAMESPACE}
    assert {row[1] for row in shown} == measured
    for row in shown:
        assert "service" in row[2::2], row
