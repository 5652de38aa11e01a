"""The account a stack lives in: AWS with the operator's own rights, or the stand-in of a local stack.

Where a stack in AWS is meant, its name and bucket come from flags or the environment (WHISPERCTL_STACK,
WHISPERCTL_BUCKET); a local stack's stand in its stack.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whisperctl.errors import UsageError
from whisperctl.stack import StackInfo

LOCAL_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Account:
    """Makes clients; `stack` names the SSM documents, `bucket` (empty where only AWS knows) holds the releases."""

    stack: str
    bucket: str
    endpoint: str | None

    def releases(self) -> str:
        """The bucket of releases: as given, else as the stack's outputs name it."""
        from botocore.exceptions import BotoCoreError, ClientError

        if self.bucket:
            return self.bucket
        try:
            found = self.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"][0]
        except (BotoCoreError, ClientError) as error:
            raise UsageError(f"the bucket of {self.stack} is not known ({error}): give --bucket") from None
        named = [one["OutputValue"] for one in found.get("Outputs", []) if one["OutputKey"] == "BucketName"]
        if not named:
            raise UsageError(f"the stack {self.stack} names no bucket in its outputs: give --bucket")
        return str(named[0])

    def client(self, service: str) -> Any:
        """A boto3 client; for a local stack one that can reach nothing but the stand-in."""
        import boto3
        from botocore.exceptions import NoRegionError

        make: Any = boto3.client  # its overloads know only literal service names
        if self.endpoint:
            keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
            return make(service, endpoint_url=self.endpoint, region_name=LOCAL_REGION, **keys)
        try:
            return make(service)
        except NoRegionError:
            raise UsageError("no AWS region is set: set AWS_REGION") from None


def find_account(
    stack: StackInfo, env: Mapping[str, str], *, name: str | None = None, bucket: str | None = None
) -> Account:
    """The account of a stack; UsageError where a stack in AWS is not named."""
    if stack.aws_endpoint:
        return Account(stack.stack_name, stack.bucket or f"{stack.stack_name}-releases", stack.aws_endpoint)
    found = name or env.get("WHISPERCTL_STACK") or ""
    if not found:
        raise UsageError("name the stack as it is called in AWS: --stack or WHISPERCTL_STACK")
    return Account(found, bucket or env.get("WHISPERCTL_BUCKET") or "", None)
