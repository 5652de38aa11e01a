"""A bare WebSocket speaker for tests: the protocol by hand, none of the product's client in it."""

from __future__ import annotations

import json
import re
import uuid
import wave
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bench.tls import threaded_tls

RATE = 16000
ROOT = Path(__file__).resolve().parent.parent
CHECK = ROOT / "whisperctl" / "speech" / "check.wav"
TRAIN = ROOT / "tests" / "speech" / "train.wav"
SHORT = ROOT / "tests" / "speech" / "short.wav"


def pcm(path: Path) -> NDArray[np.float32]:
    """Samples of a 16 kHz mono 16-bit WAV, float32 in [-1, 1]."""
    with wave.open(str(path)) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (RATE, 1, 2)
        samples = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2")
    return (samples.astype(np.float32) / 32768).astype("<f4")


def said(path: Path) -> str:
    """The words that were spoken in the clip."""
    return path.with_suffix(".txt").read_text()


def word_error_rate(reference: str, heard: str) -> float:
    """Errors per reference word, case and punctuation aside."""
    return float(jiwer.wer(plain_words(reference), plain_words(heard)))


def plain_words(text: str) -> str:
    """Lower case words, single spaces between them, without punctuation."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


@dataclass
class Heard:
    """Everything one connection was told."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    close_code: int | None = None
    close_reason: str = ""

    def statuses(self) -> list[str]:
        return [message["status"] for message in self.messages if "status" in message]

    def completed(self) -> list[dict[str, Any]]:
        """Completed segments in order, each once (by start)."""
        found: dict[str, dict[str, Any]] = {}
        for message in self.messages:
            for segment in message.get("segments", []):
                if segment["completed"]:
                    found[segment["start"]] = segment
        return sorted(found.values(), key=lambda segment: float(segment["start"]))

    def text(self) -> str:
        return " ".join(segment["text"].strip() for segment in self.completed())


def handshake(**changes: Any) -> str:
    return json.dumps(
        {"uid": str(uuid.uuid4()), "task": "transcribe", "language": "en", "model": "tiny.en", "use_vad": True}
        | changes
    )


def dial(url: str, ticket: str | None, ca_cert: str | None) -> ClientConnection:
    """Connect as a browser does: the ticket rides in the subprotocols."""
    context = threaded_tls(ca_cert) if url.startswith("wss:") else None
    offered = [Subprotocol("bearer"), Subprotocol(ticket)] if ticket is not None else None
    return connect(url, ssl=context, subprotocols=offered, open_timeout=15, max_size=None)


def listen(connection: ClientConnection, heard: Heard, until: str | None = None, timeout: float = 60) -> Heard:
    """Collect messages until `until` (a status, or SERVER_READY), or until the server closes."""
    try:
        while True:
            message = json.loads(connection.recv(timeout=timeout))
            heard.messages.append(message)
            if until is not None and until in (message.get("status"), message.get("message")):
                return heard
    except ConnectionClosed as closed:
        if closed.rcvd is not None:
            heard.close_code, heard.close_reason = closed.rcvd.code, closed.rcvd.reason
        else:
            heard.close_code = 1006
    return heard


def speak(
    url: str,
    ticket: str | None,
    ca_cert: str | None,
    samples: NDArray[np.float32],
    frames: Iterable[bytes] | None = None,
    **hello: Any,
) -> Heard:
    """Send everything in one burst, END_OF_AUDIO right behind it, and hear the connection out."""
    heard = Heard()
    with dial(url, ticket, ca_cert) as connection:
        connection.send(handshake(**hello))
        listen(connection, heard, until="SERVER_READY")
        if heard.close_code is None:
            for frame in frames if frames is not None else frames_of(samples):
                connection.send(frame)
            connection.send(b"END_OF_AUDIO")
            listen(connection, heard)
    return heard


def frames_of(samples: NDArray[np.float32], seconds: float = 0.25) -> Iterable[bytes]:
    size = int(seconds * RATE)
    for at in range(0, len(samples), size):
        yield samples[at : at + size].tobytes()
