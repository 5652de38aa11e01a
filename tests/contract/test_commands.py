"""The commands' contract: the fake, SSM as moto plays it (it takes any command), and as the stand-in plays it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from chalicelib.aws import commands as commands_module
from chalicelib.aws.clients import Clients
from chalicelib.aws.commands import SsmCommands
from chalicelib.domain.remote import CommandState, restart_gpu, set_upstream
from chalicelib.errors import CommandRefused
from chalicelib.ports import Commands
from tests.app.api import REGION
from tests.fakes import FakeCommands
from tests.unit import local_cloud
from tests.unit.local_cloud import Cloud
from tests.waiting import wait_until
from whisperctl.documents import documents

HOST, NOBODY = "i-0123456789abcdef0", "i-0fedcba9876543210"


@pytest.fixture(params=["fake", "ssm", "standin"])
def bench(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Commands, str]]:
    """The port, and a host whose agent is online."""
    if request.param == "fake":
        yield FakeCommands(known=set(documents("s")), offline={NOBODY}), HOST
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    if request.param == "standin":
        cloud = Cloud(tmp_path, agent_s=0.0)
        monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.server.url)
        gpu = cloud.gpu(running=True)
        wait_until(lambda: cloud.ssm.online(gpu), 5, "the agent")
        client = cloud.client("ssm")
        for name, content in documents("s").items():
            client.create_document(Name=name, DocumentType="Command", Content=json.dumps(content))
        yield SsmCommands(Clients(local_cloud.REGION)), gpu
        cloud.close()
        return
    with mock_aws():
        client = boto3.client("ssm", region_name=REGION)
        for name, content in documents("s").items():
            client.create_document(Name=name, DocumentType="Command", Content=json.dumps(content))
        clients = Clients(REGION)

        def strict(params: dict[str, Any], **_: object) -> None:
            # moto takes undefined documents and hosts nobody has heard of; SSM does not.
            if params["DocumentName"] not in documents("s"):
                raise ClientError({"Error": {"Code": "InvalidDocument", "Message": "unknown"}}, "SendCommand")
            if NOBODY in params["InstanceIds"]:
                raise ClientError({"Error": {"Code": "InvalidInstanceId", "Message": "offline"}}, "SendCommand")

        clients.ssm.meta.events.register("provide-client-params.ssm.SendCommand", strict)
        yield SsmCommands(clients), HOST


def test_each_send_has_an_id_of_its_own(bench: tuple[Commands, str]) -> None:
    commands, host = bench
    first = commands.send(host, set_upstream("s", ["10.0.0.1"]))
    second = commands.send(host, restart_gpu("s"))
    assert first
    assert second
    assert first != second


def test_how_a_command_stands_is_known_by_host_and_id(bench: tuple[Commands, str]) -> None:
    commands, host = bench
    sent = commands.send(host, set_upstream("s", ["10.0.0.1"]))
    found = wait_until(lambda: commands.result(host, sent), 10, "word of the command")
    assert found.state in (CommandState.UNDER_WAY, CommandState.SUCCEEDED, CommandState.FAILED)
    unknown = "command-99" if isinstance(commands, FakeCommands) else str(uuid.UUID(int=1))
    assert commands.result(host, unknown) is None


@pytest.mark.parametrize(
    ("status", "details", "state"),
    [
        ("Pending", "Pending", CommandState.UNDER_WAY),
        ("InProgress", "InProgress", CommandState.UNDER_WAY),
        ("Delayed", "Delayed", CommandState.UNDER_WAY),
        ("Success", "Success", CommandState.SUCCEEDED),
        ("Failed", "Failed", CommandState.FAILED),
        ("TimedOut", "DeliveryTimedOut", CommandState.LOST),
        ("TimedOut", "ExecutionTimedOut", CommandState.TIMED_OUT),
        ("Failed", "Undeliverable", CommandState.LOST),
        ("Cancelled", "Cancelled", CommandState.TIMED_OUT),
    ],
)
def test_ssms_words_for_how_a_command_stands(status: str, details: str, state: CommandState) -> None:
    assert commands_module._state(status, details) is state


def test_the_full_output_goes_to_the_bucket_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, object]] = []

    class Ssm:
        def send_command(self, **arguments: object) -> dict[str, dict[str, str]]:
            sent.append(arguments)
            return {"Command": {"CommandId": "c"}}

    clients = Clients(REGION)
    monkeypatch.setattr(Clients, "ssm", property(lambda _: Ssm()))
    adapter = SsmCommands(clients, "bucket")
    adapter.send("i-1", restart_gpu("s"))
    adapter.send("i-1", replace(restart_gpu("s"), output="output/r1/fetch"))
    assert "OutputS3BucketName" not in sent[0]
    assert (sent[1]["OutputS3BucketName"], sent[1]["OutputS3KeyPrefix"]) == ("bucket", "output/r1/fetch")
    assert [one["TimeoutSeconds"] for one in sent] == [30, 30]


def test_whose_agent_is_heard(bench: tuple[Commands, str], request: pytest.FixtureRequest) -> None:
    commands, host = bench
    assert commands.connected([]) == frozenset()
    if request.node.callspec.params["bench"] == "ssm":
        with pytest.raises(NotImplementedError):
            commands.connected([host])  # moto has no agents; the stand-in plays them
        return
    assert commands.connected([host, NOBODY]) == {host}


def test_an_unknown_document_is_refused(bench: tuple[Commands, str]) -> None:
    commands, host = bench
    with pytest.raises(CommandRefused) as refused:
        commands.send(host, restart_gpu("another"))
    assert refused.value.code == "InvalidDocument"


def test_a_host_whose_agent_is_not_online_is_refused(bench: tuple[Commands, str]) -> None:
    """Also just after a start: the agent registers seconds to minutes later."""
    commands, _ = bench
    with pytest.raises(CommandRefused) as refused:
        commands.send(NOBODY, restart_gpu("s"))
    assert refused.value.code == "InvalidInstanceId"
