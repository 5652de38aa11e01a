"""The page in Chromium on the whole chain: words spoken from the click on, the GPU asleep again at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.stack import Stack
from tests.waiting import wait_until
from whisperctl.wer import word_error_rate

pytestmark = pytest.mark.chromium
SPOKEN = Path(__file__).resolve().parents[1] / "speech" / "train.txt"
IDLE_MINUTES = 10


def test_speech_from_a_sleeping_gpu_to_a_sleeping_gpu(open_page: Callable[..., Page], sleeping_stack: Stack) -> None:
    stack = sleeping_stack
    # Half a second of silence, then speech: the first sentence falls into the seconds of waking.
    page = open_page(silence_s=0.5)
    page.goto(f"{stack.edge_url}/#token={stack.tokens['speaker']}")
    phase, transcript = page.get_by_test_id("phase"), page.get_by_test_id("transcript")
    expect(phase).to_have_text("The GPU is asleep")
    page.get_by_test_id("start").click()
    expect(phase).to_have_text("Listening", timeout=60_000)
    # A word of each sentence; the words as a whole are judged by their error rate, since no two live runs of
    # so small a model agree in every word.
    for word in ("station", "market", "garden"):
        expect(transcript).to_contain_text(word, ignore_case=True, timeout=30_000)
    page.get_by_test_id("stop").click()
    expect(phase).to_have_text("Finished", timeout=15_000)
    expect(page.locator("#detail")).to_have_text("Every word is final, 0.0 s lost.")
    expect(page.get_by_test_id("partial")).to_be_empty()
    heard = transcript.text_content() or ""
    assert word_error_rate(SPOKEN.read_text(), heard) <= 0.15, heard

    # The page says "Finished" when every word is final, and ends its session beside that.
    wait_until(lambda: not stack.status()["wishes"], 10, "the session to be gone")
    assert stack.phase() == "ready", "it lingers for its idle minutes"
    stack.advance((IDLE_MINUTES + 2) * 60)
    wait_until(lambda: stack.phase() == "asleep", 40, "the GPU to sleep", every=0.2)
