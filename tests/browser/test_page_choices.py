"""What a person may choose on the page, in Chromium: settings, a sound file, captions, keys, and what is kept."""

from __future__ import annotations

import base64
import datetime
import zoneinfo
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import scripted_page
from tests.browser.scripted import LINES, TOKEN, Scripted
from tests.waiting import wait_until

pytestmark = pytest.mark.chromium
OpenPage = Callable[..., Page]
CLIP = Path(__file__).resolve().parents[1] / "speech/train.wav"


def opened(page: Page, address: str) -> None:
    page.goto(f"{address}#token={TOKEN}")
    expect(page.get_by_test_id("start")).to_be_enabled()


def test_what_is_chosen_is_asked_for_and_kept(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(waking=[])) as (address, server):
        opened(page, address)
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Language spoken").select_option("de")
        page.get_by_label("Task").select_option("translate")
        page.get_by_label("Noise suppression").check()
        page.get_by_role("button", name="Done").click()
        page.reload()
        page.get_by_role("button", name="Settings").click()
        expect(page.get_by_label("Language spoken")).to_have_value("de")
        expect(page.get_by_label("Noise suppression")).to_be_checked()
        page.keyboard.press("Escape")
        page.get_by_test_id("start").click()
        expect(page.get_by_test_id("phase")).to_have_text("Listening")
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("phase")).to_have_text("Finished")
    asked = next(body for method, path, body in server.requests if (method, path) == ("POST", "/v1/sessions"))
    assert asked == {"task": "translate", "language": "de"}
    assert (server.handshakes[0]["language"], server.handshakes[0]["task"]) == ("de", "translate")


def test_languages_and_tasks_are_those_of_the_model(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(waking=[], models=["tiny.en", "base"])) as (address, _):
        opened(page, address)
        page.get_by_role("button", name="Settings").click()
        expect(page.get_by_label("Speech model").locator("option")).to_have_text(
            ["The usual one (tiny.en)", "tiny.en", "base"]
        )
        expect(page.get_by_label("Language spoken").locator("option")).to_have_text(["The model's own", "English"])
        expect(page.get_by_label("Task").locator("option")).to_have_text(["Write what is said"])
        page.get_by_label("Speech model").select_option("base")
        page.get_by_label("Language spoken").select_option("de")
        page.get_by_label("Task").select_option("translate")
        page.get_by_label("Speech model").select_option("tiny.en")
        expect(page.get_by_label("Language spoken").locator("option:checked")).to_have_text("de (not there now)")


def test_a_sound_file_is_written_like_speech(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(waking=[])) as (address, server):
        opened(page, address)
        page.get_by_test_id("file").set_input_files(str(CLIP))
        expect(page.get_by_test_id("phase")).to_have_text("Finished", timeout=20_000)
        expect(page.get_by_test_id("transcript")).to_contain_text(LINES[-1][2])
        expect(page.get_by_test_id("delays")).to_be_hidden()
    heard = np.frombuffer(bytes(server.audio), dtype="<f4")
    played = np.frombuffer(CLIP.read_bytes()[44:], dtype="<i2") / 32768
    assert len(heard) == len(played)
    assert float(np.abs(heard - played).max()) < 1e-3


def test_a_file_without_sound_is_one_sentence(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(waking=[])) as (address, _):
        opened(page, address)
        (tmp_path / "notes.mp3").write_bytes(b"no sound at all")
        page.get_by_test_id("file").set_input_files(str(tmp_path / "notes.mp3"))
        expect(page.get_by_role("alert")).to_have_text("notes.mp3 holds no sound that this browser can read.")
        expect(page.get_by_test_id("start")).to_be_visible()


def test_keys_start_stop_and_make_captions(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(waking=[])) as (address, _):
        opened(page, address)
        page.keyboard.press("r")
        expect(page.get_by_test_id("phase")).to_have_text("Listening")
        page.keyboard.press("c")
        expect(page.locator("body")).to_have_class("captions")
        page.keyboard.press("Escape")
        expect(page.locator("body")).not_to_have_class("captions")
        page.keyboard.press("r")
        expect(page.get_by_test_id("phase")).to_have_text("Finished")


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_said_is_kept_here_unless_told_otherwise(open_page: OpenPage, tmp_path: Path, kept: bool) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(waking=[])) as (address, server):
        opened(page, address)
        if not kept:
            page.get_by_role("button", name="Settings").click()
            page.get_by_label("Keep recordings").uncheck()
            page.get_by_role("button", name="Done").click()
        page.get_by_test_id("start").click()
        wait_until(lambda: server.seconds > LINES[0][1] + 0.5, 20, "a sentence")
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("phase")).to_have_text("Finished")
        page.get_by_role("link", name="Recordings").click()
        if kept:
            expect(page.get_by_test_id("recordings")).to_contain_text(LINES[0][2][:30])
            expect(page.get_by_test_id("recordings")).not_to_contain_text("not finished")
        else:
            expect(page.locator("#empty")).to_be_visible()


def test_times_of_paragraphs_in_a_zone_and_of_words(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(waking=[])) as (address, server):
        opened(page, address)
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Exact times of words").check()
        page.get_by_label("Show the time of each paragraph").check()
        page.get_by_label("Times in").select_option("Asia/Tokyo")
        page.get_by_role("button", name="Done").click()
        page.get_by_test_id("start").click()
        expect(page.get_by_test_id("transcript")).to_contain_text(LINES[0][2], timeout=20_000)
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("phase")).to_have_text("Finished")
        shown = page.get_by_test_id("transcript").locator("time").first
        moment = datetime.datetime.fromisoformat(shown.get_attribute("datetime") or "")
        assert shown.text_content() == f"{moment.astimezone(zoneinfo.ZoneInfo('Asia/Tokyo')):%H:%M:%S}"
    assert server.handshakes[0]["word_timestamps"] is True


def test_a_microphone_is_tried_before_anything_is_recorded(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(waking=[])) as (address, server):
        opened(page, address)
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("button", name="Try it").click()
        expect(page.get_by_test_id("try-words")).to_contain_text("You are heard well, by Fake", timeout=20_000)
        page.get_by_role("button", name="Done").click()
        page.get_by_role("button", name="Settings").click()
        expect(page.get_by_test_id("try-words")).to_be_empty()
        expect(page.locator("#choice-device option").nth(1)).to_contain_text("Fake")
        assert server.offered == []


def test_a_sound_file_may_be_dropped_on_the_page(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(waking=[])) as (address, server):
        opened(page, address)
        content = base64.b64encode(CLIP.read_bytes()).decode()
        page.evaluate(
            """(content) => {
              const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
              const dataTransfer = new DataTransfer();
              dataTransfer.items.add(new File([bytes], "train.wav", { type: "audio/wav" }));
              document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
            }""",
            content,
        )
        expect(page.get_by_test_id("phase")).to_have_text("Finished", timeout=20_000)
        assert len(server.audio) == 4 * (len(CLIP.read_bytes()) - 44) // 2
