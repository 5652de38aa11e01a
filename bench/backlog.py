"""A backlog, sent as fast as the socket takes it: every word, and how long beside offline decoding.

    python -m bench.backlog [--seconds 120] [--times 5] [--json out.json]

Offline and streamed take turns on the same audio; the ratio of each pair is what counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import measures, serving
from bench.speech import RATE


@dataclass(frozen=True)
class Caught:
    """One backlog caught up with; WER in shares of 1."""

    took_s: float
    offline_s: float
    wer: float
    wer_offline: float
    missing: list[str]
    """Words to which nothing in the transcript corresponds (measures.missing), and offline's."""
    missing_offline: list[str]
    more: list[str]
    """Missing here and not in offline decoding."""

    @property
    def ratio(self) -> float:
        return self.took_s / self.offline_s


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--corpus", type=Path, default=serving.ROOT / "build" / "corpus")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    sentences, samples = serving.reading(options.corpus)
    said, audio = serving.part([s for s in sentences if s.end <= options.seconds], samples)
    text = " ".join(sentence.text for sentence in said)
    whisper = serving.offline_model()
    serving.offline(whisper, audio[: 5 * RATE])
    caught: list[Caught] = []
    with serving.serving("ours") as server:
        for _ in range(options.times):
            offline_text, offline_s = serving.offline(whisper, audio)
            streamed = serving.stream(server.url, audio, pace=1e9)
            words = measures.plain(text).split()
            lost, lost_offline = measures.missing(text, streamed.text()), measures.missing(text, offline_text)
            caught.append(
                Caught(
                    streamed.took_s,
                    offline_s,
                    measures.word_error_rate(text, streamed.text()),
                    measures.word_error_rate(text, offline_text),
                    [words[place] for place in lost],
                    [words[place] for place in lost_offline],
                    [words[place] for place in lost if place not in lost_offline],
                )
            )
    sys.stdout.write(
        f"{options.times} times {options.seconds:g} s at once: "
        f"took {measures.summary([c.took_s for c in caught])} s, "
        f"offline {measures.summary([c.offline_s for c in caught])} s, "
        f"ratio {measures.summary([c.ratio for c in caught])}; "
        f"WER {measures.summary([100 * c.wer for c in caught])} %, "
        f"offline {measures.summary([100 * c.wer_offline for c in caught])} %; "
        f"words missing {measures.summary([float(len(c.missing)) for c in caught])}, "
        f"offline {measures.summary([float(len(c.missing_offline)) for c in caught])}, "
        f"here and not offline {measures.summary([float(len(c.more)) for c in caught])}\n"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(c) | {"ratio": c.ratio} for c in caught], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
