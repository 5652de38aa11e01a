"""The audio of one stream that is not final yet."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from gpu_bootstrap.frames import RATE

Samples = NDArray[np.float32]


class AudioBuffer:
    """Samples from `done` to `received`, both in seconds since the stream's first sample.

    One thread appends, another reads windows and says up to where it is done; nothing else drops a sample.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._samples: Samples = np.empty(0, dtype=np.float32)
        self._used = 0
        self._dropped = 0
        self._finished = False
        self._continued = False
        self._abandoned = False

    def append(self, samples: Samples) -> None:
        with self._changed:
            needed = self._used + len(samples)
            if needed > len(self._samples):
                # Doubling keeps a long backlog from being copied at every frame.
                grown = np.empty(max(needed, 2 * self._used, RATE), dtype=np.float32)
                grown[: self._used] = self._samples[: self._used]
                self._samples = grown
            self._samples[self._used : needed] = samples
            self._used = needed
            self._changed.notify_all()

    @property
    def done(self) -> float:
        with self._changed:
            return self._dropped / RATE

    @property
    def received(self) -> float:
        with self._changed:
            return (self._dropped + self._used) / RATE

    @property
    def finished(self) -> bool:
        """No more audio will come; what is here is to be decoded to the end."""
        with self._changed:
            return self._finished

    @property
    def continued(self) -> bool:
        """With `finished`: what goes on at the end is said elsewhere to its end, so it is not final here."""
        with self._changed:
            return self._continued

    @property
    def abandoned(self) -> bool:
        """Nobody listens any more; what is here is not wanted."""
        with self._changed:
            return self._abandoned

    def window(self, longest_s: float) -> Samples:
        """A copy of the first `longest_s` seconds that are not done."""
        with self._changed:
            return self._samples[: min(self._used, int(longest_s * RATE))].copy()

    def advance(self, seconds: float) -> None:
        """The first `seconds` of the window are done: their words are final, or there are none."""
        with self._changed:
            count = min(round(seconds * RATE), self._used)
            rest = self._samples[count : self._used].copy()
            self._samples, self._used = rest, len(rest)
            self._dropped += count
            self._changed.notify_all()

    def finish(self, *, continued: bool = False) -> None:
        with self._changed:
            self._finished, self._continued = True, continued
            self._changed.notify_all()

    def abandon(self) -> None:
        with self._changed:
            self._finished = self._abandoned = True
            self._samples, self._used = np.empty(0, dtype=np.float32), 0
            self._changed.notify_all()

    def wait_for_audio(self, beyond_s: float, timeout_s: float) -> bool:
        """Whether audio beyond `beyond_s` (or the end) came within `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._finished or (self._dropped + self._used) / RATE >= beyond_s, timeout_s
            )

    def wait_for_room(self, most_s: float, timeout_s: float) -> bool:
        """Whether less than `most_s` seconds were waiting within `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._finished or self._used < most_s * RATE, timeout_s)
