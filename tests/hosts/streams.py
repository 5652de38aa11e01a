"""Speakers on a world of systemd hosts: whole clips, or streams that stay open."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.hosts.world import World
from tests.stack import whisperctl
from tests.waiting import wait_until
from tests.wss import SHORT, Heard, dial, frames_of, handshake, listen, pcm, said


def stream(world: World, clip: Path = SHORT) -> dict[str, Any]:
    """The product's client speaks a clip through the edge; its report."""
    options = ("--json", "--state-dir", str(world.stack.state_dir), "--ref", said(clip))
    run = whisperctl("stream", str(clip), *options, timeout=150)
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


def awake(world: World, host: str | None = None) -> None:
    """A GPU host is on and its service ready, whoever stopped it, and whoever starts it."""
    host = host or world.gpu

    def on() -> bool:
        state = world.state(host)
        if state == "stopped":
            world.client("ec2").start_instances(InstanceIds=[host])
        return state == "running" and world.booted(host)

    wait_until(on, 120, "the host to be on", every=0.2)
    world.must(host, "systemctl start whisperlive")


class LiveStream:
    """One connection that stays open: a thread hears what comes, with the moment (monotonic) of each message."""

    def __init__(self, connection: ClientConnection, session: dict[str, Any]) -> None:
        self.session = session
        self.heard = Heard()
        self.came: list[float] = []
        self._connection = connection
        self._ended = threading.Event()
        connection.send(handshake())
        listen(connection, self.heard, until="SERVER_READY")
        assert self.heard.close_code is None, (self.heard.close_code, self.heard.close_reason)
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while True:
                message = json.loads(self._connection.recv())
                self.came.append(time.monotonic())
                self.heard.messages.append(message)
        except ConnectionClosed as closed:
            self.heard.close_code = closed.rcvd.code if closed.rcvd is not None else 1006
            self.heard.close_reason = closed.rcvd.reason if closed.rcvd is not None else ""
        self._ended.set()

    @property
    def is_open(self) -> bool:
        return not self._ended.is_set()

    def speak(self, clip: Path = SHORT) -> None:
        """Send a clip in one burst."""
        for frame in frames_of(pcm(clip)):
            self._connection.send(frame)

    def finish(self, clip: Path = SHORT) -> None:
        """Speak a clip, end, and hear the stream out."""
        self.speak(clip)
        self._connection.send(b"END_OF_AUDIO")
        self.wait_closed()

    def wait_closed(self, timeout: float = 60) -> None:
        wait_until(lambda: not self.is_open, timeout, "the stream's end", every=0.05)

    def wait_for(self, status: str, timeout: float) -> dict[str, Any]:
        """The first message with this status."""

        def found() -> dict[str, Any] | None:
            return next((one for one in self.heard.messages if one.get("status") == status), None)

        return wait_until(found, timeout, status, every=0.05)

    def moment_of(self, status: str) -> float:
        """When the first message with this status came; SERVER_READY, heard before the thread began, is left out."""
        late = self.heard.messages[len(self.heard.messages) - len(self.came) :]
        return next(at for at, one in zip(self.came, late, strict=True) if one.get("status") == status)


def is_known(world: World, live: LiveStream) -> bool:
    """Whether the GPU host has told the control plane of this stream."""
    health = json.loads(world.must(world.gpu, "curl -fsS http://127.0.0.1:9091/health"))
    streams = [one["sid"] for one in health["streams"]]
    told = (world.stack.status()["gpu"] or {}).get("active_streams") or 0
    return live.session["id"] in streams and told >= len(streams)


def open_session(world: World, timeout: float = 90) -> dict[str, Any]:
    """A session with a place on a GPU, and its ticket."""
    answer = world.stack.call("POST", "/v1/sessions", role="speaker", body={"language": "en"})
    assert answer.status_code == 201, answer.text
    made = answer.json()

    def ready() -> dict[str, Any] | None:
        found = dict(world.stack.call("GET", f"/v1/sessions/{made['id']}", role="speaker").json())
        return found if found["ticket"] else None

    return wait_until(ready, timeout, "a place on the GPU", every=0.3)


def close_session(world: World, session: dict[str, Any]) -> None:
    world.stack.call("DELETE", f"/v1/sessions/{session['id']}", role="speaker").raise_for_status()


@contextlib.contextmanager
def open_stream(world: World, session: dict[str, Any] | None = None, asks_for_s: float = 0.0) -> Iterator[LiveStream]:
    """A stream through the edge; its session, if it was made here, is closed at the end.

    `asks_for_s`: an edge that finds no GPU host is asked again for so long, as every client does.
    """
    found = session or open_session(world)

    def dialled() -> ClientConnection | None:
        try:
            return dial(found["ws_url"], found["ticket"], world.stack.ca_cert)
        except InvalidStatus as refused:
            if refused.response.status_code != 503 or not asks_for_s:
                raise
            return None

    try:
        with wait_until(dialled, asks_for_s, "the edge to find a GPU host", every=0.5) as connection:
            yield LiveStream(connection, found)
    finally:
        if session is None:
            close_session(world, found)


@contextlib.contextmanager
def kept_connection(world: World) -> Iterator[Callable[[], int]]:
    """One TLS connection to Caddy for many requests; yields what asks for /healthz on it and returns the status."""
    tls = ssl.create_default_context(cafile=world.stack.ca_cert)
    connection = http.client.HTTPSConnection(world.address(world.edge), 443, context=tls, timeout=10)
    connection.auto_open = 0
    connection.connect()

    def ask() -> int:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        return answer.status

    try:
        yield ask
    finally:
        connection.close()
