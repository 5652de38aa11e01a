"""The packaged template as CloudFormation sees it: transformed from SAM, and made fit for moto."""

from __future__ import annotations

import copy
import json
from typing import Any

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

REGION = "eu-central-1"
CODE = "s3://code/deployment.zip"
IMAGE = "ami-12c6146b"
"""One that moto knows."""
PARAMETERS = {"GpuImage": IMAGE, "EdgeImage": IMAGE}
"""Those without a default."""


def transformed(template: dict[str, Any]) -> dict[str, Any]:
    """The template after AWS's own SAM transform, its code in a bucket."""
    given = copy.deepcopy(template)
    for resource in given["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = CODE
    session = boto3.Session(region_name=REGION)
    result: dict[str, Any] = Translator({}, Parser(), boto_session=session).translate(given, {})
    return result


SKIPPED_TYPES = {
    "AWS::ApiGateway::Deployment": "moto reads no OpenAPI body, so its API has no methods to deploy",
    "AWS::ApiGateway::Stage": "needs the deployment",
}


def for_moto(template: dict[str, Any]) -> dict[str, Any]:
    """What moto cannot do is taken out or replaced: each line here is something that moto does not prove."""
    fit: dict[str, Any] = json.loads(json.dumps(template))
    # No Fn::Cidr: the subnets' addresses, as AWS would compute them from the default.
    replaced = {"Fn::Cidr": [{"Ref": "VpcCidr"}, 2, 7]}
    _replace(fit, replaced, ["10.79.0.0/25", "10.79.0.128/25"])
    kept = {name: one for name, one in fit["Resources"].items() if one["Type"] not in SKIPPED_TYPES}
    fit["Resources"] = kept
    for instance in (one["Properties"] for one in kept.values() if one["Type"] == "AWS::EC2::Instance"):
        # No launch templates for instances: what the template says, said by the instance.
        name = instance.pop("LaunchTemplate")["LaunchTemplateId"]["Ref"]
        data = kept[name]["Properties"]["LaunchTemplateData"]
        profile = data["IamInstanceProfile"]["Arn"]["Fn::GetAtt"][0]
        tags = next(one["Tags"] for one in data["TagSpecifications"] if one["ResourceType"] == "instance")
        instance |= {
            "ImageId": data["ImageId"],
            "InstanceType": data["InstanceType"],
            "SubnetId": instance.pop("NetworkInterfaces")[0]["SubnetId"],
            "IamInstanceProfile": {"Ref": profile},
            "Tags": tags,
        }
    return fit


def created(template: dict[str, Any], stack: str, **parameters: str) -> dict[str, Any]:
    """A stack's outputs after its creation in moto (inside mock_aws)."""
    s3 = boto3.client("s3", region_name=REGION)
    bucket = CODE.split("/")[2]
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=bucket, Key="deployment.zip", Body=b"PK\x05\x06" + bytes(18))
    s3.put_object(Bucket=bucket, Key="template.json", Body=json.dumps(template).encode())
    stacks = boto3.client("cloudformation", region_name=REGION)
    given = PARAMETERS | parameters
    stacks.create_stack(
        StackName=stack,
        TemplateURL=f"https://{bucket}.s3.{REGION}.amazonaws.com/template.json",
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    made = stacks.describe_stacks(StackName=stack)["Stacks"][0]
    assert made["StackStatus"] == "CREATE_COMPLETE"
    return {one["OutputKey"]: one["OutputValue"] for one in made["Outputs"]}


def _replace(within: Any, old: Any, new: Any) -> None:
    items = within.items() if isinstance(within, dict) else enumerate(within) if isinstance(within, list) else ()
    for key, value in list(items):
        if value == old:
            within[key] = new
        else:
            _replace(value, old, new)
