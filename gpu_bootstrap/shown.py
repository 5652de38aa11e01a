"""What a reader sees of words that are still open: it grows, and changes only when a decode is confirmed. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence


class Shown:
    """The partial of one stretch of speech.

    Each decode of a growing stretch reads its last words anew, and a text that follows every one of them
    flickers. So the word at the edge waits for the next decode, and a word once shown is replaced only when two
    decodes in a row say so.
    """

    def __init__(self) -> None:
        self._before: list[str] = []
        self._text: list[str] = []

    def reset(self) -> None:
        """Another stretch: nothing is shown of it yet."""
        self._before, self._text = [], []

    def take(self, text: str) -> str:
        """The text to show after a decode that said `text`."""
        heard = re.findall(r"\S+", text)
        sure = heard[:-1] if len(heard) > 1 else heard
        kept = common(self._text, sure)
        if kept >= len(self._text) or common(self._before, sure) > kept:
            self._text = sure
        self._before = heard
        return " " + " ".join(self._text)


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words two texts begin with alike, whatever their case and punctuation."""
    pairs = itertools.takewhile(lambda pair: _bare(pair[0]) == _bare(pair[1]), zip(one, other, strict=False))
    return sum(1 for _ in pairs)


def _bare(word: str) -> str:
    return re.sub(r"[\W_]+", "", word.lower())
