"""One id from the call to the host's command, and messages that people get, on moto."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.backends import get_backend

from chalicelib.telemetry import correlated, correlation_id, logger
from tests.app.api import ACCOUNT, REGION, Api, control_plane


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:people"
    with control_plane(monkeypatch, TOPIC_ARN=topic, WEBHOOK_PARAMETER="/s/webhook", IDLE_MINUTES="1") as made:
        _sns().create_topic(Name="people")
        yield made


def _sns() -> Any:
    return boto3.client("sns", region_name=REGION)


def published() -> list[str]:
    (topic,) = get_backend("sns")[ACCOUNT][REGION].topics.values()
    return [str(one[2]) for one in topic.sent_notifications]


def comments() -> list[str]:
    return [str(one.comment) for one in get_backend("ssm")[ACCOUNT][REGION]._commands]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the logger writes from now on."""
    written = io.StringIO()
    logger().debug("made")
    for handler in logging.getLogger("whisperlive-edge").handlers:
        monkeypatch.setattr(handler, "stream", written)
    return written


def test_an_id_goes_from_the_call_into_event_command_and_log(api: Api, log: io.StringIO) -> None:
    known_as = "req-0123-abcd"
    answer = api.call("POST", "/v1/gpu/start", headers={"X-Request-Id": known_as})
    assert answer.headers["X-Correlation-Id"] == known_as
    started = [one for one in api.events() if one["action"] == "gpu.start"]
    assert [one["correlation_id"] for one in started] == [known_as]
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    acted = [line for line in lines if line["message"] == "acted"]
    assert [(line["action"], line["correlation_id"]) for line in acted] == [("gpu.start", known_as)]
    answer = api.call("POST", "/v1/edge/refresh", headers={"X-Request-Id": "req-refresh-1"})
    assert answer.status == 202, answer
    assert comments()[-1].endswith("[req-refresh-1]")
    assert [one["correlation_id"] for one in api.events() if one["action"] == "edge.refresh"] == ["req-refresh-1"]


@pytest.mark.parametrize("odd", ["short", "x" * 65, "a b c d e f g h", 'quote"quote', "line\nbreak"])
def test_an_id_that_may_not_stand_in_a_log_is_not_taken(api: Api, odd: str) -> None:
    assert api.call("GET", "/v1/health", headers={"X-Request-Id": odd}).headers["X-Correlation-Id"] == "request-1"


def test_threads_and_calls_do_not_inherit_an_id() -> None:
    with correlated("outer"):
        with correlated("inner"):
            assert correlation_id() == "inner"
        assert correlation_id() == "outer"
    assert correlation_id() == ""


def test_a_receipt_comes_after_each_time_awake(api: Api) -> None:
    session = api.awake()
    assert api.call("DELETE", f"/v1/sessions/{session['id']}", "speaker").status == 204
    for _ in range(8):
        api.clock.advance(60)
        api.gpu_report()
        api.tick()
    assert published() == ["teststack: The GPU sleeps again"]


def test_a_topic_that_is_gone_fails_no_tick(api: Api) -> None:
    _sns().delete_topic(TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:people")
    session = api.awake()
    api.call("DELETE", f"/v1/sessions/{session['id']}", "speaker")
    api.call("POST", "/v1/gpu/stop")
    api.clock.advance(60)
    api.tick()
    assert api.state() == "stopped"
    _sns().create_topic(Name="people")
    api.clock.advance(60)
    api.tick()
    assert published() == ["teststack: The GPU sleeps again"]


def test_what_lasts_too_long_or_ends_soon_is_told(api: Api) -> None:
    api.awake()
    body = {"boot_id": "e1", "status": "ready", "upstreams": [api.gpu_ip], "cert_days": 10.0, "cert_life_days": 90.0}
    for hours in (4, 0.2, 0.2):
        api.clock.advance(hours * 3600 + 1)
        api.report(api.edge, body)
        api.gpu_report("failed", cause="the model cannot be read")
        api.tick()
        api.clock.advance(50)  # the reports are old by now
        api.tick()
    told = published()
    for title in ("The speech service failed", "The GPU has been awake for long", "The edge's certificate ends soon"):
        assert told.count(f"teststack: {title}") == 1, told
