"""Stop right after the last word: how soon END comes, and whether a word is missing.

    python -m bench.tail [--stops 50] [--json out.json]

Each stop is a stream of its own: what was said before is sent at once, the last sentence at the pace of speech, and
END_OF_AUDIO in the instant of its last sample. A word counts as missing that neither the stream nor a slip of the
model accounts for: the alignment with the text has lost more words than that of the same model's offline decoding.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer

from bench import corpus, measures, serving

BEFORE = (2, 0, 3, 1)
"""Sentences said before the last one, in turn."""


@dataclass(frozen=True)
class Stop:
    """One stop: seconds to END, words of the last sentence's end that are missing, streamed and offline."""

    end_s: float
    missing: int
    missing_offline: int
    text: str


def cut(sentences: Sequence[corpus.Sentence], number: int, stops: int) -> tuple[list[corpus.Sentence], float]:
    """The sentences of a stop, spread over the reading, and how many seconds of them are sent at once."""
    last = (number * len(sentences)) // stops
    first = max(0, last - BEFORE[number % len(BEFORE)])
    said = list(sentences[first : last + 1])
    return said, said[-1].start - said[0].start


def missing_at_end(reference: str, heard: str) -> int:
    """Words at the text's end to which nothing that was heard corresponds."""
    said, got = measures.plain(reference), measures.plain(heard)
    if not got:
        return len(said.split())
    last = jiwer.process_words(said, got).alignments[0][-1]
    return last.ref_end_idx - last.ref_start_idx if last.type == "delete" else 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stops", type=int, default=50)
    parser.add_argument("--corpus", type=Path, default=serving.ROOT / "build" / "corpus")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    sentences, samples = serving.reading(options.corpus)
    whisper = serving.offline_model()
    stops: list[Stop] = []
    with serving.serving("ours") as server:
        for number in range(options.stops):
            chosen, burst_s = cut(sentences, number, options.stops)
            said, audio = serving.part(chosen, samples, quiet_s=0.0)
            streamed = serving.stream(server.url, audio, burst_s=burst_s)
            text = " ".join(sentence.text for sentence in said)
            lost = missing_at_end(text, serving.offline(whisper, audio)[0])
            stops.append(Stop(streamed.end_s, missing_at_end(text, streamed.text()), lost, streamed.text()))
    ends = [stop.end_s for stop in stops]
    lost_words = sum(max(0, stop.missing - stop.missing_offline) for stop in stops)
    sys.stdout.write(
        f"{len(stops)} stops: END after p50 {measures.percentile(ends, 0.5):.2f} s, "
        f"p95 {measures.percentile(ends, 0.95):.2f} s, at most {max(ends):.2f} s; "
        f"words missing at the end: {sum(stop.missing for stop in stops)}, "
        f"offline {sum(stop.missing_offline for stop in stops)}, more than offline {lost_words}\n"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(stop) for stop in stops], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
