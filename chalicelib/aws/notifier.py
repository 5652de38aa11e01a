"""The notifier port: an SNS topic, and a webhook as Slack, Teams and ntfy take it.

The webhook's address is a secret: it lies in the Parameter Store as a SecureString and is read when there is
something to tell, so it stands in no environment, and a new one is in force with the next message.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import SplitResult, urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import NotifyFailed

if TYPE_CHECKING:
    from chalicelib.domain.notification import Notification

TIMEOUT_S = 4.0
KINDS = ("slack", "teams", "ntfy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Clients(Protocol):
    """Clients by service, as `chalicelib.aws.clients` makes them."""

    @property
    def sns(self) -> Any: ...

    @property
    def ssm(self) -> Any: ...


class SnsNotifier:
    """A topic, whose subscriptions are e-mail addresses and whatever else SNS knows."""

    def __init__(self, clients: Clients, topic_arn: str) -> None:
        self._clients = clients
        self._topic_arn = topic_arn

    def tell(self, message: Notification) -> None:
        try:
            self._clients.sns.publish(TopicArn=self._topic_arn, Subject=message.subject, Message=message.body)
        except ClientError as error:
            raise NotifyFailed(f"SNS refused: {error.response['Error']['Code']}") from error
        except BotoCoreError as error:
            raise NotifyFailed(f"SNS is not reachable: {type(error).__name__}") from error


class NoWebhook(Exception):
    """None is set."""


class WebhookNotifier:
    """One POST a message. Where no address is set there is nobody to tell, and that is no failure."""

    def __init__(self, address: Callable[[], str]) -> None:
        """`address` gives the webhook's URL; raises NoWebhook or NotifyFailed."""
        self._address = address

    def tell(self, message: Notification) -> None:
        try:
            post(webhook(self._address()), message)
        except NoWebhook:
            return


def parameter(clients: Clients, name: str) -> Callable[[], str]:
    """Reads the address from the Parameter Store, decrypted."""

    def read() -> str:
        try:
            return str(clients.ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"].get("Value", ""))
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ParameterNotFound":
                raise NoWebhook from None
            raise NotifyFailed(f"the webhook's address cannot be read: {code}") from error
        except BotoCoreError as error:
            raise NotifyFailed(f"the webhook's address cannot be read: {type(error).__name__}") from error

    return read


@dataclass(frozen=True)
class Webhook:
    """Where to, and in whose words; the URL is a secret and stays out of `repr`."""

    kind: str
    url: SplitResult

    def __repr__(self) -> str:
        return f"Webhook({self.kind!r}, {self.url.hostname!r})"


def webhook(text: str) -> Webhook:
    """Read `https://…`, or `slack+https://…`, `teams+https://…`, `ntfy+https://…` where the host does not say which.

    NotifyFailed for what is none; plain http goes to this machine only.
    """
    kind, plus, rest = text.strip().partition("+https://")
    if not plus:
        kind, plus, rest = text.strip().partition("+http://")
    named = kind if plus else ""
    url = urlsplit(f"{plus.removeprefix('+')}{rest}" if plus else text.strip())
    host = url.hostname or ""
    if url.scheme != "https" and not (url.scheme == "http" and host in LOOPBACK):
        raise NotifyFailed("the webhook's address does not begin with https://")
    if named and named not in KINDS:
        raise NotifyFailed(f"a webhook is one of {', '.join(KINDS)}, not {named[:20]}")
    return Webhook(named or _kind_of(host), url)


def _kind_of(host: str) -> str:
    if host.startswith("ntfy."):
        return "ntfy"
    if host.endswith((".webhook.office.com", ".logic.azure.com", ".powerplatform.com")):
        return "teams"
    return "slack"  # Mattermost, Rocket.Chat and Discord (/slack) take the same


def request_of(kind: str, message: Notification) -> tuple[dict[str, str], bytes]:
    """Headers and body as this kind of webhook takes them."""
    if kind == "ntfy":
        return {"Title": message.subject, "Click": message.link, "Content-Type": "text/plain"}, message.body.encode()
    body: dict[str, Any]
    if kind == "teams":
        blocks = [
            {"type": "TextBlock", "text": f"{message.stack}: {message.title}", "weight": "Bolder", "wrap": True},
            *({"type": "TextBlock", "text": line, "wrap": True} for line in message.body.splitlines()),
        ]
        schema = "http://adaptivecards.io/schemas/adaptive-card.json"
        card = {"$schema": schema, "type": "AdaptiveCard", "version": "1.4", "body": blocks}
        kept = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
        body = {"type": "message", "attachments": [kept]}
    else:
        body = {"text": f"*{message.stack}: {message.title}*\n{message.body}"}
    return {"Content-Type": "application/json"}, json.dumps(body).encode()


def post(target: Webhook, message: Notification) -> None:
    """One POST without redirects; NotifyFailed says what came instead of success, never the address."""
    headers, body = request_of(target.kind, message)
    host, url = target.url.hostname or "", target.url
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, url.port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, url.port, timeout=TIMEOUT_S)
    try:
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        connection.request("POST", path, body, {"User-Agent": "whisperlive-edge", **headers})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotifyFailed(f"{host} does not answer: {type(error).__name__}") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise NotifyFailed(f"{host} answered {status}")
