from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpu_bootstrap.commit import Piece
from gpu_bootstrap.context import JOINT_S, Context, Said, behind, plain, seam
from gpu_bootstrap.frames import RATE


def samples(seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.zeros(round(seconds * RATE), np.float32)


def said(text: str, seconds: float = 3.0) -> Said:
    return Said(samples(seconds), tuple(plain(text)))


def test_as_much_as_fits_is_put_before() -> None:
    context = Context()
    for number in range(6):
        context.remember(samples(4), f"sentence {number}")
    assert [s.words[1] for s in context.before(samples(3))] == ["2", "3", "4", "5"]
    assert [s.words[1] for s in context.before(samples(8))] == ["3", "4", "5"]
    assert context.before(samples(JOINT_S)) == []


def test_a_stretch_without_words_ends_the_context() -> None:
    context = Context()
    context.remember(samples(2), " One.")
    context.remember(samples(2), " …")
    assert context.before(samples(2)) == []


def test_pieces_on_either_side_of_the_seam() -> None:
    joint = [Piece(0, 2.8, " One two."), Piece(3.2, 5.0, " Three four.")]
    kept = behind(joint, 3.0, [said("one two")], 1.8)
    assert kept is not None
    assert [piece.text for piece in kept] == [" Three four."]
    assert abs(kept[0].start - 0.2) < 1e-6


def test_a_piece_across_the_seam_is_cut_by_the_known_words() -> None:
    kept = behind([Piece(0, 5.0, " One, too. Three four.")], 3.0, [said("one two")], 1.8)
    assert kept == [Piece(0.0, 2.0, " Three four.")]


def test_a_piece_across_the_seam_is_cut_by_its_words_times() -> None:
    words = tuple(
        {"word": word, "start": at, "end": at + 0.5, "probability": 1.0}
        for word, at in ((" One", 0.2), (" two.", 1.0), (" Three", 3.1), (" four.", 4.0))
    )
    kept = behind([Piece(0, 5.0, " One two. Three four.", words)], 3.0, [said("one two")], 1.8)
    assert kept is not None
    assert kept[0].text == " Three four."
    assert [round(float(str(word["start"])), 1) for word in kept[0].words or ()] == [0.1, 1.0]


def test_a_repeat_taken_for_one_is_told() -> None:
    """Whisper may read a sentence said twice as said once: then the stretch must be read alone."""
    assert behind([Piece(0, 6.0, " You stop and you look.")], 3.0, [said("you stop and you look")], 1.8) is None


def test_a_decode_that_repeats_itself_is_told() -> None:
    assert behind([Piece(3.0, 6.0, " and again" * 20)], 3.0, [said("one two")], 1.8) is None


def test_words_heard_otherwise_than_before_still_part_at_the_same_place() -> None:
    known = ["the", "council", "meets", "on", "monday", "every", "month"]
    assert (
        seam(known, ["the", "counsel", "meets", "on", "monday", "of", "every", "month", "everyone", "may", "come"])
        == 8
    )


word_lists = st.lists(st.sampled_from(["a", "b", "c"]), max_size=8)


@given(word_lists, st.lists(st.sampled_from(["x", "y", "z"]), max_size=8))
def test_words_heard_the_same_are_cut_off_exactly(known: list[str], new: list[str]) -> None:
    assert seam(known, known + new) == len(known)
