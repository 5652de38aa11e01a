"""What one decode is given, and how its tokens become segments."""

from __future__ import annotations

import numpy as np
import pytest

from gpu_bootstrap.reading import MOST_FRAMES, QUIET_S, SHORT_WINDOW_S, WINDOW_S, frames, split

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
