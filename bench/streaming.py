"""Streamed against offline: word errors, time to final, flicker and CPU, ours and stock in one run.

    python -m bench.streaming --runs 3 [--parts 4] [--servers ours,stock] [--at-once] [--json out.json]

Real-time pace on purpose: that is how people speak. The reading is cut into parts; the servers take turns part by
part, so that each has the machine to itself while it hears and a machine that changes disturbs them alike. With
`--at-once` all hear the whole at the same time instead: harder for both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import corpus, measures, serving
from bench.speech import RATE


@dataclass(frozen=True)
class Row:
    """One run of one server. WER in shares of 1, times in seconds, flicker in erased words per final word."""

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


@dataclass
class Heard:
    """What one server said to the parts of one run."""

    server: str
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

    def row(self, reference: str, wer_offline: float) -> Row:
        """The run's figures against the text that was read."""
        everything = " ".join(self.everything)
        return Row(
            server=self.server,
            wer_completed=measures.word_error_rate(reference, " ".join(self.completed)),
            wer_all=measures.word_error_rate(reference, everything),
            wer_offline=wer_offline,
            final_p50_s=measures.percentile(self.finals, 0.5),
            final_p95_s=measures.percentile(self.finals, 0.95),
            flicker=self.erased / max(1, len(measures.plain(everything).split())),
            taken_back=self.taken_back,
            cpu_per_audio_s=self.cpu_s / self.audio_s,
            first_text_s=measures.percentile(self.first, 0.5) if self.first else float("inf"),
        )


Part = tuple[list[corpus.Sentence], serving.Samples]


def cut(sentences: Sequence[corpus.Sentence], samples: serving.Samples, count: int) -> list[Part]:
    """The reading in `count` parts of about as many sentences each."""
    edges = [round(number * len(sentences) / count) for number in range(count + 1)]
    return [serving.part(list(sentences[a:b]), samples) for a, b in itertools.pairwise(edges) if b > a]


def one_run(
    servers: Sequence[str], parts: Sequence[Part], environment: dict[str, str], number: int, *, at_once: bool
) -> list[Heard]:
    """Every server hears every part; each is a fresh process, and who begins alternates."""
    heard = {name: Heard(name) for name in servers}
    with ExitStack() as stack:
        running = [stack.enter_context(serving.serving(name, environment)) for name in servers]

        def listen(server: serving.Server, part: Part) -> None:
            sentences, audio = part
            before = server.cpu_seconds()
            streamed = serving.stream(server.url, audio)
            spent = server.cpu_seconds() - before
            heard[server.name].add(streamed, sentences, spent, len(audio) / RATE)

        for turn, part in enumerate(parts):
            order = running if (turn + number) % 2 == 0 else running[::-1]
            threads = [threading.Thread(target=listen, args=(server, part)) for server in order]
            for thread in threads:
                thread.start()
                if not at_once:
                    thread.join()
            for thread in threads:
                thread.join()
    return [heard[name] for name in servers]


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
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--at-once", action="store_true", help="all servers hear at the same time")
    parser.add_argument("--seconds", type=float, help="only so much of the reading")
    parser.add_argument("--servers", default="ours,stock")
    parser.add_argument("--corpus", type=Path, default=serving.ROOT / "build" / "corpus")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="launcher's environment")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)

    sentences, samples = serving.reading(options.corpus)
    if options.seconds:
        sentences = [sentence for sentence in sentences if sentence.end <= options.seconds]
    reference = " ".join(sentence.text for sentence in sentences)
    environment = dict(setting.split("=", 1) for setting in options.set)
    parts = cut(sentences, samples, options.parts)
    whisper = serving.offline_model()
    offline = " ".join(serving.offline(whisper, audio)[0] for _, audio in parts)
    wer_offline = measures.word_error_rate(reference, offline)
    whole = serving.offline(whisper, serving.part(sentences, samples)[1])[0]
    wer_whole = measures.word_error_rate(reference, whole)
    rows: list[Row] = []
    texts: list[dict[str, Any]] = []
    for number in range(options.runs):
        heard = one_run(options.servers.split(","), parts, environment, number, at_once=options.at_once)
        rows += [one.row(reference, wer_offline) for one in heard]
        texts += [{"server": one.server, "text": " ".join(one.everything), "finals": one.finals} for one in heard]
        sys.stderr.write(f"run {number + 1} of {options.runs}\n{table(rows)}\n")
        if options.json:
            offlines = {"offline_wer": wer_offline, "whole_wer": wer_whole}
            result = offlines | {"rows": [asdict(row) for row in rows], "texts": texts}
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(
        f"{len(measures.plain(reference).split())} words; offline WER of the same parts "
        f"{100 * wer_offline:.2f} %, of the whole at once {100 * wer_whole:.2f} %\n\n{table(rows)}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
