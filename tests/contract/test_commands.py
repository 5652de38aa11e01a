"""The commands' contract, fake and SSM (moto knows documents; it takes any command for a known one)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from chalicelib.aws.clients import Clients
from chalicelib.aws.commands import SsmCommands
from chalicelib.domain.remote import documents, restart_gpu, set_upstream
from chalicelib.errors import CommandRefused
from chalicelib.ports import Commands
from tests.app.api import REGION
from tests.fakes import FakeCommands


@pytest.fixture(params=["fake", "ssm"])
def commands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    if request.param == "fake":
        yield FakeCommands(known=set(documents("s")))
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        client = boto3.client("ssm", region_name=REGION)
        for name, content in documents("s").items():
            client.create_document(Name=name, DocumentType="Command", Content=json.dumps(content))
        clients = Clients(REGION)

        def strict(params: dict[str, object], **_: object) -> None:
            # moto takes undefined documents; SSM does not.
            if params["DocumentName"] not in documents("s"):
                raise ClientError({"Error": {"Code": "InvalidDocument", "Message": "unknown"}}, "SendCommand")

        clients.ssm.meta.events.register("provide-client-params.ssm.SendCommand", strict)
        yield SsmCommands(clients)


def test_each_send_has_an_id_of_its_own(commands: Commands) -> None:
    first = commands.send("i-1", set_upstream("s", ["10.0.0.1"]))
    second = commands.send("i-1", restart_gpu("s"))
    assert first
    assert second
    assert first != second


def test_an_unknown_document_is_refused(commands: Commands) -> None:
    with pytest.raises(CommandRefused) as refused:
        commands.send("i-1", restart_gpu("another"))
    assert refused.value.code == "InvalidDocument"
