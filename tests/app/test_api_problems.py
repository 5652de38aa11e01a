"""Bad input: one clear sentence and a code, as problem+json, whoever refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib import telemetry
from chalicelib.services import status, tokens
from tests.app.api import Answer, Api, control_plane


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with pytest.MonkeyPatch.context() as patch, control_plane(patch) as made:
        yield made


def problem(answer: Answer, status: int) -> dict[str, Any]:
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json
    assert {"type", "title", "status", "detail", "correlation_id"} <= body.keys()
    assert body["status"] == status
    assert body["detail"].endswith(".")
    assert body["correlation_id"] == answer.headers["X-Correlation-Id"] == "request-1"
    assert "Traceback" not in answer.text
    return body


@pytest.mark.parametrize("raw", ["{minutes: 5", b"\xff\xfe", '{"minutes": NaN}', "[1]", '"x"', "null", "[" * 60_000])
def test_a_body_that_is_no_json_object(api: Api, raw: str | bytes) -> None:
    assert "JSON" in problem(api.call("POST", "/v1/sessions", "speaker", raw=raw), 400)["detail"]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json; charset=utf-8", "x"])
def test_no_content_type_is_demanded(api: Api, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert api.call("POST", "/v1/sessions", "speaker", {"language": "de"}, headers=headers).status == 201


def test_no_body_is_fine_where_all_is_optional(api: Api) -> None:
    assert api.call("POST", "/v1/sessions", "speaker").status == 201


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/v1/sessions", {"minutes": "x"}, "minutes"),
        ("/v1/sessions", {"minutes": True}, "minutes"),
        ("/v1/sessions", {"minutes": 0}, "minutes"),
        ("/v1/sessions", {"minutes": -1}, "minutes"),
        ("/v1/sessions", {"task": "sing"}, "task"),
        ("/v1/sessions", {"language": 5}, "language"),
        ("/v1/sessions", {"language": "english"}, "language"),
        ("/v1/sessions", {"model": ["x"]}, "model"),
        ("/v1/sessions", {"model": "../../etc/passwd"}, "model"),
        ("/v1/sessions", {"model": "base\n"}, "model"),
        ("/v1/sessions", {"model": ""}, "model"),
        ("/v1/sessions", {"colour": "red"}, "colour"),
        ("/v1/gpu/start", {"reason": "x" * 201}, "reason"),
        ("/v1/gpu/stop", {"force": "yes"}, "force"),
        ("/v1/gpu/stop", {"closed_until": "tomorrow"}, "closed_until"),
        ("/v1/gpu/stop", {"closed_until": "2020-01-01T00:00:00Z"}, "closed_until"),
        ("/v1/gpu/stop", {"closed_until": "2050-01-01T00:00:00"}, "closed_until"),
        ("/v1/gpu/restart", {"force": 1}, "force"),
    ],
)
def test_a_wrong_field_is_named(api: Api, path: str, body: dict[str, Any], named: str) -> None:
    assert named in problem(api.call("POST", path, body=body), 422)["detail"]


def test_null_means_not_given(api: Api) -> None:
    assert api.call("POST", "/v1/sessions", "speaker", {"language": None, "minutes": None}).status == 201


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer nonsense"])
def test_no_or_a_wrong_token(api: Api, authorization: str) -> None:
    answer = api.call("GET", "/v1/status", None, headers={"Authorization": authorization})
    assert "nonsense" not in answer.text
    problem(answer, 401)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_what_goes_wrong_here_is_in_the_log_under_the_id_that_was_told(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(status, "status", lambda _: 1 / 0)
    known_as = telemetry.correlation_id
    monkeypatch.setattr(telemetry.logger(), "exception", lambda *_, **__: told.append(known_as()))
    said = problem(api.call("GET", "/v1/status", "viewer"), 500)
    assert said["correlation_id"]
    assert told == [said["correlation_id"]]


def test_expired_and_revoked_tokens(api: Api) -> None:
    store, now = api.context.store, api.clock()
    short = tokens.issue(store, "viewer", now=now - 120, minutes=1)
    gone = tokens.issue(store, "viewer", now=now)
    assert tokens.revoke(store, gone, now=now)
    assert not tokens.revoke(store, "nobody", now=now)
    assert "expired" in problem(api.call("GET", "/v1/status", short), 401)["detail"]
    assert "revoked" in problem(api.call("GET", "/v1/status", gone), 401)["detail"]


@pytest.mark.parametrize(
    ("role", "method", "path"),
    [
        ("viewer", "POST", "/v1/sessions"),
        ("viewer", "POST", "/v1/gpu/start"),
        ("speaker", "POST", "/v1/gpu/stop"),
        ("speaker", "POST", "/v1/gpu/restart"),
        ("speaker", "POST", "/v1/edge/refresh"),
    ],
)
def test_a_role_too_low(api: Api, role: str, method: str, path: str) -> None:
    assert role in problem(api.call(method, path, role), 403)["detail"]


def test_a_speaker_sees_only_its_own_sessions(api: Api) -> None:
    session = api.open("speaker")
    path = f"/v1/sessions/{session['id']}"
    for method, target in (("GET", path), ("POST", f"{path}/heartbeat"), ("DELETE", path)):
        problem(api.call(method, target, "other"), 404)
    assert api.call("GET", path, "operator").status == 200
    problem(api.call("GET", "/v1/sessions/none", "speaker"), 404)


def test_a_method_the_path_does_not_take(api: Api) -> None:
    problem(api.call("PATCH", "/v1/status", "viewer"), 405)


def test_a_path_that_is_not_there(api: Api) -> None:
    problem(api.call("GET", "/v1/nothing", "viewer"), 404)


def test_an_idempotency_key_opens_one_session(api: Api) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = api.call("POST", "/v1/sessions", "speaker", {"language": "en"}, headers=headers)
    again = api.call("POST", "/v1/sessions", "speaker", {"language": "en"}, headers=headers)
    assert (first.status, again.status) == (201, 201)
    assert first.json["id"] == again.json["id"]
    other = api.call("POST", "/v1/sessions", "other", {"language": "en"}, headers=headers)
    assert other.json["id"] != first.json["id"]
    problem(api.call("POST", "/v1/sessions", "speaker", {"language": "de"}, headers=headers), 422)


@pytest.mark.parametrize("caller", ["i-0123456789abcdef0", None])
def test_a_stranger_may_not_report(api: Api, caller: str | None) -> None:
    if caller is None:
        event = api.event("POST", f"/v1/hosts/{api.gpu}/report", body="{}")
        problem(api.send(event), 403)
    else:
        problem(api.report(api.gpu, {}, caller=caller), 403)


def test_a_machine_that_is_not_of_this_stack_may_not_report(api: Api) -> None:
    problem(api.report("i-0123456789abcdef0", {"boot_id": "b", "status": "ready"}), 404)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "status"),
        ({"status": "happy", "boot_id": "b"}, "status"),
        ({"status": "ready"}, "boot_id"),
        ({"status": "ready", "boot_id": "b", "streams": "x"}, "streams"),
        ({"status": "ready", "boot_id": "b", "streams": [{"since": 1}]}, "sid"),
        ({"status": "ready", "boot_id": "b", "max_streams": "4"}, "max_streams"),
    ],
)
def test_a_report_that_cannot_be_read(api: Api, body: dict[str, Any], named: str) -> None:
    assert named in problem(api.report(api.gpu, body), 422)["detail"]


def test_since_that_is_no_time(api: Api) -> None:
    problem(api.call("GET", "/v1/events?since=yesterday", "viewer"), 400)


def test_events_go_on_where_the_last_answer_ended(api: Api) -> None:
    first = api.call("GET", "/v1/events", "viewer").json
    api.open()
    more = api.call("GET", f"/v1/events?since={first['next']}", "viewer").json
    assert [one["action"] for one in more["events"]] == ["session.open"]
    assert api.call("GET", f"/v1/events?since={more['next']}", "viewer").json["events"] == []


def test_what_nobody_foresaw_says_nothing_of_the_inside(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("chalicelib.services.status.load", boom)
    answer = api.call("GET", "/v1/status", "viewer")
    problem(answer, 500)
    assert "secret" not in answer.text


def test_an_incomplete_deployment_names_the_variable(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TABLE_NAME")
    assert "TABLE_NAME" in problem(api.call("GET", "/v1/status", "viewer"), 500)["detail"]
    assert api.call("GET", "/v1/health", None).json == {"ok": True, "version": "0.1.0"}
