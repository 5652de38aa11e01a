"""Streamed against offline: word errors, time to final, flicker and CPU, ours and stock in one run.

    python -m bench.streaming --runs 3 [--reading first,held-out] [--at-once [--stock-nice 10]] [--json out.json]

Real-time pace on purpose: that is how people speak. The readings are bench/corpus.py's, each as one stream (or in
`--parts`, a stream each), and offline decoding hears the same. The servers take turns, so that each has the machine
to itself while it hears; with `--at-once` all hear at the same time, each reading a server of its own. `--add` adds
the runs to those that the JSON file holds already.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import corpus, measures, serving
from bench.speech import RATE

Part = tuple[list[corpus.Sentence], serving.Samples]


@dataclass(frozen=True)
class Text:
    """A reading, cut into parts, and what the model makes of them offline: one text and its WER over all."""

    reading: str
    parts: tuple[Part, ...]
    offline: str

    @property
    def reference(self) -> str:
        return " ".join(sentence.text for said, _ in self.parts for sentence in said)

    @property
    def wer_offline(self) -> float:
        return measures.word_error_rate(self.reference, self.offline)


@dataclass(frozen=True)
class Row:
    """One run of one server. WER in shares of 1, times in seconds, flicker in erased words per final word."""

    server: str
    reading: str
    wer_completed: float
    wer_all: float
    wer_offline: float
    final_p50_s: float
    final_p95_s: float
    flicker: float
    taken_back: int
    cpu_per_audio_s: float
    first_text_s: float
    load: float
    """The machine's, of its last five minutes, when the run ended."""


@dataclass
class Heard:
    """What one server said to the parts of one reading in one run."""

    server: str
    text: Text
    completed: list[str] = field(default_factory=list)
    everything: list[str] = field(default_factory=list)
    finals: list[float] = field(default_factory=list)
    erased: float = 0.0
    taken_back: int = 0
    first: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    audio_s: float = 0.0

    def add(
        self, streamed: serving.Streamed, sentences: Sequence[corpus.Sentence], cpu_s: float, audio_s: float
    ) -> None:
        """Count one part in."""
        arrivals = streamed.arrivals
        self.completed.append(streamed.text())
        self.everything.append(streamed.text(with_partial=True))
        self.finals += measures.times_to_final(arrivals, sentences)
        self.erased += measures.flicker(arrivals) * len(measures.plain(self.everything[-1]).split())
        self.taken_back += measures.taken_back(arrivals)
        self.first += [arrival.at for arrival in arrivals[:1]]
        self.cpu_s += cpu_s
        self.audio_s += audio_s

    def row(self) -> Row:
        """The run's figures against the text that was read."""
        reference = self.text.reference
        everything = " ".join(self.everything)
        return Row(
            server=self.server,
            reading=self.text.reading,
            wer_completed=measures.word_error_rate(reference, " ".join(self.completed)),
            wer_all=measures.word_error_rate(reference, everything),
            wer_offline=self.text.wer_offline,
            final_p50_s=measures.percentile(self.finals, 0.5),
            final_p95_s=measures.percentile(self.finals, 0.95),
            flicker=self.erased / max(1, len(measures.plain(everything).split())),
            taken_back=self.taken_back,
            cpu_per_audio_s=self.cpu_s / self.audio_s,
            first_text_s=measures.percentile(self.first, 0.5) if self.first else float("inf"),
            load=round(os.getloadavg()[1], 1),
        )


def cut(sentences: Sequence[corpus.Sentence], samples: serving.Samples, count: int) -> list[Part]:
    """The reading in `count` parts of about as many sentences each."""
    edges = [round(number * len(sentences) / count) for number in range(count + 1)]
    return [serving.part(list(sentences[a:b]), samples) for a, b in itertools.pairwise(edges) if b > a]


def one_run(
    servers: Sequence[str],
    texts: Sequence[Text],
    environment: dict[str, str],
    number: int,
    *,
    at_once: bool,
    stock_nice: int,
) -> list[Heard]:
    """Every server hears every part of every text; each is a fresh process a text, and who begins alternates."""
    pairs = [(name, text) for text in texts for name in servers]
    with ExitStack() as stack:
        listening = []
        for name, text in pairs[:: 1 if number % 2 == 0 else -1]:
            nice = stock_nice if name == "stock" else 0
            running = stack.enter_context(serving.serving(name, environment, nice))
            listening.append((running, Heard(name, text)))

        def listen(server: serving.Server, heard: Heard) -> None:
            for sentences, audio in heard.text.parts:
                before = server.cpu_seconds()
                streamed = serving.stream(server.url, audio)
                heard.add(streamed, sentences, server.cpu_seconds() - before, len(audio) / RATE)

        threads = [threading.Thread(target=listen, args=one) for one in listening]
        for thread in threads:
            thread.start()
            if not at_once:
                thread.join()
        for thread in threads:
            thread.join()
    return [heard for _, heard in listening]


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line a reading and server, medians with their spread."""
    lines = [
        "| reading | server | runs | offline WER, % | WER, % | WER streamed − offline, points "
        "| completed − all, points | final p50, s | final p95, s | flicker | taken back | CPU s per audio s | load |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for reading, server in sorted({(row.reading, row.server) for row in rows}):
        ours = [row for row in rows if (row.reading, row.server) == (reading, server)]
        cells = [
            measures.summary([100 * row.wer_offline for row in ours]),
            measures.summary([100 * row.wer_all for row in ours]),
            measures.summary([100 * (row.wer_all - row.wer_offline) for row in ours]),
            measures.summary([100 * (row.wer_completed - row.wer_all) for row in ours]),
            measures.summary([row.final_p50_s for row in ours]),
            measures.summary([row.final_p95_s for row in ours]),
            measures.summary([row.flicker for row in ours]),
            measures.summary([float(row.taken_back) for row in ours]),
            measures.summary([row.cpu_per_audio_s for row in ours]),
            measures.summary([row.load for row in ours]),
        ]
        lines.append(f"| {reading} | {server} | {len(ours)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def text_of(reading: str, folder: Path, seconds: float | None, count: int, whisper: object) -> Text:
    """The reading, or so many seconds of it, in parts and decoded offline."""
    sentences, samples = serving.reading(folder, reading)
    if seconds:
        sentences = [sentence for sentence in sentences if sentence.end <= seconds]
    parts = tuple(cut(sentences, samples, count))
    return Text(reading, parts, " ".join(serving.offline(whisper, audio)[0] for _, audio in parts))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--reading", default="first", help="first, held-out or both, with a comma between")
    parser.add_argument("--at-once", action="store_true", help="all servers hear at the same time")
    parser.add_argument("--seconds", type=float, help="only so much of each reading")
    parser.add_argument("--servers", default="ours,stock")
    parser.add_argument("--stock-nice", type=int, default=0, help="added to stock's niceness")
    parser.add_argument("--corpus", type=Path, default=serving.ROOT / "build" / "corpus", help="the first reading's")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="launcher's environment")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--add", action="store_true", help="to the runs in the JSON file")
    options = parser.parse_args(arguments)

    folders = {"first": options.corpus, "held-out": serving.ROOT / "build" / "held-out"}
    readings = options.reading.split(",")
    if not set(readings) <= set(folders):
        parser.error(f"--reading knows {', '.join(folders)}")
    environment = dict(setting.split("=", 1) for setting in options.set)
    whisper = serving.offline_model()
    texts = [text_of(reading, folders[reading], options.seconds, options.parts, whisper) for reading in readings]
    rows: list[Row] = []
    said: list[dict[str, Any]] = []
    if options.add and options.json and options.json.exists():
        before = json.loads(options.json.read_text())
        rows, said = [Row(**row) for row in before["rows"]], before["texts"]
    for number in range(options.runs):
        heard = one_run(
            options.servers.split(","),
            texts,
            environment,
            number,
            at_once=options.at_once,
            stock_nice=options.stock_nice,
        )
        rows += [one.row() for one in heard]
        said += [
            {
                "server": one.server,
                "reading": one.text.reading,
                "text": " ".join(one.everything),
                "offline": one.text.offline,
                "finals": one.finals,
            }
            for one in heard
        ]
        sys.stderr.write(f"run {number + 1} of {options.runs}\n{table(rows)}\n")
        if options.json:
            result = {"rows": [asdict(row) for row in rows], "texts": said}
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    for text in texts:
        count = len(measures.plain(text.reference).split())
        sys.stdout.write(f"{text.reading}: {count} words; offline WER {100 * text.wer_offline:.2f} %\n")
    sys.stdout.write(f"\n{table(rows)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
