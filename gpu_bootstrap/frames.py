"""What a frame of audio must look like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpu_bootstrap.errors import FrameError

RATE = 16_000
"""Samples a second, mono."""
LOUDEST = 4.0
"""Float samples lie in [-1, 1]; a little more is a hot microphone, much more is another format."""
END_OF_AUDIO = b"END_OF_AUDIO"
BYTES_PER_SAMPLE = {"float32": 4, "int16": 2, "uint8": 1}


def check_frame(frame: str | bytes, audio_format: str) -> bytes:
    """The frame itself when it is audio in `audio_format` (a key of BYTES_PER_SAMPLE); raises FrameError."""
    if isinstance(frame, str):
        hint = " (END_OF_AUDIO too)" if frame == END_OF_AUDIO.decode() else ""
        raise FrameError(f"audio must come in binary frames{hint}, this was a text frame")
    size = BYTES_PER_SAMPLE[audio_format]
    if len(frame) % size:
        raise FrameError(f"a frame of {len(frame)} bytes is not whole {audio_format} samples of {size} bytes")
    if audio_format == "float32" and frame:
        samples: NDArray[np.float32] = np.frombuffer(frame, dtype="<f4")
        peak = float(np.max(np.abs(samples)))  # NaN if any sample is
        if not np.isfinite(peak):
            raise FrameError("a frame holds samples that are no finite numbers; is it really float32?")
        if peak > LOUDEST:
            raise FrameError(f"a sample of {peak:.3g} lies far outside [-1, 1]; is it really float32?")
    return frame
