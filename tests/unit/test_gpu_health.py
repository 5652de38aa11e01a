from __future__ import annotations

import contextlib
import http.client
import json
import socket

import pytest

from gpu_bootstrap import health
from whisperctl.local.preflight import free_port


def report() -> dict[str, object]:
    return {"status": "ready", "streams": []}


@pytest.fixture
def port() -> int:
    found = free_port()
    health.serve("127.0.0.1", found, report)
    return found


def ask(port: int, target: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, target)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    connection.close()
    return answer.status, body


def test_health_is_the_report(port: int) -> None:
    for target in ("/health", "/health?x=1"):
        status, body = ask(port, target)
        assert (status, json.loads(body)) == (200, report())


@pytest.mark.parametrize("asked", ["GET /", "GET /healthy", "POST /health", "GET /x/health"])
def test_all_else_is_not_found(port: int, asked: str) -> None:
    method, target = asked.split()
    status, body = ask(port, target, method)
    assert status == 404
    assert json.loads(body) == {"detail": "only GET /health is here"}


def test_head_is_the_head_alone(port: int) -> None:
    assert ask(port, "/health", "HEAD") == (200, b"")


def test_who_says_nothing_holds_nobody_up(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    silent[0].sendall(b"GET /heal")
    assert ask(port, "/health")[0] == 200
    for one in silent:
        one.close()


def test_a_request_in_pieces(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as slow:
        for piece in (b"GET /heal", b"th HTTP/1.1\r\nHost: x\r\n", b"\r\n"):
            slow.sendall(piece)
        assert slow.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"


def test_a_head_without_end_is_cut_off(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as endless:
        with pytest.raises(OSError):  # noqa: PT012  reset at some send, or at the read
            for _ in range(100):
                endless.sendall(b"x" * 1000)
            if endless.recv(1) == b"":
                raise ConnectionResetError
        assert ask(port, "/health")[0] == 200


def test_a_client_that_is_late_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE_S", 0.05)
    port = free_port()
    health.serve("127.0.0.1", port, report)
    late = socket.create_connection(("127.0.0.1", port), timeout=5)
    with late, contextlib.suppress(ConnectionResetError):  # the other way of being let go
        assert late.recv(1) == b""


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError):
        health.serve("127.0.0.1", taken.getsockname()[1], report)
