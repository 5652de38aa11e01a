"""The commands port on SSM Run Command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.domain.remote import DELIVERY_TIMEOUT_S, RemoteCommand
from chalicelib.errors import CommandRefused

if TYPE_CHECKING:
    from chalicelib.aws.clients import Clients


class SsmCommands:
    """`chalicelib.ports.Commands`."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def send(self, instance_id: str, command: RemoteCommand) -> str:
        try:
            answer = self._clients.ssm.send_command(
                InstanceIds=[instance_id],
                DocumentName=command.document,
                Parameters=command.parameters,
                Comment=command.comment[:100],
                TimeoutSeconds=DELIVERY_TIMEOUT_S,
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise CommandRefused(code, error.response["Error"].get("Message", "")) from error
        except BotoCoreError as error:
            raise CommandRefused(type(error).__name__, str(error)) from error
        return str(answer["Command"].get("CommandId", ""))
