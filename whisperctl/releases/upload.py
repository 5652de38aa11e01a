"""A release's way into the bucket: what is there already is not sent again, the manifest comes last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalicelib.services.releases import canonical, latest_key, manifest_key, settings_key
from whisperctl.errors import CtlError, NotReachable
from whisperctl.releases.manifest import Built

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What was sent; with a dry run, what would be."""

    files: int
    bytes: int
    release_was_there: bool


def upload(s3: Any, bucket: str, built: Built, *, dry_run: bool, say: Callable[[str], None]) -> Uploaded:
    """Send what the bucket lacks, then the manifest, then its name as the latest."""
    with _refusals(bucket):
        missing = {key: path for key, path in built.files.items() if not _there(s3, bucket, key, path.stat().st_size)}
        there = not missing and _there(s3, bucket, manifest_key(built.target, built.name), None)
        total = sum(path.stat().st_size for path in missing.values())
        if not dry_run:
            for number, (key, path) in enumerate(sorted(missing.items()), 1):
                say(f"uploading {number} of {len(missing)}: {_where(built, key)}, {path.stat().st_size / 1e6:.1f} MB")
                s3.upload_file(str(path), bucket, key)
            if not there:
                body = canonical(built.manifest)
                s3.put_object(Bucket=bucket, Key=manifest_key(built.target, built.name), Body=body)
            if _text(s3, bucket, latest_key(built.target)) != built.name:
                s3.put_object(Bucket=bucket, Key=latest_key(built.target), Body=built.name.encode())
    return Uploaded(len(missing), total, there)


def upload_settings(s3: Any, bucket: str, target: str, path: Path) -> None:
    """The operator's settings for hosts of this kind; they reach a host with its next rollout."""
    with _refusals(bucket):
        s3.put_object(Bucket=bucket, Key=settings_key(target), Body=path.read_bytes())


def _text(s3: Any, bucket: str, key: str) -> str:
    """A small object's text; empty where there is none."""
    from botocore.exceptions import ClientError

    try:
        return str(s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            return ""
        raise


def _where(built: Built, key: str) -> str:
    return next(str(one["path"]) for one in built.manifest["files"] if one["key"] == key)


def _there(s3: Any, bucket: str, key: str, size: int | None) -> bool:
    from botocore.exceptions import ClientError

    try:
        found = s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            return False
        raise
    return size is None or int(found["ContentLength"]) == size


@contextmanager
def _refusals(bucket: str) -> Iterator[None]:
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, S3UploadFailedError) as error:
        raise CtlError(f"the bucket {bucket} does not take it: {error}") from None
    except BotoCoreError as error:
        raise NotReachable(f"the bucket {bucket} is not reachable: {error}") from None
