"""Who asked AWS for what: every boto3 call with the function that made it, and the permissions it needs.

botocore validates each call against its service model before it leaves, so a recorded call is a valid one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from chalicelib.aws.artifacts import S3Artifacts
from tests.package.iam import Need

SETTING_UP = ""
"""The actor while a test arranges the world; its calls are not recorded."""


@dataclass(frozen=True)
class Call:
    """One call of `actor`; `failed` is the error code of its answer, empty when it succeeded."""

    actor: str
    service: str
    operation: str
    parameters: Mapping[str, Any]
    failed: str = ""

    @property
    def name(self) -> str:
        return f"{self.service}:{self.operation}"


@dataclass
class Recorder:
    """`calls` in their order. `refuse` may answer a call with an error in AWS's place, `answers` what moto cannot."""

    calls: list[Call] = field(default_factory=list)
    actor: str = SETTING_UP
    refuse: Callable[[str, Mapping[str, Any]], ClientError | None] = lambda _name, _parameters: None

    answers: dict[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)

    @contextmanager
    def acting(self, actor: str) -> Iterator[None]:
        """Calls in the block are this actor's."""
        before, self.actor = self.actor, actor
        try:
            yield
        finally:
            self.actor = before

    def note(self, service: str, operation: str, parameters: Mapping[str, Any], failed: str = "") -> None:
        """Remember a call."""
        if self.actor != SETTING_UP:
            self.calls.append(Call(self.actor, service, operation, parameters, failed))

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on every client of this process is listened to."""
        base: Any = BaseClient
        plain, address = base._make_api_call, S3Artifacts.address

        def listening(client: Any, operation: str, parameters: Any) -> Any:
            service, parameters = client.meta.service_model.signing_name, dict(parameters)
            try:
                refused = self.refuse(operation, parameters) if self.actor != SETTING_UP else None
                if refused is not None:
                    raise refused
                # botocore puts a stream in the place of a body.
                given = self.answers.get(operation)
                if given is None:
                    answer = plain(client, operation, dict(parameters))
                else:
                    model = client.meta.service_model.operation_model(operation)
                    report = ParamValidator().validate(parameters, model.input_shape)
                    assert not report.has_errors(), report.generate_report()
                    answer = given(parameters)
            except ClientError as error:
                self.note(service, operation, parameters, error.response["Error"]["Code"])
                raise
            self.note(service, operation, parameters)
            return answer

        def signed(artifacts: S3Artifacts, key: str, seconds: int) -> str:
            # Whoever follows a presigned address acts with the rights of whoever signed it.
            self.note("s3", "GetObject", {"Bucket": artifacts._bucket, "Key": key})
            return address(artifacts, key, seconds)

        monkeypatch.setattr(BaseClient, "_make_api_call", listening)
        monkeypatch.setattr(S3Artifacts, "address", signed)


@dataclass(frozen=True)
class Account:
    """What ARNs are made of; `tags` by instance id."""

    number: str
    region: str
    tags: Mapping[str, Mapping[str, str]]

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.region}:{self.number}:{resource}"

    def instance(self, action: str, instance_id: str, key: str) -> Need:
        """An action on an instance, its tags under the condition key `key`."""
        context = {f"{key}/{name}": value for name, value in self.tags[instance_id].items()}
        return Need(action, self.arn("ec2", f"instance/{instance_id}"), context)


_WRITES = {"Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem", "Put": "PutItem"}


def needs(call: Call, account: Account) -> list[Need]:
    """The permissions that AWS asks for this call; a call that is not named here fails its test."""
    given = call.parameters
    match call.name:
        case (
            "dynamodb:Query" | "dynamodb:GetItem" | "dynamodb:UpdateItem" | "dynamodb:DeleteItem" | "dynamodb:PutItem"
        ):
            return [Need(call.name, account.arn("dynamodb", f"table/{given['TableName']}"))]
        case "dynamodb:TransactWriteItems":
            return [
                Need(f"dynamodb:{_WRITES[kind]}", account.arn("dynamodb", f"table/{one['TableName']}"))
                for item in given["TransactItems"]
                for kind, one in item.items()
            ]
        case "ec2:DescribeInstances" | "ssm:GetCommandInvocation" | "ssm:DescribeInstanceInformation":
            return [Need(call.name, "*")]
        case "ec2:StartInstances" | "ec2:StopInstances":
            return [account.instance(call.name, one, "aws:ResourceTag") for one in given["InstanceIds"]]
        case "ec2:ModifyInstanceAttribute":
            return [account.instance(call.name, given["InstanceId"], "aws:ResourceTag")]
        case "ssm:SendCommand":
            hosts = [account.instance(call.name, one, "ssm:resourceTag") for one in given["InstanceIds"]]
            found = [Need(call.name, account.arn("ssm", f"document/{given['DocumentName']}")), *hosts]
            if "OutputS3BucketName" in given:
                found.append(Need(call.name, f"arn:aws:s3:::{given['OutputS3BucketName']}"))
            return found
        case "s3:GetObject" | "s3:PutObject":
            found = [Need(call.name, f"arn:aws:s3:::{given['Bucket']}/{given['Key']}")]
            if call.failed == "NoSuchKey":
                # Whoever may not list is told "forbidden" where nothing is.
                found.append(Need("s3:ListBucket", f"arn:aws:s3:::{given['Bucket']}"))
            return found
        case "ssm:GetParameter":
            return [Need(call.name, account.arn("ssm", f"parameter/{given['Name'].removeprefix('/')}"))]
        case "sns:Publish":
            return [Need(call.name, given["TopicArn"])]
    raise AssertionError(f"nobody said here which permission {call.name} needs")
