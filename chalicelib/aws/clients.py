"""One botocore session and its clients, each made when it is first needed and kept.

botocore and not boto3: a cold start pays for every import, and boto3 adds uploads in threads and resources, which
nobody here uses. The clients are the same.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ssm import SSMClient

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 8
"""API Gateway gives up after 29, so one call must not eat them all."""


class _Loader(Loader):
    """Reads service models without looking for all that there are first: half the time of a first client."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002  # botocore's signature
        return ["cloudwatch", "dynamodb", "ec2", "s3", "sns", "ssm"]


class Clients:
    """Safe to share between threads: sessions are not, clients are."""

    def __init__(self, region: str = "") -> None:
        self._region = region or None
        self._session = botocore.session.get_session()
        self._session.register_component("data_loader", _Loader())
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}

    def _client(self, name: str, service: str, attempts: int) -> Any:
        with self._lock:
            if name not in self._made:
                config = Config(
                    retries={"total_max_attempts": attempts, "mode": "standard"},
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=READ_TIMEOUT_S,
                    # For S3: an address signed the old way names the global endpoint and is refused in newer regions.
                    signature_version="s3v4" if service == "s3" else None,
                )
                self._made[name] = self._session.create_client(service, region_name=self._region, config=config)
            return self._made[name]

    @property
    def dynamodb(self) -> DynamoDBClient:
        client: DynamoDBClient = self._client("dynamodb", "dynamodb", 3)
        return client

    @property
    def ec2(self) -> EC2Client:
        client: EC2Client = self._client("ec2", "ec2", 3)
        return client

    @property
    def ec2_once(self) -> EC2Client:
        """For StartInstances: botocore would retry a lack of capacity (HTTP 500), which is ours to climb."""
        client: EC2Client = self._client("ec2_once", "ec2", 1)
        return client

    @property
    def s3(self) -> Any:
        return self._client("s3", "s3", 3)

    @property
    def sns(self) -> Any:
        return self._client("sns", "sns", 2)

    @property
    def ssm(self) -> SSMClient:
        client: SSMClient = self._client("ssm", "ssm", 3)
        return client
