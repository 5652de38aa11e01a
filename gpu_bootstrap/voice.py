"""Where a voice is heard, said anew at each look at the stream, but each tenth of a second listened to only once.

The model is faster-whisper's copy of Silero's voice detector; its own function would start from the window's
beginning at every look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from faster_whisper.vad import get_vad_model
from numpy.typing import NDArray

from gpu_bootstrap.audio import Samples
from gpu_bootstrap.frames import RATE
from gpu_bootstrap.windows import Span

CHUNK = 512
"""Samples that get one probability; Silero knows no other size at 16 kHz."""
OVERLAP = 64
"""Samples before a chunk that are heard with it."""
SHORTEST_QUIET_S = 0.064
"""Less than two chunks without a voice is no silence but a consonant."""
HYSTERESIS = 0.15
"""How far below its threshold a voice must fall to have ended, unless the client says otherwise; Silero's default."""

Listen = Callable[[Samples], Sequence[float]]
"""Chunks of samples that follow those of the call before, to a voice's probability in each."""


class Silero:
    """The detector with its memory of one stream; for one thread."""

    def __init__(self) -> None:
        self._session = get_vad_model().session
        self._h = np.zeros((1, 1, 128), np.float32)
        self._c = np.zeros((1, 1, 128), np.float32)
        self._tail = np.zeros(OVERLAP, np.float32)

    def __call__(self, samples: Samples) -> Sequence[float]:
        chunks = samples.reshape(-1, CHUNK)
        tails = np.concatenate([self._tail[None], chunks[:-1, -OVERLAP:]])
        feed: dict[str, NDArray[np.float32]] = {
            "input": np.concatenate([tails, chunks], 1),
            "h": self._h,
            "c": self._c,
        }
        probabilities: Any
        probabilities, self._h, self._c = self._session.run(None, feed)
        self._tail = chunks[-1, -OVERLAP:]
        found: list[float] = np.ravel(probabilities).tolist()
        return found


class Voice:
    """Hears the windows of one stream, none of which begins before the one before or behind its end."""

    def __init__(self, parameters: Mapping[str, float], listen: Listen | None = None) -> None:
        self._threshold = parameters.get("threshold", 0.5)
        lower = parameters.get("neg_threshold")
        self._lower = max(self._threshold - HYSTERESIS, 0.01) if lower is None else lower
        self._least_s = parameters.get("min_speech_duration_ms", 0) / 1000
        self._listen = listen or Silero()
        self._first = 0
        """The chunk that the first known probability is of, counted from the stream's beginning."""
        self._known: list[float] = []
        self._seen = 0
        """Samples of the stream taken so far; the last of them, less than a chunk, wait in `_rest`."""
        self._rest = np.empty(0, np.float32)

    def spans(self, window: Samples, base: float) -> list[Span]:
        """Where a voice is heard in the window that begins at the stream's second `base`; seconds of the window."""
        begin = round(base * RATE)
        end = begin + len(window)
        if end > self._seen:
            self._take(window[self._seen - begin :])
        past = begin // CHUNK - self._first
        if past > 0:
            del self._known[:past]
            self._first += past
        known = self._known[: max(0, -(-end // CHUNK) - self._first)]
        offset = self._first * CHUNK - begin
        found = []
        for start, stop in voiced(known, self._threshold, self._lower):
            # What is too short for a chunk of its own belongs to a voice that has not ended.
            until = len(window) if stop == len(known) else min(len(window), offset + stop * CHUNK)
            found.append((max(0, offset + start * CHUNK) / RATE, until / RATE))
        return [span for span in found if span[1] - span[0] > self._least_s]

    def _take(self, samples: Samples) -> None:
        self._seen += len(samples)
        waiting = np.concatenate([self._rest, samples])
        whole = len(waiting) // CHUNK * CHUNK
        if whole:
            self._known += self._listen(waiting[:whole])
        self._rest = waiting[whole:]


def voiced(probabilities: Sequence[float], threshold: float, lower: float) -> list[tuple[int, int]]:
    """Spans of chunks with a voice: from one at `threshold` or above, until it stays below `lower` for a while."""
    found: list[tuple[int, int]] = []
    start: int | None = None
    quiet: int | None = None
    for at, probability in enumerate(probabilities):
        if probability >= threshold:
            start, quiet = at if start is None else start, None
        elif start is not None and probability < lower:
            quiet = at if quiet is None else quiet
        if start is not None and quiet is not None and (at + 1 - quiet) * CHUNK / RATE >= SHORTEST_QUIET_S:
            found.append((start, quiet))
            start = quiet = None
    if start is not None:
        found.append((start, len(probabilities)))
    return found
