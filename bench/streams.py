"""Three streams that are being spoken, alone and beside a fourth with a backlog: what it costs them.

    python -m bench.streams [--seconds 60] [--backlog 60] [--times 5] [--once] [--json out.json]

Alone: three streams at the pace of speech, each another part of the reading, and nothing else. Beside: the same
three, and a fourth that sends its backlog at once and, unless `--once` is given, begins again with another as soon
as it has caught up, so that there is one until the three have ended. The two take turns on one server.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import corpus, measures, serving

LIVE = 3


@dataclass(frozen=True)
class Pair:
    """Seconds from a pause to its words being final, over all sentences of the three, alone and beside a backlog."""

    alone_p50_s: float
    alone_p95_s: float
    beside_p50_s: float
    beside_p95_s: float
    caught_up: int
    """Backlogs decoded to the end meanwhile."""
    caught_up_s: float

    @property
    def ratios(self) -> tuple[float, float]:
        return self.beside_p50_s / self.alone_p50_s, self.beside_p95_s / self.alone_p95_s


Part = tuple[list[corpus.Sentence], serving.Samples]


def together(url: str, parts: Sequence[Part]) -> list[float]:
    """Stream the parts at the same time; the times to final of all their sentences."""
    times: list[float] = []

    def speak(part: Part) -> None:
        times.extend(measures.times_to_final(serving.stream(url, part[1]).arrivals, part[0]))

    threads = [threading.Thread(target=speak, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def beside(
    url: str, parts: Sequence[Part], backlog: serving.Samples, *, once: bool
) -> tuple[list[float], list[float]]:
    """The same beside a backlog; and how long each backlog took that was decoded to its end."""
    spoken, took = threading.Event(), list[float]()

    def catch_up() -> None:
        while not spoken.is_set():
            took.append(serving.stream(url, backlog, pace=1e9).took_s)
            if once:
                return

    catching = threading.Thread(target=catch_up)
    catching.start()
    times = together(url, parts)
    spoken.set()
    catching.join()
    return times, took


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="what each of the three says")
    parser.add_argument("--backlog", type=float, default=60.0, help="seconds")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--once", action="store_true", help="one backlog, not one after another")
    parser.add_argument("--corpus", type=Path, default=serving.ROOT / "build" / "corpus")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    sentences, samples = serving.reading(options.corpus)

    def between(begin: float, length: float) -> Part:
        # A short reading is spoken from its beginning by all of them.
        begin %= max(1.0, sentences[-1].end - length)
        chosen = [said for said in sentences if said.start >= begin and said.end <= begin + length]
        return serving.part(chosen, samples)

    parts = [between(number * 100.0, options.seconds) for number in range(LIVE)]
    backlog = between(300.0, options.backlog)[1]
    pairs: list[Pair] = []
    with serving.serving("ours") as server:
        for _ in range(options.times):
            alone = together(server.url, parts)
            crowded, took = beside(server.url, parts, backlog, once=options.once)
            pairs.append(
                Pair(
                    measures.percentile(alone, 0.5),
                    measures.percentile(alone, 0.95),
                    measures.percentile(crowded, 0.5),
                    measures.percentile(crowded, 0.95),
                    len(took),
                    statistics.median(took),
                )
            )
            sys.stderr.write(f"{pairs[-1]}\n")
    sys.stdout.write(
        f"{options.times} times: final p50 {measures.summary([p.alone_p50_s for p in pairs])} s alone, "
        f"{measures.summary([p.beside_p50_s for p in pairs])} s beside, "
        f"ratio {measures.summary([p.ratios[0] for p in pairs])}; "
        f"p95 {measures.summary([p.alone_p95_s for p in pairs])} s alone, "
        f"{measures.summary([p.beside_p95_s for p in pairs])} s beside, "
        f"ratio {measures.summary([p.ratios[1] for p in pairs])}; "
        f"a backlog of {options.backlog:g} s took {measures.summary([p.caught_up_s for p in pairs])} s\n"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(p) | {"ratios": p.ratios} for p in pairs], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
