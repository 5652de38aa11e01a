from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpu_bootstrap.shown import Shown, common


def test_the_word_at_the_edge_waits() -> None:
    shown = Shown()
    assert shown.take(" The bridge ov") == " The bridge"
    assert shown.take(" The bridge over the") == " The bridge over"


def test_a_lone_word_is_shown() -> None:
    assert Shown().take(" Yes.") == " Yes."


def test_a_word_shown_changes_only_when_two_decodes_say_so() -> None:
    shown = Shown()
    shown.take(" The ridge over")
    assert shown.take(" The bridge over the") == " The ridge"
    assert shown.take(" The bridge over the river") == " The bridge over the"


def test_another_spelling_is_no_change_and_is_taken() -> None:
    shown = Shown()
    shown.take(" the bridge over")
    assert shown.take(" The bridge, over the") == " The bridge, over"


def test_another_stretch_begins_empty() -> None:
    shown = Shown()
    shown.take(" The bridge over")
    shown.reset()
    assert shown.take(" We will open") == " We will"


texts = st.lists(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5).map(" ".join), max_size=10)


@given(texts)
def test_what_is_shown_is_taken_back_only_for_what_two_decodes_say(decodes: list[str]) -> None:
    shown, now, before = Shown(), list[str](), list[str]()
    for text in decodes:
        following = shown.take(text).split()
        if common(now, following) < len(now):
            assert common(before, following) > common(now, following)
        now, before = following, text.split()
