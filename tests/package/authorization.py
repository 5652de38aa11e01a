"""What AWS documents about the actions in use: which resources each can be limited to, and by which condition keys.

From the Service Authorization Reference, for these actions only; a policy that names another action fails its test
until a line here says what that action takes. An action without resources takes `*` only.
"""

from __future__ import annotations

from dataclasses import dataclass

TAGS = ("aws:ResourceTag/*",)
TABLE = "arn:*:dynamodb:*:*:table/*"
INSTANCE = "arn:*:ec2:*:*:instance/*"
OBJECT = "arn:*:s3:::*/*"
BUCKET = "arn:*:s3:::*"
LOG_STREAM = "arn:*:logs:*:*:log-group:*:log-stream:*"


@dataclass(frozen=True)
class Fact:
    """ARN patterns of the resource types, and the condition keys that the action knows."""

    resources: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


ACTIONS = {
    "dynamodb:ConditionCheckItem": Fact((TABLE,), ("dynamodb:LeadingKeys",)),
    "dynamodb:DeleteItem": Fact((TABLE,), ("dynamodb:LeadingKeys",)),
    "dynamodb:GetItem": Fact((TABLE,), ("dynamodb:LeadingKeys",)),
    "dynamodb:Query": Fact((TABLE,), ("dynamodb:LeadingKeys",)),
    "dynamodb:UpdateItem": Fact((TABLE,), ("dynamodb:LeadingKeys",)),
    "ec2:DescribeInstances": Fact(keys=("ec2:Region",)),
    "ec2:ModifyInstanceAttribute": Fact((INSTANCE,), (*TAGS, "ec2:Attribute", "ec2:InstanceType")),
    "ec2:StartInstances": Fact((INSTANCE,), (*TAGS, "ec2:InstanceType")),
    "ec2:StopInstances": Fact((INSTANCE,), (*TAGS, "ec2:InstanceType")),
    "ec2messages:AcknowledgeMessage": Fact(keys=("ec2:SourceInstanceARN",)),
    "ec2messages:DeleteMessage": Fact(keys=("ec2:SourceInstanceARN",)),
    "ec2messages:FailMessage": Fact(keys=("ec2:SourceInstanceARN",)),
    "ec2messages:GetEndpoint": Fact(keys=("ec2:SourceInstanceARN",)),
    "ec2messages:GetMessages": Fact(keys=("ec2:SourceInstanceARN",)),
    "ec2messages:SendReply": Fact(keys=("ec2:SourceInstanceARN",)),
    "execute-api:Invoke": Fact(("arn:*:execute-api:*:*:*/*/*/*",)),
    "logs:CreateLogStream": Fact((LOG_STREAM,)),
    "logs:PutLogEvents": Fact((LOG_STREAM,)),
    "s3:GetObject": Fact((OBJECT,)),
    "s3:ListBucket": Fact((BUCKET,), ("s3:prefix",)),
    "s3:PutObject": Fact((OBJECT,)),
    "sns:Publish": Fact(("arn:*:sns:*:*:*",), TAGS),
    "ssm:DescribeInstanceInformation": Fact(),
    "ssm:GetCommandInvocation": Fact(),
    "ssm:GetParameter": Fact(("arn:*:ssm:*:*:parameter/*",), TAGS),
    # With an output bucket, the bucket is one of the call's resources.
    "ssm:SendCommand": Fact(("arn:*:ssm:*:*:document/*", INSTANCE, BUCKET), (*TAGS, "ssm:resourceTag/*")),
    "ssm:UpdateInstanceInformation": Fact((INSTANCE,), ("ec2:SourceInstanceARN",)),
    "ssmmessages:CreateControlChannel": Fact(),
    "ssmmessages:CreateDataChannel": Fact(),
    "ssmmessages:OpenControlChannel": Fact(),
    "ssmmessages:OpenDataChannel": Fact(),
}
