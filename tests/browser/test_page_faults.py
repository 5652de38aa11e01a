"""The page's stream in Chromium under every fault, a ramp for speech: each sample arrives once, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import scripted_page
from tests.browser.scripted import TOKEN, Break, Scripted
from tests.session.ramp import lines, whole
from tests.waiting import wait_until

pytestmark = pytest.mark.chromium
OpenPage = Callable[..., Page]
BACK_S = 3.0
SECONDS = 14.0

FAULTS = {
    "cut in the middle of a sentence, the API away too": ([Break(6.0, down_s=2.0, api=True)], 1),
    "two cuts in a row": ([Break(6.0), Break(6.5)], 2),
    "restart": ([Break(6.0, "close", 1012, "the server restarts", down_s=1.5)], 1),
    "notice of the time limit": ([Break(6.0, "notice", reason="time limit")], 1),
    "time limit": ([Break(6.0, "close", 4409, "open a new one")], 1),
    "no answer any more": ([Break(6.0, "freeze")], 1),
}


def started(page: Page, address: str) -> None:
    page.goto(f"{address}ramp/ramp.html#token={TOKEN}")
    page.locator("#start").click()


def check(page: Page, server: Scripted, reconnects: int, found_out_s: float = 0.0) -> None:
    expect(page.locator("#report")).not_to_be_empty(timeout=60_000)
    report = json.loads(page.locator("#report").text_content() or "")
    assert server.wrong == []
    complete = bytes(server.audio) == whole(report["samples"])  # no assert on it: pytest would compare megabytes
    assert complete, f"{len(server.audio) // 4} of {report['samples']} samples"
    assert report | {"samples": 0} == {
        "samples": 0, "lostSeconds": 0, "error": "", "stage": "finished", "reconnects": reconnects
    }  # fmt: skip
    assert server.longest_frame <= 8000
    spoken = " ".join(text for start, _, text in server.lines if start < server.seconds)
    assert (page.locator("#words").text_content() or "").split() == spoken.split(), "every word once"
    waits = [back - over for over, back in zip(server.broken_at, server.back_at, strict=True)]
    assert not waits or max(waits) < found_out_s + BACK_S


@pytest.mark.parametrize("name", FAULTS)
def test_every_sample_once(open_page: OpenPage, tmp_path: Path, name: str) -> None:
    breaks, reconnects = FAULTS[name]
    page = open_page()
    script = Scripted(waking=[], lines=lines(120), ramp=True, breaks=list(breaks))
    with scripted_page(tmp_path, script) as (address, server):
        started(page, address)
        wait_until(lambda: not server.breaks and server.seconds > SECONDS, 40, "the stream to go on")
        page.locator("#stop").click()
        check(page, server, reconnects, 5.0 if "no answer" in name else 0.0)


def test_the_gpu_is_woken_while_somebody_speaks(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    script = Scripted(waking=["waking.boot", "waking.service"], held=True, lines=lines(60), ramp=True)
    with scripted_page(tmp_path, script) as (address, server):
        started(page, address)
        wait_until(lambda: server.count("GET", "/v1/sessions/s-1") > 20, 20, "a while of waking")
        expect(page.locator("#stage")).to_have_text("waking")
        server.held = False
        wait_until(lambda: server.seconds > 5, 40, "the stream")
        page.locator("#stop").click()
        check(page, server, 0)


def test_a_full_host_then_a_place(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    script = Scripted(waking=[], lines=lines(120), ramp=True, breaks=[Break(6.0)])
    script.refuse_later = [(1013, "all places are taken")]
    with scripted_page(tmp_path, script) as (address, server):
        started(page, address)
        expect(page.locator("#stage")).to_have_text("reconnecting", timeout=20_000)
        wait_until(lambda: server.seconds > SECONDS, 40, "the stream to go on")
        page.locator("#stop").click()
        check(page, server, 1)


def test_ten_minutes_offline_lie_in_indexeddb_until_they_are_sent(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    script = Scripted(waking=[], lines=lines(700), ramp=True, breaks=[Break(6.0, down_s=5.0)])
    with scripted_page(tmp_path, script) as (address, server):
        started(page, address)
        expect(page.locator("#stage")).to_have_text("reconnecting", timeout=20_000)
        page.locator("#burst").click()
        page.locator("#stop").click()
        expect(page.locator("#stage")).to_have_text("finishing")
        check(page, server, 1)
        assert server.seconds > 600


def test_stop_during_the_outage(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    script = Scripted(waking=[], lines=lines(60), ramp=True, breaks=[Break(6.0, down_s=3.0)])
    with scripted_page(tmp_path, script) as (address, server):
        started(page, address)
        expect(page.locator("#stage")).to_have_text("reconnecting", timeout=20_000)
        page.locator("#stop").click()
        expect(page.locator("#stage")).to_have_text("finishing")
        check(page, server, 1)


def test_what_two_tabs_keep_stays_apart(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path) as (address, _):
        page.goto(f"{address}ramp/ramp.html")
        kept = page.evaluate(
            """async () => {
              const { Spill } = await import("/js/session/spill.js");
              const [one, other] = [new Spill(), new Spill()];
              const now = Date.now;
              Date.now = () => now() - 25 * 3600 * 1000;
              const crashed = new Spill();
              Date.now = now;
              await crashed.put(0, Float32Array.of(3));
              await one.put(0, Float32Array.of(1));
              await other.put(0, Float32Array.of(2));
              const before = [(await one.get(0))[0], (await other.get(0))[0], (await crashed.get(0)) ?? "gone"];
              await other.clear();
              return [...before, (await one.get(0))[0], (await other.get(0)) ?? "gone"];
            }"""
        )
    assert kept == [1, 2, "gone", 1, "gone"]
