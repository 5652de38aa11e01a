"""A client for benches and probes: speaks the protocol by hand, believes nothing, and notes when what came."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
import wave
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from bench.servers import ROOT, Server

RATE = 16_000
FRAME_S = 0.1
Samples = NDArray[np.float32]


def clip(name: str) -> tuple[Samples, list[str]]:
    """A clip the project made (`check`, `short`, `train`) and the words said in it."""
    folder = ROOT / ("whisperctl/speech" if name == "check" else "tests/speech")
    with wave.open(str(folder / f"{name}.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)
    return samples / np.float32(32768), words((folder / f"{name}.txt").read_text())


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.float32)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def found(wanted: list[str], heard: list[str]) -> int:
    """How many of the wanted words stand in what was heard, each as often as it is there."""
    left = list(heard)
    count = 0
    for word in wanted:
        if word in left:
            left.remove(word)
            count += 1
    return count


@dataclass(frozen=True)
class Closed:
    """How the server ended it: code 1006 and no reason where no close frame came."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"{self.code} “{self.reason}”" if self.reason else f"{self.code} without a reason"


class Peer:
    """One connection with a thread that listens. Raises websockets' InvalidStatus where the upgrade is refused."""

    def __init__(self, server: Server, *, bearer: str | None = None, origin: str | None = None) -> None:
        self.uid = str(uuid.uuid4())
        self.messages: list[dict[str, Any]] = []
        self.arrived: list[float] = []
        self.closed: Closed | None = None
        self._news = threading.Condition()
        self.connection = connect(
            server.url,
            ssl=server.tls(),
            origin=Origin(origin) if origin else None,
            subprotocols=[Subprotocol("bearer"), Subprotocol(bearer)] if bearer else None,
            open_timeout=60,
            close_timeout=1,
            ping_interval=None,
            max_size=None,
        )
        threading.Thread(target=self._listen, name="peer", daemon=True).start()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def _listen(self) -> None:
        try:
            for raw in self.connection:
                message = json.loads(raw)
                with self._news:
                    self.messages.append(message)
                    self.arrived.append(time.monotonic())
                    self._news.notify_all()
        except ConnectionClosed:
            pass
        protocol = self.connection.protocol
        with self._news:
            rcvd = protocol.close_rcvd
            self.closed = Closed(rcvd.code, rcvd.reason) if rcvd else Closed(1006, "")
            self._news.notify_all()

    def send(self, frame: bytes | str) -> bool:
        """Whether it could be sent: the server may have closed."""
        try:
            self.connection.send(frame)
        except ConnectionClosed:
            return False
        return True

    def hello(self, **fields: Any) -> None:
        """The handshake, as WhisperLive's own clients send it."""
        usual = {"uid": self.uid, "language": "en", "task": "transcribe", "model": "tiny.en", "use_vad": True}
        self.send(json.dumps({name: value for name, value in (usual | fields).items() if value is not ...}))

    def burst(self, samples: Samples) -> None:
        """All at once, in frames of FRAME_S."""
        size = round(FRAME_S * RATE)
        for at in range(0, len(samples), size):
            if not self.send(samples[at : at + size].astype("<f4").tobytes()):
                return

    def speak(self, samples: Samples, stop: Callable[[], object] = lambda: False) -> None:
        """As fast as one speaks, until the end or `stop` holds."""
        size, began = round(FRAME_S * RATE), time.monotonic()
        for at in range(0, len(samples), size):
            if stop() or not self.send(samples[at : at + size].astype("<f4").tobytes()):
                return
            time.sleep(max(0.0, began + (at + size) / RATE - time.monotonic()))  # the pace of speech

    def end(self) -> None:
        self.send(b"END_OF_AUDIO")

    def wait(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Whether the condition held within the time; looked at whenever something comes, and when it closes."""
        with self._news:
            return self._news.wait_for(lambda: bool(condition()) or self.closed is not None, timeout_s) and bool(
                condition()
            )

    def wait_closed(self, timeout_s: float) -> Closed | None:
        self.wait(lambda: self.closed, timeout_s)
        return self.closed

    def ready(self) -> bool:
        return any(message.get("message") == "SERVER_READY" for message in self.messages)

    def wait_ready(self, timeout_s: float = 30) -> bool:
        return self.wait(self.ready, timeout_s)

    def statuses(self) -> list[str]:
        return [message["status"] for message in self.messages if "status" in message]

    def final(self) -> list[str]:
        """Completed segments' texts in order, each once."""
        by_start = {
            segment["start"]: segment["text"]
            for message in self.messages
            for segment in message.get("segments", [])
            if segment.get("completed")
        }
        return [by_start[start] for start in sorted(by_start, key=float)]

    def final_words(self) -> list[str]:
        return words(" ".join(self.final()))

    def all_words(self) -> list[str]:
        """Final words, and those of every partial: what a person could have read at any time."""
        shown = [segment["text"] for message in self.messages for segment in message.get("segments", [])]
        return words(" ".join(shown))


def canary(server: Server, timeout_s: float, *, end: bool = False) -> tuple[int, int, float]:
    """Real words on a new stream: how many of how many came, and after how many seconds."""
    samples, said = clip("short")
    began = time.monotonic()
    with Peer(server) as peer:
        peer.hello()
        peer.burst(np.concatenate([samples, silence(1.5)]))
        if end:
            peer.end()
            peer.wait_closed(timeout_s)
        else:
            peer.wait(lambda: found(said, peer.all_words()) >= len(said) - 1, timeout_s)
        return found(said, peer.all_words()), len(said), time.monotonic() - began
