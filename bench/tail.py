"""Stop right after the last word: how soon END comes, and whether a word is missing.

    python -m bench.tail [--stops 50] [--json out.json]

Each stop is a stream of its own: what was said before is sent at once, the last sentence at the pace of speech, and
END_OF_AUDIO in the instant of its last sample. Missing is a word of the text to which nothing in the transcript
corresponds, letter for letter (measures.missing): one that is heard as another is not missing. Beside it stands what
the same model's offline decoding of the same samples misses.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import corpus, measures, serving

BEFORE = (2, 0, 3, 1)
"""Sentences said before the last one, in turn."""


@dataclass(frozen=True)
class Stop:
    """One stop: seconds to END, the words that are missing, those at the very end among them, and both texts."""

    end_s: float
    missing: list[str]
    at_end: list[str]
    missing_offline: list[str]
    more: list[str]
    """Missing here and there in offline decoding."""
    said: str
    text: str
    offline: str


def cut(sentences: Sequence[corpus.Sentence], number: int, stops: int) -> tuple[list[corpus.Sentence], float]:
    """The sentences of a stop, spread over the reading, and how many seconds of them are sent at once."""
    last = (number * len(sentences)) // stops
    first = max(0, last - BEFORE[number % len(BEFORE)])
    said = list(sentences[first : last + 1])
    return said, said[-1].start - said[0].start


def judged(said: str, text: str, offline: str, end_s: float) -> Stop:
    """A stop, by what was said, what was heard and what offline decoding heard."""
    words = measures.plain(said).split()
    lost, lost_offline = measures.missing(said, text), measures.missing(said, offline)
    ending = [place for place in lost if set(range(place, len(words))) <= set(lost)]

    def named(places: Sequence[int]) -> list[str]:
        return [words[place] for place in places]

    return Stop(
        end_s,
        named(lost),
        named(ending),
        named(lost_offline),
        named([place for place in lost if place not in lost_offline]),
        said,
        text,
        offline,
    )


def listed(words: Sequence[str]) -> str:
    return f"{len(words)} ({', '.join(words)})" if words else "none"


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
            stops.append(judged(text, streamed.text(), serving.offline(whisper, audio)[0], streamed.end_s))
    ends = [stop.end_s for stop in stops]
    sys.stdout.write(
        f"{len(stops)} stops: END after p50 {measures.percentile(ends, 0.5):.2f} s, "
        f"p95 {measures.percentile(ends, 0.95):.2f} s, at most {max(ends):.2f} s; "
        f"{sum(len(measures.plain(stop.said).split()) for stop in stops)} words, "
        f"missing at the end {listed([word for stop in stops for word in stop.at_end])}, "
        f"anywhere {listed([word for stop in stops for word in stop.missing])}, "
        f"offline {listed([word for stop in stops for word in stop.missing_offline])}, "
        f"here and not offline {listed([word for stop in stops for word in stop.more])}\n"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(stop) for stop in stops], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
