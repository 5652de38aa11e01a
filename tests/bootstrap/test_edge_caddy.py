"""The edge's routes, headers, logs and ways to the GPU hosts: the real Caddy with the real Caddyfile."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from websockets.exceptions import InvalidStatus

from tests.bootstrap.edge import BOOTSTRAP, ROOT, TICKET, TOKEN, Edge, Gpu, end, reload, start
from tests.waiting import wait_until
from whisperctl.local.dns import HostsFileDns
from whisperctl.local.http import HttpAnswer, HttpCall, HttpServer
from whisperctl.local.preflight import find_caddy, free_port


def api(calls: list[HttpCall], call: HttpCall) -> HttpAnswer:
    calls.append(call)
    return HttpAnswer.json(200, {"path": call.target})


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    directory = tmp_path_factory.mktemp("edge")
    calls: list[HttpCall] = []
    gateway = HttpServer(0, lambda call: api(calls, call), "api")
    dns = HostsFileDns(lambda: directory / "etc" / "hosts")
    made = start(
        directory, EDGE_API=gateway.url, EDGE_UPSTREAM_OPTIONS=f"resolvers {dns.address}", EDGE_LOG_LEVEL="DEBUG"
    )
    made.api_calls = calls
    yield made
    end(made)
    dns.close()
    gateway.close()


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    made = Gpu()
    yield made
    made.close()


@pytest.fixture
def second() -> Iterator[Gpu]:
    made = Gpu()
    yield made
    made.close()


def test_the_page_comes_with_strict_headers(edge: Edge) -> None:
    with edge.http() as client:
        response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    headers = response.headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert f"wss://localhost:{edge.port}" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["strict-transport-security"] == "max-age=31536000"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "microphone=(self)" in headers["permissions-policy"]
    assert headers["cache-control"] == "no-cache"
    assert "server" not in headers


def test_http_is_sent_to_https(edge: Edge) -> None:
    response = httpx.get(f"http://localhost:{edge.env['EDGE_HTTP_PORT']}/x?y=1", follow_redirects=False)
    assert response.status_code in (301, 308)
    assert response.headers["location"].startswith("https://localhost")


def test_health_says_what_it_checks(edge: Edge) -> None:
    with edge.http() as client:
        response = client.get("/healthz")
    assert response.json() == {"ok": True, "checks": "edge only", "gpu": "not checked here, see /api/v1/status"}
    assert response.headers["cache-control"] == "no-store"


def test_the_api_is_reached_under_its_stage(edge: Edge) -> None:
    with edge.http() as client:
        response = client.post(
            "/api/v1/x%20y?q=1", content=b"body", headers={"X-Host-Key": "k", "Authorization": "Bearer t"}
        )
    assert response.json() == {"path": "/stage/v1/x%20y?q=1"}
    call = edge.api_calls[-1]
    assert (call.method, call.body, call.headers["authorization"]) == ("POST", b"body", "Bearer t")
    assert "x-host-key" not in call.headers
    assert response.headers["cache-control"] == "no-store"


def test_a_body_too_large_for_the_api(edge: Edge) -> None:
    with edge.http() as client:
        response = client.post("/api/v1/x", content=b"x" * 10_100_000)
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"].endswith(".")


def test_a_way_out_of_the_api_is_no_outage(edge: Edge) -> None:
    with edge.http() as client:
        response = client.get("/api/..%2f..%2fetc/passwd")
    assert response.status_code in (400, 404)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == response.status_code


def test_hidden_files_are_not_served(edge: Edge) -> None:
    with edge.http() as client:
        assert client.get("/.git/config").status_code == 404
        assert client.get("/../app.py").status_code == 404
        nothing = client.get("/nothing")
    assert nothing.status_code == 404
    assert nothing.headers["x-content-type-options"] == "nosniff"
    assert "server" not in nothing.headers


def test_a_stream_goes_through_and_the_gpu_hears_only_the_ticket(edge: Edge, gpu: Gpu) -> None:
    edge.follow(gpu)
    wait_until(lambda: edge.served_by(gpu), 10, "the upstream")
    with edge.dial() as connection:
        assert connection.subprotocol == "bearer"
        assert connection.recv(timeout=5) == gpu.address
        connection.send(b"\x00" * 500_000)
        assert len(connection.recv(timeout=5)) == 500_000
    headers = {name.lower(): value for name, value in gpu.headers[-1].items()}
    assert TICKET in headers["sec-websocket-protocol"]
    assert "authorization" not in headers
    assert "cookie" not in headers


def test_new_streams_follow_and_live_ones_stay(edge: Edge, gpu: Gpu, second: Gpu) -> None:
    edge.follow(gpu)
    wait_until(lambda: edge.served_by(gpu), 10, "the first")
    with edge.dial() as live:
        assert live.recv(timeout=5) == gpu.address
        edge.follow(second)
        wait_until(lambda: edge.served_by(second), 10, "new streams to follow")
        live.send("still here")
        assert live.recv(timeout=5) == "still here"
        # Not even a reload ends it: stream_close_delay.
        reload(edge)
        wait_until(lambda: edge.served_by(second), 10, "new streams after the reload")
        live.send("and here")
        assert live.recv(timeout=5) == "and here"


def test_streams_are_spread_over_two_hosts(edge: Edge, gpu: Gpu, second: Gpu) -> None:
    edge.follow(gpu, second)
    wait_until(lambda: edge.served_by(gpu) or edge.served_by(second), 10, "the two")

    def spread() -> bool:
        with contextlib.ExitStack() as stack:
            seen = [stack.enter_context(edge.dial()).recv(timeout=5) for _ in range(4)]
        return sorted(seen) == sorted([gpu.address, second.address] * 2)

    wait_until(spread, 10, "two streams each")


@pytest.mark.parametrize("upstream", ["none", "dead"])
def test_no_gpu_is_a_sentence(edge: Edge, upstream: str) -> None:
    if upstream == "none":
        edge.follow()
    else:
        gone = Gpu()
        gone.close()
        edge.follow(gone)

    def refused() -> httpx.Response | None:
        with edge.http() as client:
            response = client.get("/ws", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        return response if response.status_code == 503 else None

    response = wait_until(refused, 10, "503")
    assert response.text.strip().endswith("/api/v1/status.")
    assert response.headers["retry-after"] == "2"


def test_pages_elsewhere_may_not_stream(edge: Edge, gpu: Gpu) -> None:
    edge.follow(gpu)
    wait_until(lambda: edge.served_by(gpu), 10, "the upstream")
    for origin in (edge.url, "https://talks.example.org"):
        with edge.dial(origin=origin) as connection:
            assert connection.recv(timeout=5) == gpu.address
    for origin in ("https://evil.example", "null", "https://localhost", "https://talks.example.org.evil.example"):
        with pytest.raises(InvalidStatus) as caught, edge.dial(origin=origin):
            pass
        assert caught.value.response.status_code == 403
        assert b"origin" in (caught.value.response.body or b"")


def test_with_tickets_on_the_root_takes_no_stream(edge: Edge, gpu: Gpu) -> None:
    edge.follow(gpu)
    with pytest.raises(InvalidStatus) as caught, edge.dial("/"):
        pass
    assert caught.value.response.status_code == 200


def test_neither_ticket_nor_token_stands_in_any_log(edge: Edge, gpu: Gpu) -> None:
    edge.follow(gpu)
    wait_until(lambda: edge.served_by(gpu), 10, "the upstream")
    edge.follow()

    def failing() -> bool:
        try:
            with edge.dial(f"/ws?token={TOKEN}"):
                return False
        except InvalidStatus:
            return True

    wait_until(failing, 10, "an error to be logged")
    with edge.http() as client:
        client.get(f"/api/v1/status?token={TOKEN}", headers={"Authorization": f"Bearer {TOKEN}"})

    def entries() -> list[dict[str, Any]]:
        lines = edge.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def loggers() -> set[str]:
        return {entry.get("logger", "") for entry in entries()}

    wait_until(
        lambda: {"http.log.access", "http.log.error"} <= {n.removesuffix(".log0") for n in loggers()}, 5, "both logs"
    )
    text = edge.log.read_text()
    assert '"msg":"upstream roundtrip"' in text
    assert TICKET not in text
    assert TOKEN not in text
    assert "very-secret" not in text


def test_an_api_that_is_down_and_an_open_root(tmp_path: Path, gpu: Gpu) -> None:
    dns = HostsFileDns(lambda: tmp_path / "etc" / "hosts")
    options = f"resolvers {dns.address}"
    edge = start(
        tmp_path, EDGE_API=f"http://127.0.0.1:{free_port()}", EDGE_OPEN_STREAMS="on", EDGE_UPSTREAM_OPTIONS=options
    )
    try:
        with edge.http() as client:
            response = client.get("/api/v1/status")
            assert response.status_code == 502
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["detail"].endswith(".")
            assert client.get("/").headers["content-type"].startswith("text/html")
        edge.follow(gpu)
        wait_until(lambda: edge.served_by(gpu), 10, "the upstream")
        with edge.dial("/", offered=()) as connection:
            assert connection.recv(timeout=5) == gpu.address
        # And its pages elsewhere are refused there too.
        with pytest.raises(InvalidStatus), edge.dial("/", origin="https://evil.example"):
            pass
    finally:
        end(edge)
        dns.close()


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"EDGE_TLS": "tls_acme", "EDGE_SITE": "speech.example.org", "EDGE_EMAIL": "ops@example.org"},
        {"EDGE_API": "https://abc.execute-api.eu-central-1.amazonaws.com", "EDGE_API_STAGE": "/prod"},
        {"EDGE_TLS": "tls_acme", "EDGE_SITE": "203.0.113.7", "EDGE_ACME_OPTIONS": "profile shortlived"},
        {"EDGE_UPSTREAM_OPTIONS": "resolvers 127.0.0.1:53", "EDGE_SITE": "a.example.org, b.example.org"},
    ],
)
def test_the_caddyfile_is_valid_and_formatted(tmp_path: Path, env: dict[str, str]) -> None:
    run_env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "EDGE_STORAGE": str(tmp_path / "s"), **env}
    config = ["--config", str(BOOTSTRAP / "Caddyfile"), "--adapter", "caddyfile"]
    done = subprocess.run(
        [find_caddy(), "validate", *config], env=run_env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    formatted = subprocess.run(
        [find_caddy(), "fmt", str(BOOTSTRAP / "Caddyfile")], env=run_env, capture_output=True, text=True, check=False
    )
    assert formatted.stdout == (BOOTSTRAP / "Caddyfile").read_text()


def test_every_setting_stands_in_the_head_of_the_caddyfile() -> None:
    text = (BOOTSTRAP / "Caddyfile").read_text()
    head, _, body = text.partition("\n{\n")
    used = set(re.findall(r"\{\$(EDGE_[A-Z_]+)", body))
    documented = set(re.findall(r"\b(EDGE_[A-Z_]+)\b", head))
    assert used == documented


def test_compose_and_the_manual_name_settings_that_exist() -> None:
    known = set(re.findall(r"\{\$(EDGE_[A-Z_]+)", (BOOTSTRAP / "Caddyfile").read_text()))
    compose = (BOOTSTRAP / "compose.yaml").read_text()
    manual = (ROOT / "docs" / "edge.md").read_text()
    assert set(re.findall(r"\b(EDGE_[A-Z_]+)\b", compose + manual)) <= known
    caddy = yaml.safe_load(compose)["services"]["caddy"]
    for volume in caddy["volumes"]:
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (BOOTSTRAP / source).exists(), source
    assert (BOOTSTRAP / "Dockerfile").exists()
