"""The control plane's own dialling: the edge over HTTPS, a canary through the real Caddy and the real launcher."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection, serve

from chalicelib.domain.probes import judge_words
from chalicelib.net import canary
from chalicelib.net.https import ask_edge
from tests.bootstrap.edge import TICKET, Edge, end, start
from tests.bootstrap.launcher import Launcher, running, ticket


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    made = start(tmp_path_factory.mktemp("edge"))
    yield made
    end(made)


def test_the_edge_answers_with_its_certificate(edge: Edge) -> None:
    answer = ask_edge(edge.url, edge.ca.read_text())
    assert answer.problem == answer.certificate_problem == ""
    assert answer.certificate_days is not None
    assert 0.3 < answer.certificate_days <= 0.51
    assert answer.seconds < 5


def test_a_certificate_nobody_vouches_for_is_no_outage(edge: Edge) -> None:
    answer = ask_edge(edge.url)
    assert answer.problem == ""
    assert answer.certificate_problem.startswith("not accepted: ")


def test_a_name_the_certificate_does_not_hold(edge: Edge) -> None:
    answer = ask_edge(edge.url.replace("localhost", "127.0.0.1"), edge.ca.read_text())
    assert answer.problem + answer.certificate_problem


def test_an_edge_that_is_away_or_hangs_is_a_sentence(edge: Edge) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        assert "timed out" in ask_edge(f"https://127.0.0.1:{port}", timeout_s=0.3).problem
        assert time.monotonic() - began < 3
    assert "refused" in ask_edge(f"https://127.0.0.1:{port}").problem
    wrong = ask_edge(f"http://localhost:{edge.env['EDGE_HTTP_PORT']}".replace("http:", "https:"))
    assert wrong.problem


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    with running(tmp_path_factory.mktemp("launcher")) as made:
        yield made


def test_the_canary_hears_its_own_words(launcher: Launcher) -> None:
    launcher.control()
    heard = canary.speak(f"ws://127.0.0.1:{launcher.port}/ws/canary", ticket("canary"), timeout_s=60)
    assert heard.problem == ""
    assert judge_words(canary.SAID, heard.words)[0], heard.words
    assert heard.upgrade_s is not None
    assert heard.ready_s is not None
    assert heard.first_word_s is not None
    assert heard.final_s is not None
    assert heard.upgrade_s <= heard.ready_s <= heard.first_word_s


@pytest.fixture
def scripted() -> Iterator[dict[str, object]]:
    """A server that does what the test says: `messages` after the handshake, then `close` or silence."""
    script: dict[str, object] = {"messages": [], "close": None}

    def handle(connection: ServerConnection) -> None:
        connection.recv()
        for message in script["messages"]:  # type: ignore[attr-defined]
            connection.send(message)
        if script["close"] is not None:
            connection.close(*script["close"])  # type: ignore[misc]
            return
        for _ in connection:
            pass

    with serve(handle, "127.0.0.1", 0, select_subprotocol=lambda _c, offered: offered[0]) as server:
        script["url"] = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield script
        server.shutdown()
        thread.join(5)


def test_how_far_it_came_is_told(scripted: dict[str, object]) -> None:
    url = str(scripted["url"])
    mute = canary.speak(url, TICKET, timeout_s=0.5)
    assert mute.problem == "no SERVER_READY within 0.5 s"
    assert mute.upgrade_s is not None
    assert mute.ready_s is None
    scripted["messages"] = ['{"message":"SERVER_READY"}', "[]", "{", '{"segments":[{"text":5,"completed":true},7]}']
    hung = canary.speak(url, TICKET, timeout_s=0.5)
    assert hung.problem == "no END within 0.5 s"
    assert hung.ready_s is not None
    scripted["close"] = (4401, "the ticket has expired")
    refused = canary.speak(url, TICKET, timeout_s=5)
    assert (refused.close_code, refused.problem) == (4401, "closed with 4401: the ticket has expired")


def test_no_server_and_no_websocket_are_sentences(edge: Edge) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"
        assert canary.speak(url, TICKET, timeout_s=0.3).problem == "no answer to the upgrade within 0.3 s"
    assert "could not be opened" in canary.speak(url, TICKET).problem
    sleeping = canary.speak(f"wss://localhost:{edge.port}/ws", TICKET, edge.ca.read_text())
    assert sleeping.problem == "the upgrade was answered with 503"
    assert "could not be opened" in canary.speak(f"wss://localhost:{edge.port}/ws", TICKET).problem


def test_the_clip_is_three_seconds_of_speech_in_range() -> None:
    samples = canary.speech()
    assert 3 <= len(samples) / canary.RATE <= 4
    assert max(samples) <= 1
    assert min(samples) >= -1
    assert Path(canary.CLIP).stat().st_size == len(samples)
