from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_bootstrap.audio import AudioBuffer
from gpu_bootstrap.errors import FrameError
from gpu_bootstrap.frames import RATE, check_frame


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 6000)), max_size=40))
def test_no_sample_is_lost_doubled_or_out_of_order(steps: list[tuple[int, int]]) -> None:
    """A ramp goes in, in frames of any size, while parts of any size are done with."""
    buffer, sent = AudioBuffer(), 0
    got: list[float] = []
    for frame, done in steps:
        buffer.append(np.arange(sent, sent + frame, dtype=np.float32))
        sent += frame
        window = buffer.window(done / RATE)
        got.extend(window.tolist())
        buffer.advance(len(window) / RATE)
    got.extend(buffer.window(1e6).tolist())
    assert got == list(range(sent))
    assert buffer.received == sent / RATE


def test_a_full_backlog_has_no_room_until_some_is_done() -> None:
    buffer = AudioBuffer()
    buffer.append(np.zeros(2 * RATE, np.float32))
    assert not buffer.wait_for_room(2.0, 0.01)
    buffer.advance(1.0)
    assert buffer.wait_for_room(2.0, 0)
    assert buffer.done == 1.0


def test_waiting_ends_with_the_stream() -> None:
    buffer = AudioBuffer()
    assert not buffer.wait_for_audio(1.0, 0.01)
    buffer.finish()
    assert buffer.wait_for_audio(1.0, 0)
    assert not buffer.abandoned


def test_abandoned_audio_is_gone() -> None:
    buffer = AudioBuffer()
    buffer.append(np.zeros(RATE, np.float32))
    buffer.abandon()
    assert (buffer.abandoned, buffer.finished, len(buffer.window(9))) == (True, True, 0)


GOOD = np.array([0.0, 1.0, -4.0], np.float32).tobytes()


def test_good_frames_pass_as_they_are() -> None:
    assert check_frame(GOOD, "float32") is GOOD
    assert check_frame(b"", "float32") == b""
    assert check_frame(b"\xff\x7f", "int16") == b"\xff\x7f"
    assert check_frame(b"\x80\x81\x82", "uint8") == b"\x80\x81\x82"


@pytest.mark.parametrize(
    ("frame", "audio_format"),
    [
        (GOOD[:-1], "float32"),
        (b"abc", "int16"),
        ("text", "float32"),
        ("END_OF_AUDIO", "float32"),
        (np.array([4.1], np.float32).tobytes(), "float32"),
        (np.array([np.nan, 0], np.float32).tobytes(), "float32"),
        (np.array([0, -np.inf], np.float32).tobytes(), "float32"),
    ],
)
def test_bad_frames_do_not(frame: str | bytes, audio_format: str) -> None:
    with pytest.raises(FrameError):
        check_frame(frame, audio_format)
