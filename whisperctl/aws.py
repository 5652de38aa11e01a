"""The account a stack lives in: AWS with the operator's own rights, or the stand-in of a local stack.

Where a stack in AWS is meant, its name and bucket come from --stage, from flags or the environment (WHISPERCTL_STACK,
WHISPERCTL_BUCKET); a local stack's stand in its stack.json.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from whisperctl.errors import CtlError, NotReachable, UsageError
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
        if self.bucket:
            return self.bucket
        named = outputs(self.stack).get("BucketName")
        if not named:
            raise UsageError(f"the stack {self.stack} names no bucket in its outputs: give --bucket")
        return named

    def client(self, service: str) -> Any:
        """A boto3 client; for a local stack one that can reach nothing but the stand-in."""
        import boto3
        from botocore.exceptions import NoRegionError

        make: Any = boto3.client  # its overloads know only literal service names
        if self.endpoint:
            keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
            return make(service, endpoint_url=self.endpoint, region_name=LOCAL_REGION, **keys)
        # boto3 itself looks at AWS_DEFAULT_REGION only.
        with plainly():
            try:
                return make(service, region_name=os.environ.get("AWS_REGION") or None)
            except NoRegionError:
                raise UsageError("no AWS region is set: set AWS_REGION, or a profile that names one") from None


@contextmanager
def plainly() -> Iterator[None]:
    """What AWS says against a call, as one sentence: refused (1), no credentials (2), or not reachable (5)."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    try:
        yield
    except ClientError as error:
        about = error.response.get("Error", {})
        code = about.get("Code")
        if code in ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"):
            raise UsageError("AWS does not take these credentials: sign in again, or look at AWS_PROFILE") from None
        raise CtlError(f"AWS refused {error.operation_name}: {about.get('Message') or code}") from None
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise UsageError(f"no AWS credentials: {error}".rstrip(".")) from None
    except BotoCoreError as error:
        raise NotReachable(f"AWS is not reachable: {error}") from None


def outputs(stack: str) -> dict[str, str]:
    """The outputs of a stack in AWS; UsageError when there is none of that name."""
    from botocore.exceptions import ClientError

    with plainly():
        try:
            found = Account(stack, "", None).client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                raise UsageError(f"there is no stack {stack} in this account and region") from None
            raise
    return {str(one["OutputKey"]): str(one["OutputValue"]) for one in found.get("Outputs", [])}


def find_account(
    stack: StackInfo, env: Mapping[str, str], *, name: str | None = None, bucket: str | None = None
) -> Account:
    """The account of a stack; UsageError where a stack in AWS is not named."""
    if stack.aws_endpoint:
        return Account(stack.stack_name, stack.bucket or f"{stack.stack_name}-releases", stack.aws_endpoint)
    found = name or (stack.stack_name if stack.stage else env.get("WHISPERCTL_STACK")) or ""
    if not found:
        raise UsageError("name the stack in AWS: --stage, or --stack as CloudFormation calls it")
    return Account(found, bucket or stack.bucket or env.get("WHISPERCTL_BUCKET") or "", None)
