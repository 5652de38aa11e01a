from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpu_bootstrap.commit import SETTLED_TIMES, WORDLESS_S, Agreement, Piece, Verdict

ONE, TWO = Piece(0.0, 2.0, " One, two."), Piece(2.0, 4.0, " Three four")


def test_the_end_of_speech_makes_all_final() -> None:
    assert Agreement().closed([ONE, TWO], 5.0) == Verdict((ONE, TWO), (), 5.0)


def test_a_full_window_keeps_only_its_last_piece_open() -> None:
    assert Agreement().full([ONE, TWO], 28.0) == Verdict((ONE,), (TWO,), 2.0)
    assert Agreement().full([ONE], 28.0) == Verdict((ONE,), (), 28.0), "a lone piece cannot grow either"
    assert Agreement().full([], 28.0) == Verdict((), (), 28.0)


def test_two_decodes_must_agree() -> None:
    agreement = Agreement()
    assert agreement.growing([ONE, TWO], 4.2) == Verdict((), (ONE, TWO), 0.0)
    longer = Piece(2.0, 5.0, " Three four five")
    assert agreement.growing([ONE, longer], 5.0) == Verdict((ONE,), (longer,), 2.0)


def test_case_and_punctuation_are_no_disagreement() -> None:
    agreement = Agreement()
    agreement.growing([Piece(0, 2, " one two"), TWO], 4.2)
    assert agreement.growing([ONE, TWO], 4.8).final == (ONE,)


def test_another_word_is() -> None:
    agreement = Agreement()
    agreement.growing([Piece(0, 2, " won two."), TWO], 4.2)
    assert agreement.growing([ONE, TWO], 4.8).final == ()


def test_after_a_commit_the_rest_is_compared_with_the_rest() -> None:
    agreement = Agreement()
    agreement.growing([ONE, TWO], 4.2)
    agreement.growing([ONE, TWO], 4.4)
    rest, last = Piece(0.0, 2.0, " Three four"), Piece(2.0, 3.0, " five")
    assert agreement.growing([rest, last], 3.0).final == (rest,)


def test_pieces_part_where_nothing_is_said() -> None:
    agreement = Agreement()
    agreement.growing([ONE, TWO], 4.2)
    verdict = agreement.growing([ONE, TWO], 4.8, gaps=[(1.6, 1.9), (3.0, 3.1)])
    assert verdict == Verdict((Piece(0.0, 1.75, ONE.text),), (TWO,), 1.75)


def test_without_a_gap_near_by_they_do_not_part_yet() -> None:
    agreement = Agreement()
    agreement.growing([ONE, TWO], 4.2)
    assert agreement.growing([ONE, TWO], 4.8, gaps=[(3.0, 3.1)]).final == ()


def test_a_text_that_stays_while_audio_comes_is_final() -> None:
    agreement = Agreement()
    verdicts = [agreement.growing([ONE], 3.0 + n) for n in range(SETTLED_TIMES)]
    assert [bool(verdict.final) for verdict in verdicts] == [False] * (SETTLED_TIMES - 1) + [True]
    assert verdicts[-1].done == ONE.end + 0.5


def test_a_text_that_reaches_up_to_now_is_not() -> None:
    agreement = Agreement()
    assert not any(agreement.growing([ONE], 2.1).final for _ in range(2 * SETTLED_TIMES))


def test_noise_without_words_is_done_with_after_a_while() -> None:
    assert Agreement().growing([], WORDLESS_S - 1) == Verdict((), (), 0.0)
    assert Agreement().growing([], WORDLESS_S) == Verdict((), (), WORDLESS_S - 1)


decodes = st.lists(
    st.lists(st.sampled_from([" a", " b c", " d."]), max_size=4).map(
        lambda texts: [Piece(float(n), n + 1.0, text) for n, text in enumerate(texts)]
    ),
    max_size=8,
)


@given(decodes, st.none() | st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), max_size=3))
def test_final_and_open_are_the_decode_and_nothing_else(
    history: list[list[Piece]], gaps: list[tuple[float, float]] | None
) -> None:
    agreement = Agreement()
    for pieces in history:
        verdict = agreement.growing(pieces, 6.0, gaps)
        assert [p.text for p in (*verdict.final, *verdict.open)] == [p.text for p in pieces]
        assert 0 <= verdict.done <= 6.0
        assert all(piece.end <= verdict.done for piece in verdict.final)
        assert verdict.done > 0 or not verdict.final
