"""Where samples come from: any file PyAV can read, or the microphone. Always float32 mono at 16 kHz."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import av
import av.error
import numpy as np

from whisperctl.errors import UsageError
from whisperctl.session.connection import RATE
from whisperctl.session.ring import Samples

BLOCK_SAMPLES = RATE // 10
"""What a live source hands over at once: 0.1 s."""

RECORDERS = {
    "arecord": ["-q", "-t", "raw", "-f", "S16_LE", "-r", str(RATE), "-c", "1"],
    "parec": ["--raw", "--format=s16le", f"--rate={RATE}", "--channels=1", "--latency-msec=50"],
}


def decode_file(path: Path) -> Samples:
    """Read a whole audio or video file as float32 mono 16 kHz; UsageError in one sentence when it cannot be."""
    if path.is_dir():
        raise UsageError(f"{path} is a directory, not an audio file")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UsageError(f"{path} holds no audio")
            # Channels are averaged here: FFmpeg's own mix to mono makes equal channels 3 dB louder, and clips.
            resampler = av.AudioResampler(format="fltp", rate=RATE)
            parts = [
                out.to_ndarray().mean(axis=0)
                for frame in container.decode(audio=0)
                for out in resampler.resample(frame)
            ]
            parts += [out.to_ndarray().mean(axis=0) for out in resampler.resample(None)]
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except PermissionError:
        raise UsageError(f"{path} may not be read by this user") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UsageError(f"{path} is not an audio file that can be read ({_short(error)})") from None
    samples: Samples = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
    if not len(samples):
        raise UsageError(f"{path} holds no audio")
    # Resampling can overshoot full scale by a little, and float files may hold anything; the host takes [-1, 1].
    clipped: Samples = np.clip(np.nan_to_num(samples), -1.0, 1.0).astype("<f4")
    return clipped


class Source(Protocol):
    """Samples as they come, from a file or a microphone."""

    @property
    def at_once(self) -> bool:
        """Whether everything is handed over before anybody could have heard it."""

    @property
    def withheld(self) -> int:
        """Samples that exist and were not handed over."""

    def stop(self) -> None: ...
    def blocks(self) -> AsyncIterator[Samples]: ...


class FileSource:
    """A decoded file, handed over at `pace` times real time, or at once when `pace` is None."""

    def __init__(self, samples: Samples, pace: float | None) -> None:
        self._samples = samples
        self._pace = pace
        self._stopped = asyncio.Event()
        self._handed = 0

    @property
    def at_once(self) -> bool:
        """Whether everything is handed over before anybody could have heard it."""
        return self._pace is None

    @property
    def withheld(self) -> int:
        """Samples of the file that were not handed over."""
        return len(self._samples) - self._handed

    def stop(self) -> None:
        self._stopped.set()

    async def blocks(self) -> AsyncIterator[Samples]:
        """Yield blocks by an absolute schedule, so that no delay adds up."""
        if self._pace is None:
            if self._stopped.is_set():
                return
            self._handed = len(self._samples)
            yield self._samples
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        for first in range(0, len(self._samples), BLOCK_SAMPLES):
            block = self._samples[first : first + BLOCK_SAMPLES]
            due = began + (first + len(block)) / RATE / self._pace
            try:
                await asyncio.wait_for(self._stopped.wait(), max(0.0, due - loop.time()))
                return
            except TimeoutError:
                self._handed += len(block)
                yield block


class MicrophoneSource:
    """The default microphone, read from `arecord` (ALSA) or `parec` (PulseAudio, PipeWire)."""

    withheld = 0
    at_once = False

    def __init__(self) -> None:
        """UsageError when neither program is installed."""
        found = [(name, shutil.which(name)) for name in RECORDERS]
        self._command = next(([path, *RECORDERS[name]] for name, path in found if path), None)
        if self._command is None:
            raise UsageError(
                "no program to record with: install alsa-utils (arecord) or pulseaudio-utils (parec), or give a file"
            )
        self._process: asyncio.subprocess.Process | None = None
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def blocks(self) -> AsyncIterator[Samples]:
        """Yield what the microphone gives until `stop`; UsageError when the recorder ends by itself."""
        assert self._command is not None
        # Its own session: Ctrl-C reaches this process only, which then stops the recorder in order.
        process = self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        if self._stopped:  # while the recorder was being started
            self.stop()
        assert process.stdout is not None
        assert process.stderr is not None
        complaint = asyncio.create_task(process.stderr.read())
        got = 0
        try:
            while True:
                try:
                    raw = await process.stdout.readexactly(2 * BLOCK_SAMPLES)
                except asyncio.IncompleteReadError as last:
                    raw = last.partial[: len(last.partial) // 2 * 2]
                got += len(raw)
                if raw:
                    yield (np.frombuffer(raw, dtype="<i2") / 32768.0).astype("<f4")
                if len(raw) < 2 * BLOCK_SAMPLES:
                    break
        finally:
            self.stop()
            await process.wait()
        if not got and not self._stopped:
            words = (await complaint).decode(errors="replace").strip().splitlines()
            raise UsageError(f"the microphone gives nothing: {words[0] if words else 'no reason given'}")


def _short(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).splitlines()[0] if text else type(error).__name__
