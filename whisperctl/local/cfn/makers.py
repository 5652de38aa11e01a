"""What each type of resource is in the account: made and unmade by AWS calls, as CloudFormation makes them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from whisperctl.local.cfn.template import Made

Client = Callable[[str], Any]
ACCOUNT = "123456789012"

RECORDED = frozenset(
    {
        "AWS::ApiGateway::Account",
        "AWS::ApiGateway::Deployment",
        "AWS::ApiGateway::RestApi",
        "AWS::ApiGateway::Stage",
        "AWS::ApiGateway::UsagePlan",
        "AWS::Budgets::Budget",
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::Dashboard",
        "AWS::EC2::EIPAssociation",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::Events::Rule",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Lambda::Function",
        "AWS::Lambda::Permission",
        "AWS::Logs::MetricFilter",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::Queue",
        "AWS::SSM::Parameter",
        "AWS::Scheduler::Schedule",
    }
)
"""Types that a stack only notes: they get a name and attributes, and nothing of them lies in the account. What the
Lambdas, the API and the rules would do is done by the embedded gateway and its triggers."""


@dataclass(frozen=True, slots=True)
class Place:
    """Whose resources: the stack's name and region, and the tags that it gives to everything."""

    stack: str
    region: str
    tags: tuple[tuple[str, str], ...] = ()


def create(client: Client, place: Place, logical: str, kind: str, properties: Mapping[str, Any]) -> Made:
    """Make it. A ClientError is the refusal."""
    name = f"{place.stack}-{logical}-{secrets.token_hex(6).upper()}"
    maker = MAKERS.get(kind)
    if maker is None:
        if kind not in RECORDED:
            raise ValueError(f"Template format error: Unrecognized resource types: [{kind}]")
        return Made(logical, kind, *_recorded(place, kind, name, properties))
    made = maker(client, place, name, properties)
    physical, attributes = made if isinstance(made, tuple) else (made, {})
    return Made(logical, kind, physical, attributes)


def delete(client: Client, made: Made) -> None:
    """Unmake it; what is gone already is fine."""
    from botocore.exceptions import ClientError

    unmaker = UNMAKERS.get(made.type)
    if unmaker is None:
        return
    try:
        unmaker(client, made)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if not any(
            word in code for word in ("NotFound", "NoSuch", "InvalidDocument", "not-found", "NonExistent")
        ):
            raise


def _recorded(place: Place, kind: str, name: str, properties: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    match kind:
        case "AWS::Lambda::Function":
            return name, {"Arn": f"arn:aws:lambda:{place.region}:{ACCOUNT}:function:{name}"}
        case "AWS::Events::Rule":
            return name, {"Arn": f"arn:aws:events:{place.region}:{ACCOUNT}:rule/{name}"}
        case "AWS::ApiGateway::RestApi":
            return secrets.token_hex(5), {}
        case "AWS::ApiGateway::Stage":
            return str(properties.get("StageName", "api")), {}
        case _:
            return name, {"Arn": f"arn:aws:{kind.split('::')[1].lower()}:{place.region}:{ACCOUNT}:{name}"}


def _ec2_tags(kind: str, tags: Any) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": list(tags)}] if tags else []


def _stack_tags(place: Place, given: Any = ()) -> list[dict[str, str]]:
    """The stack's tags and over them the resource's own."""
    own = {str(one["Key"]): str(one["Value"]) for one in given or ()}
    return [{"Key": key, "Value": value} for key, value in (dict(place.tags) | own).items()]


def _vpc(client: Client, place: Place, _name: str, p: Mapping[str, Any]) -> str:
    specs = _ec2_tags("vpc", _stack_tags(place, p.get("Tags")))
    return str(client("ec2").create_vpc(CidrBlock=p["CidrBlock"], TagSpecifications=specs)["Vpc"]["VpcId"])


def _gateway(client: Client, place: Place, _name: str, p: Mapping[str, Any]) -> str:
    specs = _ec2_tags("internet-gateway", _stack_tags(place, p.get("Tags")))
    made = client("ec2").create_internet_gateway(TagSpecifications=specs)
    return str(made["InternetGateway"]["InternetGatewayId"])


def _attachment(client: Client, _place: Place, _name: str, p: Mapping[str, Any]) -> str:
    client("ec2").attach_internet_gateway(InternetGatewayId=p["InternetGatewayId"], VpcId=p["VpcId"])
    return f"{p['InternetGatewayId']}|{p['VpcId']}"


def _routes(client: Client, place: Place, _name: str, p: Mapping[str, Any]) -> str:
    specs = _ec2_tags("route-table", _stack_tags(place, p.get("Tags")))
    made = client("ec2").create_route_table(VpcId=p["VpcId"], TagSpecifications=specs)
    return str(made["RouteTable"]["RouteTableId"])


def _route(client: Client, _place: Place, _name: str, p: Mapping[str, Any]) -> str:
    client("ec2").create_route(
        RouteTableId=p["RouteTableId"], DestinationCidrBlock=p["DestinationCidrBlock"], GatewayId=p["GatewayId"]
    )
    return f"{p['RouteTableId']}|{p['DestinationCidrBlock']}"


def _subnet(client: Client, place: Place, _name: str, p: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    specs = _ec2_tags("subnet", _stack_tags(place, p.get("Tags")))
    made = client("ec2").create_subnet(
        VpcId=p["VpcId"],
        CidrBlock=p["CidrBlock"],
        AvailabilityZone=p["AvailabilityZone"],
        TagSpecifications=specs,
    )["Subnet"]
    return made["SubnetId"], {"AvailabilityZone": made["AvailabilityZone"]}


def _associated(client: Client, _place: Place, _name: str, p: Mapping[str, Any]) -> str:
    made = client("ec2").associate_route_table(RouteTableId=p["RouteTableId"], SubnetId=p["SubnetId"])
    return str(made["AssociationId"])


def _group(client: Client, place: Place, name: str, p: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    specs = _ec2_tags("security-group", _stack_tags(place, p.get("Tags")))
    made = client("ec2").create_security_group(
        GroupName=name, Description=p["GroupDescription"], VpcId=p["VpcId"], TagSpecifications=specs
    )
    return made["GroupId"], {"GroupId": made["GroupId"]}


def _role(client: Client, place: Place, name: str, p: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    document = json.dumps(p["AssumeRolePolicyDocument"])
    tags = _stack_tags(place, p.get("Tags"))
    made = client("iam").create_role(RoleName=name[:64], AssumeRolePolicyDocument=document, Tags=tags)["Role"]
    for policy in p.get("Policies", []):
        client("iam").put_role_policy(
            RoleName=name[:64],
            PolicyName=policy["PolicyName"],
            PolicyDocument=json.dumps(policy["PolicyDocument"]),
        )
    return name[:64], {"Arn": made["Arn"], "RoleId": made["RoleId"]}


def _profile(client: Client, _place: Place, name: str, p: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    made = client("iam").create_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    for role in p["Roles"]:
        client("iam").add_role_to_instance_profile(InstanceProfileName=name, RoleName=role)
    return name, {"Arn": made["Arn"]}


def _template(client: Client, place: Place, name: str, p: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    data = json.loads(json.dumps(p["LaunchTemplateData"]))
    for device in data.get("BlockDeviceMappings", []):
        size = device.get("Ebs", {}).get("VolumeSize")
        if size is not None:
            device["Ebs"]["VolumeSize"] = int(size)
    specs = _ec2_tags("launch-template", _stack_tags(place))
    made = client("ec2").create_launch_template(
        LaunchTemplateName=name, LaunchTemplateData=data, TagSpecifications=specs
    )
    return made["LaunchTemplate"]["LaunchTemplateId"], {"LatestVersionNumber": "1", "DefaultVersionNumber": "1"}


def _instance(client: Client, place: Place, _name: str, p: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    ec2 = client("ec2")
    template = p["LaunchTemplate"]["LaunchTemplateId"]
    versions = ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
    data = versions[0]["LaunchTemplateData"]
    nic = p["NetworkInterfaces"][0]
    (subnet,) = ec2.describe_subnets(SubnetIds=[nic["SubnetId"]])["Subnets"]
    disks = [{**one, "Ebs": {**one["Ebs"]}} for one in data.get("BlockDeviceMappings", [])]
    for disk in disks:
        disk["Ebs"].pop("Encrypted", None)  # a mapping of no snapshot is refused by moto with it
    made = ec2.run_instances(
        ImageId=data["ImageId"],
        InstanceType=data["InstanceType"],
        MinCount=1,
        MaxCount=1,
        SubnetId=nic["SubnetId"],
        SecurityGroupIds=list(nic["GroupSet"]),
        Placement={"AvailabilityZone": subnet["AvailabilityZone"]},
        BlockDeviceMappings=disks,
        TagSpecifications=[one for one in data.get("TagSpecifications", []) if one["ResourceType"] == "instance"],
    )["Instances"][0]
    ec2.create_tags(
        Resources=[made["InstanceId"]], Tags=[{"Key": "aws:cloudformation:stack-name", "Value": place.stack}]
    )
    tags = [one for one in data.get("TagSpecifications", []) if one["ResourceType"] == "volume"]
    volumes = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [made["InstanceId"]]}])
    found = [one["VolumeId"] for one in volumes["Volumes"]]
    if found and tags:
        ec2.create_tags(Resources=found, Tags=tags[0]["Tags"])
    attributes = {"PrivateIp": made.get("PrivateIpAddress", ""), "AvailabilityZone": subnet["AvailabilityZone"]}
    return made["InstanceId"], attributes


def _address(client: Client, place: Place, _name: str, p: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    specs = _ec2_tags("elastic-ip", _stack_tags(place, p.get("Tags")))
    made = client("ec2").allocate_address(Domain="vpc", TagSpecifications=specs)
    return made["PublicIp"], {"AllocationId": made["AllocationId"]}


def _table(client: Client, place: Place, _name: str, p: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    made = client("dynamodb").create_table(
        TableName=p["TableName"],
        BillingMode=p["BillingMode"],
        KeySchema=p["KeySchema"],
        AttributeDefinitions=p["AttributeDefinitions"],
        Tags=_stack_tags(place, p.get("Tags")),
    )
    return p["TableName"], {"Arn": made["TableDescription"]["TableArn"]}


def _bucket(client: Client, place: Place, name: str, p: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    s3, called = client("s3"), name.lower()[:63]
    s3.create_bucket(Bucket=called)
    s3.put_bucket_versioning(Bucket=called, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_tagging(Bucket=called, Tagging={"TagSet": _stack_tags(place, p.get("Tags"))})
    return called, {"Arn": f"arn:aws:s3:::{called}"}


def _topic(client: Client, place: Place, name: str, p: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    made = client("sns").create_topic(Name=name, Tags=_stack_tags(place, p.get("Tags")))
    return made["TopicArn"], {"TopicName": name}


def _document(client: Client, place: Place, _name: str, p: Mapping[str, Any]) -> str:
    client("ssm").create_document(
        Name=p["Name"],
        Content=json.dumps(p["Content"]),
        DocumentType=p["DocumentType"],
        DocumentFormat="JSON",
        Tags=_stack_tags(place, p.get("Tags")),
    )
    return str(p["Name"])


def _log_group(client: Client, place: Place, name: str, p: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    called = str(p.get("LogGroupName", name))
    tags = {one["Key"]: one["Value"] for one in _stack_tags(place, p.get("Tags"))}
    client("logs").create_log_group(logGroupName=called, **({"tags": tags} if tags else {}))
    return called, {"Arn": f"arn:aws:logs:{place.region}:{ACCOUNT}:log-group:{called}:*"}


MAKERS: dict[str, Callable[[Client, Place, str, Mapping[str, Any]], str | tuple[str, dict[str, str]]]] = {
    "AWS::DynamoDB::Table": _table,
    "AWS::EC2::EIP": _address,
    "AWS::EC2::Instance": _instance,
    "AWS::EC2::InternetGateway": _gateway,
    "AWS::EC2::LaunchTemplate": _template,
    "AWS::EC2::Route": _route,
    "AWS::EC2::RouteTable": _routes,
    "AWS::EC2::SecurityGroup": _group,
    "AWS::EC2::Subnet": _subnet,
    "AWS::EC2::SubnetRouteTableAssociation": _associated,
    "AWS::EC2::VPC": _vpc,
    "AWS::EC2::VPCGatewayAttachment": _attachment,
    "AWS::IAM::InstanceProfile": _profile,
    "AWS::IAM::Role": _role,
    "AWS::Logs::LogGroup": _log_group,
    "AWS::S3::Bucket": _bucket,
    "AWS::SNS::Topic": _topic,
    "AWS::SSM::Document": _document,
}


def _unrole(client: Client, made: Made) -> None:
    iam = client("iam")
    for policy in iam.list_role_policies(RoleName=made.physical)["PolicyNames"]:
        iam.delete_role_policy(RoleName=made.physical, PolicyName=policy)
    iam.delete_role(RoleName=made.physical)


def _unprofile(client: Client, made: Made) -> None:
    iam = client("iam")
    found = iam.get_instance_profile(InstanceProfileName=made.physical)["InstanceProfile"]
    for role in found["Roles"]:
        iam.remove_role_from_instance_profile(InstanceProfileName=made.physical, RoleName=role["RoleName"])
    iam.delete_instance_profile(InstanceProfileName=made.physical)


def _detach(client: Client, made: Made) -> None:
    gateway, _, vpc = made.physical.partition("|")
    client("ec2").detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)


def _unroute(client: Client, made: Made) -> None:
    table, _, block = made.physical.partition("|")
    client("ec2").delete_route(RouteTableId=table, DestinationCidrBlock=block)


def _one(service: str, operation: str, argument: str, attribute: str = "") -> Callable[[Client, Made], None]:
    def call(client: Client, made: Made) -> None:
        value = made.attributes[attribute] if attribute else made.physical
        getattr(client(service), operation)(**{argument: value})

    return call


UNMAKERS: dict[str, Callable[[Client, Made], None]] = {
    "AWS::DynamoDB::Table": _one("dynamodb", "delete_table", "TableName"),
    "AWS::EC2::EIP": _one("ec2", "release_address", "AllocationId", "AllocationId"),
    "AWS::EC2::Instance": lambda client, made: client("ec2").terminate_instances(InstanceIds=[made.physical]),
    "AWS::EC2::InternetGateway": _one("ec2", "delete_internet_gateway", "InternetGatewayId"),
    "AWS::EC2::LaunchTemplate": _one("ec2", "delete_launch_template", "LaunchTemplateId"),
    "AWS::EC2::Route": _unroute,
    "AWS::EC2::RouteTable": _one("ec2", "delete_route_table", "RouteTableId"),
    "AWS::EC2::SecurityGroup": _one("ec2", "delete_security_group", "GroupId"),
    "AWS::EC2::Subnet": _one("ec2", "delete_subnet", "SubnetId"),
    "AWS::EC2::SubnetRouteTableAssociation": _one("ec2", "disassociate_route_table", "AssociationId"),
    "AWS::EC2::VPC": _one("ec2", "delete_vpc", "VpcId"),
    "AWS::EC2::VPCGatewayAttachment": _detach,
    "AWS::IAM::InstanceProfile": _unprofile,
    "AWS::IAM::Role": _unrole,
    "AWS::Logs::LogGroup": _one("logs", "delete_log_group", "logGroupName"),
    "AWS::S3::Bucket": _one("s3", "delete_bucket", "Bucket"),
    "AWS::SNS::Topic": _one("sns", "delete_topic", "TopicArn"),
    "AWS::SSM::Document": _one("ssm", "delete_document", "Name"),
}
