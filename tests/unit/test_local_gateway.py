"""The gateway: events as API Gateway makes them, a pool of app instances, and answers of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.local_cloud import FrozenTime
from whisperctl.local.clock import StandInClock
from whisperctl.local.gateway import Gateway, answer_of, event, resources
from whisperctl.local.http import HttpCall, HttpServer
from whisperctl.local.lambdas import AppPool

APP = """
import threading, time
from chalice import Chalice, Response

app = Chalice("tiny")
seen = []

@app.route("/v1/echo/{name}", methods=["GET", "POST"], content_types=["application/json"])
def echo(name):
    request = app.current_request
    time.sleep(float((request.query_params or {}).get("sleep", 0)))
    # What a second request in the same instance would have changed:
    return {"name": name, "still": app.current_request.uri_params["name"], "query": request.query_params,
            "context": request.context, "module": __name__}

@app.route("/v1/echo/fixed")
def fixed():
    return Response("", status_code=204, headers={"X-Own": "1"})

@app.route("/v1/hosts/{instance_id}/report", methods=["POST"])
def report(instance_id):
    return app.current_request.context["identity"]

class Broken:
    pass
"""
BREAKS = """
handle = app.__call__
class Breaking(type(app)):
    def __call__(self, event, context):
        if event["path"].endswith("/breaks"):
            raise RuntimeError("inside")
        return super().__call__(event, context)
app.__class__ = Breaking
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpServer]:
    path = tmp_path / "app.py"
    path.write_text(APP + BREAKS)
    gateway = Gateway(
        AppPool(path, most=8),
        stage="local",
        region="us-east-1",
        clock=StandInClock(FrozenTime(1000.0)),
        instance_of={"key-of-gpu": "i-1"}.get,
        longest_s=2.0,
    )
    made = gateway.server()
    yield made
    made.close()


def test_a_request_goes_to_the_app_and_back(server: HttpServer) -> None:
    response = httpx.get(f"{server.url}/local/v1/echo/me?a=1&a=2&b=")
    assert response.status_code == 200
    answer = response.json()
    assert (answer["name"], answer["query"]) == ("me", {"a": "2", "b": ""})
    assert answer["context"]["stage"] == "local"
    assert answer["context"]["resourcePath"] == "/v1/echo/{name}"
    assert answer["context"]["requestTimeEpoch"] == 1_000_000


def test_a_literal_path_wins_and_204_has_no_body(server: HttpServer) -> None:
    response = httpx.get(f"{server.url}/local/v1/echo/fixed")
    assert (response.status_code, response.content, response.headers["x-own"]) == (204, b"", "1")


def test_requests_at_once_never_share_an_instance(server: HttpServer) -> None:
    def ask(number: int) -> dict[str, Any]:
        return dict(httpx.get(f"{server.url}/local/v1/echo/n{number}?sleep=0.1", timeout=10).json())

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(ask, range(20)))
    assert [answer["name"] for answer in answers] == [f"n{number}" for number in range(20)]
    assert all(answer["still"] == answer["name"] for answer in answers)
    assert 1 < len({answer["module"] for answer in answers}) <= 8


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/local/v1/nothing"), ("PATCH", "/local/v1/echo/me"), ("GET", "/other/v1/echo/me"), ("GET", "/")],
)
def test_unknown_paths_and_methods(server: HttpServer, method: str, path: str) -> None:
    response = httpx.request(method, server.url + path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"].endswith(".")


def test_a_handler_that_blows_up_is_502_and_the_next_is_served(server: HttpServer) -> None:
    response = httpx.get(f"{server.url}/local/v1/echo/breaks")
    assert response.status_code == 502
    assert response.headers["content-type"] == "application/problem+json"
    assert "inside" not in response.json()["title"]
    assert "RuntimeError" not in response.text
    assert httpx.get(f"{server.url}/local/v1/echo/me").status_code == 200


def test_one_that_takes_too_long_is_504(server: HttpServer) -> None:
    response = httpx.get(f"{server.url}/local/v1/echo/me?sleep=4", timeout=10)
    assert response.status_code == 504
    assert httpx.get(f"{server.url}/local/v1/echo/me").status_code == 200


def test_a_body_over_ten_megabytes(server: HttpServer) -> None:
    response = httpx.post(f"{server.url}/local/v1/echo/me", content=b"x" * (10 * 1024 * 1024 + 1))
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


def test_a_hosts_report_carries_the_arn_of_its_key(server: HttpServer) -> None:
    url = f"{server.url}/local/v1/hosts/i-other/report"
    identity = httpx.post(url, json={}, headers={"X-Host-Key": "key-of-gpu"}).json()
    assert identity["userArn"] == "arn:aws:sts::123456789012:assumed-role/whisperlive-edge-host/i-1"
    refused = httpx.post(url, json={}, headers={"X-Host-Key": "guess"})
    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/problem+json"
    assert httpx.post(url, json={}).status_code == 403


def test_nobody_else_gets_an_arn(server: HttpServer) -> None:
    context = httpx.get(f"{server.url}/local/v1/echo/me", headers={"X-Host-Key": "key-of-gpu"}).json()["context"]
    assert context["identity"]["userArn"] is None


def test_the_event_is_version_one() -> None:
    call = HttpCall(
        "POST", "/local/v1/a%20b?x=1", {"authorization": "Bearer t", "x-host-key": "k"}, b"\xff\xfe", "10.0.0.9"
    )
    made = event(call, "/v1/{name}", {"name": "a b"}, stage="local", now=12.5)
    assert made["path"] == "/v1/a b"
    assert made["headers"] == {"Authorization": "Bearer t"}
    assert made["multiValueHeaders"] == {"Authorization": ["Bearer t"]}
    assert (made["body"], made["isBase64Encoded"]) == ("//4=", True)
    assert made["pathParameters"] == {"name": "a b"}
    assert made["requestContext"]["identity"]["sourceIp"] == "10.0.0.9"
    json.dumps(made)


def test_an_answer_may_be_base64_and_repeat_headers() -> None:
    made = answer_of(
        {
            "statusCode": 200,
            "headers": {"A": "1"},
            "multiValueHeaders": {"Set-Cookie": ["a", "b"]},
            "body": "//4=",
            "isBase64Encoded": True,
        }
    )
    assert (made.body, made.headers) == (b"\xff\xfe", {"A": "1", "Set-Cookie": ["a", "b"]})
    with pytest.raises(TypeError):
        answer_of(None)


def test_the_route_table_prefers_literal_paths() -> None:
    table = resources({"/v1/{a}": ["GET"], "/v1/x": ["GET"], "/v1/{a}/{b}": ["GET"]})
    assert [resource.pattern for resource in table] == ["/v1/x", "/v1/{a}", "/v1/{a}/{b}"]
    assert table[1].regex.fullmatch("/v1/a/b") is None


def test_a_pool_waits_when_all_are_busy(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("value = 1\n")
    pool = AppPool(path, most=1)
    got = threading.Event()

    def second() -> None:
        with pool.lease():
            got.set()

    with pool.lease():
        thread = threading.Thread(target=second)
        thread.start()
        assert not got.wait(0.2)
    assert got.wait(2)
    thread.join()
    assert pool.made == 1


def test_a_broken_app_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("raise ValueError('no settings')\n")
    with pytest.raises(ValueError, match="no settings"):
        AppPool(path)
