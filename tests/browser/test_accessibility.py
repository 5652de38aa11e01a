"""axe-core finds nothing on either page, in any state, light or dark. It is injected past the page's own policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import TRAIN, OpenBrowser
from tests.browser.pages import scripted_page
from tests.browser.scripted import LINES, TOKEN, Scripted

pytestmark = pytest.mark.chromium
Scheme = Literal["light", "dark"]
OPTIONS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture
def page(open_browser: OpenBrowser, request: pytest.FixtureRequest) -> Iterator[Page]:
    scheme: Scheme = getattr(request, "param", "light")
    context = open_browser(TRAIN, 0.3).new_context(
        bypass_csp=True, color_scheme=scheme, permissions=["microphone"], locale="en-GB", reduced_motion="reduce"
    )
    yield context.new_page()
    context.close()


def clean(page: Page, state: str) -> None:
    found = Axe().run(page, options=OPTIONS)
    assert not found.violations_count, f"{state}: {found.generate_report()}"
    assert found.response["passes"], "it must have looked at something"


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_nothing_is_found_in_any_state(page: Page, tmp_path: Path) -> None:
    script = Scripted(waking=["waking.boot"], held=True)
    with scripted_page(tmp_path, script) as (address, server):
        phase = page.get_by_test_id("phase")
        page.goto(address)
        expect(phase).to_have_text("An access token is needed")
        clean(page, "without a token")
        page.goto(f"{address}#token={TOKEN}")
        expect(phase).to_have_text("The GPU is asleep")
        clean(page, "idle")
        page.get_by_role("button", name="Settings").click()
        clean(page, "settings")
        page.get_by_role("button", name="Done").click()
        page.get_by_test_id("start").click()
        expect(phase).to_have_text("Starting the machine")
        clean(page, "waking")
        server.held = False
        expect(page.get_by_test_id("partial").locator(".stable")).not_to_be_empty(timeout=15_000)
        expect(page.get_by_test_id("delays")).to_be_visible(timeout=15_000)
        page.get_by_text("Where the time goes").click()
        clean(page, "live")
        page.keyboard.press("c")
        clean(page, "captions")
        page.keyboard.press("c")
        page.get_by_test_id("stop").click()
        expect(phase).to_have_text("Finished")
        clean(page, "finished")
        page.get_by_role("button", name="Save").click()
        clean(page, "saving")
        page.get_by_role("button", name="Done").click()
        page.get_by_role("link", name="Recordings").click()
        expect(page.get_by_test_id("recordings")).to_contain_text(LINES[0][2][:20])
        clean(page, "list of recordings")
        page.get_by_test_id("recordings").get_by_role("button").first.click()
        page.get_by_test_id("stamps").check()
        page.get_by_test_id("search").fill("the")
        clean(page, "a recording")


def test_axe_does_find_what_is_wrong(page: Page, tmp_path: Path) -> None:
    with scripted_page(tmp_path) as (address, _):
        page.goto(address)
        page.evaluate("document.querySelector('#token').labels[0].remove()")
        page.evaluate("document.querySelector('#token').removeAttribute('placeholder')")
        page.evaluate("document.querySelector('#hint').style.color = '#ccc'")
        found = {violation["id"] for violation in Axe().run(page, options=OPTIONS).response["violations"]}
    assert {"label"} <= found
