"""The one model of this host, shared by its streams in turns: from samples to words."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_bootstrap.audio import Samples
from gpu_bootstrap.commit import Piece
from gpu_bootstrap.frames import RATE
from gpu_bootstrap.reading import SHORT_WINDOW_S, WINDOW_S, Reader
from gpu_bootstrap.timings import Lately
from gpu_bootstrap.turns import Turns
from gpu_bootstrap.windows import PAUSE_S

SHARED_FOR_S = 10.0
"""A host whose streams wait for each other counts as shared for this long."""
UNLIKELY = -1.0
"""Mean log probability below which Whisper itself doubts a segment (its own logprob_threshold)."""


@dataclass(frozen=True)
class Wishes:
    """What one stream asks of a decode; from its handshake."""

    language: str | None
    task: str
    initial_prompt: str | None
    hotwords: str | None
    word_timestamps: bool
    no_speech_thresh: float
    vad: bool


class Decoder:
    """Wraps WhisperLive's `WhisperModel`; for any number of threads; as many decodes at once as it has workers."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._reader = Reader(model)
        self._turns = Turns(model.model.num_workers)
        self.seconds = Lately()
        """How long decodes took, without the wait for their turn."""
        self._contended_at = -SHARED_FOR_S
        self.failures = 0
        """Decodes that failed one after another, up to now."""

    @property
    def languages(self) -> list[str]:
        """The codes of the languages that this very model knows; `en` alone when it is English-only."""
        if not self.model.model.is_multilingual:
            return ["en"]
        # faster-whisper lists those of the newest model for each.
        known = self.model.hf_tokenizer.token_to_id
        return [code for code in self.model.supported_languages if known(f"<|{code}|>") is not None]

    def count(self, text: str) -> int:
        """How many tokens a prompt is."""
        return len(self.model.hf_tokenizer.encode(" " + text, add_special_tokens=False).ids)

    @property
    def shared(self) -> bool:
        """Whether streams had to wait for each other in the last seconds."""
        return time.monotonic() - self._contended_at < SHARED_FOR_S

    def transcribe(
        self, samples: Samples, wishes: Wishes, *, final: bool, live: bool = True, urgent: bool = True
    ) -> tuple[list[Piece], Any]:
        """The words of at most 30 s, and WhisperLive's `TranscriptionInfo` where the language was to be found.

        A decode that is not `final` will be repeated with more audio and takes the quick way: no beam. None tries
        again at other temperatures: that costs seconds and gains nothing on speech that a VAD has found. `live`
        decodes go before those of a backlog; `urgent` ones hear less quiet behind the words (reading.py).
        """
        try:
            if self._turns.running:
                self._contended_at = time.monotonic()
            with self._turns.take(first=live):
                began = time.monotonic()
                heard, info = self._read(samples, wishes, final=final, urgent=urgent)
                self.seconds.add(time.monotonic() - began)
        except Exception:
            self.failures += 1
            raise
        self.failures = 0
        length = len(samples) / RATE
        return [_piece(segment, length) for segment in heard if _is_speech(segment, wishes)], info

    def _read(self, samples: Samples, wishes: Wishes, *, final: bool, urgent: bool) -> tuple[list[Any], Any]:
        beam_size = 5 if final else 1
        if wishes.language is not None and not wishes.word_timestamps:
            urgent = urgent and self.model.model.device == "cpu"  # a GPU is quick with 30 s too
            window_s = WINDOW_S if not urgent else SHORT_WINDOW_S if final else 0.0
            segments = self._reader.read(
                samples,
                language=wishes.language,
                task=wishes.task,
                initial_prompt=wishes.initial_prompt,
                hotwords=wishes.hotwords,
                beam_size=beam_size,
                window_s=window_s,
            )
            return list(segments), None
        segments, info = self.model.transcribe(
            samples,
            language=wishes.language,
            task=wishes.task,
            initial_prompt=wishes.initial_prompt,
            hotwords=wishes.hotwords,
            word_timestamps=wishes.word_timestamps,
            vad_filter=False,
            temperature=0.0,
            beam_size=beam_size,
        )
        # WhisperLive's model decodes here or on reading, depending on its version; be done before the next.
        return list(segments or ()), info


def _is_speech(segment: Any, wishes: Wishes) -> bool:
    """Whether to believe a segment: one that may be silence must at least be likely where the VAD heard a voice."""
    if not segment.text.strip() or segment.end <= segment.start:
        return False
    doubtful = segment.no_speech_prob > wishes.no_speech_thresh
    return not doubtful or (wishes.vad and segment.avg_logprob > UNLIKELY)


def _piece(segment: Any, length: float) -> Piece:
    words = None
    if segment.words:
        words = tuple(
            {"word": w.word, "start": w.start, "end": w.end, "probability": round(w.probability, 4)}
            for w in segment.words
        )
    # Whisper's times may point into its own padding behind the samples.
    return Piece(min(segment.start, length), min(segment.end, length), segment.text, words)


def pause(parameters: Mapping[str, float]) -> float:
    """Seconds of silence that end an utterance: the client's wish within what makes sense here."""
    asked = parameters.get("min_silence_duration_ms")
    return PAUSE_S if asked is None else min(max(asked / 1000, 0.2), 2.0)
