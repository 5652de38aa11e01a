"""What a client can do wrong: each is one code and one sentence, and everybody else is served on."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from tests.bootstrap.launcher import RATE, Client, Launcher, reference, speech, words

LAUNCHER_ENV = {"WHISPER_HANDSHAKE_TIMEOUT_S": "1", "WHISPER_MAX_STREAMS": "2"}


def canary(launcher: Launcher) -> None:
    """Another client still gets every word, and no place is lost."""
    launcher.wait_streams(0)
    with launcher.connect("canary") as client:
        client.send(speech("short"))
        client.end()
        assert client.until_closed() == (1000, "finished")
    assert words(client.text) == reference("short")


def closed_with(client: Client) -> tuple[int, str]:
    code, reason = client.until_closed()
    assert reason, "every ending gives its reason"
    return code, reason


FRAMES: dict[str, tuple[bytes | str, str]] = {
    "odd length": (b"\0" * 4097, "4097 bytes is not whole float32 samples"),
    "NaN": (np.array([0.0, np.nan], np.float32).tobytes(), "no finite numbers"),
    "infinity": (np.array([0.0, -np.inf], np.float32).tobytes(), "no finite numbers"),
    "too loud": (np.array([0.0, 1e30], np.float32).tobytes(), "far outside"),
    "integers": (np.full(1600, 0x4FFF, np.int16).tobytes(), "really float32"),
    "text": ("hello", "binary frames"),
    "END_OF_AUDIO as text": ("END_OF_AUDIO", "END_OF_AUDIO too"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_is_no_audio(launcher: Launcher, name: str) -> None:
    frame, sentence = FRAMES[name]
    with launcher.connect() as client:
        client.until("SERVER_READY")
        client.send(speech("short"))
        client.connection.send(frame)
        code, reason = closed_with(client)
    assert code == 4400
    assert sentence in reason
    assert words(client.text) == reference("short"), "the good audio before it keeps its words"
    assert "END" not in client.statuses(), "END answers END_OF_AUDIO and nothing else"


def test_a_peer_far_ahead_hears_at_once_that_it_is_closed(launcher: Launcher) -> None:
    """More frames lie in its buffers than are read: the close is answered all the same, and nothing of it is lost."""
    with launcher.connect() as client:
        client.until("SERVER_READY")
        began = time.monotonic()
        client.send(np.array([np.nan], np.float32))
        for _ in range(300):
            with contextlib.suppress(ConnectionClosed):
                client.send(np.zeros(4000, np.float32))
        assert closed_with(client)[0] == 4400
        assert time.monotonic() - began < 2, "not only when the server gives up waiting for the answer"
    canary(launcher)


def test_an_empty_frame_is_no_harm(launcher: Launcher) -> None:
    with launcher.connect() as client:
        client.connection.send(b"")
        client.send(speech("short"))
        client.connection.send(b"")
        client.end()
        assert closed_with(client)[0] == 1000
    assert words(client.text) == reference("short")


def test_a_handshake_that_never_comes(launcher: Launcher) -> None:
    with launcher.open() as client:
        code, reason = closed_with(client)
    assert code == 4408
    assert "handshake" in reason
    canary(launcher)


HANDSHAKES: dict[str, Any] = {
    "not JSON": "{",
    "audio": np.zeros(1600, np.float32).tobytes(),
    "END_OF_AUDIO": b"END_OF_AUDIO",
    "a list": [],
    "no uid": {"language": "en", "task": "transcribe"},
    "uid a number": {"uid": 5},
    "vad_parameters unknown": {"uid": "x", "vad_parameters": {"bogus": 1}},
    "vad_parameters text": {"uid": "x", "vad_parameters": {"threshold": "loud"}},
    "initial_prompt a number": {"uid": "x", "initial_prompt": 5},
    "hotwords a list": {"uid": "x", "hotwords": ["a", "b"]},
    "hotwords a lone surrogate": '{"uid": "x", "hotwords": "\\ud800"}',
    "language unknown and no text": {"uid": "x", "language": {"a": 1}},
    "task unknown": {"uid": "x", "task": "sing"},
    "use_vad a text": {"uid": "x", "use_vad": "yes"},
    "send_last_n_segments none": {"uid": "x", "send_last_n_segments": 0},
    "no_speech_thresh infinite": '{"uid": "x", "no_speech_thresh": Infinity}',
    "audio_format unknown": {"uid": "x", "audio_format": "mp3"},
    "word_timestamps a number": {"uid": "x", "word_timestamps": 1},
    "deeply nested": "[" * 50_000,
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_handshake_of_the_wrong_form(launcher: Launcher, name: str) -> None:
    message = HANDSHAKES[name]
    with launcher.open() as client:
        client.connection.send(message if isinstance(message, str | bytes) else json.dumps(message))
        code, _ = closed_with(client)
    assert code == 4400


def test_after_all_that_a_canary_gets_its_words(launcher: Launcher) -> None:
    canary(launcher)


def test_more_than_this_host_serves_is_warned_of(launcher: Launcher) -> None:
    asked: dict[str, Any] = {
        "language": "de",
        "task": "translate",
        "enable_translation": True,
        "enable_diarization": True,
    }
    with launcher.connect(model="Systran/faster-whisper-large-v3", **asked) as client:
        client.until("SERVER_READY")
        client.send(speech("short"))
        client.end()
        client.until_closed()
    warnings = [message["message"] for message in client.messages if message.get("status") == "WARNING"]
    assert len(warnings) == 5
    assert words(client.text) == reference("short")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [
    "uid", "language", "task", "model", "use_vad", "audio_format", "send_last_n_segments", "no_speech_thresh",
    "clip_audio", "same_output_threshold", "initial_prompt", "hotwords", "vad_parameters", "word_timestamps",
    "enable_translation", "known_speakers", "known_s", "resumes",
]  # fmt: skip


def test_poisoned_streams_leave_nothing_behind(launcher: Launcher) -> None:
    """Random handshakes and frames: each connection ends or is served; then a canary gets its words."""

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6),
        st.lists(st.binary(max_size=64) | st.text(max_size=10), max_size=4),
        st.booleans(),
    )
    def poison(handshake: dict[str, Any], frames: list[bytes | str], says_goodbye: bool) -> None:
        client = launcher.open()
        client.connection.send(json.dumps({"uid": "poison"} | handshake))
        with contextlib.suppress(ConnectionClosed):  # the server may have closed on us already
            for frame in frames:
                client.connection.send(frame)
            if says_goodbye:
                client.end()
        vanish(client)

    threads = threads_of(launcher)
    poison()
    canary(launcher)
    assert threads_of(launcher) <= threads + 3


def vanish(client: Client) -> None:
    """Be gone without a word: no END_OF_AUDIO, no close frame."""
    with contextlib.suppress(OSError):  # closed by the other side already
        client.connection.socket.shutdown(socket.SHUT_RDWR)


def threads_of(launcher: Launcher) -> int:
    status = Path(f"/proc/{launcher.process.pid}/status").read_text()
    found = re.search(r"^Threads:\s+(\d+)", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_a_client_that_vanishes_leaves_place_thread_and_memory(launcher: Launcher) -> None:
    threads = threads_of(launcher)
    for _ in range(3):
        clients = [launcher.connect(f"gone-{n}") for n in range(2)]
        for client in clients:
            client.until("SERVER_READY")
            client.send(np.tile(speech("check"), 4)[: 50 * RATE])
            vanish(client)
        launcher.wait_streams(0)
    canary(launcher)
    assert threads_of(launcher) <= threads + 3
