from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gpu_bootstrap.windows import LEAD_S, LONGEST_S, PAUSE_S, Stretch, gaps, join, next_stretch


def test_silence_is_dropped_but_for_the_breath_before_a_word() -> None:
    assert next_stretch([], 5.0, finished=False) == Stretch(5 - LEAD_S - PAUSE_S, 5 - LEAD_S - PAUSE_S)
    assert next_stretch([], 0.2, finished=False) == Stretch(0.0, 0.0)
    assert next_stretch([], 5.0, finished=True) == Stretch(5.0, 5.0)


def test_speech_that_goes_on_is_open() -> None:
    assert next_stretch([(2.0, 5.0)], 5.2, finished=False) == Stretch(2 - LEAD_S, 5.2)


def test_a_pause_closes_an_utterance() -> None:
    assert next_stretch([(1.0, 3.0)], 3.6, finished=False) == Stretch(1 - LEAD_S, 3 + LEAD_S, closed=True)


def test_a_breath_does_not() -> None:
    assert next_stretch([(1.0, 2.0), (2.2, 3.0)], 3.2, finished=False) == Stretch(1 - LEAD_S, 3.2)


def test_the_end_of_the_stream_closes_everything() -> None:
    assert next_stretch([(1.0, 3.0)], 3.1, finished=True) == Stretch(1 - LEAD_S, 3.1, closed=True)


def test_utterances_that_wait_are_decoded_together_up_to_the_longest_window() -> None:
    waiting = [(1.0, 9.0), (10.0, 19.0), (20.0, 29.5)]
    assert next_stretch(waiting, 30.0, finished=True) == Stretch(1 - LEAD_S, 19 + LEAD_S, closed=True)


def test_utterances_far_apart_are_decoded_apart() -> None:
    assert next_stretch([(1.0, 2.0), (6.0, 7.0)], 9.0, finished=False) == Stretch(1 - LEAD_S, 2 + LEAD_S, closed=True)


def test_a_cut_in_a_short_gap_takes_half_of_it() -> None:
    open_after = [(1.0, 2.0), (2.5, 4.0)]
    assert next_stretch(open_after, 4.1, finished=False, pause_s=0.4) == Stretch(1 - LEAD_S, 2.25, closed=True)


def test_speech_without_a_pause_is_cut_in_its_widest_breath() -> None:
    breaths = [(0.0, 8.0), (8.3, 17.0), (17.2, 22.0), (22.3, 30.0)]
    assert next_stretch(breaths, 30.0, finished=False) == Stretch(0.0, (22.0 + 22.3) / 2, closed=True)


def test_speech_without_a_breath_fills_the_window() -> None:
    assert next_stretch([(0.0, 30.0)], 30.0, finished=False) == Stretch(0.0, LONGEST_S, full=True)
    assert next_stretch([(0.0, 30.0)], 30.0, finished=True) == Stretch(0.0, LONGEST_S, full=True)


def test_gaps_are_told_from_the_start_of_the_stretch() -> None:
    assert gaps([(1.0, 2.0), (2.5, 3.0), (4.0, 5.0)], 1.0, 3.5) == [(1.0, 1.5)]


spans = st.lists(st.floats(0, 30, allow_nan=False), max_size=12, unique=True).map(
    lambda ends: list(zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False))
)


@given(spans, st.floats(0, 2), st.booleans())
def test_a_stretch_lies_in_the_window_and_fits_whisper(
    speech: list[tuple[float, float]], rest: float, finished: bool
) -> None:
    length = max((end for _, end in speech), default=0.0) + rest
    stretch = next_stretch(speech, length, finished=finished)
    assert 0 <= stretch.start <= stretch.end <= length
    assert stretch.end - stretch.start <= LONGEST_S + 2 * LEAD_S
    # No speech is ever dropped unheard.
    assert all(start >= stretch.start for start, _ in speech)


@given(spans, st.floats(0, 2))
def test_a_finished_stream_comes_to_its_end(speech: list[tuple[float, float]], rest: float) -> None:
    """Stretch after stretch, everything is decoded and nothing is looked at for ever."""
    length = max((end for _, end in speech), default=0.0) + rest
    for _ in range(50):
        stretch = next_stretch(speech, length, finished=True)
        done = stretch.end
        speech = [(max(0.0, start - done), end - done) for start, end in speech if end > done]
        length -= done
        if length <= 1e-9:
            return
    raise AssertionError(f"{length} s are left after 50 stretches: {speech}")


@given(spans, st.floats(0, 3))
def test_joined_spans_are_apart_by_the_pause(speech: list[tuple[float, float]], pause: float) -> None:
    joined = join(speech, pause)
    assert all(after[0] - before[1] >= pause for before, after in itertools.pairwise(joined))
