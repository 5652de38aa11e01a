"""Who may open a stream: tickets, places, a session's newer connection, sessions that are over."""

from __future__ import annotations

import json
import socket
import time

import jwt
import pytest

from gpu_bootstrap.closing import SESSION_ENDED
from gpu_bootstrap.tickets import LEEWAY_S
from tests.bootstrap.launcher import KID, SECRET, Client, Launcher, reference, speech, ticket, words
from tests.waiting import wait_until

LAUNCHER_ENV = {"WHISPER_REQUIRE_TICKET": "true", "WHISPER_MAX_STREAMS": "2"}


@pytest.fixture(autouse=True)
def _fresh(launcher: Launcher) -> None:
    launcher.control()
    launcher.wait_streams(0)


def ready(launcher: Launcher, sid: str) -> Client:
    client = launcher.connect(sid, bearer=ticket(sid))
    client.until("SERVER_READY")
    return client


def test_a_ticket_opens_a_stream_and_names_its_session(launcher: Launcher) -> None:
    with ready(launcher, "s1") as client:
        assert client.connection.subprotocol == "bearer", "the ticket itself is never echoed"
        report = launcher.health()
        assert report is not None
        stream = report["streams"][0]
        assert stream["sid"] == "s1"
        assert 0 <= stream["since"] < 5
        client.send(speech("short"))
        client.end()
        assert client.until_closed() == (1000, "finished")
    assert words(client.text) == reference("short")
    assert "ey" + "J" not in launcher.errors(), "no ticket in any log"


BAD_TICKETS = {
    "none": (None, "a ticket is needed"),
    "nonsense": ("nonsense", "not one of ours"),
    "expired": (ticket("s1", expires_in=-60), "expired"),
    "wrong secret": (ticket("s1", secret="x" * 40), "not valid"),
    "no expiry": (jwt.encode({"sid": "s1"}, SECRET, "HS256", headers={"kid": KID}), "not valid"),
    "no session": (jwt.encode({"exp": time.time() + 60}, SECRET, "HS256", headers={"kid": KID}), "not valid"),
    "another algorithm": (
        jwt.encode({"sid": "s1", "exp": time.time() + 60}, SECRET * 2, "HS512", headers={"kid": KID}),
        "not valid",
    ),
    "unsigned": (
        jwt.encode({"sid": "s1", "exp": time.time() + 60}, None, "none", headers={"kid": KID}),  # type: ignore[arg-type]
        "not valid",
    ),
}


@pytest.mark.parametrize("name", BAD_TICKETS)
def test_a_ticket_that_does_not_open(launcher: Launcher, name: str) -> None:
    bearer, sentence = BAD_TICKETS[name]
    with launcher.connect(bearer=bearer) as client:
        code, reason = client.until_closed()
    assert code == 4401
    assert sentence in reason


def test_a_stream_ends_with_its_session_even_if_nobody_can_tell_the_host(launcher: Launcher) -> None:
    with launcher.connect("s1", bearer=ticket("s1", expires_in=3 - LEEWAY_S)) as client:
        client.until("SERVER_READY")
        client.send(speech("short"))
        code, reason = client.until_closed()
    assert (code, reason) == (4410, SESSION_ENDED.reason)
    assert words(client.text) == reference("short"), "what was said before is kept"


def test_a_refused_peer_that_never_answers_is_let_go(launcher: Launcher) -> None:
    """Six such sockets would otherwise hold all the places that the edge counts."""
    with socket.create_connection(("127.0.0.1", launcher.port), timeout=10) as peer:
        peer.sendall(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        began = time.monotonic()
        while peer.recv(4096):
            pass
        assert time.monotonic() - began < 3


def test_a_ticket_whose_key_never_comes(launcher: Launcher) -> None:
    with launcher.connect(bearer=ticket("s1", kid="unknown")) as client:
        code, reason = client.until_closed()
    assert code == 4401
    assert "key" in reason


def test_a_ticket_may_come_before_its_key(launcher: Launcher) -> None:
    with launcher.connect(bearer=ticket("s1", kid="k2")) as client:
        launcher.control(ticket_keys=[{"kid": KID, "secret": SECRET}, {"kid": "k2", "secret": SECRET}])
        client.until("SERVER_READY")


def test_the_control_planes_clock_decides_on_expiry(launcher: Launcher) -> None:
    """Both clocks are in its answer: `now` is its own, `received_at` the host's."""
    launcher.control(now="2200-01-01T00:00:00Z", revoked=["seen"])
    with launcher.open(bearer=ticket("seen")) as client:
        code, reason = client.until_closed()
    assert (code, reason) == (4401, "the ticket has expired; ask for a session anew")


def test_a_newer_connection_of_a_session_displaces_the_older(launcher: Launcher) -> None:
    with ready(launcher, "other"), ready(launcher, "s1") as older, ready(launcher, "s1") as newer:
        code, reason = older.until_closed()
        assert code == 4412
        assert "newer connection" in reason
        assert {stream["sid"] for stream in (launcher.health() or {})["streams"]} == {"other", "s1"}
        newer.send(speech("short"))
        newer.end()
        assert newer.until_closed() == (1000, "finished")
    assert words(newer.text) == reference("short")


def test_one_stream_too_many_waits(launcher: Launcher) -> None:
    with ready(launcher, "s1"), ready(launcher, "s2"):
        with launcher.connect("s3", bearer=ticket("s3")) as third:
            wait = third.until("WAIT")
            assert wait["message"] > 0
            code, reason = third.until_closed()
        assert code == 1013
        assert "taken" in reason
    launcher.wait_streams(0)
    with ready(launcher, "s3"):
        pass


def test_many_at_once_never_get_more_places_than_there_are(launcher: Launcher) -> None:
    clients = [launcher.connect(f"s{n}", bearer=ticket(f"s{n}")) for n in range(10)]
    outcomes = []
    for client in clients:
        first = client.next()
        outcomes.append(str(first.get("status") or first.get("message")))
    assert sorted(outcomes) == ["SERVER_READY"] * 2 + ["WAIT"] * 8
    for client in clients:
        client.connection.close()


def test_a_session_that_is_over_ends_its_stream_with_its_last_words(launcher: Launcher) -> None:
    with ready(launcher, "s1") as client, ready(launcher, "s2") as other:
        client.send(speech("short"))
        launcher.control(revoked=["s1"])
        code, reason = client.until_closed()
        assert code == 4410
        assert "session is over" in reason
        assert words(client.text) == reference("short")
        assert "END" not in client.statuses()
        other.end()
        assert other.until_closed()[0] == 1000
    with launcher.connect(bearer=ticket("s1")) as again:
        assert again.until_closed()[0] == 4410


def test_a_control_file_of_another_form_changes_nothing(launcher: Launcher) -> None:
    refused = len(launcher.logged("control.refused"))
    for bad in (["not", "an", "object"], {"revoked": "s1"}, {"ticket_keys": [1]}, {"now": "soon", "received_at": 1}):
        launcher.control_file.write_text(json.dumps(bad))
        refused += 1
        wait_until(lambda n=refused: len(launcher.logged("control.refused")) == n, 5, "the refusal")  # type: ignore[misc]
        with ready(launcher, "s1"):
            pass
        launcher.wait_streams(0)
