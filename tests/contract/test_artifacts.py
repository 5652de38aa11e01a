"""The artifacts' contract, fake and S3."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from moto import mock_aws

from chalicelib.aws.artifacts import S3Artifacts
from chalicelib.aws.clients import Clients
from chalicelib.errors import Unavailable
from chalicelib.ports import Artifacts
from tests.fakes import FakeArtifacts

REGION = "us-east-1"


@pytest.fixture(params=["fake", "s3"])
def artifacts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Artifacts]:
    if request.param == "fake":
        yield FakeArtifacts()
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        boto3.client("s3", region_name=REGION).create_bucket(Bucket="a-bucket")
        yield S3Artifacts(Clients(REGION), "a-bucket")


def test_what_was_written_is_read(artifacts: Artifacts) -> None:
    assert artifacts.read("releases/gpu/latest") is None
    artifacts.write("releases/gpu/latest", b"one")
    artifacts.write("releases/gpu/latest", b"two")
    assert artifacts.read("releases/gpu/latest") == b"two"


def test_an_address_names_the_object_and_needs_none(artifacts: Artifacts) -> None:
    address = urlsplit(artifacts.address("files/abc", 600))
    assert address.scheme == "https"
    assert address.path.endswith("/files/abc")


def test_an_address_of_s3_is_signed_for_its_time_and_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    signed = parse_qs(urlsplit(S3Artifacts(Clients("eu-central-1"), "a-bucket").address("files/abc", 600)).query)
    assert signed["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert signed["X-Amz-Expires"] == ["600"]
    assert "/eu-central-1/s3/aws4_request" in signed["X-Amz-Credential"][0]


def test_a_bucket_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        missing = S3Artifacts(Clients(REGION), "no-bucket")
        with pytest.raises(Unavailable):
            missing.read("x")
        with pytest.raises(Unavailable):
            missing.write("x", b"")
