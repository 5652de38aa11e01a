"""What a streamed transcript is measured by. Pure: messages with their arrival times in, numbers out."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jiwer
from num2words import num2words

from bench.corpus import Sentence


@dataclass(frozen=True)
class Arrival:
    """One message of the server: seconds since the first sample was sent, and its segments."""

    at: float
    segments: list[dict[str, Any]]


@dataclass
class Transcript:
    """What a reader has seen so far: completed segments by start, and the partial behind them."""

    completed: dict[str, dict[str, Any]] = field(default_factory=dict)
    partial: str = ""

    def take(self, segments: Sequence[dict[str, Any]]) -> None:
        self.partial = ""
        for segment in segments:
            if segment["completed"]:
                self.completed[segment["start"]] = segment
            else:
                self.partial = segment["text"]

    def ordered(self) -> list[dict[str, Any]]:
        return sorted(self.completed.values(), key=lambda segment: float(segment["start"]))

    def words(self, with_partial: bool) -> list[str]:
        text = " ".join(segment["text"] for segment in self.ordered())
        return plain(text + " " + self.partial if with_partial else text).split()


SIGNS = {"£": "pounds", "$": "dollars", "€": "euros", "%": "percent"}


def plain(text: str) -> str:
    """Lower case, digits and signs as words, no punctuation: two spellings of one reading compare equal."""
    text = re.sub(r"([£$€])\s*(\d[\d,.]*\d|\d)", r"\2\1", text.lower())
    text = re.sub(
        r"(?<!\d)(?<!\d[,.])(1[1-9]\d\d)(?![,.]?\d|[%£$€])",
        lambda hit: f" {num2words(int(hit[1]), to='year')} ",
        text,
    )
    text = re.sub(r"(\d),(\d{3})", r"\1\2", text)
    text = re.sub(r"[£$€%]", lambda hit: f" {SIGNS[hit[0]]} ", text)
    text = re.sub(r"(\d+)(st|nd|rd|th)\b", lambda hit: f" {num2words(int(hit[1]), to='ordinal')} ", text)
    text = re.sub(r"\d+", lambda hit: f" {num2words(int(hit[0]))} ", text)
    return " ".join(word for word in re.findall(r"[a-z']+", text) if word != "and")


def missing(reference: str, heard: str) -> list[int]:
    """Words of the reference that were not heard at all, as their places among `plain(reference)`'s words.

    A word that was heard as another one is not missing, nor are several that were heard as fewer: where the two
    texts differ their letters are aligned, and a word is missing when most of its letters have no counterpart.
    """
    said, got = plain(reference).split(), plain(heard).split()
    if not said or not got:
        return list(range(len(said)))
    lost: list[int] = []
    for first, last, begin, end in _different(said, got):
        letters = "".join(said[first:last])
        alone = _unheard(letters, "".join(got[begin:end]))
        at = 0
        for place in range(first, last):
            length = len(said[place])
            lost += [place] if sum(alone[at : at + length]) > length / 2 else []
            at += length
    return lost


def _different(said: Sequence[str], got: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Where the two differ: runs of words without an equal one between them, as places in both."""
    found: list[tuple[int, int, int, int]] = []
    for chunk in jiwer.process_words(" ".join(said), " ".join(got)).alignments[0]:
        here = (chunk.ref_start_idx, chunk.ref_end_idx, chunk.hyp_start_idx, chunk.hyp_end_idx)
        if chunk.type == "equal":
            continue
        if found and (found[-1][1], found[-1][3]) == (here[0], here[2]):
            here = (found[-1][0], here[1], found[-1][2], here[3])
            found.pop()
        found.append(here)
    return found


def _unheard(said: str, got: str) -> list[bool]:
    """Which letters have no counterpart in the best alignment."""
    if not said or not got:
        return [True] * len(said)
    alone = [False] * len(said)
    for chunk in jiwer.process_characters(said, got).alignments[0]:
        if chunk.type == "delete":
            alone[chunk.ref_start_idx : chunk.ref_end_idx] = [True] * (chunk.ref_end_idx - chunk.ref_start_idx)
    return alone


def word_error_rate(reference: str, heard: str) -> float:
    """Errors per reference word, between 0 and above."""
    return float(jiwer.wer(plain(reference), plain(heard)))


def flicker(arrivals: Sequence[Arrival]) -> float:
    """Words taken back on the way, per word in the end.

    A word is taken back when the display loses it or changes it: all of the previous display behind the
    longest common prefix with the next one. A partial that vanishes and returns counts each time.
    """
    shown: list[str] = []
    erased = 0
    transcript = Transcript()
    for arrival in arrivals:
        transcript.take(arrival.segments)
        now = transcript.words(with_partial=True)
        same = next(
            (i for i, (a, b) in enumerate(zip(shown, now, strict=False)) if a != b), min(len(shown), len(now))
        )
        erased += len(shown) - same
        shown = now
    return erased / max(1, len(shown))


def taken_back(arrivals: Sequence[Arrival]) -> int:
    """Completed segments whose text changed later, or that vanished from under a window that covers them."""
    seen: dict[str, str] = {}
    wrong = 0
    for arrival in arrivals:
        for segment in arrival.segments:
            if segment["completed"]:
                before = seen.setdefault(segment["start"], segment["text"])
                wrong += before != segment["text"]
    return wrong


def times_to_final(arrivals: Sequence[Arrival], sentences: Sequence[Sentence], slack: float = 0.6) -> list[float]:
    """For each sentence: seconds from its last sample being sent to its end being covered by completed text.

    `slack` allows for a segment that ends where Whisper puts the last word's end, a little early. A sentence
    that is never covered counts as infinity.
    """
    times = []
    for sentence in sentences:
        final = next(
            (
                arrival.at
                for arrival in arrivals
                if any(s["completed"] and float(s["end"]) >= sentence.end - slack for s in arrival.segments)
            ),
            float("inf"),
        )
        times.append(max(0.0, final - sentence.end))
    return times


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of them lie, nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, round(share * len(ranked)) - 1))]


def summary(values: Sequence[float]) -> str:
    """Median with its spread, for a table."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"
