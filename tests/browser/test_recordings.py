"""What the browser keeps, in Chromium: written while somebody speaks, listed, played, saved, deleted."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import scripted_page

pytestmark = pytest.mark.chromium

SEGMENTS = [
    {"start": 0.2, "end": 2.0, "text": "The first train leaves at seven."},
    {"start": 2.1, "end": 4.0, "text": "My brother walked <b>to</b> the market."},
    {"start": 7.0, "end": 9.0, "text": "Children were playing & singing."},
]
WRITE = """
async ([segments, seconds, finish]) => {
  const { Keeping, Keeper } = await import("./js/keeping.js");
  const keeping = await Keeping.open();
  const failures = [];
  const keeper = new Keeper(keeping, {
    id: "r-" + segments.length, title: "Evening talk", zone: "Europe/Berlin",
    startedAt: Date.UTC(2026, 10, 22, 18, 3, 20),
    language: "en", model: "tiny.en", lostSeconds: 0, unconfirmed: "",
  }, (sentence) => failures.push(sentence));
  // A ramp: each sample tells its own number.
  const ramp = Float32Array.from({ length: seconds * 16000 }, (_, n) => ((n % 20000) - 10000) / 32767);
  for (let at = 0; at < ramp.length; at += 1600) keeper.samples(ramp.subarray(at, at + 1600));
  keeper.segments(segments);
  if (finish) await keeper.finish({ unconfirmed: "perhaps this" });
  else await new Promise((resolve) => setTimeout(resolve, 300));
  keeping.close();
  return failures;
}
"""


@pytest.fixture
def kept(open_page: Callable[..., Page], tmp_path: Path) -> Iterator[Page]:
    page = open_page()
    with scripted_page(tmp_path) as (address, _):
        page.goto(f"{address}recordings.html")
        expect(page.locator("#empty")).to_be_visible()
        assert page.evaluate(WRITE, [SEGMENTS, 11, True]) == []
        page.reload()
        yield page


def saved(page: Page, kind: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.locator(f"[data-save={kind}]").click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def opened(page: Page) -> None:
    page.get_by_role("button", name="Evening talk").first.click()
    expect(page.get_by_test_id("open")).to_be_visible()


def test_what_was_said_is_read_again(kept: Page) -> None:
    expect(kept.get_by_test_id("recordings")).to_contain_text("2026-11-22")
    opened(kept)
    words = kept.get_by_test_id("words")
    expect(words).to_contain_text("My brother walked <b>to</b> the market.")
    assert words.locator("p").count() == 3  # two paragraphs, and what was not confirmed
    expect(words.locator(".unconfirmed")).to_have_text("perhaps this")
    assert words.locator("b").count() == 0
    kept.get_by_test_id("zone").select_option("UTC")
    kept.get_by_test_id("stamps").check()
    expect(words.locator("time").first).to_have_text("18:03:20")
    expect(words.locator("time").nth(1)).to_have_text("18:03:27")


def test_the_sound_comes_back_sample_by_sample(kept: Page) -> None:
    opened(kept)
    name, body = saved(kept, "wav")
    assert name == "Evening-talk_2026-11-22_19-03-20.wav"
    with wave.open(io.BytesIO(body)) as source:
        assert (source.getframerate(), source.getnchannels()) == (16000, 1)
        samples = np.frombuffer(source.readframes(source.getnframes()), dtype="<i2").astype(int)
    ramp = np.arange(11 * 16000) % 20000 - 10000
    assert len(samples) == len(ramp)
    assert int(np.abs(samples - ramp).max()) <= 1


def test_every_format_is_saved_whole(kept: Page) -> None:
    opened(kept)
    text = saved(kept, "txt")[1].decode()
    assert "My brother walked <b>to</b> the market." in text
    assert "[not confirmed: perhaps this]" in text
    assert "walked &lt;b&gt;to&lt;/b&gt; the" in saved(kept, "vtt")[1].decode()
    assert saved(kept, "srt")[1].decode().startswith("1\n00:00:00,200 --> 00:00:02,000\n")
    exported: dict[str, Any] = json.loads(saved(kept, "json")[1])
    assert exported["segments"] == SEGMENTS
    assert exported["format"] == "whisperlive-edge/1"


def test_a_word_is_found_and_played(kept: Page) -> None:
    opened(kept)
    kept.get_by_test_id("search").fill("market")
    expect(kept.locator("#found")).to_have_text("1 found")
    found = kept.locator(".word.found")
    expect(found).to_have_text("market.")
    found.click()
    expect(kept.locator(".word.now")).to_have_count(1)
    assert kept.get_by_test_id("player").evaluate("player => player.currentTime") > 3


def test_a_crash_leaves_what_was_kept_until_then(open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path) as (address, _):
        page.goto(f"{address}recordings.html")
        page.evaluate(WRITE, [SEGMENTS[:2], 11, False])
        page.reload()
        expect(page.get_by_test_id("recordings")).to_contain_text("not finished")
        opened(page)
        expect(page.get_by_test_id("words")).to_contain_text("My brother")
        # Whole blocks of five seconds are on the disk; the last second was not.
        assert len(saved(page, "wav")[1]) == 44 + 2 * 10 * 16000


def test_deleting_asks_once_and_takes_the_sound_along(kept: Page) -> None:
    remove = kept.get_by_role("button", name="Delete Evening talk")
    remove.click()
    expect(remove).to_have_text("Really delete?")
    remove.click()
    expect(kept.locator("#empty")).to_be_visible()
    left = kept.evaluate(
        "async () => { const { Keeping } = await import('./js/keeping.js'); const k = await Keeping.open();"
        " return (await k.audio('r-3')).length; }"
    )
    assert left == 0


def test_without_storage_it_says_so(open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page()
    page.add_init_script("Object.defineProperty(window, 'indexedDB', { value: undefined })")
    with scripted_page(tmp_path) as (address, _):
        page.goto(f"{address}recordings.html")
        expect(page.get_by_role("alert")).to_have_text(
            "This browser keeps no recordings; a private window never does."
        )
