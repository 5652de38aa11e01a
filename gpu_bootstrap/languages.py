"""Which language a stream speaks: as the client names it, as it is heard, as it was heard before. Pure."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

ENOUGH_S = 3.0
"""Seconds of voice below which a guess is worth nothing: Whisper names a language for silence and noise too."""
SURE = 0.8
"""Probability from which ENOUGH_S will do."""
LONGER_S = 6.0
LIKELY = 0.5
"""Probability from which LONGER_S will do."""
LAST_S = 20.0
"""Seconds of voice in final decodes after which the language with the most votes is taken."""
REMEMBERED = 256
"""Sessions whose language is remembered."""


def code(asked: str) -> str | None:
    """`DE-at` → `de`; None for `auto`, and for nothing."""
    language = asked.strip().lower().replace("_", "-").partition("-")[0]
    return None if language in {"", "auto"} else language


@dataclass(frozen=True)
class Language:
    """A code of Whisper's and how sure it is, from 0 to 1."""

    code: str
    probability: float


class Detection:
    """Hears a stream's decodes until its language is found."""

    def __init__(self) -> None:
        self._votes: dict[str, float] = {}
        self._voiced_s = 0.0

    def heard(self, guess: Language, voiced_s: float, *, final: bool) -> Language | None:
        """The stream's language, once this guess from `voiced_s` seconds of voice settles it."""
        if voiced_s >= ENOUGH_S and guess.probability >= SURE:
            return guess
        if voiced_s >= LONGER_S and guess.probability >= LIKELY:
            return guess
        if final:
            # Decodes that are not final hear the same words again and again.
            self._votes[guess.code] = self._votes.get(guess.code, 0.0) + guess.probability * voiced_s
            self._voiced_s += voiced_s
        if self._voiced_s < LAST_S:
            return None
        language = max(self._votes, key=self._votes.__getitem__)
        return Language(language, self._votes[language] / self._voiced_s)


class Remembered:
    """The languages found in the latest sessions, for when one comes back; safe for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[str, Language] = OrderedDict()

    def get(self, sid: str) -> Language | None:
        with self._lock:
            return self._found.get(sid)

    def put(self, sid: str, language: Language) -> None:
        with self._lock:
            self._found[sid] = language
            self._found.move_to_end(sid)
            while len(self._found) > REMEMBERED:
                self._found.popitem(last=False)
