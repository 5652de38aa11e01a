"""The notifier port: the fake, SNS on moto and a webhook keep the same promises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import boto3
import pytest
from moto import mock_aws
from moto.backends import get_backend

from chalicelib.aws.clients import Clients
from chalicelib.aws.notifier import NoWebhook, SnsNotifier, WebhookNotifier, parameter, request_of, webhook
from chalicelib.domain.notification import Notification, notification
from chalicelib.errors import NotifyFailed
from chalicelib.ports import Notifier
from tests.fakes import FakeNotifier
from tests.webhooks import receiver

MESSAGE = notification(
    "k1",
    "gpu.no_capacity",
    "i-1",
    "AWS has no g4dn.xlarge free in eu-central-1a",
    "whisperlive-prod",
    "https://edge.example",
)
REGION = "eu-central-1"


@dataclass
class Subject:
    notifier: Notifier
    told: Callable[[], list[str]]
    """The texts that arrived."""
    break_it: Callable[[], None]


@pytest.fixture(params=["fake", "sns", "webhook"])
def subject(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    if request.param == "fake":
        fake = FakeNotifier()
        yield Subject(fake, lambda: [one.body for one in fake.told], lambda: setattr(fake, "broken", True))
    elif request.param == "sns":
        with mock_aws():
            client = boto3.client("sns", region_name=REGION)
            arn = client.create_topic(Name="t")["TopicArn"]

            def told() -> list[str]:
                backend = get_backend("sns")["123456789012"][REGION]
                return [one[1] for one in backend.topics[arn].sent_notifications]

            yield Subject(SnsNotifier(Clients(REGION), arn), told, lambda: client.delete_topic(TopicArn=arn) and None)
    else:
        with receiver() as hook:
            yield Subject(WebhookNotifier(lambda: hook.url), lambda: hook.texts, lambda: setattr(hook, "status", 503))


def test_a_message_arrives_whole(subject: Subject) -> None:
    subject.notifier.tell(MESSAGE)
    (text,) = subject.told()
    assert "AWS has no g4dn.xlarge free in eu-central-1a (i-1)." in text
    assert "What helps: " in text
    assert "https://edge.example" in text


def test_one_that_does_not_is_an_error_of_one_kind(subject: Subject) -> None:
    subject.break_it()
    with pytest.raises(NotifyFailed) as failed:
        subject.notifier.tell(MESSAGE)
    assert "secret-part" not in str(failed.value)


def test_a_subject_fits_sns() -> None:
    long = Notification("k", "Über " * 40, "t", "a", "s\n", "l")
    assert len(long.subject) == 100
    assert long.subject.isascii()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack"),
        ("https://acme.webhook.office.com/webhookb2/x", "teams"),
        ("https://prod-1.westeurope.logic.azure.com/workflows/x?sig=y", "teams"),
        ("https://ntfy.sh/my-topic", "ntfy"),
        ("ntfy+https://push.example.org/topic", "ntfy"),
        ("teams+https://push.example.org/x", "teams"),
        ("https://chat.example.org/hooks/x", "slack"),
        ("slack+http://127.0.0.1:8080/x", "slack"),
    ],
)
def test_the_address_says_the_kind(text: str, kind: str) -> None:
    found = webhook(text)
    assert found.kind == kind
    assert found.url.geturl() == text.removeprefix(f"{kind}+")
    assert "/x" not in repr(found)


@pytest.mark.parametrize(
    "text", ["http://example.org/x", "ftp://x", "", "x", "irc+https://example.org/x", "file:///x"]
)
def test_what_is_no_webhook_is_said_without_the_address(text: str) -> None:
    with pytest.raises(NotifyFailed) as failed:
        webhook(text)
    assert "example.org" not in str(failed.value)


def test_each_kind_speaks_its_language() -> None:
    headers, body = request_of("ntfy", MESSAGE)
    assert headers["Title"] == "whisperlive-prod: No GPU is to be had"
    assert body.decode() == MESSAGE.body
    assert json.loads(request_of("slack", MESSAGE)[1])["text"].startswith("*whisperlive-prod: No GPU is to be had*\n")
    (card,) = json.loads(request_of("teams", MESSAGE)[1])["attachments"]
    assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert [one["text"] for one in card["content"]["body"]][1:] == MESSAGE.body.splitlines()


def test_a_redirect_is_not_followed() -> None:
    with receiver() as hook:
        hook.status = 302
        with pytest.raises(NotifyFailed, match="answered 302"):
            WebhookNotifier(lambda: hook.url).tell(MESSAGE)


def test_the_address_lies_in_the_parameter_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        read = parameter(Clients(REGION), "/s/webhook")
        with pytest.raises(NoWebhook):
            read()
        WebhookNotifier(read).tell(MESSAGE)  # nobody to tell, and no failure
        client = boto3.client("ssm", region_name=REGION)
        client.put_parameter(Name="/s/webhook", Value="https://ntfy.sh/t", Type="SecureString")
        assert read() == "https://ntfy.sh/t"
