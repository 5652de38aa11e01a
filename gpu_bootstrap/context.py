"""What was said just before, heard again with what is decoded now.

Whisper reads a lone sentence far worse than the same sentence behind others of the same voice. So the last
stretches that became final are put before the next one, decoded with it, and their words cut off the result.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from gpu_bootstrap.commit import Piece
from gpu_bootstrap.frames import RATE

JOINT_S = 20.0
"""Context and stretch together at most: of what was tried, the longest that a CPU decodes in a second."""
LEAST_S = 4.0
"""What the longest joint decode may shrink to on a host that is slow just now."""
PARTING_S = 0.6
"""A segment that begins or ends this near to the seam lies on one side of it."""
ALIKE = 0.5
"""Share of letters in common from which two words may be one."""
SLOWEST = 0.8
"""Words a second that speech has at least: a decode with fewer has taken a repeated sentence for one."""

EARLIER_CHARACTERS = 200
"""Of the text before the audio that is heard again so much is told to Whisper; more makes it slower and no better."""

FASTEST = 8.0
"""Words a second that speech has at most: a decode with more repeats itself."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Said:
    """A stretch that is final: its samples, its words as `plain` gives them, and its text."""

    samples: Samples
    words: tuple[str, ...]
    text: str = ""


class Context:
    """The latest final stretches of one stream, no more than JOINT_S seconds of them."""

    def __init__(self) -> None:
        self._said: deque[Said] = deque()
        self._earlier = ""
        self.longest_s = JOINT_S
        """Context and stretch together at most, just now; from LEAST_S to JOINT_S."""

    def paced(self, share: float) -> None:
        """A final decode took `share` of the time it should take at most: hear less, or more again."""
        if share > 1.0:
            self.longest_s = max(LEAST_S, self.longest_s / min(share, 1.5))
        elif share < 0.8:
            self.longest_s = min(JOINT_S, self.longest_s * 1.2)

    def remember(self, samples: Samples, text: str) -> None:
        """Add a final stretch; one without words says that nothing good is to be learnt from what was before."""
        words = tuple(plain(text))
        if not words:
            self._said.clear()
            self._earlier = ""
            return
        self._said.append(Said(samples, words, text))
        while self._said and sum(len(said.samples) for said in self._said) > JOINT_S * RATE:
            self._earlier = (self._earlier + self._said.popleft().text)[-EARLIER_CHARACTERS:]

    def before(self, samples: Samples) -> list[Said]:
        """As many of the latest stretches as fit before `samples`, oldest first."""
        room = self.longest_s * RATE - len(samples)
        fitting: deque[Said] = deque()
        for said in reversed(self._said):
            room -= len(said.samples)
            if room < 0:
                break
            fitting.appendleft(said)
        return list(fitting)

    def earlier(self, context: Sequence[Said]) -> str:
        """The text said before `context`, which is the latest of what `before` gave; its end, in whole words."""
        others = list(self._said)[: len(self._said) - len(context)]
        text = self._earlier + "".join(said.text for said in others)
        if len(text) <= EARLIER_CHARACTERS:
            return text
        return text[-EARLIER_CHARACTERS:].partition(" ")[2]


def behind(pieces: Sequence[Piece], seam_s: float, context: Sequence[Said], spoken_s: float) -> list[Piece] | None:
    """The pieces behind the seam, in seconds from it; None where they cannot be told from the context.

    `pieces` are of the context and the stretch together, `spoken_s` the seconds of voice in the stretch.
    """
    known = [word for said in context for word in said.words]
    kept: list[Piece] = []
    seen: list[str] = []
    for piece in pieces:
        if piece.end <= seam_s + PARTING_S and piece.start < seam_s - PARTING_S:
            seen += plain(piece.text)
        elif piece.start >= seam_s - PARTING_S:
            kept.append(piece)
        else:
            rest = _behind_seam(piece, seam_s, known, seen)
            if rest is not None:
                kept.append(rest)
    count = sum(len(plain(piece.text)) for piece in kept)
    if not max(1.0, spoken_s * SLOWEST) <= count <= max(4.0, spoken_s * FASTEST):
        return None
    return [_moved(piece, seam_s) for piece in kept]


def _behind_seam(piece: Piece, seam_s: float, known: Sequence[str], seen: Sequence[str]) -> Piece | None:
    """The part of a piece across the seam that lies behind it: by its words' times, else by the known words."""
    if piece.words is not None:
        words = tuple(word for word in piece.words if float(str(word["end"])) > seam_s)
        text = "".join(str(word["word"]) for word in words)
    else:
        spelled = re.findall(r"\s*\S+", piece.text)
        own = [(index, word) for index, part in enumerate(spelled) for word in plain(part)]
        at = seam([*known], [*seen, *(word for _, word in own)]) - len(seen)
        text = "".join(spelled[own[max(0, at)][0] :]) if at < len(own) else ""
        words = ()
    return replace(piece, start=seam_s, text=text, words=words or None) if text.strip() else None


def seam(known: Sequence[str], heard: Sequence[str]) -> int:
    """How many of the words heard are the known ones: the prefix with the least edit distance, the shortest."""
    row = [float(count) for count in range(len(heard) + 1)]
    for word in known:
        following = [row[0] + 1]
        for index, other in enumerate(heard):
            following.append(min(row[index] + _apart(word, other), row[index + 1] + 1, following[-1] + 1))
        row = following
    return row.index(min(row))


def _apart(word: str, other: str) -> float:
    """0 for the same word, less than 1 for one that sounds like it: heard anew it may be spelled otherwise."""
    if word == other:
        return 0.0
    return 0.5 if SequenceMatcher(None, word, other).ratio() >= ALIKE else 1.0


def plain(text: str) -> list[str]:
    """The words of a text, lower case, without punctuation."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())


def _moved(piece: Piece, seam_s: float) -> Piece:
    words = piece.words
    if words is not None:
        words = tuple(
            {**word, "start": _later(word["start"], seam_s), "end": _later(word["end"], seam_s)} for word in words
        )
    return Piece(_later(piece.start, seam_s), _later(piece.end, seam_s), piece.text, words)


def _later(at: object, seam_s: float) -> float:
    return max(0.0, float(str(at)) - seam_s)
