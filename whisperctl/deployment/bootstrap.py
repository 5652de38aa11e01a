"""The bucket of packages: the one thing that must be there before the stack, since CloudFormation reads from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from whisperctl.deployment.cloud import Cloud, error_code, plainly, tags_of
from whisperctl.errors import CtlError

KEPT_DAYS = 90


def bucket_name(stack: str, account: str, region: str) -> str:
    """Named by account and region, since all the world shares one space of names; at most 63 characters."""
    return f"{stack}-{account}-{region}-packages"[-63:].lstrip("-")


def ensure_bucket(cloud: Cloud, stack: str, account: str) -> str:
    """The bucket, made where it is missing. Every call names the owner, since a name can be taken by others."""
    from botocore.exceptions import ClientError

    name, s3 = bucket_name(stack, account, cloud.region), cloud.client("s3")
    with plainly():
        try:
            s3.head_bucket(Bucket=name, ExpectedBucketOwner=account)
            s3.get_bucket_lifecycle_configuration(Bucket=name, ExpectedBucketOwner=account)
            return name  # the rules are written last
        except ClientError as error:
            code = error_code(error)
            if code in ("403", "Forbidden", "AccessDenied"):
                raise CtlError(f"the bucket {name} belongs to another account, or is closed to you") from None
            if code in ("404", "NoSuchBucket", "NotFound"):
                # With its tag from the first moment: what carries none would never be swept.
                place: dict[str, Any] = {"Tags": tags_of(stack)}
                if cloud.region != "us-east-1":
                    place["LocationConstraint"] = cloud.region
                s3.create_bucket(
                    Bucket=name, ObjectOwnership="BucketOwnerEnforced", CreateBucketConfiguration=place
                )
            elif code != "NoSuchLifecycleConfiguration":
                raise
        owner = {"Bucket": name, "ExpectedBucketOwner": account}
        s3.put_public_access_block(
            **owner,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
        )
        s3.put_bucket_encryption(
            **owner,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        )
        s3.put_bucket_lifecycle_configuration(
            **owner,
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "unfinished",
                        "Status": "Enabled",
                        "Filter": {"Prefix": ""},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
                    }
                ]
            },
        )
    return name


def put_once(cloud: Cloud, bucket: str, account: str, key: str, content: Path | bytes) -> bool:
    """Upload what is not there; objects here are named by their content. Whether it was sent."""
    from botocore.exceptions import ClientError

    s3, size = cloud.client("s3"), content.stat().st_size if isinstance(content, Path) else len(content)
    with plainly():
        try:
            found = s3.head_object(Bucket=bucket, Key=key, ExpectedBucketOwner=account)
            if int(found["ContentLength"]) == size:
                return False
        except ClientError as error:
            if error_code(error) not in ("404", "NoSuchKey", "NotFound"):
                raise
        body = content.read_bytes() if isinstance(content, Path) else content
        s3.put_object(Bucket=bucket, Key=key, Body=body, ExpectedBucketOwner=account)
    return True


def template_url(bucket: str, region: str, key: str) -> str:
    """Where CloudFormation finds it."""
    return f"https://{bucket}.s3.{region}.amazonaws.com/{key}"
