"""Word error rate: how far what was heard is from what was said."""

from __future__ import annotations

import jiwer

_NUMBER_WORDS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip

# Whisper writes "7" or "seven" as it likes; neither is an error. Compound numbers stay as they are.
_NUMBERS = {rf"\b{word}\b": str(value) for word, value in _NUMBER_WORDS.items()}

_NORMALISE = jiwer.Compose(
    [
        jiwer.ToLowerCase(),
        jiwer.SubstituteRegexes({r"[‘’]": "'", r"[-‐-―/]": " "}),
        jiwer.ExpandCommonEnglishContractions(),
        jiwer.SubstituteRegexes({r"[^\w\s]|_": "", **_NUMBERS}),
        jiwer.RemoveMultipleSpaces(),
        jiwer.Strip(),
        jiwer.ReduceToListOfListOfWords(),
    ]
)


def word_error_rate(said: str, heard: str) -> float:
    """Errors per word said, 0 for none; case, punctuation and the spelling of small numbers do not count.

    `said` must hold a word: ValueError otherwise.
    """
    if not any(character.isalnum() for character in said):
        raise ValueError("the reference holds no word")
    return float(jiwer.wer(said, heard, reference_transform=_NORMALISE, hypothesis_transform=_NORMALISE))
