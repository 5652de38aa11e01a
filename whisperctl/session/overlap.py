"""What a later connection hears again, cut off by its words. Pure; docs/lossless.md has the rule and its reasons."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SLACK_S = 0.05
"""Segment times are rounded by the server; this much is no difference."""
ABOUT_S = 0.5
"""Times of words are guesses, since a segment has only two: this far off they may be."""
ALIKE = 0.6
LONG = 5
"""Of words this long, the part of the letters that must agree for one to be the other, heard differently."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a segment; its times in seconds are its share of the segment's letters."""

    text: str
    start: float
    end: float

    @property
    def bare(self) -> str:
        return re.sub(r"[^\w]|_", "", self.text.lower())


def words_of(text: str, start: float, end: float) -> list[Word]:
    """The words of a segment with times shared out by their length, a space counted to the word before it."""
    texts = text.split()
    total = sum(len(word) + 1 for word in texts)
    found, at = [], 0
    for word in texts:
        after = at + len(word) + 1
        found.append(Word(word, start + (end - start) * at / total, start + (end - start) * after / total))
        at = after
    return found


class Overlap:
    """The words that were final when a connection began, and that it may hear once more.

    `said`: those that end after the connection's first sample, guesses allowed for. `seam_s`: up to where all
    was confirmed. One instance per connection, fed with its segments in their order.
    """

    def __init__(self, said: Sequence[Word], seam_s: float, said_until_s: float) -> None:
        self._said = list(said)
        self._seam_s = seam_s
        self._said_until_s = said_until_s

    def copy(self) -> Overlap:
        return Overlap(self._said, self._seam_s, self._said_until_s)

    def rest(self, text: str, start: float, end: float) -> str:
        """What of a segment is new; "" when all of it was said before."""
        if start >= self._seam_s - SLACK_S:
            self._said = []
            return text
        if not self._said:
            return "" if end <= self._seam_s + SLACK_S else text
        words = words_of(text, start, end)
        near = [word for word in words if word.start < self._seam_s + ABOUT_S]
        skip, used = self._match(near)
        if used:
            self._said = self._said[used:]
        else:
            skip = sum(1 for word in words if (word.start + word.end) / 2 < self._said_until_s)
        if skip == len(words):
            return ""
        self._said = []
        return " ".join(word.text for word in words[skip:]) if skip else text

    def _match(self, heard: Sequence[Word]) -> tuple[int, int]:
        """How many words of `heard` were said before, and how many of the said ones they use up; (0, 0): none.

        The longest run that both have and that ends where either ends; of equal ones the earliest.
        """
        best = (0, 0, 0)
        said = self._said
        for i in range(len(said)):
            for j in range(len(heard)):
                run = 0
                while i + run < len(said) and j + run < len(heard) and alike(said[i + run], heard[j + run], j + run):
                    run += 1
                ends = i + run == len(said) or j + run == len(heard)
                if ends and run > best[0]:
                    best = (run, j + run, i + run)
        return best[1], best[2]


def alike(said: Word, heard: Word, position: int) -> bool:
    """Whether it is the same word. The first one heard may lack its beginning."""
    one, other = said.bare, heard.bare
    if one == other:
        return True
    if position == 0 and len(other) >= 2 and one.endswith(other):
        return True
    longest = max(len(one), len(other))
    return min(len(one), len(other)) >= LONG and 1 - distance(one, other) / longest >= ALIKE


def distance(one: str, other: str) -> int:
    """Levenshtein's edit distance."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]
