"""Segments to words: each final once and for ever, the open ones as sure as they are.

Each message repeats the last completed segments and carries at most one that is not complete. The rules:

1. Within a connection a completed segment is known by its place: those that the message shares with what was taken
   already are the end of that; what follows them is new, however short. Where they share nothing, what lies behind
   the last one taken is new. A final never changes.
2. The incomplete segment stays as it was while messages come without one, until a completed one reaches into it.
   Of its words those are stable that two messages in a row begin with.
3. Times are moved by the connection's offset. What a later connection hears again is cut off (session.overlap).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from whisperctl.session.overlap import ABOUT_S, SLACK_S, Overlap, Word, words_of


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text; `start` and `end` in seconds from the first captured sample."""

    start: float
    end: float
    text: str
    completed: bool
    words: tuple[dict[str, Any], ...] = ()
    """Each word with its own `start` and `end`, where the server was asked for them."""

    def as_dict(self) -> dict[str, Any]:
        whole = asdict(self)
        return whole if self.words else {name: value for name, value in whole.items() if name != "words"}


class Transcript:
    """The text so far. `finals` only grows; `partial` is what the server still thinks about."""

    def __init__(self) -> None:
        self.finals: list[Segment] = []
        self.partial: Segment | None = None
        self.stable = 0
        """How many words of the partial two messages in a row agree on."""
        self._offset_s = 0.0
        self._taken: list[Segment] = []
        self._overlap: Overlap | None = None
        self._before: list[str] = []

    @property
    def end(self) -> float:
        """Where the last final word ends, in seconds."""
        return self.finals[-1].end if self.finals else 0.0

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.finals)

    def begin(self, offset_s: float, confirmed_s: float) -> None:
        """Another connection speaks from here on; it hears from `offset_s` on, all before `confirmed_s` is final."""
        self._offset_s, self._taken = offset_s, []
        said: list[Word] = []
        for segment in reversed(self.finals):
            if segment.end <= offset_s - ABOUT_S:
                break
            said[:0] = words_of(segment.text, segment.start, segment.end)
        said = [word for word in said if word.end > offset_s - ABOUT_S]
        self._overlap = Overlap(said, max(confirmed_s, self.end), self.end) if confirmed_s > offset_s else None

    def update(self, segments: Iterable[Mapping[str, Any]]) -> list[Segment]:
        """Take one message's segments; return the finals that are new. Broken segments are left out."""
        seen = [segment for segment in (_read(raw, self._offset_s) for raw in segments) if segment]
        new: list[Segment] = []
        for segment in self._unseen(sorted((s for s in seen if s.completed), key=lambda s: s.start)):
            self._taken.append(segment)
            rest = self._overlap.rest(segment.text, segment.start, segment.end) if self._overlap else segment.text
            if rest:
                start = segment.start if rest == segment.text else min(max(segment.start, self.end), segment.end)
                words = segment.words[-len(rest.split()) :]
                self.finals.append(replace(segment, start=start, text=rest, words=words))
                new.append(self.finals[-1])
        self._take_partial(next((s for s in reversed(seen) if not s.completed), None), new)
        return new

    def finish(self) -> None:
        """The server confirmed everything: what is still incomplete was not speech."""
        self.partial, self.stable, self._before = None, 0, []

    def _unseen(self, completed: list[Segment]) -> list[Segment]:
        """Rule 1."""
        if not self._taken:
            return completed
        for shared in range(min(len(completed), len(self._taken)), 0, -1):
            if completed[:shared] == self._taken[-shared:]:
                return completed[shared:]
        last = self._taken[-1]
        return [
            segment
            for segment in completed
            if segment not in self._taken
            and (segment.start >= last.end - SLACK_S or segment.start + segment.end > 2 * last.end)
        ]

    def _take_partial(self, partial: Segment | None, new: list[Segment]) -> None:
        """Rule 2."""
        if partial is not None and self._overlap:
            rest = self._overlap.copy().rest(partial.text, partial.start, partial.end)
            if rest != partial.text:
                start = max(partial.start, self.end)
                partial = replace(partial, start=start, text=rest, words=()) if rest else None
        if new and self._before:
            self._before = _behind(self._before, [w for segment in new for w in segment.text.split()])
        if partial is not None and (not self.finals or partial.end > self.end + SLACK_S):
            words = partial.text.split()
            self.stable = _agreed(self._before, words)
            self.partial, self._before = partial, words
        elif self.partial is not None and self.end > self.partial.start + SLACK_S:
            self.finish()


def _read(raw: Mapping[str, Any], offset_s: float) -> Segment | None:
    try:
        start, end = float(raw["start"]) + offset_s, float(raw["end"]) + offset_s
        text = str(raw["text"]).strip()
    except (KeyError, TypeError, ValueError):
        return None
    if not (math.isfinite(start) and math.isfinite(end) and text):
        return None
    words = _read_words(raw.get("words"), offset_s)
    if len(words) != len(text.split()):
        words = ()
    return Segment(round(start, 3), round(end, 3), text, bool(raw.get("completed")), words)


def _read_words(raw: Any, offset_s: float) -> tuple[dict[str, Any], ...]:
    """Words with their times moved; () where the server sends none, or broken ones."""
    words: list[dict[str, Any]] = []
    try:
        for each in raw or ():
            word = str(each["word"]).strip()
            start, end = float(each["start"]) + offset_s, float(each["end"]) + offset_s
            if not (word and math.isfinite(start + end)):
                return ()
            words.append({"word": word, "start": round(start, 3), "end": round(end, 3)})
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(words)


def _agreed(before: list[str], now: list[str]) -> int:
    """With how many words both begin, whatever their case and punctuation."""
    count = 0
    for one, other in zip(before, now, strict=False):
        if Word(one, 0, 0).bare != Word(other, 0, 0).bare:
            break
        count += 1
    return count


def _behind(open_words: list[str], finals: list[str]) -> list[str]:
    """What was open behind the words that became final; nothing where they are not the same words."""
    return open_words[len(finals) :] if _agreed(open_words, finals) == min(len(finals), len(open_words)) else []
