"""The recogniser with audio, ears and model of the test's own: what it decodes, and what it makes of it."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpu_bootstrap.audio import AudioBuffer, Samples
from gpu_bootstrap.commit import Piece
from gpu_bootstrap.frames import RATE
from gpu_bootstrap.recogniser import Heard, Policy, Recogniser
from gpu_bootstrap.windows import Span


class Speech:
    """Audio whose samples tell the second they are of, so that a decode can say which words it was given."""

    def __init__(self, spans: list[Span], length: float, policy: Policy | None = None) -> None:
        self.spans = spans
        self.ramp: Samples = np.zeros(round(length * RATE), np.float32)
        for number, (start, end) in enumerate(spans):
            self.ramp[round(start * RATE) : round(end * RATE)] = number + 1
        self.audio = AudioBuffer()
        self.decodes: list[tuple[float, bool]] = []
        self.recogniser = Recogniser(self.audio, policy or Policy(), self.listen, self.decode)

    def listen(self, window: Samples, _base: float = 0.0) -> list[Span]:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], window > 0, [False]]).astype(int)))
        return [(a / RATE, b / RATE) for a, b in edges.reshape(-1, 2).tolist()]

    def decode(self, samples: Samples, final: bool, _earlier: str) -> list[Piece]:
        self.decodes.append((len(samples) / RATE, final))
        found = []
        for start, end in self.listen(samples):
            number = int(samples[round((start + end) / 2 * RATE)])
            found.append(Piece(start, end, f" word{number} again{number} more{number} last{number}"))
        return found

    def run(self, frame_s: float = 0.1) -> list[Heard]:
        heard: list[Heard] = []
        step = round(frame_s * RATE)
        for at in range(0, len(self.ramp), step):
            self.audio.append(self.ramp[at : at + step])
            heard += [found for found in [self.recogniser.step()] if found]
        self.audio.finish()
        steps = 0
        while self.audio.received > self.audio.done:
            steps += 1
            assert steps < 1000, f"no end at {self.audio.done} of {self.audio.received}"
            heard += [found for found in [self.recogniser.step()] if found]
        return heard


def final_text(heard: list[Heard]) -> str:
    return "".join(piece.text for found in heard for piece in found.final)


def said(spans: list[Span]) -> str:
    return "".join(f" word{n} again{n} more{n} last{n}" for n in range(1, len(spans) + 1))


def test_each_utterance_is_final_once_and_soon() -> None:
    speech = Speech([(0.5, 3.0), (4.0, 6.0), (7.0, 9.0)], 10.0)
    heard = speech.run()
    assert final_text(heard) == said(speech.spans)
    ends = [found.decoded_until for found in heard if found.final]
    assert [end is not None and end - span[1] < 0.4 for end, span in zip(ends, speech.spans, strict=True)] == [
        True
    ] * 3


def test_an_utterance_is_read_behind_what_was_said_before() -> None:
    speech = Speech([(0.5, 3.0), (4.0, 6.0)], 7.0)
    speech.run()
    first, second = [length for length, final in speech.decodes if final]
    assert first < 3.5
    assert second > first + 2.0


def test_without_context_it_is_read_alone() -> None:
    speech = Speech([(0.5, 3.0), (4.0, 6.0)], 7.0, Policy(context=False))
    assert final_text(speech.run()) == said(speech.spans)
    assert max(length for length, _ in speech.decodes) < 3.5


def test_silence_is_never_decoded_but_acknowledged() -> None:
    speech = Speech([], 5.0)
    heard = speech.run()
    assert speech.decodes == []
    bases = [found.base for found in heard]
    assert bases == sorted(bases)
    assert bases[-1] == 5.0


def test_a_backlog_is_decoded_in_slices() -> None:
    spans = [(n * 3.0 + 0.5, n * 3.0 + 2.5) for n in range(12)]
    speech = Speech(spans, 37.0)
    speech.audio.append(speech.ramp)
    speech.audio.finish()
    heard = []
    while speech.audio.received > speech.audio.done:
        heard += [found for found in [speech.recogniser.step(8.0)] if found]
    assert final_text(heard) == said(spans)
    assert len(speech.decodes) >= 6


pauses = st.lists(st.tuples(st.floats(0.2, 4.0), st.floats(0.9, 6.0)), max_size=8)


@given(pauses, st.sampled_from([0.03, 0.1, 0.25, 1.0, 5.0]))
def test_every_word_once_whatever_the_pauses_and_frames(shape: list[tuple[float, float]], frame_s: float) -> None:
    at, spans = 0.0, []
    for pause, length in shape:
        spans.append((round(at + pause, 2), round(at + pause + length, 2)))
        at += pause + length
    speech = Speech(spans, at + 0.7)
    heard = speech.run(frame_s)
    assert final_text(heard) == said(spans)
    times = [(found.base + piece.start, found.base + piece.end) for found in heard for piece in found.final]
    assert all(start <= end for start, end in times)
    assert all(one[0] <= other[0] + 1e-6 for one, other in itertools.pairwise(times))
