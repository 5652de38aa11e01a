from __future__ import annotations

import pytest

from gpu_bootstrap.languages import REMEMBERED, Detection, Language, Remembered, code


def found(*guesses: tuple[str, float, float, bool]) -> Language | None:
    """What the last of the guesses (language, probability, seconds of voice, final) settles."""
    detection = Detection()
    return [detection.heard(Language(name, sure), voiced, final=final) for name, sure, voiced, final in guesses][-1]


@pytest.mark.parametrize(
    ("guess", "settles"),
    [
        (("es", 0.99, 0.0, True), False),
        (("es", 0.99, 2.9, True), False),
        (("es", 0.81, 3.0, False), True),
        (("es", 0.79, 5.9, True), False),
        (("es", 0.51, 6.0, False), True),
        (("es", 0.40, 12.0, True), False),
    ],
)
def test_how_much_voice_a_guess_needs(guess: tuple[str, float, float, bool], settles: bool) -> None:
    assert found(guess) == (Language(guess[0], guess[1]) if settles else None)


def test_silence_never_settles_it() -> None:
    assert found(*[("en", 0.6, 0.0, True)] * 1000) is None


def test_a_wrong_guess_on_a_breath_does_not_stick() -> None:
    assert found(("nn", 0.95, 0.4, True), ("es", 0.9, 4.0, False)) == Language("es", 0.9)


def test_after_long_doubt_the_most_votes_win() -> None:
    guess = found(("la", 0.3, 5.0, True), ("de", 0.4, 5.0, True), ("la", 0.2, 5.0, True), ("de", 0.4, 5.0, True))
    assert guess is not None
    assert guess.code == "de"
    assert guess.probability == pytest.approx(0.2)


def test_decodes_of_the_same_words_again_do_not_vote() -> None:
    assert found(*[("la", 0.4, 5.0, False)] * 10) is None


@pytest.mark.parametrize(
    ("asked", "language"), [("de", "de"), ("DE-at", "de"), ("zh_TW", "zh"), ("auto", None), (" ", None)]
)
def test_codes(asked: str, language: str | None) -> None:
    assert code(asked) == language


def test_sessions_are_remembered_the_latest_only() -> None:
    remembered = Remembered()
    for number in range(REMEMBERED + 1):
        remembered.put(f"s{number}", Language("de", 0.9))
    assert remembered.get("s0") is None
    assert remembered.get("s1") == Language("de", 0.9)
