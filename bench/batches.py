"""Several streams spoken at the same time: ours, stock WhisperLive, and stock in its batch mode, in turns.

    python -m bench.batches [--streams 4] [--seconds 60] [--servers ours,stock,stock-batch] [--json out.json]

Each stream is another part of the reading. Stock in batch mode collects the decodes of its streams for 50 ms and runs
them as one; ours runs two at a time, one core each (gpu_bootstrap/turns.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from bench import measures, serving, streaming
from bench.speech import RATE


def spoken(name: str, text: streaming.Text) -> streaming.Row:
    """All parts of the text at once to one server; the figures over all of them."""
    heard = streaming.Heard(name, text)
    with serving.serving(name) as server, ThreadPoolExecutor(len(text.parts)) as pool:
        before = server.cpu_seconds()
        streams = list(pool.map(lambda part: serving.stream(server.url, part[1]), text.parts))
        used = server.cpu_seconds() - before
    for streamed, (sentences, audio) in zip(streams, text.parts, strict=True):
        heard.add(streamed, sentences, used / len(streams), len(audio) / RATE)
    return heard.row()


def table(rows: Sequence[streaming.Row]) -> str:
    lines = [
        "| server | WER, % | completed only, % | final p50, s | final p95, s | flicker | CPU s per audio s | load |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            f"{100 * row.wer_all:.1f}",
            f"{100 * row.wer_completed:.1f}",
            f"{row.final_p50_s:.2f}",
            f"{row.final_p95_s:.2f}",
            f"{row.flicker:.2f}",
            f"{row.cpu_per_audio_s:.2f}",
            f"{row.load:g}",
        )
        lines.append(f"| {row.server} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0, help="what each stream says, about")
    parser.add_argument("--servers", default="ours,stock,stock-batch")
    parser.add_argument("--corpus", type=Path, default=serving.ROOT / "build" / "corpus")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    text = streaming.text_of(
        "first", options.corpus, options.seconds * options.streams, options.streams, serving.offline_model()
    )
    rows = [spoken(name, text) for name in options.servers.split(",")]
    sys.stdout.write(
        f"{len(text.parts)} streams at once, {len(measures.plain(text.reference).split())} words together; "
        f"offline WER of the same parts {100 * text.wer_offline:.1f} %\n\n{table(rows)}\n"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
