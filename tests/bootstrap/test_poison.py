"""Hundreds of connections that mean harm, and real words after each hundred; `make poison` makes it thousands.

Handshakes, frames, timing and goodbyes are drawn by hypothesis from a fixed seed; ten connections at once. What they
leave behind is read from /proc: threads, file descriptors and memory, against what was there after the first hundred.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from bench.peer import Peer, clip
from bench.servers import Server, Setup, running, wait

CONNECTIONS = int(os.environ.get("POISON", "150"))
HUNDRED = 100
AT_ONCE = 10
PLACES = 3
"""Fewer than come at once: being full is part of the test."""
SPARE_MB = 25.0
"""What a process may grow by without a leak after its first hundred connections. 0.1 MB a connection, the least that
a forgotten stream holds (its WebSocket's buffers and its thread), is 190 MB over the 1,900 after them."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
fields = st.sampled_from(
    [
        "uid", "language", "task", "model", "use_vad", "audio_format", "send_last_n_segments", "no_speech_thresh",
        "clip_audio", "same_output_threshold", "initial_prompt", "hotwords", "vad_parameters", "word_timestamps",
        "enable_translation", "target_language", "enable_diarization", "known_speakers", "max_speakers", "hf_token",
        "known_s",
    ]
)  # fmt: skip
GOOD = {"uid": "poison", "language": "en", "task": "transcribe", "model": "tiny.en", "use_vad": True}
FRAMES = (
    "speech",
    "silence",
    "noise",
    "NaN",
    "infinity",
    "loud",
    "int16",
    "odd",
    "empty",
    "text",
    "large",
    "end",
    "ping",
)


@dataclass(frozen=True)
class Poison:
    """One connection, from its first byte to its end."""

    opening: str
    first: bytes | str | None
    ready: bool
    """Whether it waits for SERVER_READY, as polite clients do."""
    frames: tuple[str, ...]
    pause_s: float
    goodbye: str


handshakes = st.one_of(
    st.dictionaries(fields, json_values, max_size=6).map(lambda wrong: json.dumps(GOOD | wrong)),
    st.dictionaries(fields, json_values, max_size=6).map(json.dumps),
    json_values.map(json.dumps),
    st.text(max_size=40),
    st.binary(max_size=40),
    st.just(json.dumps(GOOD)),
    st.just(json.dumps(GOOD)),
    st.none(),
)
poisons = st.builds(
    Poison,
    opening=st.sampled_from(["upgrade"] * 8 + ["bytes", "get", "half"]),
    first=handshakes,
    ready=st.booleans(),
    frames=st.lists(st.sampled_from(FRAMES), max_size=6).map(tuple),
    pause_s=st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.05, 0.2]),
    goodbye=st.sampled_from(["close", "reset", "shutdown", "end", "end and reset", "linger"]),
)


def frame(name: str) -> bytes | str:
    speech = clip("short")[0]
    made: dict[str, bytes | str] = {
        "speech": speech[:24_000].tobytes(),
        "silence": bytes(64_000),
        "noise": np.random.default_rng(1).normal(0, 0.3, 16_000).astype("<f4").tobytes(),
        "NaN": np.array([0.1, np.nan], "<f4").tobytes(),
        "infinity": np.array([0.1, np.inf], "<f4").tobytes(),
        "loud": np.array([0.1, 1e30], "<f4").tobytes(),
        "int16": (speech[:16_000] * 32767).astype("<i2").tobytes(),
        "odd": bytes(4097),
        "empty": b"",
        "text": "END_OF_AUDIO",
        "large": bytes(1_200_000),
        "end": b"END_OF_AUDIO",
    }
    return made[name]


def administer(server: Server, poison: Poison) -> None:
    """Do it; whatever the server answers is fine here, as long as it lives."""
    with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError, TimeoutError):
        if poison.opening != "upgrade":
            raw(server, poison)
            return
        connection = connect(server.url, open_timeout=20, close_timeout=0.2, ping_interval=None, legacy=True)
        try:
            speak(connection, poison)
        finally:
            leave(connection, poison.goodbye)


def raw(server: Server, poison: Poison) -> None:
    """No WebSocket at all, or half of one."""
    with socket.create_connection((server.host, server.port), timeout=1) as plain:
        text = {
            "bytes": os.urandom(64)
            if poison.first is None
            else str(poison.first).encode(errors="replace") + b"\r\n\r\n",
            "get": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "half": b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Up",
        }
        plain.sendall(text[poison.opening])
        if poison.goodbye != "shutdown":
            plain.recv(100)


def speak(connection: ClientConnection, poison: Poison) -> None:
    if poison.first is not None:
        connection.send(poison.first)
    if poison.ready:
        connection.recv(timeout=0.5)
    for name in poison.frames:
        time.sleep(poison.pause_s)  # the timing is part of the poison
        if name == "ping":
            connection.ping()
        else:
            connection.send(frame(name))


def leave(connection: ClientConnection, goodbye: str) -> None:
    if goodbye.startswith("end"):
        connection.send(b"END_OF_AUDIO")
    if goodbye.endswith("reset"):
        linger = struct.pack("ii", 1, 0)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.socket.close()
    elif goodbye == "shutdown":
        connection.socket.shutdown(socket.SHUT_RDWR)
    elif goodbye == "linger":
        time.sleep(0.3)  # a peer that says nothing for a while
        connection.socket.shutdown(socket.SHUT_RDWR)
    else:
        connection.close()


@dataclass(frozen=True)
class Left:
    """What a process holds when nobody is connected."""

    threads: int
    files: int
    memory_mb: float

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.files} file descriptors, {self.memory_mb:.0f} MB"


def streams(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (server.health() or {"streams": [{}]})["streams"]
    return found


def settled(server: Server, threads: int | None = None) -> Left:
    """What is left when the places are free, and the threads no more than there may be."""
    wait(lambda: not streams(server), 90, "every place to be free")
    if threads is not None:
        wait(lambda: server.threads() <= threads, 60, f"no more than {threads} threads, there are {server.threads()}")
    server.wait_idle(60)
    return Left(server.threads(), server.files(), server.memory_mb())


def hear(server: Server) -> None:
    """A canary with real words: every one comes."""
    wait(lambda: not streams(server), 90, "every place to be free")
    samples, said = clip("short")
    with Peer(server) as peer:
        peer.hello()
        peer.wait_ready()
        peer.burst(samples)
        peer.end()
        # As long as it takes: how fast the machine is, is not asked here.
        closed = peer.wait_closed(240)
    assert (peer.final_words(), closed and closed.code) == (said, 1000), peer.messages


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running("ours", Setup(places=PLACES, env=(("WHISPER_HANDSHAKE_TIMEOUT_S", "1"),))) as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(300 + CONNECTIONS)
def test_poisoned_connections_leave_nothing_behind(server: Server) -> None:
    hear(server)
    given_so_far = 0
    baseline: Left | None = None

    @seed(20261122)
    @settings(
        max_examples=CONNECTIONS // AT_ONCE,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(poisons, min_size=AT_ONCE, max_size=AT_ONCE))
    def hundreds(several: list[Poison]) -> None:
        nonlocal given_so_far, baseline
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda one: administer(server, one), several))
        assert server.process.poll() is None, server.logged()[-2000:]
        given_so_far += AT_ONCE
        if given_so_far % HUNDRED == 0:
            hear(server)
            left = settled(server)
            baseline = baseline or left
            print(f"{given_so_far} connections, every word of the canary; {left}")  # noqa: T201  the record

    hundreds()
    assert given_so_far == CONNECTIONS // AT_ONCE * AT_ONCE
    assert baseline is not None
    hear(server)
    left = settled(server, baseline.threads)
    print(f"after {given_so_far}: {left}; first: {baseline}")  # noqa: T201  the record
    assert left.threads <= baseline.threads
    assert left.files <= baseline.files
    assert left.memory_mb <= baseline.memory_mb + SPARE_MB
