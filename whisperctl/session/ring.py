"""Captured samples by absolute number, 16 kHz mono: kept until they are confirmed, the older ones on disk."""

from __future__ import annotations

import sys
import tempfile
from typing import IO

import numpy as np
import numpy.typing as npt

from whisperctl.session.connection import RATE

MEMORY_S = 120.0
BYTES = 4

Samples = npt.NDArray[np.float32]


class Ring:
    """`memory_s` seconds stay in memory; what is older and not yet released goes to a file without a name."""

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._memory = round(memory_s * RATE)
        self._blocks: list[Samples] = []
        self._disk: IO[bytes] | None = None
        self.start = 0
        """Number of the oldest sample still kept."""
        self._in_memory = 0
        """Number of the oldest sample in memory; those from `start` to here are in the file."""
        self.end = 0
        """Number after the newest captured sample."""

    @property
    def spilled(self) -> int:
        """How many samples are on disk."""
        return self._in_memory - self.start

    def append(self, samples: Samples) -> None:
        if not len(samples):
            return
        self._blocks.append(np.ascontiguousarray(samples, dtype="<f4"))
        self.end += len(samples)
        while len(self._blocks) > 1 and self.end - self._in_memory - len(self._blocks[0]) >= self._memory:
            if not self._spill(self._blocks[0]):
                self._memory = sys.maxsize  # no room, or not allowed: memory has to do, nothing is dropped
                return
            self._in_memory += len(self._blocks.pop(0))

    def read(self, first: int, count: int) -> Samples:
        """Up to `count` samples from number `first` on. ValueError when they were released already."""
        if first < self.start:
            raise ValueError(f"sample {first} was released; the oldest kept is {self.start}")
        found: list[Samples] = []
        if first < self._in_memory and self._disk is not None:
            old = min(count, self._in_memory - first)
            self._disk.seek(first * BYTES)
            found.append(np.frombuffer(self._disk.read(old * BYTES), dtype="<f4"))
            first, count = first + old, count - old
        at = self._in_memory
        for block in self._blocks:
            if count <= 0:
                break
            skip = max(0, first - at)
            part = block[skip : skip + count]
            at += len(block)
            if len(part):
                found.append(part)
                first += len(part)
                count -= len(part)
        return np.concatenate(found) if found else np.zeros(0, dtype="<f4")

    def cut(self, after: int) -> None:
        """Forget every sample from number `after` on, which lies in what is kept."""
        after = max(after, self._in_memory)
        kept = self.read(self._in_memory, after - self._in_memory)
        self._blocks, self.end = ([kept] if len(kept) else []), self._in_memory + len(kept)

    def release(self, before: int) -> None:
        """Forget what lies before sample number `before`; in memory by whole blocks."""
        if self.start < self._in_memory:
            self.start = min(max(self.start, before), self._in_memory)
            if self.start == self._in_memory and self._disk is not None:
                self._disk.close()
                self._disk = None
        while self._blocks and self._in_memory + len(self._blocks[0]) <= before:
            self._in_memory += len(self._blocks.pop(0))
            self.start = self._in_memory

    def _spill(self, block: Samples) -> bool:
        """Write a block behind what the file has; False where it does not take it all."""
        data = block.tobytes()
        try:
            if self._disk is None:
                # Unbuffered, so that a full disk is known before the block leaves memory.
                self._disk = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 lives as long as what it holds
            self._disk.seek(self._in_memory * BYTES)
            return self._disk.write(data) == len(data)
        except OSError:
            return False
