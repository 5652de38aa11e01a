"""A client's initial prompt and hotwords: what of them Whisper can take. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from gpu_bootstrap.errors import HandshakeError

MOST_TOKENS = 200
"""Of both together. Whisper's decoder has 448 positions for prompt and words; past them every decode fails."""
MOST_HOTWORDS = 100


def clean(name: str, text: str) -> str:
    """The text on one line; raises HandshakeError for what is no text to be read before speech."""
    if "<|" in text:
        # The tokenizer would take <|endoftext|> and its like for the tokens themselves.
        raise HandshakeError(f"{name} holds '<|', which begins Whisper's own marks")
    line = " ".join(text.split())
    if any(unicodedata.category(character) == "Cc" for character in line):
        raise HandshakeError(f"{name} holds a control character")
    return line


def fitting(
    initial_prompt: str | None, hotwords: str | None, count: Callable[[str], int]
) -> tuple[str | None, str | None, list[str]]:
    """Both cut to what fits, with a warning for each that was cut; `count` is a text's number of tokens.

    The first hotwords stay, and the last words of the prompt: as Whisper itself cuts a prompt.
    """
    warnings = []
    if hotwords and count(hotwords) > MOST_HOTWORDS:
        hotwords = _cut(hotwords, MOST_HOTWORDS, count, keep_end=False)
        warnings.append(f"hotwords are too long; the first {len(hotwords)} characters are used")
    room = MOST_TOKENS - (count(hotwords) if hotwords else 0)
    if initial_prompt and count(initial_prompt) > room:
        initial_prompt = _cut(initial_prompt, room, count, keep_end=True)
        warnings.append(f"initial_prompt is too long; its last {len(initial_prompt)} characters are used")
    return initial_prompt or None, hotwords or None, warnings


def _cut(text: str, room: int, count: Callable[[str], int], *, keep_end: bool) -> str:
    """The longest beginning, or end, with at most `room` tokens, of whole words where there are spaces."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if count(text[-middle:] if keep_end else text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    if keep_end:
        kept = text[len(text) - low :]
        return kept.partition(" ")[2] or kept
    kept = text[:low]
    return kept.rpartition(" ")[0] or kept
