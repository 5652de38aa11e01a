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
    text = streaming.Text("first", tuple(streaming.cut(SENTENCES[:2], SAMPLES, 2)), "sentence number 0 sentence 1")
    heard = streaming.Heard("ours", text)
    for part in text.parts:
        (sentence,), audio = part
        streamed = serving.Streamed([final(sentence.end + 0.7, 0.25, sentence.end, sentence.text)])
        heard.add(streamed, part[0], 1.0, len(audio) / RATE)
    row = heard.row()
    assert row.wer_offline == pytest.approx(1 / 6)
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
    ("said", "heard", "missing"),
    [
        ("One two three.", "one two three", []),
        ("One two three.", "one two tree", []),
        ("One two three.", "one two", ["three"]),
        ("One two three.", "", ["one", "two", "three"]),
        ("One two three.", "two three", ["one"]),
        ("one two three four", "one three for", ["two"]),
        ("No changes. No changes.", "No changes.", ["no", "changes"]),
        # As it was heard once: two words fewer, and none of them missing.
        ("like the steps of a staircase", "like the step semester case", []),
        # A word is lost beside one that is misheard.
        ("forty tons of coal each day", "forty tons of cold", ["each", "day"]),
        ("and coal takes up room", "cold takes up room", []),
        ("The account holds four thousand two hundred and fifty pounds.", "The account holds £4,250.", []),
        ("The account holds four thousand two hundred and fifty pounds.", "The account holds 4,250.", ["pounds"]),
    ],
)
def test_a_word_is_missing_that_was_not_heard_at_all(said: str, heard: str, missing: list[str]) -> None:
    words = measures.plain(said).split()
    assert [words[place] for place in measures.missing(said, heard)] == missing


@pytest.mark.parametrize(
    ("spelled", "said"),
    [
        ("£4,250", "four thousand two hundred fifty pounds"),
        ("It cost $180.", "it cost one hundred eighty dollars"),
        ("12% and 1,200", "twelve percent one thousand two hundred"),
        ("In 1994, on the 21st.", "in nineteen ninety four on the twenty first"),
        ("It's 5 o'clock", "it's five o'clock"),
    ],
)
def test_numbers_and_signs_are_words(spelled: str, said: str) -> None:
    assert measures.plain(spelled) == said


def test_a_stop_tells_the_end_from_the_middle_and_names_what_offline_has() -> None:
    stop = tail.judged("one two three four", "one three", "one two three", 0.9)
    assert (stop.missing, stop.at_end, stop.missing_offline, stop.more) == (
        ["two", "four"],
        ["four"],
        ["four"],
        ["two"],
    )


def test_ratios() -> None:
    assert backlog.Caught(6.0, 4.0, 0.1, 0.1, [], [], []).ratio == 1.5
    assert streams.Pair(1.0, 2.0, 1.1, 2.4, 1, 8.0).ratios == (1.1, 1.2)


def test_a_stream_without_an_end_never_ended() -> None:
    assert serving.Streamed().end_s == math.inf
