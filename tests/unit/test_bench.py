"""What the benches make of what they heard: the arithmetic, without a server."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench import backlog, corpus, measures, serving, streaming, streams, tail
from bench.speech import RATE

SENTENCES = [corpus.Sentence(f"sentence number {n}", n * 3.0 + 1.0, n * 3.0 + 3.0) for n in range(10)]
SAMPLES = np.arange(32 * RATE, dtype=np.float32)


def final(at: float, start: float, end: float, text: str) -> measures.Arrival:
    segment = {"start": f"{start:.3f}", "end": f"{end:.3f}", "text": text, "completed": True}
    return measures.Arrival(at, [segment])


def test_a_part_begins_at_its_first_sentence_and_has_quiet_behind_its_last() -> None:
    said, samples = serving.part(SENTENCES[2:4], SAMPLES, quiet_s=0.5)
    assert [sentence.text for sentence in said] == ["sentence number 2", "sentence number 3"]
    assert said[0].start == 0.25
    assert samples[0] == (7.0 - 0.25) * RATE
    assert len(samples) / RATE == pytest.approx(said[-1].end + 0.5)
    assert not samples[round(said[-1].end * RATE) :].any()


def test_the_parts_of_a_run_are_the_whole_reading() -> None:
    parts = streaming.cut(SENTENCES, SAMPLES, 3)
    assert [said.text for part in parts for said in part[0]] == [said.text for said in SENTENCES]


def test_a_runs_row_counts_all_its_parts() -> None:
    heard = streaming.Heard("ours")
    for part in streaming.cut(SENTENCES[:2], SAMPLES, 2):
        (sentence,), audio = part
        streamed = serving.Streamed([final(sentence.end + 0.7, 0.25, sentence.end, sentence.text)])
        heard.add(streamed, part[0], 1.0, len(audio) / RATE)
    row = heard.row("sentence number 0 sentence number 1", 0.05)
    assert (row.wer_all, row.wer_completed, row.flicker, row.taken_back) == (0.0, 0.0, 0.0, 0)
    assert row.final_p95_s == pytest.approx(0.7)
    assert row.cpu_per_audio_s == pytest.approx(2.0 / 6.5)


def test_a_partial_counts_for_all_the_text_and_not_for_the_completed() -> None:
    streamed = serving.Streamed([final(1.0, 0.0, 1.0, "one"), final(2.0, 0.0, 1.0, "one")])
    streamed.arrivals[-1].segments.append({"start": "1.0", "end": "2.0", "text": "two", "completed": False})
    assert (streamed.text(), streamed.text(with_partial=True)) == ("one", "one two")


def test_stops_are_spread_over_the_reading() -> None:
    lasts = [tail.cut(SENTENCES, number, 5)[0][-1].text for number in range(5)]
    assert lasts == [f"sentence number {n}" for n in (0, 2, 4, 6, 8)]
    said, burst_s = tail.cut(SENTENCES, 2, 5)
    assert burst_s == said[-1].start - said[0].start


@pytest.mark.parametrize(
    ("heard", "missing"),
    [("one two three", 0), ("one two tree", 0), ("one two", 1), ("", 3), ("two three", 0), ("One, two, three!", 0)],
)
def test_words_missing_at_the_end(heard: str, missing: int) -> None:
    assert tail.missing_at_end("One two three.", heard) == missing


def test_words_deleted_anywhere() -> None:
    assert backlog.deleted("one two three four", "one three for") == 1


def test_ratios() -> None:
    assert backlog.Caught(6.0, 4.0, 0.1, 0.1, 0).ratio == 1.5
    assert streams.Pair(1.0, 2.0, 1.1, 2.4, 1, 8.0).ratios == (1.1, 1.2)


def test_a_stream_without_an_end_never_ended() -> None:
    assert serving.Streamed().end_s == math.inf
