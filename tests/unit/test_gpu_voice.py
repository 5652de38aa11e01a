"""The voice detector's memory: the same spans however the stream is cut into windows."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_bootstrap.audio import Samples
from gpu_bootstrap.frames import RATE
from gpu_bootstrap.voice import CHUNK, Voice, voiced


class Loudness:
    """A detector that hears a voice where samples are loud; counts what it is given."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self, samples: Samples) -> list[float]:
        assert len(samples) % CHUNK == 0
        self.heard += len(samples)
        return [float(chunk.mean()) for chunk in samples.reshape(-1, CHUNK)]


def speech(*spans: tuple[float, float], length: float) -> Samples:
    samples = np.zeros(round(length * RATE), np.float32)
    for start, end in spans:
        samples[round(start * RATE) : round(end * RATE)] = 1.0
    return samples


def test_a_voice_is_heard_where_it_is() -> None:
    ((start, end),) = Voice({}, Loudness()).spans(speech((1.0, 2.0), length=3.0), 0.0)
    assert abs(start - 1.0) < 0.04
    assert abs(end - 2.0) < 0.04


def test_a_voice_that_goes_on_reaches_to_the_windows_end() -> None:
    window = speech((1.0, 2.0), length=2.01)[: round(1.999 * RATE)]
    assert Voice({}, Loudness()).spans(window, 0.0)[-1][1] == len(window) / RATE


def test_times_are_of_the_window_and_the_past_is_forgotten() -> None:
    voice, samples = Voice({}, Loudness()), speech((1.0, 2.0), (4.0, 5.0), length=6.0)
    assert len(voice.spans(samples, 0.0)) == 2
    ((start, end),) = voice.spans(samples[3 * RATE :], 3.0)
    assert abs(start - 1.0) < 0.04
    assert abs(end - 2.0) < 0.04


def test_too_short_a_voice_is_none_when_the_client_says_so() -> None:
    window = speech((1.0, 1.2), (2.0, 3.0), length=4.0)
    assert len(Voice({"min_speech_duration_ms": 500}, Loudness()).spans(window, 0.0)) == 1


def test_a_consonant_does_not_part_a_word_and_a_breath_does() -> None:
    assert voiced([0.9, 0.1, 0.9], 0.5, 0.35) == [(0, 3)]
    assert voiced([0.9, 0.1, 0.1, 0.9], 0.5, 0.35) == [(0, 1), (3, 4)]
    assert voiced([0.9, 0.4, 0.4, 0.9], 0.5, 0.35) == [(0, 4)], "between the thresholds nothing ends"


spans = st.lists(st.integers(0, 80), max_size=8, unique=True).map(
    lambda ends: [(a / 10, b / 10) for a, b in zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False)]
)


windows = st.lists(st.integers(800, 20_000), min_size=1, max_size=12)


def ends(steps: list[int], length: int) -> list[int]:
    """Where windows end that grow by the steps in turn."""
    found = [0]
    for step in itertools.cycle(steps):
        if found[-1] == length:
            return found[1:]
        found.append(min(length, found[-1] + step))
    raise AssertionError("no steps")


@settings(deadline=None, max_examples=15)
@given(spans, windows)
def test_a_growing_window_is_heard_as_if_at_once(said: list[tuple[float, float]], steps: list[int]) -> None:
    samples = speech(*said, length=8.0)
    voice = Voice({}, Loudness())
    for end in ends(steps, len(samples)):
        assert voice.spans(samples[:end], 0.0) == Voice({}, Loudness()).spans(samples[:end], 0.0)


@settings(deadline=None, max_examples=40)
@given(spans, windows, st.integers(0, 3))
def test_every_sample_is_heard_once_though_the_past_is_dropped(
    said: list[tuple[float, float]], steps: list[int], keep: int
) -> None:
    samples, loudness = speech(*said, length=8.0), Loudness()
    voice, base = Voice({}, loudness), 0
    for turn, end in enumerate(ends(steps, len(samples))):
        found = voice.spans(samples[base:end], base / RATE)
        assert all(0 <= start < stop <= (end - base) / RATE for start, stop in found)
        if turn % 4 == keep:
            base = end
    assert loudness.heard == len(samples) // CHUNK * CHUNK
