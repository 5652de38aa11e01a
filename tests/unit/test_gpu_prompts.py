from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpu_bootstrap.errors import HandshakeError
from gpu_bootstrap.prompts import MOST_HOTWORDS, MOST_TOKENS, clean, fitting


def letters(text: str) -> int:
    """A tokenizer for which every letter is a token, as for scripts it hardly knows."""
    return len(text)


@given(st.text(max_size=400), st.text(max_size=400))
@example("p" * 400, "h" * 400)
def test_what_is_left_always_fits(prompt: str, hotwords: str) -> None:
    kept_prompt, kept_hotwords, _ = fitting(prompt, hotwords, letters)
    assert len(kept_hotwords or "") <= MOST_HOTWORDS
    assert len(kept_prompt or "") + len(kept_hotwords or "") <= MOST_TOKENS


@given(st.text(max_size=MOST_HOTWORDS), st.text(max_size=MOST_HOTWORDS))
def test_what_fits_stays_as_it_is(prompt: str, hotwords: str) -> None:
    assert fitting(prompt, hotwords, letters) == (prompt or None, hotwords or None, [])


def test_it_is_cut_between_words_and_says_so() -> None:
    prompt, hotwords, warnings = fitting("a long story " * 30 + "the end", "Siobhan, " * 30, letters)
    assert hotwords == ("Siobhan, " * 11).strip()
    assert prompt is not None
    assert prompt.endswith("story the end")
    assert prompt.split()[0] in {"a", "long", "story"}
    assert len(warnings) == 2
    assert f"the first {len(hotwords)} characters" in warnings[0]


@pytest.mark.parametrize("text", ["a\0", "\x1b[31m", "del\x7f", "<|endoftext|>"])
def test_no_text(text: str) -> None:
    with pytest.raises(HandshakeError, match="hotwords holds"):
        clean("hotwords", text)
