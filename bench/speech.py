"""Synthesise the speech that the project ships and tests with.

Every clip is 16 kHz mono signed 16-bit WAV beside a text file with the words said. The voice is
espeak-ng's (a Debian package); the clips are committed, so only a change of texts needs it:

    python -m bench.speech
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import av

ROOT = Path(__file__).resolve().parent.parent
RATE = 16000

# Sentences that tiny.en reads without error from this voice: a wrong word then is the chain's fault.
CLIPS = {
    "whisperctl/speech/check": (
        "en-gb",
        140,
        "Good morning and welcome to the meeting. Please write down every word that people say today. "
        "The bridge over the river was closed for the winter. "
        "We will open the window because the room is warm.",
    ),
    "tests/speech/train": (
        "en-us",
        130,
        "The first train leaves the station at seven in the morning. "
        "My brother walked to the market with his friend. "
        "Children were playing in the garden behind the house.",
    ),
    # Likewise for the multilingual base model; of the sentences and voices tried, those that it reads.
    "tests/speech/reunion": (
        "es",
        130,
        "Buenos días y bienvenidos a la reunión. Los niños juegan en el jardín. "
        "El tren sale de la estación a las siete de la mañana. Hoy es un día muy bonito.",
    ),
    "tests/speech/short": ("en-gb", 130, "The bridge over the river was closed for the winter."),
}


def synthesise(voice: str, words_per_minute: int, text: str, target: Path) -> float:
    """Write `text` as WAV to `target`; return its length in seconds. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "voice.wav"
        subprocess.run(
            ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-w", str(raw), "--", text], check=True
        )
        pcm = bytearray()
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        with av.open(str(raw)) as source:
            for frame in source.decode(audio=0):
                for out in resampler.resample(frame):
                    pcm += bytes(out.planes[0])[: out.samples * 2]
            for out in resampler.resample(None):
                pcm += bytes(out.planes[0])[: out.samples * 2]
    target.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(target), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes(bytes(pcm))
    return len(pcm) / 2 / RATE


def compress(wav: Path, target: Path) -> None:
    """Write a clip as 8-bit mu-law without a header (ITU-T G.711), for the control plane's canary."""
    codec = av.CodecContext.create("pcm_mulaw", "w")
    assert isinstance(codec, av.AudioCodecContext)
    codec.sample_rate, codec.format, codec.layout = RATE, "s16", "mono"
    out = bytearray()
    with av.open(str(wav)) as source:
        for frame in source.decode(audio=0):
            for packet in codec.encode(frame):
                out += bytes(packet)
    for packet in codec.encode(None):
        out += bytes(packet)
    target.write_bytes(bytes(out))


def main() -> int:
    if shutil.which("espeak-ng") is None:
        sys.stderr.write("espeak-ng is missing: install the Debian or Ubuntu package espeak-ng.\n")
        return 1
    for name, (voice, speed, text) in CLIPS.items():
        seconds = synthesise(voice, speed, text, (ROOT / name).with_suffix(".wav"))
        (ROOT / name).with_suffix(".txt").write_text(text + "\n")
        sys.stdout.write(f"{name}.wav {seconds:.1f} s\n")
    compress(ROOT / "tests/speech/short.wav", ROOT / "chalicelib/net/canary.ulaw")
    return 0


if __name__ == "__main__":
    sys.exit(main())
