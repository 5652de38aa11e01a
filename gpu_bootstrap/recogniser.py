"""One stream's recognition, a step at a time: which audio to decode when, and what its words are worth.

No thread and no clock: the launcher's decoding thread drives it with audio as it comes (engine.EdgeClient), the
replay under bench/ with the same audio in a time of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpu_bootstrap.audio import AudioBuffer, Samples
from gpu_bootstrap.commit import SETTLED_TIMES, Agreement, Piece, Verdict
from gpu_bootstrap.context import Context, behind
from gpu_bootstrap.frames import RATE
from gpu_bootstrap.shown import Shown
from gpu_bootstrap.windows import BREATH_S, LEAD_S, LONGEST_S, PAUSE_S, Span, Stretch, gaps, join, next_stretch

PATIENCE = 2.0
"""Times the last decode's length that passes before open words are read again: a slow host must keep up."""
MOST_LAG_S = 3.0


@dataclass(frozen=True)
class Policy:
    """When to decode and what to believe; docs/launcher.md has the measurements behind the defaults. Seconds."""

    pause_s: float = PAUSE_S
    """Silence that ends an utterance."""
    early_s: float = 0.2
    """Silence after which an utterance is decoded on the chance that it has ended: its words are final if no voice
    returns before the pause is over. 0 for never."""
    hesitate_s: float = 0.1
    """Silence after which open words are not decoded: the decode would delay that of the utterance's end."""
    step_s: float = 0.1
    """New audio after which the voice detector listens again: a part of the pause that ends an utterance."""
    open_step_s: float = 0.9
    """New audio after which speech that goes on is decoded again."""
    shortest_s: float = 1.0
    """Speech that goes on is decoded from this length on; Whisper makes up words for less."""
    agree_from_s: float = 10.0
    """Speech that goes on without a pause becomes final by agreement of decodes from this length on."""
    settled_times: int = SETTLED_TIMES
    vad: bool = True
    context: bool = True
    in_time_s: float = 1.2
    """A final decode that takes longer than this is to hear less of what was said before; see Context.longest_s."""
    steady: bool = True


@dataclass(frozen=True)
class Heard:
    """What a step found. Pieces in seconds from `base`, a time of the stream; `open` is to be shown as one."""

    base: float
    final: tuple[Piece, ...] = ()
    open: tuple[Piece, ...] = ()
    decoded_until: float | None = None
    """Up to where of the stream a decode has read; None when there was none."""


Decode = Callable[[Samples, bool, str], Sequence[Piece]]
"""Samples, whether their words are final, and the text said before, to pieces in seconds from the first sample."""
Listen = Callable[[Samples, float], list[Span]]
"""A window and the stream's second that it begins at, to where in it a voice is heard."""
KNOWN_SLACK_S = 0.05
"""A voice detector that begins in the middle of a word hears its end by so much otherwise."""
ROUNDING_S = 0.5 / RATE
"""Two sums of the same samples differ in their last bits."""


@dataclass(frozen=True)
class Early:
    """An utterance decoded before its pause was over: its pieces, in seconds from `start`, a time of the stream."""

    start: float
    voice_end: float
    pieces: tuple[Piece, ...]


class Recogniser:
    """Reads the audio buffer from one thread; `step` says what is new.

    `known_s`: an earlier connection was done with so many seconds of it. Half a word that is heard again there would
    be misheard, and be final.
    """

    def __init__(
        self, audio: AudioBuffer, policy: Policy, listen: Listen, decode: Decode, *, known_s: float = 0.0
    ) -> None:
        self._audio = audio
        self._known_s = known_s
        self._policy = policy
        self._listen = listen
        self._decode = decode
        self._agreement = Agreement(policy.settled_times)
        self._context = Context()
        self._shown = Shown()
        self._examined = 0.0
        self._opened = 0.0
        self._lag_s = 0.0
        self._early: Early | None = None
        self._left_open = False

    @property
    def over(self) -> bool:
        """Whether no step is of use any more: the stream has ended, and all of it is done or was left open."""
        return self._audio.finished and (self._left_open or self._audio.received <= self._audio.done)

    @property
    def next_at(self) -> float:
        """The stream's second up to which audio must be there before a step is of use."""
        return self._examined + self._policy.step_s

    def step(self, slice_s: float = LONGEST_S) -> Heard | None:
        """Look at what is there and decode at most once; None when nothing is to be said.

        `slice_s`: the longest stretch to decode at once. Whatever `decode` raises goes through, and the audio
        stays.
        """
        audio, policy = self._audio, self._policy
        finished, continued = audio.finished, audio.continued
        window, base = audio.window(slice_s + 2.0), audio.done
        length = len(window) / RATE
        if not length or (not finished and base + length < self.next_at):
            return None
        self._examined = base + length
        more = audio.received - self._examined > ROUNDING_S
        heard_at = self._listen(window, base) if policy.vad else [(0.0, length)]
        if self._known_s:
            return self._know(heard_at, base, length)
        speech = join(heard_at, BREATH_S)
        stretch = next_stretch(
            speech,
            length,
            finished=finished and not more and not continued,
            pause_s=policy.pause_s,
            longest_s=slice_s,
        )
        if stretch.start > ROUNDING_S:
            self._agreement.reset()
            self._shown.reset()
            audio.advance(stretch.start)
        if stretch.closed or stretch.full:
            heard = self._read(window, stretch, speech)
            self._examined = self._opened = audio.done
            return heard
        if continued and not more:
            return self._leave_open(window, base, stretch, speech)
        if stretch.end == stretch.start:
            if more or finished:
                self._examined = audio.done
            return Heard(audio.done)
        if more:
            self._examined = base  # the window grows with what waits already; no use in decoding it before
            return None
        return self._open(window, base, stretch, speech)

    def _know(self, heard_at: Sequence[Span], base: float, length: float) -> Heard | None:
        """Let go what was known before, unless somebody speaks on across its end: then all of it is heard again."""
        at = self._known_s - base
        if length < at + self._policy.step_s and not self._audio.finished:
            return None
        crossing = any(start < at - KNOWN_SLACK_S and end > at + KNOWN_SLACK_S for start, end in heard_at)
        if not crossing:
            self._audio.advance(at)
        self._known_s = 0.0
        self._examined = self._opened = self._audio.done
        return Heard(self._audio.done)

    def _open(self, window: Samples, base: float, stretch: Stretch, speech: list[Span]) -> Heard | None:
        """Speech that goes on, as far as one can tell: decode it if it is time to."""
        policy = self._policy
        voice_end = speech[-1][1]
        quiet = stretch.end - voice_end
        if policy.vad and policy.early_s and quiet >= policy.early_s and self._lag_s <= policy.in_time_s:
            if self._early is not None and self._fits(self._early, base + voice_end):
                return None
            ended = replace(stretch, end=min(voice_end + LEAD_S, stretch.end))
            samples, spoken = _cut_out(window, ended, speech)
            pieces = self._read_in_context(samples, spoken)
            self._early = Early(base + stretch.start, base + voice_end, tuple(pieces))
            self._opened = self._examined
            return Heard(self._audio.done, (), self._steady(tuple(pieces)), base + ended.end)
        if policy.vad and policy.early_s and quiet >= policy.hesitate_s:
            return None
        if stretch.end - stretch.start >= policy.shortest_s and self._examined >= self._opened + max(
            policy.open_step_s, PATIENCE * self._lag_s
        ):
            heard = self._read(window, stretch, speech)
            self._opened = self._examined
            return heard
        return None

    def _leave_open(self, window: Samples, base: float, stretch: Stretch, speech: list[Span]) -> Heard:
        """What was being said when the stream was cut: its words as far as they go, none of them final."""
        self._left_open = True
        if stretch.end == stretch.start:
            return Heard(self._audio.done)
        if self._early is not None and self._fits(self._early, base + speech[-1][1]):
            pieces = self._early.pieces
        else:
            pieces = tuple(self._read_in_context(*_cut_out(window, stretch, speech)))
        return Heard(self._audio.done, (), _joined(pieces), base + stretch.end)

    def _fits(self, early: Early, voice_end: float) -> bool:
        """Whether the early decode is of what begins where all is done, and heard all of its voice."""
        return abs(early.start - self._audio.done) < ROUNDING_S and voice_end < early.voice_end + ROUNDING_S

    def _timed(self, samples: Samples, final: bool, earlier: str = "") -> list[Piece]:
        """Decode, and take the audio that came meanwhile as the time it took: all the clock there is."""
        received = self._audio.received
        pieces = list(self._decode(samples, final, earlier))
        if not self._audio.finished:
            self._lag_s = min(self._audio.received - received, MOST_LAG_S)
        return pieces

    def _read(self, window: Samples, stretch: Stretch, speech: list[Span]) -> Heard:
        """Decode the stretch, unless that was done early; be done with what became final."""
        samples, spoken = _cut_out(window, stretch, speech)
        length = len(samples) / RATE
        early, self._early = self._early, None
        if stretch.closed:
            base = self._audio.done - stretch.start
            voice_end = max(base + end for begin, end in speech if begin < stretch.end)
            if early is not None and self._fits(early, voice_end):
                pieces: Sequence[Piece] = early.pieces
            else:
                pieces = self._read_in_context(samples, spoken)
            verdict = self._agreement.closed(pieces, length)
        elif stretch.full:
            verdict = self._agreement.full(self._decode(samples, True, ""), length)
        elif length < self._policy.agree_from_s and self._policy.vad:
            verdict = Verdict((), tuple(self._timed(samples, False)), 0.0)
        else:
            quiet = gaps(speech, stretch.start, stretch.end) if self._policy.vad else None
            verdict = self._agreement.growing(self._timed(samples, False), length, quiet)
        base = self._audio.done
        if verdict.final or stretch.closed:
            self._shown.reset()
            done = samples[: round(verdict.done * RATE)]
            self._context.remember(done, "".join(piece.text for piece in verdict.final))
        self._audio.advance(verdict.done)
        return Heard(base, verdict.final, self._steady(verdict.open), base + length)

    def _read_in_context(self, samples: Samples, spoken_s: float) -> list[Piece]:
        context = self._context.before(samples) if self._policy.context else []
        if context:
            joint = np.concatenate([*(said.samples for said in context), samples])
            seam_s = (len(joint) - len(samples)) / RATE
            joined = self._timed(joint, True, self._context.earlier(context))
            self._context.paced(self._lag_s / self._policy.in_time_s)
            pieces = behind(joined, seam_s, context, spoken_s)
            if pieces is not None:
                return pieces
        pieces = self._timed(samples, True)
        self._context.paced(self._lag_s / self._policy.in_time_s)
        return pieces

    def _steady(self, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        """The open pieces as one, its words only as sure as they may be shown."""
        if not pieces or not self._policy.steady:
            return _joined(pieces)
        (whole,) = _joined(pieces)
        text = self._shown.take(whole.text)
        words = whole.words[: len(text.split())] if whole.words else None
        return (replace(whole, text=text, words=words),)


def _joined(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """The pieces as one; none of none."""
    if not pieces:
        return ()
    words = tuple(word for piece in pieces for word in piece.words or ())
    text = "".join(piece.text for piece in pieces)
    return (Piece(pieces[0].start, pieces[-1].end, text, words or None),)


def _cut_out(window: Samples, stretch: Stretch, speech: Sequence[Span]) -> tuple[Samples, float]:
    """The stretch's samples, and the seconds of voice in it."""
    samples = window[round(stretch.start * RATE) : round(stretch.end * RATE)]
    return samples, sum(max(0.0, min(end, stretch.end) - max(begin, stretch.start)) for begin, end in speech)
