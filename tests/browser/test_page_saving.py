"""Saving on the page, in Chromium: words and sound while somebody speaks, and diagnostics that give nothing away."""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import scripted_page
from tests.browser.scripted import LINES, TICKET, TOKEN, Break, Scripted
from tests.waiting import wait_until

pytestmark = pytest.mark.chromium
OpenPage = Callable[..., Page]


def saved(page: Page, name: str) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(waiting.value.path()).read_bytes()


def loudest(wav: bytes) -> float:
    with wave.open(io.BytesIO(wav)) as source:
        assert (source.getframerate(), source.getnchannels(), source.getsampwidth()) == (16000, 1, 2)
        samples = np.frombuffer(source.readframes(source.getnframes()), dtype="<i2")
    return float(np.abs(samples).max()) / 32768


def test_words_sound_and_diagnostics_while_somebody_speaks(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.context.grant_permissions(["microphone", "clipboard-read", "clipboard-write"])
    with scripted_page(tmp_path, Scripted(waking=[], breaks=[Break(1.0, "close", 1012, "the server restarts")])) as (
        address,
        server,
    ):
        page.goto(f"{address}#token={TOKEN}")
        expect(page.get_by_test_id("start")).to_be_enabled()
        expect(page.locator("#save")).to_be_hidden()
        page.get_by_test_id("start").click()
        expect(page.get_by_test_id("transcript")).to_contain_text(LINES[0][2], timeout=20_000)
        # The list of recordings opens beside a conversation that runs, which stays.
        expect(page.locator("#recordings")).to_have_attribute("target", "_blank")
        page.keyboard.press("s")
        assert LINES[0][2] in saved(page, "Text").decode()
        assert LINES[0][2] in saved(page, "SRT").decode().replace("\n", " ")
        assert saved(page, "VTT").startswith(b"WEBVTT\n")
        document: dict[str, Any] = json.loads(saved(page, "JSON"))
        assert document["segments"][0]["text"] == LINES[0][2]
        before = server.seconds
        wav = saved(page, "WAV")
        assert loudest(wav) > 0.05
        assert (len(wav) - 44) / 2 / 16000 > before - 0.5, "up to now, not up to the last block on the disk"
        page.get_by_role("button", name="Copy", exact=True).click()
        expect(page.locator("#copy")).to_have_text("Copied")
        assert LINES[0][2] in page.evaluate("navigator.clipboard.readText()")

        told = saved(page, "Save diagnostics")
        page.get_by_label("With the sound of this recording").check()
        loud = json.loads(saved(page, "Save diagnostics"))
        page.get_by_role("button", name="Done").click()
        wait_until(lambda: server.seconds > before + 0.5, 20, "the conversation to go on")
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("phase")).to_have_text("Finished")
    assert loudest(base64.b64decode(loud["sound"])) > 0.05
    found = json.loads(told)
    assert found["format"] == "whisperlive-edge-diagnostics/1"
    assert found["sound"] is None
    assert {"event": "closed", "conn": 1, "code": 1012, "reason": "the server restarts"}.items() <= next(
        event for event in found["events"] if event["event"] == "closed"
    ).items()
    assert [event["now"] for event in found["events"] if event["event"] == "stage"][-1] == "live"
    assert found["settings"]["task"] == "transcribe"
    assert found["segments"][0]["words"] == len(LINES[0][2].split())
    assert found["delays"]["decode"]["p50"] <= 0.25
    for secret in (TOKEN, TICKET, *LINES[0][2].split()[1:4]):
        assert secret not in told.decode(), secret


def test_what_is_not_kept_cannot_be_saved_as_sound(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.add_init_script("localStorage.setItem('whisperlive-choices', JSON.stringify({ keep: false }))")
    with scripted_page(tmp_path, Scripted(waking=[])) as (address, _):
        page.goto(f"{address}#token={TOKEN}")
        page.get_by_test_id("start").click()
        expect(page.get_by_test_id("transcript")).to_contain_text(LINES[0][2], timeout=20_000)
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("phase")).to_have_text("Finished")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.locator("#not-kept")).to_be_visible()
        expect(page.get_by_role("button", name="WAV")).to_be_disabled()
        expect(page.get_by_label("With the sound of this recording")).to_be_disabled()
        assert json.loads(saved(page, "Save diagnostics"))["sound"] is None
