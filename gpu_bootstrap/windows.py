"""Which stretch of a stream to decode next, from where its speech and its pauses lie. Pure; seconds throughout."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_S = 28.0
"""Whisper sees 30 s at once; a little less leaves room for its own padding."""
PAUSE_S = 0.4
"""Silence after which what was said is an utterance, final when decoded."""
BREATH_S = 0.15
"""Silence within speech where it may be cut without harm to a word."""
LEAD_S = 0.3
"""Kept before and after speech: the VAD hears a word a little late and drops its last breath."""
MOST_SILENCE_S = 2.0
"""Two utterances further apart are decoded apart: Whisper makes up words in long silence."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Stretch:
    """Drop `[0, start)`, then decode `[start, end)`; nothing to decode when both are equal.

    `closed`: speech ends inside, so all its words are final. Otherwise speech goes on and the last words may
    change, except that `full` says the window cannot grow: what is not yet final must be taken as it is.
    """

    start: float
    end: float
    closed: bool = False
    full: bool = False


def next_stretch(
    speech: Sequence[Span],
    length: float,
    *,
    finished: bool,
    pause_s: float = PAUSE_S,
    longest_s: float = LONGEST_S,
) -> Stretch:
    """The next stretch of a window of `length` seconds with speech at the given spans (ordered, gaps of any size).

    `finished`: no audio follows the window. `longest_s`: the longest stretch to decode at once.
    """
    if not speech:
        kept = 0.0 if finished else min(length, LEAD_S + pause_s)
        return Stretch(length - kept, length - kept)
    start = max(0.0, speech[0][0] - LEAD_S)
    utterances = join(speech, pause_s)
    closed = [span for span in utterances if finished or length - span[1] >= pause_s]
    if not closed and length - start < longest_s:
        return Stretch(start, length)
    if not closed or closed[0][1] - start > longest_s:
        cut = _widest_gap(speech, start + longest_s / 2, start + longest_s)
        return Stretch(start, cut, closed=True) if cut is not None else Stretch(start, start + longest_s, full=True)
    last = 0
    while (
        last + 1 < len(closed)
        and closed[last + 1][0] - closed[last][1] < MOST_SILENCE_S
        and closed[last + 1][1] + LEAD_S - start <= longest_s
    ):
        last += 1
    following = next((span[0] for span in utterances if span[0] > closed[last][1]), None)
    # Half of a short gap each, so that neither neighbour's padding reaches into the other's words.
    room = length if following is None else (closed[last][1] + following) / 2
    return Stretch(start, min(closed[last][1] + LEAD_S, room), closed=True)


def join(speech: Sequence[Span], pause_s: float) -> list[Span]:
    """Utterances: spans less than `pause_s` apart taken together."""
    joined: list[Span] = []
    for span in speech:
        if joined and span[0] - joined[-1][1] < pause_s:
            joined[-1] = (joined[-1][0], span[1])
        else:
            joined.append(span)
    return joined


def gaps(speech: Sequence[Span], start: float, end: float) -> list[Span]:
    """Where between `start` and `end` no voice is heard between two spans; seconds from `start`."""
    between = [(before[1], after[0]) for before, after in itertools.pairwise(speech)]
    return [(gap[0] - start, gap[1] - start) for gap in between if gap[0] >= start and gap[1] <= end]


def _widest_gap(speech: Sequence[Span], earliest: float, latest: float) -> float | None:
    """The middle of the widest gap there, where speech that never pauses is best cut; None without any."""
    found = [(gap[1] - gap[0], (gap[0] + gap[1]) / 2) for gap in gaps(speech, 0.0, latest)]
    return max(((width, middle) for width, middle in found if middle >= earliest), default=(0, None))[1]
