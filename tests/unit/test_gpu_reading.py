"""What one decode is given, and how its tokens become segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpu_bootstrap.audio import Samples
from gpu_bootstrap.frames import RATE
from gpu_bootstrap.reading import MOST_FRAMES, QUIET_S, SHORT_WINDOW_S, WINDOW_S, Reader, Segment, frames, split

BEGIN, EOT = 1000, 900


def stamp(seconds: float) -> int:
    return BEGIN + round(seconds / 0.02)


@pytest.mark.parametrize(
    ("length_s", "window_s", "heard_s"),
    [
        (3.0, 0.0, 3.0 + QUIET_S),
        (3.0, SHORT_WINDOW_S, SHORT_WINDOW_S),
        (19.5, SHORT_WINDOW_S, 19.5 + QUIET_S),
        (3.0, WINDOW_S, 30.0),
        (29.0, 0.0, 30.0),
    ],
)
def test_the_encoder_hears_the_samples_and_some_quiet(length_s: float, window_s: float, heard_s: float) -> None:
    features = np.ones((80, round(100 * length_s) + 1), np.float32)
    heard = frames(features, length_s, window_s)
    assert heard.shape == (80, round(100 * heard_s))
    assert heard.sum() == 80 * round(100 * length_s), "all that was said, and nothing but quiet behind it"


def test_an_odd_count_of_frames_is_made_even() -> None:
    assert frames(np.ones((80, 334), np.float32), 3.33, 0.0).shape[1] % 2 == 0


def test_never_more_than_the_encoder_takes() -> None:
    assert frames(np.ones((80, 4000), np.float32), 40.0, 0.0).shape == (80, MOST_FRAMES)


def test_segments_lie_between_their_timestamps() -> None:
    tokens = [stamp(0.0), 1, 2, stamp(1.5), stamp(2.0), 3, stamp(3.0), EOT]
    assert split(tokens, BEGIN, EOT, 4.0) == [(0.0, 1.5, [1, 2]), (2.0, 3.0, [3])]


def test_a_segment_left_open_is_kept_and_ends_with_the_samples() -> None:
    assert split([stamp(0.0), 1, stamp(1.0), stamp(1.0), 2, 3], BEGIN, EOT, 4.0) == [
        (0.0, 1.0, [1]),
        (1.0, 4.0, [2, 3]),
    ]


def test_a_decode_of_nothing_is_no_segment() -> None:
    assert split([stamp(0.0), stamp(2.0), EOT], BEGIN, EOT, 4.0) == []


class Model:
    """As much of WhisperLive's model as a reader asks before its passes."""

    def get_prompt(self, *_args: object, **_kwargs: object) -> list[int]:
        return []


class Passes(Reader):
    """A reader whose passes end where a test says, in seconds from their first sample."""

    def __init__(self, *ends: float) -> None:
        super().__init__(Model())
        self._ends = list(ends)
        self.lengths: list[float] = []

    def _tokenizer(self, *_: str) -> tuple[Any, list[int]]:
        return None, []

    def _pass(self, samples: Samples, *_: object) -> list[Segment]:
        self.lengths.append(len(samples) / RATE)
        return [Segment(0.0, self._ends.pop(0), "words", -0.2, 0.0)]


@pytest.mark.parametrize(
    ("ends", "lengths", "times"),
    [
        ((13.9,), [14.7], [(0.0, 13.9)]),
        # "people say today" takes 1.5 s; Whisper stopped before it.
        ((13.2, 1.4), [14.7, 1.5], [(0.0, 13.2), (13.2, 14.6)]),
    ],
)
def test_words_that_a_pass_stopped_before_are_read_by_themselves(
    ends: tuple[float, ...], lengths: list[float], times: list[tuple[float, float]]
) -> None:
    reader = Passes(*ends)
    found = reader.read(
        np.zeros(round(14.7 * RATE), np.float32),
        language="en", task="transcribe", initial_prompt=None, hotwords=None, beam_size=5, window_s=30.0,
    )  # fmt: skip
    assert reader.lengths == pytest.approx(lengths)
    assert [(one.start, one.end) for one in found] == [pytest.approx(time) for time in times]
