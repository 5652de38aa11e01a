"""The command's ring: what memory does not hold comes back from a file, and a full disk costs memory only."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import pytest

from tests.session.ramp import ramp
from whisperctl.session.connection import RATE
from whisperctl.session.ring import Ring

SECONDS = 60


def filled(ring: Ring) -> Ring:
    for at in range(0, SECONDS * RATE, RATE // 10):
        ring.append(ramp(at, RATE // 10))
    return ring


def whole(ring: Ring) -> bool:
    return all(
        np.array_equal(ring.read(at, RATE // 2), ramp(at, RATE // 2)) for at in range(0, SECONDS * RATE, RATE // 2)
    )


def test_what_memory_does_not_hold_comes_back() -> None:
    ring = filled(Ring(memory_s=10))
    assert ring.spilled == (SECONDS - 10) * RATE
    assert whole(ring)
    ring.release(20 * RATE)
    assert ring.start == 20 * RATE
    with pytest.raises(ValueError, match="released"):
        ring.read(20 * RATE - 1, 1)


@pytest.mark.parametrize("room_s", [0, 7.25, 20])
def test_a_full_disk_costs_memory_and_nothing_else(monkeypatch: pytest.MonkeyPatch, room_s: float) -> None:
    room = round(room_s * RATE) * 4
    open_file = tempfile.TemporaryFile

    class Small:
        """A disk that writes what fits, as the system does, and then nothing."""

        def __init__(self, **options: Any) -> None:
            self._file = open_file(**options)

        def write(self, data: bytes) -> int:
            fits = data[: max(0, room - self._file.tell())]
            if not fits:
                raise OSError(28, "No space left on device")
            return int(self._file.write(fits) or 0)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    monkeypatch.setattr(tempfile, "TemporaryFile", Small)
    ring = filled(Ring(memory_s=10))
    assert ring.spilled <= room // 4
    assert whole(ring)


def test_where_no_file_can_be_made_memory_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    ring = filled(Ring(memory_s=10))
    assert ring.spilled == 0
    assert whole(ring)
