"""A ramp in place of speech: each sample is its own number. And words that a scripted server hears at their times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import numpy.typing as npt

from whisperctl.session.connection import RATE

_TEXT = (
    "morning train station seven brother market friend children garden house bridge river winter closed window "
    "room warm coffee meeting yesterday mountain yellow pencil borrow kitchen Thursday umbrella quiet letter "
    "sailor engine purple doctor island forest silver button ladder pocket thunder"
)
WORDS = _TEXT.split()
WORD_S = 0.4
PAUSE_S = 0.5


def lines(seconds: float) -> tuple[tuple[float, float, str], ...]:
    """Sentences of three to six words with pauses between them, as long as the ramp."""
    found, at, number = [], 0.3, 0
    while at < seconds:
        count = 3 + number % 4
        words = [WORDS[(number + n) % len(WORDS)] for n in range(count)]
        end = at + count * WORD_S
        found.append((round(at, 3), round(end, 3), " ".join(words) + "."))
        at, number = end + PAUSE_S, number + count
    return tuple(found)


def ramp(first: int, count: int) -> npt.NDArray[np.float32]:
    """float32 holds every whole number up to 2^24: 17 minutes of samples."""
    return np.arange(first, first + count, dtype="<f4")


def whole(samples: int) -> bytes:
    return ramp(0, samples).tobytes()


class RampSource:
    """`seconds` of ramp in blocks of 0.1 s at `pace` times real time; at `burst_at`, `burst` of them come at once."""

    at_once = False

    def __init__(self, seconds: float, pace: float, *, burst_at: float = 0.0, burst: float = 0.0) -> None:
        self.samples = round(seconds * RATE)
        self._pace, self._burst_at, self._burst = pace, round(burst_at * RATE), round(burst * RATE)
        self._stopped = asyncio.Event()
        self.handed = 0

    @property
    def withheld(self) -> int:
        return self.samples - self.handed

    def stop(self) -> None:
        self._stopped.set()

    async def blocks(self) -> AsyncIterator[npt.NDArray[np.float32]]:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self.handed < self.samples and not self._stopped.is_set():
            count = RATE // 10
            if self._burst and self.handed >= self._burst_at:
                count, self._burst = self._burst, 0
            count = min(count, self.samples - self.handed)
            yield ramp(self.handed, count)
            self.handed += count
            due += 0.1 / self._pace
            await asyncio.sleep(max(0.0, due - loop.time()))
