"""Which words of a decode are final. Pure.

Whisper decodes a growing window again and again, and its last words change as more audio arrives. Words become
final when speech has ended behind them, when two decodes in a row agree on them and more speech follows, or
when the window cannot grow any more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

SETTLED_TIMES = 3
"""Decodes with the same text, audio growing all the while, after which speech has ended even if no pause is heard."""
SETTLED_S = 1.0
"""Seconds of audio that must lie behind such a text."""
WORDLESS_S = 5.0
"""A stretch this long without a word is done with, but for its last second."""
SNAP_S = 0.5
"""Whisper's times are off by this much; an audible gap that near is where the words really part."""

Gap = tuple[float, float]
"""A stretch without a voice, in seconds from the start of the decoded stretch."""


@dataclass(frozen=True)
class Piece:
    """A segment of a decode; times in seconds from the start of the decoded stretch."""

    start: float
    end: float
    text: str
    words: tuple[dict[str, object], ...] | None = None


@dataclass(frozen=True)
class Verdict:
    """`final` pieces, the `open` rest, and up to where the stretch is done with (`done`, seconds from its start)."""

    final: tuple[Piece, ...]
    open: tuple[Piece, ...]
    done: float


class Agreement:
    """The memory between the decodes of one stretch of speech that goes on."""

    def __init__(self, settled_times: int = SETTLED_TIMES) -> None:
        self._settled_times = settled_times
        self._previous: list[str] = []
        self._same = 1

    def reset(self) -> None:
        """Forget what was decoded before: the next decode is of another stretch."""
        self._previous, self._same = [], 1

    def closed(self, pieces: Sequence[Piece], length: float) -> Verdict:
        """Speech has ended inside the stretch of `length` seconds: everything is final."""
        self.reset()
        return Verdict(tuple(pieces), (), length)

    def full(self, pieces: Sequence[Piece], length: float) -> Verdict:
        """Speech goes on, but the stretch cannot grow: all pieces but the last are final, a lone one too."""
        self.reset()
        if len(pieces) < 2:
            return Verdict(tuple(pieces), (), length)
        done = min(length, _cut(pieces[-2], pieces[-1], None) or length)
        return Verdict(_until(pieces[:-1], done), tuple(pieces[-1:]), done)

    def growing(self, pieces: Sequence[Piece], length: float, gaps: Sequence[Gap] | None = None) -> Verdict:
        """Speech goes on: final is what the previous decode said too, as whole pieces, and never the last one.

        `gaps`: where no voice is heard; pieces part at these only. None when nobody listened for them.
        """
        if not pieces:
            self.reset()
            return Verdict((), (), length - 1.0 if length >= WORDLESS_S else 0.0)
        words = [_words(piece.text) for piece in pieces]
        flat = [word for piece in words for word in piece]
        self._same = self._same + 1 if flat and flat == self._previous else 1
        if self._same >= self._settled_times and length - pieces[-1].end >= SETTLED_S:
            self.reset()
            return Verdict(tuple(pieces), (), min(length, pieces[-1].end + SETTLED_S / 2))
        agreed, done, position = 0, 0.0, 0
        for index, piece in enumerate(words[:-1]):
            if self._previous[position : position + len(piece)] != piece:
                break
            position += len(piece)
            cut = _cut(pieces[index], pieces[index + 1], gaps)
            if cut is not None and 0 < cut < length:
                agreed, done = index + 1, cut
        self._previous = [word for piece in words[agreed:] for word in piece]
        if not agreed:
            return Verdict((), tuple(pieces), 0.0)
        self._same = 1
        return Verdict(_until(pieces[:agreed], done), tuple(pieces[agreed:]), done)


def _cut(last: Piece, following: Piece, gaps: Sequence[Gap] | None) -> float | None:
    """Where to part two pieces: amid the audible gap nearest to where Whisper parts them; None without one."""
    told = (last.end + max(last.end, following.start)) / 2
    if gaps is None:
        return told
    middles = [(start + end) / 2 for start, end in gaps]
    nearest = min(middles, key=lambda middle: abs(middle - told), default=None)
    return nearest if nearest is not None and abs(nearest - told) <= SNAP_S else None


def _until(pieces: Sequence[Piece], done: float) -> tuple[Piece, ...]:
    """The pieces with no time beyond `done`, where the next stretch begins."""
    return tuple(replace(piece, start=min(piece.start, done), end=min(piece.end, done)) for piece in pieces)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())
