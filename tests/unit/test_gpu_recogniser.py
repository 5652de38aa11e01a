"""The recogniser with audio, ears and model of the test's own: what it decodes, and what it makes of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_bootstrap.audio import AudioBuffer, Samples
from gpu_bootstrap.commit import Piece
from gpu_bootstrap.frames import RATE
from gpu_bootstrap.recogniser import Heard, Policy, Recogniser
from gpu_bootstrap.windows import Span


class Speech:
    """Audio whose samples tell the second they are of, so that a decode can say which words it was given."""

    def __init__(self, spans: list[Span], length: float, policy: Policy | None = None, known_s: float = 0.0) -> None:
        self.spans = spans
        self.ramp: Samples = np.zeros(round(length * RATE), np.float32)
        for number, (start, end) in enumerate(spans):
            self.ramp[round(start * RATE) : round(end * RATE)] = number + 1
        self.audio = AudioBuffer()
        self.decodes: list[tuple[float, bool]] = []
        self.decoding: Callable[[], None] = lambda: None
        """What happens while a decode runs."""
        self.recogniser = Recogniser(self.audio, policy or Policy(), self.listen, self.decode, known_s=known_s)

    def listen(self, window: Samples, _base: float = 0.0) -> list[Span]:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], window > 0, [False]]).astype(int)))
        return [(a / RATE, b / RATE) for a, b in edges.reshape(-1, 2).tolist()]

    def decode(self, samples: Samples, final: bool, _earlier: str) -> list[Piece]:
        self.decodes.append((len(samples) / RATE, final))
        self.decoding()
        found = []
        for start, end in self.listen(samples):
            number = int(samples[round((start + end) / 2 * RATE)])
            found.append(Piece(start, end, f" word{number} again{number} more{number} last{number}"))
        return found

    def run(self, frame_s: float = 0.1, *, continued: bool = False) -> list[Heard]:
        heard: list[Heard] = []
        step = round(frame_s * RATE)
        for at in range(0, len(self.ramp), step):
            self.audio.append(self.ramp[at : at + step])
            heard += [found for found in [self.recogniser.step()] if found]
        self.audio.finish(continued=continued)
        steps = 0
        while not self.recogniser.over:
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


def test_a_sentence_that_a_restart_cuts_is_left_open() -> None:
    speech = Speech([(0.5, 3.0), (4.0, 6.0)], 6.0)
    heard = speech.run(continued=True)
    assert final_text(heard) == said(speech.spans[:1])
    assert "".join(piece.text for piece in heard[-1].open).split()[0] == "word2"
    assert 3.0 <= speech.audio.done <= 4.0  # a client that comes back begins here


def test_a_sentence_that_has_ended_when_a_restart_comes_is_final() -> None:
    speech = Speech([(0.5, 3.0), (4.0, 6.0)], 6.5)
    assert final_text(speech.run(continued=True)) == said(speech.spans)


def test_a_restart_in_silence_ends() -> None:
    assert Speech([], 5.0).run(continued=True)[-1].final == ()


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
    while not speech.recogniser.over:
        heard += [found for found in [speech.recogniser.step(8.0)] if found]
    assert final_text(heard) == said(spans)
    assert len(speech.decodes) >= 6


pauses = st.lists(st.tuples(st.floats(0.2, 4.0), st.floats(0.9, 6.0)), max_size=8)


@settings(deadline=None)
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


def test_an_utterance_is_decoded_before_its_pause_is_over_and_not_again() -> None:
    speech = Speech([(0.5, 3.0)], 5.0, Policy(open_step_s=9.0))
    heard_at: list[float] = []
    speech.decoding = lambda: heard_at.append(speech.audio.received)
    heard = speech.run()
    assert final_text(heard) == said(speech.spans)
    assert [final for _, final in speech.decodes] == [True]
    assert 3.2 <= heard_at[0] < 3.35


def test_when_the_voice_returns_before_the_pause_is_over_the_utterance_is_read_whole() -> None:
    speech = Speech([(0.5, 3.0), (3.35, 5.0)], 7.0, Policy(open_step_s=9.0))
    heard = speech.run()
    finals = [found for found in heard if found.final]
    assert len(finals) == 1
    assert final_text(heard) == said(speech.spans)
    assert any(found.open for found in heard), "what was decoded too early is shown as open"


def test_the_voice_returns_while_the_early_decode_runs() -> None:
    """Then the pause has been long enough, or not: either way every word comes once."""
    for back_at in (3.3, 3.38, 3.42, 3.5):
        speech = Speech([(0.5, 3.0), (back_at, 5.0)], 7.0, Policy(open_step_s=9.0))
        fed = 0

        def hear_on(speech: Speech = speech) -> None:
            nonlocal fed
            more = min(len(speech.ramp), fed + RATE // 2)
            speech.audio.append(speech.ramp[fed:more])
            fed = more

        speech.decoding = hear_on
        heard: list[Heard] = []
        while fed < len(speech.ramp):
            speech.audio.append(speech.ramp[fed : fed + 1600])
            fed = min(len(speech.ramp), fed + 1600)
            heard += [found for found in [speech.recogniser.step()] if found]
        speech.audio.finish()
        while not speech.recogniser.over:
            heard += [found for found in [speech.recogniser.step()] if found]
        assert final_text(heard) == said(speech.spans), back_at


def test_the_end_amid_an_early_decode_needs_no_other() -> None:
    speech = Speech([(0.5, 3.0)], 3.25, Policy(open_step_s=9.0))
    speech.decoding = speech.audio.finish
    assert final_text(speech.run()) == said(speech.spans)
    assert len(speech.decodes) == 1


def test_the_end_right_after_the_last_word_is_one_decode() -> None:
    speech = Speech([(0.5, 3.0)], 3.0, Policy(open_step_s=9.0))
    assert final_text(speech.run()) == said(speech.spans)
    assert len(speech.decodes) == 1


def test_a_stream_dropped_amid_an_early_decode_says_nothing_more() -> None:
    speech = Speech([(0.5, 3.0)], 5.0, Policy(open_step_s=9.0))
    speech.decoding = speech.audio.abandon
    for at in range(0, round(3.4 * RATE), 1600):
        speech.audio.append(speech.ramp[at : at + 1600])
        heard = speech.recogniser.step()
        if speech.audio.abandoned:
            break
    assert speech.audio.abandoned
    assert heard is None or not heard.final
    assert speech.recogniser.step() is None


def test_pauses_at_the_threshold_again_and_again() -> None:
    for pause in (0.36, 0.38, 0.4, 0.42, 0.44):
        spans = [(0.5 + n * (1.5 + pause), 2.0 + n * (1.5 + pause)) for n in range(12)]
        speech = Speech([(round(a, 3), round(b, 3)) for a, b in spans], spans[-1][1] + 1.0)
        assert final_text(speech.run()) == said(spans), pause


def test_a_minute_without_a_pause_becomes_final_on_the_way() -> None:
    speech = Speech([(0.5, 60.0)], 61.0)
    heard = speech.run()
    first = next(found for found in heard if found.final)
    assert first.decoded_until is not None
    assert first.decoded_until < 32.0


def test_open_words_are_not_decoded_when_a_pause_has_likely_begun() -> None:
    """Such a decode would delay that of the utterance's end by its own length."""
    speech = Speech([(0.5, 3.0)], 5.0, Policy(open_step_s=0.1))
    begun: list[float] = []
    speech.decoding = lambda: begun.append(speech.audio.received)
    speech.run()
    assert not [at for at, (_, final) in zip(begun, speech.decodes, strict=True) if not final and at > 3.09]


def test_the_rest_of_a_word_that_was_said_before_is_not_said_again() -> None:
    speech = Speech([(0.0, 0.7), (1.2, 3.0)], 4.0, known_s=1.0)
    heard = speech.run()
    assert final_text(heard) == " word2 again2 more2 last2"
    assert {found.base for found in heard if found.final} == {1.0}, "it is read from where the one before was done"
    assert all(length <= 2.4 for length, _ in speech.decodes), "and not together with what was before"


def test_who_speaks_on_across_the_end_of_what_was_known_is_heard_from_the_beginning() -> None:
    speech = Speech([(0.0, 3.0)], 4.0, known_s=1.0)
    heard = speech.run()
    assert final_text(heard) == said(speech.spans)
    assert heard[0].base == 0.0
    backlog = Speech([(0.0, 3.0)], 4.0, known_s=1.0)
    assert final_text(backlog.run(4.0)) == said(speech.spans)


def test_a_stream_that_ends_with_what_was_known_says_nothing() -> None:
    speech = Speech([(0.0, 0.7)], 1.0, known_s=1.0)
    assert final_text(speech.run()) == ""
    assert speech.decodes == []
    assert speech.audio.done == 1.0
