"""Which stretch of a stream to decode next, from where its speech and its pauses lie. Pure; seconds throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_S = 28.0
"""Whisper sees 30 s at once; a little less leaves room for its own padding."""
PAUSE_S = 0.5
"""Silence after which what was said is an utterance, final when decoded."""
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


def next_stretch(speech: Sequence[Span], length: float, *, finished: bool, pause_s: float = PAUSE_S) -> Stretch:
    """The next stretch of a window of `length` seconds with speech at the given spans (ordered, apart by pauses).

    `finished`: no audio follows the window.
    """
    if not speech:
        kept = 0.0 if finished else min(length, LEAD_S + pause_s)
        return Stretch(length - kept, length - kept)
    start = max(0.0, speech[0][0] - LEAD_S)
    closed = [span for span in speech if finished or length - span[1] >= pause_s]
    if not closed:
        end = min(length, start + LONGEST_S)
        return Stretch(start, end, full=length - start >= LONGEST_S)
    if closed[0][1] - start > LONGEST_S:
        return Stretch(start, start + LONGEST_S, full=True)
    last = 0
    while (
        last + 1 < len(closed)
        and closed[last + 1][0] - closed[last][1] < MOST_SILENCE_S
        and closed[last + 1][1] + LEAD_S - start <= LONGEST_S
    ):
        last += 1
    following = speech[last + 1][0] if last + 1 < len(speech) else length
    # Half of a short gap each, so that neither neighbour's padding reaches into the other's words.
    end = min(closed[last][1] + LEAD_S, (closed[last][1] + following) / 2 if last + 1 < len(speech) else length)
    return Stretch(start, end, closed=True)
