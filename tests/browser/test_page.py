"""The page in Chromium against a scripted server: what a person sees in each case."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import scripted_page
from tests.browser.scripted import LINES, TICKET, TOKEN, Break, Scripted
from tests.waiting import wait_until

pytestmark = pytest.mark.chromium
OpenPage = Callable[..., Page]
EVERYTHING = " ".join(text for _, _, text in LINES)


def _started(page: Page, address: str) -> None:
    page.goto(f"{address}#token={TOKEN}")
    expect(page.get_by_test_id("phase")).to_have_text("The GPU is asleep")
    page.get_by_test_id("start").click()


def _words(page: Page) -> str:
    return " ".join((page.get_by_test_id("transcript").text_content() or "").split())


def test_from_asleep_to_the_last_word(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(held=True)) as (address, server):
        _started(page, address)
        assert "token" not in page.url, "the token must leave the address"
        phase = page.get_by_test_id("phase")
        expect(phase).to_have_text("Finding a machine")
        server.waking.pop(0)
        expect(phase).to_have_text("Starting the machine")
        expect(page.locator("#elapsed")).to_have_text(re.compile(r"0:(0[2-9]|[1-5]\d)"))
        server.held = False
        expect(phase).to_have_text("Listening")
        expect(page.get_by_test_id("transcript")).to_contain_text(LINES[0][2])
        expect(page.get_by_test_id("partial")).not_to_be_empty()
        wait_until(lambda: server.seconds > LINES[2][0] + 0.5, 20, "the last sentence to begin")
        page.get_by_test_id("stop").click()
        expect(phase).to_have_text("Finished")
        assert _words(page) == EVERYTHING
        expect(page.get_by_test_id("partial")).to_be_empty()
        wait_until(lambda: not server.session_open, 5, "the session to be deleted")
    assert server.offered == [["bearer", TICKET]]
    assert server.longest_frame <= 8000
    assert server.ended
    # Recording began at the click: the seconds of waking are in what the server got.
    heard = np.frombuffer(bytes(server.audio), dtype="<f4")
    assert float(np.abs(heard[: 2 * 16000]).max()) > 0.05


def test_the_transcript_is_a_log_and_the_partial_is_outside(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path) as (address, _):
        page.goto(address)
        expect(page.get_by_test_id("transcript")).to_have_attribute("role", "log")
        expect(page.get_by_test_id("transcript").get_by_test_id("partial")).to_have_count(0)


def test_a_token_may_be_typed(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path) as (address, _):
        page.goto(address)
        expect(page.get_by_test_id("start")).to_be_disabled()
        page.get_by_test_id("token").fill(TOKEN)
        page.get_by_test_id("token").press("Enter")
        expect(page.get_by_test_id("start")).to_be_enabled()
        expect(page.get_by_test_id("token")).to_be_hidden()


def test_a_wrong_token_is_said_and_asked_for_again(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path) as (address, _):
        page.goto(f"{address}#token=wrong")
        expect(page.get_by_role("alert")).to_have_text("The token is unknown or has expired.")
        expect(page.get_by_test_id("token")).to_be_visible()


def test_a_refused_ticket_is_one_sentence(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(refuse=[(4401, "it has expired")])) as (address, server):
        _started(page, address)
        expect(page.get_by_role("alert")).to_have_text("The ticket is not accepted: it has expired.")
        expect(page.get_by_test_id("start")).to_be_visible()
        wait_until(lambda: not server.session_open, 5, "the session to be deleted")


def test_a_full_gpu_is_tried_again_before_audio_was_sent(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(refuse=[(1013, "full"), (1012, "restart")])) as (address, server):
        _started(page, address)
        expect(page.get_by_test_id("transcript")).to_contain_text(LINES[0][2])
        assert len(server.offered) == 3
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("phase")).to_have_text("Finished")


def test_an_api_that_is_away_at_the_click_is_asked_again(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(waking=[])) as (address, server):
        page.goto(f"{address}#token={TOKEN}")
        expect(page.get_by_test_id("phase")).to_have_text("The GPU is asleep")
        server.api_down_until = math.inf
        page.get_by_test_id("start").click()
        expect(page.locator("#detail")).to_have_text(
            "The service behind this page does not answer; try again shortly."
        )
        server.api_down_until = 0
        expect(page.get_by_test_id("transcript")).to_contain_text(LINES[0][2])
        page.get_by_test_id("stop").click()
        expect(page.locator("#detail")).to_have_text("Every word is final, 0.0 s lost.")


def test_a_dropped_stream_goes_on_and_loses_nothing(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(breaks=[Break(2.8, down_s=2.0, api=True)])) as (address, server):
        _started(page, address)
        phase = page.get_by_test_id("phase")
        expect(phase).to_have_text("Connecting again", timeout=15_000)
        expect(page.locator("#detail")).to_have_text("What you say is kept, and sent once the connection is back.")
        expect(page.get_by_test_id("partial")).not_to_be_empty()  # what was open stays to be read
        expect(phase).to_have_text("Listening", timeout=10_000)
        wait_until(lambda: server.seconds > LINES[2][0] + 0.5, 20, "the last sentence to begin")
        page.get_by_test_id("stop").click()
        expect(phase).to_have_text("Finished", timeout=15_000)
        expect(page.locator("#detail")).to_have_text("Every word is final, 0.0 s lost.")
        assert _words(page) == EVERYTHING
        assert (server.wrong, len(server.offsets)) == ([], 2)
        assert [said["known_s"] for said in server.handshakes] == [0, 1], "a second that is final is heard again"
        assert server.back_at[0] - server.broken_at[0] < 3


def test_a_stream_taken_over_says_what_was_not_confirmed(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    script = Scripted(breaks=[Break(2.8, "close", 4412, "a newer connection has taken over")])
    with scripted_page(tmp_path, script) as (address, _):
        _started(page, address)
        alert = "Another window or command took over this session: a newer connection has taken over."
        expect(page.get_by_role("alert")).to_have_text(alert, timeout=15_000)
        expect(page.get_by_test_id("phase")).to_have_text("Ended early")
        expect(page.locator("#detail")).to_contain_text("not confirmed")
        expect(page.get_by_test_id("partial")).to_have_class("unconfirmed")
        assert LINES[0][2] in _words(page)


def test_words_that_two_decodes_agree_on_are_darker(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path) as (address, _):
        _started(page, address)
        stable = page.get_by_test_id("partial").locator("span.stable")
        expect(stable).not_to_be_empty(timeout=15_000)
        colours = page.get_by_test_id("partial").evaluate(
            "partial => [...partial.children].map(span => getComputedStyle(span).color)"
        )
        assert colours[0] != colours[1]
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("phase")).to_have_text("Finished")


def test_what_was_said_before_stop_is_written_when_the_gpu_is_awake(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(held=True)) as (address, server):
        _started(page, address)
        expect(page.locator("#elapsed")).to_have_text("0:04")
        page.get_by_test_id("stop").click()
        phase = page.get_by_test_id("phase")
        expect(phase).to_have_text("Finishing: the GPU is still waking")
        expect(page.locator("#detail")).to_contain_text("Your words are kept; leave this page open.")
        recorded = page.locator("#elapsed").text_content()
        polls = server.count("GET", "/v1/sessions/s-1")
        wait_until(lambda: server.count("GET", "/v1/sessions/s-1") > polls + 10, 10, "more polls")
        assert server.session_open
        assert server.offered == []
        server.held = False
        expect(phase).to_have_text("Finished")
        expect(page.get_by_test_id("discard")).to_be_hidden()
        expect(page.locator("#detail")).to_have_text("Every word is final, 0.0 s lost.")
        expect(page.locator("#elapsed")).to_have_text(recorded or "")
        assert _words(page) == " ".join(text for start, _, text in LINES if start < server.seconds)
        assert LINES[1][2] in _words(page)
        wait_until(lambda: not server.session_open, 5, "the session to be deleted")
    assert server.ended
    heard = np.frombuffer(bytes(server.audio), dtype="<f4")
    assert float(np.abs(heard).max()) > 0.05
    assert server.seconds < 6, "nothing is recorded after Stop"


def test_discard_says_how_much_was_not_transcribed(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(held=True)) as (address, server):
        _started(page, address)
        expect(page.get_by_test_id("phase")).to_have_text("Finding a machine")
        expect(page.get_by_test_id("discard")).to_be_hidden()
        expect(page.locator("#elapsed")).to_have_text("0:03")
        page.get_by_test_id("stop").dblclick()  # a second click on Stop discards nothing
        expect(page.get_by_test_id("phase")).to_have_text("Finishing: the GPU is still waking")
        page.get_by_role("button", name="Discard").click()
        expect(page.get_by_test_id("phase")).to_have_text("Discarded")
        said = page.locator("#detail").text_content() or ""
        assert said.endswith(" s were not transcribed.")
        assert 2.0 < float(said.split()[0]) < 5.0
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.get_by_test_id("start")).to_be_enabled()
        wait_until(lambda: not server.session_open, 5, "the session to be deleted")
        assert server.offered == []


def test_a_token_revoked_while_the_page_is_open_is_asked_for_anew(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(held=True)) as (address, server):
        _started(page, address)
        expect(page.get_by_test_id("phase")).to_have_text("Finding a machine")
        server.token = "another"  # noqa: S105 opens nothing but this server
        expect(page.get_by_role("alert")).to_have_text("The token is unknown or has expired.")
        expect(page.get_by_test_id("token")).to_be_visible()
        expect(page.get_by_test_id("start")).to_be_disabled()
        expect(page.locator("#detail")).to_contain_text("s were not transcribed.")
        page.reload()
        expect(page.get_by_test_id("token")).to_be_visible()  # forgotten for good
        page.get_by_test_id("token").fill("another")
        page.get_by_test_id("token").press("Enter")
        expect(page.get_by_test_id("start")).to_be_enabled()
        expect(page.get_by_role("alert")).to_be_hidden()


def test_a_token_revoked_after_the_last_word_leaves_the_words(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path) as (address, server):
        _started(page, address)
        expect(page.get_by_test_id("transcript")).to_contain_text(LINES[0][2])
        server.token = "another"  # noqa: S105 opens nothing but this server
        page.get_by_test_id("stop").click()  # closing the session is what is refused
        expect(page.get_by_test_id("token")).to_be_visible()
        page.get_by_test_id("token").fill("another")
        page.get_by_test_id("token").press("Enter")
        expect(page.get_by_test_id("token")).to_be_hidden()
        expect(page.get_by_test_id("transcript")).to_be_visible()
        expect(page.get_by_test_id("start")).to_be_enabled()


def test_an_idle_page_looks_again_while_it_is_seen(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path, Scripted(idle_phase="ready")) as (address, server):
        page.clock.install()
        page.goto(f"{address}#token={TOKEN}")
        phase = page.get_by_test_id("phase")
        expect(phase).to_have_text("The GPU is awake")
        server.idle_phase = "asleep"
        page.clock.fast_forward(15_000)
        expect(phase).to_have_text("The GPU is asleep")
        server.idle_phase = "waking.boot"
        page.clock.fast_forward(15_000)
        expect(phase).to_have_text("The GPU is waking")
        assert {call[:2] for call in server.requests} == {("GET", "/v1/status")}, "looking wakes nothing"


def test_words_are_text_and_never_markup(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    evil = "<img src=x onerror=alert(1)>"
    with scripted_page(tmp_path, Scripted(lines=((0.0, 1.0, evil),))) as (address, _):
        _started(page, address)
        expect(page.get_by_test_id("transcript")).to_contain_text(evil)
        assert page.locator("#transcript img").count() == 0
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("phase")).to_have_text("Finished")


def test_the_smallest_page_speaks_the_protocol(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    with scripted_page(tmp_path) as (address, server):
        page.goto(f"{address}test-whisper.html#token={TOKEN}")
        page.get_by_test_id("start").click()
        expect(page.get_by_test_id("log")).to_contain_text(LINES[0][2], timeout=15_000)
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("log")).to_contain_text("closed 1000")
        expect(page.get_by_test_id("phase")).to_have_text("idle")
        wait_until(lambda: not server.session_open, 5, "the session to be deleted")
