"""One window of speech through the model, once, without what a live stream need not wait for.

WhisperLive's `transcribe` pads every window to 30 s, and the encoder's time grows faster than the window: here it
reads what is there and a little quiet behind it, and again only what Whisper left unread.
docs/launcher.md has the figures.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens
from numpy.typing import NDArray

from gpu_bootstrap.audio import Samples
from gpu_bootstrap.frames import RATE

QUIET_S = 2.0
"""The least quiet that the encoder hears behind the samples: without, Whisper does not know that speech has ended."""
WINDOW_S = 30.0
SHORT_WINDOW_S = 20.0
"""What words that are to stay are heard in when it is urgent: in less, Whisper drops a short first word at times."""
MOST_FRAMES = 3000
"""Feature frames (10 ms each) that Whisper's encoder takes at most: those of the window."""
TIMESTAMP_S = 0.02
EARLIEST_LAST = 50
"""The first segment begins within the first second, in timestamps, as in faster-whisper (max_initial_timestamp)."""
MISSED_S = 1.2
"""Whisper sometimes stops before the end of a long window: so much left unread is read by itself. Three words
are said in 1.5 s; the end that Whisper gives of the last ones is wrong by less than a second."""
MOST_PASSES = 4
TOKENS_AT_ONCE, TOKENS_PER_S = 20, 14.0
"""A decode that repeats itself is cut off here: no language is spoken in so many tokens a second."""


@dataclass(frozen=True)
class Segment:
    """What faster-whisper's `Segment` has that is of use here; times in seconds of the samples."""

    start: float
    end: float
    text: str
    avg_logprob: float
    no_speech_prob: float
    words: None = None


class Reader:
    """Reads with one WhisperLive `WhisperModel`, from any thread, as many at once as the model has workers."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._voices: dict[tuple[str, str], tuple[Tokenizer, list[int]]] = {}

    def read(
        self,
        samples: Samples,
        *,
        language: str,
        task: str,
        initial_prompt: str | None,
        hotwords: str | None,
        beam_size: int,
        window_s: float,
    ) -> list[Segment]:
        """The segments of at most 30 s, heard with quiet up to `window_s` behind. Raises what CTranslate2 raises."""
        tokenizer, suppressed = self._tokenizer(language, task)
        before = tokenizer.encode(" " + initial_prompt.strip()) if initial_prompt else []
        prompt = self._model.get_prompt(tokenizer, before, without_timestamps=False, hotwords=hotwords)
        found: list[Segment] = []
        done = 0.0
        for _ in range(MOST_PASSES):
            rest = samples[round(done * RATE) :]
            heard = self._pass(rest, tokenizer, suppressed, prompt, beam_size, window_s)
            found += [replace(one, start=one.start + done, end=one.end + done) for one in heard]
            if not heard or len(rest) / RATE - heard[-1].end < MISSED_S:
                break
            done += heard[-1].end
        return found

    def _pass(
        self,
        samples: Samples,
        tokenizer: Tokenizer,
        suppressed: list[int],
        prompt: list[int],
        beam_size: int,
        window_s: float,
    ) -> list[Segment]:
        model, length = self._model, len(samples) / RATE
        encoded = model.encode(frames(model.feature_extractor(samples), length, window_s))
        result = model.model.generate(
            encoded,
            [prompt],
            beam_size=beam_size,
            max_length=min(model.max_length, len(prompt) + TOKENS_AT_ONCE + round(TOKENS_PER_S * length)),
            suppress_blank=True,
            suppress_tokens=suppressed,
            max_initial_timestamp_index=EARLIEST_LAST,
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        tokens = result.sequences_ids[0]
        # CTranslate2's score is the mean over the tokens; Whisper's counts the end of the text as one more.
        likelihood = result.scores[0] * len(tokens) / (len(tokens) + 1)
        return [
            Segment(start, end, tokenizer.decode(text), likelihood, result.no_speech_prob)
            for start, end, text in split(tokens, tokenizer.timestamp_begin, tokenizer.eot, length)
        ]

    def _tokenizer(self, language: str, task: str) -> tuple[Tokenizer, list[int]]:
        """Kept, since finding the tokens that are no speech takes milliseconds."""
        model = self._model
        multilingual = bool(model.model.is_multilingual)
        key = (language, task) if multilingual else ("en", "transcribe")
        with self._lock:
            if key not in self._voices:
                tokenizer = Tokenizer(model.hf_tokenizer, multilingual, task=key[1], language=key[0])
                self._voices[key] = tokenizer, list(get_suppressed_tokens(tokenizer, [-1]))
            return self._voices[key]


def frames(features: NDArray[np.float32], length_s: float, window_s: float) -> NDArray[np.float32]:
    """Features of `length_s` seconds, mel bands by frames, with quiet behind them; an even count, as it is halved."""
    content = features[:, : min(MOST_FRAMES, round(100 * length_s))]
    count = min(MOST_FRAMES, round(100 * max(length_s + QUIET_S, window_s)) // 2 * 2)
    return np.pad(content, ((0, 0), (0, count - content.shape[1]))).astype(np.float32)


def split(
    tokens: Sequence[int], timestamp_begin: int, eot: int, length_s: float
) -> list[tuple[float, float, list[int]]]:
    """Tokens parted by their timestamps: start, end and text of each segment; one left open ends with the samples."""
    found: list[tuple[float, float, list[int]]] = []
    start, text = 0.0, list[int]()
    for token in tokens:
        if token >= timestamp_begin:
            at = (token - timestamp_begin) * TIMESTAMP_S
            if text:
                found.append((start, at, text))
            start, text = at, []
        elif token < eot:
            text.append(token)
    if text:
        found.append((min(start, length_s), length_s, text))
    return found
