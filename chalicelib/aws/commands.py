"""The commands port on SSM Run Command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.domain.remote import DELIVERY_TIMEOUT_S, TAIL, CommandResult, CommandState, RemoteCommand
from chalicelib.errors import CommandRefused
from chalicelib.telemetry import correlation_id

if TYPE_CHECKING:
    from chalicelib.aws.clients import Clients


UNDER_WAY = frozenset({"Pending", "InProgress", "Delayed", "Cancelling"})
LOST = frozenset({"DeliveryTimedOut", "Delivery Timed Out", "Undeliverable", "Terminated"})
"""StatusDetails that say the host never had it."""


class SsmCommands:
    """`chalicelib.ports.Commands`."""

    def __init__(self, clients: Clients, bucket: str = "") -> None:
        """`bucket` takes the full output of commands that name a prefix for it."""
        self._clients = clients
        self._bucket = bucket

    def send(self, instance_id: str, command: RemoteCommand) -> str:
        more: dict[str, Any] = {}
        if self._bucket and command.output:
            more = {"OutputS3BucketName": self._bucket, "OutputS3KeyPrefix": command.output}
        with _refusals():
            answer = self._clients.ssm.send_command(
                InstanceIds=[instance_id],
                DocumentName=command.document,
                Parameters=command.parameters,
                Comment=_comment(command.comment),
                TimeoutSeconds=DELIVERY_TIMEOUT_S,
                **more,
            )
        return str(answer["Command"].get("CommandId", ""))

    def connected(self, instance_ids: Sequence[str]) -> frozenset[str]:
        if not instance_ids:
            return frozenset()
        with _refusals():
            said = self._clients.ssm.describe_instance_information(
                Filters=[{"Key": "InstanceIds", "Values": list(instance_ids)}]
            )
        listed = said["InstanceInformationList"]
        return frozenset(one["InstanceId"] for one in listed if one["PingStatus"] == "Online")

    def result(self, instance_id: str, command_id: str) -> CommandResult | None:
        try:
            with _refusals():
                said = self._clients.ssm.get_command_invocation(CommandId=command_id, InstanceId=instance_id)
        except CommandRefused as error:
            if error.code in ("InvocationDoesNotExist", "InvalidCommandId"):
                return None  # so it is just after sending
            raise
        output = "\n".join(one for one in (said["StandardOutputContent"], said["StandardErrorContent"]) if one)
        return CommandResult(_state(said["Status"], said["StatusDetails"]), said["ResponseCode"], output[-TAIL:])


def _comment(words: str) -> str:
    """What the command is for, and the id of the call that caused it; SSM takes 100 characters."""
    known_as = correlation_id()
    return (f"{words[:55]} [{known_as}]" if known_as else words)[:100]


def _state(status: str, details: str) -> CommandState:
    if status in UNDER_WAY:
        return CommandState.UNDER_WAY
    if status == "Success":
        return CommandState.SUCCEEDED
    if details in LOST:
        return CommandState.LOST
    return CommandState.FAILED if status == "Failed" else CommandState.TIMED_OUT


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise CommandRefused(code, error.response["Error"].get("Message", "")) from error
    except BotoCoreError as error:
        raise CommandRefused(type(error).__name__, str(error)) from error
