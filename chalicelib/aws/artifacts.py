"""The artifacts port on S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import Unavailable

if TYPE_CHECKING:
    from chalicelib.aws.clients import Clients


class S3Artifacts:
    """`chalicelib.ports.Artifacts`."""

    def __init__(self, clients: Clients, bucket: str) -> None:
        self._clients = clients
        self._bucket = bucket

    def read(self, key: str) -> bytes | None:
        try:
            body: bytes = self._clients.s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise self._unavailable(error) from error
        except BotoCoreError as error:
            raise self._unavailable(error) from error
        return body

    def write(self, key: str, body: bytes) -> None:
        try:
            self._clients.s3.put_object(Bucket=self._bucket, Key=key, Body=body)
        except (ClientError, BotoCoreError) as error:
            raise self._unavailable(error) from error

    def address(self, key: str, seconds: int) -> str:
        parameters = {"Bucket": self._bucket, "Key": key}
        return str(self._clients.s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds))

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"The bucket {self._bucket} does not answer: {error}")
